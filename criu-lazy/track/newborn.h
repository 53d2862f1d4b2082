/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * newborn.h - what a child's address space was when it was made.
 *
 * A child begins with what its parent's tracker says when the FORK is read.  For everything that
 * the parent's threads do not change at that moment this is right: a call that has returned before
 * the fork was told before it, and one that begins after it is told after it.  In doubt is only
 * what a thread is changing while another one forks, for the kernel makes a change first and tells
 * it later:
 *
 *	A  mremap(X -> Y) !             ?REMAP(X,Y)   A             mremap(X -> Y) !  ?REMAP(X,Y)
 *	B                   fork !  ?FORK             B  fork !                              ?FORK
 *	the child has at Y what was at X              the child has it at X still
 *
 * (The second needs a thread that is stopped between its fork and the telling, within less than a
 * microsecond; the first is common when Y was occupied: A tells UNMAP(Y) first, and REMAP only
 * when it has run again.)  A program cannot know which of both it gets; but it can know that it
 * is one of them, and what a page holds in each.
 *
 * So the child is held while calls of its parent may be unfinished: nothing is copied to it, and it
 * remembers what the parent tells.  Then it is asked what is mapped in the child, and what was
 * said is corrected where, and only where, that contradicts it.  Nothing else may be corrected:
 * what one thread does while another one forks must not change what the latter has in order.
 *
 *	newborn_hear()		after the parent's tracker was told a REMAP or UNMAP
 *	newborn_is_due()	enough was heard
 *	newborn_judge(), _end()	the parent is quiet (everything was told), or it is due
 *
 * tracker_reserve(child, NEWBORN_RESERVE) must have succeeded before newborn_end().
 *
 * Cannot be told apart: MREMAP_DONTUNMAP that is told after the FORK; a change that leaves mapped
 * what was, and unmapped what was not (madvise(), or to a place and back).
 */
#ifndef CRIU_LAZY_TRACK_NEWBORN_H
#define CRIU_LAZY_TRACK_NEWBORN_H

#include <stdbool.h>
#include <stdint.h>

struct tracker;

enum { NEWBORN_RESERVE = 128 };

enum newborn_answer { NEWBORN_FREE, NEWBORN_MAPPED, NEWBORN_UNKNOWN };

/*
 * Did [addr, addr + len) lie in one mapping of the child that can be lazy, when it was made?
 * UNKNOWN: cannot be told any more; then nothing is concluded.
 */
struct newborn_kernel {
	enum newborn_answer (*mapped)(void *cookie, uint64_t addr, uint64_t len);
	void *cookie;
};

/* By number of event: before the FORK from the last one back, after it in order. */
struct newborn_verdict {
	uint64_t not_seen; /* before, but made after it */
	uint64_t seen; /* after, but made before it */
	uint64_t spared; /* after and made after; but its first word was before */
};

/*
 * Asks kernel everything that newborn_judge() may ask about what was heard so far, and does
 * nothing: so that its owner can keep the answers of the time when the child did not run yet.
 */
void newborn_ask(const struct tracker *child, const struct newborn_kernel *kernel);
void newborn_ask_last(const struct tracker *child, const struct newborn_kernel *kernel); /* heard */

void newborn_hear(struct tracker *child, const struct tracker *parent);

/*
 * No more can be heard; or that and something was heard, and nothing that the child should have is
 * at a place where it has nothing, which somebody will tell yet.  kernel is asked for what is now,
 * and answers FREE only if that is sure.
 */
bool newborn_is_full(const struct tracker *child);
bool newborn_is_due(const struct tracker *child, const struct newborn_kernel *kernel);

/*
 * Judging depends on what is missing, which who replays does not know exactly: so the verdict is
 * recorded, and newborn_end() does what it says.
 */
void newborn_judge(const struct tracker *child, const struct newborn_kernel *kernel,
                   struct newborn_verdict *ret);
void newborn_end(struct tracker *child, const struct newborn_verdict *verdict);

#endif
