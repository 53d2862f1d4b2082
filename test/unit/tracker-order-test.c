/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events of several threads, read in another order than the changes were made in.
 *
 * A small address space (tracker-world.h) is the truth: for each page who owns it and which image
 * page it still lacks.  Threads do system calls on it.  A call changes the truth at once and then
 * tells its events one after the other; the next one is queued some time after the one before it
 * was read.  The tracker sees only what is read.  When no call is unfinished (the kernel does not
 * refuse copies) the tracker must agree with the truth, page by page.
 *
 * A fork takes a copy of the truth, and the child's tracker must agree with that copy when no call
 * is unfinished, or enough was heard; in any case about pages that no call was changing then.
 *
 * Two kinds of disorder, measured apart:
 *   likely	a call's second and third event come late, after other threads' calls and events
 *		(the thread must be woken and run first);
 *   unlikely	a call's first event comes late too (a thread is stopped between dropping the
 *		kernel's lock and queueing, less than a microsecond later).
 *
 * TRACKER_SEED, TRACKER_STEPS: another seed, another number of steps for each kind.
 */
#include "criu-lazy/base/page.h"
#include "criu-lazy/track/newborn.h"
#include "criu-lazy/track/tracker.h"
#include "test/unit/tracker-world.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- the tracker's owner ---------------------------------------------------------------------- */

/* As an engine does when all is quiet: settle doubts, forget what the kernel does not know. */
static void close_window(struct tracker *t, const struct page *page)
{
	struct tracker_run run;
	uint64_t from = 0;

	tracker_quiet(t);
	while (tracker_doubt(t, &run)) {
		unsigned int i = (unsigned int)((run.start - RUN_BASE) >> PAGE_SHIFT);

		tracker_settle(t, &run, page[i].owner != 0);
	}
	while (tracker_next(t, from, 1, &run)) {
		assert_in_range(run.start, RUN_BASE, addr_of(PAGES) - 1);
		if (!page[(run.start - RUN_BASE) >> PAGE_SHIFT].owner)
			tracker_delivered(t, run.start, 1); /* ENOENT */
		from = run.start + PAGE_SIZE;
	}
}

static enum newborn_answer mapped(void *cookie, uint64_t addr, uint64_t len)
{
	const struct page *page = (struct page *)cookie + ((addr - RUN_BASE) >> PAGE_SHIFT);
	uint64_t i;

	if (addr < RUN_BASE)
		return NEWBORN_FREE;
	for (i = 0; i < len >> PAGE_SHIFT; i++)
		if (!page[i].owner || page[i].vpg != page[0].vpg + i)
			return NEWBORN_FREE;
	return NEWBORN_MAPPED;
}

static struct newborn_kernel kernel_of(struct child *child)
{
	return (struct newborn_kernel){mapped, child->page};
}

static void end_child(struct world *w, struct child *child)
{
	struct newborn_kernel kernel = kernel_of(child);
	struct newborn_verdict judged;
	unsigned int i;

	assert_int_equal(tracker_reserve(child->tracker, NEWBORN_RESERVE), 0);
	newborn_judge(child->tracker, &kernel, &judged);
	newborn_end(child->tracker, &judged);
	close_window(child->tracker, child->page);
	for (i = 0; i < PAGES; i++) {
		unsigned int want = child->page[i].img;
		struct ticket *ticket;
		uint64_t img = 0;
		enum tracker_verdict verdict =
			tracker_fault(child->tracker, addr_of(i), &img, &ticket);

		if (verdict == TRACKER_ZERO ? !want || w->discarded[want]
		                            : img == IMG_BASE + ((uint64_t)want << PAGE_SHIFT))
			continue;
		trace(w, "child %zu, page %u%s: image page %u, tracker says %" PRIu64,
		      (size_t)(child - w->child), i, child->in_order[i] ? ", in order" : "", want,
		      verdict == TRACKER_ZERO ? 0 : (img - IMG_BASE) >> PAGE_SHIFT);
		w->child_wrong++;
		w->wrong_in_order += child->in_order[i];
	}
	tracker_free(child->tracker);
	child->tracker = NULL;
}

/* Each event that is read is for newborn children, too. */
static void tell_children(struct world *w)
{
	unsigned int i;

	for (i = 0; i < w->nr_children; i++) {
		struct newborn_kernel kernel = kernel_of(&w->child[i]);
		struct tracker *t = w->child[i].tracker;

		if (!t)
			continue;
		newborn_hear(t, w->tracker);
		if (newborn_is_due(t, &kernel))
			end_child(w, &w->child[i]);
	}
}

static void read_event(struct world *w)
{
	unsigned int who = w->queue[0], i;
	struct thread *th = &w->thread[who];
	const struct event *e = &th->event[th->next];
	uint64_t start = addr_of(e->from), end = addr_of(e->from + e->len);

	memmove(w->queue, w->queue + 1, --w->nr_queue * sizeof(*w->queue));
	th->queued = false;
	th->next++;
	assert_int_equal(tracker_reserve(w->tracker, 1), 0);
	switch (e->verb) {
	case UNMAP:
		trace(w, "\t\t%c tells UNMAP(%u-%u)", 'A' + (int)who, e->from, e->from + e->len);
		tracker_unmap(w->tracker, start, end);
		break;
	case REMAP:
		trace(w, "\t\t%c tells REMAP(%u-%u -> %u)", 'A' + (int)who, e->from,
		      e->from + e->len, e->to);
		tracker_remap(w->tracker, start, addr_of(e->to), end - start);
		break;
	case REMOVE:
		trace(w, "\t\t%c tells REMOVE(%u-%u)", 'A' + (int)who, e->from, e->from + e->len);
		tracker_remove(w->tracker, start, end);
		for (i = e->from; i < e->from + e->len; i++)
			w->page[i].img = 0;
		break;
	case FORK:
		trace(w, "\t\t%c tells FORK: child %u", 'A' + (int)who, e->from);
		assert_int_equal(tracker_fork(w->tracker, &w->child[e->from].tracker), 0);
		return;
	}
	if (e->verb != REMOVE)
		tell_children(w);
}

static bool is_quiet(const struct world *w)
{
	unsigned int i;

	for (i = 0; i < w->nr_threads; i++)
		if (busy(&w->thread[i]))
			return false;
	return true;
}

static void end_window(struct world *w)
{
	unsigned int i;

	for (i = 0; i < w->nr_children; i++)
		if (w->child[i].tracker)
			end_child(w, &w->child[i]);
	close_window(w->tracker, w->page);
}

/* Compare page by page, and deliver some. */
static bool agrees(struct world *w)
{
	uint64_t missing = 0, lost = 0, wrong = 0;
	unsigned int i;

	for (i = 0; i < PAGES; i++) {
		struct page *page = &w->page[i];
		struct ticket *ticket;
		uint64_t img = 0;
		enum tracker_verdict verdict = tracker_fault(w->tracker, addr_of(i), &img, &ticket);

		if (page->img && verdict != TRACKER_FETCH) {
			trace(w, "page %u: lost, image page %u", i, page->img);
			lost++;
		} else if (verdict != TRACKER_ZERO &&
		           (!page->img || img != IMG_BASE + ((uint64_t)page->img << PAGE_SHIFT))) {
			trace(w, "page %u: image page %u, tracker says %" PRIu64, i, page->img,
			      (img - IMG_BASE) >> PAGE_SHIFT);
			wrong++;
		}
		missing += page->img != 0;
	}
	if (!lost && !wrong)
		assert_int_equal(tracker_nr_missing(w->tracker), missing);
	w->lost += lost;
	w->wrong += wrong;
	for (i = 0; i < PAGES; i++) {
		if (w->page[i].img && chance(w, 8)) {
			tracker_delivered(w->tracker, addr_of(i), 1);
			w->page[i].img = 0;
		}
	}
	if (w->child_wrong)
		w->wrong_children++;
	return !lost && !wrong && !w->child_wrong;
}

/* --- runs ------------------------------------------------------------------------------------- */

static void new_space(struct world *w)
{
	unsigned int at = 0, img = 1, who;

	tracker_free(w->tracker);
	w->tracker = tracker_new();
	assert_non_null(w->tracker);
	memset(w->page, 0, sizeof(w->page));
	memset(w->thread, 0, sizeof(w->thread));
	w->nr_threads = 2 + below(w, THREADS - 1);
	w->next_vpg = 1;
	while (at < PAGES) {
		unsigned int end = at + 1 + below(w, 12);

		who = below(w, w->nr_threads + 1);
		w->next_vpg += 1000;
		img += below(w, 3);
		for (; at < end && at < PAGES; at++, w->next_vpg++) {
			w->page[at] = (struct page){who, 0, w->next_vpg};
			if (!who || chance(w, 32))
				continue;
			w->page[at].img = img++;
			assert_int_equal(tracker_add(w->tracker, addr_of(at),
			                             IMG_BASE + ((uint64_t)(img - 1) << PAGE_SHIFT),
			                             1),
			                 0);
		}
	}
}

/* One turn of the scheduler. */
static void step(struct world *w, bool drain)
{
	unsigned int turn = below(w, w->nr_threads + 1);
	struct thread *th = &w->thread[turn];

	if (turn == w->nr_threads) {
		if (w->nr_queue)
			read_event(w);
	} else if (!busy(th)) {
		if (!drain)
			call_something(w, turn);
	} else if (!th->queued && (drain || !below(w, th->laziness))) {
		enqueue(w, turn);
	}
}

static unsigned int window(struct world *w)
{
	unsigned int turns = 8 + below(w, 60), steps = 0;

	w->nr_trace = w->nr_calls = w->nr_children = w->child_wrong = 0;
	memset(w->discarded, 0, sizeof(w->discarded));
	for (; turns || !is_quiet(w); steps++) {
		step(w, !turns);
		turns -= turns != 0;
	}
	end_window(w);
	return steps;
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

/* Runs a kind, and shows the shortest window in which tracker and truth differed. */
static void run(const struct kind *kind)
{
	uint64_t seed = from_environment("TRACKER_SEED", 1), steps = 0, windows = 0, bad = 0, i;
	uint64_t nr_steps = from_environment("TRACKER_STEPS", 3000000), wrong_in_order;
	struct world *w = calloc(1, sizeof(*w)), *best = calloc(1, sizeof(*w));

	assert_non_null(w);
	assert_non_null(best);
	w->kind = kind;
	w->random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	new_space(w);
	while (steps < nr_steps) {
		steps += window(w);
		windows++;
		if (!agrees(w)) {
			bad++;
			if (w->nr_trace < MAX_TRACE &&
			    (!best->nr_trace || w->nr_trace < best->nr_trace))
				*best = *w;
			new_space(w);
		} else if (!below(w, 6)) {
			new_space(w);
		}
	}
	tracker_free(w->tracker);
	print_message("%s: seed %" PRIu64 ", %" PRIu64 " steps, %" PRIu64 " windows, %" PRIu64
	              " differ (%" PRIu64 " pages lost, %" PRIu64 " wrong; %" PRIu64
	              " times in children; %" PRIu64 " pages that nobody was changing)\n",
	              kind->name, seed, steps, windows, bad, w->lost, w->wrong, w->wrong_children,
	              w->wrong_in_order);
	for (i = 0; i < best->nr_trace; i++)
		print_message("\t%s\n", best->trace[i].text);
	wrong_in_order = w->wrong_in_order;
	free(w);
	free(best);
	assert_in_range(bad * 1000000 / windows, 0, kind->allowed);
	if (!kind->first_late && !kind->grow)
		assert_int_equal(wrong_in_order, 0);
}

/*
 * What may differ, because another story has the very same events:
 *   grow	an area grows (no event tells the new end) over a place that was moved to, given up
 *		and not quiet since;
 *   fixed	A moves onto its own memory (UNMAP, then REMAP), and between these two B moves into
 *		the place that A left, of which nothing was missing any more;
 *   shrink	the tail of what shrinks on its way is told late, and looks like what fixed leaves;
 *   unlikely	an munmap() whose event comes after another thread's move into the hole, and so on.
 */
static const struct kind kinds[] = {
	/* name, first_late, grow, fixed, shrink, slow_reuse, allowed, fork */
	{"likely", 0, 0, 0, 0, false, 0, 0},
	{"likely, fixed, slow reuse", 0, 0, 96, 0, true, 0, 0},
	{"likely, fixed, shrink, slow reuse", 0, 0, 96, 64, true, 100, 0},
	{"likely, grow", 0, 96, 0, 0, false, 1000, 0},
	{"likely, fixed", 0, 0, 96, 0, false, 8000, 0},
	{"likely, all", 0, 96, 96, 64, false, 12000, 0},
	{"unlikely", 32, 0, 0, 0, false, 50000, 0},
	{"unlikely, all", 32, 96, 96, 64, false, 50000, 0},
	{"forks", 0, 0, 0, 0, false, 0, 64},
	{"forks, fixed, slow reuse", 0, 0, 96, 0, true, 0, 64},
	{"forks, grow", 0, 96, 0, 0, false, 400, 64},
	{"forks, unlikely", 32, 0, 0, 0, false, 50000, 64},
};

static void test_kind(void **state)
{
	run(*state);
}

/* The stories drawn in events.c, with pages 0-3 (image 100-103) at Z and 8-11 (108-111) at X. */
static struct tracker *two_areas(void)
{
	struct tracker *t = tracker_new();

	assert_non_null(t);
	assert_int_equal(tracker_add(t, addr_of(0), 100 * PAGE_SIZE, 4), 0);
	assert_int_equal(tracker_add(t, addr_of(8), 108 * PAGE_SIZE, 4), 0);
	assert_int_equal(tracker_reserve(t, 4), 0);
	return t;
}

static void expect(const struct tracker *t, unsigned int page, uint64_t want)
{
	struct ticket *ticket;
	uint64_t img = 0;

	assert_int_equal(tracker_fault(t, addr_of(page), &img, &ticket),
	                 want ? TRACKER_FETCH : TRACKER_ZERO);
	assert_int_equal(img, want * PAGE_SIZE);
}

/* mapped false: B has given X up again in a way that tells nothing. */
static void late_unmap(bool mapped)
{
	struct tracker *t = two_areas();
	struct tracker_run run;

	tracker_remap(t, addr_of(8), addr_of(20), 4 * PAGE_SIZE); /* A: X -> Y */
	tracker_remap(t, addr_of(0), addr_of(8), 4 * PAGE_SIZE); /* B: Z -> X */
	tracker_unmap(t, addr_of(8), addr_of(12));
	tracker_quiet(t);
	expect(t, 20, 108);
	expect(t, 11, 103);
	assert_true(tracker_doubt(t, &run));
	assert_int_equal(run.start, addr_of(8));
	assert_int_equal(run.img, 100 * PAGE_SIZE);
	assert_int_equal(run.nr_pages, 4);
	tracker_settle(t, &run, mapped);
	assert_false(tracker_doubt(t, &run));
	expect(t, 8, mapped ? 100 : 0);
	assert_int_equal(tracker_nr_missing(t), mapped ? 8 : 4);
	tracker_free(t);
}

static void test_late_unmap(void **state)
{
	struct tracker *t = two_areas();
	struct tracker_run run;

	(void)state;
	late_unmap(true);
	late_unmap(false);
	/* A window later nothing can be late. */
	tracker_remap(t, addr_of(0), addr_of(20), 4 * PAGE_SIZE);
	tracker_quiet(t);
	tracker_unmap(t, addr_of(20), addr_of(24));
	assert_int_equal(tracker_nr_missing(t), 4);
	assert_false(tracker_doubt(t, &run));
	tracker_free(t);
}

static void test_late_remap(void **state)
{
	struct tracker *t = two_areas();

	(void)state;
	tracker_remap(t, addr_of(0), addr_of(8), 4 * PAGE_SIZE); /* B: Z -> X */
	tracker_remap(t, addr_of(8), addr_of(20), 4 * PAGE_SIZE); /* A: X -> Y, made before */
	tracker_quiet(t);
	expect(t, 20, 108);
	expect(t, 8, 100);
	tracker_free(t);
}

#define TEST(nr) cmocka_unit_test_prestate(test_kind, (void *)(uintptr_t)&kinds[nr])

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_late_unmap),
		cmocka_unit_test(test_late_remap),
		TEST(0),
		TEST(1),
		TEST(2),
		TEST(3),
		TEST(4),
		TEST(5),
		TEST(6),
		TEST(7),
		TEST(8),
		TEST(9),
		TEST(10),
		TEST(11),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
