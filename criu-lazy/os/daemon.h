/* SPDX-License-Identifier: GPL-2.0-or-later */
/* daemon.h - going to the background, and telling those who wait. */
#ifndef CRIU_LAZY_OS_DAEMON_H
#define CRIU_LAZY_OS_DAEMON_H

struct err;

/*
 * Fork; the child goes on in a session of its own, in the same directory, and has written pidfile
 * (decimal, no newline, as CRIU does; NULL: none).  The parent exits: with 0 when the child has
 * said daemon_ready(), with 1 when it has ended before.
 */
int daemon_enter(const char *pidfile, struct err *err);

/*
 * What this process has in memory is other processes' memory: no core dump of it, no ptrace, and
 * /proc/PID/mem and fd closed, to all but those with CAP_SYS_PTRACE.  Children inherit it.
 */
void daemon_hide(void);

int daemon_write_pidfile(const char *pidfile, int pid, struct err *err);

/*
 * Write the readiness byte (zero) and close; status_fd -1: no byte.  Then let the parent of
 * daemon_enter() go, so that whoever has waited for it finds the byte; descriptors 0-2 are
 * /dev/null from now on.  On an error the parent is still there, and ends with 1 when we do.
 */
int daemon_ready(int status_fd, struct err *err);

/* The same, and this text after the byte, by one write. */
int daemon_ready_text(int status_fd, const char *text, struct err *err);

#endif
