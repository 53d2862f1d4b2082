/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fdset.h - which descriptors are open, closing all others, and putting some back at the numbers
 * they had.
 *
 * For a process that takes over a table of descriptors (family.h) or is started with one
 * (notify.h):
 *
 *	cleanup_fdset struct fdset keep = {0};
 *
 *	fdset_add(&keep, ...);
 *	r = fdset_close_others(&keep, err);
 *
 * All of it looks at one moment: nobody else may open or close in the same table meanwhile.
 */
#ifndef CRIU_LAZY_OS_FDSET_H
#define CRIU_LAZY_OS_FDSET_H

#include <stdbool.h>
#include <stddef.h>

struct err;

/* Zero-initialise; fdset_release() leaves an empty set.  Does not own the descriptors. */
struct fdset {
	int *fds; /* ascending, no number twice */
	size_t nr;
	size_t room; /* allocated */
};

void fdset_release(struct fdset *set);

#define cleanup_fdset __attribute__((cleanup(fdset_release)))

/* Adding what is in it already does nothing.  0, -ENOMEM, or -EBADF for a negative number.  Cheap
 * in ascending order, else O(nr). */
int fdset_add(struct fdset *set, int fd);

/* O(log nr) */
bool fdset_has(const struct fdset *set, int fd);

/*
 * The descriptors that are open now, without the one used to find out.  *ret is written on success
 * only, and what it held is not released.  Needs /proc and one free descriptor.
 */
int fdset_open(struct fdset *ret, struct err *err);

/*
 * Close every descriptor that is not in keep; what keep has and is not open does not matter.  By
 * close_range(2) (5.9), or where that is not to be had (ENOSYS; EPERM: a seccomp filter that does
 * not know it) one by one, which needs /proc.  An error of a single close(2) is ignored: the
 * descriptor is gone all the same.  0, 1 and 2 are descriptors like any other.
 */
int fdset_close_others(const struct fdset *keep, struct err *err);

struct fdset_move {
	int now; /* always true, also after a failure: rewritten with each step */
	int wanted;
};

/*
 * Move descriptors so that each ends at its wanted number, with O_CLOEXEC set; it may be there
 * already, and the wanted place of one may be the present place of another, in whatever
 * permutation.  Each number may occur once as now and once as wanted.
 *
 * Everything that can be is judged first, and then nothing has been changed: -EINVAL (a number
 * twice), -EBADF (negative, now not open), -EBUSY (wanted is open and is none of these),
 * -EMFILE (wanted is beyond RLIMIT_NOFILE), -ENOMEM.  A cycle takes one free descriptor for a
 * moment: -EMFILE with some moved and others not.
 *
 * fcntl(2) locks on what is moved are lost (close(2) does that); flock(2) is not.
 */
int fdset_restore(struct fdset_move *moves, size_t nr, struct err *err);

#endif
