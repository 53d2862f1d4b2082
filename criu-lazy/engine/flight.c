/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages that were being put into place when a worker died: there, and not marked.  In the
 * background they are brought once more, with all others; without a background (--background off)
 * nobody faults on them, so nobody would ever learn that they are not missing.
 *
 * So what the kernel is asked to do is noted before, in the shared memory of the journal, and
 * forgotten when its marks are set:
 *
 *	flight		of a living worker, or of one that has just died: [start, + nr_pages) of a
 *			session.  One for the engine, one for each chunk that the copier may have
 *	suspect		made of a flight by the next worker: pages of the image, by number, in the
 *			address spaces of a family; brought like background pages, then dropped
 *
 * A flight has an address.  That is the right one for the next worker after its replay: while
 * something of a session is in flight no event of it is read (session_settle()), so none can be in
 * the journal behind it.  A suspect has none, because events come again: its place is looked up
 * when it is brought, as that of an answer from the network is.
 *
 * Why no page can be wrong by this: a suspect is brought by what brings every background page,
 * under the same conditions.  The tracker tells where it belongs; the kernel refuses while an event
 * is unread (EAGAIN), and where there is a page already (EEXIST), which is what we want to learn.
 * Which pages are tried is all that is decided here, and any choice of pages would be a right one.
 *
 * Why none is overlooked: a page without a mark that is in place was put there by a call that was
 * noted, and the note goes only after the mark.  Children: who was forked off before the page had
 * come misses it and faults; who was forked off after that has it and its tracker does not know, so
 * suspects concern the whole family.  A suspect is dropped when no member misses it, is held, or
 * has unfinished changes: then who is forked off later inherits a tracker that does not miss it.
 *
 * What can have been in flight is bounded, and so is the list; where workers die one after the
 * other so fast that it overflows, all that is missing is suspected: it comes in the background.
 */
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/engine/copier.h"
#include "criu-lazy/engine/session.h"

#include <errno.h>
#include <stdatomic.h>

_Static_assert(ENGINE_FLIGHTS == 1 + COPIER_SLOTS, "one of our own, and one for each slot");

/* A worker is killed as a whole, so what counts is the order within one thread's program. */
static void in_order(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

static void note(struct session *s, size_t nr, const struct tracker_run *run)
{
	struct engine_flight *flight = &s->engine->state->flight[nr];

	flight->session = s->id;
	flight->start = run->start;
	in_order();
	flight->nr_pages = run->nr_pages;
	in_order();
}

static void forget(struct session *s, size_t nr)
{
	in_order();
	s->engine->state->flight[nr].nr_pages = 0;
}

void flight_begin(struct session *s, const struct tracker_run *run)
{
	if (s->engine->state)
		note(s, 0, run);
}

void flight_end(struct session *s)
{
	if (s->engine->state)
		forget(s, 0);
}

size_t flight_give(struct session *s, const struct tracker_run *run)
{
	size_t nr = 1;

	if (!s->engine->state)
		return 0;
	/* There is a slot of the copier, so there is one of ours. */
	while (nr + 1 < ENGINE_FLIGHTS && s->engine->state->flight[nr].nr_pages)
		nr++;
	note(s, nr, run);
	return nr;
}

void flight_take_back(struct session *s, size_t nr)
{
	if (s->engine->state)
		forget(s, nr);
}

/* --- suspects --------------------------------------------------------------------------------- */

static bool is_suspected(const struct engine_state *state, uint32_t family, uint64_t page,
                         uint64_t nr_pages)
{
	for (uint32_t i = 0; i < state->nr_suspects; i++) {
		const struct engine_suspect *suspect = &state->suspect[i];

		if (suspect->family == family && suspect->page <= page &&
		    page + nr_pages <= suspect->page + suspect->nr_pages)
			return true;
	}
	return false;
}

static void suspect(struct engine *engine, uint32_t family, uint64_t page, uint64_t nr_pages)
{
	struct engine_state *state = engine->state;

	if (is_suspected(state, family, page, nr_pages))
		return;
	if (state->nr_suspects >= ENGINE_SUSPECTS) {
		state->suspects_all = 1;
		return;
	}
	state->suspect[state->nr_suspects] =
		(struct engine_suspect){.family = family, .page = page, .nr_pages = nr_pages};
	in_order();
	state->nr_suspects++;
	in_order();
}

/* What of a flight is not marked. */
static void suspect_flight(struct session *s, const struct engine_flight *flight)
{
	uint64_t at = flight->start, end = at + (flight->nr_pages << PAGE_SHIFT);
	struct tracker_run run;

	while (at < end && tracker_next(s->tracker, at, (end - at) >> PAGE_SHIFT, &run) &&
	       run.start < end) {
		run.nr_pages = min_u64(run.nr_pages, (end - run.start) >> PAGE_SHIFT);
		log_debug("%s: perhaps there: 0x%llx, %llu pages", s->name,
		          (unsigned long long)run.start, (unsigned long long)run.nr_pages);
		suspect(s->engine, s->family->id, tracker_page(s->tracker, run.start),
		        run.nr_pages);
		at = run.start + (run.nr_pages << PAGE_SHIFT);
	}
}

/* It may still be said of somebody that he misses it, or of a child of his to come. */
static bool is_open(const struct engine *engine, const struct engine_suspect *suspect)
{
	const struct session *s;
	struct tracker_run run;
	uint64_t page;

	TAILQ_FOREACH(s, &engine->sessions, link) {
		if (s->family->id != suspect->family || s->state != SESSION_SERVING)
			continue;
		if (s->held_by || s->unquiet || tracker_in_window(s->tracker) ||
		    tracker_find(s->tracker, suspect->page, suspect->nr_pages, &run, &page))
			return true;
	}
	return false;
}

/* A death within this leaves one twice, at worst. */
static void drop_settled(struct engine *engine)
{
	struct engine_state *state = engine->state;
	uint32_t i = 0;

	while (i < state->nr_suspects) {
		if (is_open(engine, &state->suspect[i])) {
			i++;
			continue;
		}
		state->suspect[i] = state->suspect[state->nr_suspects - 1];
		in_order();
		state->nr_suspects--;
	}
}

int flight_resume(struct engine *engine, struct err *err)
{
	struct engine_state *state = engine->state;
	struct session *s;

	if (state->nr_suspects > ENGINE_SUSPECTS)
		return err_set(err, EPROTO, "%u suspects", state->nr_suspects);
	for (size_t i = 0; i < ENGINE_FLIGHTS; i++) {
		struct engine_flight *flight = &state->flight[i];

		if (flight->nr_pages > (USER_ADDRESS_END >> PAGE_SHIFT) ||
		    flight->start > USER_ADDRESS_END || !page_aligned(flight->start))
			return err_set(err, EPROTO, "%llu pages in flight to 0x%llx",
			               (unsigned long long)flight->nr_pages,
			               (unsigned long long)flight->start);
		TAILQ_FOREACH(s, &engine->sessions, link)
			if (flight->nr_pages && s->id == flight->session)
				suspect_flight(s, flight);
		in_order();
		flight->nr_pages = 0;
	}
	drop_settled(engine);
	if (state->suspects_all && engine->options.background == BACKGROUND_OFF) {
		log_info("too many workers have died to know what they had brought: bringing it "
		         "all");
		engine->options.background = BACKGROUND_FULL;
	}
	return 0;
}

bool flight_any_suspects(const struct engine *engine)
{
	return engine->state && engine->state->nr_suspects;
}

/* The first that nobody of the family is fetching. */
static bool next_of(const struct session *s, const struct engine_suspect *suspect,
                    uint64_t max_pages, struct tracker_run *ret)
{
	uint64_t page = suspect->page, end = page + suspect->nr_pages;
	const struct session *other;

	while (page < end && tracker_find(s->tracker, page, end - page, ret, &page)) {
		uint64_t start = ret->start, on = start;

		ret->nr_pages = min_u64(ret->nr_pages, max_pages);
		TAILQ_FOREACH(other, &s->family->members, family_link)
			if (ret->nr_pages)
				on = tracker_avoid(s->tracker, ret, other->tracker);
		if (ret->nr_pages)
			return true;
		page += (on - start) >> PAGE_SHIFT;
	}
	return false;
}

bool flight_next_suspect(struct session *s, uint64_t max_pages, struct tracker_run *ret)
{
	struct engine_state *state = s->engine->state;

	for (uint32_t i = 0; state && i < state->nr_suspects; i++)
		if (state->suspect[i].family == s->family->id &&
		    next_of(s, &state->suspect[i], max_pages, ret))
			return true;
	if (state)
		drop_settled(s->engine);
	return false;
}
