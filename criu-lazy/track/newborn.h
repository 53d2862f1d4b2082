/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * newborn.h - what a child's address space was when it was made.
 *
 * The kernel makes a change first and tells it later, so the FORK that is read now may have been
 * made before changes whose events have been read already, and after changes whose events are still
 * to come:
 *
 *	A  mremap(X -> Y) !  ?REMAP(X,Y)            A  mremap(X -> Y) !             ?REMAP(X,Y)
 *	B          fork !               ?FORK       B                   fork !  ?FORK
 *	(made before ! of A)                        the child has at Y what X is said to have
 *
 * The second is common when Y was occupied lazy memory: then A tells UNMAP(Y) first, and REMAP only
 * after that was read and A has run again.
 *
 * So a newborn child's tracker (tracker_fork()) goes on with the parent's events for a while, as if
 * the child had seen them; then it is found out, by what the child has mapped, which of all of them
 * it has seen, and the rest is taken back.
 *
 *	tracker_remap(), tracker_unmap()	each event of the parent after the FORK
 *	newborn_own()				after an event of the child itself was applied
 *	newborn_is_due()			enough was heard
 *	newborn_end()				the parent is quiet (everything was told), or it is
 *due
 *
 * Until newborn_end() nothing may be copied to the child.  tracker_reserve(child, NEWBORN_RESERVE)
 * must have succeeded before it.
 */
#ifndef CRIU_LAZY_TRACK_NEWBORN_H
#define CRIU_LAZY_TRACK_NEWBORN_H

#include <stdbool.h>
#include <stdint.h>

struct tracker;

enum { NEWBORN_RESERVE = 100 };

/*
 * Does [addr, addr + len) lie in one mapping of the child that can be lazy?  -1: it is changing it
 * itself, at present.
 */
struct newborn_kernel {
	int (*mapped)(void *cookie, uint64_t addr, uint64_t len);
	void *cookie;
};

/*
 * Asks kernel everything that newborn_end() would ask now, and does nothing: so that its owner can
 * keep the answers of the time when the child did not run yet.
 */
void newborn_ask(const struct tracker *child, const struct newborn_kernel *kernel);

/*
 * The child of one that is a newborn itself: what that one has heard since its own FORK is as
 * doubtful for this one.
 */
void newborn_of_newborn(struct tracker *child, const struct tracker *parent);

void newborn_own(struct tracker *child);

/*
 * A REMOVE of the child itself: kept until newborn_end(), when it is known what lies there.  false:
 * too many are kept already.
 */
bool newborn_remove(struct tracker *child, uint64_t start, uint64_t end);
bool newborn_is_due(const struct tracker *child);

/* false: not now, since the child is changing; nothing was done. */
bool newborn_end(struct tracker *child, const struct newborn_kernel *kernel);

#endif
