/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Make an incremental chain out of a finished dump.
 *
 *	split-chain DIR N SEED [plain]	DIR/parent -> ../DIR-1, DIR-1/parent -> ../DIR-2,
 *					... N levels
 *
 * Kernels without soft-dirty tracking cannot pre-dump, so the tests of chains take a full dump
 * apart: each page's content goes to one level, picked at random, in blocks and alone.  Above that
 * level it is a hole (PE_PARENT), in the top level of lazy memory at times one that may be brought
 * lazily (PE_PARENT | PE_LAZY, which CRIU never writes; not with "plain"); below it there is
 * nothing, or old content that nobody must see.
 */
#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"
#include "images/pagemap.h"
#include "images/pages.h"
#include "images/pstree.h"
#include "images/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, MAX_RUN = 256 };

struct job {
	const char *dir;
	int dirfd;
	unsigned int levels;
	uint64_t seed;
	bool plain; /* no lazy holes: what CRIU itself writes */
	uint64_t nr[4]; /* pages: in the top, hole, lazy hole, stale content */
};

static uint8_t stale[MAX_RUN * PAGE];

static uint64_t hash(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

/* What a page is on one level. */
struct fate {
	uint32_t flags; /* 0: nothing there */
	bool stale;
};

static struct fate fate(const struct job *job, uint64_t addr, uint32_t flags, unsigned int level)
{
	uint64_t page = addr / PAGE, block = hash(job->seed + page / 16);
	/* A quarter of the blocks is of single pages, the rest of 16 of a kind. */
	uint64_t h = block % 4 ? hash(block) : hash(job->seed * 7 + page);
	unsigned int home = (unsigned int)(h % (job->levels + 1));

	h = hash(h + page / 4 * 2 + 1);
	if (level == home)
		return (struct fate){flags, false};
	if (level > home)
		return h % 2 ? (struct fate){flags, true} : (struct fate){0, false};
	if (level == 0 && (flags & PE_LAZY) && h % 2 && !job->plain)
		return (struct fate){PE_PARENT | PE_LAZY, false};
	return (struct fate){PE_PARENT, false};
}

static int add(struct job *job, struct pages_writer *w, const struct pages *pages, uint64_t addr,
               uint64_t nr, struct fate what, unsigned int level, struct err *err)
{
	struct pages_piece piece;
	int r;

	if (level == 0)
		job->nr[what.flags & PE_PRESENT ? 0 : what.flags & PE_LAZY ? 2 : 1] += nr;
	if (what.stale) {
		job->nr[3] += nr;
		return pages_writer_add(w, addr, nr, what.flags, stale, err);
	}
	if (!(what.flags & PE_PRESENT))
		return pages_writer_add(w, addr, nr, what.flags, NULL, err);
	for (; nr; addr += piece.nr_pages * PAGE, nr -= piece.nr_pages) {
		r = pages_lookup(pages, addr, nr, &piece, err);
		if (r < 0)
			return r;
		if (piece.kind != PAGES_HERE)
			return err_set(err, EPROTO, "page %#llx has no content",
			               (unsigned long long)addr);
		r = pages_writer_add(w, addr, piece.nr_pages, what.flags, piece.bytes, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int split_run(struct job *job, struct pages_writer *w, const struct pages *pages,
                     const struct pagemap_run *run, unsigned int level, struct err *err)
{
	uint64_t addr = run->vaddr, end = pagemap_run_end(run), from;
	struct fate what, next;
	int r;

	while (addr < end) {
		from = addr;
		what = fate(job, addr, run->flags, level);
		do {
			addr += PAGE;
			next = fate(job, addr, run->flags, level);
		} while (addr < end && next.flags == what.flags && next.stale == what.stale &&
		         addr - from < MAX_RUN * (uint64_t)PAGE);
		if (!what.flags)
			continue;
		r = add(job, w, pages, from, (addr - from) / PAGE, what, level, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* DIR-LEVEL; level 0 is DIR-0, whose files replace those of DIR at the end. */
static void level_path(const struct job *job, unsigned int level, char *path, size_t size)
{
	snprintf(path, size, "%s-%u", job->dir, level);
}

static int split_level(struct job *job, uint32_t pid, const struct pages *pages, unsigned int level,
                       struct err *err)
{
	const struct pagemap *map = pages_top(pages);
	struct pages_writer *w = NULL;
	char path[4096];
	int r = 0, closed;
	size_t i;

	level_path(job, level, path, sizeof(path));
	cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, errno, "open %s", path);
	r = pages_writer_open(fd, pid, map->pages_id, COUNT_BOTH, &w, err);
	for (i = 0; r == 0 && i < map->nr; i++)
		r = split_run(job, w, pages, &map->runs[i], level, err);
	closed = pages_writer_close(w, err);
	return r < 0 ? r : closed;
}

/* The new top level's files take the place of the old ones. */
static int replace(struct job *job, uint32_t pid, uint32_t pages_id, struct err *err)
{
	char from[4096], name[64];
	int i;

	for (i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), i ? "pages-%u.img" : "pagemap-%u.img",
		         i ? pages_id : pid);
		snprintf(from, sizeof(from), "%s-0/%s", job->dir, name);
		if (renameat(AT_FDCWD, from, job->dirfd, name) < 0)
			return err_set(err, errno, "rename %s", from);
	}
	return 0;
}

static int split_process(struct job *job, uint32_t pid, struct err *err)
{
	struct pages *pages = NULL;
	unsigned int level;
	uint32_t id;
	int r;

	r = pages_open(job->dirfd, pid, &pages, err);
	if (r < 0)
		return r;
	id = pages_top(pages)->pages_id;
	for (level = 0; r == 0 && level <= job->levels; level++)
		r = split_level(job, pid, pages, level, err);
	pages_close(pages);
	return r < 0 ? r : replace(job, pid, id, err);
}

static int make_levels(const struct job *job, struct err *err)
{
	const char *base = strrchr(job->dir, '/') ? strrchr(job->dir, '/') + 1 : job->dir;
	char path[4096], link[4200], target[512];
	unsigned int level;

	for (level = 0; level <= job->levels; level++) {
		level_path(job, level, path, sizeof(path));
		if (mkdir(path, 0755) < 0)
			return err_set(err, errno, "mkdir %s", path);
		if (level == job->levels)
			break;
		snprintf(link, sizeof(link), "%s/parent", level ? path : job->dir);
		snprintf(target, sizeof(target), "../%s-%u", base, level + 1);
		if (symlink(target, link) < 0)
			return err_set(err, errno, "symlink %s", link);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct pstree tree = {0};
	struct err err = {0};
	struct job job = {0};
	size_t i;
	int r;

	job.plain = argc == 5 && !strcmp(argv[4], "plain");
	if (argc != 4 && !job.plain) {
		fprintf(stderr, "usage: split-chain DIR LEVELS SEED [plain]\n");
		return 2;
	}
	job.dir = argv[1];
	job.levels = (unsigned int)strtoul(argv[2], NULL, 0);
	job.seed = strtoull(argv[3], NULL, 0);
	memset(stale, 0xdb, sizeof(stale));
	job.dirfd = open(job.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (job.dirfd < 0) {
		perror(job.dir);
		return 1;
	}
	r = pstree_read(job.dirfd, &tree, &err);
	if (r == 0)
		r = make_levels(&job, &err);
	for (i = 0; r == 0 && i < tree.nr; i++) {
		char name[64];

		snprintf(name, sizeof(name), "pagemap-%u.img", tree.tasks[i].pid);
		/* A zombie has none. */
		if (faccessat(job.dirfd, name, F_OK, 0) < 0)
			continue;
		r = split_process(&job, tree.tasks[i].pid, &err);
	}
	pstree_release(&tree);
	close(job.dirfd);
	if (r < 0) {
		fprintf(stderr, "split-chain: %s\n", err.text);
		return 1;
	}
	printf("pages: %llu in the top level, %llu holes, %llu lazy holes; %llu stale ones below\n",
	       (unsigned long long)job.nr[0], (unsigned long long)job.nr[1],
	       (unsigned long long)job.nr[2], (unsigned long long)job.nr[3]);
	return job.nr[1] + job.nr[2] ? 0 : 1;
}
