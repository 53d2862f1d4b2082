/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A configuration file with anything in it.
 *
 * What must hold: it is refused with a reason of one line that begins with file and, but for a
 * file that is no text, line; or it gives options of the table, with a value where one belongs, in
 * the order of their lines, which getopt_long() takes.  The same options written down again, as
 * the manual says that they are written, give the same.
 */
#include "criu-lazy/cmd/config.h"

#include "criu-lazy/base/err.h"
#include "test/fuzz/must.h"

#include <stdbool.h>
#include <string.h>

/* Not in the library: it belongs to cmd/. */
#include "criu-lazy/cmd/config.c" // NOLINT

#define FILE_NAME "a file"

static const struct option longs[] = {
	{"images-dir", required_argument, NULL, 'D'}, {"log-file", required_argument, NULL, 'o'},
	{"filter", required_argument, NULL, 'f'},     {"v", optional_argument, NULL, 'v'},
	{"daemon", no_argument, NULL, 'd'},           {"tls", no_argument, NULL, 't'},
	{"no-tls", no_argument, NULL, 'T'},           {NULL, 0, NULL, 0},
};

static void must_be_told(const struct err *err, bool is_text, unsigned nr_lines)
{
	unsigned line;

	must_be_line(err);
	MUST(err->code == EINVAL);
	if (!is_text) {
		MUST(!strcmp(err->text, FILE_NAME ": not a text file"));
		return;
	}
	MUST(!strncmp(err->text, FILE_NAME ":", strlen(FILE_NAME) + 1));
	line = (unsigned)strtoul(err->text + strlen(FILE_NAME) + 1, NULL, 10);
	MUST(line >= 1 && line <= nr_lines);
}

/* The option, and *ret its value, or NULL. */
static const struct option *must_be_option(const struct config_item *item, const char **ret)
{
	const char *name = item->arg + 2, *value = strchr(name, '=');
	size_t len = value ? (size_t)(value - name) : strlen(name);
	const struct option *o = longs;

	MUST(!strncmp(item->arg, "--", 2));
	while (o->name && (strlen(o->name) != len || strncmp(o->name, name, len) != 0))
		o++;
	MUST(o->name);
	MUST(o->has_arg != no_argument || !value);
	MUST(o->has_arg != required_argument || value);
	*ret = value ? value + 1 : NULL;
	MUST(!value || (!strchr(value, '#') && !strchr(value, '\n')));
	return o;
}

static void must_be_taken(const struct config *config)
{
	char **argv = calloc(config->nr + 2, sizeof(*argv));
	size_t nr = 0;
	int c;

	MUST(argv);
	argv[0] = (char *)(uintptr_t) "fuzz";
	for (size_t i = 0; i < config->nr; i++)
		argv[i + 1] = config->items[i].arg;
	optind = 0;
	while ((c = getopt_long((int)config->nr + 1, argv, "", longs, NULL)) != -1) {
		MUST(c != '?');
		nr++;
	}
	MUST(nr == config->nr && optind == (int)config->nr + 1);
	free(argv);
}

/* One line; to: room for twice the value and some. */
static char *write_down(char *to, const struct option *o, const char *value)
{
	bool quoted = value && (!*value || strpbrk(value, " \t\r\v\f"));

	to = stpcpy(to, o->name);
	if (value) {
		*to++ = o->has_arg == optional_argument ? '=' : ' ';
		if (quoted)
			*to++ = '"';
		for (; *value; value++) {
			if (*value == '"')
				*to++ = '\\';
			*to++ = *value;
		}
		if (quoted)
			*to++ = '"';
	}
	*to++ = '\n';
	return to;
}

static void must_be_the_same(const struct config *config, size_t size)
{
	char *text = malloc(3 * size + 16 * config->nr + 1), *to = text;
	struct config again = {0};
	struct err err = {0};
	const char *value;

	MUST(text);
	for (size_t i = 0; i < config->nr; i++) {
		const struct option *o = must_be_option(&config->items[i], &value);

		to = write_down(to, o, value);
	}
	if (config_parse(&again, FILE_NAME, text, (size_t)(to - text), longs, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	MUST(again.nr == config->nr);
	for (size_t i = 0; i < config->nr; i++)
		MUST(!strcmp(config->items[i].arg, again.items[i].arg));
	config_release(&again);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config config = {0};
	struct err err = {0};
	unsigned nr_lines = 1, last = 0;
	char *text = malloc(size ? size : 1);

	MUST(text);
	if (size)
		memcpy(text, data, size);
	for (size_t i = 0; i < size; i++)
		nr_lines += text[i] == '\n';
	if (config_parse(&config, FILE_NAME, text, size, longs, &err) < 0) {
		must_be_told(&err, !memchr(text, 0, size), nr_lines);
	} else {
		for (size_t i = 0; i < config.nr; i++) {
			MUST(config.items[i].line >= 1 && config.items[i].line <= nr_lines);
			MUST(config.items[i].line > last);
			last = config.items[i].line;
		}
		must_be_taken(&config);
		must_be_the_same(&config, size);
	}
	config_release(&config);
	free(text);
	return 0;
}
