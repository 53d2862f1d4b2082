/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bitmap against an array of bool.  BITS_SEED in the environment: another seed. */
#include "criu-lazy/base/bits.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_BITS = 20000, STEPS = 300000 };

static uint64_t random_state;

static uint64_t below(uint64_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (random_state * UINT64_C(0x2545f4914f6cdd1d) >> 16) % n;
}

static uint64_t naive_next(const bool *model, uint64_t bit, uint64_t end, bool want)
{
	while (bit < end && model[bit] != want)
		bit++;
	return bit < end ? bit : end;
}

static uint64_t naive_count(const bool *model, uint64_t bit, uint64_t nr)
{
	uint64_t count = 0;

	while (nr--)
		count += model[bit++];
	return count;
}

static void append(struct bits *bits, bool *model)
{
	uint64_t nr = below(below(2) ? 10 : 5000), i;

	if (bits->nr + nr > MAX_BITS)
		return;
	for (i = 0; i < nr; i++)
		model[bits->nr + i] = true;
	assert_int_equal(bits_append(bits, nr), 0);
}

static void compare_all(const struct bits *bits, const bool *model)
{
	uint64_t i;

	for (i = 0; i < bits->nr; i++)
		assert_int_equal(bits_test(bits, i), model[i]);
	assert_int_equal(bits_count(bits, 0, bits->nr), naive_count(model, 0, bits->nr));
}

static void step(struct bits *bits, bool *model)
{
	uint64_t bit, nr;

	if (!bits->nr || !below(200)) {
		append(bits, model);
		return;
	}
	bit = below(bits->nr);
	nr = below(below(3) ? (bits->nr - bit < 130 ? bits->nr - bit : 130) + 1
	                    : bits->nr - bit + 1);
	switch (below(5)) {
	case 0:
		assert_int_equal(bits_clear(bits, bit, nr), naive_count(model, bit, nr));
		memset(model + bit, 0, nr);
		break;
	case 1:
		assert_int_equal(bits_count(bits, bit, nr), naive_count(model, bit, nr));
		break;
	case 2:
		assert_int_equal(bits_next_set(bits, bit, bit + nr),
		                 naive_next(model, bit, bit + nr, true));
		break;
	case 3:
		assert_int_equal(bits_next_clear(bits, bit, bit + nr),
		                 naive_next(model, bit, bit + nr, false));
		break;
	default:
		assert_int_equal(bits_test(bits, bit), model[bit]);
	}
}

static void test_model(void **state)
{
	const char *text = getenv("BITS_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : 1;
	bool *model = calloc(MAX_BITS, sizeof(*model));
	struct bits bits = {0}, copy;
	unsigned int i;

	(void)state;
	assert_non_null(model);
	print_message("BITS_SEED=%" PRIu64 "\n", seed);
	random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	for (i = 0; i < STEPS; i++) {
		step(&bits, model);
		if (i % 5000)
			continue;
		/* Go on with the copy: it must not share anything with the released one. */
		assert_int_equal(bits_copy(&bits, &copy), 0);
		bits_release(&bits);
		bits = copy;
		compare_all(&bits, model);
		if (below(3) == 0)
			bits_release(&bits);
	}
	bits_release(&bits);
	free(model);
}

static void test_edges(void **state)
{
	struct bits bits = {0}, copy = {.nr = 7};

	(void)state;
	assert_int_equal(bits_copy(&bits, &copy), 0);
	assert_int_equal(copy.nr, 0);
	assert_int_equal(bits_append(&bits, 0), 0);
	assert_int_equal(bits_next_set(&bits, 0, 0), 0);
	assert_int_equal(bits_append(&bits, UINT64_MAX), -ENOMEM);
	assert_int_equal(bits_append(&bits, 64), 0);
	assert_int_equal(bits_append(&bits, UINT64_MAX - 10), -ENOMEM);
	assert_int_equal(bits_append(&bits, UINT64_MAX / 2), -ENOMEM);
	assert_int_equal(bits.nr, 64);
	assert_int_equal(bits_append(&bits, 4096 - 64), 0); /* exactly one group */
	assert_int_equal(bits_count(&bits, 0, 4096), 4096);
	assert_int_equal(bits_clear(&bits, 0, 4095), 4095);
	assert_int_equal(bits_next_set(&bits, 0, 4096), 4095);
	assert_int_equal(bits_next_set(&bits, 0, 4095), 4095);
	assert_int_equal(bits_next_clear(&bits, 4095, 4096), 4096);
	assert_int_equal(bits_clear(&bits, 0, 4096), 1);
	assert_int_equal(bits_next_set(&bits, 0, 4096), 4096);
	assert_int_equal(bits_clear(&bits, 4096, 0), 0);
	bits_release(&bits);
	assert_null(bits.word);
	assert_int_equal(bits.nr + bits.room, 0);
	bits_release(&bits);
}

/* 64 GiB of pages: the search must not walk through what is empty bit by bit. */
static void test_sparse(void **state)
{
	const uint64_t nr = UINT64_C(1) << 24;
	struct bits bits = {0};
	unsigned int i;

	(void)state;
	assert_int_equal(bits_append(&bits, nr), 0);
	assert_int_equal(bits_clear(&bits, 0, nr - 1), nr - 1);
	for (i = 0; i < 1000; i++)
		assert_int_equal(bits_next_set(&bits, i, nr), nr - 1);
	assert_int_equal(bits_next_set(&bits, 0, nr - 1), nr - 1);
	bits_release(&bits);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_sparse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
