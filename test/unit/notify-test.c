/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The notification protocol, with a service manager played by the test: what it is sent, by whom,
 * with which descriptors; what becomes of a manager that does not read, or has gone.
 */
#include "criu-lazy/os/notify.h"
#include "test/unit/images-dir.h"
#include "test/unit/in-child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

static int setup(void **state)
{
	alarm(PATIENCE);
	return dir_setup(state);
}

#define IN_DIR(name) cmocka_unit_test_setup_teardown(name, setup, dir_teardown)

/* --- the manager ------------------------------------------------------------------------------ */

/* Its socket, with $NOTIFY_SOCKET set to it: path, or '@' and an abstract name. */
static int manager_at(const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), one = 1;
	size_t len = strlen(name);

	assert_true(fd >= 0 && len <= sizeof(addr.sun_path));
	memcpy(addr.sun_path, name, len);
	if (name[0] == '@')
		addr.sun_path[0] = '\0';
	len += offsetof(struct sockaddr_un, sun_path) + (name[0] != '@');
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, (socklen_t)len), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)), 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	return fd;
}

/* Each call a name of its own, and each run. */
static int abstract_manager(void)
{
	static unsigned int nr;
	char name[64];

	snprintf(name, sizeof(name), "@criu-lazy-notify-test/%d/%u", getpid(), nr++);
	return manager_at(name);
}

struct message {
	char text[8192];
	int fds[NOTIFY_FDS_MAX + 1];
	size_t nr_fds;
	pid_t pid;
};

/* False: there is none. */
static bool manager_read(int fd, struct message *ret)
{
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(ret->fds))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = ret->text, .iov_len = sizeof(ret->text) - 1};
	struct msghdr msg = {.msg_iov = &iov,
	                     .msg_iovlen = 1,
	                     .msg_control = control.bytes,
	                     .msg_controllen = sizeof(control.bytes)};
	ssize_t got = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct ucred cred;

	if (got < 0)
		return false;
	ret->text[got] = '\0';
	ret->nr_fds = 0;
	ret->pid = 0;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg); cmsg; cmsg = CMSG_NXTHDR(&msg, cmsg)) {
		if (cmsg->cmsg_type == SCM_RIGHTS) {
			ret->nr_fds = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(ret->fds, CMSG_DATA(cmsg), ret->nr_fds * sizeof(int));
		} else if (cmsg->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&cred, CMSG_DATA(cmsg), sizeof(cred));
			ret->pid = cred.pid;
		}
	}
	return true;
}

static void drop_fds(struct message *message)
{
	while (message->nr_fds)
		close(message->fds[--message->nr_fds]);
}

static int open_it(void)
{
	struct err err = {0};
	int fd = notify_open(&err);

	if (fd < 0)
		print_error("%s\n", err.text);
	assert_true(fd >= 0);
	assert_int_equal(err.code, 0);
	return fd;
}

static void assert_said(int manager, const char *text, size_t nr_fds)
{
	struct message message;

	assert_true(manager_read(manager, &message));
	assert_string_equal(message.text, text);
	assert_int_equal(message.nr_fds, nr_fds);
	assert_int_equal(message.pid, getpid());
	drop_fds(&message);
}

static bool same_file(int a, int b)
{
	struct stat st_a, st_b;

	return fstat(a, &st_a) == 0 && fstat(b, &st_b) == 0 && st_a.st_ino == st_b.st_ino &&
	       st_a.st_dev == st_b.st_dev;
}

/* --- where the manager is --------------------------------------------------------------------- */

static void refuse_address(const char *value, int code, const char *said)
{
	struct err err = {0};

	if (value)
		setenv("NOTIFY_SOCKET", value, 1);
	assert_failed(notify_open(&err), code, &err, said);
	assert_null(getenv("NOTIFY_SOCKET"));
}

static void test_address_refused(void **state)
{
	struct dir *dir = *state;
	char text[300];

	refuse_address(NULL, ENOENT, "$NOTIFY_SOCKET");
	refuse_address("", ENOENT, "$NOTIFY_SOCKET");
	refuse_address("vsock:2:1234", EAFNOSUPPORT, "$NOTIFY_SOCKET vsock:2:1234: neither");
	refuse_address("vsock-stream:2:1234", EAFNOSUPPORT, "$NOTIFY_SOCKET vsock-stream:2:1234");
	refuse_address("run/notify", EAFNOSUPPORT, "$NOTIFY_SOCKET run/notify");
	refuse_address("@", EINVAL, "no name");
	refuse_address("/", EINVAL, "no name");
	snprintf(text, sizeof(text), "/%0*d", 107, 0); /* 108 bytes: no room for the NUL */
	refuse_address(text, ENAMETOOLONG, "$NOTIFY_SOCKET /000");
	snprintf(text, sizeof(text), "@%0*d", 108, 0);
	refuse_address(text, ENAMETOOLONG, "$NOTIFY_SOCKET @000");
	snprintf(text, sizeof(text), "%s/nobody", dir->path);
	refuse_address(text, ECONNREFUSED, text);
	put_file(dir->fd, "nobody", "", 0);
	refuse_address(text, ECONNREFUSED, text);
	refuse_address("@criu-lazy-notify-test/nobody", ECONNREFUSED, "nobody");
}

/* By path, and by an abstract name of the greatest length. */
static void test_open(void **state)
{
	struct dir *dir = *state;
	char name[128];

	for (int i = 0; i < 2; i++) {
		int manager, fd;

		if (i == 0)
			snprintf(name, sizeof(name), "%s/notify", dir->path);
		else
			snprintf(name, sizeof(name), "@%0107d", getpid());
		manager = manager_at(name);
		fd = open_it();
		assert_null(getenv("NOTIFY_SOCKET"));
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		assert_int_equal(notify_ready(fd, NULL), 0);
		assert_said(manager, "READY=1", 0);
		close(fd);
		close(manager);
	}
}

/* --- messages --------------------------------------------------------------------------------- */

static void test_store_and_remove(void **state)
{
	int manager = abstract_manager(), fd = open_it();
	int file = memfd_create("file", MFD_CLOEXEC);
	struct message message;
	char longest[256], text[512];

	(void)state;
	assert_int_equal(notify_store(fd, "uffd-17.a_B", file, NULL), 0);
	assert_true(manager_read(manager, &message));
	assert_string_equal(message.text, "FDSTORE=1\nFDNAME=uffd-17.a_B\nFDPOLL=0");
	assert_int_equal(message.nr_fds, 1);
	assert_int_not_equal(message.fds[0], file);
	assert_true(same_file(message.fds[0], file));
	drop_fds(&message);
	assert_int_equal(notify_remove(fd, "uffd-17.a_B", NULL), 0);
	assert_said(manager, "FDSTOREREMOVE=1\nFDNAME=uffd-17.a_B", 0);
	snprintf(longest, sizeof(longest), "%0255d", 7);
	assert_int_equal(notify_store(fd, longest, file, NULL), 0);
	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", longest);
	assert_said(manager, text, 1);
	assert_true(fcntl(file, F_GETFD) >= 0); /* still ours */
	close(file);
	close(fd);
	close(manager);
}

static void test_names_refused(void **state)
{
	static const char *const names[] = {"",   "a:b",      "a b", "a\nREADY=1", "a/b",
	                                    "a=", "\xc3\xa4", "a\t", "a\x7f",      "'"};
	int manager = abstract_manager(), fd = open_it();
	char too_long[257];
	struct message message;

	(void)state;
	snprintf(too_long, sizeof(too_long), "%0256d", 7);
	for (size_t i = 0; i <= sizeof(names) / sizeof(*names); i++) {
		bool last = i == sizeof(names) / sizeof(*names);
		const char *name = last ? too_long : names[i];
		struct err err = {0};

		assert_int_equal(notify_store(fd, name, fd, &err), -EINVAL);
		assert_non_null(strstr(err.text, "cannot be the name of a stored descriptor"));
		err = (struct err){0};
		assert_int_equal(notify_remove(fd, name, &err), -EINVAL);
		assert_non_null(strstr(err.text, "cannot be the name of a stored descriptor"));
	}
	assert_false(manager_read(manager, &message));
	close(fd);
	close(manager);
}

static void test_limits(void **state)
{
	int manager = abstract_manager(), fd = open_it(), fds[NOTIFY_FDS_MAX + 1];
	char text[NOTIFY_TEXT_MAX + 2];
	struct message message;
	struct err err = {0};

	(void)state;
	for (int i = 0; i <= NOTIFY_FDS_MAX; i++)
		fds[i] = i % 3;
	assert_int_equal(notify_send(fd, "FDSTORE=1", fds, NOTIFY_FDS_MAX, NULL), 0);
	assert_said(manager, "FDSTORE=1", NOTIFY_FDS_MAX);
	assert_failed(notify_send(fd, "FDSTORE=1", fds, NOTIFY_FDS_MAX + 1, &err), E2BIG, &err,
	              "254 descriptors, at most 253");
	memset(text, 'x', sizeof(text));
	text[NOTIFY_TEXT_MAX] = '\0';
	assert_int_equal(notify_send(fd, text, NULL, 0, NULL), 0);
	assert_said(manager, text, 0);
	text[NOTIFY_TEXT_MAX] = 'x';
	text[NOTIFY_TEXT_MAX + 1] = '\0';
	assert_failed(notify_send(fd, text, NULL, 0, &err), E2BIG, &err,
	              "4096 bytes, at most 4095");
	assert_failed(notify_send(fd, "", NULL, 0, &err), EINVAL, &err, "it is empty");
	assert_failed(notify_store(fd, "name", 1 << 20, &err), EBADF, &err,
	              "store descriptor 1048576 as name: message to the service manager: ");
	assert_false(manager_read(manager, &message));
	close(fd);
	close(manager);
}

static void test_manager_gone(void **state)
{
	int manager = abstract_manager(), fd = open_it();
	struct err err = {0};

	(void)state;
	assert_int_equal(notify_ready(fd, NULL), 0);
	close(manager);
	assert_failed(notify_ready(fd, &err), ECONNREFUSED, &err, "message to the service manager");
	assert_failed(notify_remove(fd, "it", &err), ECONNREFUSED, &err,
	              "remove stored descriptor it: ");
	assert_failed(notify_barrier(fd, NSEC_PER_SEC, &err), ECONNREFUSED, &err,
	              "message to the service manager");
	close(fd);
}

/* --- a manager that is slow, or does not read at all ------------------------------------------ */

/* Is it asleep in poll(2)? */
static bool polls(pid_t pid)
{
	char path[64], text[16] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
#ifdef SYS_poll
	return atoi(text) == SYS_poll;
#else
	return atoi(text) == SYS_ppoll;
#endif
}

static void assert_next(int manager, pid_t pid, const char *text, size_t nr_fds)
{
	struct message message;

	assert_true(readable(manager, PATIENCE * 1000));
	assert_true(manager_read(manager, &message));
	assert_string_equal(message.text, text);
	assert_int_equal(message.pid, pid);
	assert_int_equal(message.nr_fds, nr_fds);
	drop_fds(&message);
}

/*
 * The queue is full, and another process waits to send; what it sends arrives when the manager
 * reads, in order, although the queue is full again and again.
 */
static void test_slow_manager(void **state)
{
	enum { MANY = 100 };
	int manager = abstract_manager(), fd = open_it(), nr_before = 0;
	char text[32];
	pid_t pid;

	(void)state;
	while (send(fd, "X_BEFORE=1", 10, MSG_DONTWAIT) == 10)
		nr_before++;
	assert_int_equal(errno, EAGAIN);
	assert_true(nr_before > 0);
	pid = fork_child();
	if (pid == 0) {
		for (int i = 0; i < MANY; i++) {
			snprintf(text, sizeof(text), "X_NR=%d", i);
			check(notify_send(fd, text, &fd, (size_t)i % 2, NULL) == 0);
		}
		_exit(0);
	}
	eventually(polls(pid));
	while (nr_before--)
		assert_next(manager, getpid(), "X_BEFORE=1", 0);
	for (int i = 0; i < MANY; i++) {
		snprintf(text, sizeof(text), "X_NR=%d", i);
		assert_next(manager, pid, text, (size_t)i % 2);
	}
	assert_exit(pid, 0);
	close(fd);
	close(manager);
}

/* One that never reads, twice, at the same time; the limit on descriptors holds only for those
 * without privileges. */
static void test_manager_that_does_not_read(void **state)
{
	int manager = abstract_manager(), fd = open_it(), crowded_manager, crowded;
	/* The kernel counts for each user: another run at the same time must not be the same. */
	const uid_t nobody_else = 100000 + (uid_t)getpid();
	pid_t full, too_many = -1;

	(void)state;
	full = fork_child();
	if (full == 0) {
		struct err err = {0};
		int r;

		do {
			r = notify_ready(fd, &err);
		} while (r == 0);
		if (r != -ETIMEDOUT)
			fprintf(stderr, "%d %s\n", r, err.text);
		check(r == -ETIMEDOUT && strstr(err.text, "which does not read those sent before"));
		_exit(0);
	}
	close(manager);
	close(fd);
	crowded_manager = abstract_manager();
	crowded = open_it();
	if (!geteuid())
		too_many = fork_child();
	if (too_many == 0) {
		const struct rlimit few = {.rlim_cur = 20, .rlim_max = 20};
		int fds[50] = {0}, r;
		struct err err = {0};

		check(setrlimit(RLIMIT_NOFILE, &few) == 0);
		check(setgid(nobody_else) == 0 && setuid(nobody_else) == 0);
		check(notify_send(crowded, "FDSTORE=1", fds, 50, &err) == 0);
		r = notify_send(crowded, "FDSTORE=1", fds, 1, &err);
		if (r != -ETIMEDOUT)
			fprintf(stderr, "%d %s\n", r, err.text);
		check(r == -ETIMEDOUT &&
		      strstr(err.text, "which does not take the descriptors sent before"));
		check(notify_ready(crowded, &err) == 0); /* without any it goes */
		_exit(0);
	}
	if (too_many > 0)
		assert_exit(too_many, 0);
	assert_exit(full, 0);
	close(crowded);
	close(crowded_manager);
	if (too_many < 0)
		skip_because("descriptors on their way: needs root, to become another user");
}

/* --- the barrier ------------------------------------------------------------------------------ */

/* The manager counts what it has done before it lets go of the barrier. */
static void test_barrier(void **state)
{
	int manager = abstract_manager(), fd = open_it(), *done = shared(sizeof(*done));
	pid_t pid = fork_child();

	(void)state;
	if (pid == 0) {
		struct message message;

		close(fd);
		for (;;) {
			check(readable(manager, PATIENCE * 1000) &&
			      manager_read(manager, &message));
			if (!strcmp(message.text, "READY=1"))
				_exit(0);
			if (!strcmp(message.text, "BARRIER=1"))
				check(message.nr_fds == 1);
			else
				++*done;
			drop_fds(&message);
		}
	}
	for (int i = 1; i <= 20; i++) {
		struct err err = {0};

		assert_int_equal(notify_store(fd, "file", 0, &err), 0);
		assert_int_equal(notify_remove(fd, "file", &err), 0);
		assert_int_equal(notify_barrier(fd, PATIENCE * NSEC_PER_SEC, &err), 0);
		assert_int_equal(__atomic_load_n(done, __ATOMIC_ACQUIRE), 2 * i);
	}
	assert_int_equal(notify_barrier(fd, CLOCK_NEVER, NULL), 0);
	assert_int_equal(notify_ready(fd, NULL), 0);
	assert_exit(pid, 0);
	close(fd);
	close(manager);
	munmap(done, sizeof(*done));
}

static void test_barrier_times_out(void **state)
{
	int manager = abstract_manager(), fd = open_it(), spare = dup(0);
	struct message message;
	struct err err = {0};

	(void)state;
	close(spare);
	assert_failed(notify_barrier(fd, 30 * NSEC_PER_MSEC, &err), ETIMEDOUT, &err,
	              "the service manager has not read what it was sent");
	assert_failed(notify_barrier(fd, 0, &err), ETIMEDOUT, &err, "has not read");
	/* Read, but still held. */
	assert_true(manager_read(manager, &message) && message.nr_fds == 1);
	drop_fds(&message);
	assert_true(manager_read(manager, &message) && message.nr_fds == 1);
	assert_failed(notify_barrier(fd, 0, &err), ETIMEDOUT, &err, "has not read");
	drop_fds(&message);
	assert_said(manager, "BARRIER=1", 1);
	assert_int_equal(dup(0), spare); /* nothing is left open */
	close(spare);
	close(fd);
	close(manager);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(test_address_refused), IN_DIR(test_open),
		TIMED(test_store_and_remove), TIMED(test_names_refused),
		TIMED(test_limits),           TIMED(test_manager_gone),
		TIMED(test_slow_manager),     TIMED(test_manager_that_does_not_read),
		TIMED(test_barrier),          TIMED(test_barrier_times_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
