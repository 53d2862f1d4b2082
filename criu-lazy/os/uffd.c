/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/os/uffd.h"

#include "criu-lazy/base/page.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

const char *uffd_outcome_name(enum uffd_outcome outcome)
{
	static const char *const names[] = {
		[UFFD_DONE] = "done",
		[UFFD_CHANGING] = "address space changing",
		[UFFD_EXISTS] = "page exists",
		[UFFD_NOWHERE] = "not registered",
		[UFFD_EXITED] = "process gone",
		[UFFD_NO_SOURCE] = "source unreadable",
		[UFFD_NO_MEMORY] = "out of memory",
		[UFFD_REFUSED] = "refused",
	};

	return names[outcome];
}

static enum uffd_outcome judge(int error)
{
	switch (error) {
	case 0:
		return UFFD_DONE;
	case EAGAIN:
		return UFFD_CHANGING;
	case EEXIST:
		return UFFD_EXISTS;
	case ENOENT:
		return UFFD_NOWHERE;
	case ESRCH:
	case ENOSPC:
		return UFFD_EXITED;
	case EFAULT:
		return UFFD_NO_SOURCE;
	case ENOMEM:
		return UFFD_NO_MEMORY;
	default:
		return UFFD_REFUSED;
	}
}

enum uffd_outcome uffd_copy(int fd, uint64_t dst, const void *src, uint64_t len, uint64_t *ret_done)
{
	uint64_t done = 0;

	for (;;) {
		struct uffdio_copy copy = {
			.dst = dst + done,
			.src = (uint64_t)(uintptr_t)src + done,
			.len = len - done,
		};
		int error = ioctl(fd, UFFDIO_COPY, &copy) < 0 ? errno : 0;

		/*
		 * A short copy says EAGAIN and how far it came; what stopped it is told when
		 * the rest is tried.
		 */
		if (!error || (error == EAGAIN && copy.copy > 0))
			done += (uint64_t)copy.copy;
		*ret_done = done;
		if (done == len)
			return UFFD_DONE;
		if (error == EAGAIN && copy.copy > 0)
			continue;
		return error ? judge(error) : UFFD_REFUSED;
	}
}

enum uffd_outcome uffd_zero(int fd, uint64_t addr)
{
	struct uffdio_zeropage zero = {.range = {page_down(addr), PAGE_SIZE}};

	return judge(ioctl(fd, UFFDIO_ZEROPAGE, &zero) < 0 ? errno : 0);
}

enum uffd_outcome uffd_poison(int fd, uint64_t addr)
{
	struct uffdio_poison poison = {.range = {page_down(addr), PAGE_SIZE}};

	return judge(ioctl(fd, UFFDIO_POISON, &poison) < 0 ? errno : 0);
}

void uffd_wake(int fd, uint64_t addr, uint64_t len)
{
	struct uffdio_range range = {.start = page_down(addr), .len = len};

	/* Fails only for ranges that are none; the caller's come from the kernel. */
	ioctl(fd, UFFDIO_WAKE, &range);
}

void uffd_wake_all(int fd)
{
	/* The end of user memory is one of two (with and without 5-level tables); beyond: EINVAL.
	 */
	static const uint64_t low = UINT64_C(1) << 16, ends[] = {56, 47};
	size_t i;

	for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		struct uffdio_range range = {.start = low,
		                             .len = (UINT64_C(1) << ends[i]) - PAGE_SIZE - low};

		if (ioctl(fd, UFFDIO_WAKE, &range) == 0)
			return;
	}
}

enum uffd_outcome uffd_registered(int fd, uint64_t addr, uint64_t len)
{
	struct uffdio_continue cont = {.range = {page_down(addr), len}};
	int error = ioctl(fd, UFFDIO_CONTINUE, &cont) < 0 ? errno : 0;

	/* EINVAL: found it, and it is no shared memory.  EEXIST would mean the same. */
	if (error == EINVAL || error == EEXIST)
		return UFFD_DONE;
	/* The range is looked up before the kernel looks for unfinished changes: ask again. */
	if (error == ENOENT && uffd_quiet(fd) == UFFD_CHANGING)
		return UFFD_CHANGING;
	return judge(error);
}

enum uffd_outcome uffd_quiet(int fd)
{
	/* Lifting write protection where there is none: checked for changes and for life first. */
	struct uffdio_writeprotect wp = {.range = {UINT64_C(1) << 24, PAGE_SIZE}};
	int error = ioctl(fd, UFFDIO_WRITEPROTECT, &wp) < 0 ? errno : 0;

	/* ENOENT: nothing is registered there, as was to be expected. */
	return error == ENOENT ? UFFD_DONE : judge(error);
}

void uffd_no_wait(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags >= 0 && !(flags & O_NONBLOCK))
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

int uffd_read(int fd, struct uffd_msg *msgs, size_t max)
{
	ssize_t got;

	do {
		got = read(fd, msgs, max * sizeof(*msgs));
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? 0 : -errno;
	return (int)((size_t)got / sizeof(*msgs));
}

bool uffd_is_one(int fd, bool *ret_fixed)
{
	struct uffdio_range nobody = {.start = UINT64_C(1) << 16, .len = PAGE_SIZE};
	char path[64], name[64] = "";
	int flags = fcntl(fd, F_GETFL);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (flags < 0 || readlink(path, name, sizeof(name) - 1) < 0 ||
	    strcmp(name, "anon_inode:[userfaultfd]"))
		return false;
	/* One without UFFDIO_API refuses every call: not even its end could be told. */
	if (ioctl(fd, UFFDIO_WAKE, &nobody) < 0)
		return false;
	*ret_fixed = !(flags & O_NONBLOCK);
	if (*ret_fixed && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return false;
	return true;
}
