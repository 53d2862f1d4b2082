/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ring_again(): a handler that wants another turn. */
#include "test/unit/ring-bell.h"

struct greedy {
	struct bell *bell;
	unsigned left; /* turns that it still wants */
	unsigned turns; /* that were not the kernel's */
};

static struct greedy greedy;

static void greedy_ready(struct watch *w, uint32_t events)
{
	bell_ready(w, events);
	if (!events)
		greedy.turns++;
	if (greedy.left) {
		greedy.left--;
		ring_again(greedy.bell->ring, w);
	}
}

static struct bell *new_greedy(struct ring *ring, struct count *count, unsigned turns)
{
	struct bell *b = bell_new(ring, count);

	greedy = (struct greedy){.bell = b, .left = turns};
	b->watch.ready = greedy_ready;
	bell_watch(b);
	return b;
}

static void end(struct ring *ring, struct bell *b, struct count *count)
{
	ring_unwatch(ring, &b->watch);
	await(ring, &count->gone, 1);
	drain(ring);
	ring_free(ring);
}

/* One turn each ring_wait(), which does not sleep meanwhile. */
static void test_turns(void **state)
{
	struct ring *ring = new_ring();
	struct count count = {0};
	struct bell *b = new_greedy(ring, &count, 5);

	(void)state;
	ring_bell(b->fd);
	await(ring, &count.ready, 1);
	for (unsigned i = 1; i <= 5; i++) {
		assert_int_equal(wait_ring(ring, INT64_MAX), 1);
		assert_int_equal(greedy.turns, i);
	}
	assert_int_equal(wait_ring(ring, NSEC_PER_MSEC), 0);
	end(ring, b, &count);
}

/* Others get theirs in between. */
static void test_others(void **state)
{
	struct ring *ring = new_ring();
	struct count count = {0}, other_count = {0};
	struct bell *b = new_greedy(ring, &count, 1000), *other = bell_new(ring, &other_count);

	(void)state;
	bell_watch(other);
	ring_bell(b->fd);
	await(ring, &count.ready, 1);
	ring_bell(other->fd);
	while (!other_count.ready)
		wait_ring(ring, 0);
	assert_in_range(greedy.turns, 1, 100);
	ring_unwatch(ring, &other->watch);
	end(ring, b, &count);
}

static void test_asked_twice(void **state)
{
	struct ring *ring = new_ring();
	struct count count = {0};
	struct bell *b = new_greedy(ring, &count, 0);

	(void)state;
	ring_again(ring, &b->watch);
	ring_again(ring, &b->watch);
	assert_int_equal(wait_ring(ring, INT64_MAX), 1);
	assert_int_equal(wait_ring(ring, 0), 0);
	end(ring, b, &count);
}

/* One that was unwatched meanwhile may be freed, and its neighbours in the list stay. */
static void test_unwatched(void **state)
{
	for (unsigned victim = 0; victim < 3; victim++) {
		struct ring *ring = new_ring();
		struct count count[3] = {0};
		struct bell *b[3];

		(void)state;
		for (unsigned i = 0; i < 3; i++) {
			b[i] = bell_new(ring, &count[i]);
			bell_watch(b[i]);
			ring_again(ring, &b[i]->watch);
		}
		ring_unwatch(ring, &b[victim]->watch);
		drain(ring);
		ring_again(ring, &b[(victim + 1) % 3]->watch); /* the end of the list is whole */
		drain(ring);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(count[i].ready, i == victim             ? 0
			                                 : i == (victim + 1) % 3 ? 2
			                                                         : 1);
		assert_int_equal(count[victim].gone, 1);
		for (unsigned i = 0; i < 3; i++)
			if (i != victim)
				ring_unwatch(ring, &b[i]->watch);
		drain(ring);
		ring_free(ring);
	}
}

/* By a handler of the same round. */
static void test_unwatched_by_another(void **state)
{
	struct ring *ring = new_ring();
	struct count count[2] = {0};
	struct bell *b[2];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		b[i] = bell_new(ring, &count[i]);
		b[i]->unwatch_in_handler = true;
		bell_watch(b[i]);
		ring_again(ring, &b[i]->watch);
	}
	drain(ring);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(count[i].ready, 1);
		assert_int_equal(count[i].gone, 1);
	}
	ring_free(ring);
}

static void test_not_watched(void **state)
{
	struct ring *ring = new_ring();
	struct count count = {0};
	struct bell *b = bell_new(ring, &count);

	(void)state;
	ring_again(ring, &b->watch);
	assert_int_equal(wait_ring(ring, 0), 0);
	ring_unwatch(ring, &b->watch); /* frees it */
	assert_int_equal(count.gone, 1);
	ring_free(ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_turns),
		TIMED(test_others),
		TIMED(test_asked_twice),
		TIMED(test_unwatched),
		TIMED(test_unwatched_by_another),
		TIMED(test_not_watched),
	};

	return cmocka_run_group_tests_name("ring, again", tests, NULL, NULL);
}
