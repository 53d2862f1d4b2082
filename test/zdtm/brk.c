/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=UNMAP,FAULT */
/* The heap goes down, which drops missing pages, and up again, which gives zeros. */
#include "test/zdtm/zdtm.h"

#define PAGES 1024

int main(int argc, char **argv)
{
	struct area heap = {.pages = PAGES, .seed = 1};
	uintptr_t end;

	test_init(argc, argv);
	end = (uintptr_t)sbrk(0);
	/* Page-aligned; malloc is not used from here on. */
	CHECK(sbrk((intptr_t)(-end & (PAGE - 1))) != (void *)-1);
	heap.p = sbrk(PAGES * PAGE);
	CHECK(heap.p != (void *)-1);
	area_fill(&heap, 0, PAGES);
	test_daemon();
	test_waitsig();

	area_check(&heap, PAGES / 4, 8);
	CHECK(sbrk(-(intptr_t)(PAGES / 2 * PAGE)) != (void *)-1);
	CHECK(sbrk(PAGES * PAGE) == area_page(&heap, PAGES / 2));
	area_check_zero(&heap, PAGES / 2, PAGES);
	area_fill(&heap, PAGES / 2, PAGES);
	CHECK(sbrk(-(intptr_t)(PAGES / 4 * PAGE)) != (void *)-1);
	CHECK(sbrk(PAGES / 4 * PAGE) != (void *)-1);
	area_check_zero(&heap, PAGES / 4 * 5, PAGES / 4);
	area_check(&heap, 0, PAGES / 4 * 5);
	pass();
}
