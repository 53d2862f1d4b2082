/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A journal with numbers of sessions that lie far apart: the records find the session that they
 * are about, and what they cost does not depend on the numbers.  One with numbers that cannot be is
 * refused, with a reason.
 */
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/engine/engine.h"
#include "criu-lazy/engine/journal.h"
#include "criu-lazy/engine/record.h"
#include "criu-lazy/track/save.h"
#include "criu-lazy/track/tracker.h"
#include "test/unit/no-source.h"
#include "test/unit/uffd-world.h"

#include <stdlib.h>
#include <sys/resource.h>

enum {
	LIMIT = 8 << 20,
	PROCESSES = 2,
	PAGES_EACH = 16,
	UNMAPPED = 4,
	HIGHEST = INT32_MAX,
	COST_MAX = 64 << 10, /* KiB; the numbers' own range would be a hundred times as much */
};

#define START UINT64_C(0x7f0000000000)

static struct source *give_source(void *cookie, uint32_t index)
{
	return index < PROCESSES ? source_share(cookie) : NULL;
}

/* --- a journal -------------------------------------------------------------------------------- */

static struct journal *new_journal(void)
{
	const struct journal_options options = {
		.name = "a journal", .limit = LIMIT, .state_size = sizeof(struct engine_state)};
	struct err err = {0};
	struct journal *j;

	assert_int_equal(journal_new(&options, &j, &err), 0);
	return j;
}

static void add_session(struct journal *j, uint32_t id, uint32_t index, int uffd)
{
	struct record_session head = {
		.index = index, .uffd = uffd, .pidfd = -1, .family = id, .name = "pid 1"};
	struct tracker *t = tracker_new();
	size_t size;
	void *bytes;

	assert_non_null(t);
	assert_int_equal(tracker_add(t, START, 0, PAGES_EACH), 0);
	size = tracker_save_size(t);
	bytes = malloc(size);
	assert_non_null(bytes);
	tracker_save(t, bytes);
	tracker_free(t);
	assert_int_equal(journal_add(j, RECORD_SESSION, id, &head, sizeof(head), bytes, size), 0);
	free(bytes);
}

/* Its first nr pages are unmapped. */
static void add_unmap(struct journal *j, uint32_t id, unsigned nr)
{
	struct uffd_msg msg = {.event = UFFD_EVENT_UNMAP};

	msg.arg.remove.start = START;
	msg.arg.remove.end = START + nr * PAGE_SIZE;
	assert_int_equal(journal_add(j, RECORD_EVENTS, id, &msg, sizeof(msg), NULL, 0), 0);
	assert_int_equal(journal_add(j, RECORD_APPLIED, id, NULL, 0, NULL, 0), 0);
}

static void add_end(struct journal *j, uint32_t id)
{
	assert_int_equal(journal_add(j, RECORD_END, id, NULL, 0, NULL, 0), 0);
}

/* 0 or negative errno; then what is missing and of how many. */
static int resume(struct journal *j, size_t *ret_nr, uint64_t *ret_missing, struct err *err)
{
	const struct engine_options options = {
		.background = BACKGROUND_OFF, .low_latency = LOW_LATENCY_OFF, .journal = j};
	struct source source = {.ops = &no_source_ops, .nr_owners = 1};
	uint8_t taken[PROCESSES] = {0};
	const struct engine_resume how = {give_source, &source, taken, PROCESSES};
	struct engine_stats stats;
	struct engine *engine;
	int r;

	assert_int_equal(engine_new(&options, &engine, err), 0);
	r = engine_resume(engine, &how, err);
	*ret_nr = engine_nr_sessions(engine);
	engine_stats(engine, &stats);
	*ret_missing = stats.pages_missing;
	engine_free(engine);
	assert_int_equal(source.nr_owners, 1);
	return r;
}

static long peak_kib(void)
{
	struct rusage usage;

	assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
	return usage.ru_maxrss;
}

static void test_far_apart(void **state)
{
	static const uint32_t ids[] = {0, 70, (1 << 26) - 1, 1 << 30, HIGHEST};
	enum { NR = sizeof(ids) / sizeof(ids[0]) };
	struct journal *j = new_journal();
	uint64_t features, missing;
	struct err err = {0};
	long before;
	size_t nr;

	(void)state;
	log_open("/dev/null", LOG_ERROR, NULL);
	for (size_t i = 0; i < NR; i++) {
		int fd = open_uffd(&features);

		if (fd < 0)
			skip_because("no userfaultfd here: %s", strerror(-fd));
		add_session(j, ids[i], i % PROCESSES, fd);
	}
	for (unsigned i = 0; i < NR; i++)
		add_unmap(j, ids[i], i + 1);
	add_end(j, ids[2]);
	add_unmap(j, ids[2], PAGES_EACH); /* of nobody any more */
	add_unmap(j, ids[2] + 1, PAGES_EACH);
	before = peak_kib();
	assert_int_equal(resume(j, &nr, &missing, &err), 0);
	assert_true(peak_kib() - before < COST_MAX);
	assert_int_equal(nr, NR - 1);
	assert_int_equal(missing, 4 * PAGES_EACH - 1 - 2 - 4 - 5);
	journal_free(j);
}

/* Sessions come and go: the ones that have ended take no place for ever, the others stay found. */
static void test_many_ended(void **state)
{
	enum { MANY = 3000, EVERY = 7 };
	struct journal *j = new_journal();
	uint64_t features, missing;
	struct err err = {0};
	int fd = open_uffd(&features);
	size_t nr;

	(void)state;
	if (fd < 0)
		skip_because("no userfaultfd here: %s", strerror(-fd));
	add_session(j, 1, 0, fd);
	for (uint32_t i = 0; i < MANY; i++) {
		add_session(j, 100 + i * 1000, 1, -1);
		if (i % EVERY == 0) {
			add_unmap(j, 100 + i / 2 / EVERY * EVERY * 1000, PAGES_EACH);
			add_unmap(j, 1, PAGES_EACH - 1);
		}
		if (i % EVERY)
			add_end(j, 100 + i * 1000);
	}
	/* What was not unmapped would be reported as lost with its userfaultfd. */
	for (uint32_t i = 0; i < MANY; i += EVERY)
		add_unmap(j, 100 + i * 1000, PAGES_EACH);
	assert_int_equal(resume(j, &nr, &missing, &err), 0);
	assert_int_equal(nr, 1);
	assert_int_equal(missing, 1);
	journal_free(j);
}

static void refused(struct journal *j, const char *reason)
{
	struct err err = {0};
	uint64_t missing;
	size_t nr;

	assert_int_equal(resume(j, &nr, &missing, &err), -EPROTO);
	assert_int_equal(err.code, EPROTO);
	assert_null(strchr(err.text, '\n'));
	if (!strstr(err.text, reason))
		fail_msg("%s: not %s", err.text, reason);
	journal_free(j);
}

static void test_impossible(void **state)
{
	const struct record_unkept unkept = {.nr = 3};
	struct journal *j = new_journal();

	(void)state;
	add_session(j, HIGHEST + 1U, 0, -1);
	refused(j, "session 2147483648: the next one may be 0 to 2147483647");

	j = new_journal();
	add_session(j, UINT32_MAX, 0, -1);
	refused(j, "session 4294967295: the next one may be 0 to 2147483647");

	j = new_journal();
	add_session(j, 9, 0, -1);
	add_session(j, 9, 1, -1);
	refused(j, "session 9: the next one may be 10 to 2147483647");

	j = new_journal();
	add_session(j, 9, PROCESSES, -1);
	refused(j, "session 9: process 2 of 2 in the plan");

	j = new_journal();
	add_session(j, 9, 0, -1);
	assert_int_equal(journal_add(j, RECORD_NEXT, 8, NULL, 0, NULL, 0), 0);
	refused(j, "the next session is 8, and may be 10 to 2147483647");

	j = new_journal();
	add_session(j, 9, 0, -1);
	assert_int_equal(journal_add(j, RECORD_UNKEPT, 9, &unkept, sizeof(unkept), NULL, 0), 0);
	refused(j, "pid 1: event 3 of the 0 that wait is no FORK");

	j = new_journal();
	add_session(j, 9, 0, -1);
	assert_int_equal(journal_add(j, RECORD_UNKEPT, 9, &unkept, 4, NULL, 0), 0);
	refused(j, "a FORK of 4 bytes");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_far_apart),
		TIMED(test_many_ended),
		TIMED(test_impossible),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
