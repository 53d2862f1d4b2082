/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/os/fdset.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char own_fds[] = "/proc/self/fd";

void fdset_release(struct fdset *set)
{
	free(set->fds);
	*set = (struct fdset){0};
}

/* The first place whose number is not below fd. */
static size_t place_of(const struct fdset *set, int fd)
{
	size_t low = 0, high = set->nr;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (set->fds[middle] < fd)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool fdset_has(const struct fdset *set, int fd)
{
	size_t place = place_of(set, fd);

	return place < set->nr && set->fds[place] == fd;
}

int fdset_add(struct fdset *set, int fd)
{
	size_t place = place_of(set, fd);

	if (fd < 0)
		return -EBADF;
	if (place < set->nr && set->fds[place] == fd)
		return 0;
	if (set->nr == set->room) {
		size_t room = set->room ? set->room * 2 : 16;
		int *fds = reallocarray(set->fds, room, sizeof(*fds));

		if (!fds)
			return -ENOMEM;
		set->fds = fds;
		set->room = room;
	}
	memmove(set->fds + place + 1, set->fds + place, (set->nr - place) * sizeof(*set->fds));
	set->fds[place] = fd;
	set->nr++;
	return 0;
}

/* --- what is open ----------------------------------------------------------------------------- */

/* A name in /proc/self/fd; -1: not a number. */
static int parse_fd(const char *name)
{
	char *end;
	long fd;

	errno = 0;
	fd = strtol(name, &end, 10);
	return errno || end == name || *end || fd < 0 || fd > INT_MAX ? -1 : (int)fd;
}

static int read_fds(DIR *dir, struct fdset *set)
{
	const struct dirent *entry;

	while (errno = 0, (entry = readdir(dir)) != NULL) {
		int fd = parse_fd(entry->d_name), r;

		if (fd < 0 || fd == dirfd(dir)) /* "." and ".." */
			continue;
		r = fdset_add(set, fd);
		if (r < 0)
			return r;
	}
	return -errno;
}

int fdset_open(struct fdset *ret, struct err *err)
{
	struct fdset set = {0};
	DIR *dir = opendir(own_fds);
	int r;

	if (!dir)
		return err_set(err, errno, "%s", own_fds);
	r = read_fds(dir, &set);
	closedir(dir);
	if (r < 0) {
		fdset_release(&set);
		return err_set(err, -r, "%s", own_fds);
	}
	*ret = set;
	return 0;
}

/* --- closing the others ----------------------------------------------------------------------- */

static int close_one_by_one(const struct fdset *keep, struct err *err)
{
	cleanup_fdset struct fdset set = {0};
	int r = fdset_open(&set, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < set.nr; i++)
		if (!fdset_has(keep, set.fds[i]))
			close(set.fds[i]);
	return 0;
}

/* As a system call: no glibc before 2.34 has it. */
static int close_from_to(unsigned int first, unsigned int last)
{
	if (first > last)
		return 0;
	return syscall(SYS_close_range, first, last, 0) < 0 ? -errno : 0;
}

int fdset_close_others(const struct fdset *keep, struct err *err)
{
	unsigned int first = 0;
	int r = 0;

	for (size_t i = 0; i < keep->nr && r == 0; i++) {
		unsigned int kept = (unsigned int)keep->fds[i];

		if (kept > first)
			r = close_from_to(first, kept - 1);
		first = kept + 1;
	}
	if (r == 0)
		r = close_from_to(first, UINT_MAX);
	if (r == -ENOSYS || r == -EPERM)
		return close_one_by_one(keep, err);
	return r < 0 ? err_set(err, -r, "close descriptors from %u on", first) : 0;
}

/* --- back to their numbers -------------------------------------------------------------------- */

static int compare_wanted(const void *a, const void *b)
{
	const struct fdset_move *const *one = a, *const *two = b;

	return ((*one)->wanted > (*two)->wanted) - ((*one)->wanted < (*two)->wanted);
}

/* What is to be known of all moves together. */
struct moving {
	struct fdset before; /* where they are at the start */
	struct fdset_move **by_wanted; /* ascending */
	size_t nr;
};

static struct fdset_move *who_wants(const struct moving *all, int place)
{
	struct fdset_move key = {.wanted = place}, *key_ptr = &key;
	struct fdset_move **found =
		bsearch(&key_ptr, all->by_wanted, all->nr, sizeof(*all->by_wanted), compare_wanted);

	return found ? *found : NULL;
}

static int judge(const struct moving *all, const struct fdset_move *move, struct err *err)
{
	struct rlimit limit;

	if (move->now < 0 || move->wanted < 0)
		return err_set(err, EBADF, "descriptor %d to be moved to %d", move->now,
		               move->wanted);
	if (fcntl(move->now, F_GETFD) < 0)
		return err_set(err, errno, "descriptor %d to be moved to %d", move->now,
		               move->wanted);
	if (fdset_has(&all->before, move->wanted))
		return 0;
	if (fcntl(move->wanted, F_GETFD) >= 0)
		return err_set(err, EBUSY, "descriptor %d cannot be moved to %d, where another is",
		               move->now, move->wanted);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)move->wanted >= limit.rlim_cur)
		return err_set(err, EMFILE,
		               "descriptor %d cannot be moved to %d, the limit is %llu", move->now,
		               move->wanted, (unsigned long long)limit.rlim_cur);
	return 0;
}

static int survey(struct fdset_move *moves, size_t nr, struct moving *all, struct err *err)
{
	int r;

	all->by_wanted = calloc(nr, sizeof(struct fdset_move *));
	if (!all->by_wanted)
		return err_set(err, ENOMEM, "moving %zu descriptors", nr);
	all->nr = nr;
	for (size_t i = 0; i < nr; i++) {
		all->by_wanted[i] = &moves[i];
		if (fdset_has(&all->before, moves[i].now))
			return err_set(err, EINVAL, "descriptor %d is to be moved twice",
			               moves[i].now);
		r = fdset_add(&all->before, moves[i].now);
		if (r < 0)
			return err_set(err, -r, "descriptor %d to be moved to %d", moves[i].now,
			               moves[i].wanted);
	}
	qsort(all->by_wanted, nr, sizeof(struct fdset_move *), compare_wanted);
	for (size_t i = 0; i < nr; i++) {
		if (i && all->by_wanted[i]->wanted == all->by_wanted[i - 1]->wanted)
			return err_set(err, EINVAL,
			               "descriptors %d and %d are both to be moved to %d",
			               all->by_wanted[i - 1]->now, all->by_wanted[i]->now,
			               all->by_wanted[i]->wanted);
		r = judge(all, all->by_wanted[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The place is free: who wants it comes, then who wants the place that is free by that. */
static int fill_hole(const struct moving *all, int place, struct err *err)
{
	struct fdset_move *move;

	while ((move = who_wants(all, place)) && move->now != place) {
		int left = move->now;

		if (dup3(left, place, O_CLOEXEC) < 0)
			return err_set(err, errno, "moving descriptor %d to %d", left, place);
		close(left);
		move->now = place;
		place = left;
	}
	return 0;
}

/*
 * Out of a cycle.  Every wanted number is taken at this moment, by who wants it or by the next one
 * of a cycle, so any free number will do.
 */
static int step_aside(struct fdset_move *move, struct err *err)
{
	int aside = fcntl(move->now, F_DUPFD_CLOEXEC, 0);

	if (aside < 0)
		return err_set(err, errno, "moving descriptor %d out of the way", move->now);
	close(move->now);
	move->now = aside;
	return 0;
}

static int move_all(const struct moving *all, struct fdset_move *moves, struct err *err)
{
	int r = 0;

	/* Chains, from their free end. */
	for (size_t i = 0; i < all->nr && r == 0; i++)
		if (!fdset_has(&all->before, moves[i].wanted))
			r = fill_hole(all, moves[i].wanted, err);
	/* What has not come home by that is in a cycle. */
	for (size_t i = 0; i < all->nr && r == 0; i++) {
		int hole = moves[i].now;

		if (hole == moves[i].wanted)
			continue;
		r = step_aside(&moves[i], err);
		if (r == 0)
			r = fill_hole(all, hole, err);
	}
	/* Also those that did not move. */
	for (size_t i = 0; i < all->nr && r == 0; i++)
		if (fcntl(moves[i].now, F_SETFD, FD_CLOEXEC) < 0)
			r = err_set(err, errno, "descriptor %d", moves[i].now);
	return r;
}

int fdset_restore(struct fdset_move *moves, size_t nr, struct err *err)
{
	struct moving all = {0};
	int r;

	if (!nr)
		return 0;
	r = survey(moves, nr, &all, err);
	if (r == 0)
		r = move_all(&all, moves, err);
	free(all.by_wanted);
	fdset_release(&all.before);
	return r;
}
