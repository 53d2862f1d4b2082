/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/base/log.h"

#include "criu-lazy/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
	int fd;
	enum log_level level;
	struct timespec start;
} log_state = {.fd = STDERR_FILENO, .level = LOG_WARN};

int log_open(const char *path, enum log_level level, struct err *err)
{
	int fd = STDERR_FILENO;

	if (path) {
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
		if (fd < 0)
			return err_set(err, errno, "log file %s", path);
	}
	if (log_state.fd != STDERR_FILENO)
		close(log_state.fd);
	log_state.fd = fd;
	log_state.level = level;
	clock_gettime(CLOCK_MONOTONIC, &log_state.start);
	return 0;
}

bool log_wants(enum log_level level)
{
	return level <= log_state.level;
}

bool log_to_file(void)
{
	return log_state.fd != STDERR_FILENO;
}

static int print_time(char *buf, size_t size)
{
	struct timespec now;
	int64_t usec;

	clock_gettime(CLOCK_MONOTONIC, &now);
	usec = (now.tv_sec - log_state.start.tv_sec) * 1000000 +
	       (now.tv_nsec - log_state.start.tv_nsec) / 1000;
	return snprintf(buf, size, "(%02lld.%06lld) ", (long long)(usec / 1000000),
	                (long long)(usec % 1000000));
}

void log_line(enum log_level level, const char *fmt, ...)
{
	static const char *const words[] = {[LOG_MSG] = "",
	                                    [LOG_ERROR] = "Error: ",
	                                    [LOG_WARN] = "Warn: ",
	                                    [LOG_INFO] = "",
	                                    [LOG_DEBUG] = ""};
	char line[1024];
	size_t used = 0;
	va_list ap;
	ssize_t put;

	if (!log_wants(level))
		return;
	if (log_state.level >= LOG_INFO)
		used = (size_t)print_time(line, sizeof(line));
	used += (size_t)snprintf(line + used, sizeof(line) - used, "criu-lazy: %s", words[level]);
	va_start(ap, fmt);
	vsnprintf(line + used, sizeof(line) - used - 1, fmt, ap);
	va_end(ap);
	used = strlen(line);
	line[used++] = '\n';
	/* A log that cannot be written (full disk) must not stop a restore. */
	put = write(log_state.fd, line, used);
	(void)put;
}
