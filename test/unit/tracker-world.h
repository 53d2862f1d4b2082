/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tracker-world.h - for tracker-order-test.c: a small address space and the threads that change it.
 *
 * Programs are honest: a thread uses only what it owns, and what is free may go to anybody.  An
 * area is handed from thread to thread only by a thread that is not in a call.
 */
#ifndef CRIU_LAZY_TEST_UNIT_TRACKER_WORLD_H
#define CRIU_LAZY_TEST_UNIT_TRACKER_WORLD_H

#include "criu-lazy/base/page.h"
#include "criu-lazy/track/tracker.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { PAGES = 96, THREADS = 4, MAX_EVENTS = 4, MAX_TRACE = 512, CHILDREN = 4, IMAGES = 512 };

#define RUN_BASE UINT64_C(0x7f0000000000)
#define IMG_BASE UINT64_C(0x10000000)

/* What may happen in a run, in 1/256. */
struct kind {
	const char *name;
	unsigned int first_late; /* a first event is queued later than its change */
	unsigned int grow; /* mremap() that grows, in place or on its way */
	unsigned int fixed; /* MREMAP_FIXED */
	unsigned int shrink; /* of those: mremap() that shrinks on its way */
	bool slow_reuse; /* the kernel gives nobody what an unfinished FIXED call has left */
	unsigned int allowed; /* windows of a million that may differ */
	unsigned int fork; /* a call is a fork() */
};

enum verb { UNMAP, REMAP, REMOVE, FORK }; /* FORK: from is the child's number */

struct event {
	enum verb verb;
	unsigned int from, to, len;
};

/* One page of the truth. */
struct page {
	unsigned int owner; /* thread + 1; 0: not mapped */
	unsigned int img; /* index + 1 of the image page it lacks; 0: none */
	uint64_t vpg; /* neighbours of one mapping have neighbouring numbers */
};

struct thread {
	struct event event[MAX_EVENTS];
	unsigned int nr, next; /* next: the one queued or to be queued */
	bool queued;
	unsigned int laziness; /* queues its event in one of so many turns */
};

/* Made in this window, and not changed since. */
struct child {
	struct page page[PAGES];
	bool in_order[PAGES]; /* owned by a thread that was in no call when it was made */
	struct tracker *tracker; /* NULL: not told yet, or compared already */
};

struct line {
	char text[88];
};

struct world {
	const struct kind *kind;
	uint64_t random;
	struct page page[PAGES];
	struct thread thread[THREADS];
	unsigned int nr_threads;
	unsigned int queue[THREADS], nr_queue; /* threads whose event can be read, oldest first */
	uint64_t next_vpg;
	struct tracker *tracker;
	struct child child[CHILDREN];
	unsigned int nr_children;
	bool discarded[IMAGES]; /* by an madvise() of this window: a child may have it or not */
	struct line trace[MAX_TRACE]; /* of this window */
	unsigned int nr_trace, nr_calls;
	uint64_t lost, wrong; /* pages that differ */
	unsigned int child_wrong; /* in children of this window */
	uint64_t wrong_children; /* windows with such */
	uint64_t wrong_in_order; /* pages in children that nobody was changing when they forked */
};

static uint64_t next_random(struct world *w)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return w->random * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}

static unsigned int below(struct world *w, unsigned int n)
{
	return (unsigned int)(next_random(w) % n);
}

static bool chance(struct world *w, unsigned int of_256)
{
	return below(w, 256) < of_256;
}

static void __attribute__((format(printf, 2, 3))) trace(struct world *w, const char *fmt, ...)
{
	va_list ap;

	if (w->nr_trace == MAX_TRACE)
		return;
	va_start(ap, fmt);
	vsnprintf(w->trace[w->nr_trace++].text, sizeof(w->trace->text), fmt, ap);
	va_end(ap);
}

static uint64_t addr_of(unsigned int page)
{
	return RUN_BASE + ((uint64_t)page << PAGE_SHIFT);
}

/* --- system calls on the truth ---------------------------------------------------------------- */

static void tell(struct thread *th, enum verb verb, unsigned int from, unsigned int to,
                 unsigned int len)
{
	th->event[th->nr++] = (struct event){.verb = verb, .from = from, .to = to, .len = len};
}

/* A random part of a random mapping that the thread owns. */
static bool pick_own(struct world *w, unsigned int who, unsigned int *ret_at, unsigned int *ret_len)
{
	unsigned int at = below(w, PAGES), tries, end;

	for (tries = 0; w->page[at].owner != who + 1; tries++) {
		if (tries == PAGES)
			return false;
		at = (at + 1) % PAGES;
	}
	if (chance(w, 192)) /* mostly from the mapping's start, as programs do */
		while (at && w->page[at - 1].owner == who + 1 &&
		       w->page[at - 1].vpg + 1 == w->page[at].vpg)
			at--;
	for (end = at + 1; end < PAGES && w->page[end].owner == who + 1 &&
	                   w->page[end].vpg == w->page[end - 1].vpg + 1;
	     end++)
		if (chance(w, 16))
			break;
	*ret_at = at;
	*ret_len = end - at;
	return true;
}

static bool all_free(const struct world *w, unsigned int at, unsigned int len, unsigned int or_who)
{
	unsigned int i;

	for (i = at; i < at + len; i++)
		if (w->page[i].owner && w->page[i].owner != or_who + 1)
			return false;
	return true;
}

static bool busy(const struct thread *th)
{
	return th->next < th->nr;
}

/* Does an unfinished call leave some of this place?  A program cannot know that it is free. */
static bool being_left(const struct world *w, unsigned int at, unsigned int len, bool onto_occupied)
{
	unsigned int i, j;

	for (i = 0; i < w->nr_threads; i++) {
		const struct thread *th = &w->thread[i];

		if (!busy(th) ||
		    (onto_occupied && (th->event[0].verb != UNMAP || th->event[1].verb != REMAP)))
			continue;
		for (j = 0; j < th->nr; j++) {
			const struct event *e = &th->event[j];

			if (e->verb == UNMAP && e->from < at + len && at < e->from + e->len)
				return true;
		}
	}
	return false;
}

/* The kernel's choice, or the program's own (MREMAP_FIXED) over what it owns or knows is free. */
static bool pick_place(struct world *w, unsigned int len, unsigned int or_who, unsigned int *ret_to)
{
	unsigned int first = below(w, PAGES), i;

	for (i = 0; i < PAGES; i++) {
		unsigned int to = (first + i) % PAGES;

		if (to + len <= PAGES && all_free(w, to, len, or_who) &&
		    (or_who == THREADS || !being_left(w, to, len, false)) &&
		    (!w->kind->slow_reuse || !being_left(w, to, len, true))) {
			*ret_to = to;
			return true;
		}
	}
	return false;
}

static void clear(struct world *w, unsigned int at, unsigned int len)
{
	memset(w->page + at, 0, len * sizeof(*w->page));
}

static void call_munmap(struct world *w, unsigned int who)
{
	unsigned int at, len;

	if (!pick_own(w, who, &at, &len))
		return;
	clear(w, at, len);
	tell(&w->thread[who], UNMAP, at, 0, len);
	trace(w, "%c munmap(%u-%u)", 'A' + (int)who, at, at + len);
}

static void call_dontneed(struct world *w, unsigned int who)
{
	unsigned int at, len;

	if (!pick_own(w, who, &at, &len))
		return;
	for (unsigned int i = at; i < at + len; i++)
		w->discarded[w->page[i].img] = true;
	/* The event comes first here: the kernel discards after it was read. */
	tell(&w->thread[who], REMOVE, at, 0, len);
	trace(w, "%c madvise(%u-%u)", 'A' + (int)who, at, at + len);
}

static void call_mremap(struct world *w, unsigned int who)
{
	bool fixed = chance(w, w->kind->fixed), dontunmap, occupied = false;
	unsigned int from, len, new_len, moved, to, i;
	struct page old[PAGES];

	if (!pick_own(w, who, &from, &len))
		return;
	new_len = len;
	if (chance(w, w->kind->grow))
		new_len = len + 1 + below(w, 4);
	else if (fixed && len > 1 && chance(w, w->kind->shrink))
		new_len = len - 1 - below(w, len - 1);
	if (!pick_place(w, new_len, fixed ? who : THREADS, &to) ||
	    (to < from + len && from < to + new_len))
		return;
	moved = new_len < len ? new_len : len;
	for (i = to; i < to + new_len; i++)
		occupied |= w->page[i].owner != 0;
	/* Whether a child has seen one cannot always be told. */
	dontunmap = new_len == len && !w->kind->fork && chance(w, 48);
	memcpy(old, w->page + from, len * sizeof(*old));
	clear(w, to, new_len);
	for (i = 0; i < new_len; i++)
		w->page[to + i] = i < moved ? old[i] : (struct page){who + 1, 0, old[0].vpg + i};
	if (!dontunmap)
		clear(w, from, len);
	for (i = from; dontunmap && i < from + len; i++)
		w->page[i].img = 0;
	if (occupied)
		tell(&w->thread[who], UNMAP, to, 0, new_len);
	tell(&w->thread[who], REMAP, from, to, moved);
	if (new_len < len)
		tell(&w->thread[who], UNMAP, from + moved, 0, len - moved);
	if (!dontunmap)
		tell(&w->thread[who], UNMAP, from, 0, moved);
	trace(w, "%c mremap(%u-%u -> %u-%u%s%s)", 'A' + (int)who, from, from + len, to,
	      to + new_len, occupied ? ", FIXED" : "", dontunmap ? ", DONTUNMAP" : "");
}

static void call_grow(struct world *w, unsigned int who)
{
	unsigned int at, len, end, more = 1 + below(w, 4);

	if (!pick_own(w, who, &at, &len))
		return;
	for (end = at + len; end < PAGES && more-- && !w->page[end].owner &&
	                     (!w->kind->slow_reuse || !being_left(w, end, 1, true));
	     end++)
		w->page[end] = (struct page){who + 1, 0, w->page[end - 1].vpg + 1};
	trace(w, "%c grow in place(%u-%u -> %u)", 'A' + (int)who, at, at + len, end);
}

static void hand_over(struct world *w, unsigned int who)
{
	unsigned int at, len, i, heir = below(w, w->nr_threads);

	if (!pick_own(w, who, &at, &len))
		return;
	for (i = at; i < at + len; i++)
		w->page[i].owner = heir + 1;
	trace(w, "%c hands %u-%u to %c", 'A' + (int)who, at, at + len, 'A' + (int)heir);
}

static void enqueue(struct world *w, unsigned int who)
{
	w->thread[who].queued = true;
	w->queue[w->nr_queue++] = who;
}

static void call_fork(struct world *w, unsigned int who)
{
	struct child *child = &w->child[w->nr_children];
	unsigned int i, owner;

	if (w->nr_children == CHILDREN)
		return;
	memcpy(child->page, w->page, sizeof(w->page));
	for (i = 0; i < PAGES; i++) {
		owner = w->page[i].owner;
		child->in_order[i] = owner && !busy(&w->thread[owner - 1]);
	}
	tell(&w->thread[who], FORK, w->nr_children, 0, 0);
	trace(w, "%c fork: child %u", 'A' + (int)who, w->nr_children++);
}

static void call_something(struct world *w, unsigned int who)
{
	struct thread *th = &w->thread[who];
	unsigned int what = below(w, 16);
	bool fork = chance(w, w->kind->fork);

	*th = (struct thread){0};
	w->nr_calls++;
	if (fork)
		call_fork(w, who);
	else if (what < 3)
		call_munmap(w, who);
	else if (what == 3)
		call_dontneed(w, who);
	else if (what == 4)
		hand_over(w, who);
	else if (what == 5 && chance(w, w->kind->grow))
		call_grow(w, who);
	else
		call_mremap(w, who);
	th->laziness = 1U << (3 * below(w, 3));
	if (th->nr && !chance(w, w->kind->first_late))
		enqueue(w, who);
}

#endif
