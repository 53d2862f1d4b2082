/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: modes=full,late,off,chain1,chain2,chain3,full3,plain2; events=FAULT */
/* Every page of a filled area comes back, and what is written to it stays. */
#include "test/zdtm/zdtm.h"

int main(int argc, char **argv)
{
	struct area a;
	size_t i;

	test_init(argc, argv);
	a = area_new(4096, 1);
	test_daemon();
	test_waitsig();

	/* Backwards, odd pages first: not the order in which the background goes. */
	for (i = a.pages; i-- > 0;)
		if (i % 2)
			check_page(area_page(&a, i), a.seed, i);
	area_check_all(&a);
	a.seed = 2;
	area_fill(&a, 0, a.pages);
	area_check_all(&a);
	pass();
}
