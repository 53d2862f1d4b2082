/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * options.h - the command line of `criu-lazy lazy-pages`: CRIU's, and what we have beyond it.
 */
#ifndef CRIU_LAZY_CMD_OPTIONS_H
#define CRIU_LAZY_CMD_OPTIONS_H

#include "criu-lazy/base/log.h"
#include "criu-lazy/engine/engine.h"

#include <stdbool.h>

struct err;

enum { OPTIONS_MAX_FILTERS = 8 };

struct lazy_options {
	const char *images_dir;
	const char *work_dir; /* NULL: the images directory */
	const char *log_file; /* NULL: stderr */
	enum log_level level;
	bool daemon;
	const char *pidfile;
	int status_fd; /* -1: none */
	const char *socket;
	unsigned jobs;
	bool progress;
	bool help;
	bool trust_newer;
	struct engine_options engine;
	const char *filters[OPTIONS_MAX_FILTERS];
	size_t nr_filters;
	char ignored[256]; /* options of CRIU that were accepted and mean nothing here */
};

/* argv[0] is the command's name.  0, or -EINVAL with the story. */
int lazy_options_parse(int argc, char **argv, struct lazy_options *ret, struct err *err);

void lazy_options_help(void);

#endif
