/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is in flight: tickets, in a tree by image page; they never overlap.  See tracker.h. */
#include "criu-lazy/track/extents.h"

#include <stdlib.h>

static int compare_ticket(const struct ticket *a, const struct ticket *b)
{
	return a->bit < b->bit ? -1 : a->bit > b->bit;
}

RB_GENERATE_STATIC(ticket_tree, ticket, by_bit, compare_ticket)

struct ticket *ticket_after(const struct tracker *t, uint64_t bit)
{
	struct ticket *ticket = RB_ROOT(&t->tickets), *best = NULL;

	while (ticket) {
		if (ticket->bit + ticket->nr_pages > bit) {
			best = ticket;
			ticket = RB_LEFT(ticket, by_bit);
		} else {
			ticket = RB_RIGHT(ticket, by_bit);
		}
	}
	return best;
}

struct ticket *tracker_begin(struct tracker *t, const struct tracker_run *run, void *cookie)
{
	struct extent *e = extent_after(t, run->start);
	struct ticket *ticket = malloc(sizeof(*ticket));

	if (!ticket)
		return NULL;
	*ticket = (struct ticket){
		.bit = e->bit + ((run->start - e->start) >> PAGE_SHIFT),
		.nr_pages = run->nr_pages,
		.img = run->img,
		.cookie = cookie,
	};
	RB_INSERT(ticket_tree, &t->tickets, ticket);
	return ticket;
}

uint64_t tracker_page(const struct tracker *t, uint64_t addr)
{
	const struct extent *e = extent_after(t, addr);

	return e->bit + ((addr - e->start) >> PAGE_SHIFT);
}

struct ticket *tracker_relatives_ticket(const struct tracker *t, uint64_t addr,
                                        const struct tracker *relative)
{
	uint64_t bit = tracker_page(t, page_down(addr));
	struct ticket *ticket = ticket_after(relative, bit);

	return ticket && ticket->bit <= bit ? ticket : NULL;
}

uint64_t tracker_avoid(const struct tracker *t, struct tracker_run *run,
                       const struct tracker *relative)
{
	uint64_t bit = tracker_page(t, run->start);
	const struct ticket *ticket = ticket_after(relative, bit);

	if (!ticket || ticket->bit >= bit + run->nr_pages)
		return run->start;
	if (ticket->bit > bit) {
		run->nr_pages = ticket->bit - bit;
		return run->start;
	}
	run->nr_pages = 0;
	return run->start + ((ticket->bit + ticket->nr_pages - bit) << PAGE_SHIFT);
}

void *ticket_cookie(const struct ticket *ticket)
{
	return ticket->cookie;
}

uint64_t ticket_img(const struct ticket *ticket)
{
	return ticket->img;
}

uint64_t ticket_nr_pages(const struct ticket *ticket)
{
	return ticket->nr_pages;
}

bool tracker_find(const struct tracker *t, uint64_t page, uint64_t nr_pages,
                  struct tracker_run *ret, uint64_t *ret_page)
{
	uint64_t bit = page, end = min_u64(page + nr_pages, t->missing.nr);
	struct extent *e;

	while (bit < end && (e = extent_after_bit(t, bit)) && e->bit < end) {
		uint64_t stop = min_u64(end, e->bit + e->nr_pages);

		bit = bits_next_set(&t->missing, max_u64(bit, e->bit), stop);
		if (bit == stop)
			continue;
		ret->start = e->start + ((bit - e->bit) << PAGE_SHIFT);
		ret->img = e->img + ((bit - e->bit) << PAGE_SHIFT);
		ret->nr_pages = bits_next_clear(&t->missing, bit, stop) - bit;
		*ret_page = bit;
		return true;
	}
	return false;
}

bool tracker_place(const struct tracker *t, const struct ticket *ticket, uint64_t skip,
                   struct tracker_run *ret, uint64_t *ret_skip)
{
	uint64_t page;

	if (skip >= ticket->nr_pages ||
	    !tracker_find(t, ticket->bit + skip, ticket->nr_pages - skip, ret, &page))
		return false;
	*ret_skip = page - ticket->bit;
	return true;
}

void tracker_end(struct tracker *t, struct ticket *ticket)
{
	RB_REMOVE(ticket_tree, &t->tickets, ticket);
	free(ticket);
}

struct ticket *tracker_any_ticket(const struct tracker *t)
{
	return RB_ROOT(&t->tickets);
}
