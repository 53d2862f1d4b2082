/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pages.h - the memory content of one process, over a whole chain of incremental images.
 *
 *	struct pages *pages;
 *	r = pages_open(dirfd, pid, &pages, err);
 *	...
 *	r = pages_lookup(pages, addr, nr_pages, &piece, err);
 *	switch (piece.kind) { ... copy piece.nr_pages pages, ask again for the rest ... }
 *	...
 *	pages_close(pages);
 *
 * Level 0 is the directory given; level n + 1 is the directory behind the link "parent" of level n.
 * The chain ends where there is no such link or where the parent has no pagemap for this process.
 * Each level has its own pagemap and its own pages-N.img, mapped read-only as a whole.  The same
 * pages file may be named by several pagemaps; each struct pages has its own mapping.
 *
 * All functions but pages_lend() and pages_close() may be called from several threads at once:
 * nothing is written after pages_open().
 *
 * Files that are changed while they are in use: nothing stops anybody from writing to a pages
 * file, and what he writes is at once what our mapping shows.  So pages_open() notes size and mtime
 * of each, and pages_check() compares them, to be called for each piece that is used: before the
 * bytes are handed on, and, where they are copied first (pread), after that, which leaves no gap.
 * A difference makes the whole file untrusted.
 *
 *	truncate, write, cp, rsync --inplace	size or mtime
 *	fallocate, holes (`criu dedup`)		mtime, though the bytes may be no worse
 *	a mapping that is written to		mtime, when a page is written to for the first
 *						time, or the first after it was written back
 *	touch					mtime: taken for a write
 *	rename over the name, unlink		nothing: we hold the file, not the name
 *	chmod, chown, link, reading, dedupe	nothing (ctime, atime): rightly
 *	file system gone, disk broken		EFAULT or EIO of the call that reads
 *
 * Two writes within a tick of the clock have the same mtime, so pages_open() waits until the tick
 * of mtime is over (10 ms at most, and only for a file that was written to just then; 2 s where
 * the file system counts seconds): what is written from then on shows.
 *
 * Not seen: a writer who puts mtime back with utimensat(2) before anybody looks; one who had
 * written to a page by a mapping before pages_open(), and writes to that page again; changes on a
 * network file system that this machine has not heard of yet; and, where a piece is used by its
 * address, what is written in the microseconds between the check and the copy.
 *
 * The end of a file that was cut raises SIGBUS in who touches it; so piece.bytes is for system
 * calls only (write, UFFDIO_COPY, process_vm_writev, which answer EFAULT), or use pread() on
 * piece.fd.  No other image is mapped: they are read once, as a whole (image.c).
 */
#ifndef CRIU_LAZY_IMAGES_PAGES_H
#define CRIU_LAZY_IMAGES_PAGES_H

#include <stddef.h>
#include <stdint.h>

struct err;
struct pagemap;
struct pages;

/* A chain deeper than this is taken for a mistake. */
enum { PAGES_MAX_DEPTH = 1024 };

enum pages_kind {
	PAGES_HERE, /* bytes, fd, offset say where */
	PAGES_ABSENT, /* PE_LAZY without content: the bytes are elsewhere (page server) */
	PAGES_NONE, /* not in the image at all: zeros, or what the mapped file holds */
};

struct pages_piece {
	enum pages_kind kind;
	uint64_t nr_pages; /* > 0, at most what was asked for */
	/* Only for PAGES_HERE: */
	const void *bytes; /* in the mapping, page aligned; for system calls only, see above */
	int fd; /* of the pages file; belongs to struct pages */
	uint64_t offset; /* of the first byte in the file */
	size_t level; /* 0: the directory given, 1: its parent, ... */
};

/*
 * Open everything that the content of process pid may come from.  Errors: no pagemap-PID.img at
 * level 0 (-ENOENT), a pagemap that is refused, a pages file that is shorter than its pagemap needs
 * (or missing although it needs one), a "parent" that does not resolve or leads back into the
 * chain, more than PAGES_MAX_DEPTH levels.  One file descriptor a level stays open.
 */
int pages_open(int dirfd, uint32_t pid, struct pages **ret, struct err *err);

/*
 * The longest piece that starts at vaddr (page aligned), has at most nr_pages (> 0), and lies in
 * one stretch of one file (or is all ABSENT, or all NONE).  Splits where the levels below split.
 *
 * -EPROTO: the page at vaddr is said to be in the parent, and the parent does not have it; the
 * error names the address, level and directory.  Never answered for a page behind the first: a
 * piece just ends there.  -EINVAL: vaddr not aligned, nr_pages 0 or past USER_ADDRESS_END.
 * Cost: O(levels * log(runs)) for each run that the piece covers.  No allocation, no system call.
 */
int pages_lookup(const struct pages *pages, uint64_t vaddr, uint64_t nr_pages,
                 struct pages_piece *ret, struct err *err);

/* The pagemap of level 0.  Lives as long as pages. */
const struct pagemap *pages_top(const struct pages *pages);

/* How many levels the chain has, at least 1; and the pagemap of one of them. */
size_t pages_nr_levels(const struct pages *pages);
const struct pagemap *pages_level(const struct pages *pages, size_t level);

/*
 * Open the directory behind dirfd/parent.  Returns 1; 0: there is none; negative errno, also for a
 * link that leads nowhere: then the pages behind it are lost, which is not the same as "no parent".
 */
int pages_open_parent(int dirfd, int *ret, struct err *err);

/*
 * Has the file that the piece is of stayed as it was when it was opened?  -EPROTO: no, and the
 * error names it.  Cost: one fstat(2).
 */
int pages_check(const struct pages *pages, const struct pages_piece *piece, struct err *err);

/*
 * From now on the descriptors belong to somebody else: pages_close() unmaps and frees, and closes
 * none.  For processes that share one table of descriptors but not their memory: what one of them
 * closes is closed for all, and its number may be another file's by then.
 */
void pages_lend(struct pages *pages);

/* NULL is fine. */
void pages_close(struct pages *pages);

#endif
