/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/os/unixsock.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { BACKLOG = 10 };

/*
 * The lock is an abstract socket named after the directory's identity and the file's name: unlike
 * a lock file it cannot be left behind.  (It guards within one network namespace.)
 */
static int take_lock(const char *path, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char copy1[108], copy2[108];
	cleanup_close int fd = -1;
	struct stat st;
	int len;

	snprintf(copy1, sizeof(copy1), "%s", path);
	snprintf(copy2, sizeof(copy2), "%s", path);
	if (stat(dirname(copy1), &st) < 0)
		return err_set(err, errno, "directory of socket %s", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(err, errno, "unix socket");
	len = snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "criu-lazy/%llx:%llx/%.60s",
	               (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
	               basename(copy2));
	if (bind(fd, (struct sockaddr *)&addr,
	         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) < 0) {
		if (errno == EADDRINUSE)
			return err_set(err, EADDRINUSE, "another helper listens at %s", path);
		return err_set(err, errno, "lock for socket %s", path);
	}
	return steal_fd(&fd);
}

int unixsock_listen(const char *path, struct unixsock *ret, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	cleanup_close int lock = -1, fd = -1;
	struct stat st;
	mode_t mask;
	int one = 1, r;

	if (strlen(path) >= sizeof(addr.sun_path) || !*path)
		return err_set(err, ENAMETOOLONG, "socket %s", path);
	strcpy(addr.sun_path, path);
	lock = take_lock(path, err);
	if (lock < 0)
		return lock;
	if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		return err_set(err, ENOTSOCK, "%s is in the way", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return err_set(err, errno, "old socket %s", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, errno, "unix socket");
	mask = umask(0177);
	r = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	umask(mask);
	/* Accepted sockets inherit SO_PASSCRED, so each message tells which task sent it. */
	if (r < 0 || stat(path, &st) < 0 || listen(fd, BACKLOG) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) < 0)
		return err_set(err, errno, "listen at socket %s", path);
	*ret = (struct unixsock){.fd = steal_fd(&fd),
	                         .lock_fd = steal_fd(&lock),
	                         .dev = st.st_dev,
	                         .ino = st.st_ino};
	strcpy(ret->path, path);
	return 0;
}

int unixsock_adopt(const char *path, int fd, int lock_fd, struct unixsock *ret, struct err *err)
{
	struct unixsock sock = {.fd = fd, .lock_fd = lock_fd};
	struct sockaddr_un addr = {0};
	socklen_t len = sizeof(addr), int_len = sizeof(int);
	struct stat st;
	int listens = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &int_len) < 0 || !listens ||
	    getsockname(fd, (struct sockaddr *)&addr, &len) < 0 || addr.sun_family != AF_UNIX ||
	    strncmp(addr.sun_path, path, sizeof(addr.sun_path)) != 0 || fcntl(lock_fd, F_GETFD) < 0)
		return err_set(err, EPROTO, "descriptor %d does not listen at socket %s", fd, path);
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
		sock.dev = st.st_dev;
		sock.ino = st.st_ino;
	}
	snprintf(sock.path, sizeof(sock.path), "%s", path);
	*ret = sock;
	return 0;
}

void unixsock_forget(struct unixsock *sock)
{
	struct stat st;

	if (sock->fd >= 0 && lstat(sock->path, &st) == 0 && st.st_dev == sock->dev &&
	    st.st_ino == sock->ino)
		unlink(sock->path);
	sock->fd = sock->lock_fd = -1;
}

void unixsock_close(struct unixsock *sock)
{
	int fd = sock->fd, lock_fd = sock->lock_fd;

	if (fd < 0)
		return;
	unixsock_forget(sock);
	close(fd);
	close(lock_fd);
}

int unixsock_check_peer(int fd, const char *path, struct err *err)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return err_set(err, errno, "peer of %s", path);
	if (peer.uid != 0 && peer.uid != geteuid())
		return err_set(err, EPERM, "process %d of user %u at %s", peer.pid, peer.uid, path);
	return 0;
}

int unixsock_accept(const struct unixsock *sock, struct err *err)
{
	cleanup_close int fd = -1;
	int r;

	/* Who has left again is not worth a return: there may be another behind it. */
	do {
		fd = accept4(sock->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	} while (fd < 0 && (errno == ECONNABORTED || errno == EINTR));
	if (fd < 0)
		return errno == EAGAIN ? -EAGAIN : err_set(err, errno, "accept at %s", sock->path);
	r = unixsock_check_peer(fd, sock->path, err);
	return r < 0 ? r : steal_fd(&fd);
}

bool unixsock_is_connection(const struct unixsock *sock, int fd)
{
	struct sockaddr_un addr = {0};
	socklen_t len = sizeof(addr), int_len = sizeof(int);
	int listens = 1;

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &int_len) == 0 && !listens &&
	       getsockname(fd, (struct sockaddr *)&addr, &len) == 0 && addr.sun_family == AF_UNIX &&
	       len > offsetof(struct sockaddr_un, sun_path) &&
	       strncmp(addr.sun_path, sock->path, sizeof(addr.sun_path)) == 0;
}

static void take_fds(const struct cmsghdr *cmsg, bool close_surplus, struct unixsock_msg *ret)
{
	size_t nr = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int), i;

	for (i = 0; i < nr; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(fd), sizeof(fd));
		ret->nr_fds++;
		if (ret->nr_fds == 1) {
			ret->fd = fd;
			continue;
		}
		if (close_surplus) {
			close(fd);
			cleanup_close_fd(&ret->fd);
		}
		ret->fd = -1;
	}
}

int unixsock_peek(int fd, struct unixsock_msg *ret)
{
	/*
	 * With the sender's credentials there is no room for a descriptor: the kernel makes none,
	 * and says that there is one.
	 */
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	char bytes[8];
	struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
	struct msghdr msg = {.msg_iov = &iov,
	                     .msg_iovlen = 1,
	                     .msg_control = control.bytes,
	                     .msg_controllen = sizeof(control.bytes)};
	struct unixsock_msg rights = {.fd = -1};
	struct cmsghdr *cmsg;
	struct ucred cred;
	ssize_t got;

	*ret = (struct unixsock_msg){.fd = -1};
	do {
		got = recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	ret->nr = (size_t)got;
	ret->nr_fds = !!(msg.msg_flags & MSG_CTRUNC);
	for (cmsg = CMSG_FIRSTHDR(&msg); cmsg; cmsg = CMSG_NXTHDR(&msg, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET)
			continue;
		if (cmsg->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&cred, CMSG_DATA(cmsg), sizeof(cred));
			ret->pid = cred.pid;
		} else if (cmsg->cmsg_type == SCM_RIGHTS) { /* without credentials */
			take_fds(cmsg, true, &rights);
			cleanup_close_fd(&rights.fd);
			ret->nr_fds = 1;
		}
	}
	return 0;
}

/*
 * A descriptor that comes while the table is full is lost, and a userfaultfd's process reads zeros
 * from then on: look first.  Whoever dies here leaves it open: no copy of a connection, which would
 * be taken for somebody else's.
 */
static int has_room(void)
{
	int spare = eventfd(0, EFD_CLOEXEC);

	if (spare < 0)
		return -errno;
	close(spare);
	return 0;
}

int unixsock_receive(int fd, size_t size, struct unixsock_raw *raw)
{
	struct unixsock_msg next;
	int r = has_room();
	ssize_t got;

	raw->got = 0;
	if (r < 0)
		return r;
	/*
	 * A recvmsg() that fails with EAGAIN, or finds the end, has written credentials all the
	 * same: so it is called when it is known what comes, and how much.
	 */
	r = unixsock_peek(fd, &next);
	if (r < 0 || !next.nr)
		return r;
	raw->got = -1;
	raw->iov =
		(struct iovec){.iov_base = raw->bytes, .iov_len = next.nr < size ? next.nr : size};
	raw->msg = (struct msghdr){.msg_iov = &raw->iov,
	                           .msg_iovlen = 1,
	                           .msg_control = raw->control.bytes,
	                           .msg_controllen = sizeof(raw->control.bytes)};
	do {
		got = recvmsg(fd, &raw->msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	raw->got = (int32_t)got;
	return 0;
}

bool unixsock_has_come(const struct unixsock_raw *raw)
{
	/* The kernel writes the sender's credentials (SO_PASSCRED) after it has taken the bytes. */
	return raw->control.align.cmsg_len != 0;
}

int unixsock_parse(const struct unixsock_raw *raw, bool close_surplus, struct unixsock_msg *ret)
{
	struct msghdr msg = raw->msg;
	struct cmsghdr *cmsg;
	struct ucred cred;

	/* Noted or not: so much was there, and nobody else takes it. */
	*ret = (struct unixsock_msg){.nr = raw->got < 0 ? raw->iov.iov_len : (size_t)raw->got,
	                             .fd = -1};
	msg.msg_control = (void *)(uintptr_t)raw->control.bytes;
	for (cmsg = CMSG_FIRSTHDR(&msg); cmsg && cmsg->cmsg_len; cmsg = CMSG_NXTHDR(&msg, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET)
			continue;
		if (cmsg->cmsg_type == SCM_RIGHTS) {
			take_fds(cmsg, close_surplus, ret);
		} else if (cmsg->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&cred, CMSG_DATA(cmsg), sizeof(cred));
			ret->pid = cred.pid;
		}
	}
	/* One was sent, and our table of descriptors had no place for it. */
	if (msg.msg_flags & MSG_CTRUNC && !ret->nr_fds)
		return -EMFILE;
	return 0;
}

int unixsock_recv(int fd, void *buf, size_t size, struct unixsock_msg *ret)
{
	struct unixsock_raw raw = {0};
	int r = unixsock_receive(fd, size, &raw);

	if (r < 0)
		return r;
	memcpy(buf, raw.bytes, (size_t)raw.got);
	return unixsock_parse(&raw, true, ret);
}
