/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=REMOVE,FAULT */
/* MADV_DONTNEED of parts with missing and with present pages: they read zero and can be used again.
 */
#include "test/zdtm/zdtm.h"

#define PAGES 4096

int main(int argc, char **argv)
{
	struct area a;
	size_t i, k;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	ballast(128);
	test_daemon();
	test_waitsig();

	/* Of each 64 pages the second half goes; every other time it was touched before. */
	for (i = 0; i < PAGES; i += 64) {
		if (i / 64 % 2)
			area_check(&a, i + 30, 20);
		CHECK(madvise(area_page(&a, i + 32), 32 * PAGE, MADV_DONTNEED) == 0);
		check_zero(area_page(&a, i + 63));
		fill_page(area_page(&a, i + 33), 2, i);
		/* And once more, with the written page. */
		if (i / 64 % 4 == 0) {
			CHECK(madvise(area_page(&a, i + 32), 4 * PAGE, MADV_DONTNEED) == 0);
			check_zero(area_page(&a, i + 33));
			fill_page(area_page(&a, i + 33), 2, i);
		}
	}
	for (i = PAGES; i-- > 0;) {
		k = i % 64;
		if (k < 32)
			check_page(area_page(&a, i), 1, i);
		else if (k == 33)
			check_page(area_page(&a, i), 2, i - k);
		else
			check_zero(area_page(&a, i));
	}
	pass();
}
