/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/engine/pool.h"

#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/os/ring.h"

#include <bsd/sys/queue.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct letter {
	STAILQ_ENTRY(letter) link;
	struct engine_process process; /* to adopt */
};

/* Bits of worker.orders: what has to be told needs no memory. */
enum { ORDER_BACKGROUND = 1, ORDER_HURRY = 2, ORDER_ABANDON = 4, ORDER_STOP = 8 };

struct worker {
	pthread_t thread;
	struct engine *engine;
	struct watch bell; /* an eventfd: the inbox has something */
	int bell_fd;
	bool stop; /* of the thread */
	bool started;
	pthread_mutex_t lock; /* of what follows */
	STAILQ_HEAD(, letter) inbox;
	unsigned orders;
	size_t load; /* sessions it has, letters included */
	struct engine_stats stats; /* a copy from the last time it was published */
	int failed; /* negative errno */
	struct err err;
};

struct pool {
	struct engine *first;
	struct worker *workers;
	unsigned nr_workers;
};

static const int64_t PUBLISH_EVERY = 50 * NSEC_PER_MSEC;

static void publish(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	engine_stats(w->engine, &w->stats);
	if (STAILQ_EMPTY(&w->inbox))
		w->load = engine_nr_sessions(w->engine);
	pthread_mutex_unlock(&w->lock);
}

static void failed(struct worker *w, const struct err *err)
{
	pthread_mutex_lock(&w->lock);
	w->failed = -err->code;
	w->err = *err;
	pthread_mutex_unlock(&w->lock);
}

/* After all letters that came before: who is adopted belongs to "all". */
static void obey(struct worker *w, unsigned orders)
{
	if (orders & ORDER_BACKGROUND)
		engine_begin_background(w->engine);
	if (orders & ORDER_HURRY)
		engine_hurry(w->engine);
	if (orders & ORDER_ABANDON)
		engine_abandon(w->engine);
	if (orders & ORDER_STOP)
		w->stop = true;
}

static void bell_rings(struct watch *bell, uint32_t events)
{
	struct worker *w = (struct worker *)((char *)bell - offsetof(struct worker, bell));
	struct err err = {0};
	uint64_t rung;
	ssize_t got = read(w->bell_fd, &rung, sizeof(rung));

	(void)got;
	(void)events;
	for (;;) {
		struct letter *letter;
		unsigned orders = 0;

		pthread_mutex_lock(&w->lock);
		letter = STAILQ_FIRST(&w->inbox);
		if (letter) {
			STAILQ_REMOVE_HEAD(&w->inbox, link);
		} else {
			orders = w->orders;
			w->orders = 0;
		}
		pthread_mutex_unlock(&w->lock);
		if (letter && engine_adopt(w->engine, &letter->process, &err) < 0)
			failed(w, &err);
		free(letter);
		if (!letter) {
			obey(w, orders);
			break;
		}
	}
	publish(w);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	int64_t published = 0;
	struct err err = {0};

	while (!w->stop) {
		size_t before = engine_nr_sessions(w->engine);
		int64_t now = clock_now();

		if (engine_turn(w->engine, now + PUBLISH_EVERY, &err) < 0) {
			failed(w, &err);
			break;
		}
		if (now - published > PUBLISH_EVERY || engine_nr_sessions(w->engine) != before) {
			publish(w);
			published = now;
		}
	}
	publish(w);
	return NULL;
}

/* An eventfd has room for every 1 that can ever be written. */
static void ring_bell(struct worker *w)
{
	static const uint64_t one = 1;
	ssize_t put = write(w->bell_fd, &one, sizeof(one));

	(void)put;
}

static void order(struct worker *w, unsigned what)
{
	pthread_mutex_lock(&w->lock);
	w->orders |= what;
	pthread_mutex_unlock(&w->lock);
	ring_bell(w);
}

static int post(struct worker *w, const struct engine_process *process, struct err *err)
{
	struct letter *letter = calloc(1, sizeof(*letter));

	if (!letter)
		return err_set(err, ENOMEM, "a message to a worker");
	letter->process = *process;
	pthread_mutex_lock(&w->lock);
	STAILQ_INSERT_TAIL(&w->inbox, letter, link);
	w->load++;
	pthread_mutex_unlock(&w->lock);
	ring_bell(w);
	return 0;
}

static int worker_new(struct worker *w, const struct engine_options *options, struct err *err)
{
	int r;

	w->bell_fd = -1;
	STAILQ_INIT(&w->inbox);
	pthread_mutex_init(&w->lock, NULL);
	r = engine_new(options, &w->engine, err);
	if (r < 0)
		return r;
	w->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->bell_fd < 0)
		return err_set(err, errno, "eventfd");
	w->bell = (struct watch){.ready = bell_rings};
	return ring_watch(engine_ring(w->engine), &w->bell, w->bell_fd, POLLIN, err);
}

static int worker_start(struct worker *w, struct err *err)
{
	sigset_t all, before;
	int r;

	publish(w);
	sigfillset(&all); /* signals are for the first thread */
	pthread_sigmask(SIG_BLOCK, &all, &before);
	r = pthread_create(&w->thread, NULL, work, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		return err_set(err, r, "a worker thread");
	w->started = true;
	return 0;
}

static void worker_release(struct worker *w)
{
	engine_free(w->engine);
	if (w->bell_fd >= 0)
		close(w->bell_fd);
	pthread_mutex_destroy(&w->lock);
}

/* Before the threads run. */
static int resume_all(struct pool *pool, const struct engine_resume *how, struct err *err)
{
	int r = engine_resume(pool->first, how, err);
	unsigned i;

	for (i = 0; i < pool->nr_workers && r == 0; i++)
		r = engine_resume(pool->workers[i].engine, how, err);
	return r;
}

/* Some have gone on, another cannot: nothing of theirs may be closed. */
static void leave_all(struct pool *pool)
{
	unsigned i;

	if (pool->first)
		engine_leave(pool->first);
	for (i = 0; i < pool->nr_workers; i++)
		if (pool->workers[i].engine)
			engine_leave(pool->workers[i].engine);
}

int pool_new(const struct engine_options *options, unsigned jobs, struct journal *const *journals,
             const struct engine_resume *resume, struct pool **ret, struct err *err)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	struct engine_options own = *options;
	int r;

	if (!pool)
		return err_set(err, ENOMEM, "engines");
	pool->workers = calloc(jobs, sizeof(*pool->workers));
	if (!pool->workers) {
		free(pool);
		return err_set(err, ENOMEM, "engines");
	}
	own.journal = journals ? journals[0] : NULL;
	r = engine_new(&own, &pool->first, err);
	while (r == 0 && pool->nr_workers + 1 < jobs) {
		own.journal = journals ? journals[pool->nr_workers + 1] : NULL;
		r = worker_new(&pool->workers[pool->nr_workers++], &own, err);
	}
	if (r == 0 && resume)
		r = resume_all(pool, resume, err);
	if (r < 0) {
		if (resume)
			leave_all(pool);
		pool_free(pool);
		return r;
	}
	*ret = pool;
	return 0;
}

int pool_start(struct pool *pool, struct err *err)
{
	unsigned i;
	int r = 0;

	for (i = 0; i < pool->nr_workers && r == 0; i++)
		r = worker_start(&pool->workers[i], err);
	return r;
}

void pool_free(struct pool *pool)
{
	unsigned i;

	if (!pool)
		return;
	for (i = 0; i < pool->nr_workers; i++) {
		struct worker *w = &pool->workers[i];

		if (w->started) {
			order(w, ORDER_STOP);
			pthread_join(w->thread, NULL);
		}
		worker_release(w);
	}
	engine_free(pool->first);
	free(pool->workers);
	free(pool);
}

struct engine *pool_first(struct pool *pool)
{
	return pool->first;
}

static size_t worker_load(struct worker *w)
{
	size_t load;

	pthread_mutex_lock(&w->lock);
	load = w->load;
	pthread_mutex_unlock(&w->lock);
	return load;
}

int pool_adopt(struct pool *pool, const struct engine_process *process, struct err *err)
{
	size_t least = engine_nr_sessions(pool->first);
	struct worker *best = NULL;
	unsigned i;
	int r;

	for (i = 0; i < pool->nr_workers; i++) {
		size_t load = worker_load(&pool->workers[i]);

		if (load < least) {
			least = load;
			best = &pool->workers[i];
		}
	}
	if (!best)
		return engine_adopt(pool->first, process, err);
	r = post(best, process, err);
	if (r < 0)
		engine_fail(pool->first, err);
	return r;
}

static void tell_all(struct pool *pool, unsigned what)
{
	unsigned i;

	for (i = 0; i < pool->nr_workers; i++)
		order(&pool->workers[i], what);
}

void pool_begin_background(struct pool *pool)
{
	engine_begin_background(pool->first);
	tell_all(pool, ORDER_BACKGROUND);
}

void pool_hurry(struct pool *pool)
{
	engine_hurry(pool->first);
	tell_all(pool, ORDER_HURRY);
}

void pool_abandon(struct pool *pool)
{
	engine_abandon(pool->first);
	tell_all(pool, ORDER_ABANDON);
}

/* Those of processes that a worker has not adopted yet, too. */
static int letter_descriptors(const struct worker *w, int (*add)(void *cookie, int fd),
                              void *cookie)
{
	const struct letter *letter;
	int r = 0;

	STAILQ_FOREACH(letter, &w->inbox, link)
	{
		if (r == 0)
			r = add(cookie, letter->process.uffd);
		if (r == 0 && letter->process.pidfd >= 0)
			r = add(cookie, letter->process.pidfd);
	}
	return r;
}

int pool_descriptors(const struct pool *pool, int (*add)(void *cookie, int fd), void *cookie)
{
	int r = engine_descriptors(pool->first, add, cookie);
	unsigned i;

	for (i = 0; i < pool->nr_workers && r >= 0; i++) {
		r = letter_descriptors(&pool->workers[i], add, cookie);
		if (r >= 0)
			r = engine_descriptors(pool->workers[i].engine, add, cookie);
	}
	return r;
}

bool pool_expect(struct pool *pool, const struct tracker *tracker, struct source *source)
{
	return !pool->nr_workers && engine_expect(pool->first, tracker, source);
}

size_t pool_nr_sessions(struct pool *pool)
{
	size_t nr = engine_nr_sessions(pool->first);
	unsigned i;

	for (i = 0; i < pool->nr_workers; i++)
		nr += worker_load(&pool->workers[i]);
	return nr;
}

void pool_stats(struct pool *pool, struct engine_stats *ret)
{
	unsigned i;

	engine_stats(pool->first, ret);
	for (i = 0; i < pool->nr_workers; i++) {
		struct worker *w = &pool->workers[i];

		pthread_mutex_lock(&w->lock);
		ret->pages_fault += w->stats.pages_fault;
		ret->pages_background += w->stats.pages_background;
		ret->pages_zero += w->stats.pages_zero;
		ret->pages_lost += w->stats.pages_lost;
		ret->pages_total += w->stats.pages_total;
		ret->pages_missing += w->stats.pages_missing;
		ret->sessions += w->stats.sessions;
		ret->sessions_exited += w->stats.sessions_exited;
		ret->sessions_lost += w->stats.sessions_lost;
		hist_merge(&ret->fault, &w->stats.fault);
		pthread_mutex_unlock(&w->lock);
	}
}

int pool_turn(struct pool *pool, int64_t until, struct err *err)
{
	unsigned i;

	if (pool->nr_workers) /* nobody tells us when a worker has nothing left */
		until = until < clock_now() + PUBLISH_EVERY ? until : clock_now() + PUBLISH_EVERY;
	for (i = 0; i < pool->nr_workers; i++) {
		struct worker *w = &pool->workers[i];
		int failed;

		pthread_mutex_lock(&w->lock);
		failed = w->failed;
		if (failed)
			*err = w->err;
		pthread_mutex_unlock(&w->lock);
		if (failed)
			return failed;
	}
	return engine_turn(pool->first, until, err);
}
