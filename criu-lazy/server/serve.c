/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * serve.c - the pages of an image directory for a helper that speaks CRIU's protocol.
 *
 * A reply is promised by its header, and the protocol has no way to say "no": so everything that
 * can be known is looked at before the header goes out, and a client that asks for what is not
 * there is dropped.  Few pages, as for a fault, go out with their header in one piece; many in
 * portions behind it.
 *
 * Not by sendfile(2), though that is a third faster where the network is the loopback: what it puts
 * on its way is not the bytes but the pages of the page cache, and who writes to the file while
 * they wait in a socket changes what the client gets.  A portion is read, the file is looked at
 * again, and then it is sent; if the file was changed the client is dropped with the answer
 * incomplete.
 */
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/os/stream.h"
#include "criu-lazy/server/conn.h"
#include "criu-lazy/server/content.h"
#include "criu-lazy/server/server.h"
#include "images/pages.h"
#include "proto/lanes.h"

#include <errno.h>

/* On the stack of a connection's thread. */
enum {
	FEW_PAGES = 8, /* are copied into one packet with their header */
	PORTION = 16, /* pages */
};

static int send_few(struct conn *conn, struct ps_header *reply, struct err *err)
{
	uint8_t buf[PS_HEADER_MAX + FEW_PAGES * PAGE_SIZE];
	size_t head = ps_header_size(conn->layout);
	int64_t nr;

	nr = content_read(conn->options->content, reply->dst_id, reply->vaddr, reply->nr_pages,
	                  buf + head, err);
	if (nr < 0)
		return (int)nr;
	reply->nr_pages = (uint64_t)nr;
	ps_encode(conn->layout, reply, buf);
	return conn_send(conn, buf, head + ((size_t)nr << PAGE_SHIFT), err);
}

static int send_many(struct conn *conn, struct ps_header *reply, struct err *err)
{
	uint8_t head[PS_HEADER_MAX], buf[PORTION * PAGE_SIZE];
	struct pages_piece piece;
	uint64_t done = 0;
	int64_t nr;
	int r;

	r = content_find(conn->options->content, reply->dst_id, reply->vaddr, reply->nr_pages,
	                 &piece, err);
	if (r < 0)
		return r;
	reply->nr_pages = piece.nr_pages;
	r = conn_send(conn, head, ps_encode(conn->layout, reply, head), err);
	while (r == 0 && done < piece.nr_pages) {
		nr = content_read(conn->options->content, reply->dst_id,
		                  reply->vaddr + (done << PAGE_SHIFT),
		                  min_u64(PORTION, piece.nr_pages - done), buf, err);
		if (nr < 0)
			return (int)nr;
		r = conn_send(conn, buf, (size_t)nr << PAGE_SHIFT, err);
		done += (uint64_t)nr;
	}
	return r;
}

static int answer(struct conn *conn, const struct ps_header *get, struct err *err)
{
	struct ps_header reply = {
		.cmd = PS_ADD_F | PS_PRESENT_FLAG << 16,
		.mark = get->mark == LANES_ASK ? LANES_ANSWER : 0,
		.nr_pages = get->nr_pages,
		.vaddr = get->vaddr,
		.dst_id = get->dst_id,
	};
	int r;

	/* With TLS a header is a record of its own: stock clients receive it by one call. */
	if (get->nr_pages <= FEW_PAGES && stream_is_plain(conn->stream))
		r = send_few(conn, &reply, err);
	else
		r = send_many(conn, &reply, err);
	if (r < 0)
		return err_wrap(err, "GET of %llu pages at 0x%llx of process %llu",
		                (unsigned long long)get->nr_pages, (unsigned long long)get->vaddr,
		                (unsigned long long)get->dst_id);
	conn->nr_pages += reply.nr_pages;
	return 0;
}

int serve_pages(struct conn *conn, struct err *err)
{
	struct ps_header header;
	bool hello;
	int r;

	while ((r = conn_header(conn, &header, &hello, err)) > 0) {
		if (hello)
			return 1;
		conn->ours = header.mark == LANES_ASK || conn->ours;
		if (ps_command(&header) != PS_GET) {
			conn->ours = false;
			conn_goodbye(conn);
			return 0;
		}
		r = answer(conn, &header, err);
		if (r < 0)
			return r;
	}
	return r;
}
