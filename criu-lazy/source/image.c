/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages of a local image directory: the pages files are mapped, and the kernel copies from the page
 * cache straight into the restored process.  What is asked for soon is read ahead without waiting,
 * so that a copy seldom waits for a disk.
 */
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/source/source.h"
#include "images/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

struct image_source {
	struct source source;
	struct pages *pages;
};

/*
 * Was the file cut short after it was opened?  What is gone as a whole page the kernel refuses to
 * copy, but of a page that is cut in the middle the rest reads as zeros.
 */
static int check_length(struct pages_piece *piece, uint64_t img, struct err *err)
{
	struct stat st;
	uint64_t left;

	if (fstat(piece->fd, &st) < 0)
		return err_set(err, errno, "stat of the pages file");
	left = (uint64_t)st.st_size > piece->offset
	               ? ((uint64_t)st.st_size - piece->offset) >> PAGE_SHIFT
	               : 0;
	if (!left)
		return err_set(err, EIO,
		               "the pages file was cut short: %llu bytes, page 0x%llx is "
		               "at %llu",
		               (unsigned long long)st.st_size, (unsigned long long)img,
		               (unsigned long long)piece->offset);
	piece->nr_pages = min_u64(piece->nr_pages, left);
	return 0;
}

static enum source_answer fetch(struct source *s, struct source_request *request,
                                struct source_bytes *ret, struct err *err)
{
	struct image_source *image = (struct image_source *)s;
	struct pages_piece piece;

	if (pages_lookup(image->pages, request->img, request->nr_pages, &piece, err) < 0)
		return SOURCE_LOST;
	if (piece.kind != PAGES_HERE) {
		err_set(err, EPROTO, "the image has no content for page 0x%llx",
		        (unsigned long long)request->img);
		return SOURCE_LOST;
	}
	if (check_length(&piece, request->img, err) < 0)
		return SOURCE_LOST;
	ret->bytes = piece.bytes;
	ret->nr_pages = piece.nr_pages;
	ret->lasting = true;
	return SOURCE_HERE;
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

static void image_close(struct source *s)
{
	struct image_source *image = (struct image_source *)s;

	pages_close(image->pages);
	free(image);
}

static const struct source_ops ops = {
	.name = "image",
	.fetch = fetch,
	.expect = expect,
	.close = image_close,
};

struct source *source_image(struct pages *pages)
{
	struct image_source *image = malloc(sizeof(*image));

	if (!image)
		return NULL;
	*image = (struct image_source){.source = {.ops = &ops, .nr_owners = 1}, .pages = pages};
	return &image->source;
}
