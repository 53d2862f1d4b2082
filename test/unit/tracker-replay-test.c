/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a replay is told besides the events, one story each; tracker-save-test.c has the rest. */
#include "criu-lazy/track/save.h"

#include "criu-lazy/base/page.h"
#include "criu-lazy/track/tracker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define RUN_BASE UINT64_C(0x7f0000000000)
#define IMG_BASE UINT64_C(0x10000000)

static uint64_t addr_of(unsigned int page)
{
	return RUN_BASE + ((uint64_t)page << PAGE_SHIFT);
}

/* Pages 52 (image 100), 70 (101), 79 (102); 52 is delivered. */
static struct tracker *three_pages(uint64_t *marks)
{
	struct tracker *t = tracker_new();

	assert_non_null(t);
	assert_int_equal(tracker_add(t, addr_of(52), 100 * PAGE_SIZE, 1), 0);
	assert_int_equal(tracker_add(t, addr_of(70), 101 * PAGE_SIZE, 1), 0);
	assert_int_equal(tracker_add(t, addr_of(79), 102 * PAGE_SIZE, 1), 0);
	assert_int_equal(tracker_reserve(t, 4), 0);
	tracker_set_marks(t, marks);
	return t;
}

static uint64_t img_at(const struct tracker *t, unsigned int page)
{
	struct ticket *ticket;
	uint64_t img = 0;

	return tracker_fault(t, addr_of(page), &img, &ticket) == TRACKER_FETCH ? img / PAGE_SIZE
	                                                                       : 0;
}

/*
 *	A  mremap(52 -> 79, FIXED) !  ?UNMAP(79)                  ?REMAP(52,79)
 *	B                                 mremap(70 -> 52) ! ?REMAP(70,52)
 *
 * Who has 52 as missing finds it in limbo, so that A's REMAP is older than B's; who has it
 * delivered moves what B brought there.  What the owner concluded is what it acted on.
 */
static void replay(bool told, unsigned int want_101_at)
{
	uint64_t marks[1] = {0}, date[3];
	struct tracker *owner = three_pages(marks), *t = three_pages(NULL);

	tracker_delivered(owner, addr_of(52), 1);
	assert_int_equal(marks[0], 1);
	tracker_unmap(owner, addr_of(79), addr_of(80));
	date[0] = tracker_dated(owner);
	tracker_remap(owner, addr_of(70), addr_of(52), PAGE_SIZE);
	date[1] = tracker_dated(owner);
	tracker_remap(owner, addr_of(52), addr_of(79), PAGE_SIZE);
	date[2] = tracker_dated(owner);
	assert_int_equal(img_at(owner, 79), 101);

	if (told)
		tracker_date(t, date[0]);
	tracker_unmap(t, addr_of(79), addr_of(80));
	if (told)
		tracker_date(t, date[1]);
	tracker_remap(t, addr_of(70), addr_of(52), PAGE_SIZE);
	if (told)
		tracker_date(t, date[2]);
	tracker_remap(t, addr_of(52), addr_of(79), PAGE_SIZE);
	assert_int_equal(tracker_dated(t), told ? date[2] : 2);
	tracker_set_marks(t, marks);
	tracker_recall(t);
	assert_int_equal(img_at(t, want_101_at), 101);
	assert_int_equal(tracker_nr_missing(t), 1);
	tracker_free(owner);
	tracker_free(t);
}

static void test_dates(void **state)
{
	(void)state;
	replay(true, 79);
	replay(false, 52);
}

static void test_forget(void **state)
{
	struct tracker *t = tracker_new();
	struct tracker_run run = {addr_of(4), 104 * PAGE_SIZE, 8};

	(void)state;
	assert_non_null(t);
	assert_int_equal(tracker_add(t, addr_of(0), 100 * PAGE_SIZE, 10), 0);
	assert_int_equal(tracker_add(t, addr_of(10), 300 * PAGE_SIZE, 10), 0);
	assert_int_equal(tracker_reserve(t, 2), 0);
	tracker_forget(t, &run); /* 10 and 11 are not of that run */
	assert_int_equal(tracker_nr_missing(t), 14);
	assert_int_equal(img_at(t, 3), 103);
	assert_int_equal(img_at(t, 4), 0);
	assert_int_equal(img_at(t, 9), 0);
	assert_int_equal(img_at(t, 10), 300);
	tracker_free(t);
}

/*
 *	A  mremap(8 -> 20) ! ?REMAP(8,20)                    ?UNMAP(8)              (then quiet)
 *	B       mremap(0 -> 8) !  ?REMAP(0,8)
 * The UNMAP is a doubt about 8.  The owner learns that 8 is mapped and is interrupted; later 8 is
 * displaced.  Who replays must not take it for gone then.
 */
static void test_confirm(void **state)
{
	struct tracker *t = tracker_new();
	struct tracker_run run;

	(void)state;
	assert_non_null(t);
	assert_int_equal(tracker_add(t, addr_of(0), 100 * PAGE_SIZE, 1), 0);
	assert_int_equal(tracker_add(t, addr_of(8), 108 * PAGE_SIZE, 1), 0);
	assert_int_equal(tracker_add(t, addr_of(40), 140 * PAGE_SIZE, 1), 0);
	assert_int_equal(tracker_reserve(t, 8), 0);
	assert_false(tracker_in_window(t));
	tracker_remap(t, addr_of(8), addr_of(20), PAGE_SIZE);
	tracker_remap(t, addr_of(0), addr_of(8), PAGE_SIZE);
	tracker_unmap(t, addr_of(8), addr_of(9));
	assert_true(tracker_in_window(t));
	tracker_quiet(t);
	assert_false(tracker_in_window(t));
	run = (struct tracker_run){addr_of(8), 100 * PAGE_SIZE, 1};
	tracker_confirm(t, &run);
	tracker_remap(t, addr_of(40), addr_of(8), PAGE_SIZE);
	tracker_remap(t, addr_of(8), addr_of(30), PAGE_SIZE); /* made before */
	assert_int_equal(img_at(t, 8), 140);
	assert_int_equal(img_at(t, 30), 100);
	assert_false(tracker_doubt(t, &run));
	tracker_free(t);
}

static struct tracker *saved_and_loaded(const struct tracker *t)
{
	size_t size = tracker_save_size(t);
	struct tracker *copy = NULL;
	void *bytes = malloc(size);

	assert_non_null(bytes);
	tracker_save(t, bytes);
	assert_int_equal(tracker_load(bytes, size, &copy, NULL), 0);
	free(bytes);
	return copy;
}

/* Marks of long runs across words, and only those. */
static void test_marks(void **state)
{
	struct tracker *t = tracker_new(), *copy;
	uint64_t marks[4] = {0};

	(void)state;
	assert_non_null(t);
	assert_int_equal(tracker_add(t, addr_of(0), IMG_BASE, 200), 0);
	assert_int_equal(tracker_nr_pages(t), 200);
	tracker_set_marks(t, marks);
	tracker_delivered(t, addr_of(3), 1);
	tracker_delivered(t, addr_of(60), 75);
	tracker_delivered(t, addr_of(192), 30);
	assert_int_equal(marks[0], UINT64_C(0xf000000000000008));
	assert_int_equal(marks[1], UINT64_MAX);
	assert_int_equal(marks[2], 0x7f);
	assert_int_equal(marks[3], 0xff);
	copy = saved_and_loaded(t);
	assert_int_equal(tracker_nr_missing(copy), 200);
	tracker_set_marks(copy, marks);
	tracker_recall(copy);
	assert_int_equal(tracker_nr_missing(copy), 200 - 1 - 75 - 8);
	assert_int_equal(tracker_nr_missing(t), 200 - 1 - 75 - 8);
	tracker_delivered(copy, addr_of(0), 200);
	assert_true(tracker_is_done(copy));
	tracker_free(copy);
	tracker_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dates),
		cmocka_unit_test(test_forget),
		cmocka_unit_test(test_confirm),
		cmocka_unit_test(test_marks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
