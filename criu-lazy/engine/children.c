/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Children that were forked while their parent's threads change its memory: until it is clear which
 * of those changes a child has seen (track/newborn.h) it is held: its events are read, but nothing
 * is copied to it.
 *
 * Usually that takes no longer than the fork itself: the parent is quiet when the thread that
 * forked has run again, and before that the child does not run either.  A parent whose threads
 * never pause is not quiet; then some more of its events are waited for, and HOLD_MAX at the
 * longest.
 */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/engine/session.h"
#include "criu-lazy/os/uffd.h"
#include "criu-lazy/track/newborn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const int64_t HOLD_MAX = 1 * NSEC_PER_SEC;

enum { ANSWERS_MAX = 512 };

/* What the kernel has said about a child. */
struct answer {
	uint64_t addr, len;
	bool mapped;
};

/*
 * Asked as soon as the FORK is read, when the child does not run yet, and about what is heard later
 * as soon as that is heard: what the child does meanwhile (growing tells nobody) is no witness.
 */
struct newborn {
	size_t nr;
	struct answer answer[ANSWERS_MAX];
};

/* For the journal; or what the journal says was said. */
struct inquiry {
	const struct session *child;
	uint8_t answer[ANSWERS_MAX];
	size_t nr, room;
};

static const struct answer *known(const struct newborn *n, uint64_t addr, uint64_t len)
{
	size_t i;

	for (i = 0; n && i < n->nr; i++)
		if (n->answer[i].addr == addr && n->answer[i].len == len)
			return &n->answer[i];
	return NULL;
}

/* For newborn_ask(). */
static int look(void *cookie, uint64_t addr, uint64_t len)
{
	struct session *child = cookie;
	struct newborn *n = child->newborn;
	enum uffd_outcome outcome;

	if (known(n, addr, len) || n->nr == ANSWERS_MAX)
		return 0;
	outcome = uffd_registered(child->uffd, addr, len);
	if (outcome != UFFD_CHANGING)
		n->answer[n->nr++] = (struct answer){addr, len, outcome != UFFD_NOWHERE};
	return 0;
}

static void look_now(struct session *child)
{
	const struct newborn_kernel kernel = {look, child};

	if (child->newborn && !child->engine->replaying)
		newborn_ask(child->tracker, &kernel);
}

static int mapped(void *cookie, uint64_t addr, uint64_t len)
{
	struct inquiry *inquiry = cookie;
	const struct answer *a = known(inquiry->child->newborn, addr, len);
	enum uffd_outcome outcome;
	bool is;

	outcome = a ? UFFD_DONE : uffd_registered(inquiry->child->uffd, addr, len);
	if (outcome == UFFD_CHANGING)
		return -1;
	is = a ? a->mapped : outcome != UFFD_NOWHERE;
	if (inquiry->nr < ANSWERS_MAX)
		inquiry->answer[inquiry->nr++] = is;
	return is;
}

static int mapped_then(void *cookie, uint64_t addr, uint64_t len)
{
	struct inquiry *inquiry = cookie;

	(void)addr;
	(void)len;
	return inquiry->nr < inquiry->room ? inquiry->answer[inquiry->nr++] : 0;
}

/* --- its own events --------------------------------------------------------------------------- */

bool child_reserve(struct session *child, size_t nr)
{
	size_t room = child->room_pending ? child->room_pending : nr;
	struct uffd_msg *grown;

	if (!child->held_by || child->nr_pending + nr <= child->room_pending)
		return true;
	while (room < child->nr_pending + nr)
		room *= 2;
	grown = realloc(child->pending, room * sizeof(*grown));
	if (!grown)
		return false;
	child->pending = grown;
	child->room_pending = room;
	return true;
}

void child_pend(struct session *child, const struct uffd_msg *msg)
{
	child->pending[child->nr_pending++] = *msg;
}

bool child_copy_pending(const struct session *parent, struct session *child)
{
	if (!parent->nr_pending)
		return true;
	child->pending = malloc(parent->nr_pending * sizeof(*child->pending));
	if (!child->pending)
		return false;
	memcpy(child->pending, parent->pending, parent->nr_pending * sizeof(*child->pending));
	child->nr_pending = child->room_pending = parent->nr_pending;
	return true;
}

void child_free(struct session *child)
{
	free(child->newborn);
	free(child->pending);
	child->newborn = NULL;
	child->pending = NULL;
	child->nr_pending = child->room_pending = 0;
}

static void apply_pending(struct session *child)
{
	struct err err = {0};
	size_t i;

	for (i = 0; i < child->nr_pending; i++) {
		if (tracker_reserve(child->tracker, 1) < 0 || !children_reserve(child, 1)) {
			err_set(&err, ENOMEM, "%s: its events", child->name);
			engine_fail(child->engine, &err); /* the next worker replays them */
			return;
		}
		child->engine->message = (uint32_t)i;
		session_apply(child, &child->pending[i]);
	}
}

static void let_go(struct session *child)
{
	child->held_by = NULL;
	child->engine->nr_held--;
	child->unquiet = true; /* its window is still open */
	child->nothing_free = false;
	apply_pending(child);
	child_free(child);
	session_account(child);
}

void replay_newborn(struct session *child, const uint8_t *answers, size_t nr)
{
	struct inquiry inquiry = {.child = child, .room = nr < ANSWERS_MAX ? nr : ANSWERS_MAX};
	const struct newborn_kernel kernel = {mapped_then, &inquiry};
	struct err err = {0};

	memcpy(inquiry.answer, answers, inquiry.room);
	if (!child->held_by)
		return;
	if (tracker_reserve(child->tracker, NEWBORN_RESERVE) < 0) {
		err_set(&err, ENOMEM, "%s", child->name);
		engine_fail(child->engine, &err);
		return;
	}
	newborn_end(child->tracker, &kernel);
	let_go(child);
}

/* --- holding ---------------------------------------------------------------------------------- */

void child_begin(struct session *child, struct session *parent)
{
	/* A grandchild: whoever its parent is still waiting for. */
	child->held_by = parent->held_by && !parent->heard_enough ? parent->held_by : parent;
	if (child->held_by != parent)
		newborn_of_newborn(child->tracker, parent->tracker);
	child->held_since = clock_now();
	child->engine->nr_held++;
	child->newborn = calloc(1, sizeof(*child->newborn)); /* without it: later, less surely */
	look_now(child);
}

bool children_reserve(const struct session *parent, size_t nr)
{
	struct session *child;

	TAILQ_FOREACH(child, &parent->engine->sessions, link)
		if (child->held_by == parent && !child->heard_enough &&
		    tracker_reserve(child->tracker, nr) < 0)
			return false;
	return true;
}

static void hear(struct session *child, const struct uffd_msg *msg)
{
	if (child->engine->replaying)
		replay_date(child);
	if (msg->event == UFFD_EVENT_REMAP)
		tracker_remap(child->tracker, msg->arg.remap.from, msg->arg.remap.to,
		              msg->arg.remap.len);
	else if (msg->event == UFFD_EVENT_UNMAP)
		tracker_unmap(child->tracker, msg->arg.remove.start, msg->arg.remove.end);
	else
		return;
	record_date(child);
	look_now(child);
	session_account(child);
	child->heard_enough = newborn_is_due(child->tracker);
	if (child->heard_enough)
		session_ready(child);
}

void children_hear(struct session *parent, const struct uffd_msg *msg)
{
	struct session *child;

	TAILQ_FOREACH(child, &parent->engine->sessions, link)
		if (child->held_by == parent && !child->heard_enough &&
		    child->state == SESSION_SERVING)
			hear(child, msg);
}

bool child_is_held(struct session *child)
{
	struct inquiry inquiry = {.child = child};
	const struct newborn_kernel kernel = {mapped, &inquiry};

	if (!child->heard_enough && clock_now() - child->held_since < HOLD_MAX)
		return true;
	if (tracker_reserve(child->tracker, NEWBORN_RESERVE) < 0 ||
	    !newborn_end(child->tracker, &kernel))
		return true;
	if (!child->heard_enough)
		log_warn("%s: its parent has not been quiet since the fork", child->name);
	record_newborn(child, inquiry.answer, inquiry.nr);
	let_go(child);
	record_applied(child);
	return false;
}

void children_let_go(struct session *parent)
{
	struct session *child;

	TAILQ_FOREACH(child, &parent->engine->sessions, link) {
		if (child->held_by != parent || child->heard_enough)
			continue;
		child->heard_enough = true;
		session_ready(child);
	}
}
