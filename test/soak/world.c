/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The oracle's model.  Each thread of a task has areas of its own and knows of every page of them
 * what it must hold: a page with a certain number (zdtm.h's fill_page() of the world's seed and
 * that number), zeros, or that nothing is mapped there.  After MADV_FREE it is the page or zeros;
 * whoever has seen zeros once must see zeros from then on.
 *
 * All addresses are at SOAK_BASE, where the kernel puts nothing of its own, so what is unmapped
 * stays free.
 */
#include "test/soak/ops.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* --- places --- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t *spare[SPARES];
static size_t nr_spare;

uint8_t *world_place(const struct settings *s, unsigned int nr)
{
	return (uint8_t *)(uintptr_t)(SOAK_BASE + (uint64_t)nr * (s->pages + s->gap) * PAGE);
}

void world_init_places(const struct settings *s)
{
	unsigned int i;

	for (i = 0; i < SPARES; i++)
		spare[nr_spare++] = world_place(s, s->threads * s->areas + i);
}

uint8_t *place_take(void)
{
	uint8_t *p = NULL;

	pthread_mutex_lock(&lock);
	if (nr_spare)
		p = spare[--nr_spare];
	pthread_mutex_unlock(&lock);
	return p;
}

void place_give(uint8_t *place)
{
	pthread_mutex_lock(&lock);
	/* First in, first out: the newest rests longest, the others meet places just left. */
	memmove(spare + 1, spare, nr_spare * sizeof(*spare));
	spare[0] = place;
	nr_spare++;
	pthread_mutex_unlock(&lock);
}

/* --- the model --- */

void world_make(const struct settings *s, int task, int thread, struct shared *shared)
{
	struct world *w = &shared->world[task][thread];
	unsigned int a, i;

	memset(w, 0, sizeof(*w));
	w->seed = s->seed * 1000 + (uint64_t)task * 10 + (uint64_t)thread;
	w->rng = w->seed;
	w->next_id = 1;
	w->areas = s->areas;
	w->pages = s->pages;
	w->task = task;
	w->thread = thread;
	w->shared = shared;
	for (a = 0; a < s->areas; a++) {
		w->area[a] = world_place(s, (unsigned int)thread * s->areas + a);
		for (i = 0; i < s->pages; i++)
			w->id[a][i] = rnd_below(&w->rng, 8) ? w->next_id++ : ID_ZERO;
	}
}

struct pick pick(struct world *w)
{
	struct pick p = {.area = (unsigned int)rnd_below(&w->rng, w->areas)};
	size_t longest = rnd_below(&w->rng, 4) ? 24 : w->pages;

	p.from = (unsigned int)rnd_below(&w->rng, w->pages);
	p.n = 1 + (unsigned int)rnd_below(&w->rng, longest);
	if (p.n > w->pages - p.from)
		p.n = w->pages - p.from;
	return p;
}

bool all_mapped(const struct world *w, const struct pick *p)
{
	unsigned int i;

	for (i = 0; i < p->n; i++)
		if (w->id[p->area][p->from + i] == ID_NONE)
			return false;
	return true;
}

/* What is discarded stays unmapped where it was. */
void set_ids(struct world *w, const struct pick *p, uint32_t id)
{
	unsigned int i;

	for (i = 0; i < p->n; i++)
		if (id != ID_ZERO || w->id[p->area][p->from + i] != ID_NONE)
			w->id[p->area][p->from + i] = id;
}

/* --- checks --- */

/* Which page of this task's this is. */
static void describe(const struct world *w, const void *bytes, char *text, size_t size)
{
	const struct world *other;
	int task, thread;
	uint32_t id;

	if (page_is_zero(bytes)) {
		snprintf(text, size, "zeros");
		return;
	}
	for (task = 0; task < MAX_TASKS; task++)
		for (thread = 0; thread < MAX_THREADS; thread++) {
			other = &w->shared->world[task][thread];
			for (id = 1; id < w->next_id + other->next_id + 1000; id++)
				if (page_holds(bytes, other->seed, id)) {
					snprintf(text, size, "page %u of task %d thread %d", id,
					         task, thread);
					return;
				}
		}
	snprintf(text, size, "no page that was ever written, or a torn one");
}

static void wrong(const struct world *w, unsigned int area, unsigned int page, const void *bytes)
{
	uint32_t id = w->id[area][page];
	uint64_t copy[PAGE / 8], want[PAGE / 8] = {0}, later;
	char what[128];
	size_t i = 0;

	memcpy(copy, bytes, PAGE);
	if (is_content(id))
		fill_page(want, w->seed, id & ~ID_FREED);
	while (i < PAGE / 8 - 1 && copy[i] == want[i])
		i++;
	describe(w, copy, what, sizeof(what));
	later = ((const volatile uint64_t *)bytes)[i];
	fail("WRONG PAGE: task %d thread %d depth %d, area %u page %u at %p: it must hold id %u%s; "
	     "word %zu is %#llx, not %#llx (a moment later %#llx): %s",
	     w->task, w->thread, w->depth, area, page, (void *)at(w, area, page), id & ~ID_FREED,
	     id & ID_FREED ? " or zeros" : "", i, (unsigned long long)copy[i],
	     (unsigned long long)want[i], (unsigned long long)later, what);
}

void check_bytes(struct world *w, unsigned int area, unsigned int page, const void *bytes)
{
	uint32_t *id = &w->id[area][page];

	w->shared->pages_checked++;
	if (is_content(*id) && page_holds(bytes, w->seed, *id & ~ID_FREED))
		return;
	if (!is_content(*id) || (*id & ID_FREED)) {
		if (page_is_zero(bytes)) {
			*id = ID_ZERO;
			return;
		}
	}
	wrong(w, area, page, bytes);
}

void check_one(struct world *w, unsigned int area, unsigned int page)
{
	unsigned char vec;
	int r;

	if (w->id[area][page] == ID_NONE) {
		r = mincore(at(w, area, page), PAGE, &vec);
		if (r == 0 || errno != ENOMEM)
			fail("WRONG PAGE: task %d thread %d depth %d, area %u page %u at %p: "
			     "something is mapped where nothing may be",
			     w->task, w->thread, w->depth, area, page, (void *)at(w, area, page));
		return;
	}
	check_bytes(w, area, page, at(w, area, page));
}

void check_world(struct world *w)
{
	struct pick p = {.n = w->pages};
	unsigned int i;

	for (p.area = 0; p.area < w->areas; p.area++) {
		trace_step(w, "check all", &p, NULL);
		for (i = w->pages; i-- > 0;)
			check_one(w, p.area, i);
		w->shared->progress++;
	}
}

void write_one(struct world *w, unsigned int area, unsigned int page, void *where)
{
	fill_page(where, w->seed, w->next_id);
	w->id[area][page] = w->next_id++;
}

/* --- a thread's life --- */

void trace_step(struct world *w, const char *op, const struct pick *p, const struct pick *to)
{
	struct step *s = &w->trace->step[w->trace->nr % TRACE_STEPS];

	*s = (struct step){.ns = soak_now(), .op = op};
	if (p) {
		s->area = p->area;
		s->from = p->from;
		s->n = p->n;
	}
	if (to) {
		s->to_area = to->area;
		s->to_from = to->from;
	}
	w->trace->nr++;
}

void world_live(struct world *w, const struct settings *s)
{
	int64_t until = soak_now() + (int64_t)s->work_ms * 1000000;

	w->trace = &w->shared->trace[w->task * MAX_THREADS + w->thread];
	w->trace->task = w->task;
	w->trace->thread = w->thread;
	w->trace->pid = getpid();
	while (soak_now() < until)
		op_random(w);
	if (s->end == END_EARLY && w->thread == 0)
		_exit(0);
	check_world(w);
	reap_all(w);
	trace_step(w, "end", NULL, NULL);
}
