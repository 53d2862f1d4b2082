/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Configuration files: what a text becomes, what is refused and where, and the order of the files.
 * Where the expected value is one that CRIU 4.2.1 was seen to make of the same line, it says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "criu-lazy/base/err.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Not in the library: it belongs to the program. */
#include "criu-lazy/cmd/config.c"

static const char shorts[] = ":o:dD:";
static const struct option longs[] = {
	{"log-file", required_argument, NULL, 'o'},
	{"images-dir", required_argument, NULL, 'D'},
	{"daemon", no_argument, NULL, 'd'},
	{"no-daemon", no_argument, NULL, 300},
	{"verbosity", optional_argument, NULL, 301},
	{"config", required_argument, NULL, 302},
	{"no-default-config", no_argument, NULL, 302},
	{0},
};

static int parse(struct config *config, const char *text, struct err *err)
{
	return config_parse(config, "F", text, strlen(text), longs, err);
}

/* The text becomes exactly these arguments, a space between two. */
static void becomes(const char *text, const char *want)
{
	struct config config = {0};
	struct err err = {0};
	char got[4096] = "";
	size_t i;

	if (parse(&config, text, &err) != 0)
		fail_msg("%s: %s", text, err.text);
	for (i = 0; i < config.nr; i++) {
		strcat(got, i ? " " : "");
		strcat(got, config.items[i].arg);
	}
	assert_string_equal(got, want);
	config_release(&config);
}

static void is_refused(const char *text, const char *want)
{
	struct config config = {0};
	struct err err = {0};

	assert_int_equal(parse(&config, text, &err), -EINVAL);
	assert_string_equal(err.text, want);
	config_release(&config);
}

static void test_as_criu(void **state)
{
	(void)state;
	becomes("", "");
	becomes("\n\n", "");
	becomes("log-file a.log\nverbosity 4\n", "--log-file=a.log --verbosity=4");
	becomes("log-file a", "--log-file=a"); /* no newline at the end */
	becomes("  log-file   a.log   \n\n#foo\n \t# bar\n", "--log-file=a.log");
	becomes("log-file \"cfg test.log\"\n", "--log-file=cfg test.log");
	becomes("log-file=a.log\n", "--log-file=a.log");
	becomes("log-file a=b\n", "--log-file=a=b");
	becomes("log-file a#b\n", "--log-file=a");
	becomes("log-file a #b\n", "--log-file=a");
	becomes("log-file \"a\" # c\n", "--log-file=a");
	becomes("log-file \"a\"#b\n", "--log-file=a");
	becomes("log-file \"a\\\"b\"\n", "--log-file=a\"b");
	becomes("log-file \"a\\\\b\"\n", "--log-file=a\\\\b");
	becomes("log-file \"a\\\\\\\"b\"\n", "--log-file=a\\\\\"b");
	becomes("log-file a\\\"b\n", "--log-file=a\"b");
	becomes("log-file 'a'\n", "--log-file='a'");
	becomes("log-file \"\"\n", "--log-file=");
	becomes("log-file a\nlog-file b\n", "--log-file=a --log-file=b");
	becomes("verbosity\ndaemon # in the background\nno-daemon\n",
	        "--verbosity --daemon --no-daemon");
}

static void test_beyond_criu(void **state)
{
	(void)state;
	becomes("log-file\ta.log\t\n", "--log-file=a.log"); /* CRIU keeps the last tab */
	becomes("log-file a\r\ndaemon\r\n", "--log-file=a --daemon"); /* CRIU keeps the \r */
}

static void test_other_commands(void **state)
{
	(void)state;
	becomes("tree 5\nshell-job\nno-tcp-close\nexternal mnt[a b]:\"c # d\nroot\njobs x y\n", "");
	assert_true(config_is_elsewhere("tcp-established"));
	assert_true(config_is_elsewhere("no-tcp-established"));
	assert_false(config_is_elsewhere("no-no-tcp-established"));
	assert_false(config_is_elsewhere("no-"));
	assert_false(config_is_elsewhere("log-file"));
}

static void test_refused(void **state)
{
	(void)state;
	is_refused("\nnonsense\n", "F:2: unknown option \"nonsense\"");
	is_refused("daemon\n# x\nnonsense 5", "F:3: unknown option \"nonsense\"");
	is_refused("--log-file a", "F:1: unknown option \"--log-file\"");
	is_refused("o a", "F:1: unknown option \"o\"");
	is_refused("log-fil a", "F:1: unknown option \"log-fil\"");
	is_refused("=", "F:1: unknown option \"\"");
	is_refused("no-log-file", "F:1: unknown option \"no-log-file\"");
	is_refused("daemon 1", "F:1: no value may follow option \"daemon\"");
	is_refused("daemon=", "F:1: no value may follow option \"daemon\"");
	is_refused("log-file # a", "F:1: a value is missing for option \"log-file\"");
	is_refused("log-file", "F:1: a value is missing for option \"log-file\"");
	is_refused("log-file \"a", "F:1: the closing quote is missing: option \"log-file\"");
	is_refused("log-file \"a\\\"\n\"",
	           "F:1: the closing quote is missing: option \"log-file\"");
	is_refused("log-file \"a\"b", "F:1: something follows the closing quote: \"b\"");
	is_refused("log-file a b", "F:1: something follows the value (quotes needed?): \"b\"");
	is_refused("log-file= a", "F:1: something follows the value (quotes needed?): \"a\"");
	is_refused("log-file \"a#b\"",
	           "F:1: within quotes, too, # begins a comment: option \"log-file\"");
	is_refused("config x", "F:1: only for the command line: \"config\"");
	is_refused("no-default-config", "F:1: only for the command line: \"no-default-config\"");
	is_refused("help", "F:1: only for the command line: \"help\"");
}

static void test_not_text(void **state)
{
	struct config config = {0};
	struct err err = {0};

	(void)state;
	assert_int_equal(config_parse(&config, "F", "daemon\0x", 8, longs, &err), -EINVAL);
	assert_string_equal(err.text, "F: not a text file");
	config_release(&config);
}

/* Whatever a value is (but for newline, zero, # and a backslash at its end), quoting brings it
 * through. */
static void test_round_trip(void **state)
{
	static const char letters[] = "ab \t\\\"='\xff\x1b-/";
	unsigned seed = 1;
	int i;

	(void)state;
	for (i = 0; i < 20000; i++) {
		char text[128] = "log-file \"", want[64] = "--log-file=";
		char *at = text + strlen(text), *value = want + strlen(want);
		size_t nr = (size_t)rand_r(&seed) % 12;

		for (; nr; nr--) {
			*value = letters[(size_t)rand_r(&seed) % (sizeof(letters) - 1)];
			if (nr == 1 && *value == '\\')
				*value = 'c';
			if (*value == '"')
				*at++ = '\\';
			*at++ = *value++;
		}
		*value = '\0';
		strcpy(at, "\"  # comment \"\n");
		becomes(text, want);
	}
}

static void test_garbage(void **state)
{
	static const char letters[] = "daemonlgfi-=\"\\# \t\n\r\xff";
	unsigned seed = 2;
	char text[64];
	int i, n, len, nr_good = 0;

	(void)state;
	for (i = 0; i < 50000; i++) {
		struct config config = {0};
		struct err err = {0};

		len = rand_r(&seed) % (int)sizeof(text);
		for (n = 0; n < len; n++)
			text[n] = letters[(size_t)rand_r(&seed) % (sizeof(letters) - 1)];
		if (rand_r(&seed) % 2 && len > 10)
			memcpy(text, "log-file ", 9);
		if (config_parse(&config, "F", text, (size_t)len, longs, &err) == 0)
			nr_good++;
		else
			assert_true(!strncmp(err.text, "F:", 2) && err.code == EINVAL);
		config_release(&config);
	}
	assert_true(nr_good > 100);
}

/* --- files ----------------------------------------------------------------------------------- */

static char folder[] = "/tmp/config-test.XXXXXX";

static const char *put(const char *name, const char *text)
{
	static char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	return path;
}

/* The values of --log-file, in order, as they would be applied; argv[0] must stay where it is. */
static const char *applied(struct config *config, char **argv, struct err *err)
{
	static char got[256];
	int argc = 0, c;

	while (argv[argc])
		argc++;
	config_release(config);
	if (config_prepend(config, argc, argv, shorts, longs, err) < 0)
		return err->text;
	assert_string_equal(config->argv[0], argv[0]);
	assert_null(config->argv[config->argc]);
	got[0] = '\0';
	optind = 0;
	while ((c = getopt_long(config->argc, config->argv, shorts, longs, NULL)) != -1)
		if (c == 'o')
			strcat(strcat(got, optarg), " ");
	return got;
}

/* A machine with a configuration of its own. */
static void skip_if_configured(void)
{
	if (access("/etc/criu/default.conf", F_OK) < 0)
		return;
	print_message("skipped: there is an /etc/criu/default.conf\n");
	skip();
}

static void test_order(void **state)
{
	struct config config = {0};
	struct err err = {0};
	char named[256], env[256];
	char *plain[] = {"x", "-o", "cmd", NULL};
	char *with[] = {"x", "-o", "cmd", "--config", "wrong", "word", "--config", named, NULL};
	char *without[] = {"x", "--no-default-config", NULL};
	char *value[] = {"x", "-D", "--no-default-config", "-o", "--config=nowhere", NULL};
	char *end[] = {"x", "--", "--config", "nowhere", NULL};

	(void)state;
	skip_if_configured();
	strcpy(named, put("named", "log-file named"));
	strcpy(env, put("env", "log-file env\nlog-file env2"));
	put("h/.criu/default.conf", "log-file home");
	assert_string_equal(applied(&config, plain, &err), "home cmd ");
	assert_string_equal(applied(&config, without, &err), "");
	assert_string_equal(applied(&config, value, &err), "home --config=nowhere ");
	assert_string_equal(applied(&config, end, &err), "home ");
	assert_string_equal(applied(&config, with, &err), "named cmd ");
	setenv("CRIU_CONFIG_FILE", env, 1);
	assert_string_equal(applied(&config, plain, &err), "home env env2 cmd ");
	assert_string_equal(applied(&config, without, &err), "env env2 ");
	assert_string_equal(applied(&config, with, &err), "env env2 named cmd ");
	unsetenv("CRIU_CONFIG_FILE");
	config_release(&config);
}

static void test_blame(void **state)
{
	struct config config = {0};
	struct err err = {0};
	char *argv[] = {"x", "-d", NULL};

	(void)state;
	skip_if_configured();
	put("h/.criu/default.conf", "\n\ndaemon\nlog-file home\n");
	applied(&config, argv, &err);
	assert_int_equal(config.nr, 2);
	err_set(&err, EINVAL, "bad");
	assert_int_equal(config_blame(&config, 0, &err), -EINVAL);
	assert_int_equal(config_blame(&config, 3, &err), -EINVAL);
	assert_string_equal(err.text, "bad");
	assert_int_equal(config_blame(&config, 2, &err), -EINVAL);
	assert_non_null(strstr(err.text, "/h/.criu/default.conf:4: bad"));
	config_release(&config);
}

static void test_bad_files(void **state)
{
	struct config config = {0};
	struct err err = {0};
	char *nowhere[] = {"x", "--config", "/nowhere/at/all", NULL};
	char *dir[] = {"x", "--config", folder, NULL};
	char *endless[] = {"x", "--config=/dev/zero", NULL};
	char *plain[] = {"x", NULL};

	(void)state;
	skip_if_configured();
	assert_string_equal(applied(&config, nowhere, &err),
	                    "configuration file /nowhere/at/all: No such file or directory");
	assert_non_null(strstr(applied(&config, dir, &err), ": Is a directory"));
	assert_non_null(strstr(applied(&config, endless, &err), "larger than 1048576 bytes"));
	setenv("CRIU_CONFIG_FILE", "/nowhere/too", 1);
	assert_non_null(strstr(applied(&config, plain, &err), "/nowhere/too: No such file"));
	setenv("CRIU_CONFIG_FILE", "", 1);
	put("h/.criu/default.conf", "log-file home");
	assert_string_equal(applied(&config, plain, &err), "home ");
	unsetenv("CRIU_CONFIG_FILE");
	put("h/.criu/default.conf", "nonsense");
	assert_non_null(strstr(applied(&config, plain, &err), "conf:1: unknown option"));
	config_release(&config);
}

static int make_folder(void **state)
{
	char path[256];

	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/h", folder);
	if (mkdir(path, 0700) < 0 || setenv("HOME", path, 1) < 0)
		return -1;
	strcat(path, "/.criu");
	unsetenv("CRIU_CONFIG_FILE");
	return mkdir(path, 0700);
}

static int remove_folder(void **state)
{
	static const char *const names[] = {"named",   "env", "h/.criu/default.conf",
	                                    "h/.criu", "h",   ""};
	char path[256];
	size_t i;

	(void)state;
	for (i = 0; i < NR(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		remove(path);
	}
	return access(folder, F_OK) == 0 ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_criu),        cmocka_unit_test(test_beyond_criu),
		cmocka_unit_test(test_other_commands), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_not_text),       cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_garbage),        cmocka_unit_test(test_order),
		cmocka_unit_test(test_blame),          cmocka_unit_test(test_bad_files),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
