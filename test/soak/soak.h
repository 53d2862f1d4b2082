/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The soak: rounds in which processes do every address-space operation there is on memory that is
 * still missing, while the helper that brings it is killed, stopped, delayed and cut off.
 *
 *	soak.c		options, the loop over rounds, the sums
 *	settings.c	what a round is like, from its seed alone
 *	round.c		one round: starts everybody, watches, judges
 *	world.c		the oracle: what each page must hold, and the operations
 *	tree.c		the restored processes: images, registering, the restorer's side of the
 *			socket
 *	killer.c	kills the worker at random; also a program by itself ("soak kill")
 *	report.c	what to tell of a round that failed
 *
 * A round, all of it from one seed:
 *
 *	runner --+-- helper (guardian) ---- worker  <--- kill, stop ---+
 *	         +-- page server, proxy     (some rounds)   <-- cut ---+
 *	         +-- killer -------------------------------------------+
 *	         +-- restorer --+-- task --- threads, children, their children
 *	                        +-- task ...
 *
 * Everything that the runner wants to know of the others is in struct shared, in memory that all of
 * them have in common and that no userfaultfd knows.
 */
#ifndef TEST_SOAK_H
#define TEST_SOAK_H

#include "test/zdtm/zdtm.h"

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#define SOAK_BASE UINT64_C(0x100000000000)

enum {
	MAX_TASKS = 3,
	MAX_THREADS = 5,
	MAX_AREAS = 6,
	MAX_PAGES = 256,
	SPARES = 3, /* places for areas that no area is at, in each task */
	MAX_KIDS = 3, /* children of a thread at a time */
	MAX_DEPTH = 2, /* children of children */
	TRACES = 64,
	TRACE_STEPS = 512,
	FIRST_PID = 1000, /* of the tasks in the images */
	ZOMBIE_PID = 2000,
	HANG_SECONDS = 20,
};

enum soak_end {
	END_CHECK, /* every page is looked at, then all exit */
	END_EARLY, /* a thread exits while the others are at work */
	END_KILLED, /* the tasks are killed while they are at work */
};

/* What a round is like.  Made from the seed by settings_make(). */
struct settings {
	uint64_t seed;
	unsigned int tasks, threads, areas, pages;
	unsigned int gap; /* pages between two places */
	unsigned int work_ms; /* after so long the threads come to their end */
	enum soak_end end;
	unsigned int end_ms; /* END_KILLED: when */
	bool zombie;
	bool cold; /* images that are not in the page cache */
	bool huge; /* MADV_HUGEPAGE from the start */
	/* the helper */
	char background[16];
	unsigned int jobs;
	unsigned int delay_us, short_pages; /* --filter */
	/* the network */
	bool remote, plain; /* plain: --protocol criu */
	unsigned int net_delay_us, split, cut_every;
	/* the killer */
	unsigned int kill_ms, cut_ms; /* on average; 0: never */
};

/* A page's id in the model. */
#define ID_ZERO  UINT32_C(0)
#define ID_NONE  UINT32_MAX /* nothing is mapped there */
#define ID_FREED UINT32_C(0x40000000) /* with an id: MADV_FREE was here: the page, or zeros */

/* What one thread knows.  A child of it goes on with a copy. */
struct world {
	uint64_t seed, rng;
	uint32_t next_id;
	unsigned int areas, pages;
	int task, thread, depth;
	struct trace *trace;
	struct shared *shared;
	uint8_t *area[MAX_AREAS];
	uint32_t id[MAX_AREAS][MAX_PAGES];
	pid_t kid[MAX_KIDS];
	bool kid_killed[MAX_KIDS];
};

/* The last steps of one thread or child, for the report. */
struct trace {
	_Atomic pid_t pid;
	int task, thread, depth;
	_Atomic unsigned int nr;
	struct step {
		int64_t ns;
		const char *op;
		unsigned int area, from, n, to_area, to_from;
	} step[TRACE_STEPS];
};

enum { KILL_KILL, KILL_ABRT, KILL_SEGV, KILL_STOP, NR_KILLS };

struct kill_stats {
	_Atomic uint64_t by[NR_KILLS];
	_Atomic uint64_t missing; /* kills and stops while pages were missing (looked up) */
	_Atomic uint64_t waiting; /* while a thread waited for one */
	_Atomic uint64_t pages_missing; /* their sum */
	_Atomic uint64_t workers; /* different ones seen */
	_Atomic uint64_t cuts;
};

#define MAX_OPS 24

struct shared {
	_Atomic uint64_t progress;
	_Atomic uint64_t ops[MAX_OPS];
	_Atomic uint64_t pages_checked;
	_Atomic int nr_ready;
	_Atomic bool go, handed_over, tree_ended, end;
	uint32_t without; /* bits of operations that are left out */
	_Atomic pid_t task_pid[MAX_TASKS];
	_Atomic bool task_going[MAX_TASKS];
	_Atomic unsigned int nr_traces;
	struct kill_stats kills;
	struct world world[MAX_TASKS][MAX_THREADS];
	struct trace trace[TRACES];
};

/* --- settings.c --- */

void settings_make(uint64_t seed, struct settings *s);
/* One line. */
void settings_print(const struct settings *s, char *text, size_t size);

/* --- world.c --- */

/* Of operation i; NULL after the last. */
const char *op_name(unsigned int i);
/* The address of place nr of a task. */
uint8_t *world_place(const struct settings *s, unsigned int nr);
void world_make(const struct settings *s, int task, int thread, struct shared *shared);
/* What a thread of a restored task does from then on. */
void world_live(struct world *w, const struct settings *s);
/* The task's own: places that no area is at. */
void world_init_places(const struct settings *s);

/* --- tree.c --- */

/* Writes DIR/img, and with remote DIR/lean, which lacks the pages.  0 or -1, having said why. */
int tree_images(const struct settings *s, const struct shared *shared, const char *dir);
/* In a process of its own: connects to the helper's socket, makes the tasks, waits for them. */
_Noreturn void tree_restore(const struct settings *s, struct shared *shared, const char *dir);

/* --- killer.c --- */

struct killer {
	pid_t helper;
	pid_t proxy; /* 0: none */
	uint64_t seed;
	unsigned int kill_ms, cut_ms;
	const struct settings *settings; /* NULL: unknown processes, nothing is looked up */
	struct shared *shared;
};

/* Until shared->end is set or the helper is gone. */
void killer_live(const struct killer *k);
/* "soak kill PID": argv from PID on. */
int killer_main(int argc, char **argv);
uint64_t kills_sum(const struct kill_stats *stats);

/* --- round.c --- */

struct totals {
	uint64_t passed, failed, skipped;
	uint64_t ops[MAX_OPS];
	uint64_t checked;
	uint64_t kills[NR_KILLS], missing, waiting, pages_missing, workers, cuts;
	uint64_t by_fault, by_background;
	uint64_t restarts;
};

struct runner {
	const char *helper; /* the program */
	const char *proxy;
	const char *tmp; /* a folder for rounds */
	bool kills, keep, verbose;
	uint32_t without;
	int log_level;
	struct shared *shared;
	struct totals totals;
	_Atomic bool interrupted;
};

/* 0: passed; 1: failed, and told. */
int round_run(struct runner *r, unsigned int nr, const struct settings *s);

/* --- report.c --- */

/* The end of a file, indented. */
void report_tail(const char *path, int lines);
/* The last steps of the thread and its children that "why" names, or of all; more go to a file. */
void report_traces(const struct shared *shared, const char *why, const char *path);
/* What all processes that descend from this one are doing. */
void report_stacks(void);

/* --- small things --- */

int64_t soak_now(void);
void soak_sleep_us(uint64_t us);

#endif
