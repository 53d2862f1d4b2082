/* SPDX-License-Identifier: GPL-2.0-or-later */
/* remote-lanes.h - on top of remote-world.h: the test plays a server of ours. */
#ifndef TEST_UNIT_REMOTE_LANES_H
#define TEST_UNIT_REMOTE_LANES_H

#include "test/unit/remote-world.h"

static const uint64_t IMAGES = UINT64_C(0x1122334455667788);

/* --- the server's side ----------------------------------------------------------------------- */

static inline struct lanes_header message(struct net *n, int fd, void *tail)
{
	uint8_t buf[LANES_HEADER + LANES_HELLO_TAIL];
	struct lanes_header h;
	struct err err = {0};
	int len;

	server_read(n, fd, buf, LANES_HEADER);
	lanes_decode(buf, &h);
	len = lanes_tail(&h, &err);
	if (len < 0)
		fail_msg("%s", err.text);
	assert_in_range(len, 0, LANES_HELLO_TAIL);
	server_read(n, fd, buf + LANES_HEADER, (size_t)len);
	assert_int_equal(lanes_verify(buf, buf + LANES_HEADER, (size_t)len, &err), 0);
	if (tail)
		memcpy(tail, buf + LANES_HEADER, (size_t)len);
	return h;
}

static inline void send_message(struct net *n, int fd, const struct lanes_header *h,
                                const void *tail, size_t tail_len)
{
	uint8_t buf[LANES_HEADER];

	lanes_encode(h, tail, tail_len, buf);
	server_write(n, fd, buf, sizeof(buf));
	server_write(n, fd, tail, tail_len);
}

static inline struct lanes_hello hello(struct net *n, int fd, uint64_t images)
{
	uint8_t tail[LANES_HELLO_TAIL];
	struct lanes_header h = message(n, fd, tail);
	struct lanes_hello said, reply;
	struct err err = {0};

	assert_int_equal(h.cmd, LANES_HELLO);
	assert_int_equal(lanes_decode_hello(tail, &said, &err), 0);
	assert_int_equal(said.images, n->options.images);
	reply = said;
	reply.images = images;
	lanes_encode_hello(&reply, tail);
	send_message(n, fd, &h, tail, sizeof(tail));
	return said;
}

/* Accept a lane of this kind, which says HELLO at once. */
static inline int accept_lane(struct net *n, enum lanes_kind kind)
{
	int fd = accept_one(n);
	struct lanes_hello said = hello(n, fd, IMAGES);

	assert_int_equal(said.kind, kind);
	assert_int_equal(said.features, kind == LANE_BULK && n->options.compress ? LANES_LZ4 : 0);
	return fd;
}

/* Accept one that asks who we are. */
static inline int accept_first(struct net *n)
{
	int fd = accept_one(n);
	struct ps_header h = get(n, fd);
	uint8_t *page = make_pages(PID, FIRST, 1);
	struct lanes_hello said;

	assert_get(&h, 0, 1);
	assert_int_equal(h.mark, LANES_ASK);
	give_header(n, fd, &h, 1, LANES_ANSWER);
	server_write(n, fd, page, PAGE_SIZE);
	free(page);
	said = hello(n, fd, IMAGES);
	assert_int_equal(said.kind, LANE_URGENT);
	return fd;
}

struct lanes {
	int urgent, bulk;
};

static inline struct lanes lanes(struct net *n)
{
	struct remote_stats stats;
	struct lanes l;

	n->options.images = IMAGES;
	connect_begin(n);
	l.urgent = accept_first(n);
	l.bulk = accept_lane(n, LANE_BULK);
	connect_done(n);
	remote_stats(n->remote, &stats);
	assert_true(stats.lanes);
	return l;
}

static inline void close_lanes(const struct lanes *l)
{
	close(l->urgent);
	close(l->bulk);
}

static inline struct lanes_header fetch(struct net *n, int fd, uint64_t nr, uint64_t nr_pages)
{
	struct lanes_header h = message(n, fd, NULL);

	assert_int_equal(h.cmd, LANES_FETCH);
	assert_int_equal(h.pid, PID);
	assert_int_equal(h.vaddr, page_at(nr));
	assert_int_equal(h.nr_pages, nr_pages);
	return h;
}

/* What goes wrong with an answer. */
struct flaw {
	bool page; /* a byte of page nr */
	uint64_t nr;
	bool check; /* of the header */
};

static inline void data(struct net *n, int fd, const struct lanes_header *fetched, uint64_t granted,
                        const struct flaw *flaw)
{
	uint8_t *pages = make_pages(fetched->pid, fetched->vaddr, granted);
	uint8_t tail[LANES_MAX_TAIL], buf[LANES_HEADER];
	struct lanes_header h = *fetched;
	uint64_t sums[LANES_MAX_PAGES];
	size_t len;

	h.cmd = LANES_DATA;
	h.nr_pages = granted;
	for (uint64_t i = 0; i < granted; i++)
		sums[i] = lanes_page_sum(pages + i * PAGE_SIZE);
	len = lanes_encode_data(LANES_RAW, (uint32_t)(granted * PAGE_SIZE), sums, granted, tail);
	lanes_encode(&h, tail, len, buf);
	if (flaw && flaw->check)
		buf[LANES_HEADER - 1] ^= 0x10;
	if (flaw && flaw->page)
		pages[flaw->nr * PAGE_SIZE + 99] ^= 1;
	server_write(n, fd, buf, sizeof(buf));
	server_write(n, fd, tail, len);
	server_write(n, fd, pages, granted * PAGE_SIZE);
	free(pages);
}

/* Four requests that are on their way over the bulk lane. */
static inline void fill_bulk(struct net *n, const struct lanes *l, struct asked *a,
                             struct lanes_header *h)
{
	for (unsigned i = 0; i < 4; i++)
		ask(n, &a[i], 64 * i, 64, false);
	for (unsigned i = 0; i < 4; i++)
		h[i] = fetch(n, l->bulk, 64 * i, 64);
}

#endif
