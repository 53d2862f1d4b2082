/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { THREADS = 4, LINES = 500 };

static char dir[] = "/tmp/criu-lazy-log-XXXXXX";
static char path[64];

static int make_dir(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/log", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

static void open_log(enum log_level level)
{
	struct err err = {0};

	if (log_open(path, level, &err) < 0)
		fail_msg("%s", err.text);
}

/* What is in the file. */
static char *content(void)
{
	static char buf[1 << 18];
	FILE *file = fopen(path, "re");
	size_t got;

	assert_non_null(file);
	got = fread(buf, 1, sizeof(buf) - 1, file);
	fclose(file);
	buf[got] = 0;
	return buf;
}

static void test_levels(void **state)
{
	static const char *const want[] = {
		[LOG_MSG] = "criu-lazy: m\n",
		[LOG_ERROR] = "criu-lazy: m\ncriu-lazy: Error: e 1\n",
		[LOG_WARN] = "criu-lazy: m\ncriu-lazy: Error: e 1\ncriu-lazy: Warn: w\n",
	};
	enum log_level level;

	(void)state;
	for (level = LOG_MSG; level <= LOG_WARN; level++) {
		open_log(level);
		assert_true(log_to_file());
		assert_true(log_wants(level));
		assert_false(log_wants(level + 1));
		log_msg("m");
		log_error("e %d", 1);
		log_warn("w");
		log_info("i");
		log_debug("d");
		assert_string_equal(content(), want[level]); /* truncated by each open */
	}
}

static int count_call(int *calls)
{
	return ++*calls;
}

static void test_time(void **state)
{
	unsigned int sec = 99, usec = 99;
	int calls = 0, used = 0;
	char *line;

	(void)state;
	open_log(LOG_INFO);
	log_info("i");
	log_debug("%d", count_call(&calls));
	assert_int_equal(calls, 0); /* not paid for */
	line = content();
	assert_int_equal(sscanf(line, "(%2u.%6u) %n", &sec, &usec, &used), 2);
	assert_true(sec < 60 && usec < 1000000);
	assert_int_equal(used, (int)strlen("(00.000000) "));
	assert_string_equal(line + used, "criu-lazy: i\n");
	open_log(LOG_DEBUG);
	log_debug("%d", count_call(&calls));
	assert_int_equal(calls, 1);
	assert_non_null(strstr(content(), ") criu-lazy: 1\n"));
}

/* A line too long is cut and still is one line. */
static void test_long(void **state)
{
	char text[5000], *got;

	(void)state;
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = 0;
	open_log(LOG_WARN);
	log_warn("%s", text);
	log_warn("next");
	got = content();
	assert_memory_equal(got, "criu-lazy: Warn: xxx", 20);
	assert_non_null(strstr(got, "x\ncriu-lazy: Warn: next\n"));
	assert_true(strlen(got) > 500 && strlen(got) < 1200);
}

static void *talk(void *arg)
{
	int i;

	for (i = 0; i < LINES; i++)
		log_error("%c%0100d%c", *(char *)arg, i, *(char *)arg);
	return NULL;
}

static void test_threads(void **state)
{
	char letter[THREADS], *line, *end;
	int seen[THREADS] = {0}, i, number;
	pthread_t thread[THREADS];

	(void)state;
	open_log(LOG_ERROR);
	for (i = 0; i < THREADS; i++) {
		letter[i] = (char)('a' + i);
		assert_int_equal(pthread_create(&thread[i], NULL, talk, &letter[i]), 0);
	}
	for (i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	for (line = content(); *line; line = end + 1) {
		char first, last;

		end = strchr(line, '\n');
		assert_non_null(end);
		*end = 0;
		assert_int_equal(sscanf(line, "criu-lazy: Error: %c%d%c", &first, &number, &last),
		                 3);
		assert_int_equal(first, last);
		assert_in_range(first, 'a', 'a' + THREADS - 1);
		assert_int_equal(number, seen[first - 'a']++); /* in order, none lost */
	}
	for (i = 0; i < THREADS; i++)
		assert_int_equal(seen[i], LINES);
}

static void test_open(void **state)
{
	struct err err = {0};
	struct stat st;
	mode_t old = umask(022);
	char bad[96];

	(void)state;
	unlink(path);
	open_log(LOG_WARN);
	umask(old);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	log_warn("kept");
	/* A failure tells the file, and the log stays as it was. */
	snprintf(bad, sizeof(bad), "%s/none/log", dir);
	assert_int_equal(log_open(bad, LOG_DEBUG, &err), -ENOENT);
	assert_non_null(strstr(err.text, bad));
	assert_false(log_wants(LOG_INFO));
	log_warn("on");
	assert_string_equal(content(), "criu-lazy: Warn: kept\ncriu-lazy: Warn: on\n");
	assert_int_equal(log_open(NULL, LOG_WARN, &err), 0);
	assert_false(log_to_file());
}

/* A log that cannot be written is not the program's end. */
static void test_full(void **state)
{
	struct err err = {0};

	(void)state;
	assert_int_equal(log_open("/dev/full", LOG_WARN, &err), 0);
	log_warn("lost");
	assert_int_equal(log_open(NULL, LOG_WARN, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels), cmocka_unit_test(test_time),
		cmocka_unit_test(test_long),   cmocka_unit_test(test_threads),
		cmocka_unit_test(test_open),   cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
