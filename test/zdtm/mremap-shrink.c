/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=UNMAP,REMAP,FAULT */
/* mremap() to a smaller size, in place and moved at once; growing again gives zeros. */
#include "test/zdtm/zdtm.h"

#define PAGES 2048

int main(int argc, char **argv)
{
	struct area a, b, to;
	uint8_t *p;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	b = area_new(PAGES, 2);
	to = area_new(PAGES, 3);
	ballast(128);
	test_daemon();
	test_waitsig();

	p = mremap(a.p, PAGES * PAGE, PAGES / 2 * PAGE, 0);
	CHECK(p == a.p);
	area_check(&a, PAGES / 4, 8);
	p = mremap(a.p, PAGES / 2 * PAGE, PAGES * PAGE, 0);
	CHECK(p == a.p);
	area_check_zero(&a, PAGES / 2, PAGES / 2);
	area_check(&a, 0, PAGES / 2);

	/* Smaller and elsewhere, onto memory that is lazy as well. */
	p = mremap(b.p, PAGES * PAGE, PAGES / 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
	           area_page(&to, PAGES / 4));
	CHECK(p == area_page(&to, PAGES / 4));
	b.p = p;
	area_check(&to, PAGES / 2, PAGES / 2);
	area_check(&b, 0, PAGES / 4);
	area_check(&to, 0, PAGES / 4);
	pass();
}
