/* SPDX-License-Identifier: GPL-2.0-or-later */
/* criu-lazy: finds the command among the arguments; as in CRIU, options may come before it. */
#include "criu-lazy/cmd/cmd.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *what;
} commands[] = {
	{"lazy-pages", cmd_lazy_pages, "bring the memory of lazily restored processes"},
	{"page-server", cmd_page_server, "serve or store the memory of checkpoints over a network"},
	{"serve", cmd_page_server, "page-server --lazy-pages --keep: serve any number of restores"},
	{"show", cmd_show, "images as text or JSON"},
	{"check", cmd_check, "what this machine has of what is needed"},
};

enum { NR_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void help(FILE *to)
{
	size_t i;

	fputs("Usage: criu-lazy COMMAND [OPTION]...\n\n"
	      "Restores checkpointed processes lazily: they run at once, and their memory "
	      "follows.\n\n",
	      to);
	for (i = 0; i < NR_COMMANDS; i++)
		fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].what);
	fputs("\n`criu-lazy COMMAND --help` tells the rest.\n", to);
}

/* Does this option take the next argument, which may be called like a command? */
static bool is_value(const char *before)
{
	static const char *const with_value[] = {
		"-D",        "-W",         "-o",        "--images-dir",      "--work-dir",
		"--pidfile", "--log-file", "--socket",  "--prev-images-dir", "--address",
		"--unix",    "--tls-cert", "--tls-key", "--tls-cacert",      "--tls-cacrl"};
	size_t i;

	for (i = 0; i < sizeof(with_value) / sizeof(with_value[0]); i++)
		if (!strcmp(before, with_value[i]))
			return true;
	return false;
}

int main(int argc, char **argv)
{
	char *name;
	int i;
	size_t c;

	for (i = 1; i < argc; i++) {
		for (c = 0; c < NR_COMMANDS; c++) {
			if (strcmp(argv[i], commands[c].name) || is_value(argv[i - 1]))
				continue;
			/* The command becomes argv[0], what stood before it stays in order. */
			name = argv[i];
			memmove(&argv[1], &argv[0], (size_t)i * sizeof(*argv));
			argv[1] = name;
			return commands[c].run(argc - 1, &argv[1]);
		}
	}
	if (argc == 2 && (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V"))) {
		puts("Version: " VERSION " (criu-lazy)");
		return 0;
	}
	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		help(stdout);
		return 0;
	}
	if (argc > 1)
		fprintf(stderr, "criu-lazy: Error: no command in \"%s\"\n", argv[1]);
	help(stderr);
	return 1;
}
