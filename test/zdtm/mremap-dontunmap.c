/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=REMAP,FAULT */
/* MREMAP_DONTUNMAP: the pages move, the old place stays mapped and reads zero. */
#include "test/zdtm/zdtm.h"

#define PAGES 2048

int main(int argc, char **argv)
{
	struct area old, new;
	size_t i;

	test_init(argc, argv);
	old = area_new(PAGES, 1);
	ballast(128);
	test_daemon();
	test_waitsig();

	area_check(&old, 0, PAGES / 4);
	new = old;
	new.p = mremap(old.p, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	CHECK(new.p != MAP_FAILED &&new.p != old.p);
	for (i = PAGES; i-- > 0;) {
		if (i % 2)
			check_zero(area_page(&old, i));
		check_page(area_page(&new, i), 1, i);
		fill_page(area_page(&old, i), 2, i);
	}
	for (i = 0; i < PAGES; i++) {
		check_page(area_page(&old, i), 2, i);
		check_page(area_page(&new, i), 1, i);
	}
	pass();
}
