/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FAULT */
/* mlock() (which brings the pages) and munlock() of parts, and mlockall(MCL_ONFAULT). */
#include "test/zdtm/zdtm.h"

#define PAGES 16384

int main(int argc, char **argv)
{
	unsigned char vec[32];
	struct area a;
	size_t i, k;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	ballast(256);
	test_daemon();
	test_waitsig();

	for (i = PAGES - 1024; i > 1024; i -= 1024) {
		CHECK(mlock(area_page(&a, i), 32 * PAGE) == 0);
		CHECK(mincore(area_page(&a, i), 32 * PAGE, vec) == 0);
		for (k = 0; k < 32; k++)
			CHECK(vec[k] & 1);
		area_check(&a, i, 32);
		if (i % 2048)
			CHECK(munlock(area_page(&a, i + 8), 16 * PAGE) == 0);
	}
	area_wait(&a, 0, PAGES);
	CHECK(mlockall(MCL_CURRENT | MCL_ONFAULT) == 0);
	area_check(&a, PAGES / 2, PAGES / 2);
	CHECK(munlockall() == 0);
	area_check_all(&a);
	pass();
}
