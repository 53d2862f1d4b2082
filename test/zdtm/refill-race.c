/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=REMOVE,FAULT */
/*
 * Pages are dropped and written again by their owner while other threads touch them: they may see a
 * page's old content until it is dropped, zero or the new content later, and never anything else.
 */
#include "test/zdtm/zdtm.h"

#include <stdatomic.h>

#define PAGES   2048
#define READERS 3
#define GROUP   16

static struct area area;
/* 0: old content only; 1: being dropped and refilled; 2: new content only. */
static _Atomic int state[PAGES / GROUP];
static _Atomic bool over;

static void owner(uint64_t rng)
{
	size_t n, g, i;

	for (n = 0; n < PAGES / GROUP; n++) {
		g = (n * 29 + rng % 2) % (PAGES / GROUP);
		atomic_store(&state[g], 1);
		CHECK(madvise(area_page(&area, g * GROUP), GROUP * PAGE, MADV_DONTNEED) == 0);
		for (i = g * GROUP; i < (g + 1) * GROUP; i++)
			*(volatile uint64_t *)area_page(&area, i) = 0;
		for (i = g * GROUP; i < (g + 1) * GROUP; i++) {
			check_zero(area_page(&area, i));
			fill_page(area_page(&area, i), 2, i);
		}
		atomic_store(&state[g], 2);
	}
	over = true;
}

/* The first word of a page, and what it may be. */
static void reader(uint64_t rng)
{
	uint64_t word, old, new, page[PAGE / 8];
	int before, after;
	size_t i;

	while (!over) {
		i = rnd_below(&rng, PAGES);
		fill_page(page, 1, i);
		old = page[0];
		fill_page(page, 2, i);
		new = page[0];
		before = atomic_load(&state[i / GROUP]);
		word = ((volatile uint64_t *)area_page(&area, i))[0];
		after = atomic_load(&state[i / GROUP]);
		if (before == 2 ? word == new
		                : word == old || (after > 0 && (word == 0 || word == new)))
			continue;
		fail("page %zu in state %d..%d: first word %#llx (old %#llx, new %#llx)", i, before,
		     after, (unsigned long long)word, (unsigned long long)old,
		     (unsigned long long)new);
	}
}

static void worker(int i, void *arg)
{
	(void)arg;
	if (i == 0)
		owner(test_seed());
	else
		reader(test_seed() * 100 + (uint64_t)i);
}

int main(int argc, char **argv)
{
	size_t i;

	test_init(argc, argv);
	area = area_new(PAGES, 1);
	ballast(128);
	test_daemon();
	test_waitsig();

	test_threads(1 + READERS, worker, NULL);
	for (i = 0; i < PAGES; i++)
		check_page(area_page(&area, i), 2, i);
	pass();
}
