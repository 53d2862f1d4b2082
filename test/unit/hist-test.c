/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The histogram against a sorted array of the same numbers: a quantile is the right element,
 * rounded up by at most one part in sixteen and never beyond the largest.
 */
#include "criu-lazy/base/hist.h"
#include "test/unit/patience.h"

#include <stdlib.h>
#include <string.h>

enum { MANY = 20000 };

static uint64_t random64(unsigned *seed)
{
	uint64_t high = (uint64_t)rand_r(seed) << 42, low = (uint64_t)rand_r(seed);

	return high ^ low ^ (uint64_t)rand_r(seed) << 21;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The element at the same rank, exactly. */
static uint64_t true_quantile(const uint64_t *sorted, size_t nr, unsigned permille)
{
	size_t rank = (nr * permille + 999) / 1000;

	return sorted[rank ? rank - 1 : 0];
}

static void check(const struct hist *h, uint64_t *values, size_t nr)
{
	static const unsigned asked[] = {0, 1, 10, 250, 500, 900, 990, 999, 1000};

	qsort(values, nr, sizeof(*values), by_value);
	assert_int_equal(h->nr, nr);
	assert_true(h->max == values[nr - 1]);
	for (size_t i = 0; i < sizeof(asked) / sizeof(*asked); i++) {
		uint64_t want = true_quantile(values, nr, asked[i]);
		uint64_t got = hist_quantile(h, asked[i]);

		assert_true(got >= want);
		assert_true(got - want <= want / 16);
		assert_true(got <= h->max);
	}
}

static void test_empty(void **state)
{
	struct hist h = {0}, other = {0};

	(void)state;
	assert_int_equal(hist_quantile(&h, 500), 0);
	hist_merge(&h, &other);
	assert_int_equal(h.nr, 0);
	assert_int_equal(hist_quantile(&h, 1000), 0);
}

/* Below sixteen nanoseconds nothing is rounded. */
static void test_small_is_exact(void **state)
{
	(void)state;
	for (uint64_t v = 0; v < 16; v++) {
		struct hist h = {0};

		hist_add(&h, v);
		hist_add(&h, 1000);
		assert_int_equal(hist_quantile(&h, 500), v);
	}
}

/* Each power of two, its neighbours, and the largest number there is. */
static void test_edges(void **state)
{
	(void)state;
	for (unsigned bit = 0; bit < 64; bit++) {
		for (int step = -1; step <= 1; step++) {
			uint64_t v = (UINT64_C(1) << bit) + (uint64_t)step;
			struct hist h = {0};

			hist_add(&h, v);
			assert_true(hist_quantile(&h, 1) == v); /* one value: max, which is exact */
			hist_add(&h, UINT64_MAX);
			assert_true(hist_quantile(&h, 500) >= v);
			assert_true(hist_quantile(&h, 500) - v <= v / 16);
			assert_true(hist_quantile(&h, 1000) == UINT64_MAX);
		}
	}
}

/* What is larger never lands in a lower bucket. */
static void test_monotonic(void **state)
{
	uint64_t before = 0;

	(void)state;
	for (uint64_t v = 0; v < 1 << 20; v = v + 1 + v / 1000) {
		struct hist h = {0};

		hist_add(&h, v);
		hist_add(&h, UINT64_MAX);
		assert_true(hist_quantile(&h, 1) >= before);
		before = hist_quantile(&h, 1);
	}
}

static void test_random(void **state)
{
	static uint64_t values[MANY];
	unsigned seed = 1;

	(void)state;
	for (int shape = 0; shape < 20; shape++) {
		struct hist h = {0};
		size_t nr = 1 + (size_t)rand_r(&seed) % MANY;

		for (size_t i = 0; i < nr; i++) {
			values[i] = random64(&seed) >> (shape * 3);
			hist_add(&h, values[i]);
		}
		check(&h, values, nr);
	}
}

/* Merged is the same as added to one. */
static void test_merge(void **state)
{
	static struct hist parts[7], one, merged;
	static uint64_t values[MANY];
	unsigned seed = 2;

	(void)state;
	for (size_t i = 0; i < MANY; i++) {
		values[i] = random64(&seed) >> (rand_r(&seed) % 64);
		hist_add(&one, values[i]);
		hist_add(&parts[i % 7], values[i]);
	}
	for (size_t i = 0; i < 7; i++)
		hist_merge(&merged, &parts[i]);
	assert_memory_equal(&merged, &one, sizeof(one));
	check(&merged, values, MANY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_empty),     TIMED(test_small_is_exact), TIMED(test_edges),
		TIMED(test_monotonic), TIMED(test_random),         TIMED(test_merge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
