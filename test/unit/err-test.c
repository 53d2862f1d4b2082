/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/base/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_set(void **state)
{
	struct err err = {0};

	(void)state;
	assert_int_equal(err_set(&err, ENOENT, "open %s", "a/b"), -ENOENT);
	assert_int_equal(err.code, ENOENT);
	assert_string_equal(err.text, "open a/b: No such file or directory");
	/* Wrong input is told by the text alone; a later error replaces the one before. */
	assert_int_equal(err_set(&err, EPROTO, "byte %d is bad", 7), -EPROTO);
	assert_string_equal(err.text, "byte 7 is bad");
	assert_int_equal(err_set(&err, EINVAL, "no such option"), -EINVAL);
	assert_string_equal(err.text, "no such option");
	assert_int_equal(err.code, EINVAL);
}

static void test_wrap(void **state)
{
	struct err err = {0};

	(void)state;
	err_set(&err, EPROTO, "byte %d is bad", 7);
	assert_int_equal(err_wrap(&err, "process %u", 12U), -EPROTO);
	assert_int_equal(err_wrap(&err, "restore"), -EPROTO);
	assert_int_equal(err.code, EPROTO);
	assert_string_equal(err.text, "restore: process 12: byte 7 is bad");
	/* A '%' of the story is not a format. */
	err_set(&err, EPROTO, "%s", "100%s%n");
	err_wrap(&err, "%s", "50%d");
	assert_string_equal(err.text, "50%d: 100%s%n");
	err = (struct err){0};
	assert_int_equal(err_wrap(&err, "nothing was set"), -EIO);
}

/* Whatever is quoted in it. */
static void test_one_line(void **state)
{
	struct err err = {0};

	(void)state;
	err_set(&err, EINVAL, "filter \"%s\"", "a\nb\r\033[2Jc\x7f\td\xc3\xa9");
	assert_string_equal(err.text, "filter \"a?b??[2Jc??d\xc3\xa9\"");
	err_wrap(&err, "%s", "x\ny");
	assert_string_equal(err.text, "x?y: filter \"a?b??[2Jc??d\xc3\xa9\"");
}

static void test_null(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, EBADF, "x"), -EBADF);
	assert_int_equal(err_wrap(NULL, "x"), -EIO);
}

/* Cut, never overrun: fences on both sides stay. */
static void test_long(void **state)
{
	struct {
		char before[64];
		struct err err;
		char after[64];
	} fenced;
	char text[3 * ERR_TEXT_SIZE], fence[64];
	size_t len;

	(void)state;
	memset(fence, 'F', sizeof(fence));
	for (len = ERR_TEXT_SIZE - 40; len < sizeof(text); len++) {
		memset(&fenced, 'F', sizeof(fenced));
		fenced.err = (struct err){0};
		memset(text, 'x', len);
		text[len] = 0;
		assert_int_equal(err_set(&fenced.err, ENOENT, "%s", text), -ENOENT);
		assert_true(strlen(fenced.err.text) <= ERR_TEXT_SIZE - 1);
		assert_int_equal(err_wrap(&fenced.err, "prefix %s", text), -ENOENT);
		assert_int_equal(strlen(fenced.err.text), ERR_TEXT_SIZE - 1);
		assert_memory_equal(fenced.err.text, "prefix xxx", 10);
		assert_memory_equal(fenced.before, fence, sizeof(fence));
		assert_memory_equal(fenced.after, fence, sizeof(fence));
		if (len > ERR_TEXT_SIZE + 40)
			len += 97;
		if (len + 98 >= sizeof(text))
			break;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set),      cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_one_line), cmocka_unit_test(test_null),
		cmocka_unit_test(test_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
