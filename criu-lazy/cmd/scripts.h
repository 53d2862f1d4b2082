/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * scripts.h - CRIU's --action-script: programs of the user that are told what has happened.
 *
 * A daemon knows one action, "status-ready".  The environment is CRIU's: CRTOOLS_SCRIPT_ACTION, and
 * CRTOOLS_IMAGE_DIR as a path under /proc that is valid while the program runs.
 */
#ifndef CRIU_LAZY_CMD_SCRIPTS_H
#define CRIU_LAZY_CMD_SCRIPTS_H

#include <stddef.h>

struct err;

enum { SCRIPTS_MAX = 16 };

/* Zero-initialise. */
struct scripts {
	const char *path[SCRIPTS_MAX];
	size_t nr;
};

int scripts_add(struct scripts *scripts, const char *path, struct err *err);

/*
 * Run them, one after another, as CRIU does the last given one first, and wait for each.  One that
 * cannot be run or does not end with 0 is an error, after all have run.  While there is only one
 * thread.
 */
int scripts_run(const struct scripts *scripts, const char *action, int images, struct err *err);

#endif
