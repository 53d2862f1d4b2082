/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The copier's thread and its engine, where one comes first.  The thread is held in the middle of a
 * chunk: the content that it copies is itself missing memory of another userfaultfd, so the kernel
 * makes it wait until this test brings it.
 *
 *	engine			thread
 *	post A
 *				begins A, waits for its content
 *	post B
 *	wait: B is back		.
 *	(nothing of B is there)	.
 *	bring A's content
 *				ends A
 *	wait: A is done
 *	post B
 *				begins and ends B
 */
#include "test/unit/uffd-world.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/engine/copier.h"

static void test_what_is_not_begun_is_taken_back(void **state)
{
	struct world to, from;
	struct copier_result result;
	struct copier *c;
	struct err err;
	uint64_t done;
	int a, b;

	(void)state;
	world_open(&to);
	world_open(&from);
	assert_int_equal(copier_new(&c, &err), 0);
	assert_true(copier_has_room(c));
	copier_copy(c, to.fd, addr_of(&to, 0), from.mem, PAGE_SIZE, &a);
	expect_fault(from.fd, addr_of(&from, 0));

	assert_true(copier_has_room(c));
	copier_copy(c, to.fd, addr_of(&to, 1), to.src, PAGE_SIZE, &b);
	assert_false(copier_has_room(c));
	assert_false(copier_reap(c, &result));
	assert_true(copier_wait(c, &result));
	assert_ptr_equal(result.owner, &b);
	assert_true(result.not_begun);
	assert_int_equal(result.done, 0);
	assert_true(copier_has_room(c));

	assert_int_equal(uffd_copy(from.fd, addr_of(&from, 0), from.src, PAGE_SIZE, &done),
	                 UFFD_DONE);
	assert_true(copier_wait(c, &result));
	assert_ptr_equal(result.owner, &a);
	assert_false(result.not_begun);
	assert_int_equal(result.outcome, UFFD_DONE);
	assert_int_equal(result.done, PAGE_SIZE);
	assert_memory_equal(to.mem, from.src, PAGE_SIZE);
	assert_false(copier_wait(c, &result));

	copier_copy(c, to.fd, addr_of(&to, 1), to.src, PAGE_SIZE, &b);
	eventually(copier_reap(c, &result)); /* DONE: it was not there */
	assert_ptr_equal(result.owner, &b);
	assert_false(result.not_begun);
	assert_int_equal(result.outcome, UFFD_DONE);
	assert_memory_equal(to.mem + PAGE_SIZE, to.src, PAGE_SIZE);
	copier_free(c);
	world_close(&from);
	world_close(&to);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_what_is_not_begun_is_taken_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
