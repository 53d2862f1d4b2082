/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: modes=soon; timeout=120 */
/* A tree of 1000 processes, each with pages of its own and pages that it shares with its ancestors.
 */
#include "test/zdtm/zdtm.h"

#define PROCESSES 1000
#define OWN       8
#define SHARED    16

static void body(const struct area *own, const struct area *shared)
{
	area_check_all(own);
	area_check_all(shared);
}

/* Process k has the children 3k + 1 to 3k + 3, as far as there are such processes. */
static void node(size_t k, const struct area *shared, int ready)
{
	struct area own;
	pid_t pid[3];
	size_t i, n = 0;

	for (i = 3 * k + 1; i <= 3 * k + 3 && i < PROCESSES; i++) {
		pid[n] = test_fork();
		if (!pid[n]) {
			node(i, shared, ready);
			_exit(0);
		}
		n++;
	}
	own = area_new(OWN, 1000 + k);
	CHECK(write(ready, "r", 1) == 1);
	if (k == 0) {
		test_daemon();
		test_waitsig();
		gate_open();
	} else {
		gate_wait();
	}
	body(&own, shared);
	for (i = 0; i < n; i++)
		test_reap(pid[i], 0);
}

int main(int argc, char **argv)
{
	struct area shared;
	int ready[2];

	test_init(argc, argv);
	shared = area_new(SHARED, 1);
	CHECK(pipe(ready) == 0);
	gate_init();
	node(0, &shared, ready[1]);
	pass();
}
