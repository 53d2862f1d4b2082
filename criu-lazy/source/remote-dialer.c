/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The thread that dials lost connections while the engine goes on.
 *
 * The engine's thread writes down what is wanted of each lane, and rings; the dialer tries, at once
 * or after the back-off, until it has brought the connection or it is not wanted any more, and
 * puts each outcome into a slot, and rings back.  It waits while the slot is full.
 */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/os/stream.h"
#include "criu-lazy/source/remote-parts.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const int64_t FIRST_DELAY = 10 * NSEC_PER_MSEC, LAST_DELAY = 2 * NSEC_PER_SEC;
/* For each step; not more, as remote_free() may have to wait for one. */
static const int64_t STEP = 5 * NSEC_PER_SEC;

struct job {
	enum dial_how how;
	unsigned serial; /* counts what was wanted, so that an outcome that is too old is seen */
	int64_t delay; /* before the next try */
	int64_t due;
};

struct dialer {
	struct remote_options options;
	const char *name;
	pthread_t thread;
	int bell_fd; /* to the thread: look what is wanted */
	int cancel_fd; /* to the thread: what you are at is not wanted any more */
	int done_fd; /* from it */
	pthread_mutex_t lock; /* over everything below */
	bool stop;
	struct job *working;
	struct job job[REMOTE_MAX_LANES];
	bool full;
	struct dialled outcome;
};

static void ring_fd(int fd)
{
	uint64_t one = 1;

	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void silence_fd(int fd)
{
	uint64_t rung;

	while (read(fd, &rung, sizeof(rung)) < 0 && errno == EINTR)
		;
}

static void back_off(struct job *job)
{
	job->delay = job->delay ? job->delay * 2 : FIRST_DELAY;
	if (job->delay > LAST_DELAY)
		job->delay = LAST_DELAY;
	job->due = clock_now() + job->delay;
}

/* --- the thread ------------------------------------------------------------------------------ */

/* The job that is due first; NULL: none is wanted. */
static struct job *first_due(struct dialer *d)
{
	struct job *first = NULL;

	for (unsigned i = 0; i < REMOTE_MAX_LANES; i++)
		if (d->job[i].how != DIAL_NOT && (!first || d->job[i].due < first->due))
			first = &d->job[i];
	return first;
}

/* Locked. */
static void put_outcome(struct dialer *d, struct job *job, unsigned serial, struct dialled *outcome)
{
	if (job->serial != serial) { /* something else is wanted by now */
		stream_free(outcome->stream);
		return;
	}
	if (outcome->stream) {
		job->how = DIAL_NOT;
	} else {
		back_off(job);
	}
	d->outcome = *outcome;
	d->full = true;
	ring_fd(d->done_fd);
}

/* Locked on entry and return, not within. */
static void work(struct dialer *d, struct job *job)
{
	struct dialled outcome = {.index = (unsigned)(job - d->job)};
	enum dial_how how = job->how;
	unsigned serial = job->serial;

	silence_fd(d->cancel_fd); /* it was for an earlier one */
	d->working = job;
	pthread_mutex_unlock(&d->lock);
	remote_dial(&d->options, d->name, how, STEP, d->cancel_fd, &outcome, &outcome.err);
	pthread_mutex_lock(&d->lock);
	d->working = NULL;
	put_outcome(d, job, serial, &outcome);
}

/* Locked on entry and return, not within. */
static void rest(struct dialer *d, int64_t until)
{
	struct pollfd pfd = {.fd = d->bell_fd, .events = POLLIN};
	int64_t ms = (until - clock_now()) / NSEC_PER_MSEC + 1;

	pthread_mutex_unlock(&d->lock);
	if (until == CLOCK_NEVER)
		ms = -1;
	else if (ms < 0)
		ms = 0;
	poll(&pfd, 1, (int)ms);
	pthread_mutex_lock(&d->lock);
	silence_fd(d->bell_fd);
}

static void *dialer_main(void *cookie)
{
	struct dialer *d = cookie;
	struct job *job;

	pthread_mutex_lock(&d->lock);
	while (!d->stop) {
		job = d->full ? NULL : first_due(d);
		if (job && job->due <= clock_now())
			work(d, job);
		else
			rest(d, job ? job->due : CLOCK_NEVER);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

/* --- from the engine's thread ---------------------------------------------------------------- */

void dialer_want(struct dialer *d, unsigned index, enum dial_how how, bool fresh)
{
	struct job *job = &d->job[index];
	bool changed;

	pthread_mutex_lock(&d->lock);
	changed = job->how != how;
	if (changed) {
		job->how = how;
		job->serial++;
		job->due = clock_now();
		if (fresh)
			job->delay = 0;
		else
			back_off(job);
		ring_fd(d->bell_fd);
		if (d->working == job)
			ring_fd(d->cancel_fd);
	}
	pthread_mutex_unlock(&d->lock);
}

bool dialer_take(struct dialer *d, struct dialled *ret)
{
	bool full;

	pthread_mutex_lock(&d->lock);
	silence_fd(d->done_fd);
	full = d->full;
	if (full) {
		*ret = d->outcome;
		d->full = false;
		ring_fd(d->bell_fd);
	}
	pthread_mutex_unlock(&d->lock);
	return full;
}

int dialer_fd(const struct dialer *d)
{
	return d->done_fd;
}

static int start_thread(struct dialer *d)
{
	sigset_t all, old;
	int r;

	/* Signals are for the engine's thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&d->thread, NULL, dialer_main, d);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

static void release(struct dialer *d)
{
	int fds[] = {d->bell_fd, d->cancel_fd, d->done_fd};

	for (unsigned i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

int dialer_new(const struct remote_options *options, const char *name, struct dialer **ret,
               struct err *err)
{
	struct dialer *d = calloc(1, sizeof(*d));
	int r = 0;

	if (!d)
		return err_set(err, ENOMEM, "a thread that connects");
	d->options = *options;
	d->name = name;
	d->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	d->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	d->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&d->lock, NULL);
	if (d->bell_fd < 0 || d->cancel_fd < 0 || d->done_fd < 0)
		r = errno;
	if (!r)
		r = start_thread(d);
	if (r) {
		release(d);
		return err_set(err, r, "a thread that connects");
	}
	*ret = d;
	return 0;
}

void dialer_free(struct dialer *d)
{
	if (!d)
		return;
	pthread_mutex_lock(&d->lock);
	d->stop = true;
	ring_fd(d->bell_fd);
	ring_fd(d->cancel_fd);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->thread, NULL);
	if (d->full)
		stream_free(d->outcome.stream);
	release(d);
}
