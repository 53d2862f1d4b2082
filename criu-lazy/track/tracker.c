/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The questions a tracker answers, and what was delivered.  See tracker.h. */
#include "criu-lazy/track/tracker.h"

#include "criu-lazy/track/extents.h"

uint64_t tracker_nr_pages(const struct tracker *t)
{
	return t->missing.nr;
}

bool tracker_in_window(const struct tracker *t)
{
	return t->window != t->now || !TAILQ_EMPTY(&t->limbo) || !TAILQ_EMPTY(&t->buried);
}

bool tracker_is_done(const struct tracker *t)
{
	return !t->nr_missing && TAILQ_EMPTY(&t->limbo) && TAILQ_EMPTY(&t->buried);
}

static uint64_t bit_at(const struct extent *e, uint64_t addr)
{
	return e->bit + ((addr - e->start) >> PAGE_SHIFT);
}

enum tracker_verdict tracker_fault(const struct tracker *t, uint64_t addr, uint64_t *ret_img,
                                   struct ticket **ret_ticket)
{
	uint64_t page = page_down(addr), bit;
	struct extent *e = extent_after(t, page);
	struct ticket *ticket;

	if (!e || e->start > page)
		return TRACKER_ZERO;
	bit = bit_at(e, page);
	if (!bits_test(&t->missing, bit))
		return TRACKER_ZERO;
	ticket = ticket_after(t, bit);
	if (ticket && ticket->bit <= bit) {
		*ret_ticket = ticket;
		return TRACKER_JOIN;
	}
	*ret_img = e->img + (page - e->start);
	return TRACKER_FETCH;
}

/* The first missing page of e in [bit, end of e) that no ticket covers; *ret_end: where the next
 * ticket starts. */
static bool next_free(const struct tracker *t, const struct extent *e, uint64_t bit,
                      uint64_t *ret_bit, uint64_t *ret_end)
{
	uint64_t end = e->bit + e->nr_pages;

	for (;;) {
		struct ticket *ticket;

		bit = bits_next_set(&t->missing, bit, end);
		if (bit == end)
			return false;
		ticket = ticket_after(t, bit);
		if (!ticket || ticket->bit > bit) {
			*ret_bit = bit;
			*ret_end = ticket ? min_u64(end, ticket->bit) : end;
			return true;
		}
		bit = ticket->bit + ticket->nr_pages;
		if (bit >= end)
			return false;
	}
}

bool tracker_next(const struct tracker *t, uint64_t from, uint64_t max_pages,
                  struct tracker_run *ret)
{
	struct extent *e;

	for (e = extent_after(t, from); e; e = extent_following(e)) {
		uint64_t bit, end;

		if (!next_free(t, e, from > e->start ? bit_at(e, from) : e->bit, &bit, &end))
			continue;
		end = bits_next_clear(&t->missing, bit, bit + min_u64(end - bit, max_pages));
		ret->start = e->start + ((bit - e->bit) << PAGE_SHIFT);
		ret->img = e->img + ((bit - e->bit) << PAGE_SHIFT);
		ret->nr_pages = end - bit;
		return true;
	}
	return false;
}

void tracker_delivered(struct tracker *t, uint64_t start, uint64_t nr_pages)
{
	uint64_t end = start + (nr_pages << PAGE_SHIFT);
	struct extent *e = extent_after(t, start);

	while (e && e->start < end) {
		struct extent *next = extent_following(e);
		uint64_t from = max_u64(start, e->start), to = min_u64(end, extent_end(e));
		uint64_t cleared =
			bits_clear(&t->missing, bit_at(e, from), (to - from) >> PAGE_SHIFT);

		if (t->marks)
			marks_set(t->marks, bit_at(e, from), (to - from) >> PAGE_SHIFT);
		if (cleared == e->nr_missing) {
			extent_unlink(t, e);
			extent_discard(t, e);
		} else {
			e->nr_missing -= cleared;
			t->nr_missing -= cleared;
		}
		e = next;
	}
}
