/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record.h - what an engine writes into its journal, for record.c, resume.c and children.c
 * only.
 *
 * The records tell, in the order in which one thread did it, everything that a tracker was told and
 * everything that the kernel was asked; only what was delivered is elsewhere, in the marks.  So who
 * replays them has the same trackers, except that pages which were delivered before an event seem
 * to be missing until the end, when the marks are looked at.
 */
#ifndef CRIU_LAZY_ENGINE_RECORD_H
#define CRIU_LAZY_ENGINE_RECORD_H

#include <stdint.h>

enum record_type {
	RECORD_SESSION = 1, /* record_session, tracker_save() */
	RECORD_EVENTS, /* uffd_msg[]: applied in this order */
	RECORD_APPLIED, /* the last RECORD_EVENTS: only then was anything more delivered */
	RECORD_QUIET, /* tracker_quiet() */
	RECORD_GONE, /* tracker_run: a doubt; it is not mapped */
	RECORD_THERE, /* tracker_run: a doubt; it is mapped */
	RECORD_SETTLED, /* no doubt is left */
	RECORD_NEWBORN, /* newborn_verdict: newborn_end() */
	RECORD_MARKS, /* record_marks */
	RECORD_END, /* the session is over; its descriptors may be closed by now, or others */
	RECORD_DATE, /* record_date: of an event of the last RECORD_EVENTS, if it was not in order
	              */
	RECORD_UNNAMED, /* the session has no pidfd any more */
	RECORD_NEXT, /* in a snapshot: the id of the next session */
	RECORD_ANSWERS, /* record_answer[]: what the kernel has said about a newborn child */
	RECORD_UNKEPT, /* record_unkept: nobody has the descriptor of a FORK that waits */
};

struct record_session {
	uint32_t index;
	int32_t uffd;
	int32_t pidfd;
	uint32_t family;
	uint32_t nr_children;
	uint8_t poisons;
	uint8_t unused[3];
	uint64_t nr_lost;
	char name[24];
};

/* tracker_date() */
struct record_date {
	uint64_t back;
	uint32_t message; /* its number among them */
	uint32_t unused;
};

/* Of [addr, addr + len); enum newborn_answer. */
struct record_answer {
	uint64_t addr, len;
	uint32_t answer;
	uint32_t unused;
};

struct record_unkept {
	uint32_t nr; /* of the event, among those of the session that wait */
	uint32_t unused;
};

struct record_marks {
	uint64_t at;
};

#endif
