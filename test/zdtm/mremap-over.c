/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=REMAP,UNMAP,FAULT */
/* Lazy memory is moved onto other lazy memory: what was there is gone, nothing else is. */
#include "test/zdtm/zdtm.h"

#define AREAS 16
#define PAGES 512

int main(int argc, char **argv)
{
	struct area from[AREAS], to[AREAS];
	size_t i, k;
	uint8_t *p;

	test_init(argc, argv);
	for (i = 0; i < AREAS; i++) {
		from[i] = area_new(PAGES, 100 + i);
		to[i] = area_new(PAGES, 200 + i);
	}
	ballast(128);
	test_daemon();
	test_waitsig();

	for (i = 0; i < AREAS; i++) {
		/* Part k of from[i], one eighth, lands in the middle of to[i]. */
		k = i % 8 * (PAGES / 8);
		if (i % 2)
			area_check(&to[i], PAGES / 2, 4);
		if (i % 3)
			area_check(&from[i], k + 5, 4);
		p = mremap(area_page(&from[i], k), PAGES / 8 * PAGE, PAGES / 8 * PAGE,
		           MREMAP_MAYMOVE | MREMAP_FIXED, area_page(&to[i], PAGES / 2));
		CHECK(p == area_page(&to[i], PAGES / 2));
	}
	for (i = AREAS; i-- > 0;) {
		size_t n;

		k = i % 8 * (PAGES / 8);
		for (n = 0; n < PAGES / 8; n++)
			check_page(area_page(&to[i], PAGES / 2 + n), from[i].seed, k + n);
		area_check(&to[i], 0, PAGES / 2);
		area_check(&to[i], PAGES / 2 + PAGES / 8, PAGES / 2 - PAGES / 8);
		area_check(&from[i], 0, k);
		area_check(&from[i], k + PAGES / 8, PAGES - k - PAGES / 8);
	}
	pass();
}
