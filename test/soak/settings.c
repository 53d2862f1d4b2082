/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a round is like.  The dice are thrown in a fixed order, so a seed means the same round on
 * every machine; a new die goes to the end.
 *
 * The sizes are small on purpose: a round of a second with some thousand pages meets more kills for
 * each page that is on its way than a long one.
 */
#include "test/soak/soak.h"

#include <stdio.h>
#include <string.h>

static unsigned int between(uint64_t *rng, unsigned int low, unsigned int high)
{
	return low + (unsigned int)rnd_below(rng, high - low + 1);
}

/* True in one of n rounds. */
static bool one_of(uint64_t *rng, unsigned int n)
{
	return rnd_below(rng, n) == 0;
}

static void make_network(uint64_t *rng, struct settings *s)
{
	s->remote = one_of(rng, 3);
	s->plain = one_of(rng, 3);
	s->net_delay_us = one_of(rng, 2) ? between(rng, 50, 2000) : 0;
	s->split = one_of(rng, 3) ? between(rng, 500, 9000) : 0;
	s->cut_every = one_of(rng, 3) ? between(rng, 200000, 3000000) : 0;
	s->cut_ms = one_of(rng, 2) ? between(rng, 50, 400) : 0;
}

void settings_make(uint64_t seed, struct settings *s)
{
	static const char *const background[] = {"off", "off", "full", "1M", "4M", "20M"};
	static const unsigned int gaps[] = {0, 1, 16};
	uint64_t rng = seed;

	*s = (struct settings){.seed = seed};
	s->tasks = between(&rng, 1, MAX_TASKS);
	s->threads = between(&rng, 1, MAX_THREADS);
	s->areas = between(&rng, 2, MAX_AREAS);
	s->pages = between(&rng, 16, MAX_PAGES);
	s->gap = gaps[rnd_below(&rng, 3)];
	s->work_ms = between(&rng, 100, 1500);
	s->end = one_of(&rng, 6) ? END_EARLY : one_of(&rng, 6) ? END_KILLED : END_CHECK;
	s->end_ms = between(&rng, 1, 600);
	s->zombie = one_of(&rng, 5);
	s->huge = one_of(&rng, 5);
	strcpy(s->background, background[rnd_below(&rng, 6)]);
	s->jobs = one_of(&rng, 4) ? between(&rng, 2, 3) : 1;
	s->delay_us = one_of(&rng, 3) ? between(&rng, 20, 3000) : 0;
	s->short_pages = one_of(&rng, 5) ? between(&rng, 1, 9) : 0;
	s->kill_ms = one_of(&rng, 4) ? between(&rng, 6, 15) : between(&rng, 15, 150);
	make_network(&rng, s);
	s->cold = one_of(&rng, 3);
	if (s->remote)
		s->delay_us = s->short_pages = 0;
	else
		s->net_delay_us = s->split = s->cut_every = s->cut_ms = 0;
	/*
	 * In CRIU's protocol a connection ends with the worker, in the middle of anything, and a
	 * server of CRIU's accepts no second one: pages are lost then, and said to be.  So no
	 * kills, but cuts.
	 */
	if (s->remote && s->plain) {
		s->kill_ms = 0;
		return;
	}
	/* A worker must get the time for one page now and then: it has to connect first. */
	s->kill_ms += s->delay_us / 100 + s->net_delay_us / 25 + (s->remote ? 10 : 0);
}

void settings_print(const struct settings *s, char *text, size_t size)
{
	static const char *const end[] = {"check", "early exit", "killed"};
	size_t len;

	len = (size_t)snprintf(
		text, size,
		"%u tasks, %u threads, %u areas of %u pages, gap %u%s%s%s, %u ms, end: %s; "
		"background %s, jobs %u, delay %u us, short %u; kills every %u ms",
		s->tasks, s->threads, s->areas, s->pages, s->gap, s->huge ? ", huge" : "",
		s->cold ? ", cold" : "", s->zombie ? ", a zombie" : "", s->work_ms, end[s->end],
		s->background, s->jobs, s->delay_us, s->short_pages, s->kill_ms);
	if (s->remote && len < size)
		snprintf(text + len, size - len,
		         "; remote%s, delay %u us, split %u, cuts every %u bytes and %u ms",
		         s->plain ? " (criu)" : "", s->net_delay_us, s->split, s->cut_every,
		         s->cut_ms);
}
