/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A page server that says anything at all, to the real remote: over a socketpair, in one thread.
 *
 * The first byte says which protocol: bit 0 ours, bit 1 CRIU's old header.  The rest is a list of
 * steps, a byte each and what it calls for:
 *
 *	bits 0-2	0	send bytes of the input: as many as the next byte says
 *			1	answer the next request rightly
 *			2	the same, but the next three bytes change a byte of the answer:
 *				where (two), and by what
 *			3	a header with a good checksum of what the input says (ours),
 *				else as 0
 *			4	a new request of as many pages as bits 3-7 say
 *			5	cancel one
 *			6	hurry one
 *			7	let the remote work
 *
 * What must hold: it comes to an end; every request that was not cancelled is answered once, by
 * pages within what was asked for, or with a reason; pages that came with checksums are right.
 */
#include "criu-lazy/source/remote.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/os/ring.h"
#include "criu-lazy/source/source.h"
#include "proto/lanes.h"
#include "proto/ps.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PID = 7, REQUESTS = 8, MAX_STEPS = 64, MAX_TURNS = 2000, PAGES = 64 };

static const uint64_t base = UINT64_C(0x7f0000000000);
static struct ring *ring;

struct play;

struct fuzz_request {
	struct source_request request;
	struct play *play;
	bool live;
};

struct play {
	bool ours;
	struct remote_options options;
	struct remote *remote;
	struct source *source;
	int fd; /* the server's end; -1: it has hung up */
	struct fuzz_request requests[REQUESTS];
	const uint8_t *in;
	size_t left;
	uint8_t out[LANES_HEADER + LANES_MAX_TAIL + PAGES * PAGE_SIZE];
};

static uint8_t next_byte(struct play *p)
{
	if (!p->left)
		return 0;
	p->left--;
	return *p->in++;
}

static void fill_page(uint8_t *page, uint64_t vaddr)
{
	for (size_t i = 0; i < PAGE_SIZE; i += sizeof(vaddr))
		memcpy(page + i, &vaddr, sizeof(vaddr));
}

/* --- the remote's side ----------------------------------------------------------------------- */

static void done(struct source_request *request, const struct source_bytes *bytes,
                 const struct err *err)
{
	struct fuzz_request *r = request->owner;
	uint8_t right[PAGE_SIZE];

	assert(r->live);
	r->live = false;
	if (!bytes) {
		assert(err->code && *err->text && !strchr(err->text, '\n'));
		return;
	}
	assert(bytes->bytes && bytes->nr_pages && bytes->nr_pages <= request->nr_pages);
	for (uint64_t i = 0; i < bytes->nr_pages; i++) {
		fill_page(right, request->img + i * PAGE_SIZE);
		/* Without checksums they are as they came, but they must be there. */
		if (memcmp((const uint8_t *)bytes->bytes + i * PAGE_SIZE, right, PAGE_SIZE))
			assert(!r->play->ours);
	}
}

static void ask(struct play *p, uint64_t nr_pages)
{
	struct fuzz_request *r = p->requests;
	struct source_bytes bytes;
	struct err err = {0};

	while (r < p->requests + REQUESTS && r->live)
		r++;
	if (r == p->requests + REQUESTS)
		return;
	*r = (struct fuzz_request){
		.request = {.img = base + (uint64_t)(r - p->requests) * 64 * PAGE_SIZE,
	                    .nr_pages = nr_pages + 1,
	                    .urgent = nr_pages % 2,
	                    .done = done,
	                    .owner = r},
		.play = p,
		.live = true,
	};
	if (source_fetch(p->source, &r->request, &bytes, &err) == SOURCE_LOST) {
		assert(err.code);
		r->live = false;
	}
}

static void with_one(struct play *p, unsigned nr,
                     void (*call)(struct source *, struct source_request *), bool ends)
{
	struct fuzz_request *r = &p->requests[nr % REQUESTS];

	if (!r->live)
		return;
	call(p->source, &r->request);
	if (ends)
		r->live = false;
}

static void turn(void)
{
	assert(ring_wait(ring, 0, NULL) >= 0);
}

/* --- the server's side ----------------------------------------------------------------------- */

static void say(struct play *p, const void *buf, size_t len)
{
	unsigned turns = 0;

	while (p->fd >= 0 && len && turns++ < MAX_TURNS) {
		ssize_t n = send(p->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			return; /* it has hung up */
		if (n < 0) {
			turn();
			continue;
		}
		buf = (const uint8_t *)buf + n;
		len -= (size_t)n;
	}
}

static size_t right_pages(uint8_t *out, uint64_t vaddr, uint64_t nr)
{
	for (uint64_t i = 0; i < nr; i++)
		fill_page(out + i * PAGE_SIZE, vaddr + i * PAGE_SIZE);
	return nr * PAGE_SIZE;
}

static size_t answer_lane(struct play *p, const uint8_t *in)
{
	uint8_t *tail = p->out + LANES_HEADER, *pages;
	uint64_t sums[LANES_MAX_PAGES];
	struct lanes_header h;
	size_t len;

	lanes_decode(in, &h);
	if (h.cmd != LANES_FETCH)
		return 0;
	assert(h.nr_pages && h.nr_pages <= PAGES);
	len = lanes_encode_data(LANES_RAW, (uint32_t)(h.nr_pages * PAGE_SIZE), sums, 0, tail) +
	      8 * h.nr_pages;
	pages = tail + len;
	right_pages(pages, h.vaddr, h.nr_pages);
	for (uint64_t i = 0; i < h.nr_pages; i++)
		sums[i] = lanes_page_sum(pages + i * PAGE_SIZE);
	lanes_encode_data(LANES_RAW, (uint32_t)(h.nr_pages * PAGE_SIZE), sums, h.nr_pages, tail);
	h.cmd = LANES_DATA;
	lanes_encode(&h, tail, len, p->out);
	return LANES_HEADER + len + h.nr_pages * PAGE_SIZE;
}

static size_t answer_stock(struct play *p, const uint8_t *in)
{
	enum ps_layout layout = p->options.old_header ? PS_24 : PS_32;
	struct ps_header h;
	size_t len;

	ps_decode(layout, in, &h);
	assert(h.cmd == PS_GET && h.nr_pages && h.nr_pages <= PAGES);
	h.cmd = PS_ADD_F | PS_PRESENT_FLAG << 16;
	len = ps_encode(layout, &h, p->out);
	return len + right_pages(p->out + len, h.vaddr, h.nr_pages);
}

/* The next request's answer, in p->out; 0: none was made. */
static size_t answer(struct play *p)
{
	size_t len = p->options.old_header && !p->ours ? PS_HEADER_MIN : PS_HEADER_MAX;
	uint8_t in[PS_HEADER_MAX];

	if (p->fd < 0 || recv(p->fd, in, len, MSG_DONTWAIT | MSG_PEEK) != (ssize_t)len)
		return 0;
	assert(recv(p->fd, in, len, MSG_DONTWAIT) == (ssize_t)len);
	return p->ours ? answer_lane(p, in) : answer_stock(p, in);
}

static void say_header(struct play *p)
{
	struct lanes_header h = {.cmd = LANES_HELLO + next_byte(p) % 8,
	                         .tag = next_byte(p),
	                         .nr_pages = next_byte(p),
	                         .vaddr = base + next_byte(p) % 16 * 64 * PAGE_SIZE,
	                         .pid = PID + next_byte(p) % 2};
	size_t len = next_byte(p) % 64;
	uint8_t tail[64];

	for (size_t i = 0; i < len; i++)
		tail[i] = next_byte(p);
	lanes_encode(&h, tail, len, p->out);
	say(p, p->out, LANES_HEADER);
	say(p, tail, len);
}

static void say_bytes(struct play *p)
{
	size_t len = next_byte(p);

	if (len > p->left)
		len = p->left;
	say(p, p->in, len);
	p->in += len;
	p->left -= len;
}

static void say_damaged(struct play *p)
{
	size_t len = answer(p), at = next_byte(p);

	at |= (size_t)next_byte(p) << 8;
	if (!len)
		return;
	p->out[at % len] ^= next_byte(p);
	say(p, p->out, len);
}

static void step(struct play *p)
{
	uint8_t what = next_byte(p);

	switch (what & 7) {
	case 0:
		say_bytes(p);
		break;
	case 1:
		say(p, p->out, answer(p));
		break;
	case 2:
		say_damaged(p);
		break;
	case 3:
		if (p->ours)
			say_header(p);
		else
			say_bytes(p);
		break;
	case 4:
		ask(p, what >> 3);
		break;
	case 5:
		with_one(p, what >> 3, source_cancel, true);
		break;
	case 6:
		with_one(p, what >> 3, source_hurry, false);
		break;
	default:
		turn();
	}
}

/* --- a play ---------------------------------------------------------------------------------- */

/* HELLO is answered before it is said. */
static bool begin(struct play *p)
{
	struct lanes_hello hello = {.version = LANES_VERSION};
	struct lanes_header h = {.cmd = LANES_HELLO};
	uint8_t buf[LANES_HEADER + LANES_HELLO_TAIL], *tail = buf + LANES_HEADER;
	struct err err = {0};
	int pair[2];

	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	p->fd = pair[1];
	p->options.ps_socket = pair[0];
	if (p->ours) {
		lanes_encode_hello(&hello, tail);
		lanes_encode(&h, tail, LANES_HELLO_TAIL, buf);
		say(p, buf, sizeof(buf));
	}
	if (remote_connect(&p->options, &p->remote, &err) < 0)
		return false;
	if (p->ours) /* read what it said */
		assert(recv(p->fd, buf, sizeof(buf), MSG_WAITALL) == sizeof(buf));
	assert(ring_new(&ring, &err) == 0);
	assert(remote_start(p->remote, ring, &err) == 0);
	p->source = remote_source(p->remote, PID);
	return p->source;
}

static void end(struct play *p)
{
	unsigned turns = 0;
	bool live = true;

	close(p->fd);
	p->fd = -1;
	while (live) {
		live = false;
		assert(turns++ < MAX_TURNS);
		for (unsigned i = 0; i < REQUESTS; i++)
			live = live || p->requests[i].live;
		if (live)
			assert(ring_wait(ring, 1000000, NULL) >= 0);
	}
	source_close(p->source);
	ring_free(ring);
	remote_free(p->remote);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct play p;
	uint8_t kind;

	p = (struct play){.in = data, .left = size};
	kind = next_byte(&p);
	p.ours = kind & 1;
	p.options = (struct remote_options){
		.protocol = p.ours ? REMOTE_LANES : REMOTE_CRIU,
		.old_header = !p.ours && kind & 2,
		.answer_timeout = INT64_C(10000000000),
		.reconnect_timeout = INT64_C(10000000000),
	};
	assert(begin(&p));
	for (unsigned i = 0; i < MAX_STEPS && p.left; i++)
		step(&p);
	end(&p);
	return 0;
}
