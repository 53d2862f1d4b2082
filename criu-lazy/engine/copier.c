/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Chunks go through a ring of slots with one writer and one reader, so neither takes a lock.  The
 * thread spins for a moment when the ring is empty, since the next chunk is never far, and then
 * sleeps on a condition.
 */
#include "criu-lazy/engine/copier.h"

#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/source/source.h"
#include "criu-lazy/track/tracker.h"

#include <bsd/sys/queue.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum { SLOTS = COPIER_SLOTS, EXPECT_PAGES = 256, SPINS = 2000 };

struct slot {
	int uffd;
	uint64_t dst;
	const void *src;
	uint64_t len;
	struct copier_result result;
};

struct expectation {
	STAILQ_ENTRY(expectation) link;
	struct source *source;
	size_t nr_runs;
	struct tracker_run runs[];
};

struct copier {
	pthread_t thread;
	struct slot slots[SLOTS];
	_Atomic unsigned posted; /* by the engine */
	_Atomic unsigned done; /* by the thread */
	unsigned reaped; /* the engine's own */
	_Atomic bool stop;
	_Atomic bool expecting; /* the thread is busy with an expectation */
	_Atomic bool sleeping;
	pthread_mutex_t lock; /* of the lists, and for sleeping */
	pthread_cond_t wake;
	STAILQ_HEAD(expectations, expectation) expected;
	struct expectations finished; /* their sources want to be closed by the engine */
};

static void relax(void)
{
	__builtin_ia32_pause();
}

static void copy_slot(struct copier *c)
{
	struct slot *slot = &c->slots[c->done % SLOTS];

	slot->result.outcome =
		uffd_copy(slot->uffd, slot->dst, slot->src, slot->len, &slot->result.done);
	atomic_fetch_add(&c->done, 1);
}

static bool work_waits(struct copier *c)
{
	return atomic_load(&c->posted) != atomic_load(&c->done);
}

static void expect_runs(struct copier *c, const struct expectation *e)
{
	size_t i;

	for (i = 0; i < e->nr_runs; i++) {
		const struct tracker_run *run = &e->runs[i];
		uint64_t at;

		for (at = 0; at < run->nr_pages && !c->stop; at += EXPECT_PAGES) {
			while (work_waits(c)) /* copies come first */
				copy_slot(c);
			source_expect(e->source, run->img + (at << PAGE_SHIFT),
			              min_u64(EXPECT_PAGES, run->nr_pages - at));
		}
	}
}

/* true: there was one. */
static bool next_expectation(struct copier *c)
{
	struct expectation *e;

	pthread_mutex_lock(&c->lock);
	e = STAILQ_FIRST(&c->expected);
	if (e)
		STAILQ_REMOVE_HEAD(&c->expected, link);
	c->expecting = e != NULL;
	pthread_mutex_unlock(&c->lock);
	if (!e)
		return false;
	expect_runs(c, e);
	pthread_mutex_lock(&c->lock);
	STAILQ_INSERT_TAIL(&c->finished, e, link);
	pthread_mutex_unlock(&c->lock);
	return true;
}

static void sleep_until_posted(struct copier *c)
{
	pthread_mutex_lock(&c->lock);
	atomic_store(&c->sleeping, true);
	while (!work_waits(c) && !c->stop && STAILQ_EMPTY(&c->expected))
		pthread_cond_wait(&c->wake, &c->lock);
	atomic_store(&c->sleeping, false);
	pthread_mutex_unlock(&c->lock);
}

static void *work(void *arg)
{
	struct copier *c = arg;
	int spins = 0;
	const struct sched_param none = {0};

	/*
	 * The program comes first.  The scheduler takes a processor that runs only SCHED_IDLE
	 * threads for an idle one: who is woken by a fault runs there at once, and not after a tick
	 * (4 ms were seen).  Failing to be so modest is harmless.
	 */
	sched_setscheduler(0, SCHED_IDLE, &none);
	while (!c->stop) {
		if (work_waits(c)) {
			copy_slot(c);
			spins = 0;
		} else if (spins++ < SPINS) {
			relax();
		} else if (!next_expectation(c)) {
			sleep_until_posted(c);
			spins = 0;
		}
	}
	return NULL;
}

static void wake(struct copier *c)
{
	if (!atomic_load(&c->sleeping))
		return;
	pthread_mutex_lock(&c->lock);
	pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&c->lock);
}

static void drop_finished(struct copier *c)
{
	struct expectation *e;

	for (;;) {
		pthread_mutex_lock(&c->lock);
		e = STAILQ_FIRST(&c->finished);
		if (e)
			STAILQ_REMOVE_HEAD(&c->finished, link);
		pthread_mutex_unlock(&c->lock);
		if (!e)
			return;
		source_close(e->source);
		free(e);
	}
}

int copier_new(struct copier **ret, struct err *err)
{
	struct copier *c = calloc(1, sizeof(*c));
	sigset_t all, before;
	int r;

	if (!c)
		return err_set(err, ENOMEM, "a copier");
	STAILQ_INIT(&c->expected);
	STAILQ_INIT(&c->finished);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wake, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	r = pthread_create(&c->thread, NULL, work, c);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r) {
		free(c);
		return err_set(err, r, "a copier");
	}
	*ret = c;
	return 0;
}

void copier_free(struct copier *c)
{
	if (!c)
		return;
	atomic_store(&c->stop, true);
	pthread_mutex_lock(&c->lock);
	pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	STAILQ_CONCAT(&c->finished, &c->expected);
	drop_finished(c);
	pthread_cond_destroy(&c->wake);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

bool copier_has_room(const struct copier *c)
{
	return c->posted - c->reaped < SLOTS && !c->expecting;
}

void copier_copy(struct copier *c, int uffd, uint64_t dst, const void *src, uint64_t len,
                 void *owner)
{
	c->slots[c->posted % SLOTS] = (struct slot){
		.uffd = uffd, .dst = dst, .src = src, .len = len, .result = {.owner = owner}};
	atomic_fetch_add(&c->posted, 1);
	wake(c);
}

bool copier_reap(struct copier *c, struct copier_result *ret)
{
	if (c->reaped == atomic_load(&c->done))
		return false;
	*ret = c->slots[c->reaped++ % SLOTS].result;
	return true;
}

bool copier_wait(struct copier *c, struct copier_result *ret)
{
	static const struct timespec moment = {.tv_nsec = 10000};
	int spins = 0;

	if (c->reaped == c->posted)
		return false;
	while (!copier_reap(c, ret)) {
		/*
		 * Usually microseconds.  When the thread was preempted it may go on here while we
		 * sleep; a yield would not let it.
		 */
		if (spins++ < SPINS)
			relax();
		else
			nanosleep(&moment, NULL);
	}
	return true;
}

static size_t count_runs(const struct tracker *t, struct tracker_run *fill)
{
	struct tracker_run run = {0};
	uint64_t from = 0;
	size_t nr = 0;

	while (tracker_next(t, from, UINT64_MAX >> PAGE_SHIFT, &run)) {
		if (fill)
			fill[nr] = run;
		nr++;
		from = run.start + (run.nr_pages << PAGE_SHIFT);
	}
	return nr;
}

void copier_expect(struct copier *c, const struct tracker *t, struct source *source)
{
	size_t nr = count_runs(t, NULL);
	struct expectation *e = malloc(sizeof(*e) + nr * sizeof(e->runs[0]));

	drop_finished(c);
	if (!e)
		return; /* it was only a help */
	e->source = source_share(source);
	e->nr_runs = nr;
	count_runs(t, e->runs);
	pthread_mutex_lock(&c->lock);
	STAILQ_INSERT_TAIL(&c->expected, e, link);
	pthread_mutex_unlock(&c->lock);
	wake(c);
}
