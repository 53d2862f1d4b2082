/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FORK,FAULT */
/* Four threads fork again and again while four others touch, and the children check everything. */
#include "test/zdtm/zdtm.h"

#define PAGES   4096
#define FORKERS 3
#define FORKS   12

static struct area area;

static void worker(int i, void *arg)
{
	uint64_t state = test_seed() + (uint64_t)i;
	size_t n, k, page;

	(void)arg;
	if (i >= FORKERS) {
		for (n = 0; n < PAGES; n++) {
			page = rnd_below(&state, PAGES);
			check_page(area_page(&area, page), area.seed, page);
		}
		return;
	}
	for (n = 0; n < FORKS; n++) {
		pid_t pid = test_fork();

		if (!pid) {
			for (k = 0; k < PAGES / 4; k++) {
				page = rnd_below(&state, PAGES);
				check_page(area_page(&area, page), area.seed, page);
			}
			if (n % 4 == 0) {
				pid = test_fork();
				if (!pid) {
					area_check_all(&area);
					_exit(0);
				}
				test_reap(pid, 0);
			}
			_exit(0);
		}
		test_reap(pid, 0);
	}
}

int main(int argc, char **argv)
{
	test_init(argc, argv);
	area = area_new(PAGES, 1);
	ballast(128);
	test_daemon();
	test_waitsig();

	test_threads(2 * FORKERS, worker, NULL);
	area_check_all(&area);
	pass();
}
