/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages between our own ends: where each field is, what the checksum covers, the gates. */
#include "test/unit/images-dir.h"

#include "criu-lazy/base/page.h"
#include "proto/lanes.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct lanes_header fetch = {
	.cmd = LANES_FETCH,
	.tag = 0x11223344,
	.nr_pages = 16,
	.vaddr = 0x7f0000001000,
	.pid = 4711,
};

/* --- bytes ------------------------------------------------------------------------------------ */

/* The checksum is what the tool xxhsum -H3 says of the 28 bytes. */
static void test_fetch_bytes(void **state)
{
	static const uint8_t is[LANES_HEADER] = {
		0x02, 0x5a, 0x4c, 0x00, 0x44, 0x33, 0x22, 0x11, 0x10, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x7f,
		0x00, 0x00, 0x67, 0x12, 0x00, 0x00, 0x1a, 0x3d, 0xec, 0x23,
	};
	uint8_t bytes[LANES_HEADER];
	struct lanes_header h;

	(void)state;
	lanes_encode(&fetch, NULL, 0, bytes);
	assert_memory_equal(bytes, is, sizeof(is));
	lanes_decode(bytes, &h);
	assert_int_equal(h.cmd, fetch.cmd);
	assert_int_equal(h.tag, fetch.tag);
	assert_int_equal(h.nr_pages, fetch.nr_pages);
	assert_int_equal(h.vaddr, fetch.vaddr);
	assert_int_equal(h.pid, fetch.pid);
	assert_int_equal(h.check, 0x23ec3d1a);
	assert_int_equal(lanes_verify(bytes, NULL, 0, NULL), 0);
}

/* The same, over header and tail: 60 bytes. */
static void test_hello_bytes(void **state)
{
	static const uint8_t is[LANES_HELLO_TAIL] = {
		0x01, 0, 0, 0, 0x01, 0, 0, 0, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01,
		0x01, 0, 0, 0, 0,    0, 0, 0, 0,    0,    0,    0,    0,    0,    0,    0,
	};
	const struct lanes_hello hello = {.version = 1,
	                                  .features = LANES_LZ4,
	                                  .images = UINT64_C(0x0123456789abcdef),
	                                  .kind = LANE_BULK};
	const struct lanes_header h = {.cmd = LANES_HELLO, .tag = 7};
	uint8_t tail[LANES_HELLO_TAIL], bytes[LANES_HEADER];
	struct lanes_hello back;
	struct lanes_header decoded;

	(void)state;
	lanes_encode_hello(&hello, tail);
	assert_memory_equal(tail, is, sizeof(is));
	lanes_encode(&h, tail, sizeof(tail), bytes);
	lanes_decode(bytes, &decoded);
	assert_int_equal(decoded.check, 0xd0f90e17);
	assert_int_equal(lanes_tail(&decoded, NULL), LANES_HELLO_TAIL);
	assert_int_equal(lanes_verify(bytes, tail, sizeof(tail), NULL), 0);
	assert_int_equal(lanes_decode_hello(tail, &back, NULL), 0);
	assert_memory_equal(&back, &hello, sizeof(hello));
}

static void test_page_sums(void **state)
{
	static uint8_t page[PAGE_SIZE];
	unsigned i;

	(void)state;
	assert_true(lanes_page_sum(page) == UINT64_C(0x93d76fe148c689ba));
	for (i = 0; i < PAGE_SIZE; i++)
		page[i] = (uint8_t)(i * 7 + i / 256);
	assert_true(lanes_page_sum(page) == UINT64_C(0x5c722d9ceb6f9064));
}

/* Not one bit of a message can change unseen. */
static void test_flipped_bits(void **state)
{
	uint64_t sums[3] = {1, UINT64_MAX, 0x8000};
	uint8_t tail[LANES_MAX_TAIL], bytes[LANES_HEADER];
	struct lanes_header h = fetch;
	struct err err = {0};
	size_t len, bit;

	(void)state;
	h.cmd = LANES_DATA;
	h.nr_pages = 3;
	len = lanes_encode_data(LANES_RAW, 3 * PAGE_SIZE, sums, 3, tail);
	assert_int_equal(len, 8 + 3 * 8);
	lanes_encode(&h, tail, len, bytes);
	for (bit = 0; bit < 8 * (LANES_HEADER + len); bit++) {
		uint8_t *at =
			bit < 8 * LANES_HEADER ? &bytes[bit / 8] : &tail[bit / 8 - LANES_HEADER];

		assert_int_equal(lanes_verify(bytes, tail, len, NULL), 0);
		*at ^= (uint8_t)(1 << bit % 8);
		assert_failed(lanes_verify(bytes, tail, len, &err), EPROTO, &err, "checksum");
		*at ^= (uint8_t)(1 << bit % 8);
	}
	/* nor is a tail cut, or taken for none */
	assert_int_equal(lanes_verify(bytes, tail, len - 8, NULL), -EPROTO);
	assert_int_equal(lanes_verify(bytes, NULL, 0, NULL), -EPROTO);
}

/* --- DATA and HELLO --------------------------------------------------------------------------- */

static void test_data(void **state)
{
	uint64_t sums[LANES_MAX_PAGES];
	uint8_t tail[LANES_MAX_TAIL + 1], *odd = tail + 1;
	struct lanes_data data;
	uint64_t nr, i;

	(void)state;
	for (i = 0; i < LANES_MAX_PAGES; i++)
		sums[i] = i * UINT64_C(0x9e3779b97f4a7c15);
	for (nr = 1; nr <= LANES_MAX_PAGES; nr++) {
		struct lanes_header h = fetch;
		size_t len = lanes_encode_data(LANES_ENCODED_LZ4, (uint32_t)nr, sums, nr, odd);

		h.cmd = LANES_DATA;
		h.nr_pages = nr;
		assert_int_equal(lanes_tail(&h, NULL), len);
		assert_int_equal(lanes_decode_data(odd, len, nr, &data, NULL), 0);
		assert_int_equal(data.encoding, LANES_ENCODED_LZ4);
		assert_int_equal(data.length, nr);
		for (i = 0; i < nr; i++)
			assert_true(lanes_sum(&data, i) == sums[i]);
	}
	assert_int_equal(lanes_encode_data(0, 0, sums, LANES_MAX_PAGES, odd), LANES_MAX_TAIL);
}

static void test_data_refused(void **state)
{
	static const struct {
		uint32_t encoding, length;
		const char *said;
	} wrong[] = {
		{LANES_RAW, 0, "in 0 bytes"},
		{LANES_RAW, 8191, "in 8191 bytes"},
		{LANES_RAW, 8193, "in 8193 bytes"},
		{LANES_RAW, UINT32_MAX, "in 4294967295 bytes"},
		{LANES_ENCODED_LZ4, 0, "in 0 bytes of LZ4"},
		{LANES_ENCODED_LZ4, 8193, "in 8193 bytes of LZ4"},
		{2, 8192, "encoding 2"},
		{UINT32_MAX, 8192, "encoding 4294967295"},
	};
	const uint64_t sums[2] = {1, 2};
	uint8_t tail[LANES_MAX_TAIL];
	struct lanes_data data;
	struct err err = {0};
	size_t i, len = 0;

	(void)state;
	for (i = 0; i < COUNT(wrong); i++) {
		len = lanes_encode_data(wrong[i].encoding, wrong[i].length, sums, 2, tail);
		assert_failed(lanes_decode_data(tail, len, 2, &data, &err), EPROTO, &err,
		              wrong[i].said);
	}
	assert_failed(lanes_decode_data(tail, len, 3, &data, &err), EPROTO, &err, "tail of 24");
	assert_failed(lanes_decode_data(tail, len - 1, 2, &data, &err), EPROTO, &err, "tail of 23");
	assert_failed(lanes_decode_data(tail, 8, 0, &data, &err), EPROTO, &err, "0 pages");
	assert_failed(lanes_decode_data(tail, 8 + 8 * 257, 257, &data, &err), EPROTO, &err,
	              "257 pages");
}

static void test_hello_refused(void **state)
{
	static const struct {
		struct lanes_hello hello;
		const char *said;
	} wrong[] = {
		{{.version = 0}, "version 0"},
		{{.version = 2}, "version 2 of the lanes, this is 1"},
		{{.version = 1, .kind = 2}, "unknown kind 2"},
		{{.version = 1, .reserved = 1}, "reserved"},
		{{.version = 1, .reserved2 = UINT64_C(1) << 63}, "reserved"},
	};
	const struct lanes_hello newer = {.version = 1, .features = UINT32_MAX};
	uint8_t tail[LANES_HELLO_TAIL];
	struct lanes_hello hello;
	struct err err = {0};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(wrong); i++) {
		lanes_encode_hello(&wrong[i].hello, tail);
		assert_failed(lanes_decode_hello(tail, &hello, &err), EPROTO, &err, wrong[i].said);
	}
	/* features that we do not know are the other one's business */
	lanes_encode_hello(&newer, tail);
	assert_int_equal(lanes_decode_hello(tail, &hello, NULL), 0);
}

/* --- gates ------------------------------------------------------------------------------------ */

static const struct {
	struct lanes_header h;
	const char *said; /* NULL: fine */
	int tail;
} headers[] = {
	{{.cmd = LANES_HELLO}, NULL, 32},
	{{.cmd = LANES_HELLO, .pid = 1}, "HELLO about 0 pages of process 1", 0},
	{{.cmd = LANES_PING, .tag = 9}, NULL, 0},
	{{.cmd = LANES_PING, .vaddr = 4096}, "PING", 0},
	{{.cmd = LANES_PONG}, NULL, 0},
	{{.cmd = LANES_PONG, .nr_pages = 1}, "PONG about 1 pages", 0},
	{{.cmd = LANES_BYE}, NULL, 0},
	{{.cmd = LANES_BYE, .pid = UINT32_MAX}, "BYE", 0},
	{{.cmd = LANES_FETCH, .nr_pages = 1, .pid = 1}, NULL, 0},
	{{.cmd = LANES_FETCH, .nr_pages = 256, .vaddr = 0x1000, .pid = 4194303}, NULL, 0},
	{{.cmd = LANES_FETCH, .nr_pages = 0, .pid = 1}, "FETCH of 0 pages", 0},
	{{.cmd = LANES_FETCH, .nr_pages = 257, .pid = 1}, "FETCH of 257 pages", 0},
	{{.cmd = LANES_FETCH, .nr_pages = UINT64_C(1) << 32 | 1, .pid = 1}, "4294967297 pages", 0},
	{{.cmd = LANES_FETCH, .nr_pages = 1, .pid = 0}, "impossible pid 0", 0},
	{{.cmd = LANES_FETCH, .nr_pages = 1, .pid = 4194304}, "impossible pid 4194304", 0},
	{{.cmd = LANES_FETCH, .nr_pages = 1, .vaddr = 1, .pid = 1}, "not page aligned", 0},
	{{.cmd = LANES_FETCH, .nr_pages = 1, .vaddr = USER_ADDRESS_END, .pid = 1}, "above", 0},
	{{.cmd = LANES_FETCH, .nr_pages = 1, .vaddr = -PAGE_SIZE, .pid = 1}, "above", 0},
	{{.cmd = LANES_FETCH, .nr_pages = 1, .vaddr = USER_ADDRESS_END - PAGE_SIZE, .pid = 1},
         NULL,
         0},
	{{.cmd = LANES_FETCH, .nr_pages = 2, .vaddr = USER_ADDRESS_END - PAGE_SIZE, .pid = 1},
         "beyond",
         0},
	{{.cmd = LANES_DATA, .nr_pages = 1, .pid = 1}, NULL, 16},
	{{.cmd = LANES_DATA, .nr_pages = 256, .pid = 1}, NULL, LANES_MAX_TAIL},
	{{.cmd = LANES_DATA, .nr_pages = 0, .pid = 1}, "DATA of 0 pages", 0},
	{{.cmd = LANES_DATA, .nr_pages = 257, .pid = 1}, "DATA of 257 pages", 0},
	{{.cmd = LANES_DATA, .nr_pages = UINT64_MAX, .pid = 1}, "DATA of 18446744073709551615", 0},
	{{.cmd = LANES_MISS, .nr_pages = ENOENT, .pid = 1}, NULL, 0},
	{{.cmd = LANES_MISS, .nr_pages = 4095, .pid = 1}, NULL, 0},
	{{.cmd = LANES_MISS, .nr_pages = 0, .pid = 1}, "reason 0", 0},
	{{.cmd = LANES_MISS, .nr_pages = 4096, .pid = 1}, "reason 4096", 0},
	{{.cmd = LANES_MISS, .nr_pages = EIO, .vaddr = 5, .pid = 1}, "not page aligned", 0},
	{{.cmd = LANES_HELLO - 1}, "unknown message 0x4c5a00", 0},
	{{.cmd = LANES_BYE + 1}, "unknown message 0x4c5a08", 0},
	{{.cmd = 0}, "unknown message 0x0", 0},
	{{.cmd = 0x1023}, "unknown message 0x1023", 0},
};

static void test_headers(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(headers); i++) {
		struct err err = {0};
		int r = lanes_tail(&headers[i].h, &err);

		if (headers[i].said)
			assert_failed(r, EPROTO, &err, headers[i].said);
		else if (r < 0)
			fail_msg("%zu: %s", i, err.text);
		else
			assert_int_equal(r, headers[i].tail);
		if (headers[i].h.cmd != LANES_FETCH)
			assert_int_equal(lanes_check_fetch(&headers[i].h, NULL), -EPROTO);
		else
			assert_int_equal(lanes_check_fetch(&headers[i].h, NULL), r);
	}
}

static void test_answers(void **state)
{
	struct lanes_header good = fetch, h;
	struct err err = {0};

	(void)state;
	good.cmd = LANES_DATA;
	assert_int_equal(lanes_check_answer(&good, &fetch, NULL), 0);
	h = good, h.nr_pages = 1;
	assert_int_equal(lanes_check_answer(&h, &fetch, NULL), 0);
	h = good, h.nr_pages = 0;
	assert_failed(lanes_check_answer(&h, &fetch, &err), EPROTO, &err, "grants 0 pages");
	h = good, h.nr_pages = 17;
	assert_failed(lanes_check_answer(&h, &fetch, &err), EPROTO, &err, "grants 17 pages");
	h = good, h.tag++;
	assert_failed(lanes_check_answer(&h, &fetch, &err), EPROTO, &err, "request 287454021");
	h = good, h.pid++;
	assert_failed(lanes_check_answer(&h, &fetch, &err), EPROTO, &err, "process 4712");
	h = good, h.vaddr += PAGE_SIZE;
	assert_failed(lanes_check_answer(&h, &fetch, &err), EPROTO, &err, "0x7f0000002000");
	h = good, h.cmd = LANES_PONG;
	assert_failed(lanes_check_answer(&h, &fetch, &err), EPROTO, &err, "message 0x4c5a06");

	good.cmd = LANES_MISS;
	good.nr_pages = ENOENT;
	assert_int_equal(lanes_check_answer(&good, &fetch, NULL), 0);
	h = good, h.nr_pages = EREMOTEIO; /* more than was asked for: it is no count */
	assert_int_equal(lanes_check_answer(&h, &fetch, NULL), 0);
	h = good, h.nr_pages = 0;
	assert_failed(lanes_check_answer(&h, &fetch, &err), EPROTO, &err, "reason 0");
	h = good, h.tag++;
	assert_failed(lanes_check_answer(&h, &fetch, &err), EPROTO, &err, "request 287454021");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fetch_bytes),   cmocka_unit_test(test_hello_bytes),
		cmocka_unit_test(test_page_sums),     cmocka_unit_test(test_flipped_bits),
		cmocka_unit_test(test_data),          cmocka_unit_test(test_data_refused),
		cmocka_unit_test(test_hello_refused), cmocka_unit_test(test_headers),
		cmocka_unit_test(test_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
