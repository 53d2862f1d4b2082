/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * server.h - the page server: accepts clients, gives each a thread, and knows when it is done.
 *
 *	struct server_options options = {.role = PS_SERVING, .listen_fd = fd, .ps_socket = -1,
 *					 .content = content};
 *	r = server_run(&options, &err);
 *
 * The caller has opened what is served (content.h) or stored to (images/store.h), and listens
 * already.  No client can disturb another: each has its own thread with a small stack, what it may
 * take of memory and time is limited by name (here, in conn.h and input.h), and when all places are
 * taken the one that has said nothing sensible for the longest time makes room.
 */
#ifndef CRIU_LAZY_SERVER_SERVER_H
#define CRIU_LAZY_SERVER_SERVER_H

#include "criu-lazy/base/clock.h"
#include "proto/ps.h"

#include <stdbool.h>
#include <stdint.h>

struct content;
struct err;
struct store;
struct tls;

/* Named limits. */
enum {
	SERVER_MAX_CLIENTS = 1024, /* connections at a time; the next one is sent away */
	SERVER_STACK = 256 << 10, /* of a connection's thread */
};
/* With once: how long a lost helper is waited for. */
#define SERVER_RETURN_NS (600 * NSEC_PER_SEC)

struct server_options {
	enum ps_role role;
	int listen_fd; /* -1: none; stays the caller's */
	bool is_unix; /* it is a unix socket */
	int ps_socket; /* a connected stream that is the only client; -1: none; taken over */
	bool once; /* end with the first client */
	int64_t return_ns; /* another limit than SERVER_RETURN_NS, for tests; 0: that */
	struct tls *tls; /* NULL: none */
	const char *peer_name; /* what a client's certificate must be for; NULL: any */
	struct content *content; /* PS_SERVING */
	struct store *store; /* PS_STORING */
};

/*
 * Serve until SIGTERM or SIGINT, or, with once, until a client has ended:
 *
 *	one that said CLOSE or BYE, or hung up between two messages	0
 *	one that was lost or dropped in the middle			-EIO
 *	our helper, when no lane of it is left without a BYE: it may	goes on for
 *	come back							SERVER_RETURN_NS
 *	one that never said anything sensible				goes on
 *
 * A storing client has to say CLOSE.  Clients that are being served when it ends may finish.
 * -EINTR: a signal came, with once, before a client had ended.  The two signals must be blocked by
 * the caller, before any thread was started.
 */
int server_run(const struct server_options *options, struct err *err);

#endif
