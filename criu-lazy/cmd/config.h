/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * config.h - CRIU's configuration files, as the beginning of a command line.
 *
 *	struct config config = {0};
 *
 *	r = config_prepend(&config, argc, argv, shorts, longs, err);
 *	...
 *	while ((c = getopt_long(config.argc, config.argv, shorts, longs, NULL)) != -1)
 *		... a value is wrong: return config_blame(&config, optind - 1, err);
 *	...
 *	config_release(&config);	values of options live until here
 *
 * Read, in this order, so that what comes later overrides what came before:
 *
 *	/etc/criu/default.conf, $HOME/.criu/default.conf	if they exist; neither with --config
 *								or --no-default-config
 *	the file that the environment names in CRIU_CONFIG_FILE
 *	the file of the last --config
 *
 * A line is a long option without its dashes, and its value, if it has one:
 *
 *	# a comment
 *	log-file  /var/log/lazy pages.log		wrong: quotes are needed
 *	log-file  "/var/log/lazy pages.log"	# a comment, too
 *	log-file=lazy.log
 *	images-dir "say \"images\""
 *	daemon
 *	no-daemon
 *
 * CRIU's commands share these files: options of its other commands are skipped, with whatever
 * follows them.  Everything else that is not understood is an error with file and line.  A file
 * that was asked for by name must be there (CRIU goes on without a word).
 */
#ifndef CRIU_LAZY_CMD_CONFIG_H
#define CRIU_LAZY_CMD_CONFIG_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>

struct err;

enum {
	CONFIG_MAX_SIZE = 1 << 20, /* bytes in a file */
	CONFIG_MAX_FILES = 4,
};

/* One option out of a file. */
struct config_item {
	char *arg; /* "--name" or "--name=value" */
	const char *file;
	unsigned line;
};

struct config {
	struct config_item *items;
	size_t nr, room;
	char *files[CONFIG_MAX_FILES]; /* names */
	size_t nr_files;
	char **argv; /* argv[0], all items, the rest of argv; NULL at the end */
	int argc;
};

/* Zero-initialise; release also after a failure, and as often as you like. */
void config_release(struct config *config);

/*
 * Append what a file says to config->items.  longs is getopt_long()'s table of the command.  file
 * is its name for messages and must outlive config.  Touches nothing but its arguments.
 */
int config_parse(struct config *config, const char *file, const char *text, size_t len,
                 const struct option *longs, struct err *err);

/*
 * Look for --config and --no-default-config in argv, read the files, make config->argv and argc.
 * The strings of argv must outlive config; getopt may change their order.
 */
int config_prepend(struct config *config, int argc, char **argv, const char *shorts,
                   const struct option *longs, struct err *err);

/*
 * Put file and line in front of the story of err, if config->argv[index] came from a file.  Returns
 * -err->code.
 */
int config_blame(const struct config *config, int index, struct err *err);

/* Is that an option of CRIU (name without dashes, also no-NAME) for others of its commands? */
bool config_is_elsewhere(const char *name);

/* The lines of --help about the files. */
void config_help(void);

#endif
