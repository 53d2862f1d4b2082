/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Children that were forked while their parent's threads change its memory: until it is clear which
 * of those changes a child has seen (track/newborn.h) it is held: its events are read and kept, but
 * nothing is copied to it.
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
#include "criu-lazy/engine/record.h"
#include "criu-lazy/engine/session.h"
#include "criu-lazy/os/uffd.h"
#include "criu-lazy/track/newborn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const int64_t HOLD_MAX = 1 * NSEC_PER_SEC;

enum { ANSWERS_MAX = 1024 };

/*
 * Asked as soon as the FORK is read, when the child does not run yet (or, if its parent was held,
 * as soon as that is over: what it has changed it has not been able to tell yet), and about what is
 * heard later as soon as that is heard; once more before it is judged, for what the kernel has
 * refused to say.  What it has said is recorded: who goes on may come too late to ask.
 */
struct newborn {
	bool refused; /* the last time that it was asked: an event of the child is not read yet */
	size_t nr;
	struct record_answer answer[ANSWERS_MAX];
};

static const struct record_answer *known(const struct newborn *n, uint64_t addr, uint64_t len)
{
	size_t i;

	for (i = 0; n && i < n->nr; i++)
		if (n->answer[i].addr == addr && n->answer[i].len == len)
			return &n->answer[i];
	return NULL;
}

/* By one of its own events, so what it has there now is no witness. */
static bool has_changed(const struct session *child, uint64_t addr, uint64_t len)
{
	size_t i;

	for (i = 0; i < child->nr_pending; i++) {
		const struct uffd_msg *msg = &child->pending[i];
		const uint64_t from = msg->arg.remap.from, to = msg->arg.remap.to,
			       moved = msg->arg.remap.len;

		if (msg->event == UFFD_EVENT_REMAP && ((addr < from + moved && from < addr + len) ||
		                                       (addr < to + moved && to < addr + len)))
			return true;
		if (msg->event == UFFD_EVENT_UNMAP && addr < msg->arg.remove.end &&
		    msg->arg.remove.start < addr + len)
			return true;
	}
	return false;
}

/*
 * Who has exited is no witness; a child of its own that nobody serves yet has what it had.  One
 * that has something to tell refuses to answer, and is not heard before this one's story is
 * settled: to wait for that would be to wait for oneself.
 */
static enum uffd_outcome registered(const struct session *child, uint64_t addr, uint64_t len)
{
	enum uffd_outcome outcome = uffd_registered(child->uffd, addr, len);
	size_t i;

	if (outcome != UFFD_EXITED)
		return outcome;
	for (i = 0; i < child->nr_pending; i++) {
		const struct uffd_msg *msg = &child->pending[i];

		if (msg->event != UFFD_EVENT_FORK)
			continue;
		outcome = uffd_registered((int)msg->arg.fork.ufd, addr, len);
		if (outcome == UFFD_DONE || outcome == UFFD_NOWHERE)
			return outcome;
	}
	return UFFD_EXITED;
}

/* For newborn_ask(). */
static enum newborn_answer look(void *cookie, uint64_t addr, uint64_t len)
{
	struct session *child = cookie;
	struct newborn *n = child->newborn;
	const struct record_answer *a = known(n, addr, len);
	enum newborn_answer answer = NEWBORN_UNKNOWN;
	enum uffd_outcome outcome;

	if (a)
		return (enum newborn_answer)a->answer;
	if (n->nr == ANSWERS_MAX)
		return NEWBORN_UNKNOWN;
	if (!has_changed(child, addr, len)) {
		outcome = registered(child, addr, len);
		n->refused |= outcome == UFFD_CHANGING;
		if (outcome != UFFD_DONE && outcome != UFFD_NOWHERE)
			return NEWBORN_UNKNOWN;
		answer = outcome == UFFD_NOWHERE ? NEWBORN_FREE : NEWBORN_MAPPED;
	}
	n->answer[n->nr++] = (struct record_answer){addr, len, answer, 0};
	return answer;
}

typedef void asker(const struct tracker *child, const struct newborn_kernel *kernel);

/* false: not all of it, now. */
static bool look_now(struct session *child, asker *ask)
{
	const struct newborn_kernel kernel = {look, child};
	struct newborn *n = child->newborn;
	size_t before;

	if (child->engine->replaying)
		return true;
	before = n->nr;
	n->refused = false;
	ask(child->tracker, &kernel);
	if (n->nr > before)
		record_answers(child, n->answer + before, n->nr - before);
	return !n->refused;
}

void replay_answers(struct session *child, const struct record_answer *answers, size_t nr)
{
	struct newborn *n = child->newborn;

	for (; n && nr && n->nr < ANSWERS_MAX; answers++, nr--)
		if (answers->answer <= NEWBORN_UNKNOWN)
			n->answer[n->nr++] = *answers;
}

/* For newborn_is_due(). */
static enum newborn_answer now(void *cookie, uint64_t addr, uint64_t len)
{
	const struct session *child = cookie;

	if (has_changed(child, addr, len))
		return NEWBORN_UNKNOWN;
	return registered(child, addr, len) == UFFD_NOWHERE ? NEWBORN_FREE : NEWBORN_MAPPED;
}

/* For newborn_judge(). */
static enum newborn_answer seen(void *cookie, uint64_t addr, uint64_t len)
{
	const struct session *child = cookie;
	const struct record_answer *a = known(child->newborn, addr, len);

	return a ? (enum newborn_answer)a->answer : NEWBORN_UNKNOWN;
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

bool child_unkept(struct session *child, size_t nr)
{
	if (nr >= child->nr_pending || child->pending[nr].event != UFFD_EVENT_FORK)
		return false;
	child->pending[nr].arg.fork.ufd = UINT32_MAX;
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

	for (i = 0; i < child->nr_pending && !child->engine->failed.code; i++) {
		if (tracker_reserve(child->tracker, 1) < 0) {
			err_set(&err, ENOMEM, "%s: its events", child->name);
			engine_fail(child->engine, &err); /* the next worker replays them */
			return;
		}
		child->engine->message = (uint32_t)i;
		session_apply(child, &child->pending[i]);
	}
}

/* Room is reserved. */
static void let_go(struct session *child, const struct newborn_verdict *verdict)
{
	newborn_end(child->tracker, verdict);
	child->held_by = NULL;
	child->engine->nr_held--;
	child->unquiet = true; /* its window is still open */
	child->nothing_free = false;
	apply_pending(child);
	child_free(child);
	session_account(child);
}

/* false: not now, and nothing has happened. */
static bool conclude(struct session *child)
{
	const struct newborn_kernel kernel = {seen, child};
	struct newborn_verdict verdict;

	if (tracker_reserve(child->tracker, NEWBORN_RESERVE) < 0)
		return false;
	look_now(child, newborn_ask);
	newborn_judge(child->tracker, &kernel, &verdict);
	record_newborn(child, &verdict);
	let_go(child, &verdict);
	/* What was not applied is for the next worker; nothing is delivered until then. */
	if (!child->engine->failed.code)
		record_applied(child);
	return true;
}

void replay_newborn(struct session *child, const struct newborn_verdict *verdict)
{
	struct err err = {0};

	if (!child->held_by)
		return;
	if (tracker_reserve(child->tracker, NEWBORN_RESERVE) == 0) {
		let_go(child, verdict);
		return;
	}
	err_set(&err, ENOMEM, "%s", child->name);
	engine_fail(child->engine, &err);
}

/* --- holding ---------------------------------------------------------------------------------- */

void child_begin(struct session *child, struct session *parent)
{
	struct err err = {0};

	child->held_by = parent;
	child->held_since = clock_now();
	child->engine->nr_held++;
	child->newborn = calloc(1, sizeof(*child->newborn));
	if (child->newborn) {
		look_now(child, newborn_ask);
		return;
	}
	err_set(&err, ENOMEM, "%s: a forked child", child->name);
	engine_fail(child->engine, &err); /* nobody would know what it began with */
}

void children_hear(struct session *parent)
{
	struct newborn_kernel kernel = {now, NULL};
	struct session *child;

	TAILQ_FOREACH(child, &parent->engine->sessions, link) {
		if (child->held_by != parent || child->heard_enough ||
		    child->state != SESSION_SERVING)
			continue;
		newborn_hear(child->tracker, parent->tracker);
		look_now(child, newborn_ask_last);
		/* Who replays may hear more than the dead one has, but not less. */
		kernel.cookie = child;
		child->heard_enough = child->engine->replaying
		                              ? newborn_is_full(child->tracker)
		                              : newborn_is_due(child->tracker, &kernel);
		if (child->heard_enough)
			session_ready(child);
	}
}

bool child_is_held(struct session *child)
{
	bool in_time = clock_now() - child->held_since < HOLD_MAX;

	if (in_time && (!child->heard_enough || !look_now(child, newborn_ask)))
		return true;
	return !conclude(child);
}

bool child_may_end(struct session *child)
{
	const struct engine *engine = child->engine;
	struct err err = {0};
	size_t i = 0;

	while (i < child->nr_pending && child->pending[i].event != UFFD_EVENT_FORK)
		i++;
	if (i == child->nr_pending || engine->replaying)
		return true;
	if (!engine->failed.code && conclude(child))
		return true;
	err_set(&err, ENOMEM, "%s: its children", child->name);
	engine_fail(child->engine, &err);
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
