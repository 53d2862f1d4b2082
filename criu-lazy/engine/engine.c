/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The turn of an engine, and its life.  See engine.h. */
#include "criu-lazy/engine/engine.h"

#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/engine/copier.h"
#include "criu-lazy/engine/journal.h"
#include "criu-lazy/engine/session.h"
#include "criu-lazy/os/latency.h"
#include "criu-lazy/os/uffd-abi.h"
#include "criu-lazy/os/uffd.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int64_t CHECK_EVERY = 1 * NSEC_PER_SEC;
static const int64_t SPIN_TIME = 40 * NSEC_PER_USEC; /* after a fault, before sleeping */
static const int64_t HOLD_TIME = 50 * NSEC_PER_MSEC; /* processors awake after a fault */

/*
 * The restorer says "finished" and then lets its tasks go one by one.  Copying at full speed in
 * that moment kept a program from its first instruction until the next tick of the scheduler (4 ms
 * seen).
 */
static const int64_t HEAD_START = 1500 * NSEC_PER_USEC;

void engine_keep(const struct engine *engine, enum engine_kept what, int fd, bool keep)
{
	if (engine->options.keep && fd >= 0)
		engine->options.keep(engine->options.keep_cookie, what, fd, keep);
}

void engine_fail(struct engine *engine, const struct err *err)
{
	if (!engine->failed.code)
		engine->failed = *err;
}

/* --- the turn -------------------------------------------------------------------------------- */

/* Nothing missing, nothing unread, nothing unfinished: then, and only then, it may be closed. */
static bool complete(struct session *s)
{
	enum uffd_outcome outcome;

	if (tracker_nr_missing(s->tracker) || s->faults.nr || s->waiting.nr ||
	    !s->engine->background)
		return false;
	outcome = uffd_quiet(s->uffd);
	if (outcome == UFFD_EXITED)
		session_end(s, true);
	if (outcome != UFFD_DONE)
		return false;
	if (!session_drain(s))
		return true;
	session_ready(s); /* what came is read, so the ring has nothing to tell about it */
	return false;
}

static void serve(struct session *s)
{
	s->retry_at = CLOCK_NEVER;
	if (s->state == SESSION_DOOMED) {
		/* Its threads are dying; what they wait for is answered by nobody. */
		session_check(s);
		return;
	}
	session_drain(s);
	if (s->state != SESSION_SERVING || s->engine->failed.code)
		return;
	if (!session_quiet(s)) {
		if (s->state == SESSION_SERVING)
			session_retry(s);
		return;
	}
	if (!SLIST_EMPTY(&s->parked))
		session_place_parked(s);
	if (s->state != SESSION_SERVING)
		return;
	if (s->faults.nr) {
		session_answer_faults(s);
		s->engine->answered = true;
	} else {
		s->retry_delay = 0;
	}
	if (s->state == SESSION_SERVING && complete(s))
		session_end(s, false);
}

static void serve_ready(struct engine *engine)
{
	struct session_list now = TAILQ_HEAD_INITIALIZER(now);
	struct session *s;

	TAILQ_CONCAT(&now, &engine->ready, ready_link);
	while ((s = TAILQ_FIRST(&now))) {
		TAILQ_REMOVE(&now, s, ready_link);
		s->on_ready = false;
		if (s->state != SESSION_ENDED)
			serve(s);
	}
}

static void run_timed(struct engine *engine, int64_t now)
{
	struct session *s, *next;

	TAILQ_FOREACH_SAFE(s, &engine->timed, timed_link, next) {
		if (s->state != SESSION_ENDED) {
			if (s->retry_at <= now)
				session_ready(s);
			if (source_deadline(s->source) <= now)
				source_run(s->source, now);
		}
		if (s->state == SESSION_ENDED ||
		    (s->retry_at == CLOCK_NEVER && !tracker_any_ticket(s->tracker))) {
			TAILQ_REMOVE(&engine->timed, s, timed_link);
			s->on_timed = false;
		}
	}
}

static void free_ended(struct engine *engine)
{
	struct session *s, *next;

	TAILQ_FOREACH_SAFE(s, &engine->ended, link, next) {
		if (s->nr_watches || s->on_ready || s->on_timed)
			continue;
		TAILQ_REMOVE(&engine->ended, s, link);
		session_free(s);
	}
}

static void check_all(struct engine *engine, int64_t now)
{
	struct session *s, *next;

	engine->next_check = now + CHECK_EVERY;
	TAILQ_FOREACH_SAFE(s, &engine->sessions, link, next)
		session_check(s);
}

static bool spinning(const struct engine *engine, int64_t now)
{
	return engine->options.low_latency != LOW_LATENCY_OFF && engine->nr_cpus > 1 &&
	       engine->hot && now - engine->last_fault < SPIN_TIME;
}

static void hold_latency(struct engine *engine, int64_t now, bool busy)
{
	/*
	 * Not before the program runs: the restorer has few faults and much to compute, and a
	 * processor that polls takes from its hyperthread sibling (a tenth of the restore's time
	 * was seen).
	 */
	bool want = !engine->background ? false
	            : engine->options.low_latency == LOW_LATENCY_ON
	                    ? engine->stats->pages_missing > 0
	            : engine->options.low_latency == LOW_LATENCY_AUTO
	                    ? busy || now - engine->last_fault < HOLD_TIME
	                    : false;

	if (want && engine->latency_fd < 0 && !engine->latency_failed) {
		engine->latency_fd = latency_hold();
		if (engine->latency_fd < 0) {
			engine->latency_failed = true;
			log_info("processors may sleep between faults: /dev/cpu_dma_latency: %s",
			         strerror(-engine->latency_fd));
		}
	} else if (!want && engine->latency_fd >= 0) {
		close(engine->latency_fd);
		engine->latency_fd = -1;
	}
}

static int64_t next_deadline(const struct engine *engine, int64_t until)
{
	const struct session *s;

	if (engine->next_check < until)
		until = engine->next_check;
	TAILQ_FOREACH(s, &engine->timed, timed_link) {
		int64_t due = source_deadline(s->source);

		if (s->retry_at < until)
			until = s->retry_at;
		if (due < until)
			until = due;
	}
	return until;
}

int engine_turn(struct engine *engine, int64_t until, struct err *err)
{
	int64_t now = clock_now(), background = background_deadline(engine), release;
	bool busy = background <= now, spin = false;
	int r;

	if (!TAILQ_EMPTY(&engine->ready) || busy) {
		until = now;
	} else if (spinning(engine, now)) {
		spin = true;
		until = now;
		session_ready(engine->hot);
	} else {
		until = next_deadline(engine, background < until ? background : until);
	}
	/* Come back in time to let processors sleep again. */
	release = engine->last_fault + HOLD_TIME;
	if (engine->latency_fd >= 0 && engine->options.low_latency == LOW_LATENCY_AUTO && !busy &&
	    release > now && release < until)
		until = release;
	hold_latency(engine, now, busy);
	if (engine->copier)
		engine_reap(engine);
	r = ring_wait(engine->ring, until == CLOCK_NEVER ? CLOCK_NEVER : max_i64(0, until - now),
	              err);
	if (r < 0)
		return r;
	serve_ready(engine);
	if (!spin && !busy)
		now = clock_now();
	if (!TAILQ_EMPTY(&engine->timed))
		run_timed(engine, now);
	if (now >= engine->next_check)
		check_all(engine, now);
	if (engine->failed.code) {
		*err = engine->failed;
		return -err->code;
	}
	/*
	 * Who was woken may be queued on this very processor, behind us, until the next tick: let
	 * it run first.  It comes back soon, by its next fault.
	 */
	if (engine->answered && busy)
		sched_yield();
	engine->answered = false;
	if (busy && TAILQ_EMPTY(&engine->ready))
		engine_background(engine, now);
	if (!TAILQ_EMPTY(&engine->ended))
		free_ended(engine);
	if (engine->journal)
		record_compact(engine, false);
	return 0;
}

/* --- an engine's life ------------------------------------------------------------------------ */

int engine_new(const struct engine_options *options, struct engine **ret, struct err *err)
{
	struct engine *engine = calloc(1, sizeof(*engine));
	cpu_set_t cpus;
	int r;

	if (!engine)
		return err_set(err, ENOMEM, "an engine");
	r = ring_new(&engine->ring, err);
	if (r < 0) {
		free(engine);
		return r;
	}
	engine->options = *options;
	TAILQ_INIT(&engine->sessions);
	TAILQ_INIT(&engine->ended);
	TAILQ_INIT(&engine->ready);
	TAILQ_INIT(&engine->timed);
	SLIST_INIT(&engine->free_fetches);
	r = options->copier ? copier_new(&engine->copier, err) : 0;
	if (r < 0) {
		ring_free(engine->ring);
		free(engine);
		return r;
	}
	engine->journal = options->journal;
	engine->state = engine->journal ? journal_state(engine->journal) : NULL;
	engine->stats = engine->state ? &engine->state->stats : &engine->own_stats;
	engine->latency_fd = -1;
	engine->last_fault = clock_now() - NSEC_PER_SEC;
	engine->next_check = clock_now() + CHECK_EVERY;
	engine->nr_cpus = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
	*ret = engine;
	return 0;
}

void engine_leave(struct engine *engine)
{
	engine->replaying = true;
}

void engine_free(struct engine *engine)
{
	struct session *s;

	if (!engine)
		return;
	if (engine->failed.code)
		engine_leave(engine); /* as they are: the next worker replays what it has begun */
	if (engine->replaying)
		engine->stats = &engine->own_stats; /* nobody has ended by this */
	while ((s = TAILQ_FIRST(&engine->sessions)))
		session_end(s, true);
	copier_free(engine->copier);
	ring_free(engine->ring);
	while ((s = TAILQ_FIRST(&engine->ended))) {
		TAILQ_REMOVE(&engine->ended, s, link);
		session_free(s);
	}
	engine_free_fetches(engine);
	if (engine->latency_fd >= 0)
		close(engine->latency_fd);
	free(engine);
}

bool engine_expect(struct engine *engine, const struct tracker *tracker, struct source *source)
{
	if (!engine->copier)
		return false;
	copier_expect(engine->copier, tracker, source);
	return true;
}

struct ring *engine_ring(struct engine *engine)
{
	return engine->ring;
}

void engine_begin_background(struct engine *engine)
{
	struct session *s;

	engine->background = true;
	engine->tokens_at = clock_now() + HEAD_START;
	TAILQ_FOREACH(s, &engine->sessions, link)
		session_ready(s); /* some may be complete */
}

void engine_hurry(struct engine *engine)
{
	engine->options.background = BACKGROUND_FULL;
	engine->tokens_at = 0;
}

size_t engine_nr_sessions(const struct engine *engine)
{
	return engine->nr_sessions;
}

void engine_abandon(struct engine *engine)
{
	struct session *s, *next;

	if (engine->abandoning)
		return;
	engine->abandoning = true;
	engine_hurry(engine);
	engine_begin_background(engine);
	TAILQ_FOREACH_SAFE(s, &engine->sessions, link, next)
		session_abandon(s);
}

int engine_descriptors(const struct engine *engine, int (*add)(void *cookie, int fd), void *cookie)
{
	const struct session *s;
	size_t i;
	int r = 0;

	TAILQ_FOREACH(s, &engine->sessions, link) {
		r = s->uffd >= 0 ? add(cookie, s->uffd) : 0;
		if (r >= 0 && s->pidfd >= 0)
			r = add(cookie, s->pidfd);
		for (i = 0; r >= 0 && i < s->nr_pending; i++)
			if (s->pending[i].event == UFFD_EVENT_FORK &&
			    (int)s->pending[i].arg.fork.ufd >= 0)
				r = add(cookie, (int)s->pending[i].arg.fork.ufd);
		if (r < 0)
			break;
	}
	return r;
}

void engine_stats(const struct engine *engine, struct engine_stats *ret)
{
	*ret = *engine->stats;
}
