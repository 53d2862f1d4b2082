/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Page-server headers: what real CRIUs send, the telling apart of the two layouts, the gates. */
#include "test/unit/images-dir.h"

#include "criu-lazy/base/page.h"
#include "proto/ps.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* --- captured --------------------------------------------------------------------------------- */

/*
 * Requests as CRIU 4.1.1 and 4.2.1 sent them: dump and pre-dump with --page-server to a listener
 * that answered and wrote down, lazy-pages through a proxy.  The last one has the padding of
 * another run.
 */
static const struct sample {
	const char *what;
	enum ps_layout layout;
	enum ps_role role;
	const char *hex;
	struct ps_header is;
} samples[] = {
	{"4.1.1 dump, shared memory",
         PS_24,
         PS_STORING,
         "04000000000000000000000000000000 02b7b60100000000",
         {.cmd = PS_OPEN2, .dst_id = 0x1b6b702}},
	{"4.1.1 dump, its pages",
         PS_24,
         PS_STORING,
         "06000400100000000000000000000000 02b7b60100000000",
         {.cmd = 0x40006, .nr_pages = 16, .dst_id = 0x1b6b702}},
	{"4.1.1 dump, a process",
         PS_24,
         PS_STORING,
         "04000000000000000000000000000000 01a3640000000000",
         {.cmd = PS_OPEN2, .dst_id = 0x64a301}},
	{"4.1.1 dump, pages that are not lazy",
         PS_24,
         PS_STORING,
         "06000400010000000070 8e7532560000 01a3640000000000",
         {.cmd = 0x40006, .nr_pages = 1, .vaddr = 0x5632758e7000, .dst_id = 0x64a301}},
	{"4.1.1 dump, lazy pages",
         PS_24,
         PS_STORING,
         "060006004200000000c017c3487f0000 01a3640000000000",
         {.cmd = 0x60006, .nr_pages = 66, .vaddr = 0x7f48c317c000, .dst_id = 0x64a301}},
	{"4.1.1 pre-dump",
         PS_24,
         PS_STORING,
         "05000000000000000000000000000000 01e1640000000000",
         {.cmd = PS_PARENT, .dst_id = 0x64e101}},
	{"4.1.1 lazy-pages, one page",
         PS_24,
         PS_SERVING,
         "07000000010000000000 7001 3e7f0000 b965000000000000",
         {.cmd = PS_GET, .nr_pages = 1, .vaddr = 0x7f3e01700000, .dst_id = 0x65b9}},
	{"4.1.1 lazy-pages, 16 pages",
         PS_24,
         PS_SERVING,
         "07000000100000 0000f06b013e7f0000 b965000000000000",
         {.cmd = PS_GET, .nr_pages = 16, .vaddr = 0x7f3e016bf000, .dst_id = 0x65b9}},
	{"4.1.1 end",
         PS_24,
         PS_SERVING,
         "23100000000000000000000000000000 0000000000000000",
         {.cmd = PS_CLOSE}},
	{"4.2.1 dump, shared memory",
         PS_32,
         PS_STORING,
         "0400000000000000 0000000000000000 0000000000000000 02c0b60100000000",
         {.cmd = PS_OPEN2, .dst_id = 0x1b6c002}},
	{"4.2.1 dump, its pages, with remains of a stack",
         PS_32,
         PS_STORING,
         "06000400ff7f0000 1000000000000000 0000000000000000 02c0b60100000000",
         {.cmd = 0x40006, .mark = 0x7fff, .nr_pages = 16, .dst_id = 0x1b6c002}},
	{"4.2.1 dump, a process",
         PS_32,
         PS_STORING,
         "0400000000000000 0000000000000000 0000000000000000 0120650000000000",
         {.cmd = PS_OPEN2, .dst_id = 0x652001}},
	{"4.2.1 dump, lazy pages",
         PS_32,
         PS_STORING,
         "0600060000000000 4200000000000000 00606377f97f0000 0120650000000000",
         {.cmd = 0x60006, .nr_pages = 66, .vaddr = 0x7ff977636000, .dst_id = 0x652001}},
	{"4.2.1 pre-dump",
         PS_32,
         PS_STORING,
         "0500000000000000 0000000000000000 0000000000000000 015f650000000000",
         {.cmd = PS_PARENT, .dst_id = 0x655f01}},
	{"4.2.1 lazy-pages, one page",
         PS_32,
         PS_SERVING,
         "0700000055550000 0100000000000000 00b0bf2d237f0000 6368000000000000",
         {.cmd = PS_GET, .mark = 0x5555, .nr_pages = 1, .vaddr = 0x7f232dbfb000, .dst_id = 0x6863}},
	{"4.2.1 lazy-pages, 16 pages, other remains",
         PS_32,
         PS_SERVING,
         "07000000fc7f0000 1000000000000000 00a0bb2d237f0000 6368000000000000",
         {.cmd = PS_GET,
          .mark = 0x7ffc,
          .nr_pages = 16,
          .vaddr = 0x7f232dbba000,
          .dst_id = 0x6863}},
};

static size_t from_hex(const char *hex, uint8_t *out)
{
	size_t nr = 0;
	unsigned byte;
	char pair[3] = {0};

	while (*hex) {
		if (*hex == ' ') {
			hex++;
			continue;
		}
		pair[0] = *hex++;
		hex += *hex == ' ';
		pair[1] = *hex++;
		assert_int_equal(sscanf(pair, "%2x", &byte), 1);
		assert_true(nr < PS_HEADER_MAX);
		out[nr++] = (uint8_t)byte;
	}
	return nr;
}

static void assert_same(const struct ps_header *a, const struct ps_header *b)
{
	assert_int_equal(a->cmd, b->cmd);
	assert_int_equal(a->mark, b->mark);
	assert_int_equal(a->nr_pages, b->nr_pages);
	assert_int_equal(a->vaddr, b->vaddr);
	assert_int_equal(a->dst_id, b->dst_id);
}

static void test_captured(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(samples); i++) {
		const struct sample *s = &samples[i];
		uint8_t bytes[PS_HEADER_MAX] = {0}, again[PS_HEADER_MAX];
		struct ps_header h;
		struct err err = {0};

		print_message("%s\n", s->what);
		assert_int_equal(from_hex(s->hex, bytes), ps_header_size(s->layout));
		assert_int_equal(ps_detect(bytes), s->layout);
		ps_decode(s->layout, bytes, &h);
		assert_same(&h, &s->is);
		assert_int_equal(ps_check_request(&h, s->role, &err), 0);
		assert_int_equal(err.code, 0);
		assert_int_equal(ps_encode(s->layout, &h, again), ps_header_size(s->layout));
		assert_memory_equal(again, bytes, ps_header_size(s->layout));
	}
}

/* --- which layout ----------------------------------------------------------------------------- */

static uint64_t random_state = 1;

static uint64_t random_below(uint64_t limit)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (random_state >> 16) % limit;
}

static uint64_t one_of(const uint64_t *values, size_t nr)
{
	return values[random_below(nr)];
}

/* Whatever a client that means well can ask for first, with anything in the padding. */
static void random_request(struct ps_header *h)
{
	static const uint64_t marks[] = {0, 1, 7, 0x5555, 0x7ffc, 0x7fff, 0xffffffff, 0x1000};
	static const uint64_t lows[] = {0x10000, 0x400000, 0x401000, 0x7ffff7ff0000, 0x100000};
	struct ps_object object = {.kind = random_below(2) ? PS_OBJECT_PID : PS_OBJECT_SHMEM,
	                           .id = 1 + (uint32_t)random_below(PS_MAX_PID)};
	static const uint32_t commands[] = {PS_GET,  PS_OPEN2, PS_PARENT, PS_OPEN, PS_ADD,
	                                    PS_HOLE, 0x40006,  0x60006,   0x20006, 0x10006};

	*h = (struct ps_header){
		.cmd = commands[random_below(COUNT(commands))],
		.mark = (uint32_t)one_of(marks, COUNT(marks)),
		.nr_pages = 1 + random_below(1024),
		.vaddr = random_below(2) ? one_of(lows, COUNT(lows))
	                                 : 0x10000 + (random_below(UINT64_C(1) << 35) << 12),
		.dst_id = ps_object_id(&object),
	};
	if (ps_command(h) == PS_GET)
		h->dst_id = random_below(8) ? 1 + random_below(PS_MAX_PID)
		                            : (1 + random_below(1023)) << 12;
	/* a lot at once, though not at an address that could be a pid; the lowest address of all */
	if (ps_command(h) == PS_GET && h->vaddr > PS_MAX_PID && !random_below(4))
		h->nr_pages = random_below(2) ? PS_MAX_GET_PAGES : 0x10000;
	else if (h->dst_id % PAGE_SIZE && !random_below(8))
		h->vaddr = 0x1000;
	if (h->cmd == PS_OPEN || h->cmd == PS_OPEN2 || h->cmd == PS_PARENT)
		h->nr_pages = h->vaddr = 0;
}

static void test_detect(void **state)
{
	int i;

	(void)state;
	for (i = 0; i < 1000000; i++) {
		enum ps_layout layout = i & 1 ? PS_32 : PS_24;
		uint8_t bytes[PS_HEADER_MAX];
		struct ps_header h;
		struct err err = {0};

		random_request(&h);
		if (ps_check_request(&h, ps_command(&h) == PS_GET ? PS_SERVING : PS_STORING, &err) <
		    0)
			fail_msg("%s", err.text);
		ps_encode(layout, &h, bytes);
		if (ps_detect(bytes) != layout)
			fail_msg("layout %d: cmd 0x%x mark 0x%x, %lu at 0x%lx of 0x%lx", layout,
			         h.cmd, h.mark, h.nr_pages, h.vaddr, h.dst_id);
	}
}

static void test_detect_close(void **state)
{
	uint8_t bytes[PS_HEADER_MAX] = {0x23, 0x10};

	(void)state;
	assert_int_equal(ps_detect(bytes), PS_24);
	bytes[0] = 0x24;
	assert_int_equal(ps_detect(bytes), PS_24);
}

static void test_detect_not_ours(void **state)
{
	static const char *const said[] = {"GET / HTTP/1.1\r\nHost: x\r\n",
	                                   "SSH-2.0-OpenSSH_9.2p1 Deb",
	                                   "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
	                                   "1234567890123",
	                                   "\x01ZL 0123456789012345678901",
	                                   "\x08\0\0\0 012345678901234567890",
	                                   "\x23\x10\x01\0 0123456789012345678"};
	static const uint8_t zeros[PS_HEADER_MIN];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(said); i++)
		assert_int_equal(ps_detect((const uint8_t *)said[i]), PS_UNKNOWN);
	assert_int_equal(ps_detect(zeros), PS_UNKNOWN);
}

/* --- objects ---------------------------------------------------------------------------------- */

static void test_objects(void **state)
{
	static const uint8_t pid_types[] = {1, 10, 11, 16, 17};
	static const uint8_t shmem_types[] = {2, 27, 28, 29, 32, 33, 34};
	struct ps_object object;
	struct err err = {0};
	unsigned type, known = 0;

	(void)state;
	for (type = 0; type < 256; type++) {
		bool pid = memchr(pid_types, (int)type, sizeof(pid_types)) != NULL;
		bool shmem = memchr(shmem_types, (int)type, sizeof(shmem_types)) != NULL;
		int r = ps_object(0x20a600 | type, &object, &err);

		if (!pid && !shmem) {
			assert_failed(r, EPROTO, &err, "unknown type");
			continue;
		}
		known++;
		assert_int_equal(r, 0);
		assert_int_equal(object.kind, pid ? PS_OBJECT_PID : PS_OBJECT_SHMEM);
		assert_int_equal(object.id, 8358);
		assert_int_equal(ps_object_id(&object), pid ? 0x20a601 : 0x20a602);
	}
	assert_int_equal(known, 12);
}

static void test_object_limits(void **state)
{
	struct ps_object object;
	struct err err = {0};

	(void)state;
	assert_int_equal(ps_object(UINT64_C(4194303) << 8 | 1, &object, NULL), 0);
	assert_failed(ps_object(UINT64_C(4194304) << 8 | 1, &object, &err), EPROTO, &err,
	              "impossible pid 4194304");
	assert_failed(ps_object(1, &object, &err), EPROTO, &err, "impossible pid 0");
	assert_int_equal(ps_object(2, &object, NULL), 0); /* SysV ids start at 0 */
	assert_int_equal(ps_object(UINT64_C(0xffffffff02), &object, NULL), 0);
	assert_int_equal(object.id, UINT32_MAX);
	assert_failed(ps_object(UINT64_C(0x10000000002), &object, &err), EPROTO, &err,
	              "impossible id");
}

/* --- the gate of a server --------------------------------------------------------------------- */

enum { PID = 0x20a6, PID_ID = 0x20a601, SHMEM_ID = 0x20a602 };

static const struct refused {
	enum ps_role role;
	struct ps_header h;
	const char *said;
} refused[] = {
	/* other roles, other commands */
	{PS_SERVING, {.cmd = PS_OPEN2, .dst_id = PID_ID}, "OPEN2 is for storing"},
	{PS_SERVING, {.cmd = PS_OPEN, .dst_id = PID_ID}, "OPEN is for storing"},
	{PS_SERVING, {.cmd = PS_PARENT, .dst_id = PID_ID}, "PARENT is for storing"},
	{PS_SERVING, {.cmd = PS_ADD, .nr_pages = 1, .dst_id = PID_ID}, "ADD is for storing"},
	{PS_SERVING, {.cmd = PS_HOLE, .nr_pages = 1, .dst_id = PID_ID}, "HOLE is for storing"},
	{PS_SERVING, {.cmd = 0x40006, .nr_pages = 1, .dst_id = PID_ID}, "ADD_F is for storing"},
	{PS_STORING, {.cmd = PS_GET, .nr_pages = 1, .dst_id = PID}, "only stores"},
	{PS_SERVING, {.cmd = 0}, "unknown command 0x00000000"},
	{PS_SERVING, {.cmd = 8}, "unknown command 0x00000008"},
	{PS_STORING, {.cmd = 0x1022}, "unknown command 0x00001022"},
	{PS_SERVING, {.cmd = 0x4c5a01}, "unknown command 0x004c5a01"},
	/* flags */
	{PS_SERVING, {.cmd = 0x40007, .nr_pages = 1, .dst_id = PID}, "GET with the flags 0x4"},
	{PS_SERVING, {.cmd = 0x11023}, "CLOSE with the flags 0x1"},
	{PS_STORING, {.cmd = 0x80001024}, "FORCE_CLOSE with the flags 0x8000"},
	{PS_STORING, {.cmd = 0x10004, .dst_id = PID_ID}, "OPEN2 with the flags 0x1"},
	{PS_STORING, {.cmd = 0x40001, .nr_pages = 1, .dst_id = PID_ID}, "ADD with the flags 0x4"},
	{PS_STORING, {.cmd = 0x00006, .nr_pages = 1, .dst_id = PID_ID}, "ADD_F without flags"},
	{PS_STORING, {.cmd = 0x80006, .nr_pages = 1, .dst_id = PID_ID}, "unknown flags 0x8"},
	{PS_STORING, {.cmd = 0x80040006, .nr_pages = 1, .dst_id = PID_ID}, "unknown flags 0x8004"},
	{PS_STORING,
         {.cmd = 0x50006, .nr_pages = 1, .dst_id = PID_ID},
         "both present and in the parent"},
	{PS_STORING,
         {.cmd = 0x70006, .nr_pages = 1, .dst_id = PID_ID},
         "both present and in the parent"},
	/* GET */
	{PS_SERVING, {.cmd = PS_GET, .nr_pages = 1}, "impossible pid 0"},
	{PS_SERVING, {.cmd = PS_GET, .nr_pages = 1, .dst_id = 4194304}, "impossible pid 4194304"},
	{PS_SERVING,
         {.cmd = PS_GET, .nr_pages = 1, .dst_id = (UINT64_C(1) << 32) | PID},
         "impossible pid"},
	{PS_SERVING, {.cmd = PS_GET, .vaddr = 0x1000, .dst_id = PID}, "GET of no pages"},
	{PS_SERVING, {.cmd = PS_GET, .nr_pages = (1 << 20) + 1, .dst_id = PID}, "limit of 1048576"},
	{PS_SERVING, {.cmd = PS_GET, .nr_pages = UINT64_MAX, .dst_id = PID}, "limit of 1048576"},
	{PS_SERVING,
         {.cmd = PS_GET, .nr_pages = 1, .vaddr = 0x1001, .dst_id = PID},
         "not page aligned"},
	{PS_SERVING,
         {.cmd = PS_GET, .nr_pages = 2, .vaddr = USER_ADDRESS_END - PAGE_SIZE, .dst_id = PID},
         "ends above"},
	{PS_SERVING,
         {.cmd = PS_GET, .nr_pages = 1, .vaddr = USER_ADDRESS_END, .dst_id = PID},
         "ends above"},
	{PS_SERVING,
         {.cmd = PS_GET, .nr_pages = 1, .vaddr = -PAGE_SIZE, .dst_id = PID},
         "ends above"},
	/* opening */
	{PS_STORING, {.cmd = PS_OPEN2}, "unknown type 0"},
	{PS_STORING, {.cmd = PS_OPEN2, .dst_id = PID << 8 | 3}, "unknown type 3"},
	{PS_STORING, {.cmd = PS_OPEN2, .nr_pages = 1, .dst_id = PID_ID}, "OPEN2 with 1 pages"},
	{PS_STORING,
         {.cmd = PS_PARENT, .vaddr = 0x1000, .dst_id = PID_ID},
         "PARENT with 0 pages at 0x1000"},
	{PS_STORING, {.cmd = PS_OPEN, .dst_id = UINT64_MAX}, "unknown type 255"},
	/* adding */
	{PS_STORING, {.cmd = PS_ADD, .nr_pages = 1}, "unknown type 0"},
	{PS_STORING, {.cmd = PS_ADD, .vaddr = 0x1000, .dst_id = PID_ID}, "ADD of no pages"},
	{PS_STORING,
         {.cmd = PS_HOLE, .nr_pages = 1, .vaddr = 0x1800, .dst_id = PID_ID},
         "HOLE at 0x1800"},
	{PS_STORING, {.cmd = 0x40006, .nr_pages = UINT64_MAX, .dst_id = PID_ID}, "ends above"},
	{PS_STORING,
         {.cmd = 0x40006, .nr_pages = UINT64_C(1) << 52, .vaddr = 0x1000, .dst_id = PID_ID},
         "ends above"},
	{PS_STORING,
         {.cmd = 0x40006, .nr_pages = (UINT64_C(1) << 44) + 1, .dst_id = PID_ID},
         "ends above"},
	{PS_STORING,
         {.cmd = 0x40006, .nr_pages = 1, .vaddr = USER_ADDRESS_END, .dst_id = PID_ID},
         "ends above"},
	{PS_STORING,
         {.cmd = 0x40006, .nr_pages = 1, .vaddr = UINT64_C(1) << 63, .dst_id = SHMEM_ID},
         "ends above"},
	{PS_STORING,
         {.cmd = 0x40006, .nr_pages = (UINT64_C(1) << 51) + 1, .dst_id = SHMEM_ID},
         "ends above"},
};

static void test_refused(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(refused); i++) {
		struct err err = {0};

		assert_failed(ps_check_request(&refused[i].h, refused[i].role, &err), EPROTO, &err,
		              refused[i].said);
		assert_int_equal(ps_check_request(&refused[i].h, refused[i].role, NULL), -EPROTO);
	}
}

static const struct {
	enum ps_role role;
	struct ps_header h;
} accepted[] = {
	{PS_SERVING, {.cmd = PS_GET, .nr_pages = 1, .dst_id = 1}},
	{PS_SERVING, {.cmd = PS_GET, .nr_pages = 1 << 20, .vaddr = 0x1000, .dst_id = 4194303}},
	{PS_SERVING,
         {.cmd = PS_GET, .nr_pages = 1, .vaddr = USER_ADDRESS_END - PAGE_SIZE, .dst_id = PID}},
	{PS_SERVING, {.cmd = PS_CLOSE}},
	{PS_SERVING, {.cmd = PS_FORCE_CLOSE, .mark = 77, .vaddr = 1, .dst_id = 5}},
	{PS_STORING, {.cmd = PS_CLOSE}},
	{PS_STORING, {.cmd = PS_FORCE_CLOSE}},
	{PS_STORING, {.cmd = PS_OPEN, .dst_id = PID_ID}},
	{PS_STORING, {.cmd = PS_OPEN2, .mark = 0x7ffc, .dst_id = SHMEM_ID}},
	{PS_STORING, {.cmd = PS_PARENT, .dst_id = PID_ID}},
	{PS_STORING, {.cmd = PS_ADD, .nr_pages = 1, .dst_id = PID_ID}},
	{PS_STORING, {.cmd = PS_HOLE, .nr_pages = 1, .dst_id = PID_ID}},
	{PS_STORING, {.cmd = 0x10006, .nr_pages = 1, .dst_id = PID_ID}},
	{PS_STORING, {.cmd = 0x20006, .nr_pages = 1, .dst_id = PID_ID}},
	{PS_STORING, {.cmd = 0x30006, .nr_pages = 1, .dst_id = PID_ID}},
	{PS_STORING, {.cmd = 0x40006, .nr_pages = UINT64_C(1) << 44, .dst_id = PID_ID}},
	{PS_STORING, {.cmd = 0x60006, .nr_pages = UINT64_C(1) << 51, .dst_id = SHMEM_ID}},
};

static void test_accepted(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(accepted); i++) {
		struct err err = {0};

		if (ps_check_request(&accepted[i].h, accepted[i].role, &err) != 0)
			fail_msg("%zu: %s", i, err.text);
		assert_int_equal(err.code, 0);
	}
}

/* --- the gate of a client --------------------------------------------------------------------- */

static void test_replies(void **state)
{
	const struct ps_header get = {
		.cmd = PS_GET, .nr_pages = 8, .vaddr = 0x7f0000001000, .dst_id = PID};
	const struct ps_header good = {
		.cmd = 0x40006, .mark = 99, .nr_pages = 8, .vaddr = 0x7f0000001000, .dst_id = PID};
	struct ps_header h = good;
	struct err err = {0};

	(void)state;
	assert_int_equal(ps_check_reply(&h, &get, NULL), 0);
	h.nr_pages = 1;
	assert_int_equal(ps_check_reply(&h, &get, NULL), 0);
	h.cmd = 0x60006;
	assert_int_equal(ps_check_reply(&h, &get, NULL), 0);

	h = good, h.nr_pages = 0;
	assert_failed(ps_check_reply(&h, &get, &err), EPROTO, &err, "grants 0 pages");
	h = good, h.nr_pages = 9;
	assert_failed(ps_check_reply(&h, &get, &err), EPROTO, &err, "grants 9 pages");
	h = good, h.nr_pages = (UINT64_C(1) << 32) + 8;
	assert_failed(ps_check_reply(&h, &get, &err), EPROTO, &err, "grants 4294967304 pages");
	h = good, h.vaddr += PAGE_SIZE;
	assert_failed(ps_check_reply(&h, &get, &err), EPROTO, &err, "0x7f0000002000");
	h = good, h.dst_id |= UINT64_C(1) << 32;
	assert_failed(ps_check_reply(&h, &get, &err), EPROTO, &err, "process 4294975654");
	h = good, h.cmd = 0x50006;
	assert_failed(ps_check_reply(&h, &get, &err), EPROTO, &err, "0x00050006");
	h = good, h.cmd = 0x20006;
	assert_failed(ps_check_reply(&h, &get, &err), EPROTO, &err, "0x00020006");
	h = good, h.cmd = 0xc0006;
	assert_failed(ps_check_reply(&h, &get, &err), EPROTO, &err, "0x000c0006");
	h = good, h.cmd = PS_GET;
	assert_failed(ps_check_reply(&h, &get, &err), EPROTO, &err, "0x00000007");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_captured),     cmocka_unit_test(test_detect),
		cmocka_unit_test(test_detect_close), cmocka_unit_test(test_detect_not_ours),
		cmocka_unit_test(test_objects),      cmocka_unit_test(test_object_limits),
		cmocka_unit_test(test_refused),      cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_replies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
