/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * store.h - memory images that come in piece by piece, and appear in their directory whole or not
 * at all.
 *
 *	store_open(dirfd, &store, err);			the directory is ours from now on
 *
 *	store_begin(store, COUNT_NEW, &set, err);	one set: the memory of one dump
 *	store_object(set, "5", err);			pagemap-5.img and its pages-N.img
 *	store_entry(set, vaddr, nr_pages, flags, err);	an entry, in rising order
 *	store_bytes(set, bytes, len, err);		its content, if PE_PRESENT, in any portions
 *	...
 *	store_commit(set, err);				or store_abort(set)
 *
 *	store_close(store);
 *
 * A set is written into the directory STORE_PLACE inside the images directory, where no restore
 * looks.  store_commit() has it on disk, moves the pages files up, and then the pagemaps that name
 * them, so that at no time a pagemap is there without its content.  What a crash leaves in
 * STORE_PLACE is removed at the next store_open().
 *
 * STORE_PLACE is locked (flock(2)) as long as the store is open, so each directory has one writer.
 * One set at a time; one thread at a time for a set.
 *
 * Pages files are numbered from STORE_FIRST_ID, as by CRIU's page server: a dumper that writes into
 * the same directory counts from 1.
 */
#ifndef CRIU_LAZY_IMAGES_STORE_H
#define CRIU_LAZY_IMAGES_STORE_H

#include "images/writer.h"

#include <stddef.h>
#include <stdint.h>

struct err;
struct store;
struct store_set;

#define STORE_PLACE ".criu-lazy-store"

enum {
	STORE_FIRST_ID = 0x10001,
	STORE_MAX_OBJECTS = 1 << 20, /* in one set */
};

/*
 * -EBUSY: another process writes to this directory.  *ret_leftovers: how many files of a set that
 * was never completed were removed.
 */
int store_open(int dirfd, struct store **ret, size_t *ret_leftovers, struct err *err);

/* No set may be open.  NULL is fine. */
void store_close(struct store *store);

/* Has the parent image (the link "parent") a pagemap of this object?  1, 0, or negative errno. */
int store_has_parent(struct store *store, const char *object, struct err *err);

/* -EBUSY: a set is being received already. */
int store_begin(struct store *store, enum pages_count count, struct store_set **ret,
                struct err *err);

/*
 * Go on to this object: a pid, or "shmem-ID".  Returns 1 if the parent image has it, 0 if not;
 * negative errno, also for one that the set has already.
 */
int store_object(struct store_set *set, const char *object, struct err *err);

/*
 * The next entry of the object.  -EPROTO: it is not above the one before, bytes of that are
 * missing, or it says PE_PARENT and the parent image does not have all of it.
 */
int store_entry(struct store_set *set, uint64_t vaddr, uint64_t nr_pages, uint32_t flags,
                struct err *err);

/* -EPROTO: more than the entry has. */
int store_bytes(struct store_set *set, const void *bytes, uint64_t len, struct err *err);

struct store_count {
	size_t nr_objects;
	uint64_t nr_present, nr_parent; /* pages */
};

struct store_count store_count(const struct store_set *set);

/* The set appears; frees it.  On failure nothing of it is left. */
int store_commit(struct store_set *set, struct err *err);

/* Nothing of it is left; frees it.  NULL is fine. */
void store_abort(struct store_set *set);

#endif
