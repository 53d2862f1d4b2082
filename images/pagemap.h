/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pagemap.h - pagemap-PID.img: what one image directory knows about the pages of one process.
 *
 * One level only: pages.h puts the levels of an incremental chain together and finds the bytes.
 *
 *	struct pagemap map = {0};
 *	r = pagemap_read(dirfd, pid, &map, err);
 *	const struct pagemap_run *run = pagemap_find(&map, addr);
 *	pagemap_release(&map);
 *
 * A run is a stretch of pages with the same fate:
 *
 *	PE_PRESENT		its bytes are in pages-<pages_id>.img at run->offset
 *	PE_PRESENT | PE_LAZY	the same; it may be brought lazily
 *	PE_LAZY			it may be brought lazily, and the bytes are elsewhere (page server)
 *	PE_PARENT [| PE_LAZY]	unchanged since the parent image: look there
 *	no run at all		never touched: zeros, or the file's content in file mappings
 *
 * After pagemap_read(): runs are in rising order, do not overlap, are page aligned, not empty,
 * below USER_ADDRESS_END, and have one of the flag combinations above.  Neighbours are kept as they
 * were written, not merged.
 *
 * Images of newer versions with features that change what the bytes mean (compression,
 * encryption) announce them in fields or flags that we do not know: those are refused by naming
 * the record and the field, since reading on would hand wrong bytes to a process.
 */
#ifndef CRIU_LAZY_IMAGES_PAGEMAP_H
#define CRIU_LAZY_IMAGES_PAGEMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

enum {
	PE_PARENT = 1,
	PE_LAZY = 2,
	PE_PRESENT = 4,
};

struct pagemap_run {
	uint64_t vaddr; /* first byte; in a pagemap-shmem: offset in the segment */
	uint64_t nr_pages; /* > 0 */
	uint64_t offset; /* of the first byte in the pages file, if PE_PRESENT; else 0 */
	uint32_t flags; /* PE_* */
};

/* Zero-initialise; owned by the caller, pagemap_release() frees what is inside. */
struct pagemap {
	uint32_t pages_id; /* N of pages-N.img */
	struct pagemap_run *runs; /* sorted by vaddr */
	size_t nr;
	uint64_t pages_bytes; /* what the pages file must hold at least */
	bool old_counts; /* counts are where CRIU <= 4.1.1 writes them (field 2 only) */
};

/*
 * Read dirfd/pagemap-PID.img.  A missing file is -ENOENT, everything that breaks the promises above
 * an error that names the record.  *ret is written only on success.
 */
int pagemap_read(int dirfd, uint32_t pid, struct pagemap *ret, struct err *err);

/* The same from a file of another name, e.g. pagemap-shmem-7.img. */
int pagemap_read_file(int dirfd, const char *name, struct pagemap *ret, struct err *err);

void pagemap_release(struct pagemap *map);

static inline uint64_t pagemap_run_end(const struct pagemap_run *run)
{
	return run->vaddr + (run->nr_pages << 12);
}

/* The run that contains vaddr, or NULL.  O(log n). */
const struct pagemap_run *pagemap_find(const struct pagemap *map, uint64_t vaddr);

/* Index of the first run that ends after vaddr, map->nr if none does.  O(log n). */
size_t pagemap_lower(const struct pagemap *map, uint64_t vaddr);

#endif
