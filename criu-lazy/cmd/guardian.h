/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guardian.h - the process that waits while another one works, and sees to it that there is one.
 *
 *	guardian	what the user has started; its only child is the
 *	worker		which does everything; when a signal ends it the guardian makes the next
 *			one, from its own memory, which is as it was before the first
 *	sentinel	nobody's child, in a session of its own: when the guardian has gone without
 *			a word it sees to it that nobody reads zeros, and takes its place for that
 *
 * All three share one table of descriptors (os/family.h), so none is closed by anybody's death
 * while one of them lives.
 */
#ifndef CRIU_LAZY_CMD_GUARDIAN_H
#define CRIU_LAZY_CMD_GUARDIAN_H

#include <stdbool.h>
#include <stdint.h>

struct err;

/* In memory that all of them share; zero at first. */
struct guard_memory {
	int32_t guardian_pidfd;
	int32_t worker_pidfd; /* -1: it has not begun */
	uint8_t ended; /* in order: nothing is left to be guarded */
	uint8_t abandoned; /* the processes are being stopped */
};

enum {
	WORKER_AGAIN = 70, /* a worker's exit status: it cannot go on, another one may */
	WORKER_NEVER, /* nor can another one: what it needs is damaged */
};

struct guarded {
	/*
	 * The worker's life: its exit status.  life: how many there were before.  abandon: stop the
	 * restored processes, or poison what they miss, instead of bringing it.
	 */
	int (*work)(void *cookie, unsigned life, bool abandon);
	/* No worker can do it: stop who can be stopped, and return when no memory is missing. */
	void (*last_resort)(void *cookie);
	/* Grows when a worker has achieved something. */
	uint64_t (*progress)(const void *cookie);
	/* By the guardian itself, when it gets SIGUSR1, from a worker that is ready. */
	void (*ready)(void *cookie);
	/* By the sentinel, when there is neither guardian nor worker any more. */
	void (*hand_over)(void *cookie);
	void *cookie;
	struct guard_memory *memory;
	enum guard_death {
		GUARD_DEATH_KILL, /* the sentinel has them stopped */
		GUARD_DEATH_CONTINUE, /* the sentinel becomes the guardian */
		GUARD_DEATH_HAND_OVER, /* the sentinel calls hand_over() and ends */
		GUARD_DEATH_NOTHING, /* there is no sentinel: somebody else keeps the descriptors */
	} on_death;
};

/* Returns the exit status of the last worker; < 0: there was never one, err tells why. */
int guardian_run(const struct guarded *guarded, struct err *err);

#endif
