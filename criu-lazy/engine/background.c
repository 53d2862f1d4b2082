/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages that nobody has asked for yet: what comes next, and how much of it at once.
 *
 * A fault that arrives waits until the running chunk is copied, so chunks are short while faults
 * come and longer when they do not.  They grow again while faults come without a pause: who answers
 * somebody faults for milliseconds and wants short waits; who still does nothing but fault after
 * that wants few waits, and only more pages in place make them few.
 *
 * The page after the last fault comes first, then on to the end of memory and round again.  Every
 * other turn belongs to the session that faulted last, the rest go round.
 */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/engine/copier.h"
#include "criu-lazy/engine/session.h"

#include <errno.h>

enum {
	CHUNK_BUSY = 4, /* pages: 5 us */
	CHUNK_CALM = 16,
	CHUNK_STORM = 32, /* at most, when faults do not end */
	CHUNK_STREAK = 128, /* for one who walks straight on: he needs just these */
	CHUNK_AHEAD = 512, /* 0.6 ms, when he had to wait after all, and nobody else can */
	CHUNK_IDLE = 64, /* 75 us */
	STREAK = 4, /* faults */
	CHUNK_DEAR = 64, /* for a source over a network */
	IN_FLIGHT = 24, /* requests of a family to a source that answers later */
};

static const int64_t BUSY_TIME = 200 * NSEC_PER_USEC;

/* A page more for a chunk each time that a storm has lasted so much longer; see SPEED.md. */
static const int64_t STORM_PAGE = 8 * NSEC_PER_MSEC;

/* While the copier has chunks of it, too: nobody else tells when they are done. */
static bool wants(const struct session *s)
{
	return s->state == SESSION_SERVING && s->retry_at == CLOCK_NEVER &&
	       tracker_nr_missing(s->tracker) && (!s->nothing_free || s->nr_copies) &&
	       !s->held_by && s->family->nr_background < IN_FLIGHT;
}

int64_t background_deadline(const struct engine *engine)
{
	const struct session *s;

	if (!engine->background ||
	    (engine->options.background == BACKGROUND_OFF && !flight_any_suspects(engine)))
		return CLOCK_NEVER;
	if (engine->turn && wants(engine->turn))
		return engine->tokens_at;
	TAILQ_FOREACH(s, &engine->sessions, link)
		if (wants(s))
			return engine->tokens_at;
	return CLOCK_NEVER;
}

static struct session *whose_turn(struct engine *engine)
{
	struct session *first, *s;

	engine->flip = !engine->flip;
	if (engine->flip && engine->hot && wants(engine->hot))
		return engine->hot;
	first = s = engine->turn ? engine->turn : TAILQ_FIRST(&engine->sessions);
	do {
		if (!s)
			return NULL;
		if (wants(s)) {
			engine->turn = s;
			return s;
		}
		s = TAILQ_NEXT(s, link);
		if (!s)
			s = TAILQ_FIRST(&engine->sessions);
	} while (s != first);
	return NULL;
}

static uint64_t storm_pages(const struct engine *engine, int64_t now)
{
	int64_t lasted = max_i64(0, now - engine->storm_since);

	return min_u64((uint64_t)(lasted / STORM_PAGE), CHUNK_STORM);
}

static uint64_t chunk_pages(const struct engine *engine, struct session *s, int64_t now)
{
	int64_t calm = now - engine->last_fault;
	uint64_t chunk = calm >= STORM_PAUSE   ? CHUNK_IDLE
	                 : s->streak >= STREAK ? CHUNK_STREAK
	                 : calm >= BUSY_TIME   ? max_u64(CHUNK_CALM, storm_pages(engine, now))
	                                       : max_u64(CHUNK_BUSY, storm_pages(engine, now));

	if (source_is_dear(s->source))
		return CHUNK_DEAR; /* it sees to it that faults overtake */
	if (s->chunk_limit >= CHUNK_IDLE)
		return chunk;
	chunk = min_u64(chunk, s->chunk_limit);
	s->chunk_limit *= 2; /* halved again where mappings are small */
	return chunk;
}

static bool next_run(struct session *s, uint64_t chunk, struct tracker_run *run)
{
	if (s->engine->options.background == BACKGROUND_OFF) {
		s->nothing_free = !flight_next_suspect(s, chunk, run);
		return !s->nothing_free;
	}
	if (family_next(s, s->cursor, chunk, run))
		return true;
	s->cursor = 0;
	s->nothing_free = !family_next(s, 0, chunk, run);
	return !s->nothing_free;
}

static void later(struct session *s, struct fetch *fetch, struct tracker_run *run)
{
	run->nr_pages = fetch_request(fetch)->nr_pages;
	if (!fetch_begin(fetch, run))
		session_retry(s);
	s->cursor = run->start + (run->nr_pages << PAGE_SHIFT);
}

/* false: nothing more to be tried for this session in this turn. */
static bool copy_chunk(struct session *s, struct tracker_run *run, bool give)
{
	struct engine *engine = s->engine;
	struct source_bytes bytes;
	struct err err = {0};
	struct fetch *fetch = fetch_new(s, run, false);
	uint64_t at = run->start;

	if (!fetch) {
		session_retry(s);
		return false;
	}
	switch (engine->abandoning ? given_up(&err)
	                           : source_fetch(s->source, fetch_request(fetch), &bytes, &err)) {
	case SOURCE_LATER:
		later(s, fetch, run);
		return true;
	case SOURCE_LOST:
		fetch_free(fetch);
		do /* one at a time: the rest may be there, unless all is given up */
			lost_page(s, at, run->img + (at - run->start), &err);
		while (engine->abandoning && s->state == SESSION_SERVING &&
		       (at += PAGE_SIZE) < run->start + (run->nr_pages << PAGE_SHIFT));
		return false;
	case SOURCE_HERE:
		break;
	}
	run->nr_pages = bytes.nr_pages;
	if (bytes.lasting && !s->expected && run->nr_pages >= CHUNK_CALM)
		source_expect(s->source, run->img, run->nr_pages);
	if (give && bytes.lasting && fetch_give(fetch, run, bytes.bytes)) {
		s->cursor = run->start + (run->nr_pages << PAGE_SHIFT);
		return true;
	}
	fetch_free(fetch);
	if (s->own_chunks)
		s->own_chunks--;
	switch (session_fill(s, run, bytes.bytes, &engine->stats->pages_background, &at)) {
	case FILL_DONE:
		s->cursor = run->start + (run->nr_pages << PAGE_SHIFT);
		if (!tracker_nr_missing(s->tracker))
			session_ready(s);
		return true;
	case FILL_RETRY:
		session_retry(s);
		break;
	case FILL_LOST:
		err_set(&err, EIO, "reading the image");
		lost_page(s, at, run->img + (at - run->start), &err);
		break;
	case FILL_ENDED:
		break;
	}
	return false;
}

/*
 * The program sleeps until the whole run is copied, but then it does not come back at once: many
 * short waits cost more in waking than the copying takes.  While it sleeps its processor is free
 * for the copier.
 */
void background_ahead(struct session *s, struct tracker_run *run)
{
	struct engine *engine = s->engine;
	uint64_t ahead = engine->nr_sessions > 1 ? CHUNK_IDLE : CHUNK_AHEAD;
	struct tracker_run next;

	if (s->streak < STREAK || !engine->background || source_is_dear(s->source) ||
	    engine->options.background != BACKGROUND_FULL || s->chunk_limit < CHUNK_IDLE)
		return;
	tracker_next(s->tracker, run->start, ahead, run);
	if (!engine->copier || s->own_chunks || !copier_has_room(engine->copier))
		return;
	if (tracker_next(s->tracker, run->start + (run->nr_pages << PAGE_SHIFT), ahead, &next))
		copy_chunk(s, &next, true);
}

void engine_background(struct engine *engine, int64_t now)
{
	struct session *s = whose_turn(engine);
	struct tracker_run run;
	uint64_t chunk;

	if (!s)
		return;
	engine->turn = TAILQ_NEXT(s, link);
	if (!session_quiet(s)) {
		if (s->state == SESSION_SERVING)
			session_retry(s);
		return;
	}
	chunk = chunk_pages(engine, s, now);
	if (engine->copier && chunk >= CHUNK_IDLE && !s->own_chunks) {
		/* One for the copier, so that it works while we copy the next. */
		while (copier_has_room(engine->copier) && next_run(s, chunk, &run) &&
		       copy_chunk(s, &run, true))
			;
		if (s->state != SESSION_SERVING)
			return;
	}
	if (!next_run(s, chunk, &run))
		return; /* all on its way: until something of it arrives */
	if (engine->options.background == BACKGROUND_RATE) {
		int64_t cost = (int64_t)((double)(run.nr_pages << PAGE_SHIFT) /
		                         (double)engine->options.rate * (double)NSEC_PER_SEC);

		/* What was not used is not saved up. */
		engine->tokens_at = (engine->tokens_at > now ? engine->tokens_at : now) + cost;
	}
	copy_chunk(s, &run, false);
}
