/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FAULT,REMOVE */
/*
 * Memory that wants huge pages.  Every second page is missing or a hole when the kernel might make
 * a huge page of it (MADV_COLLAPSE asks for it at once): no neighbour may be damaged.
 */
#include "test/zdtm/zdtm.h"

#include <string.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define HUGE_PAGES 512
#define PAGES      ((size_t)8 * HUGE_PAGES)

int main(int argc, char **argv)
{
	struct area room, a;
	uintptr_t at;
	size_t i;

	test_init(argc, argv);
	room = area_map(PAGES + HUGE_PAGES);
	at = ((uintptr_t)room.p + HUGE_PAGES * PAGE - 1) / (HUGE_PAGES * PAGE) *
	     (HUGE_PAGES * PAGE);
	a = (struct area){(uint8_t *)at, PAGES, 1};
	CHECK(madvise(a.p, PAGES * PAGE, MADV_HUGEPAGE) == 0);
	/* The first half as huge pages, of the second half every second page only. */
	area_fill(&a, 0, PAGES / 2);
	CHECK(madvise(area_page(&a, PAGES / 2), PAGES / 2 * PAGE, MADV_NOHUGEPAGE) == 0);
	for (i = PAGES / 2; i < PAGES; i += 2)
		fill_page(area_page(&a, i), 1, i);
	CHECK(madvise(area_page(&a, PAGES / 2), PAGES / 2 * PAGE, MADV_HUGEPAGE) == 0);
	ballast(128);
	test_daemon();
	test_waitsig();

	for (i = 0; i < PAGES; i += 2)
		check_page(area_page(&a, i), 1, i);
	/* Whether that works does not matter: with missing pages the kernel has to refuse. */
	madvise(a.p, PAGES * PAGE, MADV_COLLAPSE);
	CHECK(madvise(area_page(&a, HUGE_PAGES), HUGE_PAGES * PAGE, MADV_DONTNEED) == 0);
	madvise(a.p, PAGES * PAGE, MADV_COLLAPSE);
	for (i = PAGES; i-- > 0;)
		if (i / HUGE_PAGES == 1 || (i >= PAGES / 2 && i % 2))
			check_zero(area_page(&a, i));
		else
			check_page(area_page(&a, i), 1, i);
	pass();
}
