/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FAULT */
/* Private mappings of files, in part modified, shared memory, and lazy memory close to them. */
#include "test/zdtm/zdtm.h"

#include <fcntl.h>

#define PAGES 512

int main(int argc, char **argv)
{
	struct area a, f, s, content;
	size_t i;
	int fd;

	test_init(argc, argv);
	content = area_new(PAGES, 3);
	fd = open(test_path("data"), O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0 && write(fd, content.p, PAGES * PAGE) == PAGES * (ssize_t)PAGE);
	/* anonymous, file, anonymous, shared: without gaps. */
	a = area_new(4 * PAGES, 1);
	f = (struct area){area_page(&a, PAGES), PAGES, 3};
	s = (struct area){area_page(&a, 3 * PAGES), PAGES, 4};
	CHECK(mmap(f.p, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0) ==
	      f.p);
	CHECK(mmap(s.p, PAGES * PAGE, PROT_READ | PROT_WRITE,
	           MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == s.p);
	area_fill(&s, 0, PAGES);
	for (i = 0; i < PAGES; i += 2)
		fill_page(area_page(&f, i), 5, i);
	test_daemon();
	test_waitsig();

	for (i = PAGES; i-- > 0;) {
		check_page(area_page(&f, i), i % 2 ? 3 : 5, i);
		fill_page(area_page(&f, i), 6, i);
	}
	area_check(&a, 0, PAGES);
	area_check(&a, 2 * PAGES, PAGES);
	area_check_all(&s);
	for (i = 0; i < PAGES; i++)
		check_page(area_page(&f, i), 6, i);
	CHECK(pread(fd, content.p, PAGES * PAGE, 0) == PAGES * (ssize_t)PAGE);
	area_check_all(&content);
	pass();
}
