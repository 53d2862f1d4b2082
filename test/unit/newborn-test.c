/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What newborn_judge() concludes, and from what not: one story for each reason.
 *
 * A is the thread that changes memory, B the one that forks; a call changes memory at ! and its
 * event is read at ?.  Pages 0..3 (image 100..103) and 10..13 (110..113) are missing at the start;
 * the test plays the kernel, and says what is mapped in the child.
 */
#include "criu-lazy/base/page.h"
#include "criu-lazy/track/newborn.h"
#include "criu-lazy/track/tracker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RUN_BASE UINT64_C(0x7f0000000000)

enum { X = 0, Y = 10, LEN = 4, PLACES = 32 };

/* Of each page of the child: which mapping it is in. */
struct story {
	struct tracker *parent, *child;
	char mapping[PLACES + 1];
	bool tells_nothing;
	struct newborn_verdict verdict;
};

enum { NOTHING = '.' };

static uint64_t addr_of(unsigned int page)
{
	return RUN_BASE + ((uint64_t)(page + 1) << PAGE_SHIFT);
}

static enum newborn_answer mapped(void *cookie, uint64_t addr, uint64_t len)
{
	const struct story *s = cookie;

	if (s->tells_nothing)
		return NEWBORN_UNKNOWN;
	for (uint64_t at = addr; at < addr + len; at += PAGE_SIZE) {
		uint64_t page = (at - addr_of(0)) >> PAGE_SHIFT;
		uint64_t first = (addr - addr_of(0)) >> PAGE_SHIFT;

		if (at < addr_of(0) || page >= PLACES || s->mapping[page] == NOTHING ||
		    s->mapping[page] != s->mapping[first])
			return NEWBORN_FREE;
	}
	return NEWBORN_MAPPED;
}

/* mapping: a letter for each page, as far as it goes. */
static void begin(struct story *s, const char *mapping)
{
	*s = (struct story){.parent = tracker_new()};
	assert_non_null(s->parent);
	assert_int_equal(tracker_add(s->parent, addr_of(X), 100 * PAGE_SIZE, LEN), 0);
	assert_int_equal(tracker_add(s->parent, addr_of(Y), 110 * PAGE_SIZE, LEN), 0);
	memset(s->mapping, NOTHING, PLACES);
	memcpy(s->mapping, mapping, strlen(mapping));
	assert_int_equal(tracker_reserve(s->parent, 40), 0);
}

static void hear(struct story *s)
{
	if (s->child)
		newborn_hear(s->child, s->parent);
}

static void remap(struct story *s, unsigned int from, unsigned int to)
{
	tracker_remap(s->parent, addr_of(from), addr_of(to), LEN * PAGE_SIZE);
	hear(s);
}

static void unmap(struct story *s, unsigned int page)
{
	tracker_unmap(s->parent, addr_of(page), addr_of(page + LEN));
	hear(s);
}

static void fork_is_read(struct story *s)
{
	assert_int_equal(tracker_fork(s->parent, &s->child), 0);
}

static unsigned int image_at(const struct story *s, unsigned int page)
{
	struct ticket *ticket;
	uint64_t img;

	return tracker_fault(s->child, addr_of(page), &img, &ticket) == TRACKER_FETCH
	               ? (unsigned int)(img / PAGE_SIZE)
	               : 0;
}

/* Which image page begins at X, and at Y; 0: nothing is missing there. */
static void expect(struct story *s, uint64_t not_seen, uint64_t seen, uint64_t spared,
                   unsigned int at_x, unsigned int at_y)
{
	const struct newborn_kernel kernel = {mapped, s};

	newborn_judge(s->child, &kernel, &s->verdict);
	assert_int_equal(s->verdict.not_seen, not_seen);
	assert_int_equal(s->verdict.seen, seen);
	assert_int_equal(s->verdict.spared, spared);
	assert_int_equal(tracker_reserve(s->child, NEWBORN_RESERVE), 0);
	newborn_end(s->child, &s->verdict);
	for (unsigned int i = 0; i < LEN; i++) {
		assert_int_equal(image_at(s, X + i), at_x ? at_x + i : 0);
		assert_int_equal(image_at(s, Y + i), at_y ? at_y + i : 0);
	}
	tracker_free(s->child);
	tracker_free(s->parent);
}

/* --- told before the FORK, made after it ------------------------------------------------------ */

/*
 *	A                munmap(Y) ! ?UNMAP(Y)
 *	B  fork !                               ?FORK
 */
static void test_unmap_not_seen(void **state)
{
	struct story s;

	(void)state;
	begin(&s, "aaaa......bbbb");
	unmap(&s, Y);
	fork_is_read(&s);
	expect(&s, 1, 0, 0, 100, 110);
}

/*
 *	A  munmap(Y) ! ?UNMAP(Y)   A's memory below grows to Y, which nobody tells
 *	B                                                                  fork ! ?FORK
 */
static void test_grown_is_no_witness(void **state)
{
	struct story s;

	(void)state;
	begin(&s, "aaaa.....gggggggg");
	unmap(&s, Y);
	fork_is_read(&s);
	expect(&s, 0, 0, 0, 100, 0);
}

/*
 *	A                mremap(X -> Y) ! ?REMAP(X,Y)           (Y was unmapped long before)
 *	B  fork !                                      ?FORK
 */
static void test_remap_not_seen(void **state)
{
	struct story s;

	(void)state;
	begin(&s, "aaaa");
	unmap(&s, Y);
	tracker_quiet(s.parent);
	remap(&s, X, Y);
	fork_is_read(&s);
	expect(&s, 1, 0, 0, 100, 0);
}

/*
 * Both places are mapped (MREMAP_DONTUNMAP), or none is (unmapped from Y by nobody who tells):
 * no contradiction.
 */
static void test_remap_was_seen(void **state)
{
	static const char *const mapping[] = {"aaaa......bbbb", "..........bbbb"};
	struct story s;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		begin(&s, mapping[i]);
		unmap(&s, Y);
		tracker_quiet(s.parent);
		remap(&s, X, Y);
		fork_is_read(&s);
		expect(&s, 0, 0, 0, 0, 100);
	}
}

/*
 *	A                  mremap(X -> Y) ! ?REMAP(X,Y)  mremap(Y -> Z) ! ?REMAP(Y,Z)
 *	B          fork !                                                             ?FORK
 * Neither was seen: Z is free, and then what is said about Y was not the last word.
 */
static void test_two_not_seen(void **state)
{
	struct story s;

	(void)state;
	begin(&s, "aaaa..........");
	unmap(&s, Y);
	tracker_quiet(s.parent);
	remap(&s, X, Y);
	unmap(&s, X);
	remap(&s, Y, 30);
	unmap(&s, Y);
	fork_is_read(&s);
	expect(&s, 3, 0, 0, 100, 0);
}

/*
 *	A  munmap(Y) ! ?UNMAP(Y)  mremap(X -> Y) ! ?REMAP(X,Y)
 *	B                                                       fork ! ?FORK
 * What is mapped at Y is no witness against UNMAP(Y): it is not the last word about Y.
 */
static void test_not_the_last_word(void **state)
{
	struct story s;

	(void)state;
	begin(&s, "..........aaaa");
	unmap(&s, Y);
	remap(&s, X, Y);
	unmap(&s, X);
	fork_is_read(&s);
	expect(&s, 0, 0, 0, 0, 100);
}

/* --- told after the FORK, made before it ------------------------------------------------------ */

/*
 *	A  mremap(X -> Y, FIXED) ! ?UNMAP(Y)         ?REMAP(X,Y)  ?UNMAP(X)
 *	B                             fork ! ?FORK
 * all_told: the UNMAP(X) is read before the child is judged.
 */
static void first_word_before(bool all_told)
{
	struct story s;

	begin(&s, "..........aaaa");
	unmap(&s, Y);
	fork_is_read(&s);
	remap(&s, X, Y);
	if (all_told)
		unmap(&s, X);
	expect(&s, 0, 1, 0, 0, 100);
}

static void test_seen_by_first_word(void **state)
{
	(void)state;
	first_word_before(true);
	first_word_before(false);
}

/*
 *	A  mremap(X -> Y) !                                              ?REMAP(X,Y)
 *	C                    mremap(Z -> X) ! ?REMAP(Z,X)
 *	B                                                 fork ! ?FORK
 * What C found at X waits in limbo, so A's move was made before C's; Y was unmapped long before,
 * so that there was no first word.
 */
static void test_seen_by_limbo(void **state)
{
	struct story s;

	(void)state;
	begin(&s, "cccc......aaaa");
	assert_int_equal(tracker_add(s.parent, addr_of(20), 120 * PAGE_SIZE, LEN), 0);
	unmap(&s, Y);
	tracker_quiet(s.parent);
	remap(&s, 20, X);
	fork_is_read(&s);
	remap(&s, X, Y);
	expect(&s, 0, 1, 0, 120, 100);
}

/*
 *	A  mremap(X -> Y) !                ?REMAP(X,Y)          (Y was unmapped long before)
 *	B                    fork ! ?FORK
 * No word was before; but what is missing at X is not there, and something is at Y.
 */
static void test_seen_by_contradiction(void **state)
{
	struct story s;

	(void)state;
	begin(&s, "..........aaaa");
	unmap(&s, Y);
	tracker_quiet(s.parent);
	fork_is_read(&s);
	remap(&s, X, Y);
	expect(&s, 0, 1, 0, 0, 100);
}

/*
 *	A                 mremap(X -> Y) ! ?REMAP(X,Y)
 *	B  fork ! ?FORK
 */
static void test_after_is_after(void **state)
{
	struct story s;

	(void)state;
	begin(&s, "aaaa");
	unmap(&s, Y);
	tracker_quiet(s.parent);
	fork_is_read(&s);
	remap(&s, X, Y);
	unmap(&s, X);
	expect(&s, 0, 0, 0, 100, 0);
}

/*
 *	A             mremap(X -> Y, FIXED) ! ?UNMAP(Y)        ?REMAP(X,Y)  ?UNMAP(X)
 *	B  fork !                                       ?FORK
 * The first word was before, but what the call takes away is still there.
 */
static void test_spared(void **state)
{
	struct story s;

	(void)state;
	begin(&s, "aaaa......bbbb");
	unmap(&s, Y);
	fork_is_read(&s);
	remap(&s, X, Y);
	unmap(&s, X);
	expect(&s, 0, 0, 1, 100, 110);
}

/* --- what concludes nothing ------------------------------------------------------------------- */

/* Each of the stories above, by a kernel that cannot tell any more: as it was told. */
static void test_unknown(void **state)
{
	struct story s;

	(void)state;
	begin(&s, "");
	s.tells_nothing = true;
	unmap(&s, Y);
	fork_is_read(&s);
	expect(&s, 0, 0, 0, 100, 0);

	begin(&s, "");
	s.tells_nothing = true;
	unmap(&s, Y);
	tracker_quiet(s.parent);
	remap(&s, X, Y);
	fork_is_read(&s);
	expect(&s, 0, 0, 0, 0, 100);

	begin(&s, "");
	s.tells_nothing = true;
	unmap(&s, Y);
	fork_is_read(&s);
	remap(&s, X, Y);
	unmap(&s, X);
	expect(&s, 0, 0, 0, 100, 0);
}

static int nr_asked;

static enum newborn_answer asked(void *cookie, uint64_t addr, uint64_t len)
{
	nr_asked++;
	return mapped(cookie, addr, len);
}

/* What newborn_judge() asks was asked by newborn_ask(); so who keeps its answers has all. */
static struct {
	uint64_t addr, len;
} notes[256];
static size_t nr_notes;

static enum newborn_answer note(void *cookie, uint64_t addr, uint64_t len)
{
	notes[nr_notes].addr = addr;
	notes[nr_notes++].len = len;
	return mapped(cookie, addr, len);
}

static enum newborn_answer noted(void *cookie, uint64_t addr, uint64_t len)
{
	size_t i = 0;

	while (i < nr_notes && (notes[i].addr != addr || notes[i].len != len))
		i++;
	assert_true(i < nr_notes);
	return asked(cookie, addr, len);
}

static void test_asked_before(void **state)
{
	static const char *const mapping[] = {"", "aaaa", "aaaa......bbbb", "..........bbbb",
	                                      "aaaaaaaaaaaaaaaaa"};
	struct newborn_kernel asks = {.mapped = note}, judges = {.mapped = noted};
	struct story s;

	(void)state;
	for (size_t i = 0; i < sizeof(mapping) / sizeof(mapping[0]); i++) {
		begin(&s, mapping[i]);
		asks.cookie = judges.cookie = &s;
		nr_notes = 0;
		unmap(&s, Y);
		remap(&s, X, 20);
		fork_is_read(&s);
		newborn_ask(s.child, &asks);
		unmap(&s, X);
		remap(&s, 20, X);
		newborn_ask(s.child, &asks);
		newborn_judge(s.child, &judges, &s.verdict);
		tracker_free(s.child);
		tracker_free(s.parent);
	}
	assert_true(nr_asked > 0);
}

/* A verdict from a forged journal, or of another window: nothing worse than wrong places. */
static void test_forged_verdict(void **state)
{
	static const uint64_t bits[] = {UINT64_MAX, UINT64_C(0x5555555555555555), 1, 0};
	struct story s;

	(void)state;
	for (size_t i = 0; i < 4 * 4 * 4; i++) {
		const struct newborn_verdict forged = {
			.not_seen = bits[i % 4], .seen = bits[i / 4 % 4], .spared = bits[i / 16]};

		begin(&s, "");
		assert_int_equal(tracker_reserve(s.parent, 400), 0);
		for (unsigned int k = 0; k < 70; k++)
			k % 3 ? remap(&s, k % 7, 8 + k % 11) : unmap(&s, k % 13);
		fork_is_read(&s);
		for (unsigned int k = 0; !newborn_is_full(s.child) && k < 300; k++)
			k % 3 ? remap(&s, 8 + k % 11, k % 7) : unmap(&s, k % 13);
		assert_true(newborn_is_full(s.child));
		assert_int_equal(tracker_reserve(s.child, NEWBORN_RESERVE), 0);
		newborn_end(s.child, &forged);
		tracker_quiet(s.child);
		assert_true(tracker_nr_missing(s.child) <= 2 * LEN);
		tracker_free(s.child);
		tracker_free(s.parent);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unmap_not_seen),
		cmocka_unit_test(test_grown_is_no_witness),
		cmocka_unit_test(test_remap_not_seen),
		cmocka_unit_test(test_remap_was_seen),
		cmocka_unit_test(test_two_not_seen),
		cmocka_unit_test(test_not_the_last_word),
		cmocka_unit_test(test_seen_by_first_word),
		cmocka_unit_test(test_seen_by_limbo),
		cmocka_unit_test(test_seen_by_contradiction),
		cmocka_unit_test(test_after_is_after),
		cmocka_unit_test(test_spared),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_asked_before),
		cmocka_unit_test(test_forged_verdict),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
