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

static const int64_t HOLD_MAX = 1 * NSEC_PER_SEC;

static int mapped(void *cookie, uint64_t addr, uint64_t len)
{
	const struct session *child = cookie;
	enum uffd_outcome outcome = uffd_registered(child->uffd, addr, len);

	return outcome == UFFD_CHANGING ? -1 : outcome != UFFD_NOWHERE;
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
	if (msg->event == UFFD_EVENT_REMAP)
		tracker_remap(child->tracker, msg->arg.remap.from, msg->arg.remap.to,
		              msg->arg.remap.len);
	else if (msg->event == UFFD_EVENT_UNMAP)
		tracker_unmap(child->tracker, msg->arg.remove.start, msg->arg.remove.end);
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
	const struct newborn_kernel kernel = {mapped, child};

	if (!child->heard_enough && clock_now() - child->held_since < HOLD_MAX)
		return true;
	if (tracker_reserve(child->tracker, NEWBORN_RESERVE) < 0 ||
	    !newborn_end(child->tracker, &kernel))
		return true;
	if (!child->heard_enough)
		log_warn("%s: its parent has not been quiet since the fork", child->name);
	child->held_by = NULL;
	child->engine->nr_held--;
	child->unquiet = true; /* its window is still open */
	child->nothing_free = false;
	session_account(child);
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
