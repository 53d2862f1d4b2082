/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/os/net.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/os/unixsock.h"

#include <arpa/inet.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum {
	BACKLOG = 128,
	NR_PROBES = 5, /* keepalives without an answer, one a second, until the peer is dead */
};

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un un;
	struct sockaddr_storage storage;
};

static void cleanup_addrinfo(struct addrinfo **list)
{
	if (*list)
		freeaddrinfo(*list);
}

static int resolve(const char *host, uint16_t port, int flags, struct addrinfo **ret)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC,
	                         .ai_socktype = SOCK_STREAM,
	                         .ai_flags = flags | AI_NUMERICSERV};
	char service[8];

	*ret = NULL;
	if (!strcmp(host, "*"))
		return EAI_NONAME; /* to glibc it is no name at all: everything, or loopback */
	snprintf(service, sizeof(service), "%u", port);
	return getaddrinfo(host, service, &hints, ret);
}

/* --- listening -------------------------------------------------------------------------------- */

int net_listen(const char *address, uint16_t port, uint16_t *ret_port, struct err *err)
{
	__attribute__((cleanup(cleanup_addrinfo))) struct addrinfo *list = NULL;
	cleanup_close int fd = -1;
	union address bound = {0};
	socklen_t len = sizeof(bound);
	int one = 1;

	if (resolve(address, port, AI_NUMERICHOST | AI_PASSIVE, &list) != 0)
		return err_set(err, EINVAL, "\"%s\" is no numeric IPv4 or IPv6 address", address);
	fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, errno, "socket for %s", address);
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, list->ai_addr, list->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0 ||
	    getsockname(fd, &bound.any, &len) < 0)
		return err_set(err, errno, "listen at %s port %u", address, port);
	*ret_port = ntohs(bound.any.sa_family == AF_INET6 ? bound.v6.sin6_port : bound.v4.sin_port);
	return steal_fd(&fd);
}

bool net_is_wildcard(const char *address)
{
	__attribute__((cleanup(cleanup_addrinfo))) struct addrinfo *list = NULL;
	const struct in6_addr *v6;
	union address a = {0};

	if (resolve(address, 0, AI_NUMERICHOST, &list) != 0)
		return false;
	memcpy(&a, list->ai_addr, list->ai_addrlen);
	if (list->ai_family == AF_INET)
		return a.v4.sin_addr.s_addr == htonl(INADDR_ANY);
	v6 = &a.v6.sin6_addr;
	return IN6_IS_ADDR_UNSPECIFIED(v6) ||
	       (IN6_IS_ADDR_V4MAPPED(v6) && !memcmp(&v6->s6_addr[12], "\0\0\0\0", 4));
}

static int unix_address(const char *path, union address *ret, struct err *err)
{
	*ret = (union address){.un.sun_family = AF_UNIX};
	if (!*path)
		return err_set(err, EINVAL, "a unix socket's path is empty");
	if (strlen(path) >= sizeof(ret->un.sun_path))
		return err_set(err, ENAMETOOLONG, "socket %s", path);
	strcpy(ret->un.sun_path, path);
	return 0;
}

/* The file at path, if any, is a socket that nobody listens at: unlink it. */
static int clear_away(const char *path, const union address *at, struct err *err)
{
	cleanup_close int fd = -1;
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_set(err, errno, "socket %s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, ENOTSOCK, "%s is in the way", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, errno, "unix socket");
	/* -EAGAIN: its queue of connections is full. */
	if (connect(fd, &at->any, sizeof(at->un)) == 0 || errno == EAGAIN)
		return err_set(err, EADDRINUSE, "somebody listens at %s", path);
	if (errno != ECONNREFUSED && errno != ENOENT)
		return err_set(err, errno, "socket %s", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return err_set(err, errno, "old socket %s", path);
	return 0;
}

int net_listen_unix(const char *path, struct err *err)
{
	cleanup_close int fd = -1;
	union address at;
	int r = unix_address(path, &at, err);

	if (r == 0)
		r = clear_away(path, &at, err);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, errno, "unix socket");
	/* The file gets the mode of the socket's own inode: no umask() for the whole process. */
	if (fchmod(fd, 0600) < 0 || bind(fd, &at.any, sizeof(at.un)) < 0 || listen(fd, BACKLOG) < 0)
		return err_set(err, errno, "listen at socket %s", path);
	return steal_fd(&fd);
}

/* --- who -------------------------------------------------------------------------------------- */

static void name_peer(int fd, const union address *peer, char *ret, size_t size)
{
	char text[INET6_ADDRSTRLEN] = "?";
	struct ucred cred;
	socklen_t len = sizeof(cred);

	switch (peer->any.sa_family) {
	case AF_INET:
		inet_ntop(AF_INET, &peer->v4.sin_addr, text, sizeof(text));
		snprintf(ret, size, "%s:%u", text, ntohs(peer->v4.sin_port));
		break;
	case AF_INET6:
		inet_ntop(AF_INET6, &peer->v6.sin6_addr, text, sizeof(text));
		snprintf(ret, size, "[%s]:%u", text, ntohs(peer->v6.sin6_port));
		break;
	default:
		if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
			snprintf(ret, size, "unknown");
		else
			snprintf(ret, size, "pid %d, uid %u", cred.pid, cred.uid);
	}
}

/* accept(2): errors of the connection that was about to be accepted, not of the listener. */
static bool of_connection(int code)
{
	switch (code) {
	case EAGAIN:
	case EINTR:
	case ECONNABORTED:
	case EPERM:
	case EPROTO:
	case ENETDOWN:
	case ENOPROTOOPT:
	case EHOSTDOWN:
	case ENONET:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ETIMEDOUT:
		return true;
	default:
		return false;
	}
}

/* The listener's path is also the name of what it has accepted. */
static int check_user(int fd, struct err *err)
{
	union address here = {0};
	socklen_t len = sizeof(here);
	char path[sizeof(here.un.sun_path) + 1] = "";

	if (getsockname(fd, &here.any, &len) < 0)
		return err_set(err, errno, "accept");
	memcpy(path, here.un.sun_path, sizeof(here.un.sun_path));
	return unixsock_check_peer(fd, path, err);
}

int net_accept(int listen_fd, char *ret_peer, size_t size, struct err *err)
{
	union address peer = {0};
	socklen_t len = sizeof(peer);
	cleanup_close int fd = accept4(listen_fd, &peer.any, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int r;

	if (fd < 0)
		return of_connection(errno) ? -EAGAIN : err_set(err, errno, "accept");
	name_peer(fd, &peer, ret_peer, size);
	r = peer.any.sa_family == AF_UNIX ? check_user(fd, err) : 0;
	return r < 0 ? r : steal_fd(&fd);
}

/* --- connecting ------------------------------------------------------------------------------- */

/* 0, or a negative errno. */
static int finish_connect(int fd, int64_t timeout)
{
	int64_t now = clock_now();
	int64_t deadline = timeout > CLOCK_NEVER - now ? CLOCK_NEVER : now + timeout;
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};
	socklen_t len = sizeof(int);
	int code = 0, r;

	do {
		int64_t left = deadline - clock_now();

		left = left < 0 ? 0 : (left - 1) / NSEC_PER_MSEC + 1;
		r = poll(&pfd, 1, left > INT_MAX ? -1 : (int)left);
	} while (r < 0 && errno == EINTR);
	if (r <= 0)
		return r == 0 ? -ETIMEDOUT : -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0)
		return -errno;
	return -code;
}

/*
 * Where nobody listens at a port of this host, the kernel may choose that very port for our own
 * end, and the socket is connected to itself.
 */
static bool is_own(int fd)
{
	union address here = {0}, there = {0};
	socklen_t here_len = sizeof(here), there_len = sizeof(there);

	return getsockname(fd, &here.any, &here_len) == 0 &&
	       getpeername(fd, &there.any, &there_len) == 0 && here_len == there_len &&
	       !memcmp(&here, &there, here_len);
}

/* The descriptor or a negative errno. */
static int try_one(const struct addrinfo *at, int64_t timeout)
{
	cleanup_close int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const struct linger reset = {.l_onoff = 1};
	int r;

	if (fd < 0)
		return -errno;
	if (connect(fd, at->ai_addr, at->ai_addrlen) < 0) {
		if (errno != EINPROGRESS && errno != EINTR)
			return -errno;
		r = finish_connect(fd, timeout);
		if (r < 0)
			return r;
	}
	if (is_own(fd)) {
		/* without TIME_WAIT, which would be in the way of who wants to listen there */
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		return -ECONNREFUSED;
	}
	return steal_fd(&fd);
}

int net_connect(const char *host, uint16_t port, int64_t timeout, struct err *err)
{
	__attribute__((cleanup(cleanup_addrinfo))) struct addrinfo *list = NULL;
	const struct addrinfo *at;
	int r = resolve(host, port, 0, &list), fd = -EADDRNOTAVAIL;

	if (r == EAI_SYSTEM)
		return err_set(err, errno, "connect to %s port %u", host, port);
	if (r != 0)
		return err_set(err, EINVAL, "connect to %s port %u: %s", host, port,
		               gai_strerror(r));
	for (at = list; at; at = at->ai_next) {
		fd = try_one(at, timeout);
		if (fd >= 0)
			return fd;
	}
	return err_set(err, -fd, "connect to %s port %u", host, port);
}

int net_connect_unix(const char *path, struct err *err)
{
	cleanup_close int fd = -1;
	union address at;
	int r = unix_address(path, &at, err);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, errno, "unix socket");
	if (connect(fd, &at.any, sizeof(at.un)) < 0)
		return err_set(err, errno, "connect to socket %s", path);
	return steal_fd(&fd);
}

void net_tune(int fd, int idle_s)
{
	unsigned user_timeout = ((unsigned)idle_s + NR_PROBES) * 1000;
	int one = 1, probes = NR_PROBES, type = 0;
	socklen_t len = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &type, &len) < 0 || type != IPPROTO_TCP)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof(user_timeout));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
}
