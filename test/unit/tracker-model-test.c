/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tracker against a plain array with one entry a page.
 *
 * Everything happens in order here and the window ends after each event (tracker-order-test.c is
 * about the opposite).  TRACKER_SEED and TRACKER_STEPS in the environment say where to start and
 * how many steps to make.
 */
#include "criu-lazy/base/page.h"
#include "criu-lazy/track/tracker.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_PAGES = 2048, MAX_TICKETS = 12 };

#define RUN_BASE UINT64_C(0x7f0000000000)

/* A fetch as its owner sees it: image pages, and which of them are still on their way. */
struct fetch {
	struct ticket *ticket;
	uint64_t first, nr; /* image pages */
};

struct space {
	struct tracker *tracker;
	unsigned int nr_pages;
	uint64_t page[MAX_PAGES]; /* image page that belongs here and is missing; 0: none */
	struct fetch fetch[MAX_TICKETS];
	unsigned int nr_fetches;
};

static uint64_t random_state;
static uint64_t seed, step;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}

static unsigned int below(unsigned int n)
{
	return (unsigned int)(next_random() % n);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

/* Like assert_true(), and tells how to come back here. */
#define check(condition)                                                                      \
	do {                                                                                  \
		if (!(condition)) {                                                           \
			print_error("TRACKER_SEED=%" PRIu64 ", step %" PRIu64 ": %s\n", seed, \
			            step, #condition);                                        \
			fail();                                                               \
		}                                                                             \
	} while (0)

static uint64_t addr_of(unsigned int page)
{
	return RUN_BASE + ((uint64_t)page << PAGE_SHIFT);
}

static unsigned int index_of(uint64_t addr)
{
	return (unsigned int)((addr - RUN_BASE) >> PAGE_SHIFT);
}

/* Which fetch has this image page, or NULL. */
static const struct fetch *fetch_of(const struct space *s, uint64_t img)
{
	unsigned int i;

	for (i = 0; i < s->nr_fetches; i++)
		if (img >= s->fetch[i].first && img < s->fetch[i].first + s->fetch[i].nr)
			return &s->fetch[i];
	return NULL;
}

/* --- compare ---------------------------------------------------------------------------------- */

static void compare_page(const struct space *s, unsigned int i)
{
	struct ticket *ticket = NULL;
	uint64_t img = 0;
	enum tracker_verdict verdict =
		tracker_fault(s->tracker, addr_of(i) + below(PAGE_SIZE), &img, &ticket);
	const struct fetch *fetch = s->page[i] ? fetch_of(s, s->page[i]) : NULL;

	if (!s->page[i]) {
		check(verdict == TRACKER_ZERO);
	} else if (fetch) {
		check(verdict == TRACKER_JOIN);
		check(ticket == fetch->ticket);
	} else {
		check(verdict == TRACKER_FETCH);
		check(img == s->page[i] << PAGE_SHIFT);
	}
}

/* Every page, the sum, and the listing of what nobody fetches. */
static void compare(const struct space *s)
{
	uint64_t missing = 0, free_pages = 0, listed = 0, from = 0, max = 1 + below(64), i;
	struct tracker_run run;

	for (i = 0; i < s->nr_pages; i++) {
		compare_page(s, (unsigned int)i);
		missing += s->page[i] != 0;
		free_pages += s->page[i] && !fetch_of(s, s->page[i]);
	}
	check(tracker_nr_missing(s->tracker) == missing);
	while (tracker_next(s->tracker, from, max, &run)) {
		check(run.start >= from && run.start >= RUN_BASE);
		check(run.nr_pages && run.nr_pages <= max);
		check(run.start + (run.nr_pages << PAGE_SHIFT) <= addr_of(s->nr_pages));
		for (i = 0; i < run.nr_pages; i++) {
			uint64_t img = s->page[index_of(run.start) + i];

			check(img == (run.img >> PAGE_SHIFT) + i);
			check(!fetch_of(s, img));
		}
		listed += run.nr_pages;
		from = run.start + (run.nr_pages << PAGE_SHIFT);
	}
	check(listed == free_pages);
}

/* --- steps ------------------------------------------------------------------------------------ */

static void random_range(const struct space *s, unsigned int *ret_at, unsigned int *ret_len)
{
	unsigned int len = 1 + below(below(4) ? 12 : s->nr_pages / 3);

	*ret_at = below(s->nr_pages - len + 1);
	*ret_len = len;
}

static void quiet(struct space *s)
{
	struct tracker_run run;

	tracker_quiet(s->tracker);
	check(!tracker_doubt(s->tracker, &run));
}

static void reserve(struct space *s)
{
	check(tracker_reserve(s->tracker, 1 + below(3)) == 0);
}

static void step_unmap(struct space *s)
{
	unsigned int at, len;

	random_range(s, &at, &len);
	reserve(s);
	if (below(2))
		tracker_unmap(s->tracker, addr_of(at), addr_of(at + len));
	else
		tracker_remove(s->tracker, addr_of(at), addr_of(at + len));
	memset(s->page + at, 0, len * sizeof(*s->page));
	quiet(s);
}

static void step_remap(struct space *s)
{
	unsigned int from, to, len;

	random_range(s, &from, &len);
	to = below(s->nr_pages - len + 1);
	if (to < from + len && from < to + len)
		return;
	reserve(s);
	tracker_unmap(s->tracker, addr_of(to), addr_of(to + len));
	memset(s->page + to, 0, len * sizeof(*s->page));
	if (below(2))
		quiet(s);
	compare_page(s, to);
	reserve(s);
	tracker_remap(s->tracker, addr_of(from), addr_of(to), (uint64_t)len << PAGE_SHIFT);
	memcpy(s->page + to, s->page + from, len * sizeof(*s->page));
	memset(s->page + from, 0, len * sizeof(*s->page));
	if (below(2)) {
		reserve(s);
		tracker_unmap(s->tracker, addr_of(from), addr_of(from + len));
	}
	quiet(s);
}

static void step_begin(struct space *s)
{
	struct tracker_run run;
	struct fetch *fetch = &s->fetch[s->nr_fetches];

	if (s->nr_fetches == MAX_TICKETS ||
	    !tracker_next(s->tracker, addr_of(below(s->nr_pages)), 1 + below(40), &run))
		return;
	*fetch = (struct fetch){.first = run.img >> PAGE_SHIFT, .nr = run.nr_pages};
	fetch->ticket = tracker_begin(s->tracker, &run, (void *)(uintptr_t)run.img);
	check(fetch->ticket != NULL);
	check(ticket_img(fetch->ticket) == run.img);
	check(ticket_nr_pages(fetch->ticket) == run.nr_pages);
	check(ticket_cookie(fetch->ticket) == (void *)(uintptr_t)run.img);
	s->nr_fetches++;
}

static void deliver(struct space *s, unsigned int at, unsigned int len)
{
	tracker_delivered(s->tracker, addr_of(at), len);
	memset(s->page + at, 0, len * sizeof(*s->page));
}

/* The bytes of a fetch have come: every page of it that is still wanted must be told a place. */
static void step_place(struct space *s)
{
	uint64_t skip = 0, at, told = 0, wanted = 0, i;
	bool all = below(4) != 0;
	struct tracker_run run;
	struct fetch *fetch;

	if (!s->nr_fetches)
		return;
	fetch = &s->fetch[below(s->nr_fetches)];
	for (i = 0; i < s->nr_pages; i++)
		wanted += s->page[i] >= fetch->first && s->page[i] < fetch->first + fetch->nr;
	while (tracker_place(s->tracker, fetch->ticket, skip, &run, &at)) {
		check(at >= skip && at + run.nr_pages <= fetch->nr);
		check(run.img >> PAGE_SHIFT == fetch->first + at);
		for (i = 0; i < run.nr_pages; i++)
			check(s->page[index_of(run.start) + i] == fetch->first + at + i);
		told += run.nr_pages;
		skip = at + run.nr_pages;
		if (all)
			deliver(s, index_of(run.start), (unsigned int)run.nr_pages);
		else if (below(2)) /* a short copy */
			deliver(s, index_of(run.start), 1 + below((unsigned int)run.nr_pages));
	}
	check(told == wanted);
	if (!all && below(2))
		return; /* and once more later */
	tracker_end(s->tracker, fetch->ticket);
	*fetch = s->fetch[--s->nr_fetches];
}

static void end_all(struct space *s)
{
	while (s->nr_fetches)
		tracker_end(s->tracker, s->fetch[--s->nr_fetches].ticket);
	check(tracker_any_ticket(s->tracker) == NULL);
}

static void new_space(struct space *s)
{
	unsigned int at = below(20), img = 1, len;

	*s = (struct space){.tracker = tracker_new(), .nr_pages = 64 + below(MAX_PAGES - 63)};
	check(s->tracker != NULL);
	while (at < s->nr_pages) {
		len = 1 + below(below(3) ? 8 : 200);
		len = len < s->nr_pages - at ? len : s->nr_pages - at;
		check(tracker_add(s->tracker, addr_of(at), (uint64_t)img << PAGE_SHIFT, len) == 0);
		for (; len; len--)
			s->page[at++] = img++;
		if (below(3)) { /* else neighbours, also in the image */
			at += below(10);
			img += below(3);
		}
	}
}

/* The child has all that is missing, and nothing in flight.  Go on with one of the two, or both. */
static void step_fork(struct space *s, struct space *other)
{
	struct space child = *s;

	check(tracker_fork(s->tracker, &child.tracker) == 0);
	child.nr_fetches = 0;
	check(tracker_any_ticket(child.tracker) == NULL);
	compare(&child);
	tracker_free(other->tracker);
	*other = child;
	if (below(2)) {
		child = *s;
		*s = *other;
		*other = child;
	}
}

static void one_step(struct space *s, struct space *other)
{
	unsigned int at, len, what = below(1000);

	if (what < 80) {
		step_unmap(s);
	} else if (what < 350) {
		step_remap(s);
	} else if (what < 500) {
		step_begin(s);
	} else if (what < 640) {
		step_place(s);
	} else if (what < 700) {
		random_range(s, &at, &len);
		deliver(s, at, 1 + len / 8);
	} else if (what < 702) {
		step_fork(s, other);
	} else if (what < 703) {
		if (s->nr_fetches && below(2))
			end_all(s);
	} else {
		compare_page(s, below(s->nr_pages));
	}
}

static void test_model(void **state)
{
	uint64_t nr_steps = from_environment("TRACKER_STEPS", 6000000), compares = 0;
	struct space *space = calloc(2, sizeof(*space)), swap;

	(void)state;
	assert_non_null(space);
	seed = from_environment("TRACKER_SEED", 1);
	random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	print_message("TRACKER_SEED=%" PRIu64 " TRACKER_STEPS=%" PRIu64 "\n", seed, nr_steps);
	new_space(&space[0]);
	new_space(&space[1]);
	for (step = 0; step < nr_steps; step++) {
		one_step(&space[0], &space[1]);
		/* Small spaces are compared more often: the cost is a page's. */
		if (!below(100 + space[0].nr_pages / 8)) {
			compare(&space[0]);
			compares++;
		}
		if (!below(500)) {
			swap = space[0];
			space[0] = space[1];
			space[1] = swap;
		}
		if (!tracker_nr_missing(space[0].tracker) || !below(3000)) {
			compare(&space[0]);
			if (below(2)) /* else tracker_free() does */
				end_all(&space[0]);
			tracker_free(space[0].tracker);
			new_space(&space[0]);
			compare(&space[0]);
		}
	}
	print_message("%" PRIu64 " steps, %" PRIu64 " full comparisons\n", step, compares);
	tracker_free(space[0].tracker);
	tracker_free(space[1].tracker);
	free(space);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
