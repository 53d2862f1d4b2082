/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a child has seen of the changes that were made near its fork; see newborn.h.
 *
 * "Before" are the events of the window that were read before the FORK: the child has seen them,
 * unless the kernel contradicts.  "After" are those of its parent read since: it has not.
 */
#include "criu-lazy/track/newborn.h"

#include "criu-lazy/track/extents.h"

static bool overlap(struct range a, struct range b)
{
	return a.start < b.end && b.start < a.end;
}

/* REMAP: the new place. */
static struct range to_place(const struct heard *h)
{
	return (struct range){h->to, h->to + (h->place.end - h->place.start)};
}

static bool names(const struct heard *h, struct range place)
{
	return overlap(h->place, place) || (h->what == HEARD_REMAP && overlap(to_place(h), place));
}

static bool names_a_place_of(const struct heard *h, const struct heard *other)
{
	return names(h, other->place) || (other->what == HEARD_REMAP && names(h, to_place(other)));
}

/* --- what the kernel says --------------------------------------------------------------------- */

static enum newborn_answer is_mapped(const struct newborn_kernel *kernel, uint64_t addr,
                                     uint64_t len)
{
	return kernel->mapped(kernel->cookie, addr, len);
}

/* UNKNOWN also when its first and last page differ. */
static enum newborn_answer ends_of(const struct newborn_kernel *kernel, struct range place)
{
	enum newborn_answer first = is_mapped(kernel, place.start, PAGE_SIZE);

	if (place.end - place.start == PAGE_SIZE)
		return first;
	return is_mapped(kernel, place.end - PAGE_SIZE, PAGE_SIZE) == first ? first
	                                                                    : NEWBORN_UNKNOWN;
}

/*
 * Mapped, and not because something has grown into it (mremap() and brk() tell nothing of that):
 * then it would be one mapping with the page before.
 */
static bool was_there(const struct newborn_kernel *kernel, struct range place)
{
	return ends_of(kernel, place) == NEWBORN_MAPPED && place.start &&
	       is_mapped(kernel, place.start - PAGE_SIZE, 2 * PAGE_SIZE) == NEWBORN_FREE;
}

/* --- before: not seen after all --------------------------------------------------------------- */

/* Into the trees again, unless something is there by now. */
static void revive(struct tracker *t, struct extent *e)
{
	e->gone = 0;
	if (!e->nr_missing || !extent_is_free(t, e))
		extent_discard(t, e);
	else
		extent_link(t, e);
}

/* What went by that event, from limbo or from the buried. */
static void revive_all(struct tracker *t, struct extent_list *list, uint64_t event)
{
	struct extent *e, *next;

	TAILQ_FOREACH_SAFE(e, list, link, next) {
		if (e->gone != event)
			continue;
		TAILQ_REMOVE(list, e, link);
		revive(t, e);
	}
}

/* It is the last word about its places, so what lies at the new one came by it. */
static void take_back_remap(struct tracker *t, const struct heard *h)
{
	struct extent_list movers = TAILQ_HEAD_INITIALIZER(movers);
	struct range to = to_place(h);
	struct extent *e, *next;

	extent_cut(t, to.start);
	extent_cut(t, to.end);
	for (e = extent_after(t, to.start); e && e->start < to.end; e = next) {
		next = extent_following(e);
		extent_unlink(t, e);
		TAILQ_INSERT_TAIL(&movers, e, link);
	}
	while ((e = TAILQ_FIRST(&movers))) {
		TAILQ_REMOVE(&movers, e, link);
		e->start = e->start - to.start + h->place.start;
		e->born = 0;
		revive(t, e);
	}
	revive_all(t, &t->limbo, h->event); /* what it found in its way */
	if (h->first)
		revive_all(t, &t->buried, h->first);
}

/* The newest word about its places, but for the call's own and for those that were not seen. */
static bool is_last_word(const struct tracker *t, const struct heard *h, uint64_t not_seen)
{
	const struct heard *other;
	size_t i;

	for (i = 0; (other = heard_nth(t, i)) && other->event > h->event; i++)
		if (!(not_seen >> i & 1) && names_a_place_of(other, h))
			return false;
	for (i = 0; i < t->nr_after; i++)
		if (names_a_place_of(&t->after[i], h))
			return false;
	return true;
}

/*
 * Was it read before the FORK, but made after it?  Then the new place is free, or what it has left
 * (but by MREMAP_DONTUNMAP) is still there.
 */
static bool was_not_seen(const struct tracker *t, const struct newborn_kernel *kernel,
                         const struct heard *h, uint64_t not_seen)
{
	if (h->what == HEARD_UNMAP && h->matched)
		return false; /* its REMAP has the whole change */
	if (!is_last_word(t, h, not_seen))
		return false;
	if (h->what == HEARD_REMAP && ends_of(kernel, to_place(h)) == NEWBORN_FREE)
		return true;
	return (h->what == HEARD_UNMAP || h->matched) && was_there(kernel, h->place);
}

/* --- after: seen after all -------------------------------------------------------------------- */

/* Another event, of those after the FORK before this one or of all, that names the place. */
static bool others_name(const struct tracker *t, const struct heard *h, struct range place,
                        bool all)
{
	const struct heard *other;
	size_t i;

	for (i = 0; i < t->nr_after; i++) {
		other = &t->after[i];
		if (other == h && !all)
			return false;
		if (other != h && other->event != h->first && names(other, place))
			return true;
	}
	return false;
}

static bool misses_something(const struct tracker *t, struct range place)
{
	const struct extent *e = extent_after(t, place.start);

	return e && e->start < place.end;
}

/* An UNMAP was really its call's first word if nobody has named the place since. */
static bool began_before(const struct tracker *t, const struct heard *h)
{
	const struct heard *other;
	size_t i;

	if (!h->first || h->first > t->forked)
		return false;
	for (i = 0; (other = heard_nth(t, i)) && other->event > h->first; i++)
		if (names(other, to_place(h)))
			return false;
	return !others_name(t, h, to_place(h), false);
}

/*
 * The call's first word was before the FORK, or what another thread has put at its old place was:
 * then it was made before, unless what it takes away was still there.  (If it took nothing away
 * it was MREMAP_DONTUNMAP.)
 */
static bool announced(const struct tracker *t, const struct heard *h)
{
	return h->made <= t->forked || began_before(t, h);
}

static bool still_there(const struct tracker *t, const struct newborn_kernel *kernel,
                        const struct heard *h)
{
	return h->matched && ends_of(kernel, h->place) == NEWBORN_MAPPED &&
	       !others_name(t, h, h->place, true);
}

/* What is missing there cannot be there: it was moved away, and this is who tells that first. */
static bool unannounced(const struct tracker *t, const struct newborn_kernel *kernel,
                        const struct heard *h)
{
	return misses_something(t, h->place) && ends_of(kernel, h->place) == NEWBORN_FREE &&
	       !others_name(t, h, h->place, false) && !others_name(t, h, to_place(h), false);
}

/* --- all of it -------------------------------------------------------------------------------- */

static void judge_after(const struct tracker *t, const struct newborn_kernel *kernel, size_t nr,
                        struct newborn_verdict *ret)
{
	const struct heard *h = &t->after[nr];
	const uint64_t bit = UINT64_C(1) << nr;

	if (h->what != HEARD_REMAP || ends_of(kernel, to_place(h)) != NEWBORN_MAPPED)
		return;
	if (!announced(t, h))
		ret->seen |= unannounced(t, kernel, h) ? bit : 0;
	else if (!still_there(t, kernel, h))
		ret->seen |= bit;
	else if (began_before(t, h))
		ret->spared |= bit;
}

void newborn_judge(const struct tracker *child, const struct newborn_kernel *kernel,
                   struct newborn_verdict *ret)
{
	const struct heard *h;
	size_t i;

	*ret = (struct newborn_verdict){0};
	for (i = 0; (h = heard_nth(child, i)); i++)
		if (was_not_seen(child, kernel, h, ret->not_seen))
			ret->not_seen |= UINT64_C(1) << i;
	for (i = 0; i < child->nr_after; i++)
		judge_after(child, kernel, i, ret);
}

static void see(struct tracker *t, const struct heard *h)
{
	tracker_date(t, t->now + 1 - min_u64(h->made, t->forked));
	tracker_remap(t, h->place.start, h->to, h->place.end - h->place.start);
}

void newborn_end(struct tracker *child, const struct newborn_verdict *verdict)
{
	const struct heard *h;
	size_t i;

	for (i = 0; (h = heard_nth(child, i)); i++) {
		if (!(verdict->not_seen >> i & 1))
			continue;
		if (h->what == HEARD_UNMAP)
			revive_all(child, &child->buried, h->event);
		else
			take_back_remap(child, h);
	}
	for (i = 0; i < child->nr_after; i++) {
		h = &child->after[i];
		if (verdict->seen >> i & 1)
			see(child, h);
		else if (verdict->spared >> i & 1)
			revive_all(child, &child->buried, h->first);
	}
	child->nr_after = 0;
}

static void ask_about(const struct newborn_kernel *kernel, const struct heard *h)
{
	was_there(kernel, h->place);
	ends_of(kernel, h->place);
	if (h->what == HEARD_REMAP)
		ends_of(kernel, to_place(h));
}

void newborn_ask_last(const struct tracker *child, const struct newborn_kernel *kernel)
{
	if (child->nr_after)
		ask_about(kernel, &child->after[child->nr_after - 1]);
}

void newborn_ask(const struct tracker *child, const struct newborn_kernel *kernel)
{
	const struct heard *h;
	size_t i;

	for (i = 0; (h = heard_nth(child, i)); i++)
		ask_about(kernel, h);
	for (i = 0; i < child->nr_after; i++)
		ask_about(kernel, &child->after[i]);
}

/* Later words of a call change what its first one was. */
static void correct(struct tracker *child, const struct tracker *parent)
{
	const struct heard *now;
	struct heard *h;
	size_t i, back;

	for (back = 0; (now = heard_nth(parent, back)); back++) {
		for (i = 0; (h = heard_nth(child, i)); i++)
			if (h->event == now->event)
				h->matched = now->matched;
		for (i = 0; i < child->nr_after; i++)
			if (child->after[i].event == now->event)
				child->after[i] = *now;
	}
}

void newborn_hear(struct tracker *child, const struct tracker *parent)
{
	const struct heard *last = heard_nth(parent, 0);
	uint64_t known = child->nr_after ? child->after[child->nr_after - 1].event : child->forked;

	correct(child, parent);
	if (last && last->event > known && child->nr_after < AFTER_MAX)
		child->after[child->nr_after++] = *last;
}

bool newborn_is_full(const struct tracker *child)
{
	return child->nr_after == AFTER_MAX;
}

/*
 * Something should be where nothing is, or nothing where something is, and nobody has told of it
 * yet.
 */
static bool is_puzzled(const struct tracker *child, const struct newborn_kernel *kernel)
{
	enum { LOOK_AT = 4096 }; /* or it would take long */
	const struct extent *e = extent_after(child, 0);
	const struct heard *h;
	unsigned int nr = 0;
	size_t i;

	for (i = 0; (h = heard_nth(child, i)); i++)
		if (h->what == HEARD_UNMAP && !h->matched &&
		    is_mapped(kernel, h->place.start, PAGE_SIZE) == NEWBORN_MAPPED)
			return true; /* the first word of somebody */
	for (; e && nr < LOOK_AT; e = extent_following((struct extent *)e), nr++) {
		const struct range place = {e->start, extent_end(e)};

		for (i = 0; i < child->nr_after && !names(&child->after[i], place); i++)
			;
		if (i == child->nr_after && is_mapped(kernel, e->start, PAGE_SIZE) == NEWBORN_FREE)
			return true;
	}
	return false;
}

bool newborn_is_due(const struct tracker *child, const struct newborn_kernel *kernel)
{
	enum { ENOUGH = 16 };

	return newborn_is_full(child) || (child->nr_after >= ENOUGH && !is_puzzled(child, kernel));
}
