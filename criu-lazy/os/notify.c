/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/os/notify.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Between tries where poll(2) cannot tell when it is worthwhile. */
enum { RETRY_MS = 10 };

/* Take a variable out of the environment.  *ret NULL: it was not there. */
static int take_env(const char *variable, char **ret, struct err *err)
{
	const char *value = getenv(variable);

	*ret = value ? strdup(value) : NULL;
	unsetenv(variable);
	return value && !*ret ? err_set(err, ENOMEM, "$%s", variable) : 0;
}

/* Milliseconds for poll(2), rounded up, until then. */
static int ms_until(int64_t deadline)
{
	int64_t left = deadline - clock_now();

	if (left <= 0)
		return 0;
	if (left / NSEC_PER_MSEC >= INT_MAX)
		return INT_MAX;
	return (int)((left + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC);
}

static int64_t deadline_after(int64_t timeout)
{
	int64_t now = clock_now();

	return timeout > CLOCK_NEVER - now ? CLOCK_NEVER : now + timeout;
}

/* --- the socket ------------------------------------------------------------------------------- */

static int parse_address(const char *text, struct sockaddr_un *addr, socklen_t *ret_len,
                         struct err *err)
{
	size_t len = strlen(text);

	if (text[0] != '/' && text[0] != '@')
		return err_set(err, EAFNOSUPPORT, "$NOTIFY_SOCKET %s: neither path nor @name",
		               text);
	if (len < 2)
		return err_set(err, EINVAL, "$NOTIFY_SOCKET %s: no name", text);
	/* A path needs its NUL; an abstract name has it in front instead. */
	if (len > sizeof(addr->sun_path) - (text[0] == '/'))
		return err_set(err, ENAMETOOLONG, "$NOTIFY_SOCKET %s", text);
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(addr->sun_path, text, len);
	if (text[0] == '@')
		addr->sun_path[0] = '\0';
	*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (text[0] == '/'));
	return 0;
}

int notify_open(struct err *err)
{
	cleanup_free char *text = NULL;
	cleanup_close int fd = -1;
	struct sockaddr_un addr;
	socklen_t len = 0;
	int r = take_env("NOTIFY_SOCKET", &text, err);

	if (r < 0)
		return r;
	if (!text || !*text)
		return err_set(err, ENOENT, "$NOTIFY_SOCKET");
	r = parse_address(text, &addr, &len, err);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(err, errno, "socket for $NOTIFY_SOCKET");
	/* A missing file is somebody who has gone, too: ENOENT is for those who have none to tell.
	 */
	if (connect(fd, (struct sockaddr *)&addr, len) < 0)
		return err_set(err, errno == ENOENT ? ECONNREFUSED : errno, "$NOTIFY_SOCKET %s",
		               text);
	return steal_fd(&fd);
}

/* --- messages --------------------------------------------------------------------------------- */

/*
 * Try until it goes out or the deadline has passed.  EAGAIN: the manager's queue or our own buffer
 * is full, and poll(2) on a connected socket looks at both.  ETOOMANYREFS: as many descriptors of
 * this user as RLIMIT_NOFILE allows are in messages that nobody has read.
 */
static int send_patiently(int fd, const struct msghdr *msg, struct err *err)
{
	int64_t deadline = deadline_after(NOTIFY_PATIENCE);

	while (sendmsg(fd, msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		struct pollfd pfd = {.fd = fd, .events = POLLOUT};
		bool crowded = errno == ETOOMANYREFS || errno == ENOBUFS;
		int ms = ms_until(deadline);

		if (errno == EINTR)
			continue;
		/* After ECONNREFUSED the kernel has forgotten to whom we were connected. */
		if (errno != EAGAIN && !crowded)
			return err_set(err, errno == ENOTCONN ? ECONNREFUSED : errno,
			               "message to the service manager");
		if (!ms)
			return err_set(err, ETIMEDOUT,
			               crowded ? "message to the service manager, which does not "
			                         "take the descriptors sent before"
			                       : "message to the service manager, which does not "
			                         "read those sent before");
		if (crowded)
			poll(NULL, 0, ms < RETRY_MS ? ms : RETRY_MS);
		else
			poll(&pfd, 1, ms);
	}
	return 0;
}

int notify_send(int fd, const char *text, const int *fds, size_t nr_fds, struct err *err)
{
	union {
		char bytes[CMSG_SPACE(NOTIFY_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {.iov_base = (void *)text, .iov_len = strlen(text)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *cmsg;

	if (!*text)
		return err_set(err, EINVAL, "message to the service manager: it is empty");
	if (iov.iov_len > NOTIFY_TEXT_MAX)
		return err_set(err, E2BIG, "message to the service manager: %zu bytes, at most %d",
		               iov.iov_len, NOTIFY_TEXT_MAX);
	if (nr_fds > NOTIFY_FDS_MAX)
		return err_set(err, E2BIG,
		               "message to the service manager: %zu descriptors, at most %d",
		               nr_fds, NOTIFY_FDS_MAX);
	if (nr_fds) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, nr_fds * sizeof(int));
	}
	return send_patiently(fd, &msg, err);
}

int notify_ready(int fd, struct err *err)
{
	return notify_send(fd, "READY=1", NULL, 0, err);
}

/* What needs no quoting anywhere. */
static bool is_our_name(const char *name)
{
	size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	                          "._-");

	return len && !name[len] && len <= NOTIFY_NAME_MAX;
}

int notify_store(int fd, const char *name, int which_fd, struct err *err)
{
	char text[NOTIFY_NAME_MAX + 64];
	int r;

	if (!is_our_name(name))
		return err_set(err, EINVAL, "'%.*s' cannot be the name of a stored descriptor",
		               NOTIFY_NAME_MAX + 1, name);
	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
	r = notify_send(fd, text, &which_fd, 1, err);
	return r < 0 ? err_wrap(err, "store descriptor %d as %s", which_fd, name) : 0;
}

int notify_remove(int fd, const char *name, struct err *err)
{
	char text[NOTIFY_NAME_MAX + 64];
	int r;

	if (!is_our_name(name))
		return err_set(err, EINVAL, "'%.*s' cannot be the name of a stored descriptor",
		               NOTIFY_NAME_MAX + 1, name);
	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	r = notify_send(fd, text, NULL, 0, err);
	return r < 0 ? err_wrap(err, "remove stored descriptor %s", name) : 0;
}

/* The manager closes what it is sent; when nobody has the writing end any more it has come. */
int notify_barrier(int fd, int64_t timeout, struct err *err)
{
	int64_t deadline = deadline_after(timeout);
	cleanup_close int reader = -1, writer = -1;
	struct pollfd pfd = {0};
	int ends[2], r;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(err, errno, "pipe for the service manager");
	reader = ends[0];
	writer = ends[1];
	r = notify_send(fd, "BARRIER=1", &writer, 1, err);
	if (r < 0)
		return r;
	close(steal_fd(&writer));
	pfd.fd = reader;
	do {
		int ms = ms_until(deadline);

		r = poll(&pfd, 1, ms);
		if (r < 0 && errno != EINTR)
			return err_set(err, errno, "wait for the service manager");
		if (r == 0 && !ms)
			return err_set(err, ETIMEDOUT,
			               "the service manager has not read what it was sent");
	} while (r <= 0);
	return 0;
}

/* --- what we were started with ---------------------------------------------------------------- */

/* The variables, as they were. */
struct listen_env {
	char *pid, *nr, *names;
};

/* Decimal digits only, at most max; -1 otherwise. */
static long parse_number(const char *text, long max)
{
	long value = 0;

	if (!*text)
		return -1;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -1;
		value = value * 10 + (*text - '0');
		if (value > max)
			return -1;
	}
	return value;
}

/* One name of the list, which is moved on behind its separator.  False: not one of a manager's. */
static bool take_name(const char **list, char *ret_name)
{
	size_t len = strcspn(*list, ":");

	if (!len || len > NOTIFY_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if ((*list)[i] < ' ' || (*list)[i] > '~')
			return false;
	memcpy(ret_name, *list, len);
	ret_name[len] = '\0';
	*list += len;
	return true;
}

static int name_all(const char *names, struct notify_fd *fds, size_t nr, struct err *err)
{
	for (size_t i = 0; i < nr; i++) {
		if (!names) {
			strcpy(fds[i].name, "unknown");
			continue;
		}
		if (!take_name(&names, fds[i].name))
			return err_set(err, EINVAL, "$LISTEN_FDNAMES: name %zu of %zu is malformed",
			               i + 1, nr);
		if (i + 1 == nr)
			break;
		if (*names++ != ':')
			return err_set(err, EINVAL,
			               "$LISTEN_FDNAMES: %zu names for %zu descriptors", i + 1, nr);
	}
	if (names && *names)
		return err_set(err, EINVAL, "$LISTEN_FDNAMES: more names than the %zu descriptors",
		               nr);
	return 0;
}

/* All are to be there before the first one is changed. */
static int claim_all(struct notify_fd *fds, size_t nr, struct err *err)
{
	for (size_t i = 0; i < nr; i++) {
		fds[i].fd = NOTIFY_LISTEN_FIRST + (int)i;
		if (fcntl(fds[i].fd, F_GETFD) < 0)
			return err_set(err, errno, "descriptor %d of $LISTEN_FDS %zu", fds[i].fd,
			               nr);
	}
	for (size_t i = 0; i < nr; i++)
		if (fcntl(fds[i].fd, F_SETFD, FD_CLOEXEC) < 0)
			return err_set(err, errno, "descriptor %d of $LISTEN_FDS", fds[i].fd);
	return 0;
}

static int listen_fds(const struct listen_env *env, struct notify_fd **ret, size_t *ret_nr,
                      struct err *err)
{
	cleanup_free struct notify_fd *fds = NULL;
	long pid, nr;
	int r;

	if (!env->pid || !env->nr)
		return 0;
	pid = parse_number(env->pid, INT_MAX);
	if (pid <= 0)
		return err_set(err, EINVAL, "$LISTEN_PID is malformed: %.40s", env->pid);
	if (pid != getpid())
		return 0;
	nr = parse_number(env->nr, NOTIFY_LISTEN_MAX);
	if (nr < 0)
		return err_set(err, EINVAL, "$LISTEN_FDS is not a number from 0 to %d: %.40s",
		               NOTIFY_LISTEN_MAX, env->nr);
	if (nr == 0)
		return 0;
	fds = calloc((size_t)nr, sizeof(*fds));
	if (!fds)
		return err_set(err, ENOMEM, "$LISTEN_FDS %ld", nr);
	r = name_all(env->names, fds, (size_t)nr, err);
	if (r == 0)
		r = claim_all(fds, (size_t)nr, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(&fds);
	*ret_nr = (size_t)nr;
	return 0;
}

int notify_listen_fds(struct notify_fd **ret, size_t *ret_nr, struct err *err)
{
	cleanup_free char *pid = NULL, *nr = NULL, *names = NULL;
	struct notify_fd *fds = NULL;
	size_t nr_fds = 0;
	int r1 = take_env("LISTEN_PID", &pid, err), r2 = take_env("LISTEN_FDS", &nr, err),
	    r3 = take_env("LISTEN_FDNAMES", &names, err);
	int r = r1 < 0 ? r1 : r2 < 0 ? r2 : r3;

	unsetenv("LISTEN_PIDFDID");
	if (r == 0)
		r = listen_fds(&(struct listen_env){pid, nr, names}, &fds, &nr_fds, err);
	if (r < 0)
		return r;
	*ret = fds;
	*ret_nr = nr_fds;
	return 0;
}
