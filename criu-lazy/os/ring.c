/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/os/ring.h"

#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { RING_ENTRIES = 256, RING_CQ_ENTRIES = 16384 };

struct ring {
	struct io_uring uring;
	struct watch *again, **again_end; /* those that ring_again() was called for */
	unsigned nr_again;
	struct watch *later; /* ring_retry(), and those that the kernel has refused */
	int64_t later_at;
	struct populate *populating;
};

static const int64_t LATER = 10 * NSEC_PER_MSEC;
static const int64_t SUBMIT_AGAIN = 1 * NSEC_PER_MSEC;

/* The kernel has no room or no memory now, or was interrupted: what was to be handed over stays. */
static bool is_passing(int r)
{
	return r == -EAGAIN || r == -EBUSY || r == -EINTR || r == -ENOMEM;
}

static int64_t sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static void nap(void)
{
	const struct timespec moment = {.tv_nsec = SUBMIT_AGAIN};

	nanosleep(&moment, NULL);
}

/*
 * user_data is the watch's address, or a struct populate's and IS_POPULATE; bit 0 set: the answer
 * to a cancellation, nobody's.
 */
static const uint64_t NOBODY = 1, IS_POPULATE = 2;

int ring_new(struct ring **ret, struct err *err)
{
	/* The completion queue must hold one entry a watch in the worst case; overflow is kept by
	 * the kernel (IORING_FEAT_NODROP), only slower. */
	struct io_uring_params params = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN,
		.cq_entries = RING_CQ_ENTRIES,
	};
	struct ring *ring = calloc(1, sizeof(*ring));
	int r;

	if (!ring)
		return err_set(err, ENOMEM, "event loop");
	r = io_uring_queue_init_params(RING_ENTRIES, &ring->uring, &params);
	if (r == -EINVAL) { /* before 5.19 */
		params = (struct io_uring_params){.flags = IORING_SETUP_CQSIZE,
		                                  .cq_entries = RING_CQ_ENTRIES};
		r = io_uring_queue_init_params(RING_ENTRIES, &ring->uring, &params);
	}
	if (r < 0) {
		free(ring);
		return err_set(err, -r, "io_uring is not available (see `criu-lazy check`)");
	}
	ring->again_end = &ring->again;
	*ret = ring;
	return 0;
}

static void forget_populate(struct populate *p)
{
	*p->prev = p->next;
	if (p->next)
		p->next->prev = p->prev;
}

void ring_free(struct ring *ring)
{
	struct populate *p;

	if (!ring)
		return;
	io_uring_queue_exit(&ring->uring);
	while ((p = ring->populating)) {
		forget_populate(p);
		p->done(p, -ECANCELED);
	}
	free(ring);
}

void ring_again(struct ring *ring, struct watch *w)
{
	if (w->again || w->state != WATCH_ARMED)
		return;
	w->again = true;
	w->next_again = NULL;
	*ring->again_end = w;
	ring->again_end = &w->next_again;
	ring->nr_again++;
}

/* Its owner may free it from now on. */
static void forget_again(struct ring *ring, struct watch *w)
{
	struct watch **at = &ring->again;

	if (!w->again)
		return;
	while (*at != w)
		at = &(*at)->next_again;
	*at = w->next_again;
	if (!*at)
		ring->again_end = at;
	ring->nr_again--;
	w->again = false;
}

void ring_retry(struct ring *ring, struct watch *w)
{
	if (w->later || (w->state != WATCH_ARMED && w->state != WATCH_REFUSED))
		return;
	if (!ring->later)
		ring->later_at = clock_now() + LATER;
	w->later = true;
	w->next_later = ring->later;
	ring->later = w;
}

static void forget_later(struct ring *ring, struct watch *w)
{
	struct watch **at = &ring->later;

	if (!w->later)
		return;
	while (*at != w)
		at = &(*at)->next_later;
	*at = w->next_later;
	w->later = false;
}

/* nr: how many were in the list before this round, what handlers add is for the next one. */
static int call_again(struct ring *ring, unsigned nr)
{
	struct watch *w;
	int called = 0;

	while (nr-- && (w = ring->again)) {
		forget_again(ring, w);
		w->ready(w, 0);
		called++;
	}
	return called;
}

static struct io_uring_sqe *next_sqe(struct ring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

	/* A full submission queue is a normal case: hand it over and go on. */
	while (!sqe) {
		if (io_uring_submit(&ring->uring) < 0)
			nap();
		sqe = io_uring_get_sqe(&ring->uring);
	}
	return sqe;
}

static struct io_uring_sqe *arm(struct ring *ring, struct watch *w)
{
	struct io_uring_sqe *sqe = next_sqe(ring);

	io_uring_prep_poll_multishot(sqe, w->fd, w->events);
	io_uring_sqe_set_data(sqe, w);
	w->state = WATCH_ARMED;
	return sqe;
}

/* Those whose time has come. */
static int call_later(struct ring *ring)
{
	struct watch *w, *due = ring->later;
	int called = 0;

	if (!due || clock_now() < ring->later_at)
		return 0;
	/* Handlers may forget others: take one at a time, those that they add are for next time. */
	for (w = due; w; w = w->next_later)
		w->later_due = true;
	for (;;) {
		for (w = ring->later; w && !w->later_due; w = w->next_later)
			;
		if (!w)
			break;
		forget_later(ring, w);
		w->later_due = false;
		if (w->state == WATCH_REFUSED)
			arm(ring, w); /* it is told if there is something already */
		else
			w->ready(w, 0);
		called++;
	}
	ring->later_at = clock_now() + LATER;
	return called;
}

int ring_watch(struct ring *ring, struct watch *w, int fd, uint32_t events, struct err *err)
{
	struct io_uring_sqe *sqe;
	int r;

	assert(w->state == WATCH_IDLE);
	w->fd = fd;
	w->events = events;
	sqe = arm(ring, w);
	r = io_uring_submit(&ring->uring);
	if (r >= 0 || is_passing(r)) /* ring_wait() hands over what is left */
		return 0;
	/* It is still in the queue, and w may be freed by who hears of the error. */
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_data64(sqe, NOBODY);
	w->state = WATCH_IDLE;
	return err_set(err, -r, "io_uring: submit");
}

void ring_unwatch(struct ring *ring, struct watch *w)
{
	struct io_uring_sqe *sqe;

	forget_again(ring, w);
	forget_later(ring, w);
	if (w->state == WATCH_IDLE || w->state == WATCH_REFUSED) {
		w->state = WATCH_IDLE;
		if (w->gone)
			w->gone(w);
		return;
	}
	if (w->state == WATCH_CANCELLED)
		return;
	sqe = next_sqe(ring);
	io_uring_prep_poll_remove(sqe, (uint64_t)(uintptr_t)w);
	io_uring_sqe_set_data64(sqe, NOBODY);
	w->state = WATCH_CANCELLED;
	io_uring_submit(&ring->uring);
}

void ring_populate(struct ring *ring, struct populate *p, const void *addr, uint64_t len)
{
	struct io_uring_sqe *sqe = next_sqe(ring);

	/* The length is 32 bits there, and nobody asks for more at a time. */
	io_uring_prep_madvise(sqe, (void *)(uintptr_t)addr, (uint32_t)len, MADV_POPULATE_READ);
	io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)p | IS_POPULATE);
	p->next = ring->populating;
	p->prev = &ring->populating;
	if (p->next)
		p->next->prev = &p->next;
	ring->populating = p;
	io_uring_submit(&ring->uring); /* or ring_wait() hands it over */
}

static int dispatch(struct ring *ring, uint64_t data, int res, unsigned flags)
{
	struct watch *w = (struct watch *)(uintptr_t)data;
	bool more = flags & IORING_CQE_F_MORE;

	if (data == NOBODY || data == LIBURING_UDATA_TIMEOUT)
		return 0;
	if (data & IS_POPULATE) {
		struct populate *p = (struct populate *)(uintptr_t)(data & ~IS_POPULATE);

		forget_populate(p);
		p->done(p, res);
		return 1;
	}
	if (w->state == WATCH_CANCELLED) {
		if (!more) {
			w->state = WATCH_IDLE;
			if (w->gone)
				w->gone(w);
		}
		return 0;
	}
	if (!more)
		w->state = WATCH_IDLE;
	if (!more && res < 0 && res != -EBADF && res != -ECANCELED) {
		w->state = WATCH_REFUSED;
		ring_retry(ring, w);
		return 0;
	}
	if (!more && res >= 0)
		arm(ring, w); /* the kernel ended the multishot (a full queue): go on */
	w->ready(w, res < 0 ? (uint32_t)POLLERR : (uint32_t)res);
	return 1;
}

int ring_wait(struct ring *ring, int64_t timeout, struct err *err)
{
	struct io_uring_cqe *cqe;
	unsigned nr_again = ring->nr_again;
	int called = 0, r = 0;

	if (ring->later && timeout > 0)
		timeout = sooner(timeout, max_i64(0, ring->later_at - clock_now()));
	if (nr_again)
		timeout = 0;
	if (io_uring_sq_ready(&ring->uring) && io_uring_submit(&ring->uring) < 0)
		timeout = sooner(timeout, SUBMIT_AGAIN);
	if (timeout > 0 && io_uring_peek_cqe(&ring->uring, &cqe) < 0) {
		struct __kernel_timespec ts = {.tv_sec = timeout / NSEC_PER_SEC,
		                               .tv_nsec = timeout % NSEC_PER_SEC};

		r = io_uring_wait_cqe_timeout(&ring->uring, &cqe,
		                              timeout == INT64_MAX ? NULL : &ts);
		if (r < 0 && r != -ETIME && !is_passing(r))
			return err_set(err, -r, "io_uring: wait");
		if (r < 0 && r != -ETIME && r != -EINTR)
			nap();
	}
	/* Handlers may arm and cancel: take one entry at a time, and only those that are here now.
	 */
	while (called < RING_CQ_ENTRIES && io_uring_peek_cqe(&ring->uring, &cqe) == 0) {
		uint64_t data = cqe->user_data;
		unsigned flags = cqe->flags;
		int res = cqe->res;

		io_uring_cqe_seen(&ring->uring, cqe);
		called += dispatch(ring, data, res, flags);
	}
	called += call_again(ring, nr_again);
	return called + call_later(ring);
}
