/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages of a local image directory: the pages files are mapped, and the kernel copies from the page
 * cache straight into the restored process.  What is asked for soon is read ahead without waiting,
 * so that a copy seldom waits for a disk.
 *
 * Each fetch makes sure that the pages file is what it was when it was opened (images/pages.h tells
 * what that sees and what not): of a file that was written to, or cut, every page that is still
 * missing is lost.  The check is of the moment of the fetch.  What is changed between that and the
 * end of the copy, some ten microseconds for a chunk, is noticed by the next fetch, but that chunk
 * has arrived by then.
 */
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/source/source.h"
#include "images/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

struct image_source {
	struct source source;
	struct pages *pages;
};

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
	if (pages_check(image->pages, &piece, err) < 0)
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

static void lend(struct source *s)
{
	pages_lend(((struct image_source *)s)->pages);
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
	.lend = lend,
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
