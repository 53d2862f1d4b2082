/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=REMAP,FAULT */
/*
 * Several threads move areas of equal size at once to addresses that the kernel chooses, so that
 * the address that one thread's area has left is at once the address of another's, while other
 * threads touch memory that stays where it is.
 */
#include "test/zdtm/zdtm.h"

#define MOVERS   4
#define TOUCHERS 2
#define AREAS    16
#define PAGES    128
#define ROUNDS   20

static struct area slot[MOVERS][AREAS], still;

static void mover(size_t who, uint64_t rng)
{
	size_t n, i, size = PAGES * PAGE;
	struct area *a;
	uint8_t *p;

	for (n = 0; n < AREAS * ROUNDS; n++) {
		a = &slot[who][rnd_below(&rng, AREAS)];
		/* One page more does not fit where it is: there are neighbours. */
		p = mremap(a->p, size, size + PAGE, MREMAP_MAYMOVE);
		CHECK(p != MAP_FAILED);
		a->p = p;
		i = rnd_below(&rng, PAGES);
		check_page(area_page(a, i), a->seed, i);
		if (n % 4 == 0)
			check_zero(p + size);
		CHECK(mremap(p, size + PAGE, size, 0) == p);
	}
	for (i = 0; i < AREAS; i++)
		area_check_all(&slot[who][i]);
}

static void worker(int who, void *arg)
{
	uint64_t rng = test_seed() * 1000 + (uint64_t)who;
	size_t n, i;

	(void)arg;
	if (who < MOVERS) {
		mover((size_t)who, rng);
		return;
	}
	for (n = 0; n < 2000; n++) {
		i = rnd_below(&rng, still.pages);
		check_page(area_page(&still, i), still.seed, i);
	}
}

int main(int argc, char **argv)
{
	struct area *a;
	size_t i, k;

	test_init(argc, argv);
	for (i = 0; i < AREAS; i++)
		for (k = 0; k < MOVERS; k++) {
			a = &slot[k][i];
			*a = (struct area){NULL, PAGES, k * 100 + i};
			/* No guard pages: neighbours move into each other's places. */
			a->p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
			            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			CHECK(a->p != MAP_FAILED);
			area_fill(a, 0, PAGES);
		}
	still = area_new(4096, 999);
	ballast(128);
	test_daemon();
	test_waitsig();

	test_threads(MOVERS + TOUCHERS, worker, NULL);
	pass();
}
