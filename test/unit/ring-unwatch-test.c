/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The event loop: the end of a watch, which the kernel may still name when its owner is done. */
#include "test/unit/ring-bell.h"

static void test_unwatch_in_handler(void **state)
{
	struct ring *ring = new_ring();
	struct count count = {0};
	struct bell *b = bell_new(ring, &count);
	int fd = dup(b->fd);

	(void)state;
	assert_true(fd >= 0);
	b->unwatch_in_handler = true;
	bell_watch(b);
	ring_bell(fd);
	ring_bell(fd);
	await(ring, &count.gone, 1);
	ring_bell(fd);
	drain(ring);
	assert_int_equal(count.ready, 1);
	assert_int_equal(count.gone, 1);
	close(fd);
	ring_free(ring);
}

/* Nothing is freed while the kernel may still name it. */
static void test_gone_comes_later(void **state)
{
	struct ring *ring = new_ring();
	struct count count = {0};
	struct bell *b = bell_new(ring, &count);

	(void)state;
	bell_watch(b);
	ring_bell(b->fd); /* its answer is waiting already */
	ring_unwatch(ring, &b->watch);
	assert_int_equal(count.gone, 0);
	ring_unwatch(ring, &b->watch); /* once is enough */
	assert_int_equal(count.gone, 0);
	await(ring, &count.gone, 1);
	assert_int_equal(count.ready, 0);
	drain(ring);
	assert_int_equal(count.gone, 1);
	ring_free(ring);
}

static void test_unwatch_idle(void **state)
{
	struct ring *ring = new_ring();
	struct count count = {0};
	struct bell *b = bell_new(ring, &count);
	struct watch silent = {.ready = bell_ready};

	(void)state;
	ring_unwatch(ring, &silent);
	ring_unwatch(ring, &b->watch);
	assert_int_equal(count.gone, 1);
	ring_free(ring);
}

/* The same struct for another descriptor, as the handoff does. */
static void test_watch_again(void **state)
{
	struct ring *ring = new_ring();
	struct count count = {0};
	struct bell *b = bell_new(ring, &count);

	(void)state;
	b->watch.gone = NULL;
	for (unsigned i = 1; i <= 100; i++) {
		bell_watch(b);
		ring_bell(b->fd);
		await(ring, &count.ready, i);
		ring_unwatch(ring, &b->watch);
		while (b->watch.state != WATCH_IDLE)
			wait_ring(ring, INT64_MAX);
		close(b->fd);
		b->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	bell_gone(&b->watch);
	ring_free(ring);
}

static void test_free_forgets(void **state)
{
	struct ring *ring = new_ring();
	struct count count = {0};
	struct bell *b = bell_new(ring, &count);

	(void)state;
	bell_watch(b);
	ring_bell(b->fd);
	ring_free(ring);
	ring_free(NULL);
	assert_int_equal(count.ready + count.gone, 0);
	bell_gone(&b->watch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_unwatch_in_handler), TIMED(test_gone_comes_later),
		TIMED(test_unwatch_idle),       TIMED(test_watch_again),
		TIMED(test_free_forgets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
