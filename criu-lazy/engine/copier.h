/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * copier.h - a second pair of hands for bulk: one thread that copies chunks, or maps what will be
 * copied soon, while its engine does the same with other chunks.
 *
 * It decides nothing.  The rule that events are read and applied in one step with respect to every
 * copy is kept by the engine: before it reads events of an address space it waits until the chunks
 * it has given away for that address space are done or taken back (copier_wait()), which takes no
 * longer than a chunk.  It gives none away while faults come at random.
 *
 * Everything but the thread's own step is called from the engine's thread.
 */
#ifndef CRIU_LAZY_ENGINE_COPIER_H
#define CRIU_LAZY_ENGINE_COPIER_H

#include "criu-lazy/os/uffd.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct copier;
struct err;
struct source;
struct tracker;

enum { COPIER_SLOTS = 2 };

struct copier_result {
	void *owner;
	enum uffd_outcome outcome;
	uint64_t done; /* bytes, from the start of the chunk */
	bool not_begun; /* nothing was done: copier_wait() has taken it back */
};

int copier_new(struct copier **ret, struct err *err);

/* Waits for the thread.  NULL is fine. */
void copier_free(struct copier *c);

/* Would copier_copy() take a chunk now? */
bool copier_has_room(struct copier *c);

/* Copy len bytes to dst of the userfaultfd; owner comes back with the result. */
void copier_copy(struct copier *c, int uffd, uint64_t dst, const void *src, uint64_t len,
                 void *owner);

/* A chunk that is done, if there is one. */
bool copier_reap(struct copier *c, struct copier_result *ret);

/*
 * Take back a chunk that the thread has not begun, or else wait until one is done; false: there is
 * none.  With all processors busy the thread may not run for long, so nobody waits for it to begin.
 */
bool copier_wait(struct copier *c, struct copier_result *ret);

/*
 * Map what of source the tracker misses, in the order of its addresses, so that copies need not
 * (source_expect()).  Keeps an owner of source until it is done; may be given up half-way.
 */
void copier_expect(struct copier *c, const struct tracker *t, struct source *source);

#endif
