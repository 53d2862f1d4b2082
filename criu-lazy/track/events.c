/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How events change a tracker; tracker.h tells why windows, doubts and limbo exist.
 *
 * The two inversions that they are for (A and B are threads; a call changes memory at ! and its
 * event is read at ?):
 *
 *	A  mremap(X -> Y)  !  ?REMAP(X,Y)                  ?UNMAP(X)
 *	B         mremap(Z -> X)  !      ?REMAP(Z,X)
 *	the UNMAP is older than what B put at X: X keeps it, as a doubt
 *
 *	A  mremap(X -> Y)  !              ?REMAP(X,Y)
 *	B         mremap(Z -> X)  !  ?REMAP(Z,X)
 *	what B's event finds at X waits in limbo and goes to Y with A's
 */
#include "criu-lazy/track/extents.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* To the list, unless nothing is missing. */
static void put(struct tracker *t, struct extent *e, struct extent_list *list)
{
	if (e->nr_missing)
		TAILQ_INSERT_TAIL(list, e, link);
	else
		extent_discard(t, e);
}

/* Cut an extent that is in no tree down to [start, end), which it overlaps; the rest goes back
 * to the list it came from. */
static struct extent *trim(struct tracker *t, struct extent *e, uint64_t start, uint64_t end,
                           struct extent_list *rest)
{
	if (extent_end(e) > end)
		put(t, extent_split(t, e, end, false), rest);
	if (e->start < start) {
		struct extent *high = extent_split(t, e, start, false);

		put(t, e, rest);
		e = high;
	}
	return e;
}

/*
 * Move what limbo holds of [start, end) to the list, as of an event: those pieces do not overlap,
 * so two ends are to be cut.  (They may overlap after newborn_end(), or in a forged save: what
 * would need a third cut stays in limbo, for the pool has no more.)
 */
static void take_limbo(struct tracker *t, uint64_t start, uint64_t end, uint64_t when,
                       struct extent_list *to)
{
	struct extent_list rest = TAILQ_HEAD_INITIALIZER(rest);
	unsigned int cuts = 0, more;
	struct extent *e;

	while ((e = TAILQ_FIRST(&t->limbo))) {
		TAILQ_REMOVE(&t->limbo, e, link);
		if (e->start >= end || extent_end(e) <= start || e->born > when ||
		    e->gone <= when) {
			TAILQ_INSERT_TAIL(&rest, e, link);
			continue;
		}
		more = (unsigned int)(e->start < start) + (extent_end(e) > end);
		if (cuts + more > LIMBO_CUTS) {
			TAILQ_INSERT_TAIL(&rest, e, link);
			continue;
		}
		cuts += more;
		put(t, trim(t, e, start, end, &rest), to);
	}
	TAILQ_CONCAT(&t->limbo, &rest, link);
}

static void discard_list(struct tracker *t, struct extent_list *list)
{
	struct extent *e;

	while ((e = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, e, link);
		extent_discard(t, e);
	}
}

/* It is gone, but not for a child that turns out to have been made before. */
static void bury(struct tracker *t, struct extent *e)
{
	e->gone = t->now;
	TAILQ_INSERT_TAIL(&t->buried, e, link);
}

/* Was an UNMAP heard of the place after it came? */
static bool doubted(const struct tracker *t, const struct extent *e)
{
	size_t i;

	for (i = 0; i < t->nr_doubts; i++)
		if (t->doubts[i].event > e->born && t->doubts[i].range.start <= e->start &&
		    extent_end(e) <= t->doubts[i].range.end)
			return true;
	return false;
}

/* Whole pages below USER_ADDRESS_END; the kernel tells nothing else, a forger might.  false: none.
 */
static bool whole_pages(uint64_t *start, uint64_t *end)
{
	*start = page_down(*start);
	*end = page_down(min_u64(*end, USER_ADDRESS_END) + PAGE_SIZE - 1);
	return *start < *end;
}

static bool sane_remap(uint64_t from, uint64_t to, uint64_t len)
{
	return page_aligned(from | to | len) && len && len <= USER_ADDRESS_END &&
	       from <= USER_ADDRESS_END - len && to <= USER_ADDRESS_END - len;
}

/* An event that is none. */
static void undated(struct tracker *t)
{
	t->date = 0;
	t->date_told = false;
}

/* Make room at the destination of a REMAP. */
static void displace(struct tracker *t, uint64_t to, uint64_t to_end)
{
	struct extent *e, *next;

	extent_cut(t, to);
	extent_cut(t, to_end);
	for (e = extent_after(t, to); e && e->start < to_end; e = next) {
		next = extent_following(e);
		extent_unlink(t, e);
		e->gone = t->now;
		if (doubted(t, e))
			extent_discard(t, e); /* its UNMAP was read before: it is really gone */
		else
			TAILQ_INSERT_TAIL(&t->limbo, e, link);
	}
}

void tracker_remap(struct tracker *t, uint64_t from, uint64_t to, uint64_t len)
{
	struct extent_list movers = TAILQ_HEAD_INITIALIZER(movers);
	uint64_t from_end = from + len, to_end = to + len, when;
	struct extent *e, *next;

	if (!sane_remap(from, to, len)) {
		undated(t);
		return;
	}
	t->now++;
	when = order_remap(t, from, from_end, to);
	extent_cut(t, from);
	extent_cut(t, from_end);
	take_limbo(t, from, from_end, when, &movers);
	for (e = extent_after(t, from); e && e->start < from_end; e = next) {
		next = extent_following(e);
		if (e->born > when)
			continue; /* came here after this REMAP had moved the place empty */
		extent_unlink(t, e);
		TAILQ_INSERT_TAIL(&movers, e, link);
	}
	displace(t, to, to_end);
	while ((e = TAILQ_FIRST(&movers))) {
		TAILQ_REMOVE(&movers, e, link);
		e->start = e->start - from + to;
		e->born = t->now;
		if (extent_is_free(t, e))
			extent_link(t, e);
		else
			extent_discard(t, e); /* overlaps another one: see take_limbo() */
	}
}

void tracker_unmap(struct tracker *t, uint64_t start, uint64_t end)
{
	struct extent_list dead = TAILQ_HEAD_INITIALIZER(dead);
	struct extent *e, *next;
	bool doubt = false;
	uint64_t when;

	if (!whole_pages(&start, &end)) {
		undated(t);
		return;
	}
	t->now++;
	when = order_unmap(t, start, end);
	take_limbo(t, start, end, when, &dead);
	TAILQ_FOREACH(e, &dead, link)
		e->gone = t->now;
	TAILQ_CONCAT(&t->buried, &dead, link);
	extent_cut(t, start);
	extent_cut(t, end);
	for (e = extent_after(t, start); e && e->start < end; e = next) {
		next = extent_following(e);
		if (e->born > when) {
			doubt = true;
			continue;
		}
		extent_unlink(t, e);
		bury(t, e);
	}
	if (doubt && t->nr_doubts < t->room_doubts)
		t->doubts[t->nr_doubts++] = (struct doubt){{start, end}, t->now};
}

void tracker_remove(struct tracker *t, uint64_t start, uint64_t end)
{
	struct extent *e, *next;

	if (!whole_pages(&start, &end))
		return;
	extent_cut(t, start);
	extent_cut(t, end);
	for (e = extent_after(t, start); e && e->start < end; e = next) {
		next = extent_following(e);
		extent_unlink(t, e);
		extent_discard(t, e);
	}
}

void tracker_quiet(struct tracker *t)
{
	t->window = t->now;
	discard_list(t, &t->limbo);
	discard_list(t, &t->buried);
}

bool tracker_doubt(struct tracker *t, struct tracker_run *ret)
{
	for (; t->nr_doubts; t->nr_doubts--) {
		const struct doubt *d = &t->doubts[t->nr_doubts - 1];
		struct extent *e = extent_after(t, d->range.start);

		/* Older than the UNMAP, hence cut at its ends; what came later is no question. */
		while (e && e->start < d->range.end && e->born > d->event)
			e = extent_following(e);
		if (!e || e->start >= d->range.end)
			continue;
		ret->start = e->start;
		ret->img = e->img;
		ret->nr_pages = e->nr_pages;
		return true;
	}
	return false;
}

void tracker_settle(struct tracker *t, const struct tracker_run *run, bool mapped)
{
	struct extent *e = extent_after(t, run->start);

	if (!e || e->start != run->start || e->nr_pages != run->nr_pages || !t->nr_doubts)
		return;
	t->doubts[t->nr_doubts - 1].range.start = extent_end(e);
	if (mapped)
		return;
	extent_unlink(t, e);
	extent_discard(t, e);
}

int tracker_wipe_on_fork(struct tracker *t, uint64_t start, uint64_t end)
{
	struct extent *e;

	if (tracker_reserve(t, 1) < 0)
		return -ENOMEM;
	extent_cut(t, start);
	extent_cut(t, end);
	for (e = extent_after(t, start); e && e->start < end; e = extent_following(e))
		e->wiped_by_fork = true;
	return 0;
}

static struct extent *copy_extent(const struct extent *from)
{
	struct extent *e = malloc(sizeof(*e));

	if (e)
		*e = *from;
	return e;
}

static int copy_list(const struct extent_list *from, struct extent_list *to)
{
	struct extent *e, *copy;

	TAILQ_FOREACH(e, from, link) {
		if (e->wiped_by_fork)
			continue;
		copy = copy_extent(e);
		if (!copy)
			return -ENOMEM;
		TAILQ_INSERT_TAIL(to, copy, link);
	}
	return 0;
}

/* What is not settled yet about the parent is not settled about the child either. */
static int copy_window(const struct tracker *t, struct tracker *child)
{
	child->now = t->now;
	child->window = t->window;
	child->forked = t->now;
	memcpy(child->heard, t->heard, sizeof(child->heard));
	child->nr_heard = t->nr_heard;
	if (copy_list(&t->limbo, &child->limbo) < 0 || copy_list(&t->buried, &child->buried) < 0)
		return -ENOMEM;
	if (!t->nr_doubts)
		return 0;
	child->doubts = malloc(t->nr_doubts * sizeof(*child->doubts));
	if (!child->doubts)
		return -ENOMEM;
	memcpy(child->doubts, t->doubts, t->nr_doubts * sizeof(*child->doubts));
	child->nr_doubts = child->room_doubts = t->nr_doubts;
	return 0;
}

int tracker_fork(const struct tracker *t, struct tracker **ret_child)
{
	struct tracker *child = tracker_new();
	struct extent *e, *copy;

	if (!child || bits_copy(&t->missing, &child->missing) < 0)
		goto fail;
	for (e = extent_after(t, 0); e; e = extent_following(e)) {
		if (e->wiped_by_fork)
			continue;
		copy = copy_extent(e);
		if (!copy)
			goto fail;
		extent_link(child, copy);
	}
	if (copy_window(t, child) < 0)
		goto fail;
	*ret_child = child;
	return 0;
fail:
	tracker_free(child);
	return -ENOMEM;
}
