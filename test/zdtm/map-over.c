/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=UNMAP,FAULT */
/* mmap(MAP_FIXED) over parts of lazy areas: the new mapping reads as zeros or as the file. */
#include "test/zdtm/zdtm.h"

#include <fcntl.h>

#define PAGES 2048

int main(int argc, char **argv)
{
	struct area a, b, file;
	size_t i;
	int fd;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	b = area_new(PAGES, 2);
	file = area_new(128, 3);
	fd = open(test_path("data"), O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0 && write(fd, file.p, 128 * PAGE) == 128 * (ssize_t)PAGE);
	ballast(128);
	test_daemon();
	test_waitsig();

	for (i = 64; i < PAGES; i += 256) {
		CHECK(mmap(area_page(&a, i), 128 * PAGE, PROT_READ | PROT_WRITE,
		           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
		CHECK(mmap(area_page(&b, i), 128 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd,
		           0) != MAP_FAILED);
		check_zero(area_page(&a, i + 1));
		check_page(area_page(&b, i + 1), 3, 1);
		fill_page(area_page(&a, i + 1), 4, 0);
	}
	for (i = PAGES; i-- > 0;) {
		size_t k = i % 256;

		if (k < 64 || k >= 192) {
			check_page(area_page(&a, i), 1, i);
			check_page(area_page(&b, i), 2, i);
			continue;
		}
		check_page(area_page(&b, i), 3, k - 64);
		if (k == 65)
			check_page(area_page(&a, i), 4, 0);
		else
			check_zero(area_page(&a, i));
	}
	pass();
}
