/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * session.h - the insides of an engine, for the files of this folder only.
 *
 *	SERVING --nothing missing, quiet--> ENDED     its userfaultfd is closed: all in one go
 *	SERVING --process gone------------> ENDED
 *	SERVING --page lost, kill---------> DOOMED    SIGKILL sent; faults are left unanswered
 *	DOOMED  --process gone------------> ENDED
 *	DOOMED  --dead, but its memory is shared with a live one--> SERVING, poisoning
 *
 * session_end() performs the first two and the fourth, lost_page() the third, session_check() the
 * last.  A session is freed at the end of the turn in which the kernel let go of its descriptor.
 */
#ifndef CRIU_LAZY_ENGINE_SESSION_H
#define CRIU_LAZY_ENGINE_SESSION_H

#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/engine/engine.h"
#include "criu-lazy/os/ring.h"
#include "criu-lazy/source/source.h"
#include "criu-lazy/track/tracker.h"

#include <bsd/sys/queue.h>

struct fault {
	uint64_t addr;
	int64_t since; /* when its message was read */
};

struct fault_list {
	struct fault *fault;
	size_t nr, room;
};

struct fetch; /* fetch.c: a request to a source, or a chunk for the copier */
struct session;
TAILQ_HEAD(session_list, session);

/* The address spaces that came from one process by fork while it was lazy. */
struct family {
	uint32_t id; /* of the session that founded it */
	struct session_list members; /* those that have not ended */
	unsigned nr_owners; /* sessions that point here */
	unsigned nr_asked; /* requests to a source that are on their way */
	unsigned nr_background; /* of those: when they began nobody waited */
};

enum session_state { SESSION_SERVING, SESSION_DOOMED, SESSION_ENDED };

struct session {
	TAILQ_ENTRY(session) link; /* engine->sessions */
	TAILQ_ENTRY(session) ready_link; /* engine->ready, when on_ready */
	TAILQ_ENTRY(session) timed_link; /* engine->timed, when on_timed */
	TAILQ_ENTRY(session) family_link;
	struct engine *engine;
	struct family *family;
	struct watch watch; /* of uffd */
	struct watch pid_watch;
	int nr_watches; /* not yet gone */
	uint32_t id; /* in the journal */
	uint32_t index; /* in the plan, of the process that it came from */
	char name[24]; /* "pid 12", a child born later: "pid 12.1" */
	unsigned nr_children; /* forked while lazy, for their names */
	int uffd;
	int pidfd;
	enum session_state state;
	bool on_ready;
	bool on_timed;
	bool told_unreadable; /* that reading its userfaultfd failed */
	bool unquiet; /* events were read, and the kernel may still refuse copies */
	struct session *held_by; /* children.c: of whose events some may still concern it */
	int64_t held_since;
	bool heard_enough; /* of the events of held_by */
	struct newborn *newborn; /* children.c: what is known of it while it is held; may be NULL */
	struct uffd_msg *pending; /* its own events while it is held */
	size_t nr_pending, room_pending;
	bool poisons; /* cannot be killed: lost pages are poisoned */
	uint64_t nr_lost;
	struct tracker *tracker;
	uint64_t counted_missing; /* its share of stats->pages_missing */
	uint64_t *marks; /* journal.h: what was delivered; NULL: not kept */
	uint64_t marks_at;
	bool marked; /* while a journal is replayed: it has marks there */
	struct source *source;
	struct fault_list faults; /* to be answered */
	struct fault_list waiting; /* for pages in flight */
	SLIST_HEAD(, fetch) parked; /* answers that could not be copied yet */
	int64_t retry_at; /* CLOCK_NEVER: no retry wanted */
	int64_t retry_delay;
	/* background.c */
	uint64_t cursor; /* where it goes on */
	uint64_t chunk_limit; /* pages; shrinks where mappings are small */
	bool nothing_free; /* all that is missing is on its way */
	unsigned nr_copies; /* chunks that are with the copier */
	unsigned own_chunks; /* so many are not given away: the last one was refused */
	unsigned streak; /* faults in a row that went straight on */
	uint64_t last_fault; /* its page */
	bool expected; /* the source has been told what will be needed */
};

struct uffd_msg;
struct newborn_verdict;
struct record_answer;

/* So long without a fault, and the program is busy with something else. */
#define STORM_PAUSE (2 * NSEC_PER_MSEC)

struct engine {
	struct engine_options options;
	struct ring *ring;
	struct session_list sessions; /* SERVING and DOOMED */
	struct session_list ended; /* waiting to be freed */
	struct session_list ready; /* with something to read or to retry */
	struct session_list timed; /* with a retry or a request that something happens for later */
	SLIST_HEAD(, fetch) free_fetches; /* so that a fault allocates nothing */
	size_t nr_sessions;
	size_t nr_held; /* sessions with held_by */
	bool background; /* begun */
	struct copier *copier; /* NULL: none */
	struct session *turn; /* whose background turn it is */
	struct session *hot; /* whose fault was the last; every other turn is its own */
	bool flip;
	bool answered; /* faults, in this turn */
	int64_t last_fault;
	int64_t storm_since; /* faults have come since then, without a STORM_PAUSE */
	int64_t next_check; /* liveness of those that nobody tells about */
	int64_t tokens_at; /* BACKGROUND_RATE: when the next chunk may go */
	int latency_fd; /* -1: not held */
	bool latency_failed;
	int nr_cpus;
	struct engine_stats *stats; /* in the journal, if there is one */
	struct engine_state *state; /* there; NULL: none */
	struct engine_stats own_stats;
	struct journal *journal; /* NULL: none */
	bool told_broken; /* that nobody can go on from it */
	uint32_t next_id; /* of a session */
	uint32_t message; /* of those that were read at once, the one that is applied */
	struct replay *replay; /* resume.c */
	bool replaying; /* nothing is done to descriptors, nothing is recorded */
	struct err failed; /* it cannot go on: the next worker replays what it has begun */
	bool abandoning; /* nothing is brought any more: all that is missing is lost */
};

/* session.c */
void session_ready(struct session *s); /* serve it in this turn */
void session_retry(struct session *s); /* serve it again soon, with growing delay */
void session_timed(struct session *s); /* it has a request with a source */
void session_end(struct session *s, bool exited);
void session_check(struct session *s); /* is its address space still there? */
void session_free(struct session *s); /* one that has ended, and is in no list */
void session_account(struct session *s); /* after what is missing has changed */
/* family: its relatives, NULL: none yet.  Takes over everything in process, also on failure. */
struct session *session_add(struct engine *engine, const struct engine_process *process,
                            const char *name, struct family *family, struct err *err);
/*
 * In the statistics, just added and once the journal tells of it: if its worker dies in between,
 * the next one does it in the replay, and not again otherwise.  engine_sum_up(): to its end, if the
 * worker has died within.
 */
void session_count(struct session *s);
void engine_sum_up(struct engine *engine);

/* event.c: read everything there is, apply events, collect faults.  How many messages came. */
int session_drain(struct session *s);

/* event.c: end the window if the kernel agrees, settle doubts.  false: still changing, or ended. */
bool session_quiet(struct session *s);

/*
 * children.c: a child of parent, just added, which is held.  children_hear(): a REMAP or UNMAP of
 * the parent was applied, which may be one that its newborn children have seen.  child_is_held():
 * it is not known yet what it has seen; nothing may be copied to it.  children_let_go(): the parent
 * has nothing more to tell.
 */
void child_begin(struct session *child, struct session *parent);
void children_hear(struct session *parent);
bool child_is_held(struct session *child);
void children_let_go(struct session *parent);

/* Its own event while it is held; there is room. */
bool child_reserve(struct session *child, size_t nr);
void child_pend(struct session *child, const struct uffd_msg *msg);
/* The descriptor of the FORK with this number is lost, -1 from now on; false: it is no FORK. */
bool child_unkept(struct session *child, size_t nr);
void child_free(struct session *child);

/*
 * It has exited while it was held, but children of its own may live: they begin now.  false: there
 * is no memory for that; the engine has failed, the next one will do it.
 */
bool child_may_end(struct session *child);

/* event.c: a pending event, at last. */
void session_apply(struct session *s, const struct uffd_msg *msg);

int fault_list_reserve(struct fault_list *list, size_t nr);
void fault_list_push(struct fault_list *list, uint64_t addr, int64_t since);

/* fill.c */
void session_answer_faults(struct session *s);

/* Pages that are there now, or never will be: out of the tracker, into the counter. */
void session_delivered(struct session *s, uint64_t start, uint64_t nr_pages, uint64_t *counter);

enum fill_result {
	FILL_DONE,
	FILL_RETRY, /* the address space is changing: read events, ask the tracker again */
	FILL_LOST, /* the page at *ret_at cannot be read */
	FILL_ENDED, /* the session is over */
};

/* Copy run from bytes, count pages to *counter. */
enum fill_result session_fill(struct session *s, const struct tracker_run *run, const void *bytes,
                              uint64_t *counter, uint64_t *ret_at);

/*
 * fetch.c: a session in the family of another one, or (NULL) in one of its own; false: no memory.
 * It leaves when it ends, and gives the family up when it is freed.
 */
bool family_join(struct session *s, struct family *family);
void family_leave(struct session *s);
void family_free(struct family *family);

/* The request of a relative that will bring what is missing at addr; NULL: none. */
struct ticket *family_ticket(const struct session *s, uint64_t addr);

/* As tracker_next(), without what relatives are fetching. */
bool family_next(const struct session *s, uint64_t from, uint64_t max_pages,
                 struct tracker_run *ret);

void session_cancel_fetches(struct session *s);

/* Answers that came while it was changing, now that it is quiet. */
void session_place_parked(struct session *s);

/* Start a fetch whose answer comes later; false: no memory. */
struct fetch *fetch_new(struct session *s, const struct tracker_run *run, bool urgent);
void fetch_free(struct fetch *fetch);
void engine_free_fetches(struct engine *engine);
struct source_request *fetch_request(struct fetch *fetch);

/*
 * Its answer is here, but the session that asked for it is changing all the time.  A relative that
 * is not may have it: FILL_DONE, or what place there is has still to be found.
 */
bool fetch_is_parked(const struct fetch *fetch);
enum fill_result fetch_place_parked(struct session *s, struct fetch *fetch);

/* Somebody waits for what was begun when nobody did. */
void fetch_hurry(struct fetch *fetch);
bool fetch_begin(struct fetch *fetch, const struct tracker_run *run);

/* Give run, whose bytes last, to the copier; what it has done comes back by engine_reap(). */
bool fetch_give(struct fetch *fetch, const struct tracker_run *run, const void *bytes);
void engine_reap(struct engine *engine);

/* Until the copier has nothing of this session any more: before its events may be read. */
void session_settle(struct session *s);

/* background.c: may a chunk be copied now?  When may the next one (CLOCK_NEVER: nothing to do)? */
int64_t background_deadline(const struct engine *engine);

/* background.c: one chunk for one session. */
void engine_background(struct engine *engine, int64_t now);

/*
 * background.c: its program walks straight on: run, which starts with the page it waits for, is
 * made longer, and the copier gets what follows.
 */
void background_ahead(struct session *s, struct tracker_run *run);

/*
 * record.c: what happens is remembered.  None of them fails: a journal that cannot take more is
 * broken, which is said once.  All do nothing without a journal, and while it is replayed.
 */
bool record_wanted(const struct engine *engine);
void record_session(struct session *s);
void record_end(struct engine *engine, uint32_t id);
void record_unnamed(struct session *s); /* its pidfd is closed */
void record_quiet(struct session *s);
void record_applied(struct session *s);
void record_doubt(struct session *s, const struct tracker_run *run, bool mapped);
void record_settled(struct session *s);
/* After the tracker has heard of engine->message, which is a REMAP or an UNMAP. */
void record_date(struct session *s);
void record_newborn(struct session *s, const struct newborn_verdict *verdict);
void record_answers(struct session *s, const struct record_answer *answers, size_t nr);

/* A FORK that is pending; nr: its number there. */
void record_unkept(struct session *s, uint32_t nr);

/* Marks of its own; a child's begin with its parent's (NULL: it has none). */
void record_marks(struct session *s, const struct session *parent);
void record_forget_marks(struct session *s);

/*
 * Where nr messages of s can be read to; NULL with 0: the journal is not wanted, read them
 * elsewhere; NULL with -ENOMEM: not now.
 */
struct uffd_msg *record_events_begin(struct session *s, size_t nr, int *ret_error);
void record_events_end(struct session *s, size_t nr, bool keep);

/* When it has grown long (after a replay: longer than it need be): shorten it. */
void record_compact(struct engine *engine, bool replayed);

/* For resume.c: do again what another worker has recorded, and the end of that. */
bool replay_events(struct session *s, const struct uffd_msg *msgs, size_t nr);
void replay_date(struct session *s); /* before the tracker hears of the message */
bool replay_is_news(const struct engine *engine); /* nobody has acted on it: it is recorded */
void replay_quiet(struct session *s);
void replay_newborn(struct session *child, const struct newborn_verdict *verdict);
void replay_answers(struct session *child, const struct record_answer *answers, size_t nr);
int replay_recall(struct session *s, struct err *err); /* what was delivered */

/* wake.c: when all is replayed; it ends if its userfaultfd was not kept. */
int session_wake_up(struct session *s, struct err *err);

/* session.c: the end of that: it is watched, and who waits asks again. */
int session_resume(struct session *s, struct err *err);

/*
 * flight.c: what is noted of pages before the kernel is asked to put them there, until their marks
 * are set.  flight_give(): the same for what the copier gets; its number is for flight_take_back().
 */
void flight_begin(struct session *s, const struct tracker_run *run);
void flight_end(struct session *s);
size_t flight_give(struct session *s, const struct tracker_run *run);
void flight_take_back(struct session *s, size_t nr);

/*
 * After a replay: what was in flight is suspected to be there.  flight_next_suspect(): the next run
 * of s that is suspected, and missing, and that nobody is fetching; false: none at present.
 */
int flight_resume(struct engine *engine, struct err *err);
bool flight_any_suspects(const struct engine *engine);
bool flight_next_suspect(struct session *s, uint64_t max_pages, struct tracker_run *ret);

/* fill.c: what a source would say when nothing is brought any more. */
enum source_answer given_up(struct err *err);

/* lost.c: give all of it up, as --on-lost says. */
void session_abandon(struct session *s);

/*
 * lost.c: the page of the image at addr cannot be had.  true: that is settled, by killing or
 * poisoning; false: not yet, come again (an address space that is changing).
 */
bool lost_page(struct session *s, uint64_t addr, uint64_t img, const struct err *why);

#endif
