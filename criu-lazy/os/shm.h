/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * shm.h - memory that survives the process that writes it: a memfd, mapped shared.
 *
 * Its size is only room: pages cost memory once they are touched, and are zero until then.  A
 * write to a page that cannot be had raises SIGBUS (or wakes the OOM killer), so shm_populate()
 * comes first.  Only its beginning is mapped here; the rest is for mappings of the owner.
 */
#ifndef CRIU_LAZY_OS_SHM_H
#define CRIU_LAZY_OS_SHM_H

#include <stddef.h>
#include <stdint.h>

struct err;

struct shm {
	int fd; /* -1: none */
	uint8_t *mem;
	size_t mapped;
};

/* Of size bytes, of which the first are mapped; both whole pages. */
int shm_new(const char *name, uint64_t size, size_t mapped, struct shm *ret, struct err *err);

/* One that somebody else made; it must be of that size.  Takes over fd only on success. */
int shm_adopt(int fd, uint64_t size, size_t mapped, struct shm *ret, struct err *err);

/* Unmaps, closes.  Nothing to do for a fd of -1. */
void shm_release(struct shm *shm);

/* Have the pages of [at, at + len) at hand: writing there will not fail.  0 or negative errno. */
int shm_populate(struct shm *shm, size_t at, size_t len);

/* [at, at + len), whole pages, mapped or not, is zero again and costs nothing.  0 or negative
 * errno. */
int shm_clear(struct shm *shm, uint64_t at, uint64_t len);

#endif
