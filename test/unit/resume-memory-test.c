/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A worker that takes over has no memory, at each of its allocations in turn, or for one of the
 * mappings of the marks: then it cannot go on, and says so, or it goes on and knows everything.  It
 * never forgets half.
 */
#include "test/unit/race-stage.h"

#include "criu-lazy/engine/record.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NO_MALLOC 1 /* it is the sanitizer's */
#endif

static long fail_at = -1; /* so many allocations more; -1: never */
static bool has_failed;

#ifndef NO_MALLOC
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t nr, size_t size);
void *__libc_realloc(void *mem, size_t size);

static bool fails(void)
{
	if (fail_at < 0 || fail_at--)
		return false;
	has_failed = true;
	errno = ENOMEM;
	return true;
}

void *malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t nr, size_t size)
{
	return fails() ? NULL : __libc_calloc(nr, size);
}

void *realloc(void *mem, size_t size)
{
	return fails() ? NULL : __libc_realloc(mem, size);
}
#endif

enum { GONE_AT = 40, GONE = 8, UNMAPPED_AT = 100, UNMAPPED = 4, BROUGHT = 7 };

static void brings_a_page(struct stage *s)
{
	engine_begin(s);
	order(s->p, 0, OP_READ, page_at(s->p, BROUGHT), 0, 0);
	turn_until(s, is_over(s->p, 0));
}

/*
 * As if it had found out, too, that something is not mapped; and had read an event on which it has
 * not acted.
 */
static void add_records(struct stage *s)
{
	const struct tracker_run gone = {.start = page_at(s->p, GONE_AT),
	                                 .img = (uint64_t)GONE_AT * PAGE_SIZE,
	                                 .nr_pages = GONE};
	const struct uffd_msg msg = {
		.event = UFFD_EVENT_UNMAP,
		.arg.remove = {page_at(s->p, UNMAPPED_AT), page_at(s->p, UNMAPPED_AT + UNMAPPED)}};

	must(journal_load(s->journal, NULL) == 0);
	must(journal_add(s->journal, RECORD_GONE, 0, &gone, sizeof(gone), NULL, 0) == 0);
	must(journal_add(s->journal, RECORD_EVENTS, 0, &msg, sizeof(msg), NULL, 0) == 0);
}

static void expect_all_known(const struct stage *s)
{
	must(stats_of(s).pages_missing == PAGES - 1 - GONE - UNMAPPED);
}

static long allocation;
static bool *over; /* shared: nothing was left to fail */

/* As engine_go_on(), which needs memory itself. */
static void goes_on_without(struct stage *s)
{
	uint8_t taken[1] = {0};
	const struct engine_resume how = {stage_source, s, taken, 1};
	struct err err = {0};
	int r;

	must(engine_new(&s->options, &s->engine, &err) == 0);
	fail_at = allocation;
	r = engine_resume(s->engine, &how, &err);
	fail_at = -1;
	*over = !has_failed;
	if (r != (has_failed ? -ENOMEM : 0))
		fprintf(stderr, "allocation %ld: %d\n", allocation, r);
	must(r == 0 || r == -ENOMEM);
	if (r == 0)
		expect_all_known(s);
}

static void test_memory(void **state)
{
	const struct engine_options options = {.background = BACKGROUND_OFF,
	                                       .low_latency = LOW_LATENCY_OFF};
	struct stage s;

	(void)state;
#ifdef NO_MALLOC
	skip_because("allocations are the sanitizer's here");
#endif
	over = mmap(NULL, sizeof(*over), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(over != MAP_FAILED);
	stage_open(&s, &options, false, true);
	live(&s, brings_a_page);
	add_records(&s);
	for (allocation = 0; !*over; allocation++)
		live(&s, goes_on_without);
	print_message("%ld allocations\n", allocation - 1);
	must(engine_go_on(&s) == 0);
	expect_all_known(&s);
	stage_close_all(&s);
	munmap(over, sizeof(*over));
}

/* Marks that cannot be mapped are not marks of which none is set. */
static void test_marks(void **state)
{
	const struct engine_options options = {.background = BACKGROUND_OFF,
	                                       .low_latency = LOW_LATENCY_OFF};
	const struct record_marks nowhere = {.at = UINT64_MAX - PAGE_SIZE + 1};
	struct stage s;

	(void)state;
	stage_open(&s, &options, false, true);
	live(&s, brings_a_page);
	must(journal_load(s.journal, NULL) == 0);
	must(journal_add(s.journal, RECORD_MARKS, 0, &nowhere, sizeof(nowhere), NULL, 0) == 0);
	assert_int_equal(engine_go_on(&s), -EPROTO);
	stage_close_all(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {TIMED(test_memory), TIMED(test_marks)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
