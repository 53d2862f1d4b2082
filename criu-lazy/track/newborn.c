/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of the last changes a child has seen; see newborn.h.
 *
 * Each set of changes that it may have seen foretells, for the first and last page of every place
 * that they name, whether the child has it mapped: by the latest of those changes that concerns
 * the page, or, if there is none, as the earliest change of all found it.  The kernel is asked once
 * for each page.  Sought is the set with the fewest pages foretold wrong.  Events come nearly in
 * the order of their changes, so it is nearly "all up to one": first the best such point, the
 * nearest to the FORK among equals, then single changes next to it, as long as that makes it
 * better.
 *
 * Cannot be told apart: what was moved away and back, or two areas that changed places, all of it
 * between a fork and the moment it is told; or MREMAP_DONTUNMAP onto occupied lazy memory.
 */
#include "criu-lazy/track/newborn.h"

#include "criu-lazy/track/extents.h"

enum {
	AFTER = 16, /* changes heard after the FORK: then it is due */
	STEPS = 48, /* changes that are looked at */
	NEAR = 8, /* so far from that point a single change may be otherwise */
};

/* One change: a REMAP, with the UNMAP that was its first word; or an UNMAP by itself. */
struct step {
	struct heard *h;
	uint64_t end; /* REMAP: of what is mapped at the new place, which may be longer */
	bool seen;
	bool own; /* the child's: it has seen it */
};

struct sample {
	uint64_t addr;
	bool mapped;
};

struct story {
	struct step step[STEPS]; /* oldest first */
	unsigned nr_steps, nr_before; /* before the FORK */
	struct sample sample[4 * STEPS];
	unsigned nr_samples;
};

static uint64_t to_end(const struct heard *h)
{
	return h->to + (h->place.end - h->place.start);
}

static bool brings_to(const struct step *step, uint64_t addr)
{
	return step->h->what == HEARD_REMAP && step->h->to <= addr && addr < step->end;
}

/* Its call's UNMAP of the new place names what it has become, the REMAP only what was moved. */
static uint64_t new_end(const struct tracker *t, const struct heard *h)
{
	const struct heard *first;
	size_t i;

	for (i = 0; h->first && (first = heard_nth(t, i)); i++)
		if (first->event == h->first)
			return max_u64(first->place.end, to_end(h));
	return h->what == HEARD_REMAP ? to_end(h) : 0;
}

/* MREMAP_DONTUNMAP leaves it mapped: no UNMAP of it was told. */
static bool takes_from(const struct heard *h, uint64_t addr)
{
	return h->place.start <= addr && addr < h->place.end &&
	       (h->what == HEARD_UNMAP || h->matched);
}

/* --- the most consistent story ---------------------------------------------------------------- */

enum foretold {
	FORETOLD_GONE,
	FORETOLD_MAPPED,
	FORETOLD_PERHAPS, /* mapped, but what munmap() names may have holes */
	FORETOLD_NOTHING,
};

static enum foretold foretell(const struct story *story, uint64_t addr)
{
	unsigned i;

	for (i = story->nr_steps; i--;) {
		const struct step *step = &story->step[i];

		if (step->seen && brings_to(step, addr))
			return FORETOLD_MAPPED;
		if (step->seen && takes_from(step->h, addr))
			return FORETOLD_GONE;
	}
	for (i = 0; i < story->nr_steps; i++) {
		const struct heard *h = story->step[i].h;

		if (h->place.start <= addr && addr < h->place.end)
			return h->what == HEARD_UNMAP ? FORETOLD_PERHAPS : FORETOLD_MAPPED;
		if (brings_to(&story->step[i],
		              addr)) /* occupied, partly, if there was a first word */
			return h->first ? FORETOLD_NOTHING : FORETOLD_GONE;
	}
	return FORETOLD_NOTHING;
}

static unsigned nr_wrong(const struct story *story)
{
	unsigned i, wrong = 0;

	for (i = 0; i < story->nr_samples; i++) {
		enum foretold foretold = foretell(story, story->sample[i].addr);

		if (story->sample[i].mapped)
			wrong += foretold == FORETOLD_GONE ? 2 : 0;
		else
			wrong += foretold == FORETOLD_MAPPED    ? 2
			         : foretold == FORETOLD_PERHAPS ? 1
			                                        : 0;
	}
	return wrong;
}

static void see_up_to(struct story *story, unsigned nr)
{
	unsigned i;

	for (i = 0; i < story->nr_steps; i++)
		story->step[i].seen = i < nr || story->step[i].own;
}

static unsigned distance(unsigned a, unsigned b)
{
	return a < b ? b - a : a - b;
}

static void find_best(struct story *story)
{
	unsigned nr, best = story->nr_before, best_wrong, wrong, i;
	bool better = true;

	see_up_to(story, best);
	best_wrong = nr_wrong(story);
	for (nr = 0; nr <= story->nr_steps && best_wrong; nr++) {
		see_up_to(story, nr);
		wrong = nr_wrong(story);
		if (wrong < best_wrong ||
		    (wrong == best_wrong &&
		     distance(nr, story->nr_before) < distance(best, story->nr_before))) {
			best = nr;
			best_wrong = wrong;
		}
	}
	see_up_to(story, best);
	while (best_wrong && better) {
		better = false;
		for (i = best > NEAR ? best - NEAR : 0; i < story->nr_steps && i < best + NEAR;
		     i++) {
			struct step *step = &story->step[i];

			if (step->own)
				continue;
			step->seen = !step->seen;
			wrong = nr_wrong(story);
			if (wrong < best_wrong) {
				best_wrong = wrong;
				better = true;
			} else {
				step->seen = !step->seen;
			}
		}
	}
}

static bool add_sample(struct story *story, const struct newborn_kernel *kernel, uint64_t addr)
{
	unsigned i;
	int mapped;

	for (i = 0; i < story->nr_samples; i++)
		if (story->sample[i].addr == addr)
			return true;
	mapped = kernel->mapped(kernel->cookie, addr, PAGE_SIZE);
	if (mapped < 0)
		return false;
	story->sample[story->nr_samples++] = (struct sample){addr, mapped};
	return true;
}

/*
 * What an munmap() has freed may have been grown into (mremap() and brk() tell nothing of that):
 * then it is one mapping with the page before, and no witness.
 */
static int grown_into(const struct newborn_kernel *kernel, const struct heard *h)
{
	if (h->what != HEARD_UNMAP || !h->place.start)
		return 0;
	return kernel->mapped(kernel->cookie, h->place.start - PAGE_SIZE, 2 * PAGE_SIZE);
}

static bool ask(struct story *story, const struct newborn_kernel *kernel, unsigned nr)
{
	enum { FRESH = 1 }; /* nobody has grown into it yet, more likely */
	const struct heard *h = story->step[nr].h;
	int grown = distance(nr, story->nr_before) > FRESH ? grown_into(kernel, h) : 0;

	if (grown)
		return grown > 0;
	if (!add_sample(story, kernel, h->place.start) ||
	    !add_sample(story, kernel, h->place.end - PAGE_SIZE))
		return false;
	return h->what != HEARD_REMAP || (add_sample(story, kernel, h->to) &&
	                                  add_sample(story, kernel, to_end(h) - PAGE_SIZE));
}

static bool collect(const struct tracker *t, const struct newborn_kernel *kernel,
                    struct story *story)
{
	size_t back = 0, own, i;
	struct heard *h;
	unsigned nr;

	while (back < STEPS && heard_nth(t, back))
		back++;
	while (back--) {
		h = heard_nth(t, back);
		if (h->what == HEARD_UNMAP && h->matched)
			continue; /* its REMAP has the whole change */
		for (own = i = 0; i < t->nr_own; i++)
			own |= t->own[i] == h->event;
		story->nr_before += h->event <= t->forked;
		story->step[story->nr_steps++] =
			(struct step){.h = h, .end = new_end(t, h), .own = own};
	}
	for (nr = 0; nr < story->nr_steps; nr++)
		if (!ask(story, kernel, nr))
			return false;
	return true;
}

/* --- taking back ------------------------------------------------------------------------------ */

/* Into the trees again, unless something is there by now. */
static void revive(struct tracker *t, struct extent *e)
{
	e->gone = 0;
	if (!e->nr_missing || !extent_is_free(t, e))
		extent_discard(t, e);
	else
		extent_link(t, e);
}

/* What went by that event, from limbo or from the buried. */
static void revive_all(struct tracker *t, struct extent_list *list, uint64_t event)
{
	struct extent *e, *next;

	TAILQ_FOREACH_SAFE(e, list, link, next) {
		if (e->gone != event)
			continue;
		TAILQ_REMOVE(list, e, link);
		revive(t, e);
	}
}

/*
 * Every later change has been taken back already, or has nothing to do with the place, so what lies
 * at the new place came by this one; also what lay there until a later UNMAP.
 */
static void take_back_remap(struct tracker *t, const struct heard *h)
{
	struct extent_list movers = TAILQ_HEAD_INITIALIZER(movers);
	struct extent *e, *next;

	extent_cut(t, h->to);
	extent_cut(t, to_end(h));
	for (e = extent_after(t, h->to); e && e->start < to_end(h); e = next) {
		next = extent_following(e);
		extent_unlink(t, e);
		TAILQ_INSERT_TAIL(&movers, e, link);
	}
	TAILQ_FOREACH_SAFE(e, &t->buried, link, next) {
		if (e->gone <= h->event || e->start < h->to || extent_end(e) > to_end(h))
			continue;
		TAILQ_REMOVE(&t->buried, e, link);
		TAILQ_INSERT_TAIL(&movers, e, link);
	}
	while ((e = TAILQ_FIRST(&movers))) {
		TAILQ_REMOVE(&movers, e, link);
		e->start = e->start - h->to + h->place.start;
		e->born = 0;
		revive(t, e);
	}
	revive_all(t, &t->limbo, h->event);
	if (h->first)
		revive_all(t, &t->buried, h->first);
}

bool newborn_remove(struct tracker *child, uint64_t start, uint64_t end)
{
	if (child->nr_removed == OWN_MAX)
		return false;
	child->removed[child->nr_removed++] = (struct range){start, end};
	return true;
}

bool newborn_end(struct tracker *child, const struct newborn_kernel *kernel)
{
	struct story story = {0};
	unsigned i;

	if (!collect(child, kernel, &story))
		return false;
	find_best(&story);
	for (i = story.nr_steps; i--;) {
		const struct step *step = &story.step[i];

		if (step->seen)
			continue;
		if (step->h->what == HEARD_REMAP)
			take_back_remap(child, step->h);
		else
			revive_all(child, &child->buried, step->h->event);
	}
	for (i = 0; i < child->nr_removed; i++)
		tracker_remove(child, child->removed[i].start, child->removed[i].end);
	child->nr_removed = 0;
	return true;
}

void newborn_ask(const struct tracker *child, const struct newborn_kernel *kernel)
{
	struct story story = {0};

	collect(child, kernel, &story);
}

bool newborn_is_due(const struct tracker *child)
{
	const struct heard *h = heard_nth(child, AFTER - 1);

	return h && h->event > child->forked;
}

void newborn_of_newborn(struct tracker *child, const struct tracker *parent)
{
	child->forked = parent->forked;
}

void newborn_own(struct tracker *child)
{
	if (child->nr_own < OWN_MAX)
		child->own[child->nr_own++] = child->now;
}
