/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FORK,FAULT */
/* A chain of forks, each generation forked while pages of the one before are missing. */
#include "test/zdtm/zdtm.h"

#define PAGES   2048
#define DEPTH   4
#define PORTION (PAGES / 8)

/* Generation g has overwritten portions 0..g-1 of the area with seeds 10..10+g-1. */
static void generation(const struct area *a, size_t g)
{
	pid_t child = 0;
	size_t i;

	if (g < DEPTH) {
		for (i = g * PORTION; i < (g + 1) * PORTION; i++)
			fill_page(area_page(a, i), 10 + g, i);
		child = test_fork();
		if (!child) {
			generation(a, g + 1);
			_exit(0);
		}
	}
	for (i = PAGES; i-- > 0;) {
		size_t by = i / PORTION;

		check_page(area_page(a, i), by <= g && by < DEPTH ? 10 + by : a->seed, i);
	}
	if (child)
		test_reap(child, 0);
}

int main(int argc, char **argv)
{
	struct area a;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	ballast(128);
	test_daemon();
	test_waitsig();

	generation(&a, 0);
	pass();
}
