/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The listening socket: whose it is, and what is received with which descriptors from whom. */
#include "criu-lazy/os/unixsock.h"
#include "test/unit/images-dir.h"
#include "test/unit/patience.h"
#include "test/unit/send-fds.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

static int setup(void **state)
{
	alarm(PATIENCE);
	return dir_setup(state);
}

#define IN_DIR(name) cmocka_unit_test_setup_teardown(name, setup, dir_teardown)

static const char *sock_path(const struct dir *dir, char *path)
{
	snprintf(path, 108, "%s/sock", dir->path);
	return path;
}

static void listen_at(const char *path, struct unixsock *sock)
{
	struct err err = {0};

	if (unixsock_listen(path, sock, &err) < 0)
		print_error("%s\n", err.text);
	assert_int_equal(err.code, 0);
}

static void refuse_at(const char *path, int code, const char *said)
{
	struct unixsock sock = {.fd = -1};
	struct err err = {0};

	assert_failed(unixsock_listen(path, &sock, &err), code, &err, said);
	assert_int_equal(sock.fd, -1);
}

static int connect_to(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(addr.sun_path, path);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	close(fd);
	return -errno;
}

static size_t nr_open(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t nr = 0;

	assert_non_null(dir);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

/* --- listening ------------------------------------------------------------------------------- */

static void test_listen_and_close(void **state)
{
	size_t before = nr_open();
	struct unixsock sock;
	struct stat st;
	mode_t mask = umask(0);
	char path[108];

	listen_at(sock_path(*state, path), &sock);
	assert_int_equal(umask(mask), 0); /* as it was */
	assert_int_equal(lstat(path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_true(fcntl(sock.fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(sock.fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(unixsock_accept(&sock, NULL), -EAGAIN);
	unixsock_close(&sock);
	assert_int_equal(lstat(path, &st), -1);
	assert_int_equal(sock.fd, -1);
	unixsock_close(&sock);
	assert_int_equal(nr_open(), before);
}

/* By whatever name; the first one goes on. */
static void test_second_listener(void **state)
{
	struct dir *dir = *state;
	struct unixsock sock;
	char path[108], other[128];
	int fd;

	listen_at(sock_path(dir, path), &sock);
	refuse_at(path, EADDRINUSE, "another helper listens at ");
	snprintf(other, sizeof(other), "%s/./sock", dir->path);
	refuse_at(other, EADDRINUSE, other);
	fd = connect_to(path);
	assert_true(fd >= 0);
	close(fd);
	unixsock_close(&sock);
	listen_at(path, &sock);
	unixsock_close(&sock);
}

/* From another process, too, until that is killed; what it leaves behind is replaced. */
static void test_stale_after_a_kill(void **state)
{
	struct unixsock sock;
	char path[108];
	int told[2], fd;
	struct stat st;
	pid_t pid;

	sock_path(*state, path);
	assert_int_equal(pipe(told), 0);
	pid = fork_child();
	if (pid == 0) {
		struct unixsock own;

		fd = unixsock_listen(path, &own, NULL) == 0 && write(told[1], "", 1) == 1;
		pause();
		_exit(fd);
	}
	assert_true(readable(told[0], PATIENCE * 1000));
	refuse_at(path, EADDRINUSE, "another helper listens at ");
	kill(pid, SIGKILL);
	reap(pid);
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(connect_to(path), -ECONNREFUSED);
	listen_at(path, &sock);
	fd = connect_to(path);
	assert_true(fd >= 0);
	close(fd);
	unixsock_close(&sock);
	close(told[0]);
	close(told[1]);
}

static void test_in_the_way(void **state)
{
	struct dir *dir = *state;
	struct stat st;
	char path[108];

	sock_path(dir, path);
	put_file(dir->fd, "sock", "precious", 8);
	refuse_at(path, ENOTSOCK, "/sock is in the way");
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_size, 8);
	unlink(path);
	assert_int_equal(symlink("elsewhere", path), 0);
	refuse_at(path, ENOTSOCK, "/sock is in the way");
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	refuse_at(path, ENOTSOCK, "/sock is in the way");
	/* A refusal holds no lock. */
	assert_int_equal(rmdir(path), 0);
	struct unixsock sock;

	listen_at(path, &sock);
	unixsock_close(&sock);
}

static void test_bad_paths(void **state)
{
	char path[200], longest[108];
	struct unixsock sock;

	memset(path, 'x', sizeof(path));
	path[108] = '\0';
	refuse_at(path, ENAMETOOLONG, "socket xxx");
	refuse_at("", ENAMETOOLONG, "socket ");
	refuse_at("/nonexistent/sock", ENOENT, "directory of socket /nonexistent/sock");
	/* 107 bytes are the most. */
	snprintf(longest, sizeof(longest), "%s/", ((struct dir *)*state)->path);
	memset(longest + strlen(longest), 'y', 107 - strlen(longest));
	longest[107] = '\0';
	listen_at(longest, &sock);
	assert_string_equal(sock.path, longest);
	unixsock_close(&sock);
	assert_int_equal(access(longest, F_OK), -1);
}

static void test_unlinks_only_its_own(void **state)
{
	struct dir *dir = *state;
	struct unixsock sock;
	char path[108];

	listen_at(sock_path(dir, path), &sock);
	unlink(path);
	put_file(dir->fd, "sock", "x", 1);
	unixsock_close(&sock);
	assert_int_equal(access(path, F_OK), 0);
}

/* --- accepting ------------------------------------------------------------------------------- */

static void test_accept(void **state)
{
	struct unixsock sock;
	struct err err = {0};
	char path[108];
	int client, fd;

	listen_at(sock_path(*state, path), &sock);
	client = connect_to(path);
	fd = unixsock_accept(&sock, &err);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(unixsock_accept(&sock, &err), -EAGAIN);
	assert_int_equal(err.code, 0);
	close(fd);
	close(client);
	unixsock_close(&sock);
}

static void test_accept_somebody_else(void **state)
{
	struct dir *dir = *state;
	struct unixsock sock;
	struct err err = {0};
	char path[108], who[160];
	size_t before;
	pid_t pid;

	if (geteuid())
		skip_because("only root can be another user for a moment");
	listen_at(sock_path(dir, path), &sock);
	assert_int_equal(chmod(path, 0666), 0);
	assert_int_equal(chmod(dir->path, 0755), 0);
	before = nr_open();
	pid = fork_child();
	if (pid == 0) {
		if (setgid(65534) || setuid(65534) || connect_to(path) < 0)
			_exit(1);
		pause();
	}
	assert_true(readable(sock.fd, PATIENCE * 1000));
	snprintf(who, sizeof(who), "process %d of user 65534 at %s", pid, path);
	assert_failed(unixsock_accept(&sock, &err), EPERM, &err, who);
	assert_int_equal(nr_open(), before);
	kill(pid, SIGKILL);
	reap(pid);
	unixsock_close(&sock);
}

/* --- receiving ------------------------------------------------------------------------------- */

struct talk {
	struct unixsock sock;
	int client, fd;
};

static void talk_open(struct talk *t, const struct dir *dir)
{
	char path[108];

	listen_at(sock_path(dir, path), &t->sock);
	t->client = connect_to(path);
	t->fd = unixsock_accept(&t->sock, NULL);
	assert_true(t->client >= 0 && t->fd >= 0);
}

static void talk_close(struct talk *t)
{
	close(t->client);
	close(t->fd);
	unixsock_close(&t->sock);
}

static void test_bytes(void **state)
{
	struct unixsock_msg msg;
	struct talk t;
	char buf[8];

	talk_open(&t, *state);
	assert_int_equal(unixsock_recv(t.fd, buf, 8, &msg), -EAGAIN);
	assert_int_equal(send(t.client, "abcdef", 6, 0), 6);
	for (int i = 0; i < 6; i++) {
		assert_int_equal(unixsock_recv(t.fd, buf, 1, &msg), 0);
		assert_int_equal(msg.nr, 1);
		assert_int_equal(buf[0], 'a' + i);
		assert_int_equal(msg.fd, -1);
		assert_int_equal(msg.nr_fds, 0);
		assert_int_equal(msg.pid, getpid());
	}
	assert_int_equal(unixsock_recv(t.fd, buf, 8, &msg), -EAGAIN);
	assert_int_equal(send(t.client, "gh", 2, 0), 2);
	shutdown(t.client, SHUT_WR);
	assert_int_equal(unixsock_recv(t.fd, buf, 8, &msg), 0);
	assert_int_equal(msg.nr, 2);
	assert_int_equal(unixsock_recv(t.fd, buf, 8, &msg), 0);
	assert_int_equal(msg.nr, 0); /* the end */
	talk_close(&t);
	assert_true(unixsock_recv(-1, buf, 8, &msg) == -EBADF);
}

static void test_descriptors(void **state)
{
	size_t before;
	struct talk t;
	int fds[20];
	char buf[8];

	talk_open(&t, *state);
	for (size_t i = 0; i < 20; i++)
		fds[i] = t.client;
	before = nr_open();
	for (size_t nr = 1; nr <= 20; nr++) {
		struct unixsock_msg msg;
		struct stat sent, came;

		assert_int_equal(send_fds(t.client, "ab", 2, fds, nr), 2);
		assert_int_equal(unixsock_recv(t.fd, buf, 1, &msg), 0);
		assert_int_equal(msg.nr, 1);
		assert_int_equal(msg.nr_fds, nr < 8 ? nr : 8); /* there is room for eight */
		assert_int_equal(msg.pid, getpid());
		if (nr == 1) {
			assert_true(msg.fd >= 0);
			assert_true(fcntl(msg.fd, F_GETFD) & FD_CLOEXEC);
			assert_int_equal(fstat(msg.fd, &came) + fstat(t.client, &sent), 0);
			assert_int_equal(came.st_ino, sent.st_ino);
			close(msg.fd);
		} else {
			assert_int_equal(msg.fd, -1);
		}
		assert_int_equal(nr_open(), before);
		/* They came with the first byte of the two. */
		assert_int_equal(unixsock_recv(t.fd, buf, 1, &msg), 0);
		assert_int_equal(msg.nr_fds, 0);
	}
	talk_close(&t);
}

/* The kernel never joins a byte that has a descriptor to the bytes before it. */
static void test_descriptor_boundaries(void **state)
{
	struct unixsock_msg msg;
	struct talk t;
	char buf[8];

	talk_open(&t, *state);
	assert_int_equal(send(t.client, "abc", 3, 0), 3);
	assert_int_equal(send_fds(t.client, "d", 1, &t.client, 1), 1);
	assert_int_equal(send(t.client, "e", 1, 0), 1);
	assert_int_equal(unixsock_recv(t.fd, buf, 3, &msg), 0);
	assert_int_equal(msg.nr, 3);
	assert_int_equal(msg.fd, -1);
	assert_int_equal(unixsock_recv(t.fd, buf, 1, &msg), 0);
	assert_int_equal(msg.nr, 1);
	assert_true(msg.fd >= 0);
	close(msg.fd);
	assert_int_equal(unixsock_recv(t.fd, buf, 8, &msg), 0);
	assert_int_equal(msg.nr, 1);
	assert_int_equal(buf[0], 'e');
	talk_close(&t);
}

/* No room in our own table: an error of that name, not a byte that seems to lack its descriptor. */
static void test_no_room_for_a_descriptor(void **state)
{
	struct rlimit before, none;
	struct unixsock_msg msg;
	struct talk t;
	char buf[8];
	int r;

	talk_open(&t, *state);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 3;
	assert_int_equal(send_fds(t.client, "a", 1, &t.client, 1), 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	r = unixsock_recv(t.fd, buf, 1, &msg);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(r, -EMFILE);
	talk_close(&t);
}

/*
 * Whoever receives may be killed at any moment, and what it leaves behind must say whether
 * something was taken.  When nothing is there the kernel's recvmsg() fails, but writes credentials
 * first.
 */
static void test_nothing_has_come(void **state)
{
	struct unixsock_raw raw = {0};
	struct unixsock_msg msg;
	struct talk t;

	talk_open(&t, *state);
	assert_int_equal(unixsock_receive(t.fd, 4, &raw), -EAGAIN);
	assert_false(unixsock_has_come(&raw));
	assert_int_equal(send(t.client, "ab", 2, 0), 2);
	assert_int_equal(unixsock_receive(t.fd, 4, &raw), 0);
	assert_true(unixsock_has_come(&raw));
	/* Killed before the number was noted. */
	raw.got = -1;
	assert_int_equal(unixsock_parse(&raw, true, &msg), 0);
	assert_int_equal(msg.nr, 2);
	shutdown(t.client, SHUT_WR);
	raw = (struct unixsock_raw){0};
	assert_int_equal(unixsock_receive(t.fd, 4, &raw), 0);
	assert_int_equal(raw.got, 0);
	assert_false(unixsock_has_come(&raw));
	talk_close(&t);
}

/* The task that sends is named, not the one that connected. */
static void test_sender(void **state)
{
	struct unixsock_msg msg;
	struct talk t;
	char buf[8];
	pid_t pid;

	talk_open(&t, *state);
	for (int i = 0; i < 3; i++) {
		pid = fork_child();
		if (pid == 0)
			_exit(send_fds(t.client, "x", 1, &t.client, 1) == 1 ? 0 : 1);
		assert_int_equal(reap(pid), 0);
		assert_int_equal(send(t.client, "y", 1, 0), 1);
		assert_int_equal(unixsock_recv(t.fd, buf, 8, &msg), 0);
		assert_int_equal(msg.nr, 1); /* nor are two senders' bytes joined */
		assert_int_equal(msg.pid, pid);
		assert_true(msg.fd >= 0);
		close(msg.fd);
		assert_int_equal(unixsock_recv(t.fd, buf, 8, &msg), 0);
		assert_int_equal(msg.pid, getpid());
	}
	talk_close(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(test_listen_and_close),
		IN_DIR(test_second_listener),
		IN_DIR(test_stale_after_a_kill),
		IN_DIR(test_in_the_way),
		IN_DIR(test_bad_paths),
		IN_DIR(test_unlinks_only_its_own),
		IN_DIR(test_accept),
		IN_DIR(test_accept_somebody_else),
		IN_DIR(test_bytes),
		IN_DIR(test_descriptors),
		IN_DIR(test_descriptor_boundaries),
		IN_DIR(test_no_room_for_a_descriptor),
		IN_DIR(test_nothing_has_come),
		IN_DIR(test_sender),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
