/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: modes=full,off,chain2; events=FORK,FAULT */
/*
 * fork() while pages are missing.  Parent and child both see the old content, each sees its own
 * writes only, and the child outlives pages that the parent unmapped.
 */
#include "test/zdtm/zdtm.h"

#define PAGES 4096

int main(int argc, char **argv)
{
	struct area a;
	pid_t pid;
	size_t i;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	ballast(128);
	test_daemon();
	test_waitsig();

	area_check(&a, 0, PAGES / 8);
	pid = test_fork();
	if (!pid) {
		for (i = PAGES; i-- > 0;) {
			check_page(area_page(&a, i), 1, i);
			if (i % 3 == 0)
				fill_page(area_page(&a, i), 3, i);
		}
		for (i = 0; i < PAGES; i++)
			check_page(area_page(&a, i), i % 3 ? 1 : 3, i);
		_exit(0);
	}
	for (i = 0; i < PAGES / 2; i++) {
		check_page(area_page(&a, i), 1, i);
		fill_page(area_page(&a, i), 2, i);
	}
	CHECK(munmap(area_page(&a, PAGES / 2), PAGES / 4 * PAGE) == 0);
	for (i = 0; i < PAGES / 2; i++)
		check_page(area_page(&a, i), 2, i);
	area_check(&a, PAGES / 4 * 3, PAGES / 4);
	test_reap(pid, 0);
	pass();
}
