/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TEST_PROXY_PROXY_H
#define TEST_PROXY_PROXY_H

#include <bsd/sys/queue.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "test/proxy/faults.h"
#include "test/proxy/queue.h"

/*
 * The parts of the proxy.  One thread: proxy.c waits, for sockets and for the next moment at which
 * bytes are due, and calls link_work() for each connection that something may have happened to.
 */

struct settings {
	uint64_t delay_ns; /* each way */
	uint64_t spin_ns; /* so long before bytes are due we do not sleep any more */
	uint64_t rate; /* bytes a second each way, of all connections together; 0: no limit */
	uint64_t split; /* bytes a send; 0: as they come */
	uint64_t buffer; /* bytes on their way, each direction of each connection */
	struct sockaddr_storage target;
	socklen_t target_len;
};

struct totals {
	uint64_t connections, up, down, cuts, handshakes, holes, refused;
};

/* One socket of a connection; edge-triggered: what it can is remembered here. */
struct end {
	struct link *link;
	int fd;
	bool can_read, can_write, hung_up;
};

/* What is read from one end and written to the other. */
struct way {
	struct end *from, *to;
	struct queue queue;
	struct fate fate;
	uint64_t pos; /* bytes read so far */
	bool ended; /* nothing is read any more: the end, a cut, a black hole */
	bool shut; /* the other end has been told so */
	uint64_t end_due; /* when it is told */
};

struct link {
	TAILQ_ENTRY(link) link;
	struct proxy *proxy;
	unsigned nr;
	struct end client, server;
	struct way up, down;
	bool connecting, hole, cutting, handshake;
	uint64_t cut_deadline;
};

struct proxy {
	struct settings set;
	struct faults faults;
	struct totals totals;
	struct pool pool;
	int epoll, listen_fd;
	unsigned nr_links;
	uint64_t up_free, down_free; /* with a rate: when the line has sent all that came so far */
	uint64_t listen_again; /* 0: we listen */
	bool cut_all_now;
	TAILQ_HEAD(links, link)
	links;
};

/* An accepted connection; the end of it is a matter of link.c. */
void link_new(struct proxy *p, int client_fd);
/* Moves what can be moved; returns when to be called again without any event (NEVER: not), and 0
 * for at once.  The link may be gone afterwards. */
uint64_t link_work(struct link *l, uint64_t now);
void link_close(struct link *l, bool reset);

/* A connection has been cut: new ones are refused for a while, if that was asked for. */
void proxy_refuse(struct proxy *p);

uint64_t clock_ns(clockid_t clock);
/* A line on stderr, with -v. */
void tell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
