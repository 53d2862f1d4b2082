/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * procs.h - a large tree of processes, each with pages of its own and pages that it shares with its
 * ancestors.  A test is a main() that calls procs_main() with its numbers.
 */
#ifndef TEST_ZDTM_PROCS_H
#define TEST_ZDTM_PROCS_H

#include "test/zdtm/zdtm.h"

struct procs {
	size_t nr; /* processes */
	size_t own; /* pages of each */
	struct area shared;
	int ready[2]; /* a pipe: each process that is there puts a byte in */
};

static inline void procs_wait_for_all(const struct procs *t)
{
	char byte;
	size_t i;

	for (i = 0; i < t->nr; i++)
		CHECK(read(t->ready[0], &byte, 1) == 1);
}

/* Process k has the children 3k + 1 to 3k + 3, as far as there are such processes. */
static inline void procs_node(const struct procs *t, size_t k)
{
	struct area own;
	pid_t pid[3];
	size_t i, n = 0;

	for (i = 3 * k + 1; i <= 3 * k + 3 && i < t->nr; i++) {
		pid[n] = test_fork();
		if (!pid[n]) {
			procs_node(t, i);
			_exit(0);
		}
		n++;
	}
	own = area_new(t->own, 1000 + k);
	CHECK(write(t->ready[1], "r", 1) == 1);
	if (k == 0) {
		procs_wait_for_all(t);
		test_daemon();
		test_waitsig();
		gate_open();
	} else {
		gate_wait();
	}
	area_check_all(&own);
	area_check_all(&t->shared);
	for (i = 0; i < n; i++)
		test_reap(pid[i], 0);
}

static inline _Noreturn void procs_main(int argc, char **argv, size_t nr, size_t own, size_t shared)
{
	struct procs t = {.nr = nr, .own = own};

	test_init(argc, argv);
	t.shared = area_new(shared, 1);
	CHECK(pipe(t.ready) == 0);
	gate_init();
	procs_node(&t, 0);
	pass();
}

#endif
