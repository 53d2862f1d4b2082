/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tracker.h - the one truth about what is missing in one address space.
 *
 * Pure: no descriptor, no system call, no log.  It is fed with the facts that userfaultfd reports
 * and answers two questions: what belongs at this address, and what should come next.
 *
 *	extents		run-time [start, end) <-> image address, in a tree by address; only memory
 *			of which something is missing is in an extent.  An address outside every
 *			extent is delivered, discarded, never was in the image, or is not mapped:
 *			the tracker calls all of that ZERO, because the kernel tells them apart (a
 *			zero page put there succeeds, meets EEXIST, or meets ENOENT).
 *	bits		one bit a page of the image that was lazy at the start: set = missing.
 *			Extents point into it, so splitting one moves no bits.
 *	tickets		parts of the image that somebody is fetching.  They name image pages, not
 *			addresses, so whatever the program does to its address space meanwhile
 *			needs no change here; where the bytes go is asked when they arrive.
 *
 * The order of events
 *
 * The kernel changes the address space first and queues the event after it has dropped the lock,
 * so events of several threads may be read in another order than the changes were made in; and an
 * mremap() tells REMAP first and UNMAP of the old place later, when another thread may have moved
 * something there.  While any such call is unfinished the kernel refuses copies (EAGAIN,
 * mmap_changing in fs/userfaultfd.c, seen in 6.1-6.18).  A "window" is the time between two moments
 * at which it did not refuse: tracker_quiet() ends it.  Within a window
 *   - an UNMAP that may be the late one of a REMAP does not touch what came to its range since that
 *     REMAP was made: it becomes a doubt, which the owner settles by asking the kernel when things
 *     are quiet;
 *   - what a REMAP found at its destination is kept aside: its own REMAP may still be queued.
 *
 * Errors: functions that may allocate return 0 or -ENOMEM.  Events do not fail once
 * tracker_reserve() has succeeded.  Not thread-safe: one owner.
 */
#ifndef CRIU_LAZY_TRACK_TRACKER_H
#define CRIU_LAZY_TRACK_TRACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tracker;
struct ticket;

struct tracker *tracker_new(void);
void tracker_free(struct tracker *t);

/*
 * At the start: nr_pages at start are missing and are the image's pages at img.  Calls come in
 * ascending order of start, without overlap; neighbours are merged.  0, -ENOMEM, or -EINVAL for
 * a range that is out of order, empty, unaligned or beyond USER_ADDRESS_END.
 */
int tracker_add(struct tracker *t, uint64_t start, uint64_t img, uint64_t nr_pages);

/*
 * After the last tracker_add(): [start, end) is MADV_WIPEONFORK memory, zero in every child.  0 or
 * -ENOMEM.
 */
int tracker_wipe_on_fork(struct tracker *t, uint64_t start, uint64_t end);

uint64_t tracker_nr_missing(const struct tracker *t);

/* Pages of the image that were lazy at the start: one bit each. */
uint64_t tracker_nr_pages(const struct tracker *t);

/* --- questions ------------------------------------------------------------------------------- */

enum tracker_verdict {
	TRACKER_FETCH, /* missing: fetch *ret_img */
	TRACKER_JOIN, /* missing and *ret_ticket is on its way: raise its priority */
	TRACKER_ZERO, /* nothing of the image belongs here (any more) */
};

/* addr: any address within the page.  Unused outputs are left alone.  O(log extents). */
enum tracker_verdict tracker_fault(const struct tracker *t, uint64_t addr, uint64_t *ret_img,
                                   struct ticket **ret_ticket);

struct tracker_run {
	uint64_t start; /* run-time address */
	uint64_t img;
	uint64_t nr_pages;
};

/*
 * The next run of missing pages that nobody is fetching, at or after from, at most max_pages
 * long, contiguous at run time and in the image.  false: none up to the end of memory.
 */
bool tracker_next(const struct tracker *t, uint64_t from, uint64_t max_pages,
                  struct tracker_run *ret);

/*
 * Pages of the image have numbers: of the bits, the same for all relatives.  tracker_page(): that
 * of what is missing at addr.  tracker_find(): where do [page, page + nr_pages) belong?  The first
 * run that is missing, in flight or not, and the number of its first page; false: none.
 */
uint64_t tracker_page(const struct tracker *t, uint64_t addr);
bool tracker_find(const struct tracker *t, uint64_t page, uint64_t nr_pages,
                  struct tracker_run *ret, uint64_t *ret_page);

/* [start, start + nr_pages) now has its content, or was found to be gone.  Exact to the page. */
void tracker_delivered(struct tracker *t, uint64_t start, uint64_t nr_pages);

/* --- events ---------------------------------------------------------------------------------- */

/* Make sure that the next nr events (at most 1000) cannot fail for want of memory. */
int tracker_reserve(struct tracker *t, size_t nr);

void tracker_remap(struct tracker *t, uint64_t from, uint64_t to, uint64_t len);
void tracker_unmap(struct tracker *t, uint64_t start, uint64_t end);
void tracker_remove(struct tracker *t, uint64_t start, uint64_t end);

/*
 * The child's tracker: the same extents, and the same window; what is in flight for the parent is
 * missing there.  The child may have been made before or after what the events near the FORK told:
 * newborn.h.
 */
int tracker_fork(const struct tracker *t, struct tracker **ret_child);

/* Nothing is missing, and nothing might be by events still to come. */
bool tracker_is_done(const struct tracker *t);

/* A copy was not refused: every event read so far is complete, none is unread.  Ends the window. */
void tracker_quiet(struct tracker *t);

/*
 * After tracker_quiet(): a run that lies in an unmapped range unless something was moved there
 * later.  The owner asks the kernel whether ret->start is registered and says so by
 * tracker_settle().  false: no doubts are left.
 */
bool tracker_doubt(struct tracker *t, struct tracker_run *ret);
void tracker_settle(struct tracker *t, const struct tracker_run *run, bool mapped);

/* Would tracker_quiet() change anything? */
bool tracker_in_window(const struct tracker *t);

/* --- replay: what somebody who comes after a dead owner must know (see also save.h) ---------- */

/*
 * marks: the owner's memory, (tracker_nr_pages() + 63) / 64 words, or NULL for none.  From now on
 * tracker_delivered() sets there the bit of each page, whether or not it was missing; what was
 * delivered before is not added.  Bits are only ever set, by plain stores of words, after the fact:
 * who finds the owner dead finds at most too few.  A child made by tracker_fork() has no marks
 * until told; they begin as a copy of its parent's.
 */
void tracker_set_marks(struct tracker *t, uint64_t *marks);

/* What is marked is delivered: extents of which nothing is missing vanish, in limbo, too. */
void tracker_recall(struct tracker *t);

/*
 * When an event's change was made is concluded from what is missing at the time (order.c), and who
 * replays does not know what was.  So the owner notes how many events before it was heard the last
 * REMAP or UNMAP was made (0: in order, as nearly all are), and who replays it tells that before
 * the event.  An event with no date noted was acted on by nobody: tracker_recall() before it.
 */
uint64_t tracker_dated(const struct tracker *t);
void tracker_date(struct tracker *t, uint64_t back);

/*
 * For a replay of tracker_settle(t, run, mapped) by somebody who has more extents than the one who
 * settled had (fully delivered ones), and perhaps more doubts.  tracker_forget(): not mapped; what
 * is in [run->start, + nr_pages) and is not that of the image stays; needs tracker_reserve(t, 2).
 * tracker_confirm(): mapped.
 */
void tracker_forget(struct tracker *t, const struct tracker_run *run);
void tracker_confirm(struct tracker *t, const struct tracker_run *run);

/* tracker_doubt() said false: no doubts are left. */
void tracker_settled(struct tracker *t);

/* --- tickets --------------------------------------------------------------------------------- */

/*
 * Somebody fetches the image pages of run (as tracker_next() or tracker_fault() told it, nothing
 * of it in flight).  cookie is the owner's.  NULL: out of memory.
 */
struct ticket *tracker_begin(struct tracker *t, const struct tracker_run *run, void *cookie);
void *ticket_cookie(const struct ticket *ticket);
uint64_t ticket_img(const struct ticket *ticket);
uint64_t ticket_nr_pages(const struct ticket *ticket);

/*
 * Trackers that came from one by tracker_fork() are relatives: they agree about which page of the
 * image is which.  The ticket of a relative that brings what t misses at addr; NULL: none.
 */
struct ticket *tracker_relatives_ticket(const struct tracker *t, uint64_t addr,
                                        const struct tracker *relative);

/*
 * Cut run, as tracker_next() told it, before what the relative is fetching.  If that is its first
 * page nr_pages becomes 0, and the address returned is where to go on.
 */
uint64_t tracker_avoid(const struct tracker *t, struct tracker_run *run,
                       const struct tracker *relative);

/*
 * Where do the pages of the ticket, which may be a relative's, from skip on belong now?  The next
 * run that is still missing; false: no more.  *ret_skip is the offset, in pages, of ret->img in the
 * ticket.
 */
bool tracker_place(const struct tracker *t, const struct ticket *ticket, uint64_t skip,
                   struct tracker_run *ret, uint64_t *ret_skip);

/* The fetch is over (or given up): what was not delivered is missing again.  Frees the ticket. */
void tracker_end(struct tracker *t, struct ticket *ticket);

/* Any ticket that is still open, for an owner who shuts down; NULL: none. */
struct ticket *tracker_any_ticket(const struct tracker *t);

#endif
