/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FORK,REMAP,FAULT; criu-helper=zero pages at times */
/*
 * Threads move areas between known places while others fork.  A child has each area at exactly one
 * place, wherever it was in the moment of the fork, and finds all of its pages there: also when the
 * helper hears of the fork before it hears of a move that came first.
 */
#include "test/zdtm/zdtm.h"

#include <errno.h>
#include <pthread.h>

#define MOVERS  4
#define FORKERS 2
#define FORKS   16
#define AREAS   16
#define PLACES  24
#define PAGES   32

static struct area place[PLACES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* What a place is for the movers: the number of the area there, or one of these. */
enum { FREE = -1, BUSY = -2 };
static int at[PLACES];
static _Atomic int forking = FORKERS;

/* Takes a place that has an area (or has none) out of the others' sight. */
static int claim(uint64_t *rng, bool area, int *ret_was)
{
	int i = -1, tries = PLACES;

	pthread_mutex_lock(&lock);
	while (tries--) {
		i = (int)rnd_below(rng, PLACES);
		if (area ? at[i] >= 0 : at[i] == FREE) {
			*ret_was = at[i];
			at[i] = BUSY;
			break;
		}
		i = -1;
	}
	pthread_mutex_unlock(&lock);
	return i;
}

static void release(int i, int what)
{
	pthread_mutex_lock(&lock);
	at[i] = what;
	pthread_mutex_unlock(&lock);
}

static void mover(uint64_t rng)
{
	int from, to, what, none;

	while (forking) {
		from = claim(&rng, true, &what);
		if (from < 0)
			continue;
		to = claim(&rng, false, &none);
		if (to < 0) {
			release(from, what);
			continue;
		}
		CHECK(mremap(place[from].p, PAGES * PAGE, PAGES * PAGE,
		             MREMAP_MAYMOVE | MREMAP_FIXED, place[to].p) == place[to].p);
		release(to, what);
		release(from, FREE);
	}
}

/* In a child, where nothing moves: look for every area. */
static void find_all(void)
{
	unsigned char vec;
	size_t i, k, found[AREAS] = {0};

	for (i = 0; i < PLACES; i++) {
		if (mincore(place[i].p, PAGE, &vec) < 0) {
			CHECK(errno == ENOMEM);
			continue;
		}
		for (k = 0; k < AREAS; k++)
			if (page_holds(place[i].p, k, 0))
				break;
		if (k == AREAS)
			fail("place %zu at %p in a child: %s", i, (void *)place[i].p,
			     page_is_zero(place[i].p) ? "all zero" : "no area's first page");
		found[k]++;
		place[i].seed = k;
		area_check_all(&place[i]);
	}
	for (k = 0; k < AREAS; k++)
		if (found[k] != 1)
			fail("area %zu is at %zu places in a child", k, found[k]);
}

static void worker(int who, void *arg)
{
	uint64_t rng = test_seed() * 1000 + (uint64_t)who;
	pid_t pid;
	int n;

	(void)arg;
	if (who >= FORKERS) {
		mover(rng);
		return;
	}
	for (n = 0; n < FORKS; n++) {
		pid = test_fork();
		if (!pid) {
			find_all();
			_exit(0);
		}
		test_reap(pid, 0);
	}
	forking--;
}

int main(int argc, char **argv)
{
	int i;

	test_init(argc, argv);
	for (i = 0; i < PLACES; i++) {
		place[i] = area_map(PAGES);
		place[i].seed = (uint64_t)i;
		at[i] = i < AREAS ? i : FREE;
		if (i < AREAS)
			area_fill(&place[i], 0, PAGES);
		else
			CHECK(munmap(place[i].p, PAGES * PAGE) == 0);
	}
	ballast(128);
	test_daemon();
	test_waitsig();

	test_threads(FORKERS + MOVERS, worker, NULL);
	find_all();
	pass();
}
