/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * options.h - the command line of `criu-lazy lazy-pages`: CRIU's, and what we have beyond it.
 */
#ifndef CRIU_LAZY_CMD_OPTIONS_H
#define CRIU_LAZY_CMD_OPTIONS_H

#include "criu-lazy/cmd/common-options.h"
#include "criu-lazy/cmd/guardian.h"
#include "criu-lazy/cmd/net-options.h"
#include "criu-lazy/engine/engine.h"
#include "criu-lazy/source/remote.h"

#include <stdbool.h>

struct err;

enum { OPTIONS_MAX_FILTERS = 8 };

struct lazy_options {
	struct common_options common;
	const char *socket;
	unsigned jobs;
	bool progress;
	bool trust_newer;
	struct engine_options engine;
	const char *filters[OPTIONS_MAX_FILTERS];
	size_t nr_filters;
	/* Pages from elsewhere. */
	bool page_server;
	struct net_options net;
	enum remote_protocol protocol;
	unsigned reconnect_timeout; /* seconds */
	bool no_compress;
	/* When something goes wrong. */
	bool force; /* SIGTERM ends it, whatever is missing */
	bool no_guardian; /* for comparison only */
	enum guard_death on_guardian_death;
	bool guardian_death_is_given;
	bool fd_store; /* a service manager keeps what is needed to go on */
};

/* argv[0] is the command's name.  0, or -EINVAL with the story. */
int lazy_options_parse(int argc, char **argv, struct lazy_options *ret, struct err *err);

void lazy_options_help(void);

#endif
