/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The trees of a tracker: linking, cutting, looking up.  See extents.h. */
#include "criu-lazy/track/extents.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum {
	RESERVE_MAX = 1000, /* events */
	POOL_MAX = (RESERVE_MAX + 1) * EXTENTS_PER_EVENT,
};

static int compare_addr(const struct extent *a, const struct extent *b)
{
	return a->start < b->start ? -1 : a->start > b->start;
}

static int compare_bit(const struct extent *a, const struct extent *b)
{
	return a->bit < b->bit ? -1 : a->bit > b->bit;
}

RB_GENERATE_STATIC(addr_tree, extent, by_addr, compare_addr)
RB_GENERATE_STATIC(bit_tree, extent, by_bit, compare_bit)

struct tracker *tracker_new(void)
{
	struct tracker *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	RB_INIT(&t->extents);
	RB_INIT(&t->by_bit);
	RB_INIT(&t->tickets);
	TAILQ_INIT(&t->limbo);
	TAILQ_INIT(&t->buried);
	TAILQ_INIT(&t->pool);
	return t;
}

static void free_list(struct extent_list *list)
{
	struct extent *e;

	while ((e = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, e, link);
		free(e);
	}
}

void tracker_free(struct tracker *t)
{
	struct ticket *ticket;
	struct extent *e;

	if (!t)
		return;
	while ((ticket = tracker_any_ticket(t)))
		tracker_end(t, ticket);
	while ((e = RB_ROOT(&t->extents))) {
		RB_REMOVE(addr_tree, &t->extents, e);
		free(e);
	}
	free_list(&t->limbo);
	free_list(&t->buried);
	free_list(&t->pool);
	free(t->doubts);
	bits_release(&t->missing);
	free(t);
}

uint64_t tracker_nr_missing(const struct tracker *t)
{
	return t->nr_missing;
}

struct extent *extent_after(const struct tracker *t, uint64_t addr)
{
	struct extent *e = RB_ROOT(&t->extents), *best = NULL;

	while (e) {
		if (extent_end(e) > addr) {
			best = e;
			e = RB_LEFT(e, by_addr);
		} else {
			e = RB_RIGHT(e, by_addr);
		}
	}
	return best;
}

struct extent *extent_after_bit(const struct tracker *t, uint64_t bit)
{
	struct extent *e = RB_ROOT(&t->by_bit), *best = NULL;

	while (e) {
		if (e->bit + e->nr_pages > bit) {
			best = e;
			e = RB_LEFT(e, by_bit);
		} else {
			e = RB_RIGHT(e, by_bit);
		}
	}
	return best;
}

struct extent *extent_following(struct extent *e)
{
	return RB_NEXT(addr_tree, NULL, e);
}

void extent_link(struct tracker *t, struct extent *e)
{
	assert(e->nr_missing);
	RB_INSERT(addr_tree, &t->extents, e);
	RB_INSERT(bit_tree, &t->by_bit, e);
	t->nr_missing += e->nr_missing;
}

void extent_unlink(struct tracker *t, struct extent *e)
{
	RB_REMOVE(addr_tree, &t->extents, e);
	RB_REMOVE(bit_tree, &t->by_bit, e);
	t->nr_missing -= e->nr_missing;
}

void extent_discard(struct tracker *t, struct extent *e)
{
	if (t->nr_pool >= POOL_MAX) {
		free(e);
		return;
	}
	TAILQ_INSERT_HEAD(&t->pool, e, link);
	t->nr_pool++;
}

struct extent *extent_split(struct tracker *t, struct extent *e, uint64_t addr, bool linked)
{
	uint64_t lower = (addr - e->start) >> PAGE_SHIFT, upper = e->nr_pages - lower, count;
	struct extent *high = TAILQ_FIRST(&t->pool);

	assert(high && lower && upper);
	TAILQ_REMOVE(&t->pool, high, link);
	t->nr_pool--;
	/* Count the smaller side only: cutting page after page off a large extent stays cheap. */
	if (lower < upper)
		count = bits_count(&t->missing, e->bit, lower);
	else
		count = e->nr_missing - bits_count(&t->missing, e->bit + lower, upper);
	*high = (struct extent){
		.start = addr,
		.nr_pages = upper,
		.img = e->img + (lower << PAGE_SHIFT),
		.bit = e->bit + lower,
		.nr_missing = e->nr_missing - count,
		.born = e->born,
		.wiped_by_fork = e->wiped_by_fork,
		.gone = e->gone,
	};
	if (linked)
		extent_unlink(t, e);
	e->nr_pages = lower;
	e->nr_missing = count;
	if (!linked)
		return high;
	if (high->nr_missing)
		extent_link(t, high);
	else
		extent_discard(t, high);
	if (e->nr_missing)
		extent_link(t, e);
	else
		extent_discard(t, e);
	return high;
}

void extent_cut(struct tracker *t, uint64_t addr)
{
	struct extent *e = extent_after(t, addr);

	if (e && e->start < addr)
		extent_split(t, e, addr, true);
}

int tracker_reserve(struct tracker *t, size_t nr)
{
	size_t want = (nr + 1) * EXTENTS_PER_EVENT, doubts = t->nr_doubts + nr;
	struct doubt *grown;
	struct extent *e;

	assert(nr <= RESERVE_MAX);
	while (t->nr_pool < want) {
		e = malloc(sizeof(*e));
		if (!e)
			return -ENOMEM;
		extent_discard(t, e);
	}
	if (doubts > t->room_doubts) {
		grown = realloc(t->doubts, 2 * doubts * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		t->doubts = grown;
		t->room_doubts = 2 * doubts;
	}
	return 0;
}

int tracker_add(struct tracker *t, uint64_t start, uint64_t img, uint64_t nr_pages)
{
	struct extent *last = RB_MAX(addr_tree, &t->extents), *e;
	uint64_t bit = t->missing.nr;

	if (!nr_pages || !page_aligned(start | img) || start >= USER_ADDRESS_END ||
	    nr_pages > (USER_ADDRESS_END - start) >> PAGE_SHIFT ||
	    (last && extent_end(last) > start))
		return -EINVAL;
	if (last && extent_end(last) == start &&
	    last->img + (last->nr_pages << PAGE_SHIFT) == img) {
		if (bits_append(&t->missing, nr_pages) < 0)
			return -ENOMEM;
		last->nr_pages += nr_pages;
		last->nr_missing += nr_pages;
		t->nr_missing += nr_pages;
		return 0;
	}
	e = malloc(sizeof(*e));
	if (!e)
		return -ENOMEM;
	if (bits_append(&t->missing, nr_pages) < 0) {
		free(e);
		return -ENOMEM;
	}
	*e = (struct extent){
		.start = start,
		.nr_pages = nr_pages,
		.img = img,
		.bit = bit,
		.nr_missing = nr_pages,
	};
	extent_link(t, e);
	return 0;
}
