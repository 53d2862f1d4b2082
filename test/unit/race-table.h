/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * race-table.h - five things that a program does to its memory meet what an engine is in the middle
 * of:
 *
 *	REMOVE UNMAP REMAP FORK exit  x  a table of situations
 *
 * Which side comes first is forced: the program's thread is known to be stuck with an event that
 * nobody has read (or the process to be dead), and the engine does nothing unless it is given a
 * turn, or stops within one where the test's source is asked, or where the kernel asks for the
 * bytes that it is to copy.
 *
 * What the event is about are VICTIMS pages at VICTIM.  A thread waits for one of them (WANTED)
 * except where nobody_waits.  At the end every page of every process is what it must be.
 */
#ifndef TEST_UNIT_RACE_TABLE_H
#define TEST_UNIT_RACE_TABLE_H

#include "test/unit/race-stage.h"

enum { VICTIM = 8, VICTIMS = 4, WANTED = 9, DELIVERED = 10, HELD = 11 };

/* Who does what. */
enum { READER, CHANGER, OTHER, JUDGE };

enum event { REMOVE, UNMAP, REMAP, FORK, EXIT };

struct race {
	const char *name;
	void (*meet)(struct stage *s);
	bool copier, dear, journal;
	bool nobody_waits, complete;
	enum event event;
};

static const struct race *now; /* for what is called back */

static const char *const event_name[] = {"REMOVE", "UNMAP", "REMAP", "FORK", "exit"};

/* --- events ----------------------------------------------------------------------------------- */

static inline uint64_t victim(const struct stage *s)
{
	return page_at(s->p, VICTIM);
}

/* Until it is made, and told, and nobody has heard of it; or until the process is dead. */
static inline void make_event(struct stage *s)
{
	static const enum op op[] = {OP_REMOVE, OP_UNMAP, OP_REMAP, OP_FORK, OP_EXIT};

	order(s->p, CHANGER, op[now->event], victim(s), page_at(s->p, PAGES + VICTIM),
	      VICTIMS * PAGE_SIZE);
	if (now->event == EXIT) {
		must(readable(s->p->pidfd, PATIENCE * 1000));
		return;
	}
	stuck(s->p, CHANGER);
	must(uffd_quiet(s->p->uffd) == UFFD_CHANGING);
}

/* Until the engine has heard all of it. */
static inline void hear_event(struct stage *s)
{
	if (now->event == EXIT)
		turn_until(s, engine_nr_sessions(s->engine) == 0);
	else
		turn_until(s, is_over(s->p, CHANGER));
}

static inline void expect_after_event(struct stage *s)
{
	for (size_t i = VICTIM; i < VICTIM + VICTIMS; i++) {
		if (now->event == REMOVE)
			s->p->expected[i].byte = 0;
		else if (now->event == UNMAP)
			s->p->expected[i].byte = NOT_MAPPED;
		else if (now->event == REMAP)
			s->p->expected[i].addr = page_at(s->p, i + PAGES);
	}
}

static inline int wanted_byte(void)
{
	switch (now->event) {
	case REMOVE:
		return 0;
	case UNMAP:
	case REMAP:
		return NOT_MAPPED;
	default:
		return content_of(WANTED);
	}
}

static inline void read_page(struct stage *s, size_t page)
{
	order(s->p, READER, OP_READ, page_at(s->p, page), 0, 0);
}

static inline void read_and_wait(struct stage *s, size_t page)
{
	read_page(s, page);
	turn_until(s, is_over(s->p, READER));
	must(s->p->lane[READER].result == content_of(page));
}

/* --- the end ---------------------------------------------------------------------------------- */

static inline void judge_child(struct stage *s)
{
	pid_t child = (pid_t)s->p->lane[CHANGER].result;

	must(child > 0);
	atomic_store(&s->p->child_may_look, true);
	order(s->p, OTHER, OP_REAP, (uint64_t)child, 0, 0);
	turn_until(s, is_over(s->p, OTHER));
	must(s->p->lane[OTHER].result == 0);
}

/* Everything comes, and is what it must be. */
static inline void judge(struct stage *s)
{
	if (now->event == EXIT) {
		turn_until(s, engine_nr_sessions(s->engine) == 0);
		/* A copy keeps its memory alive, and all may have come before that is noticed. */
		must(stats_of(s).sessions_exited == !now->complete || now->copier);
		must(said(s, "pid 1: EXIT") || said(s, "pid 1: complete"));
		return;
	}
	turn_until(s, is_over(s->p, CHANGER) && is_over(s->p, OTHER));
	if (!now->nobody_waits) {
		turn_until(s, is_over(s->p, READER));
		assert_int_equal(s->p->lane[READER].result, wanted_byte());
	}
	expect_after_event(s);
	if (now->event == FORK)
		judge_child(s);
	else
		assert_int_equal(s->p->lane[CHANGER].result, 0);
	engine_hurry(s->engine);
	engine_begin_background(s->engine);
	turn_until(s, engine_nr_sessions(s->engine) == 0);
	order(s->p, JUDGE, OP_VERIFY, 0, 0, 0);
	eventually(is_over(s->p, JUDGE));
	assert_int_equal(s->p->lane[JUDGE].result, 0);
	assert_true(said(s, event_name[now->event]) > 0);
	assert_int_equal(stats_of(s).sessions_exited, 0);
	assert_int_equal(stats_of(s).pages_lost, 0);
}

static inline void run(const struct race *race)
{
	const struct engine_options options = {.background = race->copier ? BACKGROUND_FULL
	                                                                  : BACKGROUND_OFF,
	                                       .low_latency = LOW_LATENCY_OFF,
	                                       .copier = race->copier};
	struct stage s;

	now = race;
	stage_open(&s, &options, race->dear, race->journal);
	race->meet(&s);
	judge(&s);
	stage_close_all(&s);
}

static inline void test_race(void **state)
{
	run(*state);
}

enum { EVENTS = 5, SITUATIONS_MAX = 16 };

/* Each event in each situation; name: only those that have it in theirs, NULL: all. */
static inline int run_table(const struct race *situations, size_t nr_situations, const char *name)
{
	static struct race races[SITUATIONS_MAX * EVENTS];
	static char names[SITUATIONS_MAX * EVENTS][64];
	struct CMUnitTest tests[SITUATIONS_MAX * EVENTS];
	size_t nr = 0;

	must(nr_situations <= SITUATIONS_MAX);
	for (size_t i = 0; i < nr_situations * EVENTS; i++) {
		races[nr] = situations[i / EVENTS];
		races[nr].event = (enum event)(i % EVENTS);
		snprintf(names[nr], sizeof(names[nr]), "%s: %s", event_name[i % EVENTS],
		         races[nr].name);
		if (name && !strstr(names[nr], name))
			continue;
		tests[nr] = (struct CMUnitTest){names[nr], test_race, be_patient, NULL, &races[nr]};
		nr++;
	}
	return _cmocka_run_group_tests("races", tests, nr, NULL, NULL);
}

#endif
