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
 * What decides is what the child has mapped (registered), which the kernel can be asked.  A newborn
 * child's tracker is the parent's copy (tracker_fork()), and then
 *
 *	newborn_begin()		takes back what the child has not seen
 *	newborn_remap(), newborn_unmap()	each later event of the parent, which may concern it
 *	newborn_is_settled()	nothing is open any more
 *	newborn_end()		the parent is quiet (everything was told), or it is settled: what
 *				was not seen by now never will be
 *
 * Until newborn_end() nothing may be copied to the child.  Its own events are applied as always.
 * tracker_reserve(child, 2) must have succeeded before each call that changes it.
 */
#ifndef CRIU_LAZY_TRACK_NEWBORN_H
#define CRIU_LAZY_TRACK_NEWBORN_H

#include <stdbool.h>
#include <stdint.h>

struct tracker;

/* Does [addr, addr + len) lie in one mapping of the child that can be lazy? */
struct newborn_kernel {
	bool (*mapped)(void *cookie, uint64_t addr, uint64_t len);
	void *cookie;
};

void newborn_begin(struct tracker *child, const struct newborn_kernel *kernel);
void newborn_remap(struct tracker *child, const struct newborn_kernel *kernel, uint64_t from,
                   uint64_t to, uint64_t len);
void newborn_unmap(struct tracker *child, const struct newborn_kernel *kernel, uint64_t start,
                   uint64_t end);
bool newborn_is_settled(const struct tracker *child, const struct newborn_kernel *kernel);
void newborn_end(struct tracker *child, const struct newborn_kernel *kernel);

#endif
