/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log.h - the log of a command.
 *
 * Levels are CRIU's (-v0 .. -v4).  Floors 0-3 (base, os, proto, track, images, source) do not log:
 * they return errors.  Lines go to stderr or to the file given to log_open(), one write(2) a line,
 * so lines of several threads do not mix.  From level 3 on each line starts with the seconds since
 * log_open(), as in CRIU: "(00.012345) ".
 *
 * The only process-wide state of the project besides cmd/.
 */
#ifndef CRIU_LAZY_BASE_LOG_H
#define CRIU_LAZY_BASE_LOG_H

#include <stdbool.h>

struct err;

enum log_level {
	LOG_MSG = 0, /* always said */
	LOG_ERROR = 1,
	LOG_WARN = 2, /* default */
	LOG_INFO = 3,
	LOG_DEBUG = 4,
};

/* path NULL: stderr.  The file is created with mode 0644 and truncated, as CRIU does. */
int log_open(const char *path, enum log_level level, struct err *err);

/* Would a line of this level be written?  For callers that must not pay for building it. */
bool log_wants(enum log_level level);

/* Whether lines go to a file rather than to stderr. */
bool log_to_file(void);

void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_msg(...)   log_line(LOG_MSG, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                    \
	do {                                              \
		if (log_wants(LOG_DEBUG))                 \
			log_line(LOG_DEBUG, __VA_ARGS__); \
	} while (0)

#endif
