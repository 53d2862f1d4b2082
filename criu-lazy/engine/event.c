/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading events, and applying them to the tracker in the same step: reading an event lets the
 * program go on, so nothing may be copied between the two.
 *
 * The kernel hands out faults before events, so faults are only collected here; they are judged
 * when the descriptor is empty.
 */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/engine/session.h"
#include "criu-lazy/os/uffd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MESSAGES = 64, ROUNDS = 16 };

int fault_list_reserve(struct fault_list *list, size_t nr)
{
	size_t room = list->room ? list->room : MESSAGES;
	struct fault *grown;

	while (room < list->nr + nr)
		room *= 2;
	if (room == list->room)
		return 0;
	grown = realloc(list->fault, room * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	list->fault = grown;
	list->room = room;
	return 0;
}

void fault_list_push(struct fault_list *list, uint64_t addr, int64_t since)
{
	list->fault[list->nr++] = (struct fault){.addr = addr, .since = since};
}

/* What waits for a page in flight may not belong there any more: judge all of it anew. */
static void rejudge_waiting(struct session *s)
{
	size_t i;

	for (i = 0; i < s->waiting.nr; i++)
		fault_list_push(&s->faults, s->waiting.fault[i].addr, s->waiting.fault[i].since);
	s->waiting.nr = 0;
}

static void on_fork(struct session *s, int uffd)
{
	struct engine_process child = {.uffd = uffd, .pidfd = -1, .pid = 0};
	struct session *newborn;
	char name[sizeof(s->name) + 12];
	struct err err = {0};

	snprintf(name, sizeof(name), "%s.%u", s->name, ++s->nr_children);
	log_debug("%s: FORK: child %u", s->name, s->nr_children);
	/* Everything was there when it forked, so the child has everything; or it was stopped. */
	if (tracker_is_done(s->tracker) || uffd < 0) {
		record_end(s->engine, s->engine->next_id++);
		if (s->engine->replaying || uffd < 0)
			return;
		engine_keep(s->engine, KEPT_UFFD, uffd, false);
		close(uffd);
		return;
	}
	if (tracker_fork(s->tracker, &child.tracker) < 0) {
		err_set(&err, ENOMEM, "%s: a forked child", s->name);
		engine_fail(s->engine, &err); /* its descriptor stays open, so it waits */
		return;
	}
	child.source = source_share(s->source);
	child.index = s->index;
	newborn = session_add(s->engine, &child, name, s->family, &err);
	if (!newborn) {
		err_wrap(&err, "%s: a forked child", s->name);
		engine_fail(s->engine, &err);
		return;
	}
	session_count(newborn);
	record_marks(newborn, s);
	newborn->unquiet = true;
	child_begin(newborn, s);
}

void session_apply(struct session *s, const struct uffd_msg *msg)
{
	unsigned long long a = msg->arg.remap.from, b = msg->arg.remap.to, len = msg->arg.remap.len;

	if (msg->event == UFFD_EVENT_FORK) {
		on_fork(s, (int)msg->arg.fork.ufd);
		return;
	}
	if (s->engine->replaying && msg->event != UFFD_EVENT_REMOVE)
		replay_date(s);
	if (msg->event == UFFD_EVENT_REMAP) {
		log_debug("%s: REMAP: 0x%llx -> 0x%llx (0x%llx)", s->name, a, b, len);
		tracker_remap(s->tracker, a, b, len);
		record_date(s);
	} else {
		a = msg->arg.remove.start;
		b = msg->arg.remove.end;
		log_debug("%s: %s: 0x%llx-0x%llx", s->name,
		          msg->event == UFFD_EVENT_UNMAP ? "UNMAP" : "REMOVE", a, b);
		if (msg->event == UFFD_EVENT_UNMAP) {
			tracker_unmap(s->tracker, a, b);
			record_date(s);
		} else {
			tracker_remove(s->tracker, a, b);
			return;
		}
	}
	if (s->engine->nr_held)
		children_hear(s);
}

static void apply(struct session *s, const struct uffd_msg *msg, int64_t now)
{
	switch (msg->event) {
	case UFFD_EVENT_PAGEFAULT:
		if (s->engine->replaying)
			return;
		log_debug("%s: fault 0x%llx", s->name,
		          (unsigned long long)msg->arg.pagefault.address);
		fault_list_push(&s->faults, msg->arg.pagefault.address, now);
		return;
	case UFFD_EVENT_FORK:
		if (!s->engine->replaying) {
			uffd_no_wait((int)msg->arg.fork.ufd);
			engine_keep(s->engine, KEPT_UFFD, (int)msg->arg.fork.ufd, true);
		}
		break;
	case UFFD_EVENT_REMAP:
	case UFFD_EVENT_UNMAP:
	case UFFD_EVENT_REMOVE:
		break;
	default:
		log_warn("%s: unknown userfaultfd event 0x%x", s->name, msg->event);
		return;
	}
	s->unquiet = true;
	if (msg->event != UFFD_EVENT_FORK)
		rejudge_waiting(s);
	if (s->held_by)
		child_pend(s, msg); /* until it is known what it began with */
	else if (msg->event == UFFD_EVENT_FORK)
		on_fork(s, (int)msg->arg.fork.ufd);
	else
		session_apply(s, msg);
}

static void apply_all(struct session *s, const struct uffd_msg *msgs, size_t nr, int64_t now)
{
	size_t i;

	for (i = 0; i < nr && !s->engine->failed.code; i++) {
		s->engine->message = (uint32_t)i;
		apply(s, &msgs[i], now);
	}
}

bool replay_events(struct session *s, const struct uffd_msg *msgs, size_t nr)
{
	if (tracker_reserve(s->tracker, MESSAGES) < 0 || !child_reserve(s, MESSAGES))
		return false;
	apply_all(s, msgs, nr, 0);
	s->faults.nr = s->waiting.nr = 0; /* they will fault again */
	session_account(s);
	return true;
}

static bool all_faults(const struct uffd_msg *msgs, int nr)
{
	int i;

	for (i = 0; i < nr; i++)
		if (msgs[i].event != UFFD_EVENT_PAGEFAULT)
			return false;
	return true;
}

/*
 * One read, into the journal, and what it brought applied.  Events are in the journal for good
 * before anything follows from them; faults need not stay there: who goes on after us makes all
 * that wait ask again.  Returns how many messages came, or a negative errno.
 */
static int read_some(struct session *s, int64_t now)
{
	struct uffd_msg own[MESSAGES], *msgs;
	int error = 0, got;
	bool keep;

	msgs = record_events_begin(s, MESSAGES, &error);
	if (error < 0)
		return error;
	got = uffd_read(s->uffd, msgs ? msgs : own, MESSAGES);
	keep = got > 0 && !all_faults(msgs ? msgs : own, got);
	if (msgs && keep)
		record_events_end(s, (size_t)got, true);
	if (got > 0)
		apply_all(s, msgs ? msgs : own, (size_t)got, now);
	/* What was not applied is for the next worker; nothing is delivered until then. */
	if (msgs && keep && !s->engine->failed.code)
		record_applied(s);
	if (msgs && !keep)
		record_events_end(s, got > 0 ? (size_t)got : 0, false);
	return got;
}

int session_drain(struct session *s)
{
	int total = 0, rounds, got;
	int64_t now = clock_now();

	session_settle(s);
	for (rounds = 0; rounds < ROUNDS; rounds++) {
		/* Make room before an event is taken from the queue: then it cannot be lost. */
		if (tracker_reserve(s->tracker, MESSAGES) < 0 || !child_reserve(s, MESSAGES) ||
		    fault_list_reserve(&s->faults, MESSAGES + s->waiting.nr) < 0) {
			session_retry(s);
			return total;
		}
		got = read_some(s, now);
		if (got < 0) {
			/*
			 * A FORK for which there is no descriptor left (EMFILE) stays queued.
			 * Closing would turn what is missing into zeros, so it is tried again,
			 * whatever it is.
			 */
			if (!s->told_unreadable)
				log_warn("%s: reading userfaultfd: %s; trying again", s->name,
				         strerror(-got));
			s->told_unreadable = true;
			session_retry(s);
			return total;
		}
		total += got;
		if (got) {
			s->nothing_free = false;
			session_account(s);
		}
		if (got < MESSAGES)
			return total;
	}
	session_ready(s); /* a storm: let others have their turn */
	return total;
}

void replay_quiet(struct session *s)
{
	if (s->engine->nr_held)
		children_let_go(s);
	tracker_quiet(s->tracker);
}

bool session_quiet(struct session *s)
{
	enum uffd_outcome outcome;
	struct tracker_run run;
	bool doubted = false;

	if (s->held_by && child_is_held(s))
		return false;
	if (!s->unquiet)
		return true;
	outcome = uffd_quiet(s->uffd);
	if (outcome == UFFD_EXITED)
		session_end(s, true);
	if (outcome != UFFD_DONE || tracker_reserve(s->tracker, 2) < 0)
		return false;
	record_quiet(s);
	replay_quiet(s);
	while (tracker_doubt(s->tracker, &run)) {
		doubted = true;
		outcome = uffd_registered(s->uffd, run.start, PAGE_SIZE);
		if (outcome != UFFD_DONE && outcome != UFFD_NOWHERE)
			return false;
		log_debug("%s: in doubt: 0x%llx, %llu pages: %s", s->name,
		          (unsigned long long)run.start, (unsigned long long)run.nr_pages,
		          uffd_outcome_name(outcome));
		record_doubt(s, &run, outcome == UFFD_DONE);
		tracker_settle(s->tracker, &run, outcome == UFFD_DONE);
		if (tracker_reserve(s->tracker, 2) < 0)
			return false;
	}
	if (doubted)
		record_settled(s);
	s->unquiet = false;
	return true;
}
