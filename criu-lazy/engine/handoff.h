/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * handoff.h - how the processes of one restore come to the helper: the lazy-pages socket.
 *
 *	LISTENING --a peer says something--> TALKING --"finished"--> DONE
 *	                                        |
 *	                                        +-----anything else--> FAILED
 *
 * Who connects and says nothing is kept while it does not speak (callers.h).  The first one that
 * does is the restorer: all others, and whoever connects from then on, are sent away.
 */
#ifndef CRIU_LAZY_ENGINE_HANDOFF_H
#define CRIU_LAZY_ENGINE_HANDOFF_H

#include "criu-lazy/os/unixsock.h"

struct err;
struct handoff;
struct plan;
struct pool;

enum handoff_state { HANDOFF_LISTENING, HANDOFF_TALKING, HANDOFF_DONE, HANDOFF_FAILED };

/* What survives a worker; for the next one. */
struct handoff_memory {
	struct journal *journal; /* what the restorer has said */
	uint8_t *taken; /* a byte for each process of the plan: an engine's journal has it */
};

/*
 * Watches the socket from pool's first engine.  Borrows everything; the socket stays the caller's.
 * memory (NULL: none) may have something in it already: then that is gone through first, and
 * processes that no engine has taken are adopted now.
 */
int handoff_new(struct pool *pool, struct plan *plan, const struct unixsock *sock,
                const struct handoff_memory *memory, struct handoff **ret, struct err *err);

/* add() each connection; stops at a negative answer, and returns it. */
int handoff_descriptors(const struct handoff *h, int (*add)(void *cookie, int fd), void *cookie);

/*
 * A connection that was accepted by a worker that died, and that is not the restorer's as far as
 * is known.  Taken over.
 */
void handoff_found(struct handoff *h, int fd);

/* FAILED: err tells why. */
enum handoff_state handoff_state(const struct handoff *h, struct err *err);

/*
 * Nothing more is taken over, and it is not finished: who has sent a userfaultfd that nobody has
 * received, also by a connection that nobody has accepted, is killed, lest it read zeros.
 */
void handoff_refuse(struct handoff *h);

/* After the pool is gone, whose ring holds its watches.  NULL is fine. */
void handoff_free(struct handoff *h);

#endif
