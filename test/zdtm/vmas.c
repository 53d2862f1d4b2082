/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FAULT; timeout=90 */
/* 60,000 mappings, close to the kernel's limit of 65,530: one for each page, with a hole at times.
 */
#include "test/zdtm/zdtm.h"

#define VMAS 60000

int main(int argc, char **argv)
{
	struct area a;
	size_t i;

	test_init(argc, argv);
	a = area_new(VMAS, 1);
	for (i = 1; i < VMAS; i += 2)
		CHECK(mprotect(area_page(&a, i), PAGE, PROT_READ) == 0);
	test_daemon();
	test_waitsig();

	for (i = VMAS; i-- > 0;) {
		check_page(area_page(&a, i), 1, i);
		if (i % 1000 == 0)
			CHECK(munmap(area_page(&a, i), PAGE) == 0);
	}
	pass();
}
