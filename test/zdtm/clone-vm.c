/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FAULT */
/* A process that shares the address space without being a thread (clone with CLONE_VM only). */
#include "test/zdtm/zdtm.h"

#include <sched.h>
#include <signal.h>

#define PAGES 4096

static struct area area;

static int other(void *arg)
{
	size_t i;

	(void)arg;
	for (i = PAGES; i-- > PAGES / 4;)
		if (!page_holds(area_page(&area, i), 1, i))
			return 1;
	for (i = 0; i < PAGES; i += 2)
		fill_page(area_page(&area, i), 2, i);
	return 0;
}

int main(int argc, char **argv)
{
	struct area stack;
	size_t i;
	pid_t pid;

	test_init(argc, argv);
	area = area_new(PAGES, 1);
	stack = area_new(16, 3);
	ballast(128);
	test_daemon();
	test_waitsig();

	pid = clone(other, area_page(&stack, 16), CLONE_VM | SIGCHLD, NULL);
	CHECK(pid > 0);
	/* Odd pages: the other one does not change them. */
	for (i = 1; i < PAGES; i += 2)
		check_page(area_page(&area, i), 1, i);
	test_reap(pid, 0);
	for (i = 0; i < PAGES; i++)
		check_page(area_page(&area, i), i % 2 ? 1 : 2, i);
	pass();
}
