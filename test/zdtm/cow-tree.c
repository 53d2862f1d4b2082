/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: modes=soon,late,off,chain3,full2,plain3; events=FAULT,FORK */
/* Memory that parent and children share copy-on-write at the dump, and write to after the restore.
 */
#include "test/zdtm/zdtm.h"

#define PAGES    2048
#define CHILDREN 3

/* Before the dump process k overwrote every page i with i % 8 == k, after the restore i % 8 == k
 * + 4. */
static void before(const struct area *a, size_t k)
{
	size_t i;

	for (i = k; i < PAGES; i += 8)
		fill_page(area_page(a, i), 10 + k, i);
}

static void after(const struct area *a, size_t k)
{
	size_t i;
	pid_t pid;

	for (i = k + 4; i < PAGES; i += 8)
		fill_page(area_page(a, i), 20 + k, i);
	pid = test_fork();
	for (i = PAGES; i-- > 0;) {
		uint64_t seed = i % 8 == k ? 10 + k : i % 8 == k + 4 ? 20 + k : 1;

		check_page(area_page(a, i), seed, i);
		if (!pid)
			fill_page(area_page(a, i), 30 + k, i);
	}
	if (!pid)
		_exit(0);
	test_reap(pid, 0);
}

int main(int argc, char **argv)
{
	pid_t pid[CHILDREN];
	struct area a;
	int ready[2];
	size_t k;
	char c;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	CHECK(pipe(ready) == 0);
	gate_init();
	for (k = 0; k < CHILDREN; k++) {
		pid[k] = test_fork();
		if (!pid[k]) {
			before(&a, k + 1);
			CHECK(write(ready[1], "r", 1) == 1);
			gate_wait();
			after(&a, k + 1);
			_exit(0);
		}
	}
	before(&a, 0);
	for (k = 0; k < CHILDREN; k++)
		CHECK(read(ready[0], &c, 1) == 1);
	test_daemon();
	test_waitsig();

	gate_open();
	after(&a, 0);
	for (k = 0; k < CHILDREN; k++)
		test_reap(pid[k], 0);
	pass();
}
