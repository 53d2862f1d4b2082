/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is asked of the server, and in which order.
 *
 * Two queues: requests that a thread waits for, and the rest.  Urgent ones are sent at once, by the
 * urgent lane; the others as far as the window of their lane has room.  When one kind of lane is
 * down, or the server has only one, the lane that is left carries everything, urgent ones first.
 */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/source/remote-parts.h"

#include <stdlib.h>

/* So long after an urgent request the next one is expected. */
static const int64_t FAULTS_COME = 10 * NSEC_PER_MSEC;

/* --- an ask ---------------------------------------------------------------------------------- */

struct ask *ask_new(struct remote *r, struct source_request *request, uint32_t pid)
{
	struct ask *ask = TAILQ_FIRST(&r->free);

	if (ask)
		TAILQ_REMOVE(&r->free, ask, link);
	else
		ask = malloc(sizeof(*ask));
	if (!ask)
		return NULL;
	*ask = (struct ask){
		.request = request,
		.pid = pid,
		.tag = r->next_tag++,
		.img = request->img,
		.nr_pages = min_u64(request->nr_pages, REMOTE_PIECE),
		.urgent = request->urgent,
	};
	request->link = ask;
	return ask;
}

static void ask_free(struct remote *r, struct ask *ask)
{
	TAILQ_INSERT_HEAD(&r->free, ask, link);
}

static void leave_queue(struct remote *r, struct ask *ask)
{
	TAILQ_REMOVE(&r->queue[ask->urgent], ask, link);
	if (!ask->urgent)
		r->queued -= ask->nr_pages << PAGE_SHIFT;
}

/* Nobody wants it any more. */
static void ask_drop(struct remote *r, struct ask *ask)
{
	ask->request = NULL;
	ask->twin = NULL;
	if (ask->lane)
		return; /* its answer still has to be read */
	leave_queue(r, ask);
	ask_free(r, ask);
}

void ask_put(struct remote *r, struct ask *ask)
{
	TAILQ_INSERT_TAIL(&r->queue[ask->urgent], ask, link);
	if (ask->urgent)
		r->last_urgent = clock_now();
	else
		r->queued += ask->nr_pages << PAGE_SHIFT;
	if (!r->depth)
		remote_pump(r);
}

void ask_again(struct remote *r, struct ask *ask)
{
	ask->lane = NULL;
	if (ask->twin) { /* that one is still on its way */
		ask->request->link = ask->twin;
		ask->twin->twin = NULL;
		ask->request = NULL;
	}
	if (!ask->request) {
		ask_free(r, ask);
		return;
	}
	if (ask->request->urgent)
		ask->urgent = true; /* by source_hurry() meanwhile */
	TAILQ_INSERT_HEAD(&r->queue[ask->urgent], ask, link);
	if (!ask->urgent)
		r->queued += ask->nr_pages << PAGE_SHIFT;
}

void ask_end(struct remote *r, struct ask *ask, const void *bytes, uint64_t nr_pages,
             const struct err *err)
{
	struct source_request *request = ask->request;
	struct source_bytes answer = {.bytes = bytes, .nr_pages = nr_pages};

	if (ask->twin)
		ask_drop(r, ask->twin);
	ask_free(r, ask);
	if (!request)
		return;
	request->link = NULL;
	request->done(request, bytes ? &answer : NULL, err);
}

void ask_cancel(struct remote *r, struct ask *ask)
{
	if (ask->twin)
		ask_drop(r, ask->twin);
	ask_drop(r, ask);
}

/* A second one for the urgent lane, when the first stands behind more than comes in a round trip.
 */
static void ask_twice(struct remote *r, struct ask *ask)
{
	const struct lane *lane = ask->lane;
	uint64_t behind = ask->asked_before - lane->answered;
	struct ask *twin;

	if (ask->twin || !r->ours || !r->lane[0] || lane == r->lane[0])
		return;
	if (behind <= REMOTE_HURRY_BEHIND || behind <= pace_carried(&r->pace[lane->index]))
		return;
	twin = ask_new(r, ask->request, ask->pid);
	if (!twin)
		return;
	twin->nr_pages = min_u64(ask->nr_pages, REMOTE_HURRY_PIECE);
	twin->twin = ask;
	twin->urgent = true;
	ask->twin = twin;
	ask_put(r, twin);
}

void ask_hurry(struct remote *r, struct ask *ask)
{
	r->last_urgent = clock_now();
	if (ask->urgent)
		return;
	if (ask->lane) {
		ask_twice(r, ask);
		return;
	}
	leave_queue(r, ask);
	ask->urgent = true;
	ask_put(r, ask);
}

/* --- all of them ----------------------------------------------------------------------------- */

void asks_again(struct remote *r, struct lane *lane)
{
	struct ask *ask;

	while ((ask = TAILQ_LAST(&lane->sent, ask_list))) {
		TAILQ_REMOVE(&lane->sent, ask, link);
		ask_again(r, ask);
	}
}

void asks_lost(struct remote *r, const struct err *err)
{
	struct ask *ask;

	while ((ask = TAILQ_FIRST(&r->queue[true])) || (ask = TAILQ_FIRST(&r->queue[false]))) {
		leave_queue(r, ask);
		ask_end(r, ask, NULL, 0, err);
	}
}

static void free_list(struct ask_list *list)
{
	struct ask *ask;

	while ((ask = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, ask, link);
		free(ask);
	}
}

void asks_free(struct remote *r)
{
	free_list(&r->queue[false]);
	free_list(&r->queue[true]);
	free_list(&r->free);
}

/* --- what is sent next ----------------------------------------------------------------------- */

static bool has_bulk_lane(const struct remote *r)
{
	for (unsigned i = 1; i < REMOTE_MAX_LANES; i++)
		if (r->lane[i])
			return true;
	return false;
}

static uint64_t remote_window(const struct remote *r, unsigned index, int64_t now)
{
	return pace_window(&r->pace[index], now - r->last_urgent > FAULTS_COME);
}

uint64_t remote_room(const struct remote *r)
{
	unsigned first = has_bulk_lane(r) ? 1 : 0;
	uint64_t room = 0, window, in_flight;
	int64_t now = clock_now();

	for (unsigned i = first; i < REMOTE_MAX_LANES; i++) {
		if (!r->lane[i])
			continue;
		window = remote_window(r, i, now);
		in_flight = r->lane[i]->asked - r->lane[i]->answered;
		room += window > in_flight ? window - in_flight : 0;
	}
	return room > r->queued ? room - r->queued : 0;
}

static bool has_room(struct remote *r, const struct lane *lane, const struct ask *ask, int64_t now)
{
	uint64_t in_flight = lane->asked - lane->answered;

	return !in_flight ||
	       in_flight + (ask->nr_pages << PAGE_SHIFT) <= remote_window(r, lane->index, now);
}

struct ask *ask_next(struct remote *r, const struct lane *lane, int64_t now)
{
	bool takes_urgent = lane->index == 0 || !r->lane[0];
	bool takes_bulk = lane->index > 0 || !has_bulk_lane(r);
	struct ask *ask = takes_urgent ? TAILQ_FIRST(&r->queue[true]) : NULL;

	if (!ask && takes_bulk) {
		ask = TAILQ_FIRST(&r->queue[false]);
		if (ask && !has_room(r, lane, ask, now))
			ask = NULL;
	}
	if (ask)
		leave_queue(r, ask);
	return ask;
}

void remote_pump(struct remote *r)
{
	int64_t now = clock_now();

	for (unsigned i = 0; i < REMOTE_MAX_LANES; i++)
		if (r->lane[i])
			lane_send(r->lane[i], now);
}
