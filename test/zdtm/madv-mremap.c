/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=REMOVE,REMAP,FAULT */
/* zdtm: criu-helper=it unregisters the part, and mremap gives EFAULT */
/* mremap() across a part that was discarded: must not fail, and every page arrives. */
#include "test/zdtm/zdtm.h"

#define PAGES 2048

static void check(const struct area *a)
{
	size_t i;

	for (i = PAGES; i-- > 0;)
		if (i / 256 % 2)
			check_zero(area_page(a, i));
		else
			check_page(area_page(a, i), a->seed, i);
}

int main(int argc, char **argv)
{
	struct area a, b;
	uint8_t *p;
	size_t i;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	b = area_new(PAGES, 2);
	ballast(128);
	test_daemon();
	test_waitsig();

	for (i = 256; i < PAGES; i += 512)
		CHECK(madvise(area_page(&a, i), 256 * PAGE, MADV_DONTNEED) == 0);
	p = mremap(a.p, PAGES * PAGE, 2 * PAGES * PAGE, MREMAP_MAYMOVE);
	if (p == MAP_FAILED)
		fail("mremap across the discarded part: %m");
	a.p = p;
	check(&a);
	area_check_zero(&a, PAGES, PAGES);

	/* The same the other way round: moved first, then discarded, then moved back. */
	p = mremap(b.p, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
	           area_page(&a, PAGES));
	CHECK(p == area_page(&a, PAGES));
	for (i = 256; i < PAGES; i += 512)
		CHECK(madvise(p + i * PAGE, 256 * PAGE, MADV_DONTNEED) == 0);
	p = mremap(p, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, b.p);
	if (p == MAP_FAILED)
		fail("mremap across the discarded part: %m");
	check(&b);
	pass();
}
