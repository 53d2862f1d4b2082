/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * probe-uring.c - whether io_uring is here, with the operations that os/ring uses.
 *
 * Three things switch it off: a kernel without it, kernel.io_uring_disabled (6.6), and a seccomp
 * filter, as container engines install by default.  The remedy differs, so they are told apart.
 *
 * Multishot poll (5.13) is a flag of an old operation and shows in no list of operations: it is
 * tried, on an eventfd.
 */
#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/os/probe-parts.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>

enum { RING_ENTRIES = 4 };

/* liburing of Debian 12 knows no name for this errno's reason: say what can be done. */
static const char *remedy(int e)
{
	long disabled = probe_read_number("/proc/sys/kernel/io_uring_disabled");

	if (disabled == 2)
		return "sysctl kernel.io_uring_disabled=0 (it is 2: off for everyone).";
	if (disabled == 1 && e == EPERM)
		return "Run as root, or sysctl kernel.io_uring_disabled=0 (it is 1).";
	if ((e == EPERM || e == ENOSYS || e == EACCES) && probe_under_seccomp())
		return "Allow io_uring_setup, io_uring_enter, io_uring_register in the seccomp "
		       "profile.";
	if (e == ENOSYS)
		return "Use Linux 5.13 or newer, built with CONFIG_IO_URING=y.";
	if (e == ENOMEM)
		return "Raise the limit on locked memory (ulimit -l).";
	return "See io_uring_setup(2) for this error.";
}

void probe_uring(struct probe_result *result)
{
	struct io_uring ring;
	int r = io_uring_queue_init(RING_ENTRIES, &ring, 0);

	if (r < 0) {
		probe_missing(result, "io_uring_setup(): %s\n%s", strerror(-r), remedy(-r));
		return;
	}
	probe_ok(result, "a ring can be set up; features 0x%x", ring.features);
	io_uring_queue_exit(&ring);
}

void probe_uring_ops(struct probe_result *result)
{
	static const struct {
		int op;
		const char *name;
	} needed[] = {
		{IORING_OP_POLL_ADD, "POLL_ADD"},
		{IORING_OP_POLL_REMOVE, "POLL_REMOVE"},
		{IORING_OP_READ, "READ"},
		{IORING_OP_TIMEOUT, "TIMEOUT"},
		{IORING_OP_ASYNC_CANCEL, "ASYNC_CANCEL"},
	};
	struct io_uring_probe *probe = io_uring_get_probe();

	if (!probe) {
		probe_missing(result, "the operations of io_uring cannot be listed\nSee io-uring.");
		return;
	}
	probe_ok(result, "POLL_ADD, POLL_REMOVE, READ, TIMEOUT, ASYNC_CANCEL");
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (io_uring_opcode_supported(probe, needed[i].op))
			continue;
		probe_missing(result, "io_uring lacks the operation %s\nUse Linux 5.13 or newer.",
		              needed[i].name);
		break;
	}
	io_uring_free_probe(probe);
}

/* One completion within 0.2 s; its result or a negative errno, and whether more will follow. */
static int next_completion(struct io_uring *ring, bool *ret_more)
{
	struct __kernel_timespec limit = {.tv_nsec = 200000000};
	struct io_uring_cqe *cqe;
	int r = io_uring_wait_cqe_timeout(ring, &cqe, &limit);

	if (r < 0)
		return r;
	r = cqe->res;
	*ret_more = cqe->flags & IORING_CQE_F_MORE;
	io_uring_cqe_seen(ring, cqe);
	return r;
}

/* Make the eventfd readable twice: one request must tell twice and stay armed. */
static int try_multishot(struct io_uring *ring, int fd)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	int r;

	if (!sqe)
		return -EBUSY;
	io_uring_prep_poll_multishot(sqe, fd, POLLIN);
	r = io_uring_submit(ring);
	if (r < 0)
		return r;
	for (int round = 0; round < 2; round++) {
		bool more = false;
		uint64_t count = 1;

		if (write(fd, &count, sizeof(count)) < 0)
			return -errno;
		r = next_completion(ring, &more);
		if (r < 0)
			return r;
		if (!(r & POLLIN) || !more)
			return -EOPNOTSUPP;
		if (read(fd, &count, sizeof(count)) < 0)
			return -errno;
	}
	return 0;
}

void probe_uring_multishot(struct probe_result *result)
{
	cleanup_close int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct io_uring ring;
	int r = fd < 0 ? -errno : io_uring_queue_init(RING_ENTRIES, &ring, 0);

	if (r < 0) {
		probe_missing(result, "poll that stays armed: no ring: %s\nSee io-uring.",
		              strerror(-r));
		return;
	}
	r = try_multishot(&ring, fd);
	io_uring_queue_exit(&ring);
	if (r < 0)
		probe_missing(result, "poll that stays armed: %s\nUse Linux 5.13 or newer.",
		              strerror(-r));
	else
		probe_ok(result, "a poll stays armed (multishot)");
}
