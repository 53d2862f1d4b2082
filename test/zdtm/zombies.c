/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: modes=soon,off,chain1; events=FAULT */
/* Zombies among the living: their parents still get their exit statuses, and their own memory. */
#include "test/zdtm/zdtm.h"

#include <signal.h>
#include <sys/wait.h>

#define ZOMBIES 5

/* Makes zombies, waits, and checks. */
static void family(const struct area *a, void (*ready)(void))
{
	pid_t pid[ZOMBIES];
	size_t i;

	for (i = 0; i < ZOMBIES; i++) {
		siginfo_t info;

		pid[i] = test_fork();
		if (!pid[i]) {
			if (i % 2) {
				sigset_t none;

				sigemptyset(&none);
				sigprocmask(SIG_SETMASK, &none, NULL);
				raise(SIGTERM);
			}
			_exit((int)i + 10);
		}
		CHECK(waitid(P_PID, (id_t)pid[i], &info, WEXITED | WNOWAIT) == 0);
	}
	ready();
	test_waitsig();
	area_check(a, 0, a->pages / 2);
	for (i = 0; i < ZOMBIES; i++)
		test_reap(pid[i], i % 2 ? SIGTERM : ((int)i + 10) << 8);
	area_check_all(a);
}

static int child_ready[2];

static void tell(void)
{
	CHECK(write(child_ready[1], "r", 1) == 1);
}

int main(int argc, char **argv)
{
	struct area a;
	pid_t child;
	char c;

	test_init(argc, argv);
	a = area_new(1024, 1);
	CHECK(pipe(child_ready) == 0);
	child = test_fork();
	if (!child) {
		a.seed = 2;
		area_fill(&a, 0, a.pages);
		family(&a, tell);
		_exit(0);
	}
	CHECK(read(child_ready[0], &c, 1) == 1);
	family(&a, test_daemon);
	test_reap(child, 0);
	pass();
}
