/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=REMOVE,FAULT */
/*
 * MADV_FREE: a page may keep its content or read zero, but nothing else and not in part, and what
 * is written afterwards stays.  MADV_REMOVE is refused for private memory, and harms nothing.
 */
#include "test/zdtm/zdtm.h"

#include <errno.h>

#define PAGES 2048

int main(int argc, char **argv)
{
	struct area a, b, shared;
	size_t i;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	b = area_new(PAGES, 2);
	shared = (struct area){NULL, 256, 3};
	shared.p =
		mmap(NULL, 256 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(shared.p != MAP_FAILED);
	area_fill(&shared, 0, 256);
	ballast(128);
	test_daemon();
	test_waitsig();

	area_check(&a, PAGES / 2, PAGES / 4);
	CHECK(madvise(area_page(&a, PAGES / 4), PAGES / 2 * PAGE, MADV_FREE) == 0);
	for (i = PAGES / 4; i < PAGES / 4 * 3; i++) {
		if (!page_is_zero(area_page(&a, i)))
			check_page(area_page(&a, i), 1, i);
		if (i % 2)
			fill_page(area_page(&a, i), 4, i);
	}
	for (i = PAGES / 4; i < PAGES / 4 * 3; i++) {
		if (i % 2)
			check_page(area_page(&a, i), 4, i);
		else if (!page_is_zero(area_page(&a, i)))
			check_page(area_page(&a, i), 1, i);
	}
	area_check(&a, 0, PAGES / 4);
	area_check(&a, PAGES / 4 * 3, PAGES / 4);

	CHECK(madvise(b.p, PAGES * PAGE, MADV_REMOVE) == -1 && errno == EINVAL);
	area_check_all(&b);
	CHECK(madvise(shared.p, 128 * PAGE, MADV_REMOVE) == 0);
	area_check_zero(&shared, 0, 128);
	area_check(&shared, 128, 128);
	pass();
}
