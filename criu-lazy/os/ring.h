/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ring.h - the event loop: who is told when a descriptor has something to say, or when memory has
 * been read.  The only user of liburing.
 *
 *	struct watch w = {.ready = my_handler};
 *	ring_watch(ring, &w, fd, POLLIN, err);
 *	for (;;)
 *		ring_wait(ring, timeout);	calls w.ready(&w, events)
 *	ring_unwatch(ring, &w);			w.gone(&w) is called when the kernel has let go
 *
 * Polls are multishot: told once for each wake-up, so a handler reads until nothing is left.  A
 * struct watch belongs to its owner and must live until gone() was called.  One thread a ring.
 *
 * A handler that has read its share and leaves the rest for later, so that others get their turn,
 * says ring_again(); ready() is then called by the next ring_wait(), which does not sleep.
 */
#ifndef CRIU_LAZY_OS_RING_H
#define CRIU_LAZY_OS_RING_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct ring;

struct watch {
	void (*ready)(struct watch *w, uint32_t events); /* POLL* bits */
	void (*gone)(struct watch *w); /* may be NULL */
	/* private to ring.c */
	int fd;
	uint32_t events;
	enum {
		WATCH_IDLE,
		WATCH_ARMED,
		WATCH_REFUSED, /* no memory for it in the kernel, say: armed anew in a moment */
		WATCH_CANCELLED,
	} state;
	bool again, later, later_due;
	struct watch *next_again, *next_later;
};

/* Memory that is to be read from its file, by a thread of the kernel. */
struct populate {
	/* res: 0, or what madvise(2) has to say, negative.  *p belongs to its owner again. */
	void (*done)(struct populate *p, int res);
	/* private to ring.c */
	struct populate *next, **prev;
};

/* -ENOSYS, -EPERM and so on where io_uring is not to be had; `criu-lazy check` tells why. */
int ring_new(struct ring **ret, struct err *err);

/*
 * NULL is fine.  Watches that are still armed are forgotten without gone(); what is populated is
 * given up (-ECANCELED).
 */
void ring_free(struct ring *ring);

/*
 * What the kernel refuses for the moment (no memory) is no error: it is asked again until it
 * agrees. On an error the ring has forgotten w.
 */
int ring_watch(struct ring *ring, struct watch *w, int fd, uint32_t events, struct err *err);

/* After this ready() is not called any more.  Does nothing for a watch that is not armed, except
 * that gone() is called at once. */
void ring_unwatch(struct ring *ring, struct watch *w);

/* Call ready(w, 0) once in the next ring_wait(), whether or not the kernel has something to say.
 * Does nothing for a watch that is not armed. */
void ring_again(struct ring *ring, struct watch *w);

/*
 * The same in some 10 ms: for a handler that was refused what it needs (a descriptor, memory),
 * while what it was called for is still there.
 */
void ring_retry(struct ring *ring, struct watch *w);

/*
 * madvise(MADV_POPULATE_READ) for len bytes at addr, which may take as long as a disk likes;
 * done() is called from ring_wait().  There is no way to end it before.
 */
void ring_populate(struct ring *ring, struct populate *p, const void *addr, uint64_t len);

/*
 * Wait for at most timeout nanoseconds (0: do not wait, INT64_MAX: no limit), call the handlers of
 * all that is ready.  Returns how many were called, 0 on timeout or signal, or a negative errno.
 */
int ring_wait(struct ring *ring, int64_t timeout, struct err *err);

#endif
