/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is only in headers of base/: ownership by scope, pages, the clock. */
#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/page.h"
#include "test/unit/patience.h"

#include <fcntl.h>
#include <string.h>

/* --- cleanup --------------------------------------------------------------------------------- */

static int descriptor(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int stolen(int *ret_number)
{
	cleanup_close int fd = descriptor();

	*ret_number = fd;
	return steal_fd(&fd);
}

static int fails_with_errno(void)
{
	cleanup_close int fd = descriptor();
	cleanup_close int none = -1;

	(void)none;
	errno = ENOSPC;
	return fd >= 0 ? -1 : 0;
}

static void test_close_at_scope_end(void **state)
{
	int number, fd;

	(void)state;
	{
		cleanup_close int scoped = descriptor();

		number = scoped;
		assert_true(is_open(number));
	}
	assert_false(is_open(number));
	fd = stolen(&number);
	assert_int_equal(fd, number);
	assert_true(is_open(fd));
	close(fd);
	errno = 0;
	fails_with_errno();
	assert_int_equal(errno, ENOSPC);
}

/* A leak or a double free would be the sanitizer's to tell. */
static void test_free_at_scope_end(void **state)
{
	char *kept;
	int number;

	(void)state;
	{
		cleanup_free char *scoped = strdup("scoped");
		cleanup_free char *moved = strdup("moved");
		cleanup_free char *none = NULL;

		(void)none;
		assert_string_equal(scoped, "scoped");
		kept = steal_ptr(&moved);
		assert_null(moved);
	}
	assert_string_equal(kept, "moved");
	free(kept);
	{
		cleanup_fclose FILE *file = fopen("/dev/null", "re");
		cleanup_fclose FILE *none = NULL;

		(void)none;
		assert_non_null(file);
		number = fileno(file);
	}
	assert_false(is_open(number));
}

/* --- page, clock ----------------------------------------------------------------------------- */

static void test_pages(void **state)
{
	(void)state;
	assert_int_equal(PAGE_SIZE, sysconf(_SC_PAGESIZE));
	assert_true(page_down(0) == 0 && page_down(4095) == 0 && page_down(4096) == 4096);
	assert_true(page_down(UINT64_MAX) == UINT64_MAX - 4095);
	assert_true(page_aligned(0) && page_aligned(USER_ADDRESS_END) && !page_aligned(1));
	assert_false(page_aligned(UINT64_C(0x7fffffffffffffff)));
	assert_true(min_u64(1, UINT64_MAX) == 1 && max_u64(1, UINT64_MAX) == UINT64_MAX);
	assert_true(max_i64(-1, 1) == 1 && max_i64(INT64_MIN, -1) == -1);
}

static void test_clock(void **state)
{
	int64_t start = clock_now(), now;

	(void)state;
	sleep_ms(20);
	now = clock_now();
	assert_true(now - start >= 20 * NSEC_PER_MSEC);
	assert_true(now - start < PATIENCE * NSEC_PER_SEC);
	assert_true(now < CLOCK_NEVER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_close_at_scope_end),
		TIMED(test_free_at_scope_end),
		TIMED(test_pages),
		TIMED(test_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
