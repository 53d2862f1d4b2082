/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * callers.h - who has connected to the lazy-pages socket and not said anything yet.
 *
 * The first of them to speak is the restorer.  Until then nobody knows: somebody may only look
 * whether there is a helper, or stay for ever, and must keep nobody waiting.  So some are kept open
 * at a time; one more, and the oldest is sent away.
 *
 *	callers_init(&c, engine, sock, again);
 *	fd = callers_spoken(&c);	the restorer's, if there is one; whenever again() is called
 *	callers_add(&c, fd);		who was accepted
 *	callers_send_away(&c);		the restorer is known: all others
 *
 * There is no journal of them: they are descriptors that are connected to the socket, and are found
 * as such by the next worker.
 */
#ifndef CRIU_LAZY_ENGINE_CALLERS_H
#define CRIU_LAZY_ENGINE_CALLERS_H

#include "criu-lazy/os/ring.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct callers;
struct engine;
struct unixsock;

enum {
	CALLERS_MAX = 8, /* silent ones at a time */
	CALLERS_PLACES =
		2 * CALLERS_MAX, /* the kernel lets go of a closed one's poll a bit later */
};

struct caller {
	struct callers *all;
	struct watch watch;
	int fd; /* -1: none */
	uint64_t nr; /* the lower, the longer it is here */
};

struct callers {
	struct engine *engine;
	const struct unixsock *sock;
	void (*again)(struct callers *c); /* somebody may have spoken, or there is a place again */
	uint64_t nr_ever;
	struct caller places[CALLERS_PLACES];
};

/* Borrows both.  c must not move, and live as long as the engine's ring. */
void callers_init(struct callers *c, struct engine *engine, const struct unixsock *sock,
                  void (*again)(struct callers *c));

/* Is there a place for one more?  If not, again() will be called. */
bool callers_has_place(const struct callers *c);

/* Takes over a connection, for which there must be a place.  May send the oldest one away. */
void callers_add(struct callers *c, int fd);

/*
 * Of those that have said something the one that is here longest; it is the caller's of this
 * function from then on, and nothing is read from it.  -1: nobody has.  Who has left is forgotten.
 */
int callers_spoken(struct callers *c);

void callers_send_away(struct callers *c);

/* add() each descriptor; stops at a negative answer, and returns it. */
int callers_descriptors(const struct callers *c, int (*add)(void *cookie, int fd), void *cookie);

/* When the ring is gone. */
void callers_close(struct callers *c);

/* --- whose connection ends before its processes were taken over ------------------------------- */

/*
 * A userfaultfd that nobody will serve: its process must not outlive it, or it reads zeros.  The
 * sender is the process itself (SO_PASSCRED), and as it has waited for the restorer since, or for a
 * page, the pid is still its own.
 */
void refuse_sender(pid_t pid);

/* The peer cannot send any more from now on; who has sent a userfaultfd is refused. */
void refuse_queued(int conn);

#endif
