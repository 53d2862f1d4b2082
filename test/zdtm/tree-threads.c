/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: modes=soon,off; events=FAULT */
/* A tree of seven processes, three generations, with four threads each that touch the same pages.
 */
#include "test/zdtm/zdtm.h"

#define PAGES   1024
#define THREADS 4

static struct area shared, own;

static void toucher(int who, void *arg)
{
	uint64_t rng = test_seed() + (uint64_t)who + (uint64_t)getpid();
	size_t n, i;

	(void)arg;
	for (n = 0; n < PAGES; n++) {
		i = rnd_below(&rng, PAGES);
		check_page(area_page(&shared, i), 1, i);
		i = rnd_below(&rng, PAGES);
		check_page(area_page(&own, i), own.seed, i);
	}
}

static void body(void)
{
	test_threads(THREADS, toucher, NULL);
	area_check_all(&own);
	area_check_all(&shared);
}

static void node(int level, uint64_t seed, int ready)
{
	pid_t child[2] = {0, 0};
	int i;

	for (i = 0; level < 2 && i < 2; i++) {
		child[i] = test_fork();
		if (!child[i]) {
			node(level + 1, seed * 2 + (uint64_t)i, ready);
			_exit(0);
		}
	}
	own = area_new(PAGES, 100 + seed);
	CHECK(write(ready, "r", 1) == 1);
	if (!level)
		return;
	gate_wait();
	body();
	for (i = 0; level < 2 && i < 2; i++)
		test_reap(child[i], 0);
}

int main(int argc, char **argv)
{
	int ready[2], i;
	char c;

	test_init(argc, argv);
	shared = area_new(PAGES, 1);
	CHECK(pipe(ready) == 0);
	gate_init();
	node(0, 1, ready[1]);
	for (i = 0; i < 7; i++)
		CHECK(read(ready[0], &c, 1) == 1);
	test_daemon();
	test_waitsig();

	gate_open();
	body();
	test_reap(-1, 0);
	test_reap(-1, 0);
	pass();
}
