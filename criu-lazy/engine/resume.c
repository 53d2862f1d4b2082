/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Going on where another worker died: its journal is replayed into sessions that have no watches
 * yet, then what is still alive is woken up (wake.c).
 *
 * Descriptors are not touched before the end: the journal may name ones that were closed since, and
 * whose numbers are somebody else's by now.
 */
#include "criu-lazy/base/err.h"
#include "criu-lazy/engine/journal.h"
#include "criu-lazy/engine/record.h"
#include "criu-lazy/engine/session.h"
#include "criu-lazy/os/uffd-abi.h"
#include "criu-lazy/track/newborn.h"
#include "criu-lazy/track/save.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	ID_MAX = INT32_MAX, /* what comes after it must not begin at 0 again */
	EVENTS_MAX = 64, /* that are read at once */
};

/* A session that was named; NULL: its end was. */
struct named {
	uint32_t id;
	struct session *session;
};

struct replay {
	struct engine *engine;
	size_t dates; /* where in the journal those of the events may be */
	bool applied; /* these events, by who read them */
	bool news; /* nobody has acted on what is replayed now */
	const struct engine_resume *how;
	struct named *named; /* by ascending id: however far apart they are, one each */
	size_t nr, room;
};

static struct named *find_named(const struct replay *p, uint32_t id)
{
	size_t from = 0, to = p->nr;

	while (from < to) {
		size_t mid = from + (to - from) / 2;

		if (p->named[mid].id == id)
			return &p->named[mid];
		if (p->named[mid].id < id)
			from = mid + 1;
		else
			to = mid;
	}
	return NULL;
}

static struct session *find(const struct replay *p, uint32_t id)
{
	const struct named *named = find_named(p, id);

	return named ? named->session : NULL;
}

/* One more will have its place: those that have ended give theirs, if they are many. */
static int make_room(struct replay *p)
{
	struct named *grown;
	size_t nr = 0, room;

	if (p->nr < p->room)
		return 0;
	for (size_t i = 0; i < p->nr; i++)
		if (p->named[i].session)
			p->named[nr++] = p->named[i];
	p->nr = nr;
	if (nr < p->room / 2)
		return 0;
	room = 2 * p->room + 64;
	grown = realloc(p->named, room * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	p->named = grown;
	p->room = room;
	return 0;
}

/* Sessions come with ascending numbers; each is noted as soon as somebody names it. */
static int note_sessions(struct replay *p)
{
	struct session *s, *first = NULL;

	TAILQ_FOREACH_REVERSE(s, &p->engine->sessions, session_list, link)
	{
		if (p->nr && s->id <= p->named[p->nr - 1].id)
			break;
		first = s;
	}
	for (s = first; s; s = TAILQ_NEXT(s, link)) {
		if (make_room(p) < 0)
			return -ENOMEM;
		p->named[p->nr++] = (struct named){s->id, s};
	}
	return 0;
}

static bool was_applied(const struct replay *p)
{
	struct journal_record record;
	const void *payload;
	size_t at = p->dates;

	while (journal_next(p->engine->journal, &at, &record, &payload))
		if (record.type == RECORD_APPLIED)
			return true;
	return false;
}

bool replay_is_news(const struct engine *engine)
{
	return engine->replay && engine->replay->news;
}

/* Without a date it was in order; or, if nobody had acted on it, that is found out now. */
void replay_date(struct session *s)
{
	const struct replay *p = s->engine->replay;
	struct journal_record record;
	const void *payload;
	size_t at = p->dates;

	while (journal_next(s->engine->journal, &at, &record, &payload) &&
	       record.type != RECORD_APPLIED) {
		const struct record_date *date = payload;

		if (record.type != RECORD_DATE || record.len != sizeof(*date) ||
		    record.id != s->id || date->message != s->engine->message)
			continue;
		tracker_date(s->tracker, date->back);
		return;
	}
	if (p->applied)
		tracker_date(s->tracker, 0);
}

/* What was delivered: later than the last of the events that somebody acted on. */
int replay_recall(struct session *s, struct err *err)
{
	if (s->marked && !s->marks) {
		s->marks = journal_marks_at(s->engine->journal, s->marks_at,
		                            (size_t)((tracker_nr_pages(s->tracker) + 63) / 64));
		if (!s->marks)
			return err_set(err, errno == EINVAL ? EPROTO : ENOMEM, "%s: its marks",
			               s->name);
	}
	if (!s->marks)
		return 0;
	tracker_set_marks(s->tracker, s->marks);
	tracker_recall(s->tracker);
	return 0;
}

static struct family *find_family(const struct engine *engine, uint32_t id)
{
	struct session *s;

	TAILQ_FOREACH(s, &engine->sessions, link)
		if (s->family->id == id)
			return s->family;
	return NULL;
}

static int on_session(struct replay *p, uint32_t id, const struct record_session *head,
                      const void *bytes, size_t len, struct err *err)
{
	struct engine *engine = p->engine;
	struct engine_process process = {
		.uffd = head->uffd, .pidfd = head->pidfd, .index = head->index};
	char name[sizeof(head->name)];
	struct session *s;
	int r;

	if (id > ID_MAX || id < engine->next_id)
		return err_set(err, EPROTO, "session %u: the next one may be %u to %u", id,
		               engine->next_id, ID_MAX);
	if (head->index >= p->how->nr)
		return err_set(err, EPROTO, "session %u: process %u of %zu in the plan", id,
		               head->index, p->how->nr);
	r = tracker_load(bytes, len, &process.tracker, err);
	if (r < 0)
		return r;
	process.source = p->how->source(p->how->cookie, head->index);
	if (!process.source) {
		tracker_free(process.tracker);
		return err_set(err, EPROTO, "process %u has no source", head->index);
	}
	memcpy(name, head->name, sizeof(name));
	name[sizeof(name) - 1] = '\0';
	engine->next_id = id;
	s = session_add(engine, &process, name, find_family(engine, head->family), err);
	if (!s)
		return -err->code;
	session_count(s);
	s->family->id = head->family;
	s->nr_children = head->nr_children;
	s->poisons = head->poisons;
	s->nr_lost = head->nr_lost;
	p->how->taken[head->index] = 1;
	return 0;
}

/* What follows changes trackers; who read it may have died before that. */
static int change_begins(struct replay *p, struct err *err)
{
	struct session *s;
	int r = 0;

	p->applied = was_applied(p);
	p->news = !p->applied;
	if (p->news)
		TAILQ_FOREACH(s, &p->engine->sessions, link)
			if (r == 0)
				r = replay_recall(s, err);
	return r;
}

/* What was found out now is no news for the next one, if that is all of it. */
static void change_ends(struct replay *p, struct session *s)
{
	if (p->news && !p->engine->failed.code)
		record_applied(s);
	p->news = false;
}

static int on_events(struct replay *p, const struct journal_record *r, const void *payload,
                     struct err *err)
{
	const size_t size = sizeof(struct uffd_msg);
	struct session *s = find(p, r->id);
	int error;

	if (r->len % size || r->len > EVENTS_MAX * size)
		return err_set(err, EPROTO, "events of %llu bytes", (unsigned long long)r->len);
	error = change_begins(p, err);
	if (error < 0)
		return error;
	if (!replay_events(s, payload, r->len / size))
		return err_set(err, ENOMEM, "events");
	change_ends(p, s);
	return 0;
}

static int on_newborn(struct replay *p, const struct journal_record *r, const void *payload,
                      struct err *err)
{
	struct session *s = find(p, r->id);
	int error;

	if (r->len != sizeof(struct newborn_verdict))
		return err_set(err, EPROTO, "a newborn of %llu bytes", (unsigned long long)r->len);
	error = change_begins(p, err);
	if (error < 0)
		return error;
	replay_newborn(s, payload);
	change_ends(p, s);
	return 0;
}

/* The owner was told that what it doubted is not mapped (or is). */
static int on_doubt(struct session *s, const struct journal_record *r, const void *payload,
                    struct err *err)
{
	if (r->len != sizeof(struct tracker_run))
		return err_set(err, EPROTO, "a doubt of %llu bytes", (unsigned long long)r->len);
	if (r->type == RECORD_THERE) {
		tracker_confirm(s->tracker, payload);
		return 0;
	}
	if (tracker_reserve(s->tracker, 2) < 0)
		return err_set(err, ENOMEM, "%s", s->name);
	tracker_forget(s->tracker, payload);
	return 0;
}

static int on_unkept(struct session *s, const struct journal_record *r,
                     const struct record_unkept *unkept, struct err *err)
{
	if (r->len != sizeof(*unkept))
		return err_set(err, EPROTO, "a FORK of %llu bytes", (unsigned long long)r->len);
	if (!child_unkept(s, unkept->nr))
		return err_set(err, EPROTO, "%s: event %u of the %zu that wait is no FORK", s->name,
		               unkept->nr, s->nr_pending);
	return 0;
}

static int on_record(struct replay *p, const struct journal_record *r, const void *payload,
                     struct err *err)
{
	struct session *s = find(p, r->id);
	const struct record_session *head = payload;
	const struct record_marks *marks = payload;

	if (r->type == RECORD_SESSION) {
		if (r->len < sizeof(*head))
			return err_set(err, EPROTO, "a session of %llu bytes",
			               (unsigned long long)r->len);
		return on_session(p, r->id, head, head + 1, r->len - sizeof(*head), err);
	}
	if (r->type == RECORD_NEXT) {
		if (r->id < p->engine->next_id || r->id > ID_MAX)
			return err_set(err, EPROTO, "the next session is %u, and may be %u to %u",
			               r->id, p->engine->next_id, ID_MAX);
		p->engine->next_id = r->id;
		return 0;
	}
	if (!s)
		return 0; /* there was no memory for it, and nobody will miss it */
	switch (r->type) {
	case RECORD_EVENTS:
		return on_events(p, r, payload, err);
	case RECORD_QUIET:
		replay_quiet(s);
		break;
	case RECORD_GONE:
	case RECORD_THERE:
		return on_doubt(s, r, payload, err);
	case RECORD_SETTLED:
		tracker_settled(s->tracker);
		break;
	case RECORD_NEWBORN:
		return on_newborn(p, r, payload, err);
	case RECORD_ANSWERS:
		if (r->len % sizeof(struct record_answer))
			return err_set(err, EPROTO, "answers of %llu bytes",
			               (unsigned long long)r->len);
		replay_answers(s, payload, r->len / sizeof(struct record_answer));
		break;
	case RECORD_MARKS:
		if (r->len != sizeof(*marks))
			return err_set(err, EPROTO, "marks of %llu bytes",
			               (unsigned long long)r->len);
		s->marks_at = marks->at;
		s->marked = true;
		break;
	case RECORD_END:
		find_named(p, s->id)->session = NULL;
		session_end(s, true);
		break;
	case RECORD_UNNAMED:
		s->pidfd = -1;
		break;
	case RECORD_UNKEPT:
		return on_unkept(s, r, payload, err);
	case RECORD_DATE: /* replay_date() has seen it */
	case RECORD_APPLIED:
		break;
	default:
		return err_set(err, EPROTO, "an unknown record: %u", r->type);
	}
	return 0;
}

static int replay(struct replay *p, struct err *err)
{
	struct journal *j = p->engine->journal;
	struct journal_record record;
	const void *payload;
	size_t at = 0;
	int r = 0;

	while (r == 0 && journal_next(j, &at, &record, &payload)) {
		p->dates = at;
		r = on_record(p, &record, payload, err);
		if (r < 0)
			err_wrap(err, "%s, before byte %zu", journal_name(j), at);
		if (r == 0 && p->engine->failed.code) {
			*err = p->engine->failed;
			r = -err->code;
		}
		if (r == 0 && note_sessions(p) < 0)
			r = err_set(err, ENOMEM, "replaying %s", journal_name(j));
	}
	return r;
}

int engine_resume(struct engine *engine, const struct engine_resume *how, struct err *err)
{
	struct replay p = {.engine = engine, .how = how};
	struct engine_stats *stats = engine->stats;
	struct session *s, *next;
	int r = journal_load(engine->journal, err);

	if (r < 0)
		return r;
	engine_sum_up(engine);
	engine->replaying = true;
	engine->replay = &p;
	/* What the replay counts was counted before (but for session_count()). */
	engine->stats = &engine->own_stats;
	r = replay(&p, err);
	free(p.named);
	stats->pages_missing = engine->stats->pages_missing;
	engine->stats = stats;
	engine->replay = NULL;
	if (r < 0)
		return r; /* still replaying: nothing is closed by engine_free() */
	engine->replaying = false;
	TAILQ_FOREACH_SAFE(s, &engine->sessions, link, next)
		if (r == 0)
			r = session_wake_up(s, err);
	if (r == 0)
		r = flight_resume(engine, err);
	if (r == 0)
		record_compact(engine, true); /* who comes next has less to replay */
	engine->replaying = r < 0;
	return r;
}

void engine_kill_recorded(struct journal *journal)
{
	struct journal_record record;
	const void *payload;
	size_t at = 0;

	journal_load(journal, NULL); /* as far as it can be read */
	while (journal_next(journal, &at, &record, &payload)) {
		const struct record_session *head = payload;

		if (record.type == RECORD_SESSION && record.len >= sizeof(*head) &&
		    head->pidfd >= 0)
			syscall(SYS_pidfd_send_signal, head->pidfd, SIGKILL, NULL, 0);
	}
}
