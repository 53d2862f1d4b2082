/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: manual=userfaultfd does not tell of it, and no helper can know */
/* zdtm: events=FORK,FAULT */
/* zdtm: criu-helper=it fills wiped memory of a child with the old content */
/*
 * MADV_WIPEONFORK after the restore: a child sees zeros, whether the parent's pages were missing at
 * the fork or not.  Neither an event nor the images tell of it, only /proc/PID/smaps of the parent.
 */
#include "test/zdtm/zdtm.h"

#define PAGES 512

int main(int argc, char **argv)
{
	struct area a;
	pid_t pid;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	ballast(256);
	test_daemon();
	test_waitsig();

	CHECK(madvise(a.p, PAGES * PAGE, MADV_WIPEONFORK) == 0);
	area_check(&a, 0, PAGES / 4);
	pid = test_fork();
	if (!pid) {
		area_check_zero(&a, 0, PAGES);
		_exit(0);
	}
	area_check_all(&a);
	test_reap(pid, 0);
	pass();
}
