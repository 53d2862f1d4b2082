/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How much may be on its way, for made-up networks. */
#include "test/unit/patience.h"

#include "criu-lazy/source/remote-pace.h"

/* As if so many requests of len bytes had been answered at rate, one round trip after each. */
static void feed(struct pace *p, double rate, int64_t rtt, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		pace_answered(p, (uint64_t)(rate * (double)rtt / (double)NSEC_PER_SEC), rtt);
}

static void test_nothing_known(void **state)
{
	struct pace p = {0};

	(void)state;
	assert_int_equal(pace_window(&p, true), PACE_MIN_CALM);
	assert_int_equal(pace_window(&p, false), PACE_MIN_CALM);
	pace_round_trip(&p, NSEC_PER_MSEC);
	assert_int_equal(pace_window(&p, false), PACE_MIN_CALM);
}

/* More than a round trip carries, and not much more while faults come. */
static void test_covers_a_round_trip(void **state)
{
	static const double rates[] = {1e8, 5e8, 1e9};
	static const int64_t rtts[] = {100 * NSEC_PER_USEC, NSEC_PER_MSEC, 10 * NSEC_PER_MSEC};

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		for (unsigned j = 0; j < 3; j++) {
			double carried = rates[i] * (double)rtts[j] / 1e9;
			struct pace p = {0};
			uint64_t calm, busy;

			pace_round_trip(&p, rtts[j]);
			feed(&p, rates[i], rtts[j], 100);
			busy = pace_window(&p, false);
			calm = pace_window(&p, true);
			assert_true(calm >= busy);
			assert_in_range(busy, PACE_MIN, PACE_MAX);
			assert_in_range(calm, PACE_MIN_CALM, PACE_MAX);
			if (carried < PACE_MAX)
				assert_true((double)busy >= carried);
			if (busy > PACE_MIN)
				assert_true((double)busy <= 2 * carried);
		}
}

/* From the least window to what a network carries, when only the window holds it back. */
static void test_grows(void **state)
{
	const int64_t rtt = 10 * NSEC_PER_MSEC;
	struct pace p = {0};
	unsigned trips;

	(void)state;
	pace_round_trip(&p, rtt);
	pace_answered(&p, 4096, rtt); /* all that was asked for */
	for (trips = 0; trips < 30 && pace_window(&p, true) < PACE_MAX; trips++) {
		uint64_t window = pace_window(&p, true);

		for (uint64_t at = 0; at < window; at += 256 << 10)
			pace_answered(&p, window, rtt);
	}
	assert_in_range(trips, 1, 10);
}

static void test_slower_and_faster_routes(void **state)
{
	struct pace p = {0};

	(void)state;
	pace_round_trip(&p, 10 * NSEC_PER_MSEC);
	pace_round_trip(&p, 2 * NSEC_PER_MSEC); /* shorter: believed at once */
	assert_int_equal(p.rtt, 2 * NSEC_PER_MSEC);
	pace_round_trip(&p, 20 * NSEC_PER_MSEC); /* longer: may be chance */
	assert_in_range(p.rtt, 2 * NSEC_PER_MSEC, 5 * NSEC_PER_MSEC);
	for (unsigned i = 0; i < 50; i++)
		pace_round_trip(&p, 20 * NSEC_PER_MSEC);
	assert_in_range(p.rtt, 19 * NSEC_PER_MSEC, 20 * NSEC_PER_MSEC);
	pace_round_trip(&p, 0);
	pace_round_trip(&p, -5);
	assert_true(p.rtt > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_nothing_known),
		TIMED(test_covers_a_round_trip),
		TIMED(test_grows),
		TIMED(test_slower_and_faster_routes),
	};

	return cmocka_run_group_tests_name("remote source, pace", tests, NULL, NULL);
}
