/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: modes=soon,off; events=FAULT */
/*
 * Others look into missing pages: process_vm_readv(2)/process_vm_writev(2) and /proc/PID/mem, from
 * a child that is in the tree since before the dump into its parent, and from the parent into it.
 */
#include "test/zdtm/zdtm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#define PAGES 1024

static struct area area, buf;

/*
 * The kernel does not wait for a userfaultfd on behalf of /proc/PID/mem (nor of PTRACE_PEEKDATA):
 * it says EIO for a missing page.  It must not say anything else, nor give zeros.
 */
static void bring(pid_t pid, size_t i)
{
	struct iovec local = {buf.p, 1}, remote = {area_page(&area, i), 1};

	CHECK(errno == EIO);
	CHECK(process_vm_readv(pid, &local, 1, &remote, 1, 0) == 1);
}

static void look_into(pid_t pid, uint64_t seed)
{
	struct iovec local = {buf.p, 16 * PAGE}, remote = {NULL, 16 * PAGE};
	char path[64];
	size_t i, k;
	int fd;

	for (i = 0; i < PAGES / 2; i += 16) {
		remote.iov_base = area_page(&area, i);
		CHECK(process_vm_readv(pid, &local, 1, &remote, 1, 0) == 16 * (ssize_t)PAGE);
		for (k = 0; k < 16; k++)
			check_page(area_page(&buf, k), seed, i + k);
	}
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDWR);
	CHECK(fd >= 0);
	for (i = PAGES / 2; i < PAGES - 32; i++) {
		if (pread(fd, buf.p, PAGE, (off_t)(uintptr_t)area_page(&area, i)) < 0) {
			bring(pid, i);
			CHECK(pread(fd, buf.p, PAGE, (off_t)(uintptr_t)area_page(&area, i)) ==
			      (ssize_t)PAGE);
		}
		check_page(buf.p, seed, i);
	}
	/* And writes: the rest of the page stays. */
	for (; i < PAGES; i++) {
		uint64_t v = i;
		struct iovec mine = {&v, 8}, theirs = {area_page(&area, i) + 8, 8};

		CHECK(process_vm_writev(pid, &mine, 1, &theirs, 1, 0) == 8);
	}
	close(fd);
}

static void check_written(uint64_t seed)
{
	size_t i;

	for (i = PAGES - 32; i < PAGES; i++) {
		uint64_t *w = (uint64_t *)area_page(&area, i);

		CHECK(w[1] == i);
		fill_page(buf.p, seed, i);
		w[1] = ((uint64_t *)buf.p)[1];
	}
	area_check_all(&area);
}

int main(int argc, char **argv)
{
	int a[2], b[2];
	pid_t child;
	char c;

	test_init(argc, argv);
	area = area_new(PAGES, 1);
	buf = area_map(16);
	CHECK(pipe(a) == 0 && pipe(b) == 0);
	child = test_fork();
	if (!child) {
		area.seed = 2;
		area_fill(&area, 0, PAGES);
		CHECK(write(a[1], "r", 1) == 1);
		test_waitsig();
		look_into(getppid(), 1);
		CHECK(write(a[1], "d", 1) == 1 && read(b[0], &c, 1) == 1);
		check_written(2);
		_exit(0);
	}
	CHECK(read(a[0], &c, 1) == 1);
	test_daemon();
	test_waitsig();

	look_into(child, 2);
	CHECK(read(a[0], &c, 1) == 1 && write(b[1], "d", 1) == 1);
	check_written(1);
	test_reap(child, 0);
	pass();
}
