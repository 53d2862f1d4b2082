/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * save.h - a tracker as bytes, for a journal.
 *
 *	owner		size = tracker_save_size(t);  tracker_save(t, room of that size);
 *	successor	tracker_load(bytes, size, &t, err);
 *			if (tracker_nr_pages(t) is not what the marks are made for) refuse;
 *			the events since: tracker_reserve(), tracker_date(), tracker_remap(), ...
 *			tracker_set_marks(t, marks);  tracker_recall(t);
 *
 * All is saved but tickets, the marks, and which pages are missing: a loaded tracker misses every
 * page that is in an extent, until tracker_recall().  A page of the image that is in none was
 * unmapped or discarded, or was delivered with all of its neighbours.  The same tracker gives the
 * same bytes.  For the same program only: words as they are in memory.
 */
#ifndef CRIU_LAZY_TRACK_SAVE_H
#define CRIU_LAZY_TRACK_SAVE_H

#include <stddef.h>
#include <stdint.h>

struct err;
struct tracker;

/* More lazy pages than that (16 TiB) are not believed. */
#define TRACKER_SAVE_PAGES_MAX (UINT64_C(1) << 32)

/* In bytes, a multiple of 8.  O(extents). */
size_t tracker_save_size(const struct tracker *t);

/* ret: tracker_save_size() bytes, aligned to 8.  O(extents). */
void tracker_save(const struct tracker *t, void *ret);

/*
 * The bytes may be anybody's: -EPROTO, with what is wrong and where, or a tracker that is sound.
 * -ENOMEM.
 */
int tracker_load(const void *bytes, size_t size, struct tracker **ret, struct err *err);

#endif
