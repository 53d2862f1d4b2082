/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: modes=full,off,chain2; events=FAULT */
/* Pages that were never touched, or only read, read zero: single ones, long runs, at the ends. */
#include "test/zdtm/zdtm.h"

#define PAGES 8192

/* Which pages were written before the dump. */
static bool written(size_t i)
{
	if (i < PAGES / 4)
		return i % 2;
	if (i < PAGES / 2)
		return i / 100 % 2;
	if (i < PAGES / 4 * 3)
		return i % 37 == 5;
	return false;
}

int main(int argc, char **argv)
{
	struct area a, empty;
	size_t i;

	test_init(argc, argv);
	a = area_map(PAGES);
	empty = area_map(PAGES);
	for (i = 0; i < PAGES; i++) {
		if (written(i))
			fill_page(area_page(&a, i), 1, i);
		else if (i % 5 == 0)
			check_zero(area_page(&a, i));
	}
	test_daemon();
	test_waitsig();

	for (i = PAGES; i-- > 0;) {
		if (written(i)) {
			check_page(area_page(&a, i), 1, i);
		} else {
			check_zero(area_page(&a, i));
			fill_page(area_page(&a, i), 2, i);
		}
	}
	for (i = 0; i < PAGES; i += 3)
		check_zero(area_page(&empty, i));
	for (i = 0; i < PAGES; i++)
		check_page(area_page(&a, i), written(i) ? 1 : 2, i);
	pass();
}
