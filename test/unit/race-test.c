/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a program does to its memory meets a copy, an in-flight request and a retry, in both orders.
 * Each function below is one situation, and its comment tells the interleaving that it forces.
 */
#include "test/unit/race-table.h"

/* --- copy -------------------------------------------------------------------------------------
 *
 * The source's bytes of one page are themselves lazy, in the test's own memory: the copier stops
 * within UFFDIO_COPY when it comes there, after HELD pages, with no lock of the program's memory.
 */

struct hold {
	struct stage *s;
	pthread_t thread;
	int uffd;
	pid_t who; /* was stopped */
	bool event_within; /* make it then */
	bool made;
};

static struct hold hold;

static void *let_go(void *arg)
{
	struct stage *s = hold.s;
	uint8_t *page = arg, bytes[PAGE_SIZE];
	struct uffd_msg msg;
	uint64_t done;

	must(readable(hold.uffd, PATIENCE * 1000));
	must(uffd_read(hold.uffd, &msg, 1) == 1 && msg.event == UFFD_EVENT_PAGEFAULT);
	hold.who = (pid_t)msg.arg.pagefault.feat.ptid;
	if (hold.event_within) {
		make_event(s);
		hold.made = true;
	}
	memset(bytes, content_of(HELD), sizeof(bytes));
	must(uffd_copy(hold.uffd, (uint64_t)(uintptr_t)page, bytes, PAGE_SIZE, &done) == UFFD_DONE);
	return NULL;
}

static void start_hold(struct stage *s, bool event_within)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_THREAD_ID};
	uint8_t *page = s->content + (size_t)HELD * PAGE_SIZE;

	hold = (struct hold){.s = s, .event_within = event_within};
	hold.uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	must(hold.uffd >= 0 && ioctl(hold.uffd, UFFDIO_API, &api) == 0);
	madvise(page, PAGE_SIZE, MADV_DONTNEED);
	must(register_lazy(hold.uffd, page, PAGE_SIZE) == 0);
	must(pthread_create(&hold.thread, NULL, let_go, page) == 0);
}

static void end_hold(void)
{
	must(pthread_join(hold.thread, NULL) == 0);
	/* It was the copier, not the engine. */
	must(hold.who && hold.who != (pid_t)syscall(SYS_gettid));
	close(hold.uffd);
}

static bool all_copied(const struct stage *s)
{
	return engine_nr_sessions(s->engine) == 0;
}

/*
 *	copier	UFFDIO_COPY of 64 pages: some are there, now it waits for its source
 *	program	makes its change: it is told, not read
 *	copier	goes on: the kernel refuses the rest (exit: copies it, to what nobody sees)
 *	engine	reads the event only when the copier is done
 */
static void copy_then_event(struct stage *s)
{
	start_hold(s, true);
	engine_begin(s);
	engine_begin_background(s->engine);
	turn_until(s, all_copied(s));
	end_hold();
	must(hold.made);
}

static void event_made(struct stage *s)
{
	make_event(s);
	hold.made = true;
}

/*
 *	engine	has read all there is, and asks the source for what the copier is to have
 *	program	makes its change: it is told, not read
 *	copier	UFFDIO_COPY of 64 pages: refused at once
 *	engine	reads the event, and copies what has a place
 */
static void event_then_copy(struct stage *s)
{
	bool stops = now->event == FORK; /* else nobody copies what is held */

	if (stops)
		start_hold(s, false);
	else
		hold = (struct hold){.s = s};
	s->on_fetch = event_made;
	engine_begin(s);
	engine_begin_background(s->engine);
	turn_until(s, all_copied(s));
	if (stops) {
		must(pthread_join(hold.thread, NULL) == 0);
		close(hold.uffd);
	}
	must(hold.made);
}

/* --- an in-flight request --------------------------------------------------------------------- */

static void ask(struct stage *s)
{
	s->later = true;
	engine_begin(s);
	read_page(s, WANTED);
	turn_until(s, s->nr_requests == 1);
	must(!is_over(s->p, READER));
}

/*
 *	engine	asks the source for the page, for a fault
 *	program	makes its change; the engine reads it all
 *	source	answers: to the place where the page is now, if any (exit: was told that it is over)
 */
static void request_then_event(struct stage *s)
{
	ask(s);
	make_event(s);
	hear_event(s);
	must(!is_over(s->p, READER) || now->event != FORK); /* there the page is where it was */
	if (now->event == EXIT)
		must(!s->request[0]);
	else if (s->request[0])
		answer(s, 0);
	s->later = false;
}

/*
 *	engine	asks the source for the page, for a fault
 *	program	makes its change: it is told, not read
 *	source	answers: the copy is refused, the event read, the place looked up again
 */
static void event_then_answer(struct stage *s)
{
	ask(s);
	make_event(s);
	must(s->request[0]);
	answer(s, 0);
	if (now->event == EXIT)
		must(engine_nr_sessions(s->engine) == 0);
	s->later = false;
}

/* --- a retry ---------------------------------------------------------------------------------- */

static void unmap_scrap(struct stage *s)
{
	order(s->p, OTHER, OP_UNMAP, scrap_at(s->p, 0), 0, PAGE_SIZE);
	/* Something of the changer may be unread already: wait for this one by itself. */
	eventually(lane_waits(s->p, OTHER) && uffd_quiet(s->p->uffd) == UFFD_CHANGING);
}

/*
 *	engine	reads a fault, asks the source
 *	other	unmaps something of no interest: told, not read
 *	engine	the copy is refused: the fault is kept for a retry
 *	program	makes its change: told, not read
 *	engine	the retry: reads both events, asks anew what belongs there
 */
static void retry_then_event(struct stage *s)
{
	s->on_fetch = unmap_scrap;
	engine_begin(s);
	read_page(s, WANTED);
	turn_until(s, s->nr_fetches == 1);
	must(!is_over(s->p, READER) && uffd_quiet(s->p->uffd) == UFFD_CHANGING);
	make_event(s);
	hear_event(s);
}

static void event_and_scrap(struct stage *s)
{
	make_event(s);
	if (now->event != EXIT)
		unmap_scrap(s);
}

/*
 *	engine	reads a fault, asks the source
 *	program	makes its change, the other one unmaps: both told, not read
 *	engine	the copy is refused: the fault is kept for a retry (exit: refused for good)
 *	engine	the retry: reads both events, asks anew what belongs there
 */
static void event_then_retry(struct stage *s)
{
	s->on_fetch = event_and_scrap;
	engine_begin(s);
	read_page(s, WANTED);
	turn_until(s, s->nr_fetches == 1);
	if (now->event == EXIT)
		must(engine_nr_sessions(s->engine) == 0);
	else
		must(!is_over(s->p, READER) && uffd_quiet(s->p->uffd) == UFFD_CHANGING);
	hear_event(s);
}

static const struct race situations[] = {
	{"copy, event", copy_then_event, .copier = true, .nobody_waits = true},
	{"event, copy", event_then_copy, .copier = true, .nobody_waits = true},
	{"request, event, answer", request_then_event, .dear = true},
	{"request, event unread, answer", event_then_answer, .dear = true},
	{"retry, event", retry_then_event, .journal = false},
	{"event, retry", event_then_retry, .journal = false},
};

/* An argument: only the races that have it in their names. */
int main(int argc, char **argv)
{
	return run_table(situations, sizeof(situations) / sizeof(situations[0]),
	                 argc > 1 ? argv[1] : NULL);
}
