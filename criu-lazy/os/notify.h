/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * notify.h - talking to a service manager: systemd's notification protocol (sd_notify(3)) and
 * descriptors that a service is started with (sd_listen_fds(3)), without its library.
 *
 *	r = notify_listen_fds(&fds, &nr, err);	first of all, before anything is opened
 *	fd = notify_open(err);			-ENOENT: nobody wants to be told
 *	r = notify_store(fd, "journal", journal_fd, err);
 *	r = notify_barrier(fd, timeout, err);	now the manager has it
 *	r = notify_ready(fd, err);
 *
 * The manager takes messages only from processes that the unit's NotifyAccess= allows, and stores
 * descriptors only if FileDescriptorStoreMax= has room; it never says that it did not.  What it has
 * read it has acted upon, which is all that notify_barrier() tells.
 *
 * Nothing waits without limit: if the manager does not read its socket (its queue is full, or too
 * many descriptors of this user are on their way), a message is tried for NOTIFY_PATIENCE and then
 * is -ETIMEDOUT, and was not sent.
 *
 * notify_open() and notify_listen_fds() change the environment: call them while there is one
 * thread.  The others may be called by several at once, for the same descriptor.
 */
#ifndef CRIU_LAZY_OS_NOTIFY_H
#define CRIU_LAZY_OS_NOTIFY_H

#include "criu-lazy/base/clock.h"

#include <stddef.h>
#include <stdint.h>

struct err;

#define NOTIFY_PATIENCE (5 * NSEC_PER_SEC)

enum {
	NOTIFY_NAME_MAX = 255, /* the manager's limit for a descriptor's name */
	NOTIFY_TEXT_MAX = 4095, /* bytes of a message; longer ones systemd throws away */
	NOTIFY_FDS_MAX = 253, /* descriptors of a message: SCM_MAX_FD, the kernel's */
	/*
	 * Descriptors that a start of the service may bring.  Their names travel in one variable of
	 * the environment, which the kernel limits to 128 KiB, and beyond that the service cannot
	 * be started: the shorter the names, the more can be stored.
	 */
	NOTIFY_LISTEN_MAX = 16384,
	NOTIFY_LISTEN_FIRST = 3, /* the first one's number */
};

/*
 * A descriptor (O_CLOEXEC) that is connected to $NOTIFY_SOCKET, which leaves the environment
 * whatever comes of it, so that no child speaks in our name.  -ENOENT: it is not set (or empty).
 * -ECONNREFUSED: nobody is there.  Paths and abstract sockets ("@..."); -EAFNOSUPPORT for others
 * ("vsock:...").
 */
int notify_open(struct err *err);

/*
 * Send lines of VARIABLE=value, separated by newlines, with nr_fds descriptors, which stay the
 * caller's.  -E2BIG beyond the limits above; -ETIMEDOUT; -ECONNREFUSED: the manager has gone.
 */
int notify_send(int fd, const char *text, const int *fds, size_t nr_fds, struct err *err);

/* The start of the service is complete. */
int notify_ready(int fd, struct err *err);

/*
 * Let the manager keep a copy of which_fd under that name: [A-Za-z0-9._-], 1 to 255 bytes, not
 * necessarily unique.  What lies in the store is not polled, so stays until it is removed, or the
 * service has stopped.  A file that is in the store already is not stored again, also not under
 * another name.
 */
int notify_store(int fd, const char *name, int which_fd, struct err *err);

/* All that are stored under that name leave the store; the manager does not mind if there is none.
 */
int notify_remove(int fd, const char *name, struct err *err);

/*
 * Wait, at most timeout ns, until the manager has read all that was sent before: 0, or
 * -ETIMEDOUT.  Takes two free descriptors for a moment.  A manager that dies with it unread lets
 * go, too; the next message tells (-ECONNREFUSED).
 */
int notify_barrier(int fd, int64_t timeout, struct err *err);

struct notify_fd {
	int fd;
	char name[NOTIFY_NAME_MAX + 1]; /* printable ASCII; "unknown" if none were told */
};

/*
 * The descriptors that this process was started with by the manager: sockets of its units, and what
 * it stored in a former life; now O_CLOEXEC, and the caller's.  *ret (NULL if there are none) is to
 * be freed.  $LISTEN_PID, _PIDFDID, _FDS, _FDNAMES leave the environment in any case.
 *
 * None, and no error: the variables are missing, or are for another process (LISTEN_PID).
 * -EINVAL: malformed, more than NOTIFY_LISTEN_MAX, another number of names than of descriptors, a
 * name that the manager could not have accepted.  -EBADF: one is not open.  After an error all are
 * as they were.
 */
int notify_listen_fds(struct notify_fd **ret, size_t *ret_nr, struct err *err);

#endif
