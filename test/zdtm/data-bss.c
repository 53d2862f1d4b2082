/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: modes=full,off,chain1,full2; events=FAULT */
/*
 * Static memory: initialised data that was modified (a private mapping of the program's file, which
 * is never lazy), zero-initialised data (which is), and constants.
 */
#include "test/zdtm/zdtm.h"

#define PAGES 2048

static uint8_t bss[PAGES * PAGE] __attribute__((aligned(4096)));
static uint8_t data[64 * PAGE] __attribute__((aligned(4096))) = {1, 2, 3};
static uint8_t untouched[256 * PAGE] __attribute__((aligned(4096))) = {1};

int main(int argc, char **argv)
{
	struct area b = {bss, PAGES, 1}, d = {data, 64, 2};
	size_t i;

	test_init(argc, argv);
	for (i = 0; i < PAGES; i++)
		if (i % 3)
			fill_page(area_page(&b, i), 1, i);
	area_fill(&d, 0, 32);
	test_daemon();
	test_waitsig();

	for (i = PAGES; i-- > 0;)
		if (i % 3)
			check_page(area_page(&b, i), 1, i);
		else
			check_zero(area_page(&b, i));
	area_check(&d, 0, 32);
	area_check_zero(&d, 32, 32);
	CHECK(untouched[0] == 1 && untouched[1] == 0 && page_is_zero(untouched + PAGE));
	pass();
}
