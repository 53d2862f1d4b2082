/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When was the change made that an event tells?  Concluded from the events heard in this window.
 *
 * What the kernel tells, in this order, each event after the one before was read (seen in 6.18):
 *
 *	mremap() to a free place	REMAP, UNMAP of the old place
 *	MREMAP_DONTUNMAP		REMAP
 *	MREMAP_FIXED, occupied		first UNMAP of exactly [to, to + new length), then as above
 *	shrinking on the way		REMAP, UNMAP of the tail, UNMAP of the old place
 *
 * A first event is told at once; the next ones when the thread was woken and ran, and other threads
 * may have changed and told a lot meanwhile.  So when limbo holds something of a REMAP's old place
 * and an UNMAP was heard that starts where it moves to, the move was made when that UNMAP was read.
 *
 * Only what lies in limbo is taken for evidence: without it, munmap() followed by a move to the
 * freed place looks the same, and is what programs do all day.
 */
#include "criu-lazy/track/extents.h"

struct heard *heard_nth(const struct tracker *t, size_t back)
{
	const struct heard *h = &t->heard[(t->nr_heard - 1 - back) % HEARD_MAX];

	if (back >= HEARD_MAX || back >= t->nr_heard || h->event <= t->window)
		return NULL;
	return (struct heard *)h;
}

struct heard *order_remember(struct tracker *t, enum heard_what what, uint64_t start, uint64_t end,
                             uint64_t made)
{
	struct heard *h = &t->heard[t->nr_heard++ % HEARD_MAX];

	*h = (struct heard){.event = t->now, .made = made, .what = what, .place = {start, end}};
	return h;
}

static bool alive(const struct extent *e, uint64_t when)
{
	return e->born <= when && when < e->gone;
}

static bool in_range(const struct extent *e, uint64_t start, uint64_t end)
{
	return e->start < end && start < extent_end(e);
}

/* Was there something at that time which is in limbo now? */
static bool displaced_since(const struct tracker *t, uint64_t start, uint64_t end, uint64_t when)
{
	const struct extent *e;

	TAILQ_FOREACH(e, &t->limbo, link)
		if (in_range(e, start, end) && alive(e, when))
			return true;
	return false;
}

/* May it have been moved away by a call that has told its first UNMAP only, or be the tail of what
 * shrinks on its way? */
static bool awaited(struct tracker *t, const struct extent *e)
{
	struct heard *h;
	size_t i;

	for (i = 0; (h = heard_nth(t, i)); i++) {
		if (h->matched || !alive(e, h->made))
			continue;
		if (h->what == HEARD_UNMAP || h->place.end <= e->start)
			return true;
	}
	return false;
}

/* Before now when limbo has something of the range that no unfinished call accounts for. */
static uint64_t unannounced(struct tracker *t, uint64_t start, uint64_t end)
{
	struct extent *e;

	TAILQ_FOREACH(e, &t->limbo, link)
		if (in_range(e, start, end) && !awaited(t, e))
			return e->gone - 1;
	return t->now;
}

/* Somebody who knew may have told: see tracker_date(). */
static uint64_t dated(struct tracker *t, uint64_t when)
{
	if (t->date_told)
		when = t->now - min_u64(t->date, t->now);
	t->date_told = false;
	t->date = t->now - when;
	return when;
}

uint64_t order_remap(struct tracker *t, uint64_t start, uint64_t end, uint64_t to)
{
	uint64_t when = t->now, first = 0;
	struct heard *h;
	size_t i;

	for (i = 0; (h = heard_nth(t, i)); i++)
		if (h->what == HEARD_UNMAP && !h->matched && h->place.start == to &&
		    h->place.end - to >= end - start)
			break;
	if (h) {
		h->matched = true;
		first = h->event;
		if (displaced_since(t, start, end, h->event))
			when = h->event;
	}
	if (when == t->now)
		when = unannounced(t, start, end);
	when = dated(t, when);
	h = order_remember(t, HEARD_REMAP, start, end, when);
	h->to = to;
	h->first = first;
	return when;
}

static uint64_t conclude_unmap(struct tracker *t, uint64_t start, uint64_t end)
{
	uint64_t when = t->now;
	struct heard *h;
	size_t i;

	for (i = 0; (h = heard_nth(t, i)); i++) {
		if (h->what != HEARD_REMAP)
			continue;
		if (!h->matched && h->place.start == start && h->place.end == end) {
			h->matched = true;
			return h->made;
		}
		/* The real one after another UNMAP was taken for it; or the tail. */
		if (h->place.start <= start &&
		    (start < h->place.end || (start == h->place.end && !h->matched)))
			when = min_u64(when, h->made);
	}
	if (i == HEARD_MAX)
		when = t->window; /* who knows */
	order_remember(t, HEARD_UNMAP, start, end, when);
	return when == t->now ? unannounced(t, start, end) : when;
}

uint64_t order_unmap(struct tracker *t, uint64_t start, uint64_t end)
{
	return dated(t, conclude_unmap(t, start, end));
}
