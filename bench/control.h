/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef BENCH_CONTROL_H
#define BENCH_CONTROL_H

/*
 * The page of memory that workload and supervisor share: a file, mapped shared by both.
 *
 * The workload is dumped while it spins on `released`.  The supervisor sets it (and what is to be
 * done) in the file before the restore, so that the restored program's very next load sees it: no
 * signal and no timer lies between the end of the restore and the first effect.  Times are in ns,
 * CLOCK_MONOTONIC or CLOCK_REALTIME as they say: the restore gives the program another monotonic
 * clock (a time namespace), so only real times are compared with those of other processes.
 */

#include <stdint.h>

#define CONTROL_MAGIC       0x68636e6262636c31ull
#define CONTROL_SIZE        4096
#define CONTROL_MAX_THREADS 16

enum control_mode {
	MODE_IDLE = 0, /* touch nothing */
	MODE_RANDOM = 1, /* every page once, in a shuffled order */
	MODE_SEQUENTIAL = 2, /* every page once, in the order of addresses */
};

/* Set by the workload, only ever upwards: READY -> STARTED -> DONE -> VERIFIED. */
enum control_state {
	STATE_NONE = 0,
	STATE_READY = 1, /* filled; may be dumped */
	STATE_STARTED = 2, /* first instruction after the restore */
	STATE_DONE = 3, /* touched what the mode says */
	STATE_VERIFIED = 4, /* looked at every word, wrote its results */
};

struct control {
	uint64_t magic;
	/* by the supervisor */
	uint32_t released;
	uint32_t mode;
	uint32_t threads;
	uint32_t verify;
	/* by the workload */
	uint32_t state;
	int32_t pid;
	uint64_t nr_pages;
	uint64_t nr_vmas;
	uint64_t ready_mono, ready_real;
	uint64_t first_mono, first_real;
	uint64_t start_mono, end_mono;
	uint64_t wrong_pages; /* UINT64_MAX: not known (yet) */
	struct {
		uint64_t touched; /* progress, for runs that are stopped */
		uint64_t pad[7];
	} thread[CONTROL_MAX_THREADS];
};

_Static_assert(sizeof(struct control) <= CONTROL_SIZE, "the control block is one page");

#endif
