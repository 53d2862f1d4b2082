/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FAULT */
/* Whoever asks for pages in bulk gets them: MADV_POPULATE_READ and _WRITE, mlock, MADV_WILLNEED. */
#include "test/zdtm/zdtm.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

#define PAGES 4096
#define PART  (PAGES / 4)

int main(int argc, char **argv)
{
	unsigned char vec[PAGES];
	struct area a;
	size_t i;

	test_init(argc, argv);
	a = area_map(PAGES);
	a.seed = 1;
	/* With holes, which are populated as well. */
	for (i = 0; i < PAGES; i++)
		if (i % 16 < 14)
			fill_page(area_page(&a, i), 1, i);
	ballast(128);
	test_daemon();
	test_waitsig();

	CHECK(madvise(area_page(&a, 2 * PART), PART * PAGE, MADV_POPULATE_WRITE) == 0);
	CHECK(madvise(area_page(&a, 3 * PART), PART * PAGE, MADV_POPULATE_READ) == 0);
	CHECK(mlock(area_page(&a, PART), PART * PAGE) == 0);
	CHECK(madvise(a.p, PART * PAGE, MADV_WILLNEED) == 0);
	CHECK(mincore(area_page(&a, PART), 3 * PART * PAGE, vec) == 0);
	for (i = 0; i < 3 * PART; i++)
		CHECK(vec[i] & 1);
	for (i = PAGES; i-- > 0;)
		if (i % 16 < 14)
			check_page(area_page(&a, i), 1, i);
		else
			check_zero(area_page(&a, i));
	pass();
}
