/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FAULT */
/* vfork(2) (the child runs in its parent's memory), then exec; posix_spawn does the same. */
#include "test/zdtm/zdtm.h"

#include <spawn.h>
#include <sys/wait.h>

#define PAGES 2048

extern char **environ;

int main(int argc, char **argv)
{
	static char *const args[] = {"true", NULL};
	struct area a;
	pid_t pid;
	size_t i;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	ballast(128);
	test_daemon();
	test_waitsig();

	for (i = 0; i < 8; i++) {
		pid = vfork();
		if (!pid) {
			/* Touches memory of the parent, which sleeps. */
			if (!page_holds(area_page(&a, i * 100), 1, i * 100))
				_exit(1);
			*(volatile uint64_t *)area_page(&a, i * 100 + 1) = i;
			execv("/bin/true", args);
			_exit(2);
		}
		test_reap(pid, 0);
		CHECK(*(volatile uint64_t *)area_page(&a, i * 100 + 1) == i);
		fill_page(area_page(&a, i * 100 + 1), 1, i * 100 + 1);
		CHECK(posix_spawn(&pid, "/bin/true", NULL, NULL, args, environ) == 0);
		test_reap(pid, 0);
	}
	area_check_all(&a);
	pass();
}
