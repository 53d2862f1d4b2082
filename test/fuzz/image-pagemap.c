/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pagemap reader, and on top of what it lets through: opening and looking up pages. */
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "images/pagemap.h"
#include "images/pages.h"
#include "test/fuzz/image-file.h"

/* tmpfs makes holes for free; what is longer is "too short" to pages_open(), which is fine too. */
enum { MAX_FILE_SHIFT = 40 };

static void check(const struct pagemap *map)
{
	uint64_t offset = 0;

	for (size_t i = 0; i < map->nr; i++) {
		const struct pagemap_run *run = &map->runs[i];
		uint64_t end = pagemap_run_end(run);

		MUST(page_aligned(run->vaddr) && run->vaddr < end && end <= USER_ADDRESS_END);
		MUST(i == 0 || pagemap_run_end(run - 1) <= run->vaddr);
		MUST(run->flags && !(run->flags & ~7U));
		MUST(pagemap_find(map, run->vaddr) == run && pagemap_find(map, end - 1) == run);
		MUST(pagemap_find(map, end) != run);
		if (run->flags & PE_PRESENT) {
			MUST(run->offset == offset);
			offset += run->nr_pages << PAGE_SHIFT;
		}
	}
	MUST(offset == map->pages_bytes);
}

/* The pieces are without gap and end at the end of user memory. */
static void walk(const struct pages *pages)
{
	uint64_t at = 0;
	struct pages_piece piece;

	while (at < USER_ADDRESS_END) {
		uint64_t left = (USER_ADDRESS_END - at) >> PAGE_SHIFT;

		if (pages_lookup(pages, at, left, &piece, NULL) < 0) {
			const struct pagemap_run *run = pagemap_find(pages_top(pages), at);

			MUST(run && run->flags & PE_PARENT);
			at = pagemap_run_end(run);
			continue;
		}
		MUST(piece.nr_pages > 0 && piece.nr_pages <= left);
		if (piece.kind == PAGES_HERE)
			MUST(piece.offset + (piece.nr_pages << PAGE_SHIFT) <=
			     pages_top(pages)->pages_bytes);
		at += piece.nr_pages << PAGE_SHIFT;
	}
}

static void open_and_walk(int dir, const struct pagemap *map)
{
	struct pages *pages;
	struct err err = {0};
	char name[32];

	snprintf(name, sizeof(name), "pages-%u.img", map->pages_id);
	fuzz_file(name, NULL, 0);
	if (map->pages_bytes >> MAX_FILE_SHIFT == 0) {
		int fd = openat(dir, name, O_WRONLY);

		MUST(ftruncate(fd, (off_t)map->pages_bytes) == 0);
		close(fd);
	}
	if (pages_open(dir, 5, &pages, &err) < 0) {
		MUST(err.code && err.text[0]);
		MUST(map->pages_bytes >> MAX_FILE_SHIFT);
	} else {
		walk(pages);
		pages_close(pages);
	}
	unlinkat(dir, name, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pagemap map = {0};
	struct err err = {0};
	int dir = fuzz_file("pagemap-5.img", data, size);

	if (pagemap_read(dir, 5, &map, &err) < 0) {
		MUST(err.code && err.text[0] && !map.runs);
	} else {
		check(&map);
		open_and_walk(dir, &map);
	}
	pagemap_release(&map);
	unlinkat(dir, "pagemap-5.img", 0);
	return 0;
}
