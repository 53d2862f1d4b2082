/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saved trackers that are cut short or altered, word by word: refused with a reason, or believed
 * and then of use for everything.  TRACKER_SEED: another seed.
 */
#include "criu-lazy/track/save.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/track/newborn.h"
#include "criu-lazy/track/tracker.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test/unit/tracker-saved.h"

#define RUN_BASE UINT64_C(0x7f0000000000)
#define IMG_BASE UINT64_C(0x10000000)

static uint64_t addr_of(unsigned int page)
{
	return RUN_BASE + ((uint64_t)page << PAGE_SHIFT);
}

enum { PAGES = 96 };

static uint64_t random_state;

static unsigned int below(unsigned int n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned int)((random_state * UINT64_C(0x2545f4914f6cdd1d) >> 16) % n);
}

static void any_event(struct tracker *t)
{
	unsigned int len = 1 + below(16), at = below(PAGES - len), to = below(PAGES - len);
	unsigned int what = below(10);

	assert_int_equal(tracker_reserve(t, 1), 0);
	if (what < 3)
		tracker_unmap(t, addr_of(at), addr_of(at + len));
	else if (what == 3)
		tracker_remove(t, addr_of(at), addr_of(at + len));
	else if (what == 4)
		tracker_delivered(t, addr_of(at), len / 4);
	else if (to >= at + len || at >= to + len)
		tracker_remap(t, addr_of(at), addr_of(to), len * PAGE_SIZE);
}

/* A tracker in the middle of something: any events, also a child's. */
static struct tracker *any_tracker(void)
{
	struct tracker *t = tracker_new(), *child;
	unsigned int at = 0, img = 1, steps;

	assert_non_null(t);
	for (; at < PAGES; at += 1 + below(12), img += below(3)) {
		unsigned int len = 1 + below(8);

		assert_int_equal(tracker_add(t, addr_of(at), IMG_BASE + img * PAGE_SIZE, len), 0);
		at += len;
		img += len;
	}
	for (steps = 10 + below(60); steps; steps--) {
		any_event(t);
		if (!below(20))
			tracker_quiet(t);
		if (below(40))
			continue;
		assert_int_equal(tracker_fork(t, &child), 0);
		tracker_free(t);
		t = child;
		any_event(t);
	}
	return t;
}

static enum newborn_answer wild_answer(void *cookie, uint64_t addr, uint64_t len)
{
	(void)cookie;
	assert_true(addr < USER_ADDRESS_END && len <= 2 * PAGE_SIZE);
	return (enum newborn_answer)below(3);
}

/* Everything there is to do with it. */
static void use(struct tracker *t)
{
	struct newborn_kernel kernel = {wild_answer, NULL};
	struct newborn_verdict verdict;
	struct tracker_run run;
	struct tracker *child;
	uint64_t from = 0, skip = 0, img;
	struct ticket *ticket;

	for (unsigned int i = 0; i < 12; i++)
		any_event(t);
	tracker_fault(t, addr_of(below(PAGES)), &img, &ticket);
	assert_int_equal(tracker_fork(t, &child), 0);
	for (unsigned int i = below(20); i; i--) {
		any_event(t);
		newborn_hear(child, t);
	}
	assert_int_equal(tracker_reserve(child, NEWBORN_RESERVE), 0);
	newborn_judge(child, &kernel, &verdict);
	newborn_end(child, &verdict);
	tracker_free(copy_of(child));
	tracker_quiet(child);
	while (tracker_doubt(child, &run)) {
		assert_int_equal(tracker_reserve(child, 2), 0);
		tracker_settle(child, &run, below(2));
	}
	while (tracker_next(child, from, 1000, &run)) {
		ticket = tracker_begin(child, &run, NULL);
		assert_non_null(ticket);
		assert_true(tracker_place(child, ticket, 0, &run, &skip));
		tracker_delivered(child, run.start, run.nr_pages);
		tracker_end(child, ticket);
		from = run.start + (run.nr_pages << PAGE_SHIFT);
	}
	assert_int_equal(tracker_nr_missing(child), 0);
	assert_true(tracker_is_done(child));
	tracker_free(child);
}

/* Returns whether it was believed. */
static bool hostile(const void *bytes, size_t size)
{
	struct tracker *t = NULL;
	struct err err = {0};
	int r = tracker_load(bytes, size, &t, &err);

	if (r < 0) {
		assert_true(r == -EPROTO || r == -ENOMEM);
		assert_int_equal(err.code, -r);
		assert_true(err.text[0] && !strchr(err.text, '\n'));
		assert_null(t);
		return false;
	}
	tracker_free(copy_of(t));
	use(t);
	tracker_free(t);
	return true;
}

static uint64_t poison(uint64_t word, unsigned int how)
{
	static const uint64_t bad[] = {0, 1, PAGE_SIZE, UINT64_MAX, USER_ADDRESS_END, 1U << 20};

	if (how < 64)
		return word ^ (UINT64_C(1) << how);
	if (how < 64 + sizeof(bad) / sizeof(*bad))
		return bad[how - 64];
	return how % 2 ? word + PAGE_SIZE * below(PAGES) : word - below(9);
}

/* Every word of what t saves is another one; every length is another one. */
static void attack(const struct tracker *t, uint64_t *ret_believed)
{
	enum { WAYS = 64 + 6 + 4, NR_BITS = 1 };
	size_t size, at;
	uint64_t *bytes = save(t, &size), was;
	unsigned int how;

	assert_true(hostile(bytes, size));
	for (at = 0; at < size; at++) {
		void *part =
			malloc(at ? at : 1); /* of its own: the sanitizer sees what is beyond */

		assert_non_null(part);
		memcpy(part, bytes, at);
		assert_false(hostile(part, at));
		free(part);
	}
	for (at = 0; at < size / 8; at++) {
		was = bytes[at];
		for (how = 0; how < WAYS; how++) {
			bytes[at] = poison(was, how);
			if (at == NR_BITS && bytes[at] > 1U << 22 &&
			    bytes[at] <= TRACKER_SAVE_PAGES_MAX)
				continue; /* is believed, and costs memory */
			*ret_believed += hostile(bytes, size);
		}
		bytes[at] = was;
	}
	free(bytes);
}

static void test_hostile(void **state)
{
	const char *seed = getenv("TRACKER_SEED");
	uint64_t believed = 0;

	(void)state;
	random_state = (seed ? strtoull(seed, NULL, 0) : 1) * UINT64_C(0x9e3779b97f4a7c15) + 1;
	print_message("TRACKER_SEED=%s\n", seed ? seed : "1");
	for (unsigned int i = 0; i < 12; i++) {
		struct tracker *t = any_tracker();

		attack(t, &believed);
		tracker_free(t);
	}
	print_message("%" PRIu64 " times it was believed\n", believed);
	assert_true(believed > 0);
}

static void refused(uint64_t *bytes, size_t size, size_t word, uint64_t value, const char *why)
{
	struct tracker *t = NULL;
	struct err err = {0};
	uint64_t was = bytes[word];

	bytes[word] = value;
	assert_int_equal(tracker_load(bytes, size, &t, &err), -EPROTO);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" should say \"%s\"", err.text, why);
	bytes[word] = was;
}

/* By name: the head has 9 words, an extent 7. */
static void test_refused(void **state)
{
	struct tracker *t = tracker_new(), *copy;
	enum { HEAD = 9, SECOND = HEAD + 7, LIMBO = SECOND + 7 };
	uint64_t *bytes;
	size_t size;

	(void)state;
	assert_non_null(t);
	assert_int_equal(tracker_add(t, addr_of(0), IMG_BASE, 4), 0);
	assert_int_equal(tracker_add(t, addr_of(6), IMG_BASE + 8 * PAGE_SIZE, 4), 0);
	assert_int_equal(tracker_add(t, addr_of(30), IMG_BASE + 20 * PAGE_SIZE, 4), 0);
	assert_int_equal(tracker_reserve(t, 1), 0);
	tracker_remap(t, addr_of(30), addr_of(6), 4 * PAGE_SIZE);
	bytes = save(t, &size);
	assert_int_equal(size, (HEAD + 3 * 7 + 8) * 8);
	refused(bytes, size, 0, 1, "not one of this program");
	refused(bytes, size, 1, UINT64_C(1) << 33, "too many");
	refused(bytes, size, 1, 11, "extent 1: pages that the image does not have");
	refused(bytes, size, 3, 2, "later");
	refused(bytes, size, 4, 3, "length");
	refused(bytes, size, 5, UINT64_MAX / 56 + 2, "length");
	refused(bytes, size, 8, 1U << 30, "later");
	refused(bytes, size, SECOND, addr_of(6) + 1, "extent 1: not at a page");
	refused(bytes, size, SECOND, addr_of(3), "extent 1: out of order or overlapping");
	refused(bytes, size, SECOND, USER_ADDRESS_END - PAGE_SIZE, "extent 1: empty or beyond");
	refused(bytes, size, SECOND + 1, 0, "extent 1: empty or beyond");
	refused(bytes, size, SECOND + 1, UINT64_MAX, "extent 1: empty or beyond");
	refused(bytes, size, SECOND + 3, 3, "extent 1: a page that another one has");
	refused(bytes, size, SECOND + 4, 2, "extent 1: of the future");
	refused(bytes, size, LIMBO + 3, 8, "extent in limbo 0: a page that another one has");
	refused(bytes, size, LIMBO + 5, 0, "extent in limbo 0: gone by no event");
	refused(bytes, size, LIMBO + 7, 0, "heard event 0: out of order");
	refused(bytes, size, LIMBO + 9, 2, "heard event 0: of no kind");
	refused(bytes, size, LIMBO + 12, USER_ADDRESS_END, "heard event 0: not a range");
	copy = load(bytes, size);
	tracker_free(copy);
	tracker_free(t);
	free(bytes);
}

/*
 * Limbo says that twenty areas were at one place at one time: an event there needs no more of the
 * pool than it may, and at most one of them comes to the new place.
 */
static void test_crowded_limbo(void **state)
{
	enum { AREAS = 20, HEAD = 9, LIMBO = HEAD + AREAS * 7 };
	struct tracker *t = tracker_new(), *forged;
	uint64_t *bytes, listed = 0, from = 0;
	struct tracker_run run;
	unsigned int i;
	size_t size;

	(void)state;
	assert_non_null(t);
	for (i = 0; i < 2 * AREAS; i++)
		assert_int_equal(tracker_add(t, addr_of(6 * i), IMG_BASE + 9 * i * PAGE_SIZE, 4),
		                 0);
	assert_int_equal(tracker_reserve(t, 100), 0);
	for (i = 0; i < AREAS; i++)
		tracker_remap(t, addr_of(6 * i), addr_of(6 * (AREAS + i)), 4 * PAGE_SIZE);
	bytes = save(t, &size);
	assert_int_equal(bytes[5], AREAS);
	for (i = 0; i < AREAS; i++) {
		bytes[LIMBO + 7 * i] = addr_of(1000);
		bytes[LIMBO + 7 * i + 4] = 0;
		bytes[LIMBO + 7 * i + 5] = AREAS;
	}
	forged = load(bytes, size);
	assert_int_equal(tracker_reserve(forged, 1), 0);
	tracker_date(forged, 2);
	tracker_unmap(forged, addr_of(1001), addr_of(1003));
	assert_int_equal(tracker_reserve(forged, 1), 0);
	tracker_date(forged, 3);
	tracker_remap(forged, addr_of(1000), addr_of(2000), 4 * PAGE_SIZE);
	while (tracker_next(forged, from, 1000, &run)) {
		assert_true(run.start >= from);
		listed += run.nr_pages;
		from = run.start + (run.nr_pages << PAGE_SHIFT);
	}
	assert_int_equal(tracker_nr_missing(forged), listed);
	assert_in_range(listed, 4 * AREAS, 4 * AREAS + 4);
	use(forged);
	tracker_free(forged);
	tracker_free(t);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_crowded_limbo),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
