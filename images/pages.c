/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pages.c - open a chain of image directories and find pages in it.
 *
 * A level is a pagemap and a mapping of its pages file.  A lookup walks down from level 0 while
 * runs say PE_PARENT, at each level by binary search, and the piece gets shorter with each run it
 * meets on the way.
 */
#include "images/pages.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "images/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct level {
	struct pagemap map;
	char *dir; /* for errors */
	dev_t dev; /* of the directory, to notice a chain that bites its tail */
	ino_t ino;
	int fd; /* pages file, -1: none needed */
	off_t size; /* of the pages file, and when it was written to last, at the time of opening */
	struct timespec mtime;
	uint8_t *bytes; /* its first map.pages_bytes bytes, NULL: none */
};

struct pages {
	uint32_t pid;
	size_t nr;
	size_t room;
	struct level *levels; /* [0] is the directory given */
	bool lent; /* the descriptors belong to somebody else */
};

/* --- opening --------------------------------------------------------------------------------- */

/* What to call a directory that we only have a descriptor of. */
static char *dir_name(int dirfd)
{
	char link[32], path[PATH_MAX];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
	len = readlink(link, path, sizeof(path) - 1);
	if (dirfd == AT_FDCWD || len < 0)
		return strdup(dirfd == AT_FDCWD ? "." : "?");
	path[len] = '\0';
	return strdup(path);
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/*
 * Until a write that comes now gives the file another mtime than it has.  Timestamps are those of
 * the last tick of the clock, which comes every 1 to 10 ms; or of the last even second (FAT, ext4
 * with small inodes): then mtime has no fraction.  A file that was written to just before, so only
 * that has to be waited for.  (From 6.13 on most file systems give a finer time to the first write
 * after a stat(2); waiting for one tick in vain is cheap.)
 */
static void outlive_mtime(const struct timespec *mtime)
{
	enum { TICK_NS = 10000000, COARSE_NS = 2000000000 };
	int64_t grain = mtime->tv_nsec ? TICK_NS : COARSE_NS;
	const struct timespec moment = {.tv_nsec = 1000000};
	struct timespec now;
	int64_t age;

	for (int64_t waited = 0; waited <= grain + TICK_NS; waited += moment.tv_nsec) {
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
		if (now.tv_sec - mtime->tv_sec > 10 || mtime->tv_sec - now.tv_sec > 10)
			return; /* long ago; or the clock was set, and differs in any case */
		age = (int64_t)(now.tv_sec - mtime->tv_sec) * 1000000000 + now.tv_nsec -
		      mtime->tv_nsec;
		if (age > (mtime->tv_nsec ? 0 : grain) || age < -grain)
			return;
		nanosleep(&moment, NULL);
	}
}

static int open_pages_file(int dirfd, uint32_t pid, struct level *level, struct err *err)
{
	uint64_t needed = level->map.pages_bytes;
	char name[32];
	struct stat st;
	void *bytes;

	if (needed == 0)
		return 0;
	snprintf(name, sizeof(name), "pages-%u.img", level->map.pages_id);
	level->fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (level->fd < 0)
		return err_set(err, errno, "%s (needed by pagemap-%u.img)", name, pid);
	if (fstat(level->fd, &st) < 0)
		return err_set(err, errno, "stat %s", name);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "%s: not a regular file", name);
	if ((uint64_t)st.st_size < needed)
		return err_set(err, EPROTO, "%s: %llu bytes, pagemap-%u.img needs %llu", name,
		               (unsigned long long)st.st_size, pid, (unsigned long long)needed);
	bytes = mmap(NULL, needed, PROT_READ, MAP_SHARED, level->fd, 0);
	if (bytes == MAP_FAILED)
		return err_set(err, errno, "map %llu bytes of %s", (unsigned long long)needed,
		               name);
	level->bytes = bytes;
	level->size = st.st_size;
	level->mtime = st.st_mtim;
	outlive_mtime(&level->mtime);
	return 0;
}

static struct level *new_level(struct pages *pages)
{
	struct level *level;

	if (pages->nr == pages->room) {
		size_t more = pages->room ? pages->room * 2 : 1;
		struct level *grown = reallocarray(pages->levels, more, sizeof(*grown));

		if (!grown)
			return NULL;
		pages->levels = grown;
		pages->room = more;
	}
	level = &pages->levels[pages->nr++];
	*level = (struct level){.fd = -1};
	return level;
}

/* A directory that is in the chain already would make it endless. */
static int check_new_directory(const struct pages *pages, int dirfd, struct level *level,
                               struct err *err)
{
	struct stat st;

	if (fstatat(dirfd, "", &st, AT_EMPTY_PATH) < 0)
		return err_set(err, errno, "stat %s", level->dir);
	level->dev = st.st_dev;
	level->ino = st.st_ino;
	for (size_t i = 0; i + 1 < pages->nr; i++) {
		const struct level *other = &pages->levels[i];

		if (other->dev == st.st_dev && other->ino == st.st_ino)
			return err_set(
				err, EPROTO,
				"parent links form a circle: level %zu is level %zu again (%s)",
				pages->nr - 1, i, other->dir);
	}
	return 0;
}

/* Returns 1: level added; 0: no pagemap for this process there; negative errno. */
static int open_level(struct pages *pages, int dirfd, struct err *err)
{
	struct err quiet = {0};
	struct level *level;
	int r;

	if (pages->nr == PAGES_MAX_DEPTH)
		return err_set(err, EPROTO, "more than %d levels of parent images",
		               PAGES_MAX_DEPTH);
	level = new_level(pages);
	if (!level)
		return err_set(err, ENOMEM, "level %zu of the images", pages->nr);
	level->dir = dir_name(dirfd);
	if (!level->dir)
		return err_set(err, ENOMEM, "level %zu of the images", pages->nr - 1);
	r = check_new_directory(pages, dirfd, level, err);
	if (r < 0)
		return r;
	r = pagemap_read(dirfd, pages->pid, &level->map, &quiet);
	if (r == -ENOENT && pages->nr > 1) {
		free(level->dir);
		pages->nr--;
		return 0;
	}
	if (r < 0) {
		if (err)
			*err = quiet;
		return r;
	}
	r = open_pages_file(dirfd, pages->pid, level, err);
	return r < 0 ? r : 1;
}

int pages_open_parent(int dirfd, int *ret, struct err *err)
{
	struct stat st;
	int fd;

	if (fstatat(dirfd, "parent", &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT)
			return 0;
		return err_set(err, errno, "stat parent");
	}
	fd = openat(dirfd, "parent", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, errno, "the link parent leads nowhere");
	*ret = fd;
	return 1;
}

/* "level N (DIR): " in front of what went wrong in a parent; level 0 needs no such words. */
static int wrap_level(const struct pages *pages, size_t level, int r, struct err *err)
{
	const char *dir = level < pages->nr ? pages->levels[level].dir : NULL;

	if (level == 0 || !err)
		return r;
	return dir ? err_wrap(err, "parent images, level %zu (%s)", level, dir)
	           : err_wrap(err, "parent images, level %zu", level);
}

static int open_chain(struct pages *pages, int dirfd, struct err *err)
{
	cleanup_close int own = -1; /* the level we are at, unless it is the caller's dirfd */
	int at = dirfd, r;

	for (;;) {
		size_t level = pages->nr;
		int parent = -1;

		r = open_level(pages, at, err);
		if (r < 0)
			return wrap_level(pages, level, r, err);
		if (r == 0)
			return 0;
		r = pages_open_parent(at, &parent, err);
		if (r < 0)
			return wrap_level(pages, level, r, err);
		if (r == 0)
			return 0;
		cleanup_close_fd(&own);
		at = own = parent;
	}
}

int pages_open(int dirfd, uint32_t pid, struct pages **ret, struct err *err)
{
	struct pages *pages = calloc(1, sizeof(*pages));
	int r;

	if (!pages)
		return err_set(err, ENOMEM, "pages of process %u", pid);
	pages->pid = pid;
	r = open_chain(pages, dirfd, err);
	if (r < 0) {
		pages_close(pages);
		return r;
	}
	*ret = pages;
	return 0;
}

void pages_lend(struct pages *pages)
{
	pages->lent = true;
}

void pages_close(struct pages *pages)
{
	if (!pages)
		return;
	for (size_t i = 0; i < pages->nr; i++) {
		struct level *level = &pages->levels[i];

		if (level->bytes)
			munmap(level->bytes, level->map.pages_bytes);
		if (!pages->lent)
			cleanup_close_fd(&level->fd);
		pagemap_release(&level->map);
		free(level->dir);
	}
	free(pages->levels);
	free(pages);
}

/* --- lookup ---------------------------------------------------------------------------------- */

static int not_in_parent(const struct pages *pages, size_t level, uint64_t vaddr, struct err *err)
{
	unsigned long long addr = vaddr;

	if (level == pages->nr)
		return err_set(err, EPROTO,
		               "pagemap-%u.img: page 0x%llx is said to be in the parent of level "
		               "%zu (%s), which has no parent with pages of this process",
		               pages->pid, addr, level - 1, pages->levels[level - 1].dir);
	return err_set(err, EPROTO,
	               "pagemap-%u.img: page 0x%llx is said to be in the parent images, but level "
	               "%zu (%s) does not have it",
	               pages->pid, addr, level, pages->levels[level].dir);
}

static void piece_here(const struct pages *pages, size_t level, const struct pagemap_run *run,
                       uint64_t vaddr, struct pages_piece *piece)
{
	const struct level *lv = &pages->levels[level];

	piece->kind = PAGES_HERE;
	piece->fd = lv->fd;
	piece->offset = run->offset + (vaddr - run->vaddr);
	piece->bytes = lv->bytes + piece->offset;
	piece->level = level;
}

/*
 * The piece at vaddr as far as one run of each level reaches.  *piece comes with nr_pages, what is
 * wanted at most, and the rest zero.
 */
static int lookup_run(const struct pages *pages, uint64_t vaddr, struct pages_piece *piece,
                      struct err *err)
{
	for (size_t level = 0; level < pages->nr; level++) {
		const struct pagemap *map = &pages->levels[level].map;
		size_t i = pagemap_lower(map, vaddr);
		const struct pagemap_run *run = i < map->nr ? &map->runs[i] : NULL;

		if (!run || run->vaddr > vaddr) {
			if (level > 0)
				return not_in_parent(pages, level, vaddr, err);
			piece->kind = PAGES_NONE;
			if (run)
				piece->nr_pages = min_u64(piece->nr_pages,
				                          (run->vaddr - vaddr) >> PAGE_SHIFT);
			return 0;
		}
		piece->nr_pages =
			min_u64(piece->nr_pages, (pagemap_run_end(run) - vaddr) >> PAGE_SHIFT);
		if (run->flags & PE_PRESENT) {
			piece_here(pages, level, run, vaddr, piece);
			return 0;
		}
		if (!(run->flags & PE_PARENT)) {
			/* Bytes that are elsewhere: only level 0 can be fed by a page server. */
			if (level > 0)
				return not_in_parent(pages, level, vaddr, err);
			piece->kind = PAGES_ABSENT;
			return 0;
		}
	}
	return not_in_parent(pages, pages->nr, vaddr, err);
}

static bool continues(const struct pages_piece *piece, const struct pages_piece *next)
{
	if (piece->kind != next->kind)
		return false;
	return piece->kind != PAGES_HERE ||
	       (piece->level == next->level &&
	        piece->offset + (piece->nr_pages << PAGE_SHIFT) == next->offset);
}

int pages_lookup(const struct pages *pages, uint64_t vaddr, uint64_t nr_pages,
                 struct pages_piece *ret, struct err *err)
{
	struct pages_piece piece = {.nr_pages = nr_pages};
	int r;

	if (!page_aligned(vaddr) || nr_pages == 0 || vaddr >= USER_ADDRESS_END ||
	    nr_pages > (USER_ADDRESS_END - vaddr) >> PAGE_SHIFT)
		return err_set(err, EINVAL, "%llu pages at 0x%llx cannot be looked up",
		               (unsigned long long)nr_pages, (unsigned long long)vaddr);
	r = lookup_run(pages, vaddr, &piece, err);
	if (r < 0)
		return r;
	while (piece.nr_pages < nr_pages) {
		struct pages_piece next = {.nr_pages = nr_pages - piece.nr_pages};

		r = lookup_run(pages, vaddr + (piece.nr_pages << PAGE_SHIFT), &next, NULL);
		if (r < 0 || !continues(&piece, &next))
			break;
		piece.nr_pages += next.nr_pages;
	}
	*ret = piece;
	return 0;
}

int pages_check(const struct pages *pages, const struct pages_piece *piece, struct err *err)
{
	const struct level *level = &pages->levels[piece->level];
	struct stat st;

	if (fstat(level->fd, &st) < 0)
		return err_set(err, errno, "stat pages-%u.img (%s)", level->map.pages_id,
		               level->dir);
	if (st.st_size == level->size && same_time(&st.st_mtim, &level->mtime))
		return 0;
	return err_set(err, EPROTO, "pages-%u.img was changed while it was in use (%s): it %s",
	               level->map.pages_id, level->dir,
	               st.st_size < level->size   ? "was cut short"
	               : st.st_size > level->size ? "has grown"
	                                          : "was written to");
}

const struct pagemap *pages_top(const struct pages *pages)
{
	return &pages->levels[0].map;
}

size_t pages_nr_levels(const struct pages *pages)
{
	return pages->nr;
}

const struct pagemap *pages_level(const struct pages *pages, size_t level)
{
	return &pages->levels[level].map;
}
