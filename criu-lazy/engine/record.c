/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writing the journal; record.h tells what is in it. */
#include "criu-lazy/engine/record.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/engine/journal.h"
#include "criu-lazy/engine/session.h"
#include "criu-lazy/os/uffd-abi.h"
#include "criu-lazy/track/newborn.h"
#include "criu-lazy/track/save.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool record_wanted(const struct engine *engine)
{
	return engine->journal && (!engine->replaying || replay_is_news(engine)) &&
	       !journal_is_broken(engine->journal);
}

static void broken(struct engine *engine, int error)
{
	journal_break(engine->journal);
	if (!engine->told_broken)
		log_error("%s: %s: nobody can go on if this worker dies; the processes would be "
		          "stopped",
		          journal_name(engine->journal), strerror(-error));
	engine->told_broken = true;
}

static void add(struct engine *engine, enum record_type type, uint32_t id, const void *payload,
                size_t len)
{
	int r;

	if (!record_wanted(engine))
		return;
	r = journal_add(engine->journal, type, id, payload, len, NULL, 0);
	if (r < 0)
		broken(engine, r);
}

/* 0 or negative errno; the journal is as before then. */
static int add_session(struct session *s)
{
	struct record_session head = {
		.index = s->index,
		.uffd = s->uffd,
		.pidfd = s->pidfd,
		.family = s->family->id,
		.nr_children = s->nr_children,
		.poisons = s->poisons,
		.nr_lost = s->nr_lost,
	};
	const struct record_marks marks = {.at = s->marks_at};
	size_t size = tracker_save_size(s->tracker);
	void *bytes = malloc(size);
	int r;

	if (!bytes)
		return -ENOMEM;
	tracker_save(s->tracker, bytes);
	memcpy(head.name, s->name, sizeof(head.name));
	r = journal_add(s->engine->journal, RECORD_SESSION, s->id, &head, sizeof(head), bytes,
	                size);
	free(bytes);
	if (r == 0 && s->marks)
		r = journal_add(s->engine->journal, RECORD_MARKS, s->id, &marks, sizeof(marks),
		                NULL, 0);
	return r;
}

void record_session(struct session *s)
{
	int r;

	if (!record_wanted(s->engine))
		return;
	r = add_session(s);
	if (r < 0)
		broken(s->engine, r);
}

void record_end(struct engine *engine, uint32_t id)
{
	add(engine, RECORD_END, id, NULL, 0);
}

void record_unnamed(struct session *s)
{
	add(s->engine, RECORD_UNNAMED, s->id, NULL, 0);
}

void record_quiet(struct session *s)
{
	if (tracker_in_window(s->tracker) || s->engine->nr_held)
		add(s->engine, RECORD_QUIET, s->id, NULL, 0);
}

void record_applied(struct session *s)
{
	add(s->engine, RECORD_APPLIED, s->id, NULL, 0);
}

void record_doubt(struct session *s, const struct tracker_run *run, bool mapped)
{
	add(s->engine, mapped ? RECORD_THERE : RECORD_GONE, s->id, run, sizeof(*run));
}

void record_settled(struct session *s)
{
	add(s->engine, RECORD_SETTLED, s->id, NULL, 0);
}

void record_newborn(struct session *s, const struct newborn_verdict *verdict)
{
	add(s->engine, RECORD_NEWBORN, s->id, verdict, sizeof(*verdict));
}

void record_answers(struct session *s, const struct record_answer *answers, size_t nr)
{
	add(s->engine, RECORD_ANSWERS, s->id, answers, nr * sizeof(*answers));
}

void record_unkept(struct session *s, uint32_t nr)
{
	const struct record_unkept unkept = {.nr = nr};

	add(s->engine, RECORD_UNKEPT, s->id, &unkept, sizeof(unkept));
}

void record_date(struct session *s)
{
	const struct record_date date = {.back = tracker_dated(s->tracker),
	                                 .message = s->engine->message};

	if (date.back)
		add(s->engine, RECORD_DATE, s->id, &date, sizeof(date));
}

/* --- marks ------------------------------------------------------------------------------------ */

static size_t nr_words(const struct session *s)
{
	return (size_t)((tracker_nr_pages(s->tracker) + 63) / 64);
}

void record_marks(struct session *s, const struct session *parent)
{
	struct record_marks marks;

	if (!record_wanted(s->engine))
		return;
	s->marks = journal_marks_new(s->engine->journal, nr_words(s), &s->marks_at);
	if (!s->marks) {
		/* Who goes on brings it all once more: that is slow, not wrong. */
		if (nr_words(s))
			s->engine->state->suspects_all = 1;
		return;
	}
	if (parent && parent->marks)
		memcpy(s->marks, parent->marks, nr_words(s) * sizeof(uint64_t));
	tracker_set_marks(s->tracker, s->marks);
	marks.at = s->marks_at;
	if (parent) /* else it comes with record_session() */
		add(s->engine, RECORD_MARKS, s->id, &marks, sizeof(marks));
}

void record_forget_marks(struct session *s)
{
	if (!s->marks)
		return;
	tracker_set_marks(s->tracker, NULL);
	if (s->engine->replaying) /* it could not go on: they are the next worker's */
		journal_marks_leave(s->marks, nr_words(s));
	else
		journal_marks_free(s->engine->journal, s->marks_at, s->marks, nr_words(s));
	s->marks = NULL;
}

/* --- events ----------------------------------------------------------------------------------- */

static bool snapshot(struct engine *engine)
{
	struct session *s;
	int r = 0;

	journal_snapshot_begin(engine->journal);
	TAILQ_FOREACH(s, &engine->sessions, link)
		if (r == 0)
			r = add_session(s);
	if (r == 0)
		r = journal_add(engine->journal, RECORD_NEXT, engine->next_id, NULL, 0, NULL, 0);
	return journal_snapshot_commit(engine->journal, r == 0);
}

struct uffd_msg *record_events_begin(struct session *s, size_t nr, int *ret_error)
{
	struct engine *engine = s->engine;
	size_t len = nr * sizeof(struct uffd_msg) + sizeof(struct journal_record);
	int r;

	*ret_error = 0;
	if (!record_wanted(engine))
		return NULL;
	r = journal_reserve(engine->journal, len);
	if (r == -ENOSPC && !engine->nr_held && !engine->failed.code && snapshot(engine))
		r = journal_reserve(engine->journal, len);
	if (r == -ENOSPC)
		broken(engine, r); /* too many mappings for its limit */
	else
		*ret_error = r;
	return r < 0 ? NULL : journal_events_begin(engine->journal, RECORD_EVENTS, s->id, nr);
}

void record_events_end(struct session *s, size_t nr, bool keep)
{
	journal_events_end(s->engine->journal, nr, keep);
}

void record_compact(struct engine *engine, bool replayed)
{
	/* Not while a child is held: what is known of it is in no record of a session. */
	if (record_wanted(engine) && !engine->nr_held && journal_is_long(engine->journal, replayed))
		snapshot(engine);
}
