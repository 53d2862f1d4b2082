/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * extents.h - the insides of a tracker, for the files of this folder only.
 *
 * Extents hang in two trees: by run-time address, and by their first bit (that is, by image page)
 * for the way back from a ticket.  No two extents of one tracker share a bit.
 */
#ifndef CRIU_LAZY_TRACK_EXTENTS_H
#define CRIU_LAZY_TRACK_EXTENTS_H

#include "criu-lazy/base/bits.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/track/tracker.h"

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>

/* The static generators of <bsd/sys/tree.h> want this name from BSD's <sys/cdefs.h>. */
#ifndef __unused
#define __unused __attribute__((unused))
#endif

struct extent {
	RB_ENTRY(extent) by_addr;
	RB_ENTRY(extent) by_bit;
	TAILQ_ENTRY(extent) link; /* in limbo, in a list of movers, or in the pool */
	uint64_t start;
	uint64_t nr_pages;
	uint64_t img;
	uint64_t bit; /* of the first page */
	uint64_t nr_missing; /* set bits; an extent in the trees has at least one */
	uint64_t born; /* the event, counted from 1, that brought it here; 0: there at the start */
	uint64_t gone; /* in limbo, buried: the event that found it in its way, or ended it */
	bool wiped_by_fork; /* a child has zeros there */
};

struct ticket {
	RB_ENTRY(ticket) by_bit;
	uint64_t bit;
	uint64_t nr_pages;
	uint64_t img;
	void *cookie;
};

struct range {
	uint64_t start;
	uint64_t end;
};

/* An UNMAP that met something younger than itself, perhaps: see tracker_doubt(). */
struct doubt {
	struct range range;
	uint64_t event;
};

/* What an event can take from the pool: a REMAP cuts two ends each of old place, limbo, new place.
 */
enum { EXTENTS_PER_EVENT = 6, LIMBO_CUTS = 2 };

/* The last events of the window, see order.c. */
enum { HEARD_MAX = 64, AFTER_MAX = 64 };
enum heard_what { HEARD_UNMAP, HEARD_REMAP };

struct heard {
	uint64_t event;
	uint64_t made; /* the event as of which its change was made */
	enum heard_what what;
	struct range place; /* UNMAP: what it names; REMAP: the old place */
	uint64_t to; /* REMAP: the new place */
	uint64_t first; /* REMAP: the event that was its call's UNMAP of the new place; 0: none */
	bool matched; /* UNMAP: its REMAP was heard; REMAP: the UNMAP of its old place */
};

RB_HEAD(addr_tree, extent);
RB_HEAD(bit_tree, extent);
RB_HEAD(ticket_tree, ticket);
TAILQ_HEAD(extent_list, extent);

struct tracker {
	struct addr_tree extents;
	struct bit_tree by_bit;
	struct ticket_tree tickets;
	struct bits missing;
	uint64_t nr_missing; /* in the extents of the trees */
	uint64_t now; /* counts events */
	uint64_t window; /* the last event before this window */
	struct heard heard[HEARD_MAX]; /* a ring */
	size_t nr_heard;
	uint64_t forked; /* a child's: the event before its FORK */
	struct heard after[AFTER_MAX]; /* its parent's since then, while it is a newborn */
	size_t nr_after;
	uint64_t date; /* see tracker_dated() */
	bool date_told; /* date is the next event's, by tracker_date() */
	uint64_t *marks; /* the owner's, or NULL: see tracker_set_marks() */
	struct extent_list limbo; /* found at the destination of a REMAP of this window */
	struct extent_list buried; /* ended by an UNMAP of this window; for children made before */
	struct extent_list pool; /* reserved, so that events cannot fail */
	size_t nr_pool;
	struct doubt *doubts;
	size_t nr_doubts;
	size_t room_doubts;
};

static inline uint64_t extent_end(const struct extent *e)
{
	return e->start + (e->nr_pages << PAGE_SHIFT);
}

/* The first extent, by address, that ends after addr. */
struct extent *extent_after(const struct tracker *t, uint64_t addr);

/* The first extent, by image page, that ends after bit. */
struct extent *extent_after_bit(const struct tracker *t, uint64_t bit);

struct extent *extent_following(struct extent *e);

/* Nothing of the trees is where e says it is. */
static inline bool extent_is_free(const struct tracker *t, const struct extent *e)
{
	const struct extent *other = extent_after(t, e->start);

	return !other || other->start >= extent_end(e);
}

void extent_link(struct tracker *t, struct extent *e);
void extent_unlink(struct tracker *t, struct extent *e);
void extent_discard(struct tracker *t, struct extent *e); /* back to the pool; not linked */

/*
 * Cut an extent (linked or not) at addr, strictly inside it; returns the upper part, which is not
 * linked when e is not.  Takes one extent from the pool.  Parts may come out with nothing missing.
 */
struct extent *extent_split(struct tracker *t, struct extent *e, uint64_t addr, bool linked);

/* Make addr a boundary: no extent of the trees straddles it afterwards. */
void extent_cut(struct tracker *t, uint64_t addr);

/*
 * As of which event was a REMAP or UNMAP made that is heard now?  t->now: nothing is out of order.
 * For an UNMAP it is the earliest that is possible.
 */
struct heard *heard_nth(const struct tracker *t, size_t back); /* NULL: not in this window */
struct heard *order_remember(struct tracker *t, enum heard_what what, uint64_t start, uint64_t end,
                             uint64_t made);
uint64_t order_remap(struct tracker *t, uint64_t start, uint64_t end, uint64_t to);
uint64_t order_unmap(struct tracker *t, uint64_t start, uint64_t end);

/* [bit, bit + nr) in the owner's words. */
void marks_set(uint64_t *marks, uint64_t bit, uint64_t nr);

/* First ticket that ends after bit. */
struct ticket *ticket_after(const struct tracker *t, uint64_t bit);

#endif
