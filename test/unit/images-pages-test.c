/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The content of a process over chains of parents.
 *
 * The model: for each level one cell a page, which says NONE, LAZY, PARENT or "present, this is the
 * content".  A page is looked up by walking the cells.  Random chains are written as images with
 * randomly cut runs and compared page by page.
 */
#include "criu-lazy/base/page.h"
#include "images/pagemap.h"
#include "images/pages.h"
#include "images/writer.h"
#include "test/unit/images-dir.h"

#include <sys/stat.h>

enum { NR_PAGES = 64, MAX_LEVELS = 6, PID = 5 };

static const uint64_t base = UINT64_C(0x7f0000000000);

/* A cell of the model. */
enum { CELL_NONE = 0, CELL_LAZY = 1, CELL_PARENT = 2, CELL_CONTENT = 3 /* and above */ };

struct model {
	size_t nr_levels;
	uint32_t cells[MAX_LEVELS][NR_PAGES];
};

static uint64_t page_addr(size_t page)
{
	return base + page * PAGE_SIZE;
}

static void fill_page(uint8_t *bytes, uint32_t content)
{
	for (size_t i = 0; i < PAGE_SIZE / 4; i++)
		memcpy(bytes + 4 * i, &content, 4);
}

static uint32_t run_flags(uint32_t cell)
{
	return cell == CELL_LAZY ? PE_LAZY : cell == CELL_PARENT ? PE_PARENT : PE_PRESENT;
}

/* One level as images into the directory dirfd; runs are cut at random. */
static void write_level(int dirfd, const uint32_t *cells, uint32_t pages_id, unsigned int *seed)
{
	static uint8_t bytes[NR_PAGES * PAGE_SIZE];
	struct pages_writer *w;
	struct err err = {0};
	size_t n;

	assert_int_equal(pages_writer_open(dirfd, PID, pages_id,
	                                   (enum pages_count)(rand_r(seed) % 3), &w, &err),
	                 0);
	for (size_t page = 0; page < NR_PAGES; page += n) {
		uint32_t flags = run_flags(cells[page]);

		n = 1;
		if (cells[page] == CELL_NONE)
			continue;
		fill_page(bytes, cells[page]);
		while (page + n < NR_PAGES && cells[page + n] != CELL_NONE &&
		       run_flags(cells[page + n]) == flags && rand_r(seed) % 4) {
			fill_page(bytes + n * PAGE_SIZE, cells[page + n]);
			n++;
		}
		if (flags == PE_PRESENT && rand_r(seed) % 2)
			flags |= PE_LAZY;
		assert_int_equal(pages_writer_add(w, page_addr(page), n, flags, bytes, &err), 0);
	}
	assert_int_equal(pages_writer_close(w, &err), 0);
}

/* Directories 0, 1, ... side by side, with links "parent" from each to the next. */
static int open_level_dir(struct dir *dir, size_t level)
{
	char name[32], target[32];
	int fd;

	snprintf(name, sizeof(name), "%zu", level);
	mkdirat(dir->fd, name, 0700);
	fd = openat(dir->fd, name, O_RDONLY | O_DIRECTORY);
	assert_true(fd >= 0);
	snprintf(target, sizeof(target), "../%zu", level - 1);
	unlinkat(fd, "parent", 0);
	if (level)
		assert_int_equal(symlinkat(target, fd, "parent"), 0);
	return fd;
}

/* The top of the chain gets the highest number; returns its descriptor. */
static int write_chain(struct dir *dir, const struct model *m, unsigned int *seed)
{
	int top = -1;

	for (size_t n = 0; n < m->nr_levels; n++) {
		if (top >= 0)
			close(top);
		top = open_level_dir(dir, n);
		write_level(top, m->cells[m->nr_levels - 1 - n], (uint32_t)(n + 1), seed);
	}
	return top;
}

struct answer {
	bool error;
	enum pages_kind kind;
	uint32_t content;
	size_t level;
};

static struct answer ask_model(const struct model *m, size_t page)
{
	for (size_t level = 0; level < m->nr_levels; level++) {
		uint32_t cell = m->cells[level][page];

		if (cell >= CELL_CONTENT)
			return (struct answer){.kind = PAGES_HERE, .content = cell, .level = level};
		if (cell == CELL_PARENT)
			continue;
		if (level > 0)
			break;
		return (struct answer){.kind = cell == CELL_LAZY ? PAGES_ABSENT : PAGES_NONE};
	}
	return (struct answer){.error = true};
}

/* Where a page's content stands among the content of its level. */
static size_t nth_content(const struct model *m, size_t level, size_t page)
{
	size_t nth = 0;

	for (size_t i = 0; i < page; i++)
		nth += m->cells[level][i] >= CELL_CONTENT;
	return nth;
}

static bool joins(const struct model *m, size_t page, const struct answer *a)
{
	struct answer b;

	if (page == NR_PAGES)
		return a->kind == PAGES_NONE;
	b = ask_model(m, page);
	if (b.error || b.kind != a->kind)
		return false;
	return a->kind != PAGES_HERE ||
	       (b.level == a->level &&
	        nth_content(m, a->level, page) == nth_content(m, a->level, page - 1) + 1);
}

static void compare_bytes(const struct pages_piece *piece, uint64_t nth, uint32_t content)
{
	uint8_t want[PAGE_SIZE], got[PAGE_SIZE];

	fill_page(want, content);
	assert_int_equal(pread(piece->fd, got, PAGE_SIZE, (off_t)(piece->offset + nth * PAGE_SIZE)),
	                 PAGE_SIZE);
	assert_memory_equal(got, want, PAGE_SIZE);
	assert_memory_equal((const uint8_t *)piece->bytes + nth * PAGE_SIZE, want, PAGE_SIZE);
}

/* One look-up against the model: the right pages, and no fewer than could be. */
static void compare(const struct pages *pages, const struct model *m, size_t page, size_t nr)
{
	struct answer a = ask_model(m, page);
	struct pages_piece piece;
	struct err err = {0};
	int r = pages_lookup(pages, page_addr(page), nr, &piece, &err);

	if (a.error) {
		assert_failed(r, EPROTO, &err, "is said to be in the parent");
		return;
	}
	assert_int_equal(r, 0);
	assert_int_equal(piece.kind, a.kind);
	assert_in_range(piece.nr_pages, 1, nr);
	if (a.kind == PAGES_HERE) {
		assert_int_equal(piece.level, a.level);
		compare_bytes(&piece, 0, a.content);
	}
	for (size_t i = 1; i < piece.nr_pages; i++) {
		assert_true(joins(m, page + i, &a));
		if (a.kind == PAGES_HERE)
			compare_bytes(&piece, i, ask_model(m, page + i).content);
	}
	if (piece.nr_pages < nr)
		assert_false(joins(m, page + piece.nr_pages, &a));
}

static void random_cells(struct model *m, unsigned int *seed)
{
	uint32_t content = CELL_CONTENT;

	for (size_t level = 0; level < m->nr_levels; level++) {
		uint32_t cell = CELL_NONE;

		for (size_t page = 0; page < NR_PAGES; page++) {
			if (rand_r(seed) % 3 == 0) {
				unsigned int dice = (unsigned int)rand_r(seed) % 10;

				cell = dice < 5   ? CELL_PARENT
				       : dice < 8 ? CELL_CONTENT
				       : dice < 9 ? CELL_LAZY
				                  : CELL_NONE;
			}
			m->cells[level][page] = cell == CELL_CONTENT ? content++ : cell;
		}
	}
}

static void random_chains(void **state)
{
	struct dir *dir = *state;
	unsigned int first_seed = 20240607;

	print_message("seeds %u and up\n", first_seed);
	for (unsigned int i = 0; i < 120; i++) {
		unsigned int seed = first_seed + i;
		struct model m = {.nr_levels = 1 + i % MAX_LEVELS};
		struct pages *pages;
		struct err err = {0};
		int top;

		random_cells(&m, &seed);
		top = write_chain(dir, &m, &seed);
		assert_int_equal(pages_open(top, PID, &pages, &err), 0);
		close(top);
		assert_int_equal(pages_nr_levels(pages), m.nr_levels);
		for (size_t page = 0; page < NR_PAGES; page++) {
			compare(pages, &m, page, 1);
			compare(pages, &m, page, NR_PAGES - page);
			compare(pages, &m, page, 1 + (size_t)rand_r(&seed) % (NR_PAGES - page));
		}
		pages_close(pages);
	}
}

static void write_run(int dirfd, uint32_t pid, uint32_t id, uint64_t vaddr, uint64_t nr,
                      uint32_t flags, const void *bytes)
{
	struct pages_writer *w;
	struct err err = {0};

	assert_int_equal(pages_writer_open(dirfd, pid, id, COUNT_BOTH, &w, &err), 0);
	assert_int_equal(pages_writer_add(w, vaddr, nr, flags, bytes, &err), 0);
	assert_int_equal(pages_writer_close(w, &err), 0);
}

/* A parent that does not know the process ends the chain; what needs it is an error by address. */
static void parent_without_process(void **state)
{
	struct dir *dir = *state;
	int below = open_level_dir(dir, 0), top = open_level_dir(dir, 1);
	struct pages_piece piece;
	struct pages *pages;
	struct err err = {0};

	write_run(top, PID, 1, base, 2, PE_PARENT, NULL);
	assert_int_equal(pages_open(top, PID, &pages, &err), 0);
	assert_int_equal(pages_nr_levels(pages), 1);
	assert_failed(
		pages_lookup(pages, base, 1, &piece, &err), EPROTO, &err,
		"pagemap-5.img: page 0x7f0000000000 is said to be in the parent of level 0 (");
	assert_non_null(strstr(err.text, "/1), which has no parent"));
	pages_close(pages);

	write_run(below, PID, 1, base + PAGE_SIZE, 1, PE_PRESENT, NULL);
	assert_int_equal(pages_open(top, PID, &pages, &err), 0);
	assert_failed(pages_lookup(pages, base, 2, &piece, &err), EPROTO, &err,
	              "page 0x7f0000000000 is said to be in the parent images, but level 1 (");
	assert_non_null(strstr(err.text, "/0) does not have it"));
	assert_int_equal(pages_lookup(pages, base + PAGE_SIZE, 1, &piece, &err), 0);
	pages_close(pages);
	close(below), close(top);
}

static void bad_links(void **state)
{
	struct dir *dir = *state;
	int zero = open_level_dir(dir, 0), one = open_level_dir(dir, 1);
	struct pages *pages = NULL;
	struct err err = {0};

	write_run(zero, PID, 1, base, 1, PE_PRESENT, NULL);
	write_run(one, PID, 1, base, 1, PE_PARENT, NULL);
	assert_int_equal(symlinkat("../nowhere", zero, "parent"), 0);
	assert_failed(pages_open(one, PID, &pages, &err), ENOENT, &err,
	              "the link parent leads nowhere: No such file");
	assert_non_null(strstr(err.text, "parent images, level 1 ("));
	assert_failed(pages_open(zero, PID, &pages, &err), ENOENT, &err, "leads nowhere");
	unlinkat(zero, "parent", 0);
	assert_int_equal(symlinkat("../1", zero, "parent"), 0);
	assert_failed(pages_open(one, PID, &pages, &err), EPROTO, &err,
	              "parent links form a circle: level 2 is level 0 again");
	unlinkat(zero, "parent", 0);
	assert_int_equal(symlinkat(".", zero, "parent"), 0);
	assert_failed(pages_open(one, PID, &pages, &err), EPROTO, &err,
	              "parent links form a circle: level 2 is level 1 again");
	assert_int_equal(pages_open(one, PID, &pages, NULL), -EPROTO);
	unlinkat(zero, "parent", 0);
	assert_int_equal(symlinkat("pages-1.img", zero, "parent"), 0);
	assert_failed(pages_open(one, PID, &pages, &err), ENOTDIR, &err, "leads nowhere");
	assert_null(pages);
	close(zero), close(one);
}

static int truncate_at(int dirfd, const char *name, off_t size)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CLOEXEC), r;

	r = ftruncate(fd, size);
	close(fd);
	return r;
}

static void bad_files(void **state)
{
	struct dir *dir = *state;
	struct pages *pages = NULL;
	struct pages_piece piece;
	struct err err = {0};
	int one, zero;

	assert_failed(pages_open(dir->fd, PID, &pages, &err), ENOENT, &err, "pagemap-5.img: No");
	write_run(dir->fd, PID, 1, base, 3, PE_PRESENT, NULL);
	assert_int_equal(unlinkat(dir->fd, "pages-1.img", 0), 0);
	assert_failed(pages_open(dir->fd, PID, &pages, &err), ENOENT, &err,
	              "pages-1.img (needed by pagemap-5.img): No such");
	put_file(dir->fd, "pages-1.img", "x", 1);
	assert_failed(pages_open(dir->fd, PID, &pages, &err), EPROTO, &err,
	              "pages-1.img: 1 bytes, pagemap-5.img needs 12288");
	assert_int_equal(truncate_at(dir->fd, "pages-1.img", 12287), 0);
	assert_failed(pages_open(dir->fd, PID, &pages, &err), EPROTO, &err,
	              "pages-1.img: 12287 bytes, pagemap-5.img needs 12288");
	assert_int_equal(truncate_at(dir->fd, "pages-1.img", 12288), 0);
	assert_int_equal(pages_open(dir->fd, PID, &pages, &err), 0);
	pages_close(pages);
	pages = NULL;
	unlinkat(dir->fd, "pages-1.img", 0);
	assert_int_equal(mkfifoat(dir->fd, "pages-1.img", 0600), 0);
	assert_failed(pages_open(dir->fd, PID, &pages, &err), EINVAL, &err, "not a regular file");

	/* Nothing present: the pages file is not missed. */
	write_run(dir->fd, 6, 2, base, 3, PE_LAZY, NULL);
	assert_int_equal(unlinkat(dir->fd, "pages-2.img", 0), 0);
	assert_int_equal(pages_open(dir->fd, 6, &pages, &err), 0);
	assert_int_equal(pages_lookup(pages, base, 9, &piece, &err), 0);
	assert_int_equal(piece.kind, PAGES_ABSENT);
	assert_int_equal(piece.nr_pages, 3);
	pages_close(pages);

	/* A parent's fault is told with the parent's place. */
	zero = open_level_dir(dir, 0);
	one = open_level_dir(dir, 1);
	write_run(one, PID, 1, base, 1, PE_PARENT, NULL);
	put_file(zero, "pagemap-5.img", "abcdefgh", 8);
	assert_failed(pages_open(one, PID, &pages, &err), EPROTO, &err, "parent images, level 1 (");
	assert_non_null(strstr(err.text, "/0): pagemap-5.img: not an image"));
	close(zero), close(one);
}

static void bad_questions(void **state)
{
	struct dir *dir = *state;
	struct pages *pages;
	struct pages_piece piece;
	struct err err = {0};

	write_run(dir->fd, PID, 1, base, 3, PE_PRESENT, NULL);
	assert_int_equal(pages_open(dir->fd, PID, &pages, &err), 0);
	assert_int_equal(pages_top(pages)->nr, 1);
	assert_failed(pages_lookup(pages, base + 1, 1, &piece, &err), EINVAL, &err, "looked up");
	assert_failed(pages_lookup(pages, base, 0, &piece, &err), EINVAL, &err, "looked up");
	assert_failed(pages_lookup(pages, base, UINT64_MAX, &piece, &err), EINVAL, &err, "18446");
	assert_failed(pages_lookup(pages, USER_ADDRESS_END, 1, &piece, &err), EINVAL, &err, "0x1");
	assert_int_equal(pages_lookup(pages, 0, USER_ADDRESS_END >> 12, &piece, &err), 0);
	assert_int_equal(piece.kind, PAGES_NONE);
	assert_int_equal(piece.nr_pages, base >> 12);
	pages_close(pages);
	pages_close(NULL);
}

/* Two processes whose pagemaps name one pages file. */
static void shared_pages_file(void **state)
{
	struct dir *dir = *state;
	uint8_t bytes[2 * PAGE_SIZE];
	struct pages_piece piece;
	struct pages *a, *b;
	struct err err = {0};

	fill_page(bytes, 11);
	fill_page(bytes + PAGE_SIZE, 12);
	write_run(dir->fd, 6, 1, base * 2 - base, 1, PE_PRESENT, bytes);
	write_run(dir->fd, 5, 1, base, 2, PE_PRESENT, bytes);
	assert_int_equal(pages_open(dir->fd, 5, &a, &err), 0);
	assert_int_equal(pages_open(dir->fd, 6, &b, &err), 0);
	assert_int_equal(pages_lookup(b, base, 1, &piece, &err), 0);
	compare_bytes(&piece, 0, 11);
	pages_close(b);
	assert_int_equal(pages_lookup(a, base + PAGE_SIZE, 1, &piece, &err), 0);
	compare_bytes(&piece, 0, 12);
	pages_close(a);
}

/* 64 GiB in one run, mostly a hole in the file; lengths and offsets beyond 32 bits. */
static void huge_run(void **state)
{
	struct dir *dir = *state;
	const uint64_t nr = UINT64_C(64) << 18, at = UINT64_C(37) << 30;
	uint8_t page[PAGE_SIZE];
	struct pages_piece piece;
	struct pages *pages;
	struct err err = {0};
	int fd;

	write_run(dir->fd, PID, 1, base, nr, PE_PRESENT | PE_LAZY, NULL);
	fill_page(page, 4711);
	fd = openat(dir->fd, "pages-1.img", O_WRONLY);
	assert_int_equal(pwrite(fd, page, PAGE_SIZE, (off_t)at), PAGE_SIZE);
	close(fd);
	assert_int_equal(pages_open(dir->fd, PID, &pages, &err), 0);
	assert_int_equal(pages_top(pages)->pages_bytes, UINT64_C(64) << 30);
	assert_int_equal(pages_lookup(pages, base + at, nr, &piece, &err), 0);
	assert_int_equal(piece.nr_pages, nr - (at >> 12));
	assert_int_equal(piece.offset, at);
	compare_bytes(&piece, 0, 4711);
	assert_int_equal(pages_lookup(pages, base + at - PAGE_SIZE, 1, &piece, &err), 0);
	compare_bytes(&piece, 0, 0);
	pages_close(pages);
}

/* The promise about truncation: a system call that is handed lost pages fails, nobody is killed. */
static void truncated_afterwards(void **state)
{
	struct dir *dir = *state;
	struct pages_piece piece;
	struct pages *pages;
	struct err err = {0};
	int fd, sink;

	write_run(dir->fd, PID, 1, base, 4, PE_PRESENT, NULL);
	assert_int_equal(pages_open(dir->fd, PID, &pages, &err), 0);
	assert_int_equal(pages_lookup(pages, base + PAGE_SIZE, 3, &piece, &err), 0);
	sink = openat(dir->fd, "sink", O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(sink, piece.bytes, 3 * PAGE_SIZE), 3 * PAGE_SIZE);
	fd = openat(dir->fd, "pages-1.img", O_WRONLY | O_TRUNC);
	errno = 0;
	assert_int_equal(write(sink, piece.bytes, 3 * PAGE_SIZE), -1);
	assert_int_equal(errno, EFAULT);
	close(fd);
	close(sink);
	pages_close(pages);
}

/* One file of a chain was written to: what is in the others is as good as before. */
static void parent_changed(void **state)
{
	static const uint8_t bytes[PAGE_SIZE];
	struct dir *dir = *state;
	int zero = open_level_dir(dir, 0), one = open_level_dir(dir, 1), fd;
	struct pages_piece piece[2];
	struct pages *pages;
	struct pages_writer *w;
	struct err err = {0};

	write_run(zero, PID, 1, base, 1, PE_PRESENT, bytes);
	assert_int_equal(pages_writer_open(one, PID, 1, COUNT_BOTH, &w, &err), 0);
	assert_int_equal(pages_writer_add(w, base, 1, PE_PARENT, NULL, &err), 0);
	assert_int_equal(pages_writer_add(w, base + PAGE_SIZE, 1, PE_PRESENT, bytes, &err), 0);
	assert_int_equal(pages_writer_close(w, &err), 0);
	assert_int_equal(pages_open(one, PID, &pages, &err), 0);
	for (uint64_t i = 0; i < 2; i++) {
		assert_int_equal(pages_lookup(pages, base + i * PAGE_SIZE, 1, &piece[i], &err), 0);
		assert_int_equal(piece[i].level, 1 - i);
		assert_int_equal(pages_check(pages, &piece[i], &err), 0);
	}
	fd = openat(zero, "pages-1.img", O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, bytes, 1, 0), 1);
	assert_failed(pages_check(pages, &piece[0], &err), EPROTO, &err, "/0): it was written to");
	assert_int_equal(pages_check(pages, &piece[1], &err), 0);
	close(fd), close(zero), close(one);
	pages_close(pages);
}

/* As deep as is allowed, and one more; the bottom has the page. */
static void deep_chain(void **state)
{
	struct dir *dir = *state;
	struct pages_piece piece;
	struct pages *pages;
	struct err err = {0};
	int fd;

	for (size_t i = 0; i < 300; i++) {
		fd = open_level_dir(dir, i);
		write_run(fd, PID, 1, base, 1, i ? PE_PARENT : PE_PRESENT, NULL);
		if (i == 299)
			assert_int_equal(pages_open(fd, PID, &pages, &err), 0);
		close(fd);
	}
	assert_int_equal(pages_nr_levels(pages), 300);
	assert_int_equal(pages_lookup(pages, base, 1, &piece, &err), 0);
	assert_int_equal(piece.level, 299);
	compare_bytes(&piece, 0, 0);
	pages_close(pages);
	for (size_t i = 300; i <= PAGES_MAX_DEPTH; i++) {
		fd = open_level_dir(dir, i);
		assert_int_equal(linkat(dir->fd, "1/pagemap-5.img", fd, "pagemap-5.img", 0), 0);
		if (i == PAGES_MAX_DEPTH)
			assert_failed(pages_open(fd, PID, &pages, &err), EPROTO, &err,
			              "more than 1024 levels");
		close(fd);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(random_chains), TEST(parent_without_process), TEST(bad_links),
		TEST(bad_files),     TEST(bad_questions),          TEST(shared_pages_file),
		TEST(huge_run),      TEST(truncated_afterwards),   TEST(parent_changed),
		TEST(deep_chain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
