/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proto/lanes.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "proto/le.h"

#include <errno.h>
#include <inttypes.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
	CHECK_AT = 28, /* of the header */
	SUMS_AT = 8, /* of the tail of DATA */
	MAX_ERRNO = 4095,
	MAX_PID = (1 << 22) - 1, /* no Linux gives out a higher one */
};

/* --- headers ---------------------------------------------------------------------------------- */

static uint32_t check_of(const uint8_t *header, const void *tail, size_t tail_len)
{
	XXH3_state_t state;

	if (!tail_len)
		return (uint32_t)XXH3_64bits(header, CHECK_AT);
	XXH3_64bits_reset(&state);
	XXH3_64bits_update(&state, header, CHECK_AT);
	XXH3_64bits_update(&state, tail, tail_len);
	return (uint32_t)XXH3_64bits_digest(&state);
}

void lanes_encode(const struct lanes_header *h, const void *tail, size_t tail_len,
                  uint8_t out[LANES_HEADER])
{
	le32_put(out, h->cmd);
	le32_put(out + 4, h->tag);
	le64_put(out + 8, h->nr_pages);
	le64_put(out + 16, h->vaddr);
	le32_put(out + 24, h->pid);
	le32_put(out + CHECK_AT, check_of(out, tail, tail_len));
}

void lanes_decode(const uint8_t in[LANES_HEADER], struct lanes_header *ret)
{
	*ret = (struct lanes_header){
		.cmd = le32_get(in),
		.tag = le32_get(in + 4),
		.nr_pages = le64_get(in + 8),
		.vaddr = le64_get(in + 16),
		.pid = le32_get(in + 24),
		.check = le32_get(in + CHECK_AT),
	};
}

int lanes_verify(const uint8_t in[LANES_HEADER], const void *tail, size_t tail_len, struct err *err)
{
	uint32_t said = le32_get(in + CHECK_AT), is = check_of(in, tail, tail_len);

	if (said != is)
		return err_set(err, EPROTO,
		               "a message 0x%x with the checksum 0x%08x arrived as one of 0x%08x",
		               le32_get(in), said, is);
	return 0;
}

static int check_count(const struct lanes_header *h, const char *name, struct err *err)
{
	if (!h->nr_pages || h->nr_pages > LANES_MAX_PAGES)
		return err_set(err, EPROTO, "%s of %" PRIu64 " pages, 1 to %d can be", name,
		               h->nr_pages, LANES_MAX_PAGES);
	return 0;
}

static int check_place(const struct lanes_header *h, const char *name, struct err *err)
{
	if (!h->pid || h->pid > MAX_PID)
		return err_set(err, EPROTO, "%s with the impossible pid %u", name, h->pid);
	if (!page_aligned(h->vaddr))
		return err_set(err, EPROTO, "%s at 0x%" PRIx64 ", which is not page aligned", name,
		               h->vaddr);
	if (h->vaddr >= USER_ADDRESS_END)
		return err_set(err, EPROTO, "%s at 0x%" PRIx64 ", above every address", name,
		               h->vaddr);
	return 0;
}

static int check_range(const struct lanes_header *h, const char *name, struct err *err)
{
	int r = check_count(h, name, err);

	if (r == 0)
		r = check_place(h, name, err);
	if (r == 0 && h->nr_pages > (USER_ADDRESS_END - h->vaddr) >> PAGE_SHIFT)
		r = err_set(err, EPROTO,
		            "%s of %" PRIu64 " pages at 0x%" PRIx64 ", beyond every address", name,
		            h->nr_pages, h->vaddr);
	return r;
}

static int check_no_pages(const struct lanes_header *h, const char *name, struct err *err)
{
	if (h->nr_pages || h->vaddr || h->pid)
		return err_set(err, EPROTO, "%s about %" PRIu64 " pages of process %u", name,
		               h->nr_pages, h->pid);
	return 0;
}

/* MISS: nr_pages is an errno. */
static int check_miss(const struct lanes_header *h, struct err *err)
{
	if (!h->nr_pages || h->nr_pages > MAX_ERRNO)
		return err_set(err, EPROTO, "MISS for the impossible reason %" PRIu64, h->nr_pages);
	return check_place(h, "MISS", err);
}

int lanes_tail(const struct lanes_header *h, struct err *err)
{
	int r;

	switch (h->cmd) {
	case LANES_HELLO:
		r = check_no_pages(h, "HELLO", err);
		return r < 0 ? r : LANES_HELLO_TAIL;
	case LANES_FETCH:
		return check_range(h, "FETCH", err);
	case LANES_DATA:
		r = check_range(h, "DATA", err);
		return r < 0 ? r : SUMS_AT + 8 * (int)h->nr_pages;
	case LANES_MISS:
		return check_miss(h, err);
	case LANES_PING:
		return check_no_pages(h, "PING", err);
	case LANES_PONG:
		return check_no_pages(h, "PONG", err);
	case LANES_BYE:
		return check_no_pages(h, "BYE", err);
	default:
		return err_set(err, EPROTO, "unknown message 0x%x", h->cmd);
	}
}

/* --- HELLO ------------------------------------------------------------------------------------ */

void lanes_encode_hello(const struct lanes_hello *hello, uint8_t out[LANES_HELLO_TAIL])
{
	le32_put(out, hello->version);
	le32_put(out + 4, hello->features);
	le64_put(out + 8, hello->images);
	le32_put(out + 16, hello->kind);
	le32_put(out + 20, hello->reserved);
	le64_put(out + 24, hello->reserved2);
}

int lanes_decode_hello(const uint8_t in[LANES_HELLO_TAIL], struct lanes_hello *ret, struct err *err)
{
	struct lanes_hello hello = {
		.version = le32_get(in),
		.features = le32_get(in + 4),
		.images = le64_get(in + 8),
		.kind = le32_get(in + 16),
		.reserved = le32_get(in + 20),
		.reserved2 = le64_get(in + 24),
	};

	if (hello.version != LANES_VERSION)
		return err_set(err, EPROTO, "the peer speaks version %u of the lanes, this is %d",
		               hello.version, LANES_VERSION);
	if (hello.kind > LANE_BULK)
		return err_set(err, EPROTO, "HELLO of a lane of the unknown kind %u", hello.kind);
	if (hello.reserved || hello.reserved2)
		return err_set(err, EPROTO, "HELLO with reserved fields that are not zero");
	*ret = hello;
	return 0;
}

/* --- DATA ------------------------------------------------------------------------------------- */

size_t lanes_encode_data(uint32_t encoding, uint32_t length, const uint64_t *sums, uint64_t nr,
                         uint8_t out[LANES_MAX_TAIL])
{
	uint64_t i;

	le32_put(out, encoding);
	le32_put(out + 4, length);
	for (i = 0; i < nr; i++)
		le64_put(out + SUMS_AT + 8 * i, sums[i]);
	return SUMS_AT + 8 * nr;
}

int lanes_decode_data(const uint8_t *tail, size_t len, uint64_t nr_pages, struct lanes_data *ret,
                      struct err *err)
{
	struct lanes_data data;
	uint64_t raw;

	if (!nr_pages || nr_pages > LANES_MAX_PAGES || len != SUMS_AT + 8 * nr_pages)
		return err_set(err, EPROTO, "DATA of %" PRIu64 " pages with a tail of %zu bytes",
		               nr_pages, len);
	data = (struct lanes_data){
		.encoding = le32_get(tail), .length = le32_get(tail + 4), .sums = tail + SUMS_AT};
	raw = nr_pages << PAGE_SHIFT;
	switch (data.encoding) {
	case LANES_RAW:
		if (data.length != raw)
			return err_set(err, EPROTO, "DATA of %" PRIu64 " pages in %u bytes",
			               nr_pages, data.length);
		break;
	case LANES_ENCODED_LZ4:
		if (!data.length || data.length > raw)
			return err_set(err, EPROTO, "DATA of %" PRIu64 " pages in %u bytes of LZ4",
			               nr_pages, data.length);
		break;
	default:
		return err_set(err, EPROTO, "DATA in the unknown encoding %u", data.encoding);
	}
	*ret = data;
	return 0;
}

uint64_t lanes_sum(const struct lanes_data *data, uint64_t i)
{
	return le64_get(data->sums + 8 * i);
}

uint64_t lanes_page_sum(const void *page)
{
	return XXH3_64bits(page, PAGE_SIZE);
}

/* --- the gates -------------------------------------------------------------------------------- */

int lanes_check_fetch(const struct lanes_header *h, struct err *err)
{
	if (h->cmd != LANES_FETCH)
		return err_set(err, EPROTO, "message 0x%x where FETCH was expected", h->cmd);
	return check_range(h, "FETCH", err);
}

int lanes_check_answer(const struct lanes_header *answer, const struct lanes_header *fetch,
                       struct err *err)
{
	if (answer->cmd != LANES_DATA && answer->cmd != LANES_MISS)
		return err_set(err, EPROTO, "the server answers FETCH by message 0x%x",
		               answer->cmd);
	if (answer->tag != fetch->tag || answer->pid != fetch->pid || answer->vaddr != fetch->vaddr)
		return err_set(err, EPROTO,
		               "the server answers request %u, process %u, 0x%" PRIx64
		               "; next was %u, process %u, 0x%" PRIx64,
		               answer->tag, answer->pid, answer->vaddr, fetch->tag, fetch->pid,
		               fetch->vaddr);
	if (answer->cmd == LANES_MISS)
		return check_miss(answer, err);
	if (!answer->nr_pages || answer->nr_pages > fetch->nr_pages)
		return err_set(err, EPROTO,
		               "the server grants %" PRIu64 " pages at 0x%" PRIx64
		               ", asked for were %" PRIu64,
		               answer->nr_pages, answer->vaddr, fetch->nr_pages);
	return 0;
}
