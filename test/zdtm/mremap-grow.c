/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=REMAP,FAULT */
/*
 * mremap() to a larger size, in place and with a move: the old pages keep their content, the new
 * ones read zero, and what is written into them stays.
 */
#include "test/zdtm/zdtm.h"

#define PAGES 2048
#define MORE  512

static void check_grown(const struct area *a, size_t old, size_t new)
{
	size_t i;

	for (i = new; i-- > old;) {
		check_zero(area_page(a, i));
		fill_page(area_page(a, i), 99, i);
	}
	area_check(a, 0, old);
	for (i = old; i < new; i++)
		check_page(area_page(a, i), 99, i);
}

int main(int argc, char **argv)
{
	struct area room, in_place, moved, twice;
	uint8_t *p;

	test_init(argc, argv);
	/* in_place is followed by a hole, so that it can grow where it is. */
	room = area_map(PAGES + 2 * MORE);
	CHECK(munmap(area_page(&room, PAGES), 2 * MORE * PAGE) == 0);
	in_place = (struct area){room.p, PAGES, 1};
	area_fill(&in_place, 0, PAGES);
	moved = area_new(PAGES, 2);
	twice = area_new(PAGES, 3);
	ballast(128);
	test_daemon();
	test_waitsig();

	check_page(area_page(&in_place, PAGES - 1), 1, PAGES - 1);
	p = mremap(in_place.p, PAGES * PAGE, (PAGES + MORE) * PAGE, 0);
	CHECK(p == in_place.p);
	check_grown(&in_place, PAGES, PAGES + MORE);

	/* Its guard page is in the way: it must move. */
	p = mremap(moved.p, PAGES * PAGE, (PAGES + MORE) * PAGE, MREMAP_MAYMOVE);
	CHECK(p != MAP_FAILED && p != moved.p);
	moved.p = p;
	check_grown(&moved, PAGES, PAGES + MORE);

	/* Only the last pages, and then all of it once more. */
	p = mremap(twice.p, PAGES * PAGE, (PAGES + 1) * PAGE, MREMAP_MAYMOVE);
	CHECK(p != MAP_FAILED);
	p = mremap(p, (PAGES + 1) * PAGE, (PAGES + MORE) * PAGE, MREMAP_MAYMOVE);
	CHECK(p != MAP_FAILED);
	twice.p = p;
	check_grown(&twice, PAGES, PAGES + MORE);
	pass();
}
