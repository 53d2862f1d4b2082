/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sockets by address: listening, who connects, and what cannot be connected to. */
#include "criu-lazy/os/net.h"
#include "test/unit/images-dir.h"
#include "test/unit/patience.h"

#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { NR_PENDING = 8 };

static int setup(void **state)
{
	alarm(PATIENCE);
	return dir_setup(state);
}

#define IN_DIR(name) cmocka_unit_test_setup_teardown(name, setup, dir_teardown)

static void assert_prepared(int fd)
{
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

static int listen_at(const char *address, uint16_t port, uint16_t *ret_port)
{
	struct err err = {0};
	int fd = net_listen(address, port, ret_port, &err);

	if (fd < 0)
		fail_msg("%s", err.text);
	assert_prepared(fd);
	return fd;
}

static void assert_talk(int a, int b)
{
	char buf[2];

	assert_int_equal(write(a, "hi", 2), 2);
	assert_true(readable(b, 10000));
	assert_int_equal(read(b, buf, 2), 2);
}

static bool has_ipv6(void)
{
	uint16_t port;
	int fd = net_listen("::1", 0, &port, NULL);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* --- TCP -------------------------------------------------------------------------------------- */

static void talk_over(const char *address, const char *host, const char *peer_starts)
{
	struct err err = {0};
	uint16_t port = 0;
	char peer[64], want[64];
	struct sockaddr_in6 own;
	socklen_t len = sizeof(own);
	int listener = listen_at(address, 0, &port), here, there;

	assert_true(port > 0);
	assert_int_equal(net_accept(listener, peer, sizeof(peer), &err), -EAGAIN);
	assert_int_equal(err.code, 0);
	there = net_connect(host, port, CLOCK_NEVER, &err);
	if (there < 0)
		fail_msg("%s", err.text);
	assert_prepared(there);
	assert_true(readable(listener, 10000));
	here = net_accept(listener, peer, sizeof(peer), &err);
	assert_prepared(here);
	/* the port is at the same place in sockaddr_in and sockaddr_in6 */
	assert_int_equal(getsockname(there, (struct sockaddr *)&own, &len), 0);
	snprintf(want, sizeof(want), "%s:%u", peer_starts, ntohs(own.sin6_port));
	assert_string_equal(peer, want);
	assert_talk(here, there);
	assert_talk(there, here);
	close(here);
	close(there);
	close(listener);
}

static void test_ipv4(void **state)
{
	(void)state;
	talk_over("127.0.0.1", "127.0.0.1", "127.0.0.1");
	talk_over("0.0.0.0", "127.0.0.1", "127.0.0.1");
	talk_over("127.0.0.1", "localhost", "127.0.0.1"); /* ::1 may come first, and refuse */
}

static void test_ipv6(void **state)
{
	(void)state;
	if (!has_ipv6())
		skip_because("no IPv6 here");
	talk_over("::1", "::1", "[::1]");
	talk_over("::", "::1", "[::1]");
}

static void test_same_port(void **state)
{
	struct err err = {0};
	uint16_t port, again;
	int first = listen_at("127.0.0.1", 0, &port), there, here;
	char peer[64];

	(void)state;
	assert_failed(net_listen("127.0.0.1", port, &again, &err), EADDRINUSE, &err,
	              "listen at 127.0.0.1 port");
	/* a connection that this end closed first is remembered by the kernel: no obstacle */
	there = net_connect("127.0.0.1", port, CLOCK_NEVER, NULL);
	assert_true(readable(first, 10000));
	here = net_accept(first, peer, sizeof(peer), NULL);
	assert_true(here >= 0);
	close(here);
	close(there);
	close(first);
	first = listen_at("127.0.0.1", port, &again);
	assert_int_equal(again, port);
	close(first);
}

static void test_numeric_only(void **state)
{
	static const char *const wrong[] = {"localhost", "example.org", "",      "127.0.0.1:80",
	                                    "[::1]",     "1.2.3.4.5",   "::1::", "*"};
	struct err err = {0};
	uint16_t port;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		assert_failed(net_listen(wrong[i], 0, &port, &err), EINVAL, &err,
		              "is no numeric IPv4 or IPv6 address");
	/* of this host it must be, too: this one is for documents */
	assert_failed(net_listen("192.0.2.1", 0, &port, &err), EADDRNOTAVAIL, &err,
	              "listen at 192.0.2.1 port 0");
}

static void test_wildcards(void **state)
{
	static const char *const yes[] = {
		"0.0.0.0",        "::",   "0", "0x0", "0:0:0:0:0:0:0:0", "::0.0.0.0",
		"::ffff:0.0.0.0", "000.0"};
	static const char *const no[] = {"127.0.0.1", "::1", "0.0.0.1", "::ffff:127.0.0.1",
	                                 "localhost", "*",   "",        "fe80::"};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(yes) / sizeof(*yes); i++)
		if (!net_is_wildcard(yes[i]))
			fail_msg("%s", yes[i]);
	for (i = 0; i < sizeof(no) / sizeof(*no); i++)
		if (net_is_wildcard(no[i]))
			fail_msg("%s", no[i]);
}

static void test_refused(void **state)
{
	struct err err = {0};
	char said[64];
	uint16_t port;
	int fd = listen_at("127.0.0.1", 0, &port);

	(void)state;
	close(fd);
	snprintf(said, sizeof(said), "connect to 127.0.0.1 port %u: Connection refused", port);
	assert_failed(net_connect("127.0.0.1", port, CLOCK_NEVER, &err), ECONNREFUSED, &err, said);
	assert_int_equal(net_connect("127.0.0.1", port, CLOCK_NEVER, NULL), -ECONNREFUSED);
	/* .invalid never resolves; what the resolver says of it depends on there being a network */
	assert_failed(net_connect("no-such-host.invalid", 1, CLOCK_NEVER, &err), EINVAL, &err,
	              "connect to no-such-host.invalid port 1: ");
}

/* A listener whose queue is full: Linux drops what comes, and connecting takes for ever. */
static void test_connect_timeout(void **state)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), pending[NR_PENDING], i;
	struct err err = {0};

	(void)state;
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(listener, 0), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	for (i = 0; i < NR_PENDING; i++) {
		pending[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (connect(pending[i], (struct sockaddr *)&at, sizeof(at)) < 0)
			assert_int_equal(errno, EINPROGRESS);
	}
	assert_failed(net_connect("127.0.0.1", ntohs(at.sin_port), 50 * NSEC_PER_MSEC, &err),
	              ETIMEDOUT, &err, "connect to 127.0.0.1 port");
	for (i = 0; i < NR_PENDING; i++)
		close(pending[i]);
	close(listener);
}

/* --- connected to itself ---------------------------------------------------------------------- */

enum { ONLY_PORT = 40000 };

/* In a network of its own, where the kernel has one port to give. */
static int in_own_network(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(ONLY_PORT)};
	const struct linger reset = {.l_onoff = 1};
	struct err err = {0};
	int fd, r;

	if (unshare(CLONE_NEWNET) < 0)
		return 77;
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo) < 0)
		return 1;
	r = open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY | O_CLOEXEC);
	if (r < 0 || dprintf(r, "%d %d", ONLY_PORT, ONLY_PORT) < 0)
		return 2;
	/* the kernel does it indeed */
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		return 3;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)); /* no TIME_WAIT */
	close(fd);
	r = net_connect("127.0.0.1", ONLY_PORT, CLOCK_NEVER, &err);
	if (r != -ECONNREFUSED)
		return 4;
	return strstr(err.text, "connect to 127.0.0.1 port 40000: Connection refused") ? 0 : 5;
}

static void test_itself(void **state)
{
	pid_t pid = fork_child();
	int status;

	(void)state;
	if (pid == 0)
		_exit(in_own_network());
	status = reap(pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip_because("may not make a network namespace");
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- unix ------------------------------------------------------------------------------------- */

static void test_unix(void **state)
{
	struct dir *dir = *state;
	char path[108], peer[64], want[64];
	struct err err = {0};
	struct stat st;
	int listener, here, there;

	snprintf(path, sizeof(path), "%s/pages", dir->path);
	assert_failed(net_connect_unix(path, &err), ENOENT, &err, "connect to socket");
	umask(0);
	listener = net_listen_unix(path, &err);
	umask(022);
	if (listener < 0)
		fail_msg("%s", err.text);
	assert_prepared(listener);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(net_accept(listener, peer, sizeof(peer), NULL), -EAGAIN);
	there = net_connect_unix(path, NULL);
	assert_prepared(there);
	here = net_accept(listener, peer, sizeof(peer), NULL);
	assert_prepared(here);
	snprintf(want, sizeof(want), "pid %d, uid %u", getpid(), geteuid());
	assert_string_equal(peer, want);
	assert_talk(here, there);

	/* somebody listens: refused, and undisturbed */
	assert_failed(net_listen_unix(path, &err), EADDRINUSE, &err, "somebody listens at");
	close(here);
	close(there);
	here = net_accept(listener, peer, sizeof(peer), NULL); /* the one that asked */
	assert_true(here >= 0);
	close(here);
	close(listener);

	/* nobody any more, and the file is there still */
	assert_int_equal(stat(path, &st), 0);
	assert_failed(net_connect_unix(path, &err), ECONNREFUSED, &err, "connect to socket");
	listener = net_listen_unix(path, NULL);
	assert_prepared(listener);
	close(listener);
}

static void test_unix_refused(void **state)
{
	struct dir *dir = *state;
	char path[108], long_path[200];
	struct err err = {0};
	struct stat st;

	put_file(dir->fd, "file", "x", 1);
	snprintf(path, sizeof(path), "%s/file", dir->path);
	assert_failed(net_listen_unix(path, &err), ENOTSOCK, &err, "is in the way");
	assert_int_equal(stat(path, &st), 0);
	snprintf(path, sizeof(path), "%s/no/pages", dir->path);
	assert_failed(net_listen_unix(path, &err), ENOENT, &err, "no/pages");
	memset(long_path, 'a', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	assert_failed(net_listen_unix(long_path, &err), ENAMETOOLONG, &err, "aaa");
	assert_failed(net_connect_unix(long_path, &err), ENAMETOOLONG, &err, "aaa");
	assert_failed(net_listen_unix("", &err), EINVAL, &err, "empty");
}

/* --- tuning ----------------------------------------------------------------------------------- */

static int option(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static void test_tune(void **state)
{
	uint16_t port;
	int listener = listen_at("127.0.0.1", 0, &port);
	int there = net_connect("127.0.0.1", port, CLOCK_NEVER, NULL), pair[2];

	(void)state;
	assert_true(there >= 0);
	net_tune(there, 10);
	assert_int_equal(option(there, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(option(there, SOL_SOCKET, SO_KEEPALIVE), 1);
	assert_int_equal(option(there, IPPROTO_TCP, TCP_KEEPIDLE), 10);
	assert_int_equal(option(there, IPPROTO_TCP, TCP_KEEPINTVL), 1);
	assert_int_equal(option(there, IPPROTO_TCP, TCP_USER_TIMEOUT), 15000);
	close(there);
	close(listener);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	net_tune(pair[0], 10);
	assert_int_equal(option(pair[0], SOL_SOCKET, SO_KEEPALIVE), 0);
	close(pair[0]);
	close(pair[1]);
	net_tune(-1, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_ipv4),
		TIMED(test_ipv6),
		TIMED(test_same_port),
		TIMED(test_numeric_only),
		TIMED(test_wildcards),
		TIMED(test_refused),
		TIMED(test_connect_timeout),
		TIMED(test_itself),
		IN_DIR(test_unix),
		IN_DIR(test_unix_refused),
		TIMED(test_tune),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
