/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=REMAP,FAULT */
/* Two areas change places by way of a third, many times, while their pages are still missing. */
#include "test/zdtm/zdtm.h"

#define PAGES 4096

static void *move(const void *from, size_t pages, const void *to)
{
	void *p =
		mremap((void *)from, pages * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);

	CHECK(p == to);
	return p;
}

int main(int argc, char **argv)
{
	struct area a, b, spare;
	size_t i, k, n, round;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	b = area_new(PAGES, 2);
	spare = area_map(PAGES);
	ballast(128);
	test_daemon();
	test_waitsig();

	for (round = 0; round < 20; round++) {
		/* The same window of both: after an odd number of rounds it is exchanged. */
		k = PAGES / 4;
		n = PAGES / 2;
		move(area_page(&a, k), n, spare.p);
		move(area_page(&b, k), n, area_page(&a, k));
		move(spare.p, n, area_page(&b, k));
		i = k + round * 17;
		check_page(area_page(&a, i), round % 2 ? 1 : 2, i);
		check_page(area_page(&b, i + 1), round % 2 ? 2 : 1, i + 1);
	}
	area_check_all(&b);
	area_check_all(&a);
	pass();
}
