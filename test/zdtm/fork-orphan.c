/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: modes=soon,off; events=FORK,FAULT */
/* Children that are forked while pages are missing outlive the process that was restored. */
#include "test/zdtm/zdtm.h"

#include <sys/prctl.h>

#define PAGES    2048
#define CHILDREN 3

static void orphan(const struct area *a, uint64_t k, pid_t parent)
{
	size_t i;

	area_check(a, 0, 8);
	while (getppid() == parent)
		usleep(1000);
	for (i = PAGES; i-- > 0;) {
		check_page(area_page(a, i), 1, i);
		if (i % 2)
			fill_page(area_page(a, i), 10 + k, i);
	}
	for (i = 0; i < PAGES; i++)
		check_page(area_page(a, i), i % 2 ? 10 + k : 1, i);
}

int main(int argc, char **argv)
{
	struct area a;
	pid_t middle, parent;
	size_t k;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
	middle = test_fork();
	if (!middle) {
		parent = getpid();
		test_waitsig();
		for (k = 0; k < CHILDREN; k++)
			if (!test_fork()) {
				orphan(&a, k, parent);
				_exit(0);
			}
		_exit(0);
	}
	ballast(128);
	test_daemon();
	test_waitsig();

	for (k = 0; k < CHILDREN + 1; k++)
		test_reap(-1, 0);
	pass();
}
