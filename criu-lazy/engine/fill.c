/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a fault to a page in place: verdict, source, copy, and what each refusal of the kernel
 *means.
 *
 *	copy says	then
 *	CHANGING	read events, ask the tracker again, retry; nothing is dropped
 *	EXISTS		the page is there (another fault, or the child got it by fork): wake
 *	NOWHERE		of several pages: a boundary of mappings lies inside, take half; of one
 *page, when no change is unfinished: it is unmapped EXITED		the session is over
 *	NO_SOURCE	the image cannot be read: take half; of one page: lost
 *	NO_MEMORY	later again
 */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/engine/copier.h"
#include "criu-lazy/engine/session.h"
#include "criu-lazy/os/uffd.h"

#include <errno.h>
#include <stdlib.h>

struct fetch {
	SLIST_ENTRY(fetch) free_link;
	struct session *session;
	struct ticket *ticket; /* NULL: not begun, or the session ended meanwhile */
	bool background; /* nobody waited when it began (somebody may by now) */
	bool answering; /* the source has let go of it */
	struct tracker_run given; /* what the copier copies */
	struct source_request request;
};

enum { DRAIN_TRIES = 64 };

static void delivered(struct session *s, uint64_t start, uint64_t nr_pages, uint64_t *counter)
{
	uint64_t before = tracker_nr_missing(s->tracker), gone;

	tracker_delivered(s->tracker, start, nr_pages);
	gone = before - tracker_nr_missing(s->tracker);
	session_account(s);
	*counter += gone;
}

/* The page at addr was looked for in vain.  Is that final? */
static enum fill_result page_nowhere(struct session *s, uint64_t addr)
{
	uint64_t unmapped = 0;

	switch (uffd_registered(s->uffd, addr, PAGE_SIZE)) {
	case UFFD_NOWHERE:
		delivered(s, addr, 1, &unmapped);
		uffd_wake(s->uffd, addr, PAGE_SIZE);
		return FILL_DONE;
	case UFFD_EXITED:
		session_end(s, true);
		return FILL_ENDED;
	default:
		s->unquiet = true;
		return FILL_RETRY;
	}
}

enum fill_result session_fill(struct session *s, const struct tracker_run *run, const void *bytes,
                              uint64_t *counter, uint64_t *ret_at)
{
	uint64_t at = 0, len = run->nr_pages << PAGE_SHIFT, end = len, done;

	while (at < end) {
		uint64_t dst = run->start + at, present = 0;
		enum fill_result result;
		enum uffd_outcome outcome;

		len = min_u64(len, end - at);
		outcome = uffd_copy(s->uffd, dst, (const char *)bytes + at, len, &done);
		if (done) {
			delivered(s, dst, done >> PAGE_SHIFT, counter);
			at += done;
			dst += done;
			len -= done;
		}
		switch (outcome) {
		case UFFD_DONE:
			len = end - at;
			continue;
		case UFFD_EXISTS:
			delivered(s, dst, 1, &present);
			uffd_wake(s->uffd, dst, PAGE_SIZE);
			at += PAGE_SIZE;
			len = end - at;
			continue;
		case UFFD_CHANGING:
			s->unquiet = true;
			return FILL_RETRY;
		case UFFD_NOWHERE:
			if (len > PAGE_SIZE) {
				len = page_down(len / 2);
				s->chunk_limit = max_u64(1, len >> PAGE_SHIFT);
				continue;
			}
			result = page_nowhere(s, dst);
			if (result != FILL_DONE)
				return result;
			at += PAGE_SIZE;
			len = end - at;
			continue;
		case UFFD_NO_SOURCE:
			if (len > PAGE_SIZE) {
				len = page_down(len / 2);
				continue;
			}
			*ret_at = dst;
			return FILL_LOST;
		case UFFD_EXITED:
			session_end(s, true);
			return FILL_ENDED;
		case UFFD_NO_MEMORY:
			return FILL_RETRY;
		case UFFD_REFUSED:
			log_error("%s: copy to 0x%llx: %m", s->name, (unsigned long long)dst);
			*ret_at = dst;
			return FILL_LOST;
		}
	}
	return FILL_DONE;
}

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

/* Copy what of the answer still has a place.  The bytes last until we return, so changes of the
 * address space are waited out here, within reason. */
static enum fill_result place_answer(struct fetch *fetch, const struct source_bytes *bytes,
                                     uint64_t *counter, uint64_t *ret_at)
{
	struct session *s = fetch->session;
	enum fill_result result = FILL_DONE;
	struct tracker_run run;
	uint64_t skip = 0;
	int tries = 0;

	while (tracker_place(s->tracker, fetch->ticket, skip, &run, &skip) &&
	       skip < bytes->nr_pages) {
		run.nr_pages = min_u64(run.nr_pages, bytes->nr_pages - skip);
		result = session_fill(s, &run, (const char *)bytes->bytes + (skip << PAGE_SHIFT),
		                      counter, ret_at);
		if (result == FILL_RETRY && tries++ < DRAIN_TRIES) {
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

static void fetch_done(struct source_request *request, const struct source_bytes *bytes,
                       const struct err *why)
{
	struct fetch *fetch = request->owner;
	struct session *s = fetch->session;
	struct engine *engine = s->engine;
	uint64_t *counter =
		request->urgent ? &engine->stats.pages_fault : &engine->stats.pages_background;
	uint64_t at = 0;
	struct err err = {0};
	enum fill_result result = FILL_LOST;

	fetch->answering = true;
	if (bytes) {
		result = place_answer(fetch, bytes, counter, &at);
		if (result == FILL_LOST)
			err_set(&err, EIO, "reading the image");
	} else {
		struct tracker_run run;
		uint64_t skip;

		if (tracker_place(s->tracker, fetch->ticket, 0, &run, &skip))
			at = run.start;
	}
	if (!fetch->ticket || s->state != SESSION_SERVING) {
		if (fetch->ticket)
			tracker_end(s->tracker, fetch->ticket);
		fetch_free(fetch);
		return;
	}
	tracker_end(s->tracker, fetch->ticket);
	if (result == FILL_LOST && at)
		lost_page(s, at, request->img, why ? why : &err);
	if (fetch->background)
		s->nr_in_flight--;
	fetch_free(fetch);
	requeue_waiting(s);
	if (result == FILL_RETRY)
		session_retry(s);
	session_ready(s);
}

struct fetch *fetch_new(struct session *s, const struct tracker_run *run, bool urgent)
{
	struct fetch *fetch = SLIST_FIRST(&s->engine->free_fetches);

	if (fetch)
		SLIST_REMOVE_HEAD(&s->engine->free_fetches, free_link);
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
	SLIST_INSERT_HEAD(&fetch->session->engine->free_fetches, fetch, free_link);
}

void engine_free_fetches(struct engine *engine)
{
	struct fetch *fetch;

	while ((fetch = SLIST_FIRST(&engine->free_fetches))) {
		SLIST_REMOVE_HEAD(&engine->free_fetches, free_link);
		free(fetch);
	}
}

struct source_request *fetch_request(struct fetch *fetch)
{
	return &fetch->request;
}

bool fetch_begin(struct fetch *fetch, const struct tracker_run *run)
{
	struct session *s = fetch->session;
	struct tracker_run asked = *run;

	asked.nr_pages = fetch->request.nr_pages;
	fetch->ticket = tracker_begin(s->tracker, &asked, fetch);
	if (fetch->ticket) {
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
			continue; /* fetch_done() is on the stack and frees it */
		source_cancel(s->source, &fetch->request);
		fetch_free(fetch);
	}
}

/* --- chunks that the copier copies ----------------------------------------------------------- */

bool fetch_give(struct fetch *fetch, const struct tracker_run *run, const void *bytes)
{
	struct session *s = fetch->session;

	fetch->ticket = tracker_begin(s->tracker, run, fetch);
	if (!fetch->ticket)
		return false;
	fetch->given = *run;
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
		delivered(s, fetch->given.start, result->done >> PAGE_SHIFT,
		          &s->engine->stats.pages_background);
	tracker_end(s->tracker, fetch->ticket);
	fetch_free(fetch);
	if (result->outcome == UFFD_CHANGING)
		s->unquiet = true;
	if (result->outcome != UFFD_DONE) /* what it means is found out by ourselves */
		s->own_chunks = OWN_CHUNKS;
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

/* --- faults ---------------------------------------------------------------------------------- */

static enum fill_result answer_fetch(struct session *s, const struct fault *fault, uint64_t img)
{
	struct engine *engine = s->engine;
	struct tracker_run run = {.start = page_down(fault->addr), .img = img, .nr_pages = 1};
	struct source_request *request;
	struct source_bytes bytes;
	enum fill_result result;
	struct fetch *fetch;
	struct err err = {0};
	uint64_t at, copied = 0;

	background_ahead(s, &run);
	fetch = fetch_new(s, &run, true);
	if (!fetch)
		return FILL_RETRY;
	request = fetch_request(fetch);
	switch (source_fetch(s->source, request, &bytes, &err)) {
	case SOURCE_LATER:
		if (!fetch_begin(fetch, &run) || fault_list_reserve(&s->waiting, 1) < 0)
			return FILL_RETRY;
		fault_list_push(&s->waiting, fault->addr, fault->since);
		return FILL_ENDED; /* not answered, and nothing more to do now */
	case SOURCE_LOST:
		fetch_free(fetch);
		return lost_page(s, run.start, img, &err) ? FILL_LOST : FILL_RETRY;
	case SOURCE_HERE:
		break;
	}
	fetch_free(fetch);
	run.nr_pages = bytes.nr_pages;
	result = session_fill(s, &run, bytes.bytes, &copied, &at);
	if (copied) { /* the first of them is what the fault was about */
		engine->stats.pages_fault++;
		engine->stats.pages_background += copied - 1;
	}
	if (result == FILL_LOST && at != run.start)
		return FILL_DONE; /* whoever needs that one asks for it */
	if (result == FILL_LOST) {
		err_set(&err, EIO, "reading the image");
		return lost_page(s, run.start, img, &err) ? FILL_LOST : FILL_RETRY;
	}
	return result;
}

static enum fill_result answer_zero(struct session *s, const struct fault *fault)
{
	switch (uffd_zero(s->uffd, fault->addr)) {
	case UFFD_DONE:
		s->engine->stats.pages_zero++;
		return FILL_DONE;
	case UFFD_EXISTS:
		uffd_wake(s->uffd, fault->addr, PAGE_SIZE);
		return FILL_DONE;
	case UFFD_NOWHERE:
		return page_nowhere(s, page_down(fault->addr));
	case UFFD_CHANGING:
		s->unquiet = true;
		return FILL_RETRY;
	case UFFD_EXITED:
		session_end(s, true);
		return FILL_ENDED;
	default:
		return FILL_RETRY;
	}
}

/* FILL_ENDED: answered later, or never. */
static enum fill_result answer(struct session *s, const struct fault *fault)
{
	struct ticket *ticket;
	uint64_t img;

	switch (tracker_fault(s->tracker, fault->addr, &img, &ticket)) {
	case TRACKER_FETCH:
		return answer_fetch(s, fault, img);
	case TRACKER_JOIN:
		if (fault_list_reserve(&s->waiting, 1) < 0)
			return FILL_RETRY;
		source_hurry(s->source, fetch_request(ticket_cookie(ticket)));
		fault_list_push(&s->waiting, fault->addr, fault->since);
		return FILL_ENDED;
	case TRACKER_ZERO:
		break;
	}
	return answer_zero(s, fault);
}

/* The background goes on behind the fault; does the program walk straight on? */
static void note_fault(struct session *s, uint64_t page)
{
	enum { STRIDE = 4096 }; /* pages: more than is copied between two of its faults */

	if (page - s->last_fault <= STRIDE * PAGE_SIZE)
		s->streak++;
	else
		s->streak = 0;
	s->last_fault = page;
	s->cursor = page + PAGE_SIZE;
}

void session_answer_faults(struct session *s)
{
	struct engine *engine = s->engine;
	size_t i, kept = 0, nr = s->faults.nr;

	for (i = 0; i < nr && s->state == SESSION_SERVING; i++) {
		struct fault fault = s->faults.fault[i];
		enum fill_result result = answer(s, &fault);

		if (s->state != SESSION_SERVING)
			return;
		if (result == FILL_RETRY) {
			s->faults.fault[kept++] = fault;
		} else if (result == FILL_DONE) {
			engine->last_fault = clock_now();
			engine->hot = s;
			hist_add(&engine->stats.fault,
			         (uint64_t)(engine->last_fault - fault.since));
			note_fault(s, page_down(fault.addr));
		}
	}
	s->faults.nr = kept;
	if (kept)
		session_retry(s);
	else
		s->retry_delay = 0;
}
