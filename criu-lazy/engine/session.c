/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A session's life: how it begins, is watched, counted, and ends.  See session.h. */
#include "criu-lazy/engine/session.h"

#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/engine/engine.h"
#include "criu-lazy/os/uffd-abi.h"
#include "criu-lazy/os/uffd.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int64_t RETRY_FIRST = 5 * NSEC_PER_USEC, RETRY_MAX = 2 * NSEC_PER_MSEC;

void session_ready(struct session *s)
{
	if (s->on_ready || s->state == SESSION_ENDED)
		return;
	s->on_ready = true;
	TAILQ_INSERT_TAIL(&s->engine->ready, s, ready_link);
}

void session_timed(struct session *s)
{
	if (s->on_timed)
		return;
	s->on_timed = true;
	TAILQ_INSERT_TAIL(&s->engine->timed, s, timed_link);
}

void session_retry(struct session *s)
{
	if (s->state == SESSION_ENDED)
		return;
	s->retry_delay = s->retry_delay ? 2 * s->retry_delay : RETRY_FIRST;
	if (s->retry_delay > RETRY_MAX)
		s->retry_delay = RETRY_MAX;
	s->retry_at = clock_now() + s->retry_delay;
	session_timed(s);
}

void session_account(struct session *s)
{
	uint64_t missing = s->state == SESSION_ENDED ? 0 : tracker_nr_missing(s->tracker);

	s->engine->stats->pages_missing += missing - s->counted_missing;
	s->counted_missing = missing;
}

void session_free(struct session *s)
{
	record_forget_marks(s);
	family_free(s->family);
	if (s->uffd >= 0)
		close(s->uffd);
	if (s->pidfd >= 0)
		close(s->pidfd);
	tracker_free(s->tracker);
	source_close(s->source);
	child_free(s);
	free(s->faults.fault);
	free(s->waiting.fault);
	free(s);
}

static void watch_gone(struct session *s)
{
	s->nr_watches--;
}

static void uffd_gone(struct watch *w)
{
	watch_gone((struct session *)((char *)w - offsetof(struct session, watch)));
}

static void pid_gone(struct watch *w)
{
	watch_gone((struct session *)((char *)w - offsetof(struct session, pid_watch)));
}

static void uffd_ready(struct watch *w, uint32_t events)
{
	(void)events;
	session_ready((struct session *)((char *)w - offsetof(struct session, watch)));
}

void session_end(struct session *s, bool exited)
{
	struct engine *engine = s->engine;
	uint64_t missing = tracker_nr_missing(s->tracker);

	if (s->state == SESSION_ENDED || !child_may_end(s))
		return;
	record_end(engine, s->id);
	log_debug("%s: %s, %llu pages missing", s->name, exited ? "EXIT" : "complete",
	          (unsigned long long)missing);
	if (exited && missing)
		engine->stats->sessions_exited++;
	engine->stats->pages_missing -= s->counted_missing;
	s->counted_missing = 0;
	s->state = SESSION_ENDED;
	session_settle(s);
	session_cancel_fetches(s);
	family_leave(s);
	if (engine->nr_held)
		children_let_go(s);
	engine->nr_held -= s->held_by != NULL;
	s->held_by = NULL;
	if (engine->turn == s)
		engine->turn = TAILQ_NEXT(s, link);
	if (engine->hot == s)
		engine->hot = NULL;
	TAILQ_REMOVE(&engine->sessions, s, link);
	TAILQ_INSERT_TAIL(&engine->ended, s, link);
	engine->nr_sessions--;
	if (engine->replaying) {
		s->uffd = s->pidfd = -1; /* closed long ago */
		return;
	}
	engine_keep(engine, KEPT_UFFD, s->uffd, false);
	engine_keep(engine, KEPT_PIDFD, s->pidfd, false);
	/* The poll holds the descriptor too: the ranges are unregistered when both are closed. */
	ring_unwatch(engine->ring, &s->watch);
	if (s->pidfd >= 0)
		ring_unwatch(engine->ring, &s->pid_watch);
	close(s->uffd);
	s->uffd = -1;
}

/* Is its address space still there? */
void session_check(struct session *s)
{
	if (uffd_quiet(s->uffd) == UFFD_EXITED) {
		session_end(s, true);
		return;
	}
	if (s->state == SESSION_DOOMED && s->pidfd < 0 && !s->poisons) {
		/* The process is dead and its memory lives on in another (CLONE_VM). */
		s->poisons = true;
		s->state = SESSION_SERVING;
		session_ready(s);
	}
}

/* Its number may soon be another process's: who replays must not take it for this one's. */
static void forget_pidfd(struct session *s)
{
	record_unnamed(s);
	engine_keep(s->engine, KEPT_PIDFD, s->pidfd, false);
	close(s->pidfd);
	s->pidfd = -1;
}

static void pid_ready(struct watch *w, uint32_t events)
{
	struct session *s = (struct session *)((char *)w - offsetof(struct session, pid_watch));

	(void)events;
	if (s->state == SESSION_ENDED || s->pidfd < 0)
		return;
	ring_unwatch(s->engine->ring, &s->pid_watch);
	forget_pidfd(s);
	session_check(s);
}

static int session_watch(struct session *s, struct err *err)
{
	struct ring *ring = s->engine->ring;
	int r;

	s->watch = (struct watch){.ready = uffd_ready, .gone = uffd_gone};
	s->pid_watch = (struct watch){.ready = pid_ready, .gone = pid_gone};
	r = ring_watch(ring, &s->watch, s->uffd, POLLIN, err);
	if (r < 0)
		return r;
	s->nr_watches++;
	if (s->pidfd < 0)
		return 0;
	if (ring_watch(ring, &s->pid_watch, s->pidfd, POLLIN, NULL) == 0) {
		s->nr_watches++;
	} else {
		forget_pidfd(s);
	}
	return 0;
}

/* Who was before has read faults and not answered them: whoever waits shall ask again. */
int session_resume(struct session *s, struct err *err)
{
	size_t i;
	int r;

	engine_keep(s->engine, KEPT_UFFD, s->uffd, true);
	engine_keep(s->engine, KEPT_PIDFD, s->pidfd, true);
	for (i = 0; i < s->nr_pending; i++)
		if (s->pending[i].event == UFFD_EVENT_FORK)
			engine_keep(s->engine, KEPT_UFFD, (int)s->pending[i].arg.fork.ufd, true);
	r = session_watch(s, err);
	if (r < 0)
		return r;
	uffd_wake_all(s->uffd);
	s->unquiet = true;
	session_account(s);
	session_ready(s);
	return 0;
}

void engine_sum_up(struct engine *engine)
{
	const struct engine_state *state = engine->state;

	if (!state || !state->counted)
		return;
	engine->state->stats.sessions = state->sum.sessions;
	engine->state->stats.pages_total = state->sum.pages_total;
}

/* By the store to counted; a worker is killed as a whole, so the order is that of the program. */
void session_count(struct session *s)
{
	struct engine *engine = s->engine;
	struct engine_state *state = engine->state;

	if (!state) {
		engine->stats->sessions++;
		engine->stats->pages_total += s->counted_missing;
		return;
	}
	if (s->id < state->counted)
		return;
	state->sum.sessions = state->stats.sessions + 1;
	state->sum.pages_total = state->stats.pages_total + s->counted_missing;
	atomic_signal_fence(memory_order_seq_cst);
	state->counted = s->id + 1;
	atomic_signal_fence(memory_order_seq_cst);
	engine_sum_up(engine);
}

struct session *session_add(struct engine *engine, const struct engine_process *process,
                            const char *name, struct family *family, struct err *err)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s || !family_join(s, family)) {
		free(s);
		tracker_free(process->tracker);
		source_close(process->source);
		err_set(err, ENOMEM, "a session");
		return NULL;
	}
	s->id = engine->next_id++;
	if (!family)
		s->family->id = s->id;
	s->index = process->index;
	snprintf(s->name, sizeof(s->name), "%s", name);
	s->engine = engine;
	s->uffd = process->uffd;
	s->pidfd = process->pidfd;
	s->tracker = process->tracker;
	s->source = process->source;
	s->expected = process->expected;
	source_attach(s->source, engine->ring);
	s->retry_at = CLOCK_NEVER;
	s->chunk_limit = UINT64_MAX;
	if (!engine->replaying && session_watch(s, err) < 0) {
		s->uffd = s->pidfd = -1;
		family_leave(s);
		session_free(s);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&engine->sessions, s, link);
	engine->nr_sessions++;
	session_account(s);
	session_ready(s);
	return s;
}

int engine_adopt(struct engine *engine, const struct engine_process *process, struct err *err)
{
	struct session *s;
	char name[24];

	snprintf(name, sizeof(name), "pid %u", process->pid);
	s = session_add(engine, process, name, NULL, err);
	if (!s) {
		engine_fail(engine, err);
		if (engine->journal)
			return -err->code; /* for the next worker */
		if (process->pidfd >= 0) {
			syscall(SYS_pidfd_send_signal, process->pidfd, SIGKILL, NULL, 0);
			engine_keep(engine, KEPT_PIDFD, process->pidfd, false);
			close(process->pidfd);
		}
		engine_keep(engine, KEPT_UFFD, process->uffd, false);
		close(process->uffd);
		return -err->code;
	}
	record_marks(s, NULL);
	record_session(s);
	session_count(s);
	if (process->taken)
		*process->taken = 1;
	return 0;
}
