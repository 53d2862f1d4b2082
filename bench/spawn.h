/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef BENCH_SPAWN_H
#define BENCH_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Children of the supervisor, and the clock that all their moments are told in. */

#define SPAWN_STATUS_FD 7 /* what a helper is told as --status-fd */

struct proc {
	pid_t pid;
	int pidfd;
	bool ended;
	int status;
	uint64_t start_ns, end_ns; /* CLOCK_REALTIME: see now() */
};

/* In a session of its own, stdin /dev/null, stdout and stderr to DIR/OUT; status_fd, unless -1, is
 * SPAWN_STATUS_FD there.  Ends the supervisor with a message when it cannot.  */
struct proc spawn(char **argv, const char *dir, const char *out, int status_fd);

/*
 * Moments are compared across the restore in CLOCK_REALTIME: CRIU restores into a time namespace,
 * in which CLOCK_MONOTONIC goes on from where it stood at the dump (`monotonic_shift_ms`).
 */
uint64_t now(void);

_Noreturn void die(const char *what);

#endif
