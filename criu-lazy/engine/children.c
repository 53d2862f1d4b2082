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
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/engine/session.h"
#include "criu-lazy/os/uffd.h"
#include "criu-lazy/track/newborn.h"

#include <string.h>

static const int64_t HOLD_MAX = 1 * NSEC_PER_SEC;

enum { ANSWERS_MAX = 512 };

/* What the kernel says about a child, kept for the journal; or what the journal says it said. */
struct inquiry {
	const struct session *child;
	uint8_t answer[ANSWERS_MAX];
	size_t nr, room;
};

static int mapped(void *cookie, uint64_t addr, uint64_t len)
{
	struct inquiry *inquiry = cookie;
	enum uffd_outcome outcome = uffd_registered(inquiry->child->uffd, addr, len);

	if (outcome == UFFD_CHANGING)
		return -1;
	if (inquiry->nr < ANSWERS_MAX)
		inquiry->answer[inquiry->nr++] = outcome != UFFD_NOWHERE;
	return outcome != UFFD_NOWHERE;
}

static int mapped_then(void *cookie, uint64_t addr, uint64_t len)
{
	struct inquiry *inquiry = cookie;

	(void)addr;
	(void)len;
	return inquiry->nr < inquiry->room ? inquiry->answer[inquiry->nr++] : 0;
}

static void let_go(struct session *child)
{
	child->held_by = NULL;
	child->engine->nr_held--;
	child->unquiet = true; /* its window is still open */
	child->nothing_free = false;
	session_account(child);
}

void replay_newborn(struct session *child, const uint8_t *answers, size_t nr)
{
	struct inquiry inquiry = {.child = child, .room = nr < ANSWERS_MAX ? nr : ANSWERS_MAX};
	const struct newborn_kernel kernel = {mapped_then, &inquiry};

	memcpy(inquiry.answer, answers, inquiry.room);
	if (!child->held_by || tracker_reserve(child->tracker, NEWBORN_RESERVE) < 0)
		return;
	newborn_end(child->tracker, &kernel);
	let_go(child);
}

void child_begin(struct session *child, struct session *parent)
{
	/* A grandchild: whoever its parent is still waiting for. */
	child->held_by = parent->held_by && !parent->heard_enough ? parent->held_by : parent;
	child->held_since = clock_now();
	child->engine->nr_held++;
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
