/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tracker-lives.h - for tracker-save-test.c: one history, lived by several trackers at once.
 *
 *	the original	knows what was delivered, and concludes, is asked and settles
 *	loaded		from what the original saved at some point, its marks recalled; goes on
 *			alike
 *	the replay	from the beginning, or from a save: hears the events with their dates, but
 *			never what was delivered; a copy of it with the marks recalled is compared
 */
#ifndef CRIU_LAZY_TEST_UNIT_TRACKER_LIVES_H
#define CRIU_LAZY_TEST_UNIT_TRACKER_LIVES_H

#include "criu-lazy/track/newborn.h"
#include "test/unit/tracker-saved.h"
#include "test/unit/tracker-world.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

enum { WORDS = IMAGES / 64, LOADED = 12 };

/* Trackers that must agree. */
struct lives {
	struct tracker *original, *replay;
	uint64_t marks[WORDS];
	struct loaded {
		struct tracker *tracker;
		uint64_t marks[WORDS];
	} loaded[LOADED];
	unsigned int nr_loaded;
	bool newborn;
};

struct story {
	struct world w;
	struct lives parent, child;
	uint64_t seed, step;
	bool wild, brief;
};

#define check(s, condition)                                                                    \
	do {                                                                                   \
		if (!(condition)) {                                                            \
			print_error("TRACKER_SEED=%" PRIu64 ", step %" PRIu64 ": %s:%d: %s\n", \
			            (s)->seed, (s)->step, __FILE__, __LINE__, #condition);     \
			show(s);                                                               \
			fail();                                                                \
		}                                                                              \
	} while (0)

static void show(const struct story *s)
{
	for (unsigned int i = 0; i < s->w.nr_trace; i++)
		print_error("\t%s\n", s->w.trace[i].text);
}

/* --- saving and loading ----------------------------------------------------------------------- */

static struct tracker *recalled(const struct tracker *t, uint64_t *marks)
{
	struct tracker *copy = copy_of(t);

	tracker_set_marks(copy, marks);
	tracker_recall(copy);
	return copy;
}

static void load_another(struct story *s, struct lives *l)
{
	struct loaded *to = l->nr_loaded < LOADED ? &l->loaded[l->nr_loaded++]
	                                          : &l->loaded[below(&s->w, LOADED)];

	tracker_free(to->tracker);
	memcpy(to->marks, l->marks, sizeof(l->marks));
	to->tracker = recalled(l->original, to->marks);
}

/* --- comparing -------------------------------------------------------------------------------- */

static void same_next(struct story *s, const struct tracker *a, const struct tracker *b)
{
	uint64_t from = 0, max = 1 + below(&s->w, PAGES);
	struct tracker_run x, y;
	bool more;

	do {
		more = tracker_next(a, from, max, &x);
		check(s, more == tracker_next(b, from, max, &y));
		check(s,
		      !more || (x.start == y.start && x.img == y.img && x.nr_pages == y.nr_pages));
		from = x.start + (x.nr_pages << PAGE_SHIFT);
	} while (more);
}

static bool same_pages(const struct tracker *a, const struct tracker *b)
{
	struct ticket *ticket;

	for (unsigned int i = 0; i < PAGES; i++) {
		uint64_t x = 0, y = 0;

		if (tracker_fault(a, addr_of(i), &x, &ticket) !=
		            tracker_fault(b, addr_of(i), &y, &ticket) ||
		    x != y)
			return false;
	}
	return tracker_nr_missing(a) == tracker_nr_missing(b);
}

static void same(struct story *s, const struct tracker *a, const struct tracker *b)
{
	check(s, same_pages(a, b));
	check(s, tracker_is_done(a) == tracker_is_done(b));
	check(s, tracker_in_window(a) == tracker_in_window(b));
	same_next(s, a, b);
}

static void compare(struct story *s, struct lives *l)
{
	struct tracker *t;
	unsigned int i;

	if (!l->original)
		return;
	for (i = 0; i < l->nr_loaded; i++) {
		same(s, l->original, l->loaded[i].tracker);
		check(s, !memcmp(l->marks, l->loaded[i].marks, sizeof(l->marks)));
	}
	t = recalled(l->replay, l->marks);
	same(s, l->original, t);
	tracker_free(t);
}

/* --- what happens to all of them -------------------------------------------------------------- */

/* Calls what is given for each tracker that goes on as the original does, by the name of t. */
#define EACH(l, t, nr, call)                                                            \
	do {                                                                            \
		for (unsigned int each_ = 0; each_ <= (l)->nr_loaded; each_++) {        \
			struct tracker *t =                                             \
				each_ ? (l)->loaded[each_ - 1].tracker : (l)->original; \
			assert_int_equal(tracker_reserve(t, nr), 0);                    \
			call;                                                           \
		}                                                                       \
		assert_int_equal(tracker_reserve((l)->replay, nr), 0);                  \
	} while (0)

static void hear(struct lives *l, const struct event *e)
{
	uint64_t start = addr_of(e->from), end = addr_of(e->from + e->len), to = addr_of(e->to);

	if (!l->original)
		return;
	if (e->verb == REMOVE) {
		EACH(l, t, 1, tracker_remove(t, start, end));
		tracker_remove(l->replay, start, end);
	} else if (e->verb == UNMAP) {
		EACH(l, t, 1, tracker_unmap(t, start, end));
		tracker_date(l->replay, tracker_dated(l->original));
		tracker_unmap(l->replay, start, end);
	} else {
		EACH(l, t, 1, tracker_remap(t, start, to, end - start));
		tracker_date(l->replay, tracker_dated(l->original));
		tracker_remap(l->replay, start, to, end - start);
	}
}

static void deliver(struct lives *l, unsigned int at, unsigned int len)
{
	EACH(l, t, 1, tracker_delivered(t, addr_of(at), len));
}

static bool answer(struct story *s, const struct page *page, uint64_t addr)
{
	return s->wild ? below(&s->w, 2) : page[(addr - RUN_BASE) >> PAGE_SHIFT].owner != 0;
}

static void settle(struct story *s, struct lives *l, const struct page *page)
{
	struct tracker_run run, other;
	bool is_mapped;

	while (tracker_doubt(l->original, &run)) {
		for (unsigned int i = 0; i < l->nr_loaded; i++) {
			check(s, tracker_doubt(l->loaded[i].tracker, &other));
			check(s, run.start == other.start && run.img == other.img &&
			                 run.nr_pages == other.nr_pages);
		}
		if (s->wild && !below(&s->w, 6)) {
			trace(&s->w, "the kernel gives no answer");
			return;
		}
		is_mapped = answer(s, page, run.start);
		trace(&s->w, "settled: %" PRIu64 ", %d", (run.start - RUN_BASE) >> PAGE_SHIFT,
		      is_mapped);
		EACH(l, t, 2, tracker_settle(t, &run, is_mapped));
		if (is_mapped)
			tracker_confirm(l->replay, &run);
		else
			tracker_forget(l->replay, &run);
		compare(s, l);
	}
	tracker_settled(l->replay);
	for (unsigned int i = 0; i < l->nr_loaded; i++)
		check(s, !tracker_doubt(l->loaded[i].tracker, &run));
	check(s, !tracker_doubt(l->replay, &run));
}

static void quiet(struct story *s, struct lives *l, const struct page *page)
{
	struct tracker_run run;
	uint64_t from = 0;

	if (!l->original)
		return;
	trace(&s->w, "quiet");
	EACH(l, t, 1, tracker_quiet(t));
	tracker_quiet(l->replay);
	compare(s, l);
	settle(s, l, page);
	while (!s->wild && tracker_next(l->original, from, 1, &run)) {
		if (!page[(run.start - RUN_BASE) >> PAGE_SHIFT].owner) /* ENOENT */
			deliver(l, (unsigned int)((run.start - RUN_BASE) >> PAGE_SHIFT), 1);
		from = run.start + PAGE_SIZE;
	}
	compare(s, l);
}

static void release(struct lives *l)
{
	tracker_free(l->original);
	tracker_free(l->replay);
	for (unsigned int i = 0; i < l->nr_loaded; i++)
		tracker_free(l->loaded[i].tracker);
	*l = (struct lives){0};
}

/* The replay's child: nothing is copied to a newborn, so what was delivered is known. */
static void be_born(struct story *s)
{
	struct lives *l = &s->parent, *c = &s->child;

	if (c->original || l->newborn)
		return;
	c->newborn = true;
	assert_int_equal(tracker_fork(l->original, &c->original), 0);
	assert_int_equal(tracker_fork(l->replay, &c->replay), 0);
	memcpy(c->marks, l->marks, sizeof(c->marks));
	tracker_set_marks(c->original, c->marks);
	tracker_set_marks(c->replay, c->marks);
	tracker_recall(c->replay);
	tracker_set_marks(c->replay, NULL);
}

static enum newborn_answer mapped(void *cookie, uint64_t addr, uint64_t len)
{
	const struct page *page = (struct page *)cookie + ((addr - RUN_BASE) >> PAGE_SHIFT);

	if (addr < RUN_BASE)
		return NEWBORN_FREE;
	for (uint64_t i = 0; i < len >> PAGE_SHIFT; i++)
		if (!page[i].owner || page[i].vpg != page[0].vpg + i)
			return NEWBORN_FREE;
	return NEWBORN_MAPPED;
}

/* Later it is a parent like any other, half of the time. */
static void grow_up(struct story *s)
{
	struct newborn_kernel kernel = {mapped, s->w.child[0].page};
	struct newborn_verdict verdict;
	struct lives *c = &s->child;

	if (!c->original)
		return;
	trace(&s->w, "the child's story is found");
	newborn_judge(c->original, &kernel, &verdict);
	EACH(c, t, NEWBORN_RESERVE, newborn_end(t, &verdict));
	newborn_end(c->replay, &verdict);
	c->newborn = false;
	compare(s, c);
	if (!s->wild || below(&s->w, 2))
		quiet(s, c, s->w.child[0].page);
	if (below(&s->w, 2)) {
		release(c);
		return;
	}
	if (!s->wild)
		memcpy(s->w.page, s->w.child[0].page, sizeof(s->w.page));
	release(&s->parent);
	s->parent = *c;
	tracker_set_marks(s->parent.original, s->parent.marks);
	for (unsigned int i = 0; i < s->parent.nr_loaded; i++)
		tracker_set_marks(s->parent.loaded[i].tracker, s->parent.loaded[i].marks);
	*c = (struct lives){0};
}

static void happen(struct story *s, const struct event *e)
{
	const struct newborn_kernel kernel = {mapped, s->w.child[0].page};
	struct lives *c = &s->child;

	trace(&s->w, "\t\t%s %u-%u -> %u",
	      e->verb == UNMAP   ? "UNMAP"
	      : e->verb == REMAP ? "REMAP"
	      : e->verb == FORK  ? "FORK"
	                         : "REMOVE",
	      e->from, e->from + e->len, e->to);
	if (e->verb == FORK) {
		be_born(s);
		return;
	}
	hear(&s->parent, e);
	if (e->verb != REMOVE && c->original) {
		newborn_hear(c->original, s->parent.original);
		newborn_hear(c->replay, s->parent.replay);
	}
	if (c->original && newborn_is_due(c->original, &kernel))
		grow_up(s);
}

static void deliver_some(struct story *s)
{
	unsigned int at = below(&s->w, PAGES), len = 1 + below(&s->w, below(&s->w, 3) ? 2 : 24);

	if (at + len > PAGES)
		len = PAGES - at;
	trace(&s->w, "delivered %u-%u", at, at + len);
	deliver(&s->parent, at, len);
}

/* A moment after each step: somebody saves, somebody dies. */
static void moment(struct story *s)
{
	struct lives *l = &s->parent, *c = &s->child;
	struct tracker *t;

	s->step++;
	if (s->brief || !below(&s->w, 40))
		load_another(s, l);
	if (!below(&s->w, 100)) { /* the journal is made short */
		trace(&s->w, "compacted");
		t = copy_of(l->original);
		tracker_free(l->replay);
		l->replay = t;
	}
	compare(s, l);
	compare(s, c);
}

#endif
