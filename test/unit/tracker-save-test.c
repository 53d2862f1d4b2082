/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tracker that is saved, loaded or replayed goes on as the one that was not: tracker-lives.h.
 *
 * Some histories are honest (tracker-world.h: threads, events in disorder), some are wild: any
 * event, any answer.  Every second one is short, and a tracker is loaded after each of its steps.
 * TRACKER_SEED, TRACKER_STEPS: the first seed, how many histories of each kind.
 */
#include "test/unit/tracker-lives.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- histories -------------------------------------------------------------------------------- */

static void new_space(struct story *s)
{
	struct world *w = &s->w;
	unsigned int at = 0, img = 1;
	struct tracker *t = tracker_new();

	assert_non_null(t);
	w->nr_threads = 2 + below(w, THREADS - 1);
	w->next_vpg = 1;
	while (at < PAGES) {
		unsigned int end = at + 1 + below(w, 12), who = below(w, w->nr_threads + 1);

		w->next_vpg += 1000;
		img += below(w, 3);
		for (; at < end && at < PAGES; at++, w->next_vpg++) {
			w->page[at] = (struct page){who, 0, w->next_vpg};
			if (!who)
				continue;
			w->page[at].img = img++;
			assert_int_equal(tracker_add(t, addr_of(at),
			                             IMG_BASE + ((uint64_t)img << PAGE_SHIFT), 1),
			                 0);
		}
	}
	if (below(w, 2))
		assert_int_equal(tracker_wipe_on_fork(t, addr_of(20), addr_of(30)), 0);
	assert_true(tracker_nr_pages(t) <= IMAGES);
	s->parent.original = t;
	s->parent.replay = copy_of(t);
	tracker_set_marks(t, s->parent.marks);
}

static void honest_step(struct story *s, bool drain)
{
	struct world *w = &s->w;
	unsigned int turn = below(w, w->nr_threads + 1), who;
	struct thread *th = &w->thread[turn];
	struct event e;

	if (turn < w->nr_threads) {
		if (!busy(th) && !drain)
			call_something(w, turn);
		else if (busy(th) && !th->queued && (drain || !below(w, th->laziness)))
			enqueue(w, turn);
		return;
	}
	if (!w->nr_queue)
		return;
	who = w->queue[0];
	memmove(w->queue, w->queue + 1, --w->nr_queue * sizeof(*w->queue));
	th = &w->thread[who];
	th->queued = false;
	e = th->event[th->next++];
	if (e.verb == FORK && e.from != 0)
		return; /* one child is enough */
	happen(s, &e);
	moment(s);
}

static void honest_window(struct story *s)
{
	unsigned int turns = s->brief ? 12 : 8 + below(&s->w, 60), i;
	bool all = false;

	s->w.nr_children = 0;
	while (!all) {
		honest_step(s, !turns);
		turns -= turns != 0;
		for (all = !turns, i = 0; i < s->w.nr_threads; i++)
			all &= !busy(&s->w.thread[i]);
	}
	grow_up(s);
	quiet(s, &s->parent, s->w.page);
	for (i = below(&s->w, 6); i; i--)
		deliver_some(s);
	moment(s);
}

static void wild_step(struct story *s)
{
	struct world *w = &s->w;
	unsigned int what = below(w, 64), len = 1 + below(w, 16), from = below(w, PAGES - len + 1);
	struct event e = {REMAP, from, below(w, PAGES - len + 1), len};

	if (what < 3) {
		quiet(s, &s->parent, w->page);
	} else if (what < 14) {
		deliver_some(s);
	} else if (what == 14) {
		e.verb = FORK;
		happen(s, &e);
	} else if (what == 15) {
		grow_up(s);
	} else {
		e.verb = what < 22 ? REMOVE : what < 40 ? UNMAP : REMAP;
		if (e.verb == REMAP && e.to < from + len && from < e.to + len)
			return;
		happen(s, &e);
	}
	moment(s);
}

static const struct kind kinds[] = {
	{"likely", 0, 0, 0, 0, false, 0, 0},
	{"likely, fixed, slow reuse", 0, 0, 96, 0, true, 0, 0},
	{"likely, all", 0, 96, 96, 64, false, 0, 0},
	{"forks, fixed", 0, 0, 96, 0, false, 0, 64},
	{"forks, unlikely, all", 32, 96, 96, 64, false, 0, 64},
};
enum { KINDS = sizeof(kinds) / sizeof(*kinds) };

static void live(uint64_t seed, const struct kind *kind, bool brief)
{
	struct story *s = calloc(1, sizeof(*s));
	unsigned int i;

	assert_non_null(s);
	s->seed = seed;
	s->wild = !kind;
	s->brief = brief;
	s->w.kind = kind;
	s->w.random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	new_space(s);
	for (i = 0; kind && i < (brief ? 1U : 8U); i++)
		honest_window(s);
	for (i = 0; !kind && i < (brief ? 12U : 250U); i++)
		wild_step(s);
	release(&s->parent);
	release(&s->child);
	free(s);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static void lives(const struct kind *kind)
{
	uint64_t seed = from_environment("TRACKER_SEED", 1), i;
	uint64_t nr = from_environment("TRACKER_STEPS", 500);

	print_message("%s: TRACKER_SEED=%" PRIu64 " TRACKER_STEPS=%" PRIu64 "\n",
	              kind ? kind->name : "wild", seed, nr);
	for (i = 0; i < nr; i++)
		live(seed + i, kind, i % 2);
}

static void test_honest(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < KINDS; i++)
		lives(&kinds[i]);
}

static void test_wild(void **state)
{
	(void)state;
	lives(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_honest),
		cmocka_unit_test(test_wild),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
