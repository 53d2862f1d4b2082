/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: modes=soon,off; events=FAULT */
/* Processes of a tree exit, exec, or are killed in the middle; the others go on unharmed. */
#include "test/zdtm/zdtm.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#define PAGES    2048
#define CHILDREN 10

static struct area area;

static void child(size_t k)
{
	static char *const args[] = {"true", NULL};

	area = area_new(PAGES, k + 10);
	ballast(16);
	gate_wait();
	switch (k % 5) {
	case 0: /* at once */
		_exit(0);
	case 1: /* in the middle */
		area_check(&area, PAGES / 4, PAGES / 4);
		_exit(0);
	case 2: /* another program in the same process */
		area_check(&area, 0, PAGES / 4);
		execv("/bin/true", args);
		fail("execv: %m");
	case 3: /* killed by the parent, sooner or later */
		for (;;)
			area_check_all(&area);
	default:
		area_check_all(&area);
		_exit(0);
	}
}

int main(int argc, char **argv)
{
	pid_t pid[CHILDREN];
	size_t k;

	test_init(argc, argv);
	area = area_new(PAGES, 1);
	gate_init();
	for (k = 0; k < CHILDREN; k++) {
		pid[k] = test_fork();
		if (!pid[k])
			child(k);
	}
	/* They may be dumped anywhere before gate_wait(): nothing of that needs to be finished. */
	test_daemon();
	test_waitsig();

	gate_open();
	area_check(&area, 0, PAGES / 2);
	for (k = 3; k < CHILDREN; k += 5)
		CHECK(kill(pid[k], SIGKILL) == 0);
	area_check(&area, PAGES / 2, PAGES / 2);
	for (k = 0; k < CHILDREN; k++)
		test_reap(pid[k], k % 5 == 3 ? SIGKILL : 0);
	area_check_all(&area);
	pass();
}
