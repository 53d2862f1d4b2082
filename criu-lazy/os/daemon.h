/* SPDX-License-Identifier: GPL-2.0-or-later */
/* daemon.h - going to the background, and telling those who wait. */
#ifndef CRIU_LAZY_OS_DAEMON_H
#define CRIU_LAZY_OS_DAEMON_H

struct err;

/*
 * Fork; the child goes on in a session of its own, in the same directory, with descriptors 0-2 at
 * /dev/null.  The parent writes pidfile (decimal, no newline, as CRIU does; NULL: none) and exits
 * with 0, or with 1 if that fails (the child is ended then).
 */
int daemon_enter(const char *pidfile, struct err *err);

int daemon_write_pidfile(const char *pidfile, int pid, struct err *err);

/* Write the readiness byte (zero) and close.  status_fd -1: nothing to do. */
int daemon_ready(int status_fd, struct err *err);

/* The same, and this text after the byte, by one write. */
int daemon_ready_text(int status_fd, const char *text, struct err *err);

#endif
