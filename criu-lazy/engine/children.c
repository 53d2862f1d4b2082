/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Children that were forked while their parent's threads change its memory: until it is clear which
 * of those changes a child has seen (track/newborn.h) it is held: its events are read, but nothing
 * is copied to it.
 *
 * Usually that takes no longer than the fork itself: the parent is quiet when the thread that
 * forked has run again, and before that the child does not run either.  A parent whose threads
 * never pause is not quiet; then the child is let go when what it has mapped leaves nothing open,
 * and at the latest after HOLD_MAX.
 */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/engine/session.h"
#include "criu-lazy/os/uffd.h"
#include "criu-lazy/track/newborn.h"

#include <time.h>

enum { EVENTS = 100 }; /* more than a window's memory of events: what taking back may cost */

static const int64_t HOLD_MAX = 2 * NSEC_PER_SEC;
static const int64_t ASK_AFTER = 200 * NSEC_PER_USEC; /* usually the parent is quiet by then */

/* Waits a moment for a change that the child itself is making. */
static bool mapped(void *cookie, uint64_t addr, uint64_t len)
{
	enum { TRIES = 50 };
	static const struct timespec moment = {.tv_nsec = 20000};
	struct session *child = cookie;
	enum uffd_outcome outcome;
	int tries;

	for (tries = 0; tries < TRIES; tries++) {
		outcome = uffd_registered(child->uffd, addr, len);
		if (outcome != UFFD_CHANGING)
			return outcome != UFFD_NOWHERE;
		nanosleep(&moment, NULL);
	}
	return true;
}

static struct newborn_kernel kernel_of(struct session *child)
{
	return (struct newborn_kernel){mapped, child};
}

static void let_go(struct session *child)
{
	struct newborn_kernel kernel = kernel_of(child);

	newborn_end(child->tracker, &kernel);
	child->held_by = NULL;
	child->engine->nr_held--;
	child->unquiet = true; /* its window is still open */
	session_account(child);
	session_ready(child);
}

void child_begin(struct session *child, struct session *parent)
{
	struct newborn_kernel kernel = kernel_of(child);

	child->held_by = parent->held_by ? parent->held_by : parent;
	child->held_since = clock_now();
	child->engine->nr_held++;
	if (tracker_reserve(child->tracker, EVENTS) == 0)
		newborn_begin(child->tracker, &kernel);
	session_account(child);
}

static void hear(struct session *child, const struct uffd_msg *msg)
{
	struct newborn_kernel kernel = kernel_of(child);

	session_drain(child); /* its own changes first */
	if (tracker_reserve(child->tracker, EVENTS) < 0)
		return;
	if (msg->event == UFFD_EVENT_REMAP)
		newborn_remap(child->tracker, &kernel, msg->arg.remap.from, msg->arg.remap.to,
		              msg->arg.remap.len);
	else if (msg->event == UFFD_EVENT_UNMAP)
		newborn_unmap(child->tracker, &kernel, msg->arg.remove.start, msg->arg.remove.end);
	session_account(child);
}

void children_hear(struct session *parent, const struct uffd_msg *msg)
{
	struct session *child;

	/* New ones come to the end of the list, and none ends here. */
	TAILQ_FOREACH(child, &parent->engine->sessions, link)
		if (child->held_by == parent && child->state == SESSION_SERVING)
			hear(child, msg);
}

bool child_is_held(struct session *child)
{
	struct newborn_kernel kernel = kernel_of(child);
	int64_t held = clock_now() - child->held_since;
	bool late = held >= HOLD_MAX;

	if (held < ASK_AFTER)
		return true;
	if (late)
		log_warn("%s: its parent has not been quiet since the fork", child->name);
	if (late || newborn_is_settled(child->tracker, &kernel))
		let_go(child);
	return child->held_by != NULL;
}

void children_let_go(struct session *parent)
{
	struct session *child;

	TAILQ_FOREACH(child, &parent->engine->sessions, link)
		if (child->held_by == parent)
			let_go(child);
}
