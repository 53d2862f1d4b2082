/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is on its way: requests to a source that answers later, and chunks that the copier copies.
 *
 * A source that is dear (source_is_dear(): over a network) is asked for a page once for all address
 * spaces that came from one process by fork, its family: who needs a page that another one has
 * asked for waits for that, and each answer is given to every member that still lacks it.
 */
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/engine/copier.h"
#include "criu-lazy/engine/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct fetch {
	SLIST_ENTRY(fetch) link; /* of the free ones, or of its session's parked ones */
	struct session *session;
	struct ticket *ticket; /* NULL: not begun, or the session ended meanwhile */
	bool background; /* nobody waited when it began (somebody may by now) */
	bool asked; /* counted in its family */
	bool answering; /* the source has let go of it */
	struct tracker_run given; /* what the copier copies */
	size_t flight; /* and its note */
	struct source_request request;
	void *parked; /* an answer that has no place yet: the address space is changing */
	uint64_t nr_parked; /* pages */
};

enum { PLACE_TRIES = 4 };

/* --- requests that are answered later -------------------------------------------------------- */

static void requeue_waiting(struct session *s)
{
	size_t i;

	if (fault_list_reserve(&s->faults, s->waiting.nr) < 0)
		return; /* they stay waiting; the next event or answer tries again */
	for (i = 0; i < s->waiting.nr; i++)
		fault_list_push(&s->faults, s->waiting.fault[i].addr, s->waiting.fault[i].since);
	s->waiting.nr = 0;
	if (s->faults.nr)
		session_ready(s);
}

/*
 * Copy what of the answer has a place in s, which asked for it, or in a relative.  FILL_RETRY: it
 * is changing, all the time.
 */
static enum fill_result place_answer(struct session *s, const struct fetch *fetch,
                                     const struct source_bytes *bytes, int tries, uint64_t *counter,
                                     uint64_t *ret_at)
{
	enum fill_result result = FILL_DONE;
	struct tracker_run run;
	uint64_t skip = 0;

	while (fetch->ticket && tracker_place(s->tracker, fetch->ticket, skip, &run, &skip) &&
	       skip < bytes->nr_pages) {
		run.nr_pages = min_u64(run.nr_pages, bytes->nr_pages - skip);
		result = session_fill(s, &run, (const char *)bytes->bytes + (skip << PAGE_SHIFT),
		                      counter, ret_at);
		if (result == FILL_RETRY && tries-- > 0) {
			session_drain(s);
			if (s->state != SESSION_SERVING)
				return FILL_ENDED;
			session_quiet(s);
			continue;
		}
		if (result != FILL_DONE)
			return result;
	}
	return FILL_DONE;
}

/* To every relative that still lacks it, while it is at hand. */
static void share_answer(const struct fetch *fetch, const struct source_bytes *bytes)
{
	struct family *family = fetch->session->family;
	struct session *s, *next;
	uint64_t at;

	TAILQ_FOREACH_SAFE(s, &family->members, family_link, next) {
		if (s == fetch->session || s->state != SESSION_SERVING || s->held_by)
			continue;
		place_answer(s, fetch, bytes, PLACE_TRIES, &s->engine->stats->pages_background,
		             &at);
		if (s->state == SESSION_SERVING)
			session_ready(s); /* it may be complete */
	}
}

/* It is not on its way any more: who waits for it, and who found nothing to ask for, looks again.
 */
static void fetch_over(struct fetch *fetch)
{
	struct family *family = fetch->session->family;
	struct session *s;

	if (fetch->asked) {
		family->nr_asked--;
		family->nr_background -= fetch->background;
		TAILQ_FOREACH(s, &family->members, family_link) {
			s->nothing_free = false;
			requeue_waiting(s);
		}
	}
	fetch_free(fetch);
}

/*
 * Keep the answer until s is quiet for once: better than asking again, unless it stays with the
 * source.  false: no memory.
 */
static bool park(struct fetch *fetch, const struct source_bytes *bytes)
{
	struct session *s = fetch->session;
	size_t len = bytes->nr_pages << PAGE_SHIFT;

	fetch->parked = malloc(len);
	if (!fetch->parked)
		return false;
	memcpy(fetch->parked, bytes->bytes, len);
	fetch->nr_parked = bytes->nr_pages;
	SLIST_INSERT_HEAD(&s->parked, fetch, link);
	session_retry(s);
	return true;
}

static void unpark(struct fetch *fetch)
{
	SLIST_REMOVE(&fetch->session->parked, fetch, fetch, link);
	free(fetch->parked);
	fetch->parked = NULL;
}

static void fetch_done(struct source_request *request, const struct source_bytes *bytes,
                       const struct err *why)
{
	struct fetch *fetch = request->owner;
	struct session *s = fetch->session;
	struct engine *engine = s->engine;
	uint64_t *counter =
		request->urgent ? &engine->stats->pages_fault : &engine->stats->pages_background;
	uint64_t at = 0;
	struct err err = {0};
	enum fill_result result = FILL_LOST;
	struct tracker_run run;
	uint64_t skip;

	fetch->answering = true;
	if (bytes) {
		result = place_answer(s, fetch, bytes, PLACE_TRIES, counter, &at);
		if (result == FILL_LOST)
			err_set(&err, EIO, "reading the image");
		share_answer(fetch, bytes);
		if (result == FILL_RETRY && s->state == SESSION_SERVING && !bytes->lasting &&
		    park(fetch, bytes)) {
			fetch->answering = false;
			return;
		}
	} else if (tracker_place(s->tracker, fetch->ticket, 0, &run, &skip)) {
		at = run.start;
	}
	if (fetch->ticket)
		tracker_end(s->tracker, fetch->ticket);
	if (s->state == SESSION_SERVING) {
		if (result == FILL_LOST && at)
			lost_page(s, at, request->img, why ? why : &err);
		if (result == FILL_RETRY)
			session_retry(s);
		session_ready(s);
	}
	fetch_over(fetch);
}

void session_place_parked(struct session *s)
{
	struct fetch *fetch, *next;

	SLIST_FOREACH_SAFE(fetch, &s->parked, link, next) {
		struct source_bytes bytes = {.bytes = fetch->parked, .nr_pages = fetch->nr_parked};
		uint64_t *counter = fetch->request.urgent ? &s->engine->stats->pages_fault
		                                          : &s->engine->stats->pages_background;
		uint64_t at;

		fetch->answering = true;
		if (place_answer(s, fetch, &bytes, PLACE_TRIES, counter, &at) == FILL_RETRY &&
		    s->state == SESSION_SERVING) {
			fetch->answering = false;
			session_retry(s);
			return;
		}
		share_answer(fetch, &bytes);
		unpark(fetch);
		if (fetch->ticket)
			tracker_end(s->tracker, fetch->ticket);
		fetch_over(fetch);
		if (s->state != SESSION_SERVING)
			return;
	}
}

bool fetch_is_parked(const struct fetch *fetch)
{
	return fetch->parked;
}

enum fill_result fetch_place_parked(struct session *s, struct fetch *fetch)
{
	const struct source_bytes bytes = {.bytes = fetch->parked, .nr_pages = fetch->nr_parked};
	uint64_t at;

	return place_answer(s, fetch, &bytes, 0, &s->engine->stats->pages_fault, &at);
}

struct fetch *fetch_new(struct session *s, const struct tracker_run *run, bool urgent)
{
	struct fetch *fetch = SLIST_FIRST(&s->engine->free_fetches);

	if (fetch)
		SLIST_REMOVE_HEAD(&s->engine->free_fetches, link);
	else
		fetch = malloc(sizeof(*fetch));
	if (!fetch)
		return NULL;
	*fetch = (struct fetch){
		.session = s,
		.background = !urgent,
		.request = {.img = run->img,
	                    .nr_pages = run->nr_pages,
	                    .urgent = urgent,
	                    .done = fetch_done,
	                    .owner = fetch},
	};
	return fetch;
}

void fetch_free(struct fetch *fetch)
{
	SLIST_INSERT_HEAD(&fetch->session->engine->free_fetches, fetch, link);
}

void engine_free_fetches(struct engine *engine)
{
	struct fetch *fetch;

	while ((fetch = SLIST_FIRST(&engine->free_fetches))) {
		SLIST_REMOVE_HEAD(&engine->free_fetches, link);
		free(fetch);
	}
}

struct source_request *fetch_request(struct fetch *fetch)
{
	return &fetch->request;
}

void fetch_hurry(struct fetch *fetch)
{
	/* The source has let go of what is answered, and never held what the copier has. */
	if (fetch->asked && !fetch->answering && !fetch->parked)
		source_hurry(fetch->session->source, &fetch->request);
}

bool fetch_begin(struct fetch *fetch, const struct tracker_run *run)
{
	struct session *s = fetch->session;
	struct tracker_run asked = *run;

	asked.nr_pages = fetch->request.nr_pages;
	fetch->ticket = tracker_begin(s->tracker, &asked, fetch);
	if (fetch->ticket) {
		fetch->asked = true;
		s->family->nr_asked++;
		s->family->nr_background += fetch->background;
		session_timed(s);
		return true;
	}
	source_cancel(s->source, &fetch->request);
	fetch_free(fetch);
	return false;
}

void session_cancel_fetches(struct session *s)
{
	struct ticket *ticket;

	while ((ticket = tracker_any_ticket(s->tracker))) {
		struct fetch *fetch = ticket_cookie(ticket);

		tracker_end(s->tracker, ticket);
		fetch->ticket = NULL;
		if (fetch->answering)
			continue; /* who is answering is on the stack and frees it */
		if (fetch->parked)
			unpark(fetch);
		else
			source_cancel(s->source, &fetch->request);
		fetch_over(fetch);
	}
}

/* --- families -------------------------------------------------------------------------------- */

bool family_join(struct session *s, struct family *family)
{
	if (!family) {
		family = calloc(1, sizeof(*family));
		if (!family)
			return false;
		TAILQ_INIT(&family->members);
	}
	family->nr_owners++;
	TAILQ_INSERT_TAIL(&family->members, s, family_link);
	s->family = family;
	return true;
}

void family_leave(struct session *s)
{
	TAILQ_REMOVE(&s->family->members, s, family_link);
}

void family_free(struct family *family)
{
	if (family && !--family->nr_owners)
		free(family);
}

struct ticket *family_ticket(const struct session *s, uint64_t addr)
{
	const struct session *other;
	struct ticket *ticket;

	if (!s->family->nr_asked)
		return NULL;
	TAILQ_FOREACH(other, &s->family->members, family_link) {
		ticket = tracker_relatives_ticket(s->tracker, addr, other->tracker);
		if (ticket)
			return ticket;
	}
	return NULL;
}

bool family_next(const struct session *s, uint64_t from, uint64_t max_pages,
                 struct tracker_run *ret)
{
	const struct session *other;

	while (tracker_next(s->tracker, from, max_pages, ret)) {
		from = ret->start;
		if (s->family->nr_asked)
			TAILQ_FOREACH(other, &s->family->members, family_link)
				if (other != s)
					from = max_u64(from, tracker_avoid(s->tracker, ret,
					                                   other->tracker));
		if (ret->nr_pages)
			return true;
	}
	return false;
}

/* --- chunks that the copier copies ----------------------------------------------------------- */

bool fetch_give(struct fetch *fetch, const struct tracker_run *run, const void *bytes)
{
	struct session *s = fetch->session;

	fetch->ticket = tracker_begin(s->tracker, run, fetch);
	if (!fetch->ticket)
		return false;
	fetch->given = *run;
	fetch->flight = flight_give(s, run);
	s->nr_copies++;
	copier_copy(s->engine->copier, s->uffd, run->start, bytes, run->nr_pages << PAGE_SHIFT,
	            fetch);
	return true;
}

/* Nothing was read from the session's descriptor meanwhile, so the run is still where it was. */
static void take_back(const struct copier_result *result)
{
	enum { OWN_CHUNKS = 16 };
	struct fetch *fetch = result->owner;
	struct session *s = fetch->session;

	s->nr_copies--;
	if (result->done)
		session_delivered(s, fetch->given.start, result->done >> PAGE_SHIFT,
		                  &s->engine->stats->pages_background);
	flight_take_back(s, fetch->flight);
	tracker_end(s->tracker, fetch->ticket);
	fetch_free(fetch);
	requeue_waiting(s); /* a fault may have joined it */
	if (result->not_begun) {
		s->nothing_free = false;
		return;
	}
	if (result->outcome == UFFD_CHANGING)
		s->unquiet = true;
	if (result->outcome != UFFD_DONE) /* what it means is found out by ourselves */
		s->own_chunks = OWN_CHUNKS;
	if (result->outcome != UFFD_DONE)
		s->nothing_free = false;
	if (!tracker_nr_missing(s->tracker) || result->outcome != UFFD_DONE)
		session_ready(s);
}

void engine_reap(struct engine *engine)
{
	struct copier_result result;

	while (copier_reap(engine->copier, &result))
		take_back(&result);
}

void session_settle(struct session *s)
{
	struct copier_result result;

	while (s->nr_copies && copier_wait(s->engine->copier, &result))
		take_back(&result);
}
