/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a program does to its memory meets a worker's death, before, after, and in each step of
 * reading the event.  The worker is a process of its own, and dies by SIGKILL; its next one is this
 * test.
 */
#include "test/unit/race-table.h"

#include "criu-lazy/engine/record.h"

/* --- a worker's death ------------------------------------------------------------------------- */

/* Some pages are there, for one a thread waits, and its message has been read. */
static void worker_begins(struct stage *s)
{
	engine_begin(s);
	read_and_wait(s, 3);
	read_and_wait(s, DELIVERED);
	s->later = true;
	read_page(s, WANTED);
	turn_until(s, s->nr_requests == 1);
}

static void worker_hears(struct stage *s)
{
	worker_begins(s);
	make_event(s);
	hear_event(s);
}

static size_t nr_read; /* by this worker: a REMAP's UNMAP may come within the same read */

/* What the kernel has put there is all that is known of it. */
static void worker_reads(struct stage *s)
{
	struct uffd_msg *msgs;

	worker_begins(s);
	make_event(s);
	if (now->event == EXIT)
		return;
	msgs = journal_events_begin(s->journal, RECORD_EVENTS, 0, 64);
	must(msgs);
	nr_read = (size_t)uffd_read(s->p->uffd, msgs, 64);
	must(nr_read == 1 || nr_read == 2);
}

static void worker_reads_and_keeps(struct stage *s)
{
	worker_reads(s);
	if (now->event != EXIT)
		journal_events_end(s->journal, nr_read, true);
}

/* Read and kept, one change that concerns nothing; so that there are two windows. */
static void worker_hears_quiet(struct stage *s)
{
	worker_begins(s);
	order(s->p, OTHER, OP_UNMAP, scrap_at(s->p, 1), 0, PAGE_SIZE);
	turn_until(s, is_over(s->p, OTHER));
	for (int i = 0; i < 3; i++)
		turn(s);
	make_event(s);
	hear_event(s);
	for (int i = 0; now->event != EXIT && i < 3; i++)
		turn(s);
}

/*
 * Not one page too many or too few is missing (a REMAP's UNMAP may be unread).  heard: the event,
 * by the one who died.
 */
static void go_on(struct stage *s, bool heard)
{
	uint64_t missing = PAGES - 2;

	must(engine_go_on(s) == 0);
	if (heard && now->event == EXIT)
		missing = 0;
	else if (heard && (now->event == REMOVE || now->event == UNMAP))
		missing -= VICTIMS - 1; /* one was there */
	else if (heard && now->event == FORK)
		missing *= 2;
	if (stats_of(s).pages_missing != missing) {
		fprintf(stderr, "%s: %llu pages are missing, not %llu\n", event_name[now->event],
		        (unsigned long long)stats_of(s).pages_missing, (unsigned long long)missing);
		abort();
	}
}

/*
 *	worker	reads a fault; reads the event, acts on it; dies
 *	next	has the journal
 */
static void event_heard_then_death(struct stage *s)
{
	live(s, worker_hears);
	go_on(s, true);
}

/* The same, with several windows. */
static void event_settled_then_death(struct stage *s)
{
	live(s, worker_hears_quiet);
	go_on(s, true);
}

/*
 *	worker	reads a fault; the kernel gives it the event, it dies within the system call
 *	next	finds it behind the end of the journal
 */
static void event_read_then_death(struct stage *s)
{
	live(s, worker_reads);
	go_on(s, now->event != EXIT);
	hear_event(s);
}

/* The worker dies a moment later: the event is in the journal, and nobody has acted on it. */
static void event_kept_then_death(struct stage *s)
{
	live(s, worker_reads_and_keeps);
	go_on(s, now->event != EXIT);
	hear_event(s);
}

/*
 *	worker	reads a fault, asks the source; dies
 *	program	makes its change: there is nobody to hear it
 *	next	has the journal, wakes the thread, reads the event
 */
static void death_then_event(struct stage *s)
{
	live(s, worker_begins);
	make_event(s);
	go_on(s, false);
	hear_event(s);
}

/*
 *	worker	is asked to bring the page, and asks the source
 *	program	makes its change: told, not read
 *	worker	dies before it copies
 *	next	reads the event first
 */
static void worker_dies_at_fetch(struct stage *s)
{
	engine_begin(s);
	read_and_wait(s, 3);
	read_and_wait(s, DELIVERED);
	s->on_fetch = make_event;
	s->later = true;
	read_page(s, WANTED);
	turn_until(s, s->nr_requests == 1);
}

static void event_unread_then_death(struct stage *s)
{
	live(s, worker_dies_at_fetch);
	go_on(s, false);
	hear_event(s);
}

/* Two in a row: what the second concluded from events that the first had not acted on. */
static void worker_goes_on_and_hears(struct stage *s)
{
	must(engine_go_on(s) == 0);
	hear_event(s);
	if (now->event == EXIT)
		return;
	order(s->p, OTHER, OP_UNMAP, scrap_at(s->p, 1), 0, PAGE_SIZE);
	turn_until(s, is_over(s->p, OTHER));
}

/*
 *	worker	reads the event, and dies before it acts on it
 *	second	replays it, reads and acts on others; dies
 *	next	has the journal of both
 */
static void event_kept_then_two_deaths(struct stage *s)
{
	live(s, worker_reads_and_keeps);
	live(s, worker_goes_on_and_hears);
	/* REMAP, FORK: no page has come; the second has woken the thread, whose fault it answers.
	 */
	must(engine_go_on(s) == 0);
	hear_event(s);
}

static void worker_brings_all(struct stage *s)
{
	struct uffd_msg *msgs;

	engine_begin(s);
	for (size_t i = 0; i < PAGES; i++)
		read_and_wait(s, i);
	make_event(s);
	if (now->event == EXIT)
		return;
	msgs = journal_events_begin(s->journal, RECORD_EVENTS, 0, 64);
	must(msgs);
	nr_read = (size_t)uffd_read(s->p->uffd, msgs, 64);
	must(nr_read == 1 || nr_read == 2);
	journal_events_end(s->journal, nr_read, true);
}

/*
 * The same when nothing is missing any more, and only the restorer has not finished: the second
 * finds that a child needs nobody, and the next must not look for its descriptor.
 */
static void complete_then_two_deaths(struct stage *s)
{
	live(s, worker_brings_all);
	live(s, worker_goes_on_and_hears);
	must(engine_go_on(s) == 0);
	hear_event(s);
}

static const struct race situations[] = {
	{"event heard, death", event_heard_then_death, .journal = true},
	{"event settled, death", event_settled_then_death, .journal = true},
	{"event read, death", event_read_then_death, .journal = true},
	{"event kept, death", event_kept_then_death, .journal = true},
	{"event kept, two deaths", event_kept_then_two_deaths, .journal = true},
	{"complete, event kept, two deaths", complete_then_two_deaths, .journal = true,
         .nobody_waits = true, .complete = true},
	{"event unread, death", event_unread_then_death, .journal = true},
	{"death, event", death_then_event, .journal = true},
};

/* An argument: only the races that have it in their names. */
int main(int argc, char **argv)
{
	return run_table(situations, sizeof(situations) / sizeof(situations[0]),
	                 argc > 1 ? argv[1] : NULL);
}
