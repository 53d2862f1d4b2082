/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * patience.h - for tests that could wait for ever when the code is wrong: each has 20 seconds, then
 * SIGALRM ends the program and with it the run; children end with their parent.
 */
#ifndef TEST_UNIT_PATIENCE_H
#define TEST_UNIT_PATIENCE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "criu-lazy/base/clock.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE = 20 /* seconds */ };

static inline int be_patient(void **state)
{
	(void)state;
	alarm(PATIENCE);
	return 0;
}

#define TIMED(name) cmocka_unit_test_setup(name, be_patient)

/* A child that is ended when the test program is. */
static inline pid_t fork_child(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

/* Its wait status. */
static inline int reap(pid_t pid)
{
	int status = -1;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static inline void sleep_ms(int ms)
{
	usleep((useconds_t)ms * 1000);
}

/* Is there something to read, now or within ms? */
static inline bool readable(int fd, int ms)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return poll(&pfd, 1, ms) == 1 && pfd.revents & POLLIN;
}

/* Wait (until patience ends) for a condition that another thread or process brings about. */
#define eventually(condition) \
	do {                  \
		sleep_ms(1);  \
	} while (!(condition))

#define skip_because(...)                   \
	do {                                \
		print_message("SKIP: ");    \
		print_message(__VA_ARGS__); \
		print_message("\n");        \
		skip();                     \
	} while (0)

#endif
