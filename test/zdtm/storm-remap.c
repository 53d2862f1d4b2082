/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=REMAP,FAULT; criu-helper=zero pages at times */
/*
 * Several threads move their areas to places that the kernel found free, often the one that another
 * thread's area is just leaving, and now and then unmap one and go on with another.  Others read
 * wherever an area is or has been: whatever is mapped there is a whole page of some area, never
 * zeros, never a mixture.
 */
#include "test/zdtm/zdtm.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/uio.h>

#define MOVERS   4
#define TOUCHERS 2
#define AREAS    24
#define PAGES    64
#define ROUNDS   10
#define SPARES   (AREAS * ROUNDS / 16 + 1)
#define SEEN     1024

static struct area slot[MOVERS][AREAS], spare[MOVERS][SPARES];
/* The first word of each page of the area with that seed. */
static uint64_t first[MOVERS * (AREAS + SPARES)][PAGES];
static _Atomic(uint8_t *) seen[SEEN];
static _Atomic unsigned int nr_seen;
static _Atomic int running = MOVERS;

static void mover(size_t who, uint64_t rng)
{
	size_t n, i, size = PAGES * PAGE, nr_spare = 0;
	struct area *a;
	uint8_t *p;

	for (n = 0; n < AREAS * ROUNDS; n++) {
		a = &slot[who][rnd_below(&rng, AREAS)];
		p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(p != MAP_FAILED);
		CHECK(mremap(a->p, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, p) == p);
		a->p = p;
		seen[atomic_fetch_add(&nr_seen, 1) % SEEN] = p;
		for (i = 0; i < 2; i++) {
			size_t k = rnd_below(&rng, PAGES);

			check_page(area_page(a, k), a->seed, k);
		}
		/* Its place becomes free altogether: what others move there must not go with it. */
		if (n % 16 == 0) {
			area_check_all(a);
			CHECK(munmap(a->p, size) == 0);
			*a = spare[who][nr_spare++];
		}
	}
	for (i = 0; i < AREAS; i++)
		area_check_all(&slot[who][i]);
	running--;
}

/* Whether the page is one of some area's. */
static bool is_known(const uint64_t *page)
{
	size_t i, k;

	for (i = 0; i < MOVERS * (AREAS + SPARES); i++)
		for (k = 0; k < PAGES; k++)
			if (first[i][k] == page[0])
				return page_holds(page, i, k);
	return false;
}

static void toucher(uint64_t rng)
{
	uint64_t page[PAGE / 8];
	struct iovec local = {page, PAGE}, remote = {NULL, PAGE};
	pid_t me = getpid();
	unsigned int n;

	while (running) {
		n = nr_seen;
		if (!n)
			continue;
		/* Mostly the last few: those that just became something else. */
		n = (n - 1 - (unsigned int)rnd_below(&rng, n < 64 ? n : 64)) % SEEN;
		remote.iov_base = seen[n] + rnd_below(&rng, PAGES) * PAGE;
		if (process_vm_readv(me, &local, 1, &remote, 1, 0) < 0) {
			CHECK(errno == EFAULT);
			continue;
		}
		if (page_is_zero(page))
			fail("a toucher read zeros at %p", remote.iov_base);
		if (!is_known(page))
			fail("a toucher read %#llx, no page of any area, at %p",
			     (unsigned long long)page[0], remote.iov_base);
	}
}

static void worker(int who, void *arg)
{
	uint64_t rng = test_seed() * 1000 + (uint64_t)who;

	(void)arg;
	if (who < MOVERS)
		mover((size_t)who, rng);
	else
		toucher(rng);
}

/* No guard pages: neighbours move into each other's places. */
static struct area new_area(uint64_t seed)
{
	struct area a = {NULL, PAGES, seed};
	size_t i;

	a.p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(a.p != MAP_FAILED);
	area_fill(&a, 0, PAGES);
	for (i = 0; i < PAGES; i++)
		memcpy(&first[seed][i], area_page(&a, i), 8);
	return a;
}

int main(int argc, char **argv)
{
	uint64_t seed = 0;
	size_t i, k;

	test_init(argc, argv);
	for (k = 0; k < MOVERS; k++) {
		for (i = 0; i < AREAS; i++)
			slot[k][i] = new_area(seed++);
		for (i = 0; i < SPARES; i++)
			spare[k][i] = new_area(seed++);
	}
	ballast(128);
	test_daemon();
	test_waitsig();

	test_threads(MOVERS + TOUCHERS, worker, NULL);
	pass();
}
