/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who has handed over its memory, or was forked, is counted once, wherever a worker dies.
 *
 * What is counted lies in memory that workers share, so who goes on must know whom the dead one has
 * counted.  The linker puts functions before those that write the journal (--wrap, see the
 * Makefile), and there workers die.
 */
#include "test/unit/race-stage.h"

#include "criu-lazy/engine/record.h"

enum { NOWHERE, BEFORE, AFTER };

/* A worker's own: where it dies. */
static int dies;
static uint32_t dies_at; /* a record of this type */

int __real_journal_add(struct journal *j, uint32_t type, uint32_t id, const void *payload,
                       size_t len, const void *more, size_t more_len);
int __wrap_journal_add(struct journal *j, uint32_t type, uint32_t id, const void *payload,
                       size_t len, const void *more, size_t more_len);

int __wrap_journal_add(struct journal *j, uint32_t type, uint32_t id, const void *payload,
                       size_t len, const void *more, size_t more_len)
{
	int r;

	if (dies == BEFORE && type == dies_at)
		die(NULL);
	r = __real_journal_add(j, type, id, payload, len, more, more_len);
	if (dies == AFTER && type == dies_at)
		die(NULL);
	return r;
}

void __real_journal_events_end(struct journal *j, size_t nr, bool keep);
void __wrap_journal_events_end(struct journal *j, size_t nr, bool keep);

void __wrap_journal_events_end(struct journal *j, size_t nr, bool keep)
{
	__real_journal_events_end(j, nr, keep);
	if (keep && dies == AFTER && dies_at == RECORD_EVENTS)
		die(NULL);
}

static void begin(struct stage *s, int where, uint32_t type)
{
	static const struct engine_options options = {.background = BACKGROUND_OFF,
	                                              .low_latency = LOW_LATENCY_OFF};

	stage_open(s, &options, false, true);
	dies = where;
	dies_at = type;
}

static void is_born(struct stage *s)
{
	int where = dies;

	dies = NOWHERE; /* not yet */
	engine_begin(s);
	dies = where;
	order(s->p, 0, OP_FORK, 0, 0, 0);
	turn_until(s, false);
}

/* Nr address spaces, of which everything is missing; and it stays like this for who comes next. */
static void expect_and_close(struct stage *s, unsigned nr)
{
	for (int i = 0; i < 2; i++) {
		struct engine_stats stats = stats_of(s);

		assert_int_equal(stats.sessions, nr);
		assert_int_equal(stats.pages_total, nr * PAGES);
		assert_int_equal(stats.pages_missing, nr * PAGES);
		engine_leave(s->engine);
		engine_free(s->engine);
		must(engine_go_on(s) == 0);
	}
	stage_close_all(s);
}

static void go_on(struct stage *s)
{
	dies = NOWHERE;
	must(engine_go_on(s) == 0);
}

/* Nothing is known of it, so it is handed over once more. */
static void test_before_record(void **state)
{
	struct stage s;

	(void)state;
	begin(&s, BEFORE, RECORD_SESSION);
	live(&s, engine_begin);
	go_on(&s);
	assert_int_equal(engine_nr_sessions(s.engine), 0);
	engine_free(s.engine);
	engine_begin(&s);
	expect_and_close(&s, 1);
}

static void test_after_record(void **state)
{
	struct stage s;

	(void)state;
	begin(&s, AFTER, RECORD_SESSION);
	live(&s, engine_begin);
	go_on(&s);
	expect_and_close(&s, 1);
}

/* Its FORK is in the journal, and nobody has acted on it. */
static void test_fork_is_read(void **state)
{
	struct stage s;

	(void)state;
	begin(&s, AFTER, RECORD_EVENTS);
	live(&s, is_born);
	go_on(&s);
	expect_and_close(&s, 2);
}

/* The child is there, and counted; that somebody has acted on its FORK is not in the journal. */
static void test_child_is_there(void **state)
{
	struct stage s;

	(void)state;
	begin(&s, AFTER, RECORD_MARKS);
	live(&s, is_born);
	go_on(&s);
	expect_and_close(&s, 2);
}

static void test_fork_is_applied(void **state)
{
	struct stage s;

	(void)state;
	begin(&s, AFTER, RECORD_APPLIED);
	live(&s, is_born);
	go_on(&s);
	expect_and_close(&s, 2);
}

/* As if it had died within the counting: the sums are right, and have not been copied. */
static void half_counted(struct stage *s)
{
	struct engine_state *state = journal_state(s->journal);

	engine_begin(s);
	state->stats.sessions = 0;
	state->stats.pages_total = 0;
}

static void test_half_counted(void **state)
{
	struct stage s;

	(void)state;
	begin(&s, NOWHERE, 0);
	live(&s, half_counted);
	go_on(&s);
	expect_and_close(&s, 1);
}

/* The same, one step before: what the sums were going to be is nobody's. */
static void not_yet_counted(struct stage *s)
{
	struct engine_state *state = journal_state(s->journal);

	engine_begin(s);
	state->stats.sessions = 0;
	state->stats.pages_total = 0;
	state->counted = 0;
}

static void test_not_yet_counted(void **state)
{
	struct stage s;

	(void)state;
	begin(&s, NOWHERE, 0);
	live(&s, not_yet_counted);
	go_on(&s);
	expect_and_close(&s, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_before_record),   TIMED(test_after_record),    TIMED(test_fork_is_read),
		TIMED(test_child_is_there),  TIMED(test_fork_is_applied), TIMED(test_half_counted),
		TIMED(test_not_yet_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
