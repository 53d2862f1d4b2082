/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * probe-uffd.c - what the kernel offers of userfaultfd.
 *
 * A userfaultfd comes from the system call or, since 6.1, from /dev/userfaultfd.  The system call
 * gives one that catches faults in kernel mode too (a read(2) into missing memory) only to
 * CAP_SYS_PTRACE or with vm.unprivileged_userfaultfd=1; without these it gives one for user-mode
 * faults alone, which is not enough here: a restored program may pass a missing page to any call.
 *
 * UFFDIO_API works once for each descriptor, so each probe opens its own.
 */
#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/os/caps.h"
#include "criu-lazy/os/probe-parts.h"
#include "criu-lazy/os/uffd-abi.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define EVENT_FEATURES                                                   \
	((uint64_t)(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | \
	            UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP))

static int open_uffd(int flags)
{
	return (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);
}

/* A descriptor good enough to ask what the kernel knows: a user-mode one will do. */
static int open_any_uffd(void)
{
	int fd = open_uffd(0);

	return fd >= 0 ? fd : open_uffd(UFFD_USER_MODE_ONLY);
}

/* All features that the kernel offers; 0 or -errno. */
static int kernel_features(uint64_t *ret_features)
{
	cleanup_close int fd = open_any_uffd();
	struct uffdio_api api = {.api = UFFD_API};

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0)
		return -errno;
	*ret_features = api.features;
	return 0;
}

void probe_uffd(struct probe_result *result)
{
	cleanup_close int fd = open_uffd(0);
	int e = errno;

	if (fd >= 0) {
		probe_ok(result, "userfaultfd() works, for faults in the kernel too");
	} else if (e == ENOSYS) {
		probe_missing(result, "userfaultfd(): %s\n%s", strerror(e),
		              probe_under_seccomp()
		                      ? "Allow userfaultfd in the seccomp profile."
		                      : "Use a kernel built with CONFIG_USERFAULTFD=y.");
	} else if (e == EPERM) {
		cleanup_close int user_only = open_uffd(UFFD_USER_MODE_ONLY);

		probe_missing(result, "userfaultfd(): %s%s\n%s", strerror(e),
		              user_only >= 0 ? ": only faults in user mode may be caught" : "",
		              user_only < 0 && probe_under_seccomp()
		                      ? "Allow userfaultfd in the seccomp profile."
		                      : "Run with CAP_SYS_PTRACE (root), or set "
		                        "vm.unprivileged_userfaultfd=1.");
	} else {
		probe_missing(result, "userfaultfd(): %s\nFree some of it and try again.",
		              strerror(e));
	}
}

void probe_uffd_noncoop(struct probe_result *result)
{
	cleanup_close int fd = open_any_uffd();
	struct uffdio_api api = {.api = UFFD_API, .features = EVENT_FEATURES};
	uint64_t offered;
	int r = kernel_features(&offered);

	if (r < 0) {
		probe_missing(result,
		              "fork, remap, remove, unmap events: no userfaultfd: %s\n"
		              "See uffd.",
		              strerror(-r));
	} else if (EVENT_FEATURES & ~offered) {
		probe_missing(
			result,
			"fork, remap, remove, unmap events: this kernel lacks 0x%llx of them\n"
			"Use Linux 4.14 or newer.",
			(unsigned long long)(EVENT_FEATURES & ~offered));
	} else if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0) {
		probe_missing(result, "fork, remap, remove, unmap events: %s\n%s", strerror(errno),
		              caps_have(CAP_SYS_PTRACE) ? "Try again; this is not expected."
		                                        : "Run with CAP_SYS_PTRACE (root).");
	} else {
		probe_ok(result, "fork, remap, remove, unmap events; features 0x%llx",
		         (unsigned long long)offered);
	}
}

/* --- a registered range ----------------------------------------------------------------------- */

/* Three missing pages of our own, registered with a descriptor of our own. */
struct range {
	int fd;
	char *start;
	uint64_t ioctls; /* bit _UFFDIO_...: may be used on it */
};

enum { RANGE_PAGES = 3 };

static void range_close(struct range *range)
{
	int fd = range->fd;

	cleanup_close_fd(&fd);
	if (range->start != MAP_FAILED)
		munmap(range->start, RANGE_PAGES * PAGE_SIZE);
}

#define cleanup_range __attribute__((cleanup(range_close)))

static int range_open(struct range *range)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};

	range->fd = open_any_uffd();
	if (range->fd < 0 || ioctl(range->fd, UFFDIO_API, &api) < 0)
		return -errno;
	range->start = mmap(NULL, RANGE_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
	                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (range->start == MAP_FAILED)
		return -errno;
	reg.range.start = (uintptr_t)range->start;
	reg.range.len = RANGE_PAGES * PAGE_SIZE;
	if (ioctl(range->fd, UFFDIO_REGISTER, &reg) < 0)
		return -errno;
	range->ioctls = reg.ioctls;
	return 0;
}

/* Bring the first page with COPY and the second with ZEROPAGE, then look at them. */
static int range_fill(struct range *range)
{
	char page[PAGE_SIZE];
	struct uffdio_copy copy = {
		.dst = (uintptr_t)range->start,
		.src = (uintptr_t)page,
		.len = PAGE_SIZE,
	};
	struct uffdio_zeropage zero = {
		.range = {.start = (uintptr_t)range->start + PAGE_SIZE, .len = PAGE_SIZE},
	};

	memset(page, 0x5a, sizeof(page));
	if (ioctl(range->fd, UFFDIO_COPY, &copy) < 0 ||
	    ioctl(range->fd, UFFDIO_ZEROPAGE, &zero) < 0)
		return -errno;
	if (memcmp(range->start, page, PAGE_SIZE) != 0)
		return -EIO;
	memset(page, 0, sizeof(page));
	return memcmp(range->start + PAGE_SIZE, page, PAGE_SIZE) == 0 ? 0 : -EIO;
}

void probe_uffd_range(struct probe_result *result)
{
	const uint64_t needed = 1u << _UFFDIO_WAKE | 1u << _UFFDIO_COPY | 1u << _UFFDIO_ZEROPAGE;
	cleanup_range struct range range = {.fd = -1, .start = MAP_FAILED};
	int r = range_open(&range);

	if (r == 0 && (range.ioctls & needed) != needed) {
		probe_missing(result,
		              "WAKE, COPY, ZEROPAGE on private memory: this kernel offers 0x%llx\n"
		              "Use Linux 4.14 or newer.",
		              (unsigned long long)range.ioctls);
		return;
	}
	if (r == 0)
		r = range_fill(&range);
	if (r < 0)
		probe_missing(result, "fill a page of private memory: %s\nSee uffd.", strerror(-r));
	else
		probe_ok(result, "WAKE, COPY, ZEROPAGE fill private memory; ioctls 0x%llx",
		         (unsigned long long)range.ioctls);
}

/* The page is poisoned, but not touched: that would be our own SIGBUS. */
void probe_uffd_poison(struct probe_result *result)
{
	cleanup_range struct range range = {.fd = -1, .start = MAP_FAILED};
	int r = range_open(&range);
	struct uffdio_poison poison = {
		.range = {.start = (uintptr_t)range.start + 2 * PAGE_SIZE, .len = PAGE_SIZE},
	};

	if (r == 0 && !(range.ioctls & 1u << _UFFDIO_POISON))
		r = -EOPNOTSUPP;
	if (r == 0 && ioctl(range.fd, UFFDIO_POISON, &poison) < 0)
		r = -errno;
	if (r == 0)
		probe_ok(result, "POISON: a lost page can become SIGBUS where it is touched");
	else
		probe_limited(
			result, "POISON: %s: a process whose page is lost can only be killed\n%s",
			strerror(-r), r == -EOPNOTSUPP ? "Use Linux 6.6 or newer." : "See uffd.");
}

/* --- what nothing here uses yet --------------------------------------------------------------- */

static void optional_feature(struct probe_result *result, const char *name, uint64_t feature,
                             const char *since)
{
	uint64_t offered;
	int r = kernel_features(&offered);

	if (r < 0)
		probe_limited(result, "%s: no userfaultfd: %s\nSee uffd.", name, strerror(-r));
	else if (offered & feature)
		probe_ok(result, "%s is offered (nothing needs it yet)", name);
	else
		probe_limited(result, "%s is not offered (nothing needs it yet)\nUse Linux %s.",
		              name, since);
}

void probe_uffd_move(struct probe_result *result)
{
	optional_feature(result, "MOVE", UFFD_FEATURE_MOVE, "6.8 or newer");
}

void probe_uffd_wp_async(struct probe_result *result)
{
	optional_feature(result, "WP_ASYNC", UFFD_FEATURE_WP_ASYNC, "6.7 or newer");
}

/* --- who may have one ------------------------------------------------------------------------- */

void probe_uffd_device(struct probe_result *result)
{
	cleanup_close int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	cleanup_close int fd = -1;

	if (device >= 0)
		fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0)
		probe_ok(result, "/dev/userfaultfd gives userfaultfds");
	else
		probe_limited(result, "/dev/userfaultfd: %s (the system call is enough)\n%s",
		              strerror(errno),
		              errno == ENOENT ? "Use Linux 6.1 or newer, with the device in /dev."
		                              : "Make the device accessible for this user.");
}

void probe_uffd_unprivileged(struct probe_result *result)
{
	long value = probe_read_number("/proc/sys/vm/unprivileged_userfaultfd");

	if (value < 0)
		probe_ok(result, "vm.unprivileged_userfaultfd does not exist on this kernel");
	else if (value > 0)
		probe_ok(result, "vm.unprivileged_userfaultfd=%ld: open to every user", value);
	else if (caps_have(CAP_SYS_PTRACE))
		probe_ok(result,
		         "vm.unprivileged_userfaultfd=0: CAP_SYS_PTRACE is needed, and here");
	else
		probe_limited(result, "vm.unprivileged_userfaultfd=0 and no CAP_SYS_PTRACE\n"
		                      "Run as root, or sysctl vm.unprivileged_userfaultfd=1.");
}
