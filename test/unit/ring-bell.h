/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ring-bell.h - what the tests of the event loop share: an eventfd that is watched.  Each is
 * allocated by itself and freed in gone(), so that a call after gone(), or the kernel's answer to a
 * watch that is no more, is a use after free to the sanitizer.
 */
#ifndef TEST_UNIT_RING_BELL_H
#define TEST_UNIT_RING_BELL_H

#include "test/unit/patience.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/os/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

struct bell {
	struct watch watch;
	struct ring *ring;
	int fd; /* an eventfd */
	bool unwatch_in_handler;
	bool leave_it; /* do not read */
	unsigned *nr_ready; /* outlive the bell */
	unsigned *nr_gone;
	uint32_t *events;
};

struct count {
	unsigned ready, gone;
	uint32_t events;
};

static inline void bell_ready(struct watch *w, uint32_t events)
{
	struct bell *b = (struct bell *)w;
	uint64_t rung;

	assert_int_equal(*b->nr_gone, 0);
	++*b->nr_ready;
	*b->events = events;
	if (!b->leave_it)
		while (read(b->fd, &rung, sizeof(rung)) > 0)
			;
	if (b->unwatch_in_handler)
		ring_unwatch(b->ring, w);
}

static inline void bell_gone(struct watch *w)
{
	struct bell *b = (struct bell *)w;

	++*b->nr_gone;
	close(b->fd);
	free(b);
}

static inline struct bell *bell_new(struct ring *ring, struct count *count)
{
	struct bell *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	*b = (struct bell){.watch = {.ready = bell_ready, .gone = bell_gone},
	                   .ring = ring,
	                   .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	                   .nr_ready = &count->ready,
	                   .nr_gone = &count->gone,
	                   .events = &count->events};
	assert_true(b->fd >= 0);
	return b;
}

static inline void bell_watch(struct bell *b)
{
	struct err err = {0};

	assert_int_equal(ring_watch(b->ring, &b->watch, b->fd, POLLIN, &err), 0);
}

static inline void ring_bell(int fd)
{
	uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

static inline struct ring *new_ring(void)
{
	struct ring *ring;
	struct err err = {0};
	int r = ring_new(&ring, &err);

	if (r == -EPERM || r == -ENOSYS)
		skip_because("%s", err.text);
	assert_int_equal(r, 0);
	return ring;
}

static inline int wait_ring(struct ring *ring, int64_t timeout)
{
	struct err err = {0};
	int r = ring_wait(ring, timeout, &err);

	assert_true(r >= 0);
	return r;
}

/* Until nothing has happened for a while. */
static inline void drain(struct ring *ring)
{
	while (wait_ring(ring, 10 * NSEC_PER_MSEC))
		;
}

static inline void await(struct ring *ring, const unsigned *counter, unsigned value)
{
	while (*counter < value)
		wait_ring(ring, INT64_MAX);
	assert_int_equal(*counter, value);
}

#endif
