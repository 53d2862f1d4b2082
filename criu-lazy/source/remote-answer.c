/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What comes in over one connection.
 *
 * Answers come in order, so each is judged against the first ask in lane->sent.  A message is
 *
 *	CRIU's:	header, pages
 *	ours:	header, tail (checksums), body		or a header alone
 *
 *	in:   |......header.tail|pages................|next header|
 *	      |<- REMOTE_FRONT ->
 *
 * The buffer is read into where the message has to begin for its pages to be aligned, and not
 * further than the header after it, so that no page is ever moved.
 */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/os/stream.h"
#include "criu-lazy/source/remote-parts.h"

#include <errno.h>
#include <lz4.h>
#include <poll.h>
#include <string.h>

/* Up to so many pages an answer is read as a whole at once. */
enum { SMALL = 4 };

/* --- in -------------------------------------------------------------------------------------- */

/* Let the message begin so that what follows its first size bytes is aligned. */
static void place(struct lane *lane, size_t size)
{
	size_t at = REMOTE_FRONT - size;

	if (at != lane->at && lane->have)
		memmove(lane->in + at, lane->in + lane->at, lane->have);
	lane->at = at;
}

/* What comes before the pages of an answer to this ask. */
static size_t before_pages(const struct lane *lane, const struct ask *ask)
{
	return lane_header_size(lane) + (lane->ours && ask ? 8 + 8 * ask->nr_pages : 0);
}

/* The first message is done with. */
static void next_message(struct lane *lane)
{
	lane->at += lane->total;
	lane->have -= lane->total;
	lane->state = LANE_HEADER;
	place(lane, before_pages(lane, TAILQ_FIRST(&lane->sent)));
}

/* How many bytes of the message, and of the header after it, are to be had before step() is called
 * again? */
static size_t wanted(const struct lane *lane)
{
	const struct ask *ask = TAILQ_FIRST(&lane->sent);
	size_t header = lane_header_size(lane);

	switch (lane->state) {
	case LANE_HEADER:
		if (ask && ask->nr_pages <= SMALL)
			return before_pages(lane, ask) + (ask->nr_pages << PAGE_SHIFT);
		return header;
	case LANE_TAIL:
		/* Behind the tail are as many pages, unless they are packed. */
		if (lane->unpacked)
			return header + lane->tail_len;
		return header + lane->tail_len + (lane->granted << PAGE_SHIFT) + header;
	case LANE_BODY:
		break;
	}
	return lane->total + header;
}

/* The answer to the first ask is complete. */
static struct ask *take_answered(struct lane *lane)
{
	struct ask *ask = TAILQ_FIRST(&lane->sent);
	struct pace *pace = &lane->remote->pace[lane->index];
	int64_t now = clock_now();

	TAILQ_REMOVE(&lane->sent, ask, link);
	lane->answered += ask->nr_pages << PAGE_SHIFT;
	lane->progress = true;
	lane->remote->lost_since = CLOCK_NEVER;
	pace_answered(pace, lane->answered - ask->answered_before, now - ask->sent_at);
	return ask;
}

/* The page at the front of the answer is not the one of the image. */
static void wrong_page(struct remote *r, struct ask *ask)
{
	struct err err = {0};

	r->stats.bad_pages++;
	if (++ask->nr_wrong < REMOTE_WRONG_TRIES || !ask->request) {
		ask_again(r, ask);
		return;
	}
	err_set(&err, EIO, "%s: page 0x%llx of process %u came %u times with a wrong checksum",
	        r->name, (unsigned long long)ask->img, ask->pid, ask->nr_wrong);
	ask_end(r, ask, NULL, 0, &err);
}

/* How many pages are as their sums say, up to the first that is not? */
static uint64_t count_right(const struct lanes_data *data, const uint8_t *pages, uint64_t nr)
{
	uint64_t i;

	for (i = 0; i < nr; i++)
		if (lanes_page_sum(pages + (i << PAGE_SHIFT)) != lanes_sum(data, i))
			break;
	return i;
}

static void body_here(struct lane *lane)
{
	const uint8_t *pages = lane->in + REMOTE_FRONT;
	uint64_t right = lane->granted;
	struct ask *ask = take_answered(lane);
	bool drain = !ask->request;

	if (lane->ours && !drain && lane->data.encoding == LANES_ENCODED_LZ4) {
		int len = (int)(lane->granted << PAGE_SHIFT);

		if (LZ4_decompress_safe((const char *)pages, (char *)lane->unpacked,
		                        (int)lane->data.length, len) != len)
			right = 0;
		pages = lane->unpacked;
	}
	if (lane->ours && !drain && right)
		right = count_right(&lane->data, pages, right);
	if (right < lane->granted && right)
		lane->remote->stats.bad_pages++; /* it will be asked for by a further request */
	if (right)
		ask_end(lane->remote, ask, pages, right, NULL);
	else
		wrong_page(lane->remote, ask);
}

static void protocol_failed(struct lane *lane, const struct err *err)
{
	lane->blame = true;
	lane_fail(lane, EPROTO, "%s", err->text);
}

static void header_judged(struct lane *lane, uint64_t granted)
{
	struct ask *ask = TAILQ_FIRST(&lane->sent);

	lane->granted = granted;
	if (ask && ask->alone)
		pace_round_trip(&lane->remote->pace[lane->index], clock_now() - ask->sent_at);
}

static void ps_header_here(struct lane *lane)
{
	const struct ask *ask = TAILQ_FIRST(&lane->sent);
	struct ps_header reply, request;
	struct err err = {0};

	if (!ask) {
		lane_fail(lane, EPROTO, "the server sends what nobody has asked for");
		return;
	}
	ps_decode(remote_layout(lane->remote), lane->in + lane->at, &reply);
	request = (struct ps_header){
		.cmd = PS_GET, .nr_pages = ask->nr_pages, .vaddr = ask->img, .dst_id = ask->pid};
	if (ps_check_reply(&reply, &request, &err) < 0) {
		protocol_failed(lane, &err);
		return;
	}
	header_judged(lane, reply.nr_pages);
	lane->total = lane_header_size(lane) + (reply.nr_pages << PAGE_SHIFT);
	place(lane, lane_header_size(lane));
	lane->state = LANE_BODY;
}

static void lanes_header_here(struct lane *lane)
{
	struct lanes_header h;
	struct err err = {0};
	int tail;

	lanes_decode(lane->in + lane->at, &h);
	tail = lanes_tail(&h, &err);
	if (tail < 0) {
		protocol_failed(lane, &err);
		return;
	}
	lane->tail_len = (size_t)tail;
	lane->granted = h.cmd == LANES_DATA ? min_u64(h.nr_pages, REMOTE_PIECE) : 0;
	place(lane, LANES_HEADER + lane->tail_len);
	lane->state = LANE_TAIL;
}

static void miss(struct lane *lane, const struct lanes_header *h)
{
	struct ask *ask = take_answered(lane);
	struct err err = {0};

	err_set(&err, (int)h->nr_pages, "%s: page 0x%llx of process %u", lane->remote->name,
	        (unsigned long long)h->vaddr, h->pid);
	next_message(lane);
	ask_end(lane->remote, ask, NULL, 0, &err);
}

/* Header and tail are here. */
static void tail_here(struct lane *lane)
{
	const uint8_t *start = lane->in + lane->at, *tail = start + LANES_HEADER;
	const struct ask *ask = TAILQ_FIRST(&lane->sent);
	struct lanes_header h, fetch;
	struct err err = {0};

	lanes_decode(start, &h);
	lane->total = LANES_HEADER + lane->tail_len;
	if (lanes_verify(start, tail, lane->tail_len, &err) < 0) {
		protocol_failed(lane, &err);
		return;
	}
	if (h.cmd == LANES_PONG) {
		next_message(lane);
		return;
	}
	if (!ask) {
		lane_fail(lane, EPROTO, "the server sends what nobody has asked for");
		return;
	}
	fetch = (struct lanes_header){.cmd = LANES_FETCH,
	                              .tag = ask->tag,
	                              .nr_pages = ask->nr_pages,
	                              .vaddr = ask->img,
	                              .pid = ask->pid};
	if (lanes_check_answer(&h, &fetch, &err) < 0) {
		protocol_failed(lane, &err);
		return;
	}
	header_judged(lane, h.nr_pages);
	if (h.cmd == LANES_MISS) {
		miss(lane, &h);
		return;
	}
	if (lanes_decode_data(tail, lane->tail_len, h.nr_pages, &lane->data, &err) < 0) {
		protocol_failed(lane, &err);
		return;
	}
	if (lane->data.encoding != LANES_RAW && !lane->unpacked) {
		lane_fail(lane, EPROTO, "the server packs pages though it was not asked to");
		lane->blame = true;
		return;
	}
	lane->total += lane->data.length;
	lane->state = LANE_BODY;
}

/* false: more bytes are needed. */
static bool step(struct lane *lane)
{
	size_t header = lane_header_size(lane);

	switch (lane->state) {
	case LANE_HEADER:
		if (lane->have < header)
			return false;
		if (lane->ours)
			lanes_header_here(lane);
		else
			ps_header_here(lane);
		return true;
	case LANE_TAIL:
		if (lane->have < header + lane->tail_len)
			return false;
		tail_here(lane);
		return true;
	case LANE_BODY:
		break;
	}
	if (lane->have < lane->total)
		return false;
	body_here(lane);
	next_message(lane);
	return true;
}

void lane_receive(struct lane *lane, uint32_t events)
{
	/* A short read of a socket means that nothing more is there: should something come, the
	 * ring will say so.  Not so with TLS, and at the end of the stream. */
	bool to_the_end = !lane->plain || events & (POLLRDHUP | POLLHUP | POLLERR) || !events;
	size_t budget = REMOTE_BUDGET;

	if (lane->watch.state == WATCH_IDLE && lane->remote->ring && !lane->failed)
		lane_fail(lane, EIO, "the connection cannot be watched");
	while (!lane->failed) {
		size_t len = wanted(lane) - lane->have;
		ssize_t n = stream_read(lane->stream, lane->in + lane->at + lane->have, len);

		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			if (n < 0)
				lane_fail(lane, (int)-n, "receiving");
			else
				lane_fail(lane, EPROTO, "the server has closed the connection");
			return;
		}
		lane->have += (size_t)n;
		lane->remote->stats.bytes += (uint64_t)n;
		lane->quiet_since = clock_now();
		lane->pinged = false;
		while (!lane->failed && step(lane))
			;
		if ((size_t)n < len && !to_the_end)
			return;
		if ((size_t)n >= budget) {
			if (lane->remote->ring && !lane->failed)
				ring_again(lane->remote->ring, &lane->watch);
			return;
		}
		budget -= (size_t)n;
	}
}

uint64_t lane_prefix(struct lane *lane, const void **ret_bytes)
{
	const uint8_t *pages = lane->in + REMOTE_FRONT;
	uint64_t nr;

	if (lane->state != LANE_BODY || lane->blame || TAILQ_EMPTY(&lane->sent))
		return 0;
	if (lane->ours && lane->data.encoding != LANES_RAW)
		return 0;
	nr = lane->have - (lane->total - (lane->granted << PAGE_SHIFT));
	nr = min_u64(nr >> PAGE_SHIFT, lane->granted);
	if (lane->ours)
		nr = count_right(&lane->data, pages, nr);
	*ret_bytes = pages;
	return nr;
}
