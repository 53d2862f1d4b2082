/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of the last changes a child has seen, by what it has mapped; see newborn.h.
 *
 *	REMAP(X,Y) read before FORK
 *		X mapped, Y not: not seen, taken back.
 *		X not mapped: seen; unless something is only brought to X by a change not seen.
 *		both mapped: X was taken again by a later change that was seen; or Y was occupied
 *		before (its UNMAP was told first), then not seen; or MREMAP_DONTUNMAP, seen.
 *	UNMAP(Y) read before FORK
 *		what it ended is not mapped: seen.  It is: this was the first word of a REMAP to
 *		Y that is still to come; or not seen.
 *	REMAP(X,Y), UNMAP(X) read after FORK
 *		seen if something lies at X by the tracker, and X is not mapped.
 *
 * Not told apart: an MREMAP_DONTUNMAP onto occupied lazy memory (both are mapped, seen or not).
 */
#include "criu-lazy/track/newborn.h"

#include "criu-lazy/track/extents.h"

/* More pieces are not asked about: a program of so many, all of whose threads change it all the
 * time, is left to chance rather than made to wait. */
enum { MAX_QUESTIONS = 4096 };

static bool is_mapped(const struct newborn_kernel *kernel, uint64_t addr)
{
	return kernel->mapped(kernel->cookie, addr, PAGE_SIZE);
}

/* Into the trees again, unless something is there by now. */
static void revive(struct tracker *t, struct extent *e)
{
	const struct extent *other = extent_after(t, e->start);

	e->gone = 0;
	if (!e->nr_missing || (other && other->start < extent_end(e)))
		extent_discard(t, e);
	else
		extent_link(t, e);
}

/* What went by that event, from limbo or from the buried, as far as the child has it mapped. */
static void revive_all(struct tracker *t, const struct newborn_kernel *kernel,
                       struct extent_list *list, uint64_t event)
{
	struct extent *e, *next;

	TAILQ_FOREACH_SAFE(e, list, link, next) {
		if (e->gone != event || !is_mapped(kernel, e->start))
			continue;
		TAILQ_REMOVE(list, e, link);
		revive(t, e);
	}
}

/*
 * Every REMAP that is later has been taken back already, so what lies at the new place came by this
 * one; also what lay there until a later UNMAP, which has not been seen then, either.
 */
static void take_back_remap(struct tracker *t, const struct newborn_kernel *kernel,
                            const struct heard *h)
{
	struct extent_list movers = TAILQ_HEAD_INITIALIZER(movers);
	uint64_t len = h->place.end - h->place.start, to_end = h->to + len;
	struct extent *e, *next;

	extent_cut(t, h->to);
	extent_cut(t, to_end);
	for (e = extent_after(t, h->to); e && e->start < to_end; e = next) {
		next = extent_following(e);
		extent_unlink(t, e);
		TAILQ_INSERT_TAIL(&movers, e, link);
	}
	TAILQ_FOREACH_SAFE(e, &t->buried, link, next) {
		if (e->gone <= h->event || e->start < h->to || extent_end(e) > to_end)
			continue;
		TAILQ_REMOVE(&t->buried, e, link);
		TAILQ_INSERT_TAIL(&movers, e, link);
	}
	while ((e = TAILQ_FIRST(&movers))) {
		TAILQ_REMOVE(&movers, e, link);
		e->start = e->start - h->to + h->place.start;
		e->born = 0;
		revive(t, e);
	}
	revive_all(t, kernel, &t->limbo, h->event);
	if (h->first)
		revive_all(t, kernel, &t->buried, h->first);
}

/* --- what was told before the FORK ------------------------------------------------------------ */

static bool brings_to(const struct heard *h, uint64_t addr)
{
	return h->what == HEARD_REMAP && h->to <= addr &&
	       addr < h->to + (h->place.end - h->place.start);
}

static bool has_seen(const struct tracker *t, const struct newborn_kernel *kernel, size_t back);

/* Has a change that the child has seen, later than the one so many back, brought something there?
 */
static bool taken_again(const struct tracker *t, const struct newborn_kernel *kernel, size_t back,
                        uint64_t addr)
{
	while (back--)
		if (brings_to(heard_nth(t, back), addr) && has_seen(t, kernel, back))
			return true;
	return false;
}

/* Was it brought there, before the one so many back, by a change that the child has not seen? */
static bool not_yet_there(const struct tracker *t, const struct newborn_kernel *kernel, size_t back,
                          uint64_t addr)
{
	while (heard_nth(t, ++back))
		if (brings_to(heard_nth(t, back), addr))
			return !has_seen(t, kernel, back);
	return false;
}

/* Was something taken from there, before the one so many back, by a change not seen (or by an
 * UNMAP, which by itself nothing can be said about)? */
static bool still_there(const struct tracker *t, const struct newborn_kernel *kernel, size_t back,
                        uint64_t addr)
{
	const struct heard *h;

	while ((h = heard_nth(t, ++back)))
		if (h->place.start <= addr && addr < h->place.end)
			return h->what == HEARD_UNMAP || !has_seen(t, kernel, back);
	return false;
}

/*
 * A page of [start, end) that no change told later than the one so many back has brought anything
 * to, or (touched) done anything to: what is there now tells most.  false: there is none, *ret is
 * start.
 */
static bool pristine(const struct tracker *t, size_t back, uint64_t start, uint64_t end,
                     bool touched, uint64_t *ret)
{
	const struct heard *h;
	uint64_t addr = start;
	size_t i;

	*ret = start;
	for (i = 0; i < back; i++) {
		h = heard_nth(t, i);
		if (h->seen == SEEN_NOT)
			continue;
		if (brings_to(h, addr))
			addr = h->to + (h->place.end - h->place.start);
		else if (touched && h->place.start <= addr && addr < h->place.end)
			addr = h->place.end;
		else
			continue;
		if (addr >= end)
			return false;
		i = SIZE_MAX; /* from the beginning, with another page */
	}
	*ret = addr;
	return true;
}

static bool judge(const struct tracker *t, const struct newborn_kernel *kernel, size_t back)
{
	const struct heard *h = heard_nth(t, back);
	uint64_t from, to, to_end = h->to + (h->place.end - h->place.start);
	bool from_pristine = pristine(t, back, h->place.start, h->place.end, false, &from);
	bool to_pristine = pristine(t, back, h->to, to_end, true, &to);

	if (!is_mapped(kernel, from))
		return !not_yet_there(t, kernel, back, from);
	if (!is_mapped(kernel, to)) {
		if (to_pristine)
			return false;
	} else if (!h->first && !still_there(t, kernel, back, to)) {
		return true;
	}
	return !from_pristine && taken_again(t, kernel, back, from);
}

/* The answer is kept: what is earlier and later is asked for again and again. */
static bool has_seen(const struct tracker *t, const struct newborn_kernel *kernel, size_t back)
{
	struct heard *h = heard_nth(t, back);

	if (h->seen == SEEN_UNKNOWN) {
		h->seen = SEEN_ASKED;
		h->seen = judge(t, kernel, back) ? SEEN : SEEN_NOT;
	}
	return h->seen == SEEN;
}

void newborn_begin(struct tracker *child, const struct newborn_kernel *kernel)
{
	struct heard *h;
	size_t i;

	for (i = 0; (h = heard_nth(child, i)); i++)
		h->seen = SEEN_UNKNOWN;
	for (i = 0; (h = heard_nth(child, i)); i++)
		if (h->what == HEARD_REMAP && !has_seen(child, kernel, i))
			take_back_remap(child, kernel, h);
}

/* --- what is told after it -------------------------------------------------------------------- */

/* What an UNMAP ended is mapped in the child: not seen, or replaced by something that a REMAP will
 * tell. */
static bool is_open(const struct tracker *t, const struct newborn_kernel *kernel, size_t back)
{
	const struct heard *h = heard_nth(t, back);
	const struct extent *e;

	if (h->what != HEARD_UNMAP || h->matched)
		return false;
	TAILQ_FOREACH(e, &t->buried, link)
		if (e->gone == h->event && is_mapped(kernel, e->start) &&
		    !taken_again(t, kernel, back, e->start))
			return true;
	return false;
}

static struct heard *next_open(const struct tracker *t, const struct newborn_kernel *kernel,
                               size_t *back)
{
	for (; heard_nth(t, *back); (*back)++)
		if (is_open(t, kernel, *back))
			return heard_nth(t, (*back)++);
	return NULL;
}

/* The first unmapped page of [start, end), which may span mappings. */
static bool first_hole(const struct newborn_kernel *kernel, uint64_t start, uint64_t end,
                       int *questions, uint64_t *ret)
{
	uint64_t middle = page_down(start + (end - start) / 2);

	if (!(*questions)-- || kernel->mapped(kernel->cookie, start, end - start))
		return false;
	*ret = start;
	return end - start == PAGE_SIZE || first_hole(kernel, start, middle, questions, ret) ||
	       first_hole(kernel, middle, end, questions, ret);
}

/* Something that the tracker has in [start, end) and the child has not mapped. */
static bool next_unmapped(const struct tracker *t, const struct newborn_kernel *kernel,
                          uint64_t start, uint64_t end, uint64_t *ret)
{
	int questions = MAX_QUESTIONS;
	struct extent *e;

	for (e = extent_after(t, start); e && e->start < end && questions > 0;
	     e = extent_following(e))
		if (first_hole(kernel, max_u64(e->start, start), min_u64(extent_end(e), end),
		               &questions, ret))
			return true;
	return false;
}

void newborn_remap(struct tracker *child, const struct newborn_kernel *kernel, uint64_t from,
                   uint64_t to, uint64_t len)
{
	struct heard *first = NULL, *h;
	const struct extent *e;
	size_t back = 0;
	uint64_t hole;
	bool seen;

	while (!first && (h = next_open(child, kernel, &back)))
		first = h->place.start == to ? h : NULL;
	seen = next_unmapped(child, kernel, from, from + len, &hole);
	if (first && !seen) {
		/* What moved had nothing missing; or the old place was taken again meanwhile. */
		seen = !is_mapped(kernel, from) && !not_yet_there(child, kernel, SIZE_MAX, from);
		TAILQ_FOREACH(e, &child->limbo, link)
			seen |= e->start < from + len && from < extent_end(e);
	}
	if (seen) {
		tracker_remap(child, from, to, len);
		heard_nth(child, 0)->seen = SEEN;
		return;
	}
	if (first) {
		first->matched = true;
		revive_all(child, kernel, &child->buried, first->event);
	}
	/* What is moved on from there later has not been seen, either. */
	child->now++;
	h = order_remember(child, HEARD_REMAP, from, from + len, child->now);
	h->to = to;
	h->matched = true;
	h->seen = SEEN_NOT;
}

void newborn_unmap(struct tracker *child, const struct newborn_kernel *kernel, uint64_t start,
                   uint64_t end)
{
	uint64_t hole;

	while (start < end && next_unmapped(child, kernel, start, end, &hole)) {
		tracker_delivered(child, hole, 1); /* nobody will miss it */
		start = hole + PAGE_SIZE;
	}
}

bool newborn_is_settled(const struct tracker *child, const struct newborn_kernel *kernel)
{
	uint64_t hole;
	size_t back = 0;

	return !next_open(child, kernel, &back) &&
	       !next_unmapped(child, kernel, 0, USER_ADDRESS_END, &hole);
}

void newborn_end(struct tracker *child, const struct newborn_kernel *kernel)
{
	struct heard *h;
	size_t back = 0;

	while ((h = next_open(child, kernel, &back))) {
		h->matched = true;
		revive_all(child, kernel, &child->buried, h->event);
	}
}
