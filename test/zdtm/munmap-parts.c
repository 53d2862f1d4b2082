/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=UNMAP,FAULT */
/* munmap() of the head, the tail, a middle and of every second page of areas with missing pages. */
#include "test/zdtm/zdtm.h"

#include <errno.h>

#define PAGES 2048

int main(int argc, char **argv)
{
	struct area a, b;
	unsigned char vec;
	size_t i;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	b = area_new(PAGES, 2);
	ballast(128);
	test_daemon();
	test_waitsig();

	CHECK(munmap(a.p, PAGES / 8 * PAGE) == 0);
	CHECK(munmap(area_page(&a, PAGES / 8 * 7), PAGES / 8 * PAGE) == 0);
	CHECK(munmap(area_page(&a, PAGES / 2), PAGES / 8 * PAGE) == 0);
	for (i = 0; i < PAGES; i += 2) {
		CHECK(munmap(area_page(&b, i), PAGE) == 0);
		if (i % 64 == 0)
			check_page(area_page(&b, i + 1), 2, i + 1);
	}
	for (i = PAGES; i-- > 0;) {
		if (i % 2)
			check_page(area_page(&b, i), 2, i);
		else
			CHECK(mincore(area_page(&b, i), PAGE, &vec) == -1 && errno == ENOMEM);
	}
	area_check(&a, PAGES / 8, PAGES / 2 - PAGES / 8);
	area_check(&a, PAGES / 8 * 5, PAGES / 4);
	pass();
}
