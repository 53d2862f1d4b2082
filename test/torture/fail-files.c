/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fail.so: memory, files, and what ioctl() and fcntl() do with them. */
#include "test/torture/fail.h"

#include "criu-lazy/os/uffd-abi.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- memory ---------------------------------------------------------------------------------- */

WRAP(void *, malloc, NULL, (size_t size), (size))
WRAP(void *, calloc, NULL, (size_t nr, size_t size), (nr, size))
WRAP(void *, realloc, NULL, (void *p, size_t size), (p, size))
WRAP(void *, reallocarray, NULL, (void *p, size_t nr, size_t size), (p, nr, size))
WRAP(int, posix_memalign, errno, (void **p, size_t align, size_t size), (p, align, size))
WRAP(char *, strdup, NULL, (const char *s), (s))
WRAP(char *, strndup, NULL, (const char *s, size_t n), (s, n))
WRAP(void *, mmap, MAP_FAILED, (void *at, size_t len, int prot, int flags, int fd, off_t offset),
     (at, len, prot, flags, fd, offset))
WRAP(int, munmap, -1, (void *at, size_t len), (at, len))
WRAP(int, madvise, -1, (void *at, size_t len, int advice), (at, len, advice))

int asprintf(char **ret, const char *fmt, ...)
{
	va_list ap;
	int r;

	if (fails(FN_asprintf))
		return -1;
	va_start(ap, fmt);
	r = vasprintf(ret, fmt, ap);
	va_end(ap);
	return r;
}

/* --- files ----------------------------------------------------------------------------------- */

#define MODE(last)                           \
	({                                   \
		va_list ap_;                 \
		mode_t mode_;                \
		va_start(ap_, last);         \
		mode_ = va_arg(ap_, mode_t); \
		va_end(ap_);                 \
		mode_;                       \
	})

int open(const char *path, int flags, ...)
{
	return fails(FN_open) ? -1 : REAL(open)(path, flags, MODE(flags));
}

int openat(int dir, const char *path, int flags, ...)
{
	return fails(FN_openat) ? -1 : REAL(openat)(dir, path, flags, MODE(flags));
}

WRAP(FILE *, fopen, NULL, (const char *path, const char *mode), (path, mode))
WRAP(FILE *, fdopen, NULL, (int fd, const char *mode), (fd, mode))
WRAP(DIR *, fdopendir, NULL, (int fd), (fd))
WRAP(DIR *, opendir, NULL, (const char *path), (path))
WRAP(struct dirent *, readdir, NULL, (DIR * dir), (dir))
WRAP(ssize_t, readlink, -1, (const char *path, char *buf, size_t size), (path, buf, size))
WRAP(ssize_t, readlinkat, -1, (int dir, const char *path, char *buf, size_t size),
     (dir, path, buf, size))
WRAP(int, stat, -1, (const char *path, struct stat *st), (path, st))
WRAP(int, fstat, -1, (int fd, struct stat *st), (fd, st))
WRAP(int, lstat, -1, (const char *path, struct stat *st), (path, st))
WRAP(int, fstatat, -1, (int dir, const char *path, struct stat *st, int flags),
     (dir, path, st, flags))
WRAP(int, faccessat, -1, (int dir, const char *path, int mode, int flags), (dir, path, mode, flags))
WRAP_SHORT(pread, (int fd, void *buf, size_t len, off_t at), (fd, buf, len, at),
           (fd, buf, len / 2, at))
WRAP(int, flock, -1, (int fd, int what), (fd, what))
WRAP(int, ftruncate, -1, (int fd, off_t len), (fd, len))
WRAP(int, fallocate, -1, (int fd, int mode, off_t at, off_t len), (fd, mode, at, len))
WRAP(int, unlink, -1, (const char *path), (path))
WRAP(int, fchdir, -1, (int fd), (fd))
WRAP(int, chdir, -1, (const char *path), (path))
WRAP(int, dup2, -1, (int from, int to), (from, to))
WRAP(int, dup3, -1, (int from, int to, int flags), (from, to, flags))
WRAP(int, access, -1, (const char *path, int mode), (path, mode))
WRAP(char *, fgets, NULL, (char *text, int size, FILE *file), (text, size, file))
WRAP(int, pipe2, -1, (int fds[2], int flags), (fds, flags))

/* The descriptor is gone in any case. */
int close(int fd)
{
	bool fail = fails(FN_close);
	int r = REAL(close)(fd);

	if (!fail)
		return r;
	errno = torture->error;
	return -1;
}

static bool is_anonymous(int fd, const char *what)
{
	char path[40], name[40] = "";
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	len = REAL(readlink)(path, name, sizeof(name) - 1);
	return len > 0 && !strcmp(name, what);
}

/* An eventfd takes each 1 that our threads write: it has room for 2^64 of them. */
ssize_t write(int fd, const void *buf, size_t len)
{
	if (!torture || busy || is_anonymous(fd, "anon_inode:[eventfd]") || !fails(FN_write))
		return REAL(write)(fd, buf, len);
	return torture->error == SHORT ? REAL(write)(fd, buf, len / 2) : -1;
}

/*
 * Of a userfaultfd too little room makes EINVAL: there a short read is one message.  A socket that
 * gives less than it was asked for has no more, so there is no short read of what it has.
 */
ssize_t read(int fd, void *buf, size_t len)
{
	bool uffd;
	struct stat st;

	if (!torture || busy)
		return REAL(read)(fd, buf, len);
	uffd = is_anonymous(fd, "anon_inode:[userfaultfd]");
	if (!fails(uffd ? FN_uffd_read : FN_read))
		return REAL(read)(fd, buf, len);
	if (torture->error != SHORT)
		return -1;
	if (uffd)
		return REAL(read)(fd, buf, sizeof(struct uffd_msg));
	if (REAL(fstat)(fd, &st) == 0 && S_ISSOCK(st.st_mode))
		return REAL(read)(fd, buf, len);
	return REAL(read)(fd, buf, len / 2);
}

/* --- control --------------------------------------------------------------------------------- */

/* As the kernel: the first page is copied, then something comes in between. */
static int copy_short(int fd, unsigned long request, struct uffdio_copy *copy)
{
	struct uffdio_copy first = *copy;

	first.len = 4096;
	if (copy->len == first.len || REAL(ioctl)(fd, request, &first) < 0) {
		copy->copy = -EAGAIN;
	} else {
		copy->copy = first.copy;
	}
	errno = EAGAIN;
	return -1;
}

int ioctl(int fd, unsigned long request, ...)
{
	enum function function = FN_ioctl;
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	switch (request) {
	case UFFDIO_WAKE:
		return REAL(ioctl)(fd, request, arg);
	case UFFDIO_COPY:
		function = FN_uffd_copy;
		break;
	case UFFDIO_ZEROPAGE:
		function = FN_uffd_zeropage;
		break;
	case UFFDIO_CONTINUE:
		function = FN_uffd_continue;
		break;
	case UFFDIO_WRITEPROTECT:
		function = FN_uffd_writeprotect;
		break;
	case UFFDIO_POISON:
		function = FN_uffd_poison;
		break;
	}
	if (!fails(function))
		return REAL(ioctl)(fd, request, arg);
	if (function == FN_uffd_copy) {
		if (torture->error == SHORT)
			return copy_short(fd, request, arg);
		((struct uffdio_copy *)arg)->copy = -torture->error;
	}
	return -1;
}

int fcntl(int fd, int what, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, what);
	arg = va_arg(ap, void *);
	va_end(ap);
	return fails(FN_fcntl) ? -1 : REAL(fcntl)(fd, what, arg);
}
