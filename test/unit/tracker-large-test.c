/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tracker with much: many pages, many extents, long lengths; and with what it must refuse. */
#include "criu-lazy/base/page.h"
#include "criu-lazy/track/tracker.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#define GIB  (UINT64_C(1) << 30)
#define BASE UINT64_C(0x100000000000)
#define IMG  UINT64_C(0x500000000000)

enum { PAGES_PER_GIB = 1 << (30 - PAGE_SHIFT), MAX_VMAS = 65530 };

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static struct tracker *new_tracker(uint64_t nr_pages)
{
	struct tracker *t = tracker_new();

	assert_non_null(t);
	assert_int_equal(tracker_add(t, BASE, IMG, nr_pages), 0);
	assert_int_equal(tracker_nr_missing(t), nr_pages);
	return t;
}

static void expect_fetch(const struct tracker *t, uint64_t addr, uint64_t want)
{
	struct ticket *ticket = NULL;
	uint64_t img = 0;

	assert_int_equal(tracker_fault(t, addr, &img, &ticket), TRACKER_FETCH);
	assert_int_equal(img, want);
}

static void expect_zero(const struct tracker *t, uint64_t addr)
{
	struct ticket *ticket = NULL;
	uint64_t img = 0;

	assert_int_equal(tracker_fault(t, addr, &img, &ticket), TRACKER_ZERO);
}

static void reserve(struct tracker *t)
{
	assert_int_equal(tracker_reserve(t, 1), 0);
}

static void test_64_gib(void **state)
{
	const uint64_t pages = UINT64_C(64) * PAGES_PER_GIB;
	struct tracker *t = new_tracker(pages);
	double start = now();
	struct tracker_run run;
	uint64_t from = 0, i, step;

	(void)state;
	/* All but one page, delivered in small and in big steps, and that one is found. */
	for (i = 0; i < pages; i += step) {
		step = i % 7 ? 512 : 1;
		tracker_delivered(t, BASE + (i << PAGE_SHIFT),
		                  i + step < pages ? step : pages - i - 1);
	}
	tracker_delivered(t, BASE, pages - 1);
	assert_int_equal(tracker_nr_missing(t), 1);
	for (i = 0; i < 1000; i++) {
		assert_true(tracker_next(t, i * PAGE_SIZE, 1024, &run));
		assert_int_equal(run.start, BASE + 64 * GIB - PAGE_SIZE);
		assert_int_equal(run.img, IMG + 64 * GIB - PAGE_SIZE);
		assert_int_equal(run.nr_pages, 1);
	}
	print_message("64 GiB delivered, last page found 1000 times: %.3f s\n", now() - start);
	tracker_free(t);

	t = new_tracker(pages);
	start = now();
	for (i = 0; tracker_next(t, from, 1024, &run); i += run.nr_pages)
		from = run.start + (run.nr_pages << PAGE_SHIFT);
	assert_int_equal(i, pages);
	print_message("64 GiB listed: %.3f s\n", now() - start);
	tracker_free(t);
}

static void test_many_extents(void **state)
{
	struct tracker *t = tracker_new(), *child = NULL;
	double start = now();
	struct tracker_run run;
	uint64_t i, from = 0;

	(void)state;
	assert_non_null(t);
	for (i = 0; i < MAX_VMAS; i++)
		assert_int_equal(
			tracker_add(t, BASE + i * 4 * PAGE_SIZE, IMG + i * 8 * PAGE_SIZE, 3), 0);
	assert_int_equal(tracker_nr_missing(t), 3 * MAX_VMAS);
	for (i = 0; i < MAX_VMAS; i++) {
		expect_fetch(t, BASE + i * 4 * PAGE_SIZE + 2 * PAGE_SIZE + 17,
		             IMG + i * 8 * PAGE_SIZE + 2 * PAGE_SIZE);
		expect_zero(t, BASE + i * 4 * PAGE_SIZE + 3 * PAGE_SIZE);
	}
	for (i = 0; tracker_next(t, from, 1024, &run); i++)
		from = run.start + (run.nr_pages << PAGE_SHIFT);
	assert_int_equal(i, MAX_VMAS);
	assert_int_equal(tracker_fork(t, &child), 0);
	assert_int_equal(tracker_nr_missing(child), 3 * MAX_VMAS);
	/* All of them move by one event, and go by another. */
	reserve(t);
	tracker_remap(t, BASE, BASE + 16 * GIB, MAX_VMAS * 4 * PAGE_SIZE);
	assert_int_equal(tracker_nr_missing(t), 3 * MAX_VMAS);
	expect_fetch(t, BASE + 16 * GIB + 5 * PAGE_SIZE, IMG + 9 * PAGE_SIZE);
	expect_zero(t, BASE + 5 * PAGE_SIZE);
	tracker_quiet(t);
	reserve(t);
	tracker_unmap(t, BASE + 16 * GIB, BASE + 32 * GIB);
	assert_int_equal(tracker_nr_missing(t), 0);
	assert_int_equal(tracker_nr_missing(child), 3 * MAX_VMAS);
	print_message("%d extents: %.3f s\n", MAX_VMAS, now() - start);
	tracker_free(child);
	tracker_free(t);
}

static void test_every_second_page(void **state)
{
	struct tracker *t = new_tracker(PAGES_PER_GIB);
	double start = now();
	uint64_t i;

	(void)state;
	for (i = 0; i < PAGES_PER_GIB; i += 2) {
		reserve(t);
		tracker_unmap(t, BASE + (i << PAGE_SHIFT), BASE + ((i + 1) << PAGE_SHIFT));
	}
	print_message("every second page of 1 GiB unmapped, one window: %.3f s\n", now() - start);
	assert_int_equal(tracker_nr_missing(t), PAGES_PER_GIB / 2);
	for (i = 0; i < PAGES_PER_GIB; i += 2) {
		expect_zero(t, BASE + (i << PAGE_SHIFT));
		expect_fetch(t, BASE + ((i + 1) << PAGE_SHIFT), IMG + ((i + 1) << PAGE_SHIFT));
	}
	tracker_free(t);

	/* The same, moved away page by page, each with its two events. */
	t = new_tracker(PAGES_PER_GIB);
	start = now();
	for (i = 0; i < PAGES_PER_GIB; i += 2) {
		uint64_t from = BASE + (i << PAGE_SHIFT);

		reserve(t);
		tracker_remap(t, from, from + 8 * GIB, PAGE_SIZE);
		reserve(t);
		tracker_unmap(t, from, from + PAGE_SIZE);
		tracker_quiet(t);
	}
	print_message("every second page of 1 GiB moved: %.3f s\n", now() - start);
	assert_int_equal(tracker_nr_missing(t), PAGES_PER_GIB);
	for (i = 0; i < PAGES_PER_GIB; i++)
		expect_fetch(t, BASE + (i << PAGE_SHIFT) + (i % 2 ? 0 : 8 * GIB),
		             IMG + (i << PAGE_SHIFT));
	tracker_free(t);
}

/* Lengths that do not fit into 32 bits, in bytes. */
static void test_long(void **state)
{
	struct tracker *t = new_tracker(UINT64_C(32) * PAGES_PER_GIB);

	(void)state;
	reserve(t);
	tracker_remap(t, BASE + 2 * GIB, BASE + 100 * GIB, 12 * GIB);
	assert_int_equal(tracker_nr_missing(t), 32 * PAGES_PER_GIB);
	expect_fetch(t, BASE + 100 * GIB, IMG + 2 * GIB);
	expect_fetch(t, BASE + 112 * GIB - 1, IMG + 14 * GIB - PAGE_SIZE);
	expect_zero(t, BASE + 112 * GIB);
	expect_zero(t, BASE + 2 * GIB);
	expect_zero(t, BASE + 14 * GIB - 1);
	expect_fetch(t, BASE + 14 * GIB, IMG + 14 * GIB);
	tracker_quiet(t);
	reserve(t);
	tracker_unmap(t, BASE + 101 * GIB, BASE + 106 * GIB);
	assert_int_equal(tracker_nr_missing(t), 27 * PAGES_PER_GIB);
	expect_zero(t, BASE + 106 * GIB - 1);
	expect_fetch(t, BASE + 106 * GIB, IMG + 8 * GIB);
	reserve(t);
	tracker_remove(t, BASE + 15 * GIB, BASE + 31 * GIB);
	assert_int_equal(tracker_nr_missing(t), 11 * PAGES_PER_GIB);
	expect_fetch(t, BASE + 31 * GIB, IMG + 31 * GIB);
	tracker_delivered(t, BASE, UINT64_C(128) * PAGES_PER_GIB);
	assert_int_equal(tracker_nr_missing(t), 0);
	tracker_free(t);
}

/* Events are the kernel's, but come through a descriptor that a peer sent: nothing may break. */
static void test_hostile(void **state)
{
	static const uint64_t odd[] = {
		0,
		1,
		PAGE_SIZE,
		BASE - 1,
		BASE,
		BASE + 1,
		BASE + 3 * PAGE_SIZE,
		BASE + GIB / 2 + 7,
		BASE + GIB,
		USER_ADDRESS_END,
		UINT64_MAX - PAGE_SIZE,
		UINT64_MAX & PAGE_MASK,
		UINT64_MAX,
	};
	const size_t nr = sizeof(odd) / sizeof(*odd);
	size_t i, j, k;

	(void)state;
	for (i = 0; i < nr; i++)
		for (j = 0; j < nr; j++)
			for (k = 0; k < 3 * nr; k++) {
				struct tracker *t = new_tracker(PAGES_PER_GIB / 64);
				struct tracker_run run;
				uint64_t from = 0;

				assert_int_equal(tracker_reserve(t, 3), 0);
				if (k < nr)
					tracker_remap(t, odd[i], odd[j], odd[k]);
				else if (k < 2 * nr)
					tracker_unmap(t, odd[i], odd[j]);
				else
					tracker_remove(t, odd[i], odd[j]);
				tracker_unmap(t, odd[j], odd[i]);
				tracker_remap(t, odd[k % nr], odd[i], odd[j]);
				tracker_quiet(t);
				while (tracker_doubt(t, &run))
					tracker_settle(t, &run, k % 2);
				while (tracker_next(t, from, 1U << 20, &run) &&
				       run.start + (run.nr_pages << PAGE_SHIFT) > from)
					from = run.start + (run.nr_pages << PAGE_SHIFT);
				tracker_free(t);
			}
}

/* Thousands of moves to one place and no quiet moment: what is kept aside must not run out. */
static void test_never_quiet(void **state)
{
	struct tracker *t = new_tracker(PAGES_PER_GIB);
	double start = now();
	struct tracker_run run;
	uint64_t i;

	(void)state;
	for (i = 0; i < 3000; i++) {
		reserve(t);
		tracker_remap(t, BASE + i * 8 * PAGE_SIZE, BASE + 4 * GIB + i % 5 * PAGE_SIZE,
		              8 * PAGE_SIZE);
		reserve(t);
		tracker_unmap(t, BASE + 4 * GIB + i % 3 * PAGE_SIZE,
		              BASE + 4 * GIB + 4 * PAGE_SIZE);
		reserve(t);
		tracker_remap(t, BASE + 4 * GIB + i % 4 * PAGE_SIZE,
		              BASE + 5 * GIB + i % 7 * PAGE_SIZE, 3 * PAGE_SIZE);
	}
	tracker_quiet(t);
	while (tracker_doubt(t, &run))
		tracker_settle(t, &run, true);
	print_message("9000 events in one window: %.3f s\n", now() - start);
	/* What was never moved is untouched by all that. */
	expect_fetch(t, BASE + UINT64_C(3000) * 8 * PAGE_SIZE,
	             IMG + UINT64_C(3000) * 8 * PAGE_SIZE);
	assert_in_range(tracker_nr_missing(t), PAGES_PER_GIB - 3000 * 8, PAGES_PER_GIB);
	tracker_free(t);
}

static void test_bad_add(void **state)
{
	struct tracker *t = new_tracker(4);
	const uint64_t next = BASE + 4 * PAGE_SIZE;
	struct tracker_run run;

	(void)state;
	assert_int_equal(tracker_add(t, next, IMG, 0), -EINVAL);
	assert_int_equal(tracker_add(t, next + 1, IMG, 1), -EINVAL);
	assert_int_equal(tracker_add(t, next, IMG + 1, 1), -EINVAL);
	assert_int_equal(tracker_add(t, BASE + 3 * PAGE_SIZE, IMG, 1), -EINVAL);
	assert_int_equal(tracker_add(t, BASE - PAGE_SIZE, IMG, 1), -EINVAL);
	assert_int_equal(tracker_add(t, USER_ADDRESS_END, IMG, 1), -EINVAL);
	assert_int_equal(tracker_add(t, USER_ADDRESS_END - PAGE_SIZE, IMG, 2), -EINVAL);
	assert_int_equal(tracker_add(t, next, IMG, UINT64_MAX), -EINVAL);
	assert_int_equal(tracker_add(t, next, IMG, UINT64_MAX >> PAGE_SHIFT), -EINVAL);
	assert_int_equal(tracker_add(t, UINT64_MAX & PAGE_MASK, IMG, 1), -EINVAL);
	assert_int_equal(tracker_nr_missing(t), 4);
	assert_int_equal(tracker_add(t, next, IMG + 4 * PAGE_SIZE, 1), 0);
	assert_int_equal(tracker_add(t, USER_ADDRESS_END - PAGE_SIZE, IMG, 1), 0);
	assert_int_equal(tracker_nr_missing(t), 6);
	expect_fetch(t, USER_ADDRESS_END - 1, IMG);
	assert_true(tracker_next(t, 0, UINT64_MAX, &run)); /* no limit */
	assert_int_equal(run.nr_pages, 5);
	assert_false(tracker_next(t, UINT64_MAX, UINT64_MAX, &run));
	tracker_free(t);
	tracker_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_64_gib),
		cmocka_unit_test(test_many_extents),
		cmocka_unit_test(test_every_second_page),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_never_quiet),
		cmocka_unit_test(test_bad_add),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
