/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * criu-lazy check: exit status and what goes to stdout and stderr, as scripts that know `criu
 * check` expect them.  The command prints, so each call runs in a child with both streams in files;
 * the file under test is included because commands are not part of the library that tests link.
 */
#include "criu-lazy/cmd/check.c"
#include "criu-lazy/os/caps.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { TEXT_SIZE = 16384, MAX_ARGS = 8 };

struct outcome {
	int status;
	char out[TEXT_SIZE];
	char err[TEXT_SIZE];
};

static void read_all(FILE *file, char *text)
{
	rewind(file);
	text[fread(text, 1, TEXT_SIZE - 1, file)] = '\0';
	fclose(file);
}

/* check with the arguments up to NULL; poor: without any capability. */
static void run(struct outcome *ret, bool poor, ...)
{
	char *argv[MAX_ARGS] = {(char *)"check"};
	FILE *out = tmpfile(), *err = tmpfile();
	int argc = 1, status;
	va_list ap;
	pid_t pid;

	assert_non_null(out);
	assert_non_null(err);
	va_start(ap, poor);
	while (argc < MAX_ARGS - 1 && (argv[argc] = va_arg(ap, char *)))
		argc++;
	va_end(ap);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (dup2(fileno(out), STDOUT_FILENO) < 0 || dup2(fileno(err), STDERR_FILENO) < 0)
			_exit(99);
		if (poor && caps_keep(NULL, 0, NULL, 0, NULL) < 0)
			_exit(98);
		status = cmd_check(argc, argv);
		fflush(NULL);
		_exit(status);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	ret->status = WEXITSTATUS(status);
	read_all(out, ret->out);
	read_all(err, ret->err);
}

static size_t count(const char *text, const char *what)
{
	size_t nr = 0;

	for (; (text = strstr(text, what)); text += strlen(what))
		nr++;
	return nr;
}

static bool machine_is_good(void)
{
	struct probe_result results[PROBE_MAX];
	size_t nr = probe_run(results);

	for (size_t i = 0; i < nr; i++)
		if (results[i].required && results[i].verdict == PROBE_MISSING)
			return false;
	return true;
}

static void whole_check(void **state)
{
	struct outcome o;

	(void)state;
	run(&o, false, NULL);
	assert_int_equal(o.status, machine_is_good() ? 0 : 1);
	assert_int_equal(count(o.out, "Looks good.\n"), machine_is_good() ? 1 : 0);
	assert_string_equal(o.err, "");
}

static void without_capabilities(void **state)
{
	struct outcome o;

	(void)state;
	run(&o, true, NULL);
	assert_int_equal(o.status, 1);
	assert_int_equal(count(o.out, "Looks good."), 0);
	assert_non_null(strstr(o.out, "missing  cap-sys-ptrace"));
	assert_non_null(strstr(o.out, "(required)"));
	assert_non_null(strstr(o.out, "-> "));
	assert_non_null(strstr(o.out, "missing.\n"));
	/* What is only missing for comfort fails the feature, not the whole. */
	run(&o, true, "--feature", "cap-kill", NULL);
	assert_int_equal(o.status, 1);
	assert_string_equal(o.out, "");
	assert_non_null(strstr(o.err, "cap-kill is not supported: "));
}

static void features(void **state)
{
	static const char *const names[] = {"uffd", "uffd-noncoop", "memfd"};
	struct probe_result result;
	struct outcome o;
	char line[64];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_true(probe_one(names[i], &result));
		run(&o, false, "--feature", names[i], NULL);
		snprintf(line, sizeof(line), "%s is supported\n", names[i]);
		if (result.verdict == PROBE_OK) {
			assert_int_equal(o.status, 0);
			assert_string_equal(o.out, line);
			assert_string_equal(o.err, "");
		} else {
			assert_int_equal(o.status, 1);
			assert_string_equal(o.out, "");
			assert_non_null(strstr(o.err, "is not supported"));
		}
	}
	run(&o, true, "--feature", "uffd-noncoop", NULL);
	assert_int_equal(o.status, 1);
	assert_string_equal(o.out, "");
}

static void unknown_feature(void **state)
{
	struct outcome o;

	(void)state;
	run(&o, false, "--feature", "list", NULL);
	assert_int_equal(o.status, 1);
	assert_string_equal(o.out, "");
	assert_non_null(strstr(o.err, "Unknown feature list"));
	/* The last one counts. */
	run(&o, false, "--feature", "list", "--feature=memfd", NULL);
	assert_string_equal(o.out, "memfd is supported\n");
	run(&o, false, "--feature", "memfd", "--feature", "list", NULL);
	assert_int_equal(o.status, 1);
}

static void json(void **state)
{
	struct probe_result results[PROBE_MAX];
	size_t nr = probe_run(results);
	struct outcome o;

	(void)state;
	run(&o, false, "--json", "--extra", "--all", NULL);
	assert_int_equal(o.status, machine_is_good() ? 0 : 1);
	assert_int_equal(strncmp(o.out, "[\n  {\"name\": \"", 14), 0);
	assert_string_equal(o.out + strlen(o.out) - 5, "\"}\n]\n");
	assert_int_equal(count(o.out, "\"verdict\": \""), nr);
	assert_int_equal(count(o.out, "},\n"), nr - 1);
	assert_int_equal(count(o.out, "\"required\": true") + count(o.out, "\"required\": false"),
	                 nr);
	run(&o, true, "--json", NULL);
	assert_int_equal(o.status, 1);
	assert_true(count(o.out, "\"verdict\": \"missing\", \"required\": true") > 0);
}

static void usage_errors(void **state)
{
	struct outcome o;

	(void)state;
	run(&o, false, "--no-such-option", NULL);
	assert_int_equal(o.status, 1);
	assert_string_equal(o.out, "");
	run(&o, false, "word", NULL);
	assert_int_equal(o.status, 1);
	assert_non_null(strstr(o.err, "unexpected argument word"));
	run(&o, false, "--feature", NULL);
	assert_int_equal(o.status, 1);
	run(&o, false, "--help", NULL);
	assert_int_equal(o.status, 0);
	assert_non_null(strstr(o.out, "Usage: criu-lazy check"));
	assert_string_equal(o.err, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_check), cmocka_unit_test(without_capabilities),
		cmocka_unit_test(features),    cmocka_unit_test(unknown_feature),
		cmocka_unit_test(json),        cmocka_unit_test(usage_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
