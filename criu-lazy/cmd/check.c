/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check.c - criu-lazy check: can this machine restore lazily, and if not, what to do about it.
 *
 * Exit status 0: everything that is required is here (of --feature: exactly that is here); 1: not.
 * As in CRIU, `--feature uffd` and `--feature uffd-noncoop` print "NAME is supported" on stdout or
 * an error on stderr, the last --feature counts, and a good end of the whole check is
 * "Looks good.".
 */
#include "criu-lazy/cmd/cmd.h"
#include "criu-lazy/os/probe.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void usage(FILE *out)
{
	fputs("Usage: criu-lazy check [--feature NAME] [--json]\n"
	      "\n"
	      "Tell what this machine offers of userfaultfd, io_uring and capabilities, and what "
	      "to\n"
	      "do about what is missing. Exit status 0: all that is required is here; 1: it is "
	      "not.\n"
	      "\n"
	      "  --feature NAME   only this: prints \"NAME is supported\", or an error and exits "
	      "1;\n"
	      "                   uffd and uffd-noncoop as in CRIU, and every name that the check\n"
	      "                   prints\n"
	      "  --json           an array of {name, verdict, required, detail, remedy}\n"
	      "  -h, --help       this text\n"
	      "\n"
	      "--all, --extra, --experimental are accepted for CRIU's sake: all is always "
	      "checked.\n",
	      out);
}

static bool good(const struct probe_result *result)
{
	return !result->required || result->verdict != PROBE_MISSING;
}

static void print_text(const struct probe_result *result)
{
	printf("%-8s %-20s %s%s\n", probe_verdict_name(result->verdict), result->name,
	       result->detail,
	       result->verdict == PROBE_MISSING && result->required ? " (required)" : "");
	if (result->remedy[0])
		printf("%-8s %-20s -> %s\n", "", "", result->remedy);
}

static void print_json_string(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void print_json(const struct probe_result *result, bool last)
{
	printf("  {\"name\": ");
	print_json_string(result->name);
	printf(", \"verdict\": \"%s\", \"required\": %s, \"detail\": ",
	       probe_verdict_name(result->verdict), result->required ? "true" : "false");
	print_json_string(result->detail);
	printf(", \"remedy\": ");
	print_json_string(result->remedy);
	printf("}%s\n", last ? "" : ",");
}

static int check_feature(const char *name, bool json)
{
	struct probe_result result;

	if (!probe_one(name, &result)) {
		fprintf(stderr, "criu-lazy check: Unknown feature %s\n", name);
		return 1;
	}
	if (json) {
		puts("[");
		print_json(&result, true);
		puts("]");
	} else if (result.verdict == PROBE_OK) {
		printf("%s is supported\n", name);
	} else {
		fprintf(stderr, "criu-lazy check: %s is not supported: %s\n", name, result.detail);
		if (result.remedy[0])
			fprintf(stderr, "criu-lazy check: %s\n", result.remedy);
	}
	return result.verdict == PROBE_OK ? 0 : 1;
}

static int check_all(bool json)
{
	struct probe_result results[PROBE_MAX];
	size_t nr = probe_run(results), nr_bad = 0;

	if (json)
		puts("[");
	for (size_t i = 0; i < nr; i++) {
		if (json)
			print_json(&results[i], i + 1 == nr);
		else
			print_text(&results[i]);
		nr_bad += !good(&results[i]);
	}
	if (json)
		puts("]");
	else if (nr_bad == 0)
		puts("Looks good.");
	else
		printf("%zu required %s missing.\n", nr_bad,
		       nr_bad == 1 ? "feature is" : "features are");
	return nr_bad == 0 ? 0 : 1;
}

int cmd_check(int argc, char **argv)
{
	enum { OPT_FEATURE = 256, OPT_JSON, OPT_IGNORED };
	static const struct option options[] = {
		{"feature", required_argument, NULL, OPT_FEATURE},
		{"json", no_argument, NULL, OPT_JSON},
		{"all", no_argument, NULL, OPT_IGNORED},
		{"extra", no_argument, NULL, OPT_IGNORED},
		{"experimental", no_argument, NULL, OPT_IGNORED},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	const char *feature = NULL;
	bool json = false;
	int option, status;

	optind = 0; /* start over, also when main has used getopt before */
	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (option) {
		case OPT_FEATURE:
			feature = optarg;
			break;
		case OPT_JSON:
			json = true;
			break;
		case OPT_IGNORED:
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 1;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "criu-lazy check: unexpected argument %s\n", argv[optind]);
		return 1;
	}
	status = feature ? check_feature(feature, json) : check_all(json);
	if (fflush(stdout) != 0) {
		fprintf(stderr, "criu-lazy check: cannot write the result\n");
		return 1;
	}
	return status;
}
