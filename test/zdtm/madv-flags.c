/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FORK,FAULT; criu-helper=P-2 */
/*
 * Advice that splits a lazy area without an event: NOHUGEPAGE, RANDOM, DONTDUMP and
 * DONTFORK; and what a child then sees.
 */
#include "test/zdtm/zdtm.h"

#include <errno.h>

#define PAGES 16384
#define PART  (PAGES / 16)

int main(int argc, char **argv)
{
	unsigned char vec;
	struct area a;
	size_t i;
	pid_t pid;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	ballast(256);
	test_daemon();
	test_waitsig();

	CHECK(madvise(area_page(&a, 15 * PART), PAGE, MADV_NOHUGEPAGE) == 0);
	CHECK(madvise(area_page(&a, 13 * PART + 3), 2 * PAGE, MADV_RANDOM) == 0);
	CHECK(madvise(area_page(&a, 11 * PART), PART * PAGE, MADV_DONTDUMP) == 0);
	CHECK(madvise(area_page(&a, 9 * PART), PART * PAGE, MADV_DONTFORK) == 0);
	CHECK(madvise(area_page(&a, 5 * PART), PART * PAGE, MADV_MERGEABLE) == 0 ||
	      errno == EINVAL);
	area_check(&a, 9 * PART + 1, 1);
	pid = test_fork();
	if (!pid) {
		CHECK(mincore(area_page(&a, 9 * PART), PAGE, &vec) == -1 && errno == ENOMEM);
		area_check(&a, 10 * PART, 6 * PART);
		area_check(&a, 0, 9 * PART);
		_exit(0);
	}
	area_wait(&a, 0, PAGES);
	for (i = PAGES; i-- > 0;)
		check_page(area_page(&a, i), 1, i);
	test_reap(pid, 0);
	pass();
}
