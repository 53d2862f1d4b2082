/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lanes.c - one lane of our own helper (proto/lanes.h).
 *
 * An answer is built in one buffer and goes out by one write:
 *
 *	| ... room ... | header | tail | body = pages, or the same compressed |
 *	               ^ start          ^ BODY
 *
 * The tail grows with the number of pages, so header and tail are put in front of the body from
 * behind.  Pages are read with pread(2), never through the mapping: a file that was cut is an
 * answer "EIO" and not a SIGBUS, and what the sums are made of is what is sent.
 *
 * Memory: one buffer of LANES_MAX_BODY, or, where pages are compressed, two of half of that, so
 * never much more than 1 MiB, and touched only as far as requests reach.
 */
#include "proto/lanes.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/server/conn.h"
#include "criu-lazy/server/content.h"
#include "criu-lazy/server/server.h"

#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>

enum {
	BODY = LANES_HEADER + LANES_MAX_TAIL, /* where the body begins in a buffer */
	COMPRESSED_PAGES = LANES_MAX_PAGES / 2, /* of an answer that may be compressed */
	SKIP_MAX = 64, /* answers that are not tried after what did not compress */
};

struct lane {
	struct conn *conn;
	bool compress;
	uint8_t *raw; /* BODY + pages */
	uint8_t *packed; /* BODY + pages compressed */
	uint64_t max_pages;
	unsigned skip, last_skip; /* answers until the next attempt to compress */
	uint64_t sums[LANES_MAX_PAGES];
};

/* The next message whole: its header, and its tail copied out.  1, 0: hung up, negative errno. */
static int next_message(struct conn *conn, struct lanes_header *ret, uint8_t tail[LANES_HELLO_TAIL],
                        struct err *err)
{
	const uint8_t *bytes;
	int r = input_peek(&conn->in, LANES_HEADER, CLOCK_NEVER, &bytes, err), len;

	if (r <= 0)
		return r;
	lanes_decode(bytes, ret);
	if (ret->cmd == LANES_DATA || ret->cmd == LANES_MISS || ret->cmd == LANES_PONG)
		return err_set(err, EPROTO, "0x%x is not for a helper to say", ret->cmd);
	len = lanes_tail(ret, err);
	if (len < 0)
		return len;
	if (len > LANES_HELLO_TAIL)
		return err_set(err, EPROTO, "a message of %d bytes", len);
	r = input_peek(&conn->in, LANES_HEADER + (size_t)len, CLOCK_NEVER, &bytes, err);
	if (r <= 0)
		return r;
	r = lanes_verify(bytes, bytes + LANES_HEADER, (size_t)len, err);
	if (r < 0)
		return r;
	memcpy(tail, bytes + LANES_HEADER, (size_t)len);
	input_take(&conn->in, LANES_HEADER + (size_t)len);
	atomic_store(&conn->spoke, true);
	conn->nr_requests++;
	return 1;
}

/* --- hello ------------------------------------------------------------------------------------ */

static int send_hello(struct conn *conn, const struct lanes_header *theirs, uint32_t kind,
                      struct err *err)
{
	const struct lanes_hello hello = {
		.version = LANES_VERSION,
		.features = LANES_LZ4,
		.images = content_identity(conn->options->content),
		.kind = kind,
	};
	const struct lanes_header header = {.cmd = LANES_HELLO, .tag = theirs->tag};
	uint8_t out[LANES_HEADER + LANES_HELLO_TAIL];

	lanes_encode_hello(&hello, out + LANES_HEADER);
	lanes_encode(&header, out + LANES_HEADER, LANES_HELLO_TAIL, out);
	return conn_send(conn, out, sizeof(out), err);
}

/* A helper with other images is answered all the same: it knows what it wants, and says so. */
static int greet(struct lane *lane, struct err *err)
{
	struct conn *conn = lane->conn;
	uint8_t tail[LANES_HELLO_TAIL] = {0};
	struct lanes_header header;
	struct lanes_hello hello;
	int r = next_message(conn, &header, tail, err);

	if (r <= 0)
		return r;
	if (header.cmd != LANES_HELLO)
		return err_set(err, EPROTO, "0x%x before a hello", header.cmd);
	r = lanes_decode_hello(tail, &hello, err);
	if (r < 0) {
		/* Of another version, say: it may tell its user which one is here. */
		send_hello(conn, &header, LANE_URGENT, NULL);
		return r;
	}
	r = send_hello(conn, &header, hello.kind, err);
	if (r < 0)
		return r;
	if (hello.images && hello.images != content_identity(conn->options->content))
		log_warn("client %s restores other images (%016llx) than the ones served here "
		         "(%016llx)",
		         conn->peer, (unsigned long long)hello.images,
		         (unsigned long long)content_identity(conn->options->content));
	lane->compress = hello.kind == LANE_BULK && (hello.features & LANES_LZ4);
	return 1;
}

/* --- pages ------------------------------------------------------------------------------------ */

static int make_room(struct lane *lane, struct err *err)
{
	if (lane->raw)
		return 0;
	lane->max_pages = lane->compress ? COMPRESSED_PAGES : LANES_MAX_PAGES;
	lane->raw = malloc(BODY + (lane->max_pages << PAGE_SHIFT));
	if (lane->raw && lane->compress)
		lane->packed = malloc(BODY + (lane->max_pages << PAGE_SHIFT));
	if (!lane->raw || (lane->compress && !lane->packed))
		return err_set(err, ENOMEM, "a lane's buffers");
	return 0;
}

/* The length of the pages compressed, or 0 when that does not pay (an eighth or more). */
static int compress(struct lane *lane, uint64_t nr_pages)
{
	int len = (int)(nr_pages << PAGE_SHIFT), packed;

	if (!lane->compress)
		return 0;
	if (lane->skip) {
		lane->skip--;
		return 0;
	}
	packed = LZ4_compress_default((const char *)lane->raw + BODY, (char *)lane->packed + BODY,
	                              len, len - len / 8);
	if (packed > 0) {
		lane->last_skip = 0;
		return packed;
	}
	lane->last_skip = lane->last_skip ? lane->last_skip * 2 : 1;
	if (lane->last_skip > SKIP_MAX)
		lane->last_skip = SKIP_MAX;
	lane->skip = lane->last_skip;
	return 0;
}

static int send_data(struct lane *lane, const struct lanes_header *fetch, uint64_t nr_pages,
                     struct err *err)
{
	struct lanes_header header = *fetch;
	int packed = compress(lane, nr_pages);
	uint8_t *buf = packed ? lane->packed : lane->raw, *tail_at, *start;
	uint32_t len = packed ? (uint32_t)packed : (uint32_t)(nr_pages << PAGE_SHIFT);
	uint8_t tail[LANES_MAX_TAIL];
	size_t tail_len;

	for (uint64_t i = 0; i < nr_pages; i++)
		lane->sums[i] = lanes_page_sum(lane->raw + BODY + (i << PAGE_SHIFT));
	tail_len = lanes_encode_data(packed ? LANES_ENCODED_LZ4 : LANES_RAW, len, lane->sums,
	                             nr_pages, tail);
	header.cmd = LANES_DATA;
	header.nr_pages = nr_pages;
	tail_at = buf + BODY - tail_len;
	start = tail_at - LANES_HEADER;
	memcpy(tail_at, tail, tail_len);
	lanes_encode(&header, tail, tail_len, start);
	lane->conn->nr_pages += nr_pages;
	return conn_send(lane->conn, start, LANES_HEADER + tail_len + len, err);
}

static int send_short(struct lane *lane, const struct lanes_header *header, struct err *err)
{
	uint8_t out[LANES_HEADER];

	lanes_encode(header, NULL, 0, out);
	return conn_send(lane->conn, out, sizeof(out), err);
}

static int fetch(struct lane *lane, const struct lanes_header *header, struct err *err)
{
	struct lanes_header miss = *header;
	struct err why = {0};
	int64_t nr;
	int r = lanes_check_fetch(header, err);

	if (r == 0)
		r = make_room(lane, err);
	if (r < 0)
		return r;
	nr = content_read(lane->conn->options->content, header->pid, header->vaddr,
	                  min_u64(header->nr_pages, lane->max_pages), lane->raw + BODY, &why);
	if (nr > 0)
		return send_data(lane, header, (uint64_t)nr, err);
	log_warn("client %s: %s", lane->conn->peer, why.text);
	miss.cmd = LANES_MISS;
	miss.nr_pages = nr == -ENOENT ? ENOENT : EIO;
	return send_short(lane, &miss, err);
}

/* 1: go on; 0: the helper has everything; negative errno. */
static int obey(struct lane *lane, const struct lanes_header *header, struct err *err)
{
	struct lanes_header pong = *header;
	int r;

	switch (header->cmd) {
	case LANES_FETCH:
		r = fetch(lane, header, err);
		break;
	case LANES_PING:
		pong.cmd = LANES_PONG;
		r = send_short(lane, &pong, err);
		break;
	case LANES_BYE:
		return 0;
	default:
		return err_set(err, EPROTO, "a second hello");
	}
	return r < 0 ? r : 1;
}

static int run(struct lane *lane, struct err *err)
{
	uint8_t tail[LANES_HELLO_TAIL];
	struct lanes_header header;
	int r = greet(lane, err);

	if (r <= 0)
		return r < 0 ? r : 1;
	while ((r = next_message(lane->conn, &header, tail, err)) > 0) {
		r = obey(lane, &header, err);
		if (r <= 0)
			return r;
	}
	return r < 0 ? r : 1;
}

int serve_lanes(struct conn *conn, struct err *err)
{
	struct lane *lane = calloc(1, sizeof(*lane));
	int r;

	if (!lane)
		return err_set(err, ENOMEM, "a lane");
	lane->conn = conn;
	r = run(lane, err);
	free(lane->raw);
	free(lane->packed);
	free(lane);
	return r;
}
