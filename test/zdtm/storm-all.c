/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: modes=full,off,chain3,full1,plain2; events=FORK,REMAP,UNMAP,REMOVE,FAULT */
/* zdtm: criu-helper=zero pages at times */
/*
 * Everything at once: each of several threads has areas of its own and a model of what every page
 * of them must hold, and does random things to them: read, write, discard, unmap, map over, move,
 * change protection and flags, lock, fork.  Children check all pages of the thread that forked
 * them. ZDTM_SEED (test/zdtm/run --seed) selects the sequence; it is printed by a failure as the
 * areas' seed.
 */
#include "test/zdtm/zdtm.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#define THREADS 5
#define AREAS   6
#define PAGES   384
#define STEPS   250
#define SPARE   4
#define ZERO    0
#define NONE    UINT32_MAX

struct world {
	uint64_t seed;
	uint64_t rng;
	uint32_t next_id;
	uint8_t *area[AREAS];
	/* ZERO, NONE (nothing there: reserved), or the page's number in fill_page(). */
	uint32_t id[AREAS][PAGES];
};

static struct world world[THREADS];

/* Places for areas that no area is at: what one thread leaves the next one takes. */
static uint8_t *place[SPARE];
static size_t nr_places;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* A random range of an area: mostly short, sometimes all of it. */
struct pick {
	size_t area, from, n;
};

static struct pick pick(struct world *w)
{
	struct pick p = {.area = rnd_below(&w->rng, AREAS)};

	p.from = rnd_below(&w->rng, PAGES);
	p.n = 1 + rnd_below(&w->rng, rnd_below(&w->rng, 4) ? 24 : PAGES);
	if (p.n > PAGES - p.from)
		p.n = PAGES - p.from;
	return p;
}

static uint8_t *at(const struct world *w, size_t area, size_t page)
{
	return w->area[area] + page * PAGE;
}

static bool all_mapped(const struct world *w, const struct pick *p)
{
	size_t i;

	for (i = 0; i < p->n; i++)
		if (w->id[p->area][p->from + i] == NONE)
			return false;
	return true;
}

static void check_one(const struct world *w, size_t area, size_t page)
{
	uint32_t id = w->id[area][page];
	unsigned char vec;

	if (id == NONE)
		CHECK(mincore(at(w, area, page), PAGE, &vec) == 0 && vec == 0);
	else if (id == ZERO)
		check_zero(at(w, area, page));
	else
		check_page(at(w, area, page), w->seed, id);
}

static void check_world(const struct world *w)
{
	size_t a, i;

	for (a = 0; a < AREAS; a++)
		for (i = PAGES; i-- > 0;)
			check_one(w, a, i);
}

static void set(struct world *w, const struct pick *p, uint32_t id)
{
	size_t i;

	for (i = 0; i < p->n; i++)
		if (id != ZERO || w->id[p->area][p->from + i] != NONE)
			w->id[p->area][p->from + i] = id;
}

static void op_read(struct world *w)
{
	struct pick p = pick(w);
	size_t i;

	for (i = 0; i < p.n; i++)
		check_one(w, p.area, p.from + i);
}

static void op_write(struct world *w)
{
	struct pick p = pick(w);
	size_t i;

	for (i = 0; i < p.n && i < 16; i++)
		if (w->id[p.area][p.from + i] != NONE) {
			w->id[p.area][p.from + i] = w->next_id++;
			fill_page(at(w, p.area, p.from + i), w->seed, w->next_id - 1);
		}
}

static void op_discard(struct world *w)
{
	struct pick p = pick(w);

	CHECK(madvise(at(w, p.area, p.from), p.n * PAGE, MADV_DONTNEED) == 0);
	set(w, &p, ZERO);
}

/* Nothing but this program's areas may come to where something was unmapped. */
static void reserve(uint8_t *p, size_t n)
{
	CHECK(mmap(p, n * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
}

static void op_unmap(struct world *w)
{
	struct pick p = pick(w);

	CHECK(munmap(at(w, p.area, p.from), p.n * PAGE) == 0);
	reserve(at(w, p.area, p.from), p.n);
	set(w, &p, NONE);
}

static void op_map_over(struct world *w)
{
	struct pick p = pick(w);
	size_t i;

	CHECK(mmap(at(w, p.area, p.from), p.n * PAGE, PROT_READ | PROT_WRITE,
	           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
	for (i = 0; i < p.n; i++)
		w->id[p.area][p.from + i] = ZERO;
}

/*
 * How many of the n pages from p on belong to one mapping.  mremap() of several is refused, or done
 * in part: newer kernels move several if none of them has a userfaultfd.
 */
static size_t one_mapping(const uint8_t *p, size_t n)
{
	uintptr_t start, end, from = (uintptr_t)p;
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	size_t got = 0;

	CHECK(f);
	while (!got && fgets(line, sizeof(line), f))
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &start, &end) == 2 && from >= start &&
		    from < end)
			got = (end - from) / PAGE;
	fclose(f);
	CHECK(got);
	return got < n ? got : n;
}

/* A range of one area onto another area. */
static void op_move(struct world *w)
{
	struct pick p = pick(w), to = pick(w);
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	bool keep = rnd_below(&w->rng, 4) == 0;
	size_t i, n = p.n < to.n ? p.n : to.n;
	uint8_t *dst = at(w, to.area, to.from);

	if (p.area == to.area || w->id[p.area][p.from] == NONE)
		return;
	n = one_mapping(at(w, p.area, p.from), n);
	CHECK(mremap(at(w, p.area, p.from), n * PAGE, n * PAGE,
	             flags | (keep ? MREMAP_DONTUNMAP : 0), dst) == dst);
	if (!keep)
		reserve(at(w, p.area, p.from), n);
	for (i = 0; i < n; i++) {
		w->id[to.area][to.from + i] = w->id[p.area][p.from + i];
		w->id[p.area][p.from + i] = keep ? ZERO : NONE;
	}
}

/* The whole area goes to another place. */
static void op_relocate(struct world *w)
{
	size_t a = rnd_below(&w->rng, AREAS), i, n;
	uint8_t *p = NULL;

	pthread_mutex_lock(&lock);
	if (nr_places)
		p = place[--nr_places];
	pthread_mutex_unlock(&lock);
	if (!p)
		return;
	for (i = 0; i < PAGES; i += n) {
		n = 1;
		if (w->id[a][i] == NONE)
			continue;
		n = one_mapping(at(w, a, i), PAGES - i);
		CHECK(mremap(at(w, a, i), n * PAGE, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		             p + i * PAGE) == p + i * PAGE);
	}
	reserve(w->area[a], PAGES);
	pthread_mutex_lock(&lock);
	place[nr_places++] = w->area[a];
	pthread_mutex_unlock(&lock);
	w->area[a] = p;
}

static void op_flags(struct world *w)
{
	static const int advice[] = {MADV_NOHUGEPAGE, MADV_HUGEPAGE, MADV_RANDOM,  MADV_NORMAL,
	                             MADV_DONTDUMP,   MADV_DODUMP,   MADV_WILLNEED};
	struct pick p = pick(w);

	if (rnd_below(&w->rng, 2)) {
		madvise(at(w, p.area, p.from), p.n * PAGE, advice[rnd_below(&w->rng, 7)]);
		return;
	}
	if (!all_mapped(w, &p))
		return;
	CHECK(mprotect(at(w, p.area, p.from), p.n * PAGE, PROT_READ) == 0);
	check_one(w, p.area, p.from);
	CHECK(mprotect(at(w, p.area, p.from), p.n * PAGE, PROT_READ | PROT_WRITE) == 0);
}

static void op_lock(struct world *w)
{
	struct pick p = pick(w);

	if (!all_mapped(w, &p))
		return;
	CHECK(mlock(at(w, p.area, p.from), p.n * PAGE) == 0);
	CHECK(munlock(at(w, p.area, p.from), p.n * PAGE) == 0);
}

static void op_fork(struct world *w)
{
	pid_t pid;
	int i;

	if (rnd_below(&w->rng, 3))
		return;
	pid = test_fork();
	if (!pid) {
		for (i = 0; i < 4; i++) {
			op_read(w);
			op_move(w);
			op_discard(w);
			op_write(w);
		}
		check_world(w);
		_exit(0);
	}
	if (rnd_below(&w->rng, 2))
		op_read(w);
	test_reap(pid, 0);
}

static void worker(int who, void *arg)
{
	static void (*const op[])(struct world *) = {
		op_read,     op_read,     op_read,  op_read, op_write, op_write,
		op_discard,  op_discard,  op_move,  op_move, op_move,  op_unmap,
		op_map_over, op_relocate, op_flags, op_lock, op_fork};
	struct world *w = &world[who];
	size_t i;

	(void)arg;
	for (i = 0; i < STEPS; i++)
		op[rnd_below(&w->rng, sizeof(op) / sizeof(op[0]))](w);
	check_world(w);
}

int main(int argc, char **argv)
{
	struct world *w;
	size_t k, a, i;

	test_init(argc, argv);
	for (k = 0; k < THREADS; k++) {
		w = &world[k];
		w->seed = test_seed() * 100 + k;
		w->rng = w->seed;
		w->next_id = 1;
		for (a = 0; a < AREAS; a++) {
			w->area[a] = area_map(PAGES).p;
			for (i = 0; i < PAGES; i++)
				if (rnd_below(&w->rng, 8)) {
					w->id[a][i] = w->next_id++;
					fill_page(at(w, a, i), w->seed, w->id[a][i]);
				}
		}
	}
	for (i = 0; i < SPARE; i++) {
		place[nr_places++] = area_map(PAGES).p;
		reserve(place[i], PAGES);
	}
	ballast(128);
	test_daemon();
	test_waitsig();

	test_threads(THREADS, worker, NULL);
	pass();
}
