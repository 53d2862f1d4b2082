/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=UNMAP,REMOVE,FAULT */
/* zdtm: criu-helper=P-3: lengths of 2 GiB and more are cut to 32 bits */
/* munmap() and MADV_DONTNEED of ranges of 4 GiB and more with a few pages here and there. */
#include "test/zdtm/zdtm.h"

#define GIB   ((size_t)1 << 30)
#define EVERY ((size_t)8191)

static struct area sparse_new(size_t pages, uint64_t seed)
{
	struct area a = area_map(pages);
	size_t i;

	a.seed = seed;
	for (i = 0; i < pages; i += EVERY)
		fill_page(area_page(&a, i), seed, i);
	return a;
}

int main(int argc, char **argv)
{
	const size_t pages = 12 * GIB / PAGE, third = pages / 3;
	struct area a, b;
	size_t i;

	test_init(argc, argv);
	a = sparse_new(pages, 1);
	b = sparse_new(pages, 2);
	ballast(256);
	test_daemon();
	test_waitsig();

	CHECK(munmap(area_page(&a, third), third * PAGE) == 0);
	CHECK(madvise(area_page(&b, third), third * PAGE, MADV_DONTNEED) == 0);
	/* What is left comes by itself. */
	for (i = 0; i < pages; i += EVERY)
		if (i < third || i >= 2 * third) {
			area_wait(&a, i, 1);
			area_wait(&b, i, 1);
		}
	for (i = 0; i < pages; i += EVERY) {
		if (i < third || i >= 2 * third)
			check_page(area_page(&a, i), 1, i);
		if (i >= third && i < 2 * third)
			check_zero(area_page(&b, i));
		else
			check_page(area_page(&b, i), 2, i);
	}
	pass();
}
