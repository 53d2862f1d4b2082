/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * serve.c - the pages of an image directory for a helper that speaks CRIU's protocol.
 *
 * A reply is promised by its header, and the protocol has no way to say "no": so everything that
 * can be known is looked at before the header goes out, and a client that asks for what is not
 * there is dropped.  Few pages, as for a fault, go out with their header in one piece; many are
 * sent from the page cache by the kernel.
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

/* So many are copied into one packet with their header.  (On the stack of a connection's thread.)
 */
enum { FEW_PAGES = 8 };

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
	uint8_t head[PS_HEADER_MAX];
	struct pages_piece piece;
	uint64_t sent;
	int r;

	r = content_find(conn->options->content, reply->dst_id, reply->vaddr, reply->nr_pages,
	                 &piece, err);
	if (r < 0)
		return r;
	reply->nr_pages = piece.nr_pages;
	r = conn_send(conn, head, ps_encode(conn->layout, reply, head), err);
	if (r < 0)
		return r;
	return stream_send_file(conn->stream, piece.fd, piece.offset, piece.nr_pages << PAGE_SHIFT,
	                        CONN_SEND_NS, &sent, err);
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
