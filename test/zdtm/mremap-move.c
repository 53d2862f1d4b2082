/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=REMAP,FAULT */
/* Areas with missing pages are moved to addresses of the kernel's and of our own choice. */
#include "test/zdtm/zdtm.h"

#define AREAS 32
#define PAGES 512

int main(int argc, char **argv)
{
	struct area a[AREAS], place;
	uint8_t *p, *target;
	size_t i, round;

	test_init(argc, argv);
	for (i = 0; i < AREAS; i++)
		a[i] = area_new(PAGES, i + 1);
	/* Room enough for the moves, kept free of everything else. */
	place = area_map(2 * AREAS * PAGES);
	CHECK(mprotect(place.p, place.pages * PAGE, PROT_NONE) == 0);
	ballast(128);
	test_daemon();
	test_waitsig();

	for (round = 0; round < 4; round++)
		for (i = 0; i < AREAS; i++) {
			area_check(&a[i], round * PAGES / 8, PAGES / 8);
			target = area_page(&place, 2 * i * PAGES + (round % 2 ? PAGES : 0));
			p = mremap(a[i].p, PAGES * PAGE, PAGES * PAGE,
			           MREMAP_MAYMOVE | MREMAP_FIXED, target);
			CHECK(p == target);
			a[i].p = p;
			/* The page in the middle of what is still missing. */
			check_page(area_page(&a[i], PAGES - 8 - round), a[i].seed,
			           PAGES - 8 - round);
		}
	for (i = 0; i < AREAS; i++)
		area_check_all(&a[i]);
	pass();
}
