/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * engine.h - serves the faults of a set of address spaces from one thread.
 *
 *	engine_new(&options, &engine, err);
 *	engine_adopt(engine, &process, err);		for each process that sent its userfaultfd
 *	engine_begin_background(engine);		when the restorer says "finished"
 *	while (engine_nr_sessions(engine) && !engine_turn(engine, CLOCK_NEVER, err))
 *		;
 *
 * One turn: wait for something to happen, read all events of who has some, answer faults, then copy
 * one short background chunk.  A session (one address space) ends by itself when nothing of it is
 * missing any more or its process is gone.
 *
 * An engine belongs to one thread.  It logs (this floor and cmd/ do).
 */
#ifndef CRIU_LAZY_ENGINE_ENGINE_H
#define CRIU_LAZY_ENGINE_ENGINE_H

#include "criu-lazy/base/hist.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine;
struct err;
struct journal;
struct ring;
struct source;
struct tracker;

enum background { BACKGROUND_FULL, BACKGROUND_OFF, BACKGROUND_RATE };
enum low_latency { LOW_LATENCY_AUTO, LOW_LATENCY_ON, LOW_LATENCY_OFF };
enum on_lost { ON_LOST_KILL, ON_LOST_POISON };

/* Descriptors without which nobody else could go on; also letters of their names in a store. */
enum engine_kept {
	KEPT_UFFD = 'u',
	KEPT_PIDFD = 'p',
	KEPT_CONNECTION = 'c', /* with the restorer */
};

struct engine_options {
	enum background background;
	uint64_t rate; /* BACKGROUND_RATE: bytes a second */
	enum low_latency low_latency;
	enum on_lost on_lost;
	bool copier; /* a second thread for bulk copies; for when there is a processor for it */
	struct journal *journal; /* what another worker can go on from; NULL: none */
	/*
	 * Somebody outside who keeps descriptors (NULL: nobody): told of each before anything
	 * follows from its arrival (again, by who goes on), and before it is closed, when the
	 * journal has it. By any engine's thread; must not wait for long.
	 */
	void (*keep)(void *cookie, enum engine_kept what, int fd, bool keep);
	void *keep_cookie;
};

struct engine_stats {
	uint64_t pages_fault; /* copied because a thread waited */
	uint64_t pages_background;
	uint64_t pages_zero; /* faults on memory that the image does not have */
	uint64_t pages_lost;
	uint64_t pages_total; /* lazy at the start, all processes */
	uint64_t pages_missing; /* now */
	uint64_t sessions; /* ever, children included */
	uint64_t sessions_exited; /* whose process was gone before everything had arrived */
	uint64_t sessions_lost; /* killed, or poisoned in part */
	struct hist fault; /* from reading the message to waking the thread */
};

/* The state of an engine's journal (journal_options.state_size); flight.c tells of the rest. */
enum { ENGINE_FLIGHTS = 3, ENGINE_SUSPECTS = 64 };

struct engine_state {
	struct engine_stats stats;
	struct engine_flight {
		uint64_t start;
		uint64_t nr_pages; /* 0: none */
		uint32_t session;
	} flight[ENGINE_FLIGHTS];
	uint32_t nr_suspects;
	uint32_t suspects_all; /* there were more */
	struct engine_suspect {
		uint64_t page; /* tracker_page() */
		uint64_t nr_pages;
		uint32_t family;
	} suspect[ENGINE_SUSPECTS];
	/* Sessions are counted in the order of their numbers, once: session_count(). */
	uint32_t counted; /* those with lower numbers */
	uint32_t unused;
	struct {
		uint64_t sessions, pages_total;
	} sum; /* with the last one of them: what belongs into stats */
};

int engine_new(const struct engine_options *options, struct engine **ret, struct err *err);

/* Sessions that are left are closed: only for when nobody needs them any more. */
void engine_free(struct engine *engine);

/*
 * Before engine_free(): nothing is closed or recorded by that.  For one that has gone on and is
 * given up at once, because others could not: the next worker finds everything as it was.
 */
void engine_leave(struct engine *engine);

/* As the options say; nothing for a negative fd. */
void engine_keep(const struct engine *engine, enum engine_kept what, int fd, bool keep);

/* For further descriptors that the same loop should watch. */
struct ring *engine_ring(struct engine *engine);

/* A process that has handed over its userfaultfd. */
struct engine_process {
	uint32_t pid; /* in its namespace: what logs say */
	int uffd;
	int pidfd; /* -1: unknown; then it cannot be killed, only poisoned */
	struct tracker *tracker;
	struct source *source;
	bool expected; /* engine_expect() was told of it */
	uint32_t index; /* in the plan: which source it is, for who goes on from the journal */
	uint8_t *taken; /* set to 1 once the journal has it; may be NULL */
};

/*
 * A process that will be handed over soon: what its source can do ahead (reading from disk,
 * mapping) may begin.  true: it has begun.
 */
bool engine_expect(struct engine *engine, const struct tracker *tracker, struct source *source);

/* Takes over everything in process, also on failure. */
int engine_adopt(struct engine *engine, const struct engine_process *process, struct err *err);

/*
 * Instead of engine_adopt(): go on with everything that the journal of the options tells.  source()
 * gives one more owner of the source of the process with that index, or NULL; taken, of nr bytes,
 * is set to 1 for each index that is found.  Whoever was before must be gone.
 */
struct engine_resume {
	struct source *(*source)(void *cookie, uint32_t index);
	void *cookie;
	uint8_t *taken;
	size_t nr;
};

int engine_resume(struct engine *engine, const struct engine_resume *how, struct err *err);

/* When no engine can go on: SIGKILL to every process that the journal names.  Needs no engine. */
void engine_kill_recorded(struct journal *journal);

/* fd is one that a session needs: call add() for each.  Negative: what add() said. */
int engine_descriptors(const struct engine *engine, int (*add)(void *cookie, int fd), void *cookie);

/* From now on pages may be copied that nobody asked for. */
void engine_begin_background(struct engine *engine);

/* From now on in the background at full speed, whatever the options say: the helper wants to end.
 */
void engine_hurry(struct engine *engine);

/* One turn; waits until `until` (CLOCK_MONOTONIC, ns) at the longest. */
int engine_turn(struct engine *engine, int64_t until, struct err *err);

size_t engine_nr_sessions(const struct engine *engine);

/*
 * Nothing is brought any more: every process that misses something is stopped, or what it misses is
 * poisoned, as options.on_lost says (and where it cannot be named).  Go on taking turns until no
 * session is left.  why: for the log.
 */
void engine_abandon(struct engine *engine);

void engine_stats(const struct engine *engine, struct engine_stats *ret);

/* What was read cannot be applied (no memory): engine_turn() says so, the journal has it. */
void engine_fail(struct engine *engine, const struct err *err);

#endif
