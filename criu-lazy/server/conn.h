/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * conn.h - one connection to a client, for as long as it lasts.
 *
 * conn_serve() runs in a thread of its own, from the TLS handshake to the end.  The first bytes
 * tell which protocol the client speaks (proto/ps.h in one of two layouts, proto/lanes.h); after
 * that it is up to
 *
 *	serve_pages()	serve.c: GET of a stock helper, until the client asks for lanes
 *	serve_lanes()	lanes.c: one lane of our own helper
 *	receive()	receive.c: images of a stock dumper
 *
 * each of which goes on until the connection is at its end, and says how it ended.
 */
#ifndef CRIU_LAZY_SERVER_CONN_H
#define CRIU_LAZY_SERVER_CONN_H

#include "criu-lazy/server/input.h"
#include "proto/ps.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct content;
struct err;
struct server_options;
struct stream;

/* Named limits. */
#define CONN_HANDSHAKE_NS (30 * NSEC_PER_SEC) /* of TLS */
#define CONN_SEND_NS      (300 * NSEC_PER_SEC) /* a client that takes nothing for so long is gone */
#define CONN_GOODBYE_NS   (5 * NSEC_PER_SEC) /* after CLOSE, for the client to hang up */

enum conn_end {
	CONN_DONE, /* it said that it has everything, or (as CRIU has it) just hung up */
	CONN_BROKEN, /* a client that had begun was lost, or dropped */
	CONN_LANE_LOST, /* a lane broke: its helper will come back */
	CONN_NOBODY, /* dropped before it had said anything sensible */
};

struct conn {
	/* Set by the server. */
	const struct server_options *options;
	int fd; /* taken over */
	char peer[64]; /* for logs */

	/* Of the connection's own thread. */
	struct stream *stream;
	struct input in;
	enum ps_layout layout;
	bool ours; /* the client has asked for lanes, and not said CLOSE since */
	uint64_t nr_requests, nr_pages;

	/* Shared with the server. */
	atomic_bool told; /* the server has shut it down, and has said why */
	atomic_bool spoke; /* it has said something sensible */
	enum conn_end end; /* after the thread's end */
};

/* From the handshake to the end; all is closed and freed but conn itself. */
void conn_serve(struct conn *conn);

/*
 * The next header of conn->layout.  Returns 1; 0: the client has hung up; -EPROTO: refused by the
 * gate.  A serving server sees *ret_hello when our own protocol begins here, nothing is taken then.
 */
int conn_header(struct conn *conn, struct ps_header *ret, bool *ret_hello, struct err *err);

/* Answer CLOSE: int32 0, then wait for the client to hang up. */
void conn_goodbye(struct conn *conn);

int conn_send(struct conn *conn, const void *buf, size_t len, struct err *err);

/* 1: go on with serve_lanes(); 0: the client is at its end; negative errno. */
int serve_pages(struct conn *conn, struct err *err);

/* 0: the helper has everything; 1: it hung up without saying so; negative errno. */
int serve_lanes(struct conn *conn, struct err *err);

/* 0: a set of images has been stored; negative errno. */
int receive(struct conn *conn, struct err *err);

#endif
