/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FAULT */
/* A mapping of 64 GiB with a page here and there, single or a few together. */
#include "test/zdtm/zdtm.h"

#define PAGES (((size_t)64 << 30) / PAGE)
#define EVERY ((size_t)16381)

int main(int argc, char **argv)
{
	struct area a;
	size_t i, k;

	test_init(argc, argv);
	a = area_map(PAGES);
	a.seed = 1;
	CHECK(madvise(a.p, PAGES * PAGE, MADV_NOHUGEPAGE) == 0);
	for (i = 0; i < PAGES; i += EVERY)
		for (k = 0; k <= i % 3 && i + k < PAGES; k++)
			fill_page(area_page(&a, i + k), 1, i + k);
	fill_page(area_page(&a, PAGES - 1), 1, PAGES - 1);
	test_daemon();
	test_waitsig();

	check_page(area_page(&a, PAGES - 1), 1, PAGES - 1);
	for (i = PAGES / EVERY * EVERY; i > 0; i -= EVERY) {
		for (k = 0; k <= i % 3 && i + k < PAGES - 1; k++)
			check_page(area_page(&a, i + k), 1, i + k);
		check_zero(area_page(&a, i - 5));
	}
	check_page(a.p, 1, 0);
	pass();
}
