/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What makes a replay of events end where the dead owner was; tracker.h tells who calls what.
 *
 * Nobody writes down when a page was delivered, only that it was.  So who replays has all pages
 * missing until tracker_recall(): extents that the owner had no more.  What becomes of a page
 * depends on the events, on where it is and since when (born, gone), and on the date of each event.
 * Only the date is concluded from other pages, so with the dates told the extents that are too many
 * change nothing about the others.  Without:
 *
 *	A  mremap(X -> Y, FIXED) !  ?UNMAP(Y)                ?REMAP(X,Y)
 *	B                               mremap(Z -> X) ! ?REMAP(Z,X)
 *	X was delivered: the owner finds nothing in B's way, and lets A's REMAP move what B brought;
 *	who replays has X in limbo, and moves that.  The owner has acted on what it concluded.
 *
 * Doubts are too many, too; those are about delivered pages only, because a missing page that an
 * UNMAP might concern has made a doubt of it for the owner as well.
 */
#include "criu-lazy/track/extents.h"

enum { WORD = 64 };

void tracker_set_marks(struct tracker *t, uint64_t *marks)
{
	t->marks = marks;
}

void marks_set(uint64_t *marks, uint64_t bit, uint64_t nr)
{
	uint64_t end = bit + nr, n;

	for (; bit < end; bit += n) {
		n = min_u64(WORD - bit % WORD, end - bit);
		marks[bit / WORD] |= (UINT64_MAX >> (WORD - n)) << (bit % WORD);
	}
}

/* The bits of e that are marked are missing no more; returns how many that were. */
static uint64_t clear_marked(struct tracker *t, struct extent *e)
{
	uint64_t bit = e->bit, end = e->bit + e->nr_pages, cleared = 0, n;

	for (; bit < end; bit += n) {
		uint64_t word = t->marks[bit / WORD] >> (bit % WORD);
		uint64_t left = min_u64(WORD - bit % WORD, end - bit);

		if (!(word & 1)) {
			n = word ? min_u64((uint64_t)__builtin_ctzll(word), left) : left;
			continue;
		}
		n = ~word ? min_u64((uint64_t)__builtin_ctzll(~word), left) : left;
		cleared += bits_clear(&t->missing, bit, n);
	}
	e->nr_missing -= cleared;
	return cleared;
}

static void recall_list(struct tracker *t, struct extent_list *list)
{
	struct extent *e, *next;

	TAILQ_FOREACH_SAFE(e, list, link, next) {
		clear_marked(t, e);
		if (e->nr_missing)
			continue;
		TAILQ_REMOVE(list, e, link);
		extent_discard(t, e);
	}
}

void tracker_recall(struct tracker *t)
{
	struct extent *e, *next;

	if (!t->marks)
		return;
	for (e = extent_after(t, 0); e; e = next) {
		next = extent_following(e);
		t->nr_missing -= clear_marked(t, e);
		if (e->nr_missing)
			continue;
		extent_unlink(t, e);
		extent_discard(t, e);
	}
	recall_list(t, &t->limbo);
	recall_list(t, &t->buried);
}

uint64_t tracker_dated(const struct tracker *t)
{
	return t->date;
}

void tracker_date(struct tracker *t, uint64_t back)
{
	t->date = back;
	t->date_told = true;
}

/* The last doubt that the run can have been about, as the owner saw it; all later ones were over.
 */
void tracker_confirm(struct tracker *t, const struct tracker_run *run)
{
	const struct extent *e = extent_after(t, run->start);
	uint64_t end = run->start + (run->nr_pages << PAGE_SHIFT);
	size_t i;

	if (!e || e->start > run->start)
		return;
	for (i = t->nr_doubts; i--;) {
		struct doubt *d = &t->doubts[i];

		if (d->event < e->born || d->range.start >= end || d->range.end <= run->start)
			continue;
		d->range.start = end;
		t->nr_doubts = i + 1;
		return;
	}
}

void tracker_forget(struct tracker *t, const struct tracker_run *run)
{
	uint64_t end = run->start + (run->nr_pages << PAGE_SHIFT);
	struct extent *e, *next;

	tracker_confirm(t, run);
	extent_cut(t, run->start);
	extent_cut(t, end);
	for (e = extent_after(t, run->start); e && e->start < end; e = next) {
		next = extent_following(e);
		if (e->img - e->start != run->img - run->start)
			continue;
		extent_unlink(t, e);
		extent_discard(t, e);
	}
}

void tracker_settled(struct tracker *t)
{
	t->nr_doubts = 0;
}
