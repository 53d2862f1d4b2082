/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A slot belongs to one side at a time, by its state, so neither takes a lock for it:
 *
 *	FREE -> POSTED		by the engine
 *	POSTED -> COPYING	by the thread, or back to FREE by the engine: who comes first
 *	COPYING -> DONE		by the thread
 *	DONE -> FREE		by the engine
 *
 * The thread spins for a moment when nothing is posted, since the next chunk is never far, and then
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

enum slot_state { FREE, POSTED, COPYING, DONE };

struct slot {
	_Atomic enum slot_state state;
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

static struct slot *find(struct copier *c, enum slot_state state)
{
	struct slot *slot;

	for (slot = c->slots; slot < c->slots + SLOTS; slot++)
		if (atomic_load(&slot->state) == state)
			return slot;
	return NULL;
}

/* Of those that are so, the first that nobody else takes. */
static struct slot *take(struct copier *c, enum slot_state from, enum slot_state to)
{
	struct slot *slot;

	for (slot = c->slots; slot < c->slots + SLOTS; slot++) {
		enum slot_state expected = from;

		if (atomic_compare_exchange_strong(&slot->state, &expected, to))
			return slot;
	}
	return NULL;
}

static bool work_waits(struct copier *c)
{
	return find(c, POSTED);
}

/* true: there was one. */
static bool copy_slot(struct copier *c)
{
	struct slot *slot = take(c, POSTED, COPYING);

	if (!slot)
		return false;
	slot->result.outcome =
		uffd_copy(slot->uffd, slot->dst, slot->src, slot->len, &slot->result.done);
	atomic_store(&slot->state, DONE);
	return true;
}

static void expect_runs(struct copier *c, const struct expectation *e)
{
	size_t i;

	for (i = 0; i < e->nr_runs; i++) {
		const struct tracker_run *run = &e->runs[i];
		uint64_t at;

		for (at = 0; at < run->nr_pages && !c->stop; at += EXPECT_PAGES) {
			while (copy_slot(c)) /* copies come first */
				;
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
		if (copy_slot(c)) {
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

bool copier_has_room(struct copier *c)
{
	return !c->expecting && find(c, FREE);
}

void copier_copy(struct copier *c, int uffd, uint64_t dst, const void *src, uint64_t len,
                 void *owner)
{
	struct slot *slot = find(c, FREE);

	slot->uffd = uffd;
	slot->dst = dst;
	slot->src = src;
	slot->len = len;
	slot->result = (struct copier_result){.owner = owner};
	atomic_store(&slot->state, POSTED);
	wake(c);
}

bool copier_reap(struct copier *c, struct copier_result *ret)
{
	struct slot *slot = find(c, DONE);

	if (!slot)
		return false;
	*ret = slot->result;
	atomic_store(&slot->state, FREE);
	return true;
}

static bool take_back(struct copier *c, struct copier_result *ret)
{
	struct slot *slot = take(c, POSTED, FREE);

	if (!slot)
		return false;
	*ret = slot->result;
	ret->not_begun = true;
	return true;
}

bool copier_wait(struct copier *c, struct copier_result *ret)
{
	static const struct timespec moment = {.tv_nsec = 10000};
	int spins = 0;

	while (!take_back(c, ret) && !copier_reap(c, ret)) {
		if (!find(c, COPYING) && !find(c, DONE))
			return false;
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
