/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a fault to a page in place: verdict, source, copy, and what each refusal of the kernel
 * means.
 *
 *	copy says	then
 *	CHANGING	read events, ask the tracker again, retry; nothing is dropped
 *	EXISTS		the page is there (another fault, or the child got it by fork): wake
 *	NOWHERE		of several pages: a boundary of mappings lies inside, take half;
 *			of one page, when no change is unfinished: it is unmapped
 *	EXITED		the session is over
 *	NO_SOURCE	the image cannot be read: take half; of one page: lost
 *	NO_MEMORY	later again
 */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/engine/session.h"
#include "criu-lazy/os/uffd.h"

#include <errno.h>

void session_delivered(struct session *s, uint64_t start, uint64_t nr_pages, uint64_t *counter)
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
		session_delivered(s, addr, 1, &unmapped);
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

static enum fill_result fill(struct session *s, const struct tracker_run *run, const void *bytes,
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
			session_delivered(s, dst, done >> PAGE_SHIFT, counter);
			at += done;
			dst += done;
			len -= done;
		}
		switch (outcome) {
		case UFFD_DONE:
			len = end - at;
			continue;
		case UFFD_EXISTS:
			session_delivered(s, dst, 1, &present);
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

enum fill_result session_fill(struct session *s, const struct tracker_run *run, const void *bytes,
                              uint64_t *counter, uint64_t *ret_at)
{
	enum fill_result result;

	if (s->engine->failed.code)
		return FILL_RETRY;
	flight_begin(s, run);
	result = fill(s, run, bytes, counter, ret_at);
	flight_end(s);
	return result;
}

/* --- faults ---------------------------------------------------------------------------------- */

enum source_answer given_up(struct err *err)
{
	err_set(err, ECANCELED, "the restore is given up");
	return SOURCE_LOST;
}

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
	switch (engine->abandoning ? given_up(&err)
	                           : source_fetch(s->source, request, &bytes, &err)) {
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
		engine->stats->pages_fault++;
		engine->stats->pages_background += copied - 1;
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
		s->engine->stats->pages_zero++;
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

/* The page is on its way already. */
static enum fill_result join(struct session *s, const struct fault *fault,
                             const struct ticket *ticket)
{
	if (fault_list_reserve(&s->waiting, 1) < 0)
		return FILL_RETRY;
	fetch_hurry(ticket_cookie(ticket));
	fault_list_push(&s->waiting, fault->addr, fault->since);
	return FILL_ENDED;
}

/* What a relative has asked for is at hand. */
static enum fill_result answer_parked(struct session *s, const struct fault *fault,
                                      struct fetch *fetch)
{
	enum fill_result result = fetch_place_parked(s, fetch);
	struct ticket *ticket;
	uint64_t img;

	if (result == FILL_RETRY || result == FILL_ENDED)
		return result;
	/* A short answer may end before the page: then it is asked for like any other. */
	if (tracker_fault(s->tracker, fault->addr, &img, &ticket) == TRACKER_FETCH)
		return answer_fetch(s, fault, img);
	return FILL_DONE;
}

/* FILL_ENDED: answered later, or never. */
static enum fill_result answer(struct session *s, const struct fault *fault)
{
	struct ticket *ticket;
	uint64_t img;

	switch (tracker_fault(s->tracker, fault->addr, &img, &ticket)) {
	case TRACKER_FETCH:
		ticket = family_ticket(s, fault->addr);
		if (ticket && fetch_is_parked(ticket_cookie(ticket)))
			return answer_parked(s, fault, ticket_cookie(ticket));
		if (ticket)
			return join(s, fault, ticket);
		return answer_fetch(s, fault, img);
	case TRACKER_JOIN:
		return join(s, fault, ticket);
	case TRACKER_ZERO:
		break;
	}
	return answer_zero(s, fault);
}

static void note_time(struct engine *engine, int64_t now)
{
	if (now - engine->last_fault >= STORM_PAUSE)
		engine->storm_since = now;
	engine->last_fault = now;
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
			note_time(engine, clock_now());
			engine->hot = s;
			hist_add(&engine->stats->fault,
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
