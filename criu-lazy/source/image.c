/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages of a local image directory: the pages files are mapped, and the kernel copies from the page
 * cache straight into the restored process.
 *
 * What is not in the page cache is read first, by a thread of the kernel, and answered later: a
 * disk may be slow, or a file system hang, and meanwhile the asker has events to read, for which
 * the program waits in munmap() and fork().  Only a page that has left the cache since the last look
 * makes the asker wait.  mincore(2) takes 4 us, a third of what a fault costs otherwise, so a block
 * that was cached as a whole is not looked at again for a second.  (It tells those who could write
 * to the file; for others everything counts as cached, and copies wait.)
 *
 * Each fetch makes sure that the pages file is what it was when it was opened (images/pages.h tells
 * what that sees and what not): of a file that was written to, or cut, every page that is still
 * missing is lost.  The check is of the moment of the fetch.  What is changed between that and the
 * end of the copy, some ten microseconds for a chunk, is noticed by the next fetch, but that chunk
 * has arrived by then.
 */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/os/ring.h"
#include "criu-lazy/source/source.h"
#include "images/pages.h"

#include <bsd/sys/queue.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
	LOOK_PAGES = 512, /* at most an answer; a block: 2 MiB of addresses here */
	BLOCKS = 256, /* that are remembered: 512 MiB */
	READ_PAGES = 64, /* at most a read: 256 KiB */
	READS = 4, /* at a time; what a thread waits for is read beside them */
};

#define BLOCK_SIZE ((uintptr_t)LOOK_PAGES << PAGE_SHIFT)

static const int64_t LOOK_TIME = NSEC_PER_SEC;

/* Was cached as a whole. */
struct block {
	uintptr_t start; /* 0: none */
	int64_t when;
};

struct image_source {
	struct source source;
	struct pages *pages;
	struct ring *ring; /* NULL: none */
	unsigned nr_reads;
	bool closed; /* freed when the last read has ended */
	STAILQ_HEAD(, reading) waiting;
	struct block blocks[BLOCKS];
};

/* A request that is answered later: waiting, then being read. */
struct reading {
	struct populate populate;
	STAILQ_ENTRY(reading) link;
	struct image_source *image;
	struct source_request *request; /* NULL: cancelled */
	const void *bytes;
	bool begun;
};

static enum source_answer look(struct image_source *image, const struct source_request *request,
                               struct pages_piece *ret, struct err *err)
{
	if (pages_lookup(image->pages, request->img, request->nr_pages, ret, err) < 0)
		return SOURCE_LOST;
	if (ret->kind != PAGES_HERE) {
		err_set(err, EPROTO, "the image has no content for page 0x%llx",
		        (unsigned long long)request->img);
		return SOURCE_LOST;
	}
	return pages_check(image->pages, ret, err) < 0 ? SOURCE_LOST : SOURCE_HERE;
}

static void free_image(struct image_source *image)
{
	pages_close(image->pages);
	free(image);
}

static void read_done(struct populate *p, int res);

static void begin_read(struct reading *r)
{
	r->begun = true;
	r->image->nr_reads++;
	r->populate.done = read_done;
	ring_populate(r->image->ring, &r->populate, r->bytes, r->request->nr_pages << PAGE_SHIFT);
}

static void begin_next(struct image_source *image)
{
	struct reading *r = STAILQ_FIRST(&image->waiting);

	if (!r || image->nr_reads >= READS)
		return;
	STAILQ_REMOVE_HEAD(&image->waiting, link);
	begin_read(r);
}

/* What could not be read is left to the copy, which finds out which page it is. */
static void read_done(struct populate *p, int res)
{
	struct reading *r = (struct reading *)p; /* its first member */
	struct source_request *request = r->request;
	struct image_source *image = r->image;
	struct source_bytes bytes = {.lasting = true};
	struct pages_piece piece;
	struct err err = {0};

	(void)res;
	free(r);
	image->nr_reads--;
	begin_next(image);
	if (image->closed && !image->nr_reads)
		free_image(image);
	if (!request)
		return;
	if (look(image, request, &piece, &err) == SOURCE_LOST) {
		request->done(request, NULL, &err);
		return;
	}
	bytes.bytes = piece.bytes;
	bytes.nr_pages = piece.nr_pages;
	request->done(request, &bytes, NULL);
}

static bool block_is_cached(struct image_source *image, uintptr_t start, int64_t now)
{
	struct block *block = &image->blocks[start / BLOCK_SIZE % BLOCKS];
	unsigned char in_core[LOOK_PAGES];

	if (block->start == start && now - block->when < LOOK_TIME)
		return true;
	/* At the ends of a file there is something else in it, or nothing: that is no block. */
	if (mincore((void *)start, BLOCK_SIZE, in_core) < 0)
		return false;
	for (size_t i = 0; i < LOOK_PAGES; i++)
		if (!(in_core[i] & 1))
			return false;
	*block = (struct block){start, now};
	return true;
}

/* How many of the pages, from the first on, are alike: cached, or not. */
static uint64_t count_cached(struct image_source *image, const struct pages_piece *piece,
                             bool *ret_cached)
{
	uintptr_t at = (uintptr_t)piece->bytes & ~(uintptr_t)(BLOCK_SIZE - 1);
	uint64_t nr = min_u64(piece->nr_pages, LOOK_PAGES), n = 1;
	uintptr_t end = (uintptr_t)piece->bytes + (nr << PAGE_SHIFT);
	unsigned char in_core[LOOK_PAGES];
	int64_t now = clock_now();

	*ret_cached = true;
	while (at < end && block_is_cached(image, at, now))
		at += BLOCK_SIZE;
	if (at >= end)
		return nr;
	if (mincore((void *)(uintptr_t)piece->bytes, nr << PAGE_SHIFT, in_core) < 0)
		return nr;
	*ret_cached = in_core[0] & 1;
	while (n < nr && ((in_core[n] ^ in_core[0]) & 1) == 0)
		n++;
	return n;
}

/* false: no memory for it. */
static bool read_later(struct image_source *image, struct source_request *request,
                       const struct pages_piece *piece)
{
	struct reading *r = calloc(1, sizeof(*r));

	if (!r)
		return false;
	request->nr_pages = min_u64(piece->nr_pages, READ_PAGES);
	request->link = r;
	r->image = image;
	r->request = request;
	r->bytes = piece->bytes;
	if (request->urgent || image->nr_reads < READS)
		begin_read(r);
	else
		STAILQ_INSERT_TAIL(&image->waiting, r, link);
	return true;
}

static enum source_answer fetch(struct source *s, struct source_request *request,
                                struct source_bytes *ret, struct err *err)
{
	struct image_source *image = (struct image_source *)s;
	struct pages_piece piece;
	bool cached;

	if (look(image, request, &piece, err) == SOURCE_LOST)
		return SOURCE_LOST;
	if (image->ring) {
		piece.nr_pages = count_cached(image, &piece, &cached);
		if (!cached && read_later(image, request, &piece))
			return SOURCE_LATER;
	}
	ret->bytes = piece.bytes;
	ret->nr_pages = piece.nr_pages;
	ret->lasting = true;
	return SOURCE_HERE;
}

static void hurry(struct source *s, struct source_request *request)
{
	struct reading *r = request->link;

	if (r->begun)
		return;
	STAILQ_REMOVE(&((struct image_source *)s)->waiting, r, reading, link);
	begin_read(r);
}

static void cancel(struct source *s, struct source_request *request)
{
	struct reading *r = request->link;

	r->request = NULL;
	if (r->begun)
		return;
	STAILQ_REMOVE(&((struct image_source *)s)->waiting, r, reading, link);
	free(r);
}

static void attach(struct source *s, struct ring *ring)
{
	((struct image_source *)s)->ring = ring;
}

/*
 * Map what will be copied soon: the kernel copies with page faults switched off first, and each
 * source page that is not mapped yet costs it a second, slower attempt.  MADV_POPULATE_READ (5.14)
 * maps a whole stretch in one go and reports, rather than raises, what cannot be read.
 */
static void expect(struct source *s, uint64_t img, uint64_t nr_pages)
{
	struct image_source *image = (struct image_source *)s;
	struct pages_piece piece;

	while (nr_pages) {
		if (pages_lookup(image->pages, img, nr_pages, &piece, NULL) < 0)
			return;
		if (piece.kind == PAGES_HERE)
			madvise((void *)(uintptr_t)piece.bytes, piece.nr_pages << PAGE_SHIFT,
			        MADV_POPULATE_READ);
		img += piece.nr_pages << PAGE_SHIFT;
		nr_pages -= piece.nr_pages;
	}
}

static void lend(struct source *s)
{
	pages_lend(((struct image_source *)s)->pages);
}

static void image_close(struct source *s)
{
	struct image_source *image = (struct image_source *)s;

	image->closed = true;
	if (!image->nr_reads)
		free_image(image);
}

static const struct source_ops ops = {
	.name = "image",
	.fetch = fetch,
	.hurry = hurry,
	.cancel = cancel,
	.expect = expect,
	.lend = lend,
	.attach = attach,
	.close = image_close,
};

struct source *source_image(struct pages *pages)
{
	struct image_source *image = calloc(1, sizeof(*image));

	if (!image)
		return NULL;
	image->source = (struct source){.ops = &ops, .nr_owners = 1};
	image->pages = pages;
	STAILQ_INIT(&image->waiting);
	return &image->source;
}
