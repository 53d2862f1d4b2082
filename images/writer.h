/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * writer.h - write image files.
 *
 * Small and plain: what the readers of this folder read, it writes, so that tests can build any
 * image directory and a dump of our own has something to start from.  Nothing is judged here:
 * a caller that hands in nonsense gets nonsense on disk (the tests of the readers need that).
 *
 * One file at a time, at a level close to the format:
 *
 *	struct image_writer *w;
 *	r = writer_open(dirfd, "core-5.img", IMAGE_CORE, 2, &w, err);
 *	r = writer_message(w, &msg.base, err);		any number
 *	r = writer_close(w, err);			reports what could not be written
 *
 * or a whole file by one call (writer_inventory, writer_pstree, writer_mm), or page content:
 *
 *	struct pages_writer *w;
 *	r = pages_writer_open(dirfd, pid, 1, COUNT_BOTH, &w, err);
 *	r = pages_writer_add(w, vaddr, nr_pages, PE_PRESENT | PE_LAZY, bytes, err);
 *	r = pages_writer_close(w, err);
 *
 * Files are created with mode 0644 and truncated.  A writer that failed once keeps failing with
 * the same error; it must still be closed.
 */
#ifndef CRIU_LAZY_IMAGES_WRITER_H
#define CRIU_LAZY_IMAGES_WRITER_H

#include "images/image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct image_writer;
struct inventory;
struct mm;
struct pages_writer;
struct pstree_task;

/* version: 1 without the common magic, 2 with it; does not matter for inventory and stats. */
int writer_open(int dirfd, const char *name, enum image_type type, uint32_t version,
                struct image_writer **ret, struct err *err);

/* A record of these bytes. */
int writer_record(struct image_writer *w, const void *data, size_t len, struct err *err);

/* A record that is this message, packed. */
int writer_message(struct image_writer *w, const struct ProtobufCMessage *msg, struct err *err);

/* These bytes as they are, without a length. */
int writer_raw(struct image_writer *w, const void *data, size_t len, struct err *err);

/* Write out and free.  NULL is fine. */
int writer_close(struct image_writer *w, struct err *err);

/* inventory.img: img_version, dump_uptime, pre_dump_mode, tcp_close, run_id of inv are used. */
int writer_inventory(int dirfd, const struct inventory *inv, struct err *err);

/* pstree.img with these tasks in this order. */
int writer_pstree(int dirfd, const struct pstree_task *tasks, size_t nr, struct err *err);

/* mm-PID.img: the VMAs, then the guards, in the order of the arrays. */
int writer_mm(int dirfd, uint32_t pid, const struct mm *mm, struct err *err);

/* How a pagemap says its page counts. */
enum pages_count {
	COUNT_OLD, /* field 2 only, as CRIU <= 4.1.1; counts of 2^32 and more are an error */
	COUNT_NEW, /* field 5, and 0 in field 2, as CRIU 4.2 */
	COUNT_BOTH, /* both, as far as the count fits field 2: readable by all */
};

/*
 * pagemap-PID.img with its head, and an empty pages-PAGES_ID.img.  Entries are written one for
 * each pages_writer_add(), not merged.
 */
int pages_writer_open(int dirfd, uint32_t pid, uint32_t pages_id, enum pages_count count,
                      struct pages_writer **ret, struct err *err);

/* The same with another name for the pagemap, e.g. pagemap-shmem-7.img. */
int pages_writer_open_file(int dirfd, const char *map_name, uint32_t pages_id,
                           enum pages_count count, struct pages_writer **ret, struct err *err);

/*
 * One entry.  With PE_PRESENT its content goes to the pages file: nr_pages pages at bytes, or, with
 * bytes NULL, a hole in the file (reads as zeros).
 */
int pages_writer_add(struct pages_writer *w, uint64_t vaddr, uint64_t nr_pages, uint32_t flags,
                     const void *bytes, struct err *err);

/*
 * The same in parts, for one that gets its content bit by bit: the entry, then, with PE_PRESENT,
 * all of its bytes.  bytes NULL: a hole in the file.
 */
int pages_writer_entry(struct pages_writer *w, uint64_t vaddr, uint64_t nr_pages, uint32_t flags,
                       struct err *err);
int pages_writer_bytes(struct pages_writer *w, const void *bytes, uint64_t len, struct err *err);

/* Write out and free.  NULL is fine. */
int pages_writer_close(struct pages_writer *w, struct err *err);

#endif
