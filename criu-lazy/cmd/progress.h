/* SPDX-License-Identifier: GPL-2.0-or-later */
/* progress.h - what a helper tells a person: a live line, and one line at the end. */
#ifndef CRIU_LAZY_CMD_PROGRESS_H
#define CRIU_LAZY_CMD_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct engine_stats;

/* Redraw the line on standard error; start: when the first process reported (ns). */
void progress_draw(const struct engine_stats *stats, int64_t start, int64_t now);

/* Leave the line. */
void progress_end(void);

/* The summary, logged at every level. */
void progress_summary(const struct engine_stats *stats, int64_t start, int64_t now);

#endif
