/* SPDX-License-Identifier: GPL-2.0-or-later */
/* round.h - one round: between round.c, which watches and judges, and start.c, which starts. */
#ifndef TEST_SOAK_ROUND_H
#define TEST_SOAK_ROUND_H

#include "bench/spawn.h"
#include "test/soak/soak.h"

#include <limits.h>

struct round {
	struct runner *runner;
	struct shared *shared;
	const struct settings *s;
	char dir[PATH_MAX / 2];
	struct proc helper, server, proxy; /* pid 0: there is none */
	pid_t tree, killer;
	int port;
	char why[1600]; /* empty: nothing is wrong */
	bool hangs;
};

/* The first reason stands. */
void round_fails(struct round *rd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Both return false when they could not, having said why with round_fails(). */
bool start_helper(struct round *rd);
bool start_network(struct round *rd);
/* The restorer (its pid is a process group), and the killer. */
void start_tree(struct round *rd);
void start_killer(struct round *rd);

/* Has it ended?  It is reaped then, and p->status is its wait status. */
bool proc_ended(struct proc *p);
/* Sends the signal, waits; what does not end within 5 s is killed: false. */
bool proc_end(struct proc *p, int sig);

#endif
