/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * handoff.h - how the processes of one restore come to the helper: the lazy-pages socket.
 *
 *	LISTENING --a peer connects--> TALKING --"finished"--> DONE
 *	    ^                             |
 *	    +--it leaves without a word---+--anything else--> FAILED
 *
 * One restorer at a time; another one that connects meanwhile is sent away.
 */
#ifndef CRIU_LAZY_ENGINE_HANDOFF_H
#define CRIU_LAZY_ENGINE_HANDOFF_H

#include "criu-lazy/os/unixsock.h"

struct err;
struct handoff;
struct plan;
struct pool;

enum handoff_state { HANDOFF_LISTENING, HANDOFF_TALKING, HANDOFF_DONE, HANDOFF_FAILED };

/* Watches the socket from pool's first engine.  Borrows everything; the socket stays the caller's.
 */
int handoff_new(struct pool *pool, struct plan *plan, const struct unixsock *sock,
                struct handoff **ret, struct err *err);

/* FAILED: err tells why. */
enum handoff_state handoff_state(const struct handoff *h, struct err *err);

/* After the pool is gone, whose ring holds its watches.  NULL is fine. */
void handoff_free(struct handoff *h);

#endif
