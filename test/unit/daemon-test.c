/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Going to the background, pidfile, readiness; and holding processors awake.  The process that
 * goes is a child, so that both its exit status and what becomes of the daemon can be seen.
 */
#include "criu-lazy/os/daemon.h"
#include "criu-lazy/os/latency.h"
#include "test/unit/images-dir.h"
#include "test/unit/patience.h"

#include <sys/stat.h>

static int setup(void **state)
{
	alarm(PATIENCE);
	return dir_setup(state);
}

#define IN_DIR(name) cmocka_unit_test_setup_teardown(name, setup, dir_teardown)

/* What the daemon says of itself. */
struct self {
	pid_t pid, sid;
	char stdio[3][32];
	char cwd[64];
	bool stdio_works;
};

static void tell_self(int fd)
{
	struct self self = {.pid = getpid(), .sid = getsid(0)};
	char link[32], byte;

	for (int i = 0; i < 3; i++) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", i);
		if (readlink(link, self.stdio[i], sizeof(self.stdio[i]) - 1) < 0)
			_exit(1);
	}
	self.stdio_works = write(STDERR_FILENO, "x", 1) == 1 && read(STDIN_FILENO, &byte, 1) == 0;
	if (!getcwd(self.cwd, sizeof(self.cwd)) || write(fd, &self, sizeof(self)) < 0)
		_exit(1);
}

/* Start it.  *ret_report: what it says; *ret_leash: closing lets it end. */
static pid_t start(const struct dir *dir, const char *pidfile, int errors, int *ret_report,
                   int *ret_leash)
{
	int report[2], leash[2];
	pid_t pid;
	char byte;

	assert_int_equal(pipe2(report, O_CLOEXEC), 0);
	assert_int_equal(pipe2(leash, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct err err = {0};

		close(report[0]);
		close(leash[1]);
		if (chdir(dir->path) || (errors >= 0 && dup2(errors, STDERR_FILENO) < 0) ||
		    daemon_enter(pidfile, &err) < 0 || daemon_ready(-1, &err) < 0) {
			fprintf(stderr, "%s\n", err.text);
			_exit(2);
		}
		alarm(PATIENCE);
		tell_self(report[1]);
		while (read(leash[0], &byte, 1) > 0)
			;
		_exit(0);
	}
	close(report[1]);
	close(leash[0]);
	*ret_report = report[0];
	*ret_leash = leash[1];
	return pid;
}

static size_t read_text(int dirfd, const char *name, char *text, size_t size)
{
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	assert_true(fd >= 0);
	got = read(fd, text, size - 1);
	assert_true(got >= 0);
	close(fd);
	text[got] = '\0';
	return (size_t)got;
}

static void check_daemon(const struct dir *dir, const char *pidfile)
{
	int report, leash, status;
	struct self self;
	char text[64], want[64];
	pid_t pid = start(dir, pidfile, -1, &report, &leash);

	status = reap(pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	if (pidfile) /* is there when the parent is gone */
		read_text(dir->fd, pidfile, text, sizeof(text));
	assert_int_equal(read(report, &self, sizeof(self)), sizeof(self));
	assert_int_not_equal(self.pid, pid);
	assert_int_equal(self.sid, self.pid);
	assert_string_equal(self.cwd, dir->path);
	for (int i = 0; i < 3; i++)
		assert_string_equal(self.stdio[i], "/dev/null");
	assert_true(self.stdio_works);
	snprintf(want, sizeof(want), "%d", self.pid);
	if (pidfile)
		assert_string_equal(text, want); /* no newline */
	close(leash);
	assert_int_equal(read(report, text, 1), 0); /* it has ended */
	close(report);
}

static void test_background(void **state)
{
	check_daemon(*state, NULL);
	check_daemon(*state, "pid");
	check_daemon(*state, "pid"); /* replaces what was there */
}

/* Nobody would know its pid: it is ended, and the parent says so. */
static void test_no_pidfile_no_daemon(void **state)
{
	struct dir *dir = *state;
	FILE *errors = tmpfile();
	int report, leash, status;
	char text[512];
	size_t got;
	pid_t pid;

	assert_non_null(errors);
	pid = start(dir, "nowhere/pid", fileno(errors), &report, &leash);
	status = reap(pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 1);
	while (read(report, text, sizeof(text)) > 0)
		; /* it may have come that far; the end of file says that it is gone */
	rewind(errors);
	got = fread(text, 1, sizeof(text) - 1, errors);
	text[got] = '\0';
	assert_non_null(strstr(text, "pidfile nowhere/pid: No such file or directory\n"));
	fclose(errors);
	close(report);
	close(leash);
}

static void test_pidfile(void **state)
{
	struct dir *dir = *state;
	char path[128], text[64];
	struct err err = {0};
	struct stat st;
	mode_t mask = umask(022);

	snprintf(path, sizeof(path), "%s/pid", dir->path);
	put_file(dir->fd, "pid", "1234567890\nold", 14);
	assert_int_equal(daemon_write_pidfile(path, 42, &err), 0);
	assert_int_equal(read_text(dir->fd, "pid", text, sizeof(text)), 2);
	assert_string_equal(text, "42");
	unlink(path);
	assert_int_equal(daemon_write_pidfile(path, 2147483647, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	umask(mask);
	/* Through no symbolic link. */
	unlink(path);
	assert_int_equal(symlink("target", path), 0);
	assert_failed(daemon_write_pidfile(path, 1, &err), ELOOP, &err, path);
	assert_int_equal(faccessat(dir->fd, "target", F_OK, 0), -1);
	assert_failed(daemon_write_pidfile("/dev/full", 1, &err), ENOSPC, &err, "/dev/full");
}

static void test_ready(void **state)
{
	struct err err = {0};
	char bytes[4] = "xyz";
	int ends[2];

	(void)state;
	assert_int_equal(daemon_ready(-1, &err), 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(daemon_ready(ends[1], &err), 0);
	assert_int_equal(read(ends[0], bytes, 4), 1);
	assert_int_equal(bytes[0], 0);
	assert_int_equal(read(ends[0], bytes, 4), 0); /* closed */
	close(ends[0]);
	assert_failed(daemon_ready(1 << 20, &err), EBADF, &err, "status descriptor 1048576");
}

/* --- latency --------------------------------------------------------------------------------- */

/* What the kernel's power management aims at now, in microseconds. */
static int32_t latency_now(void)
{
	int fd = open("/dev/cpu_dma_latency", O_RDONLY | O_CLOEXEC);
	int32_t value = -1;

	assert_true(fd >= 0);
	assert_int_equal(read(fd, &value, sizeof(value)), sizeof(value));
	close(fd);
	return value;
}

static void test_latency(void **state)
{
	char name[64] = "";
	int fd = latency_hold();
	char link[32];

	(void)state;
	if (fd == -EACCES || fd == -EPERM || fd == -ENOENT)
		skip_because("/dev/cpu_dma_latency: %s", strerror(-fd));
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	assert_true(readlink(link, name, sizeof(name) - 1) > 0);
	assert_string_equal(name, "/dev/cpu_dma_latency");
	assert_int_equal(latency_now(), 0);
	close(fd);
}

static void test_latency_not_permitted(void **state)
{
	struct stat st;
	pid_t pid;

	(void)state;
	if (geteuid() || stat("/dev/cpu_dma_latency", &st) < 0 || st.st_mode & 0002)
		skip_because("needs root, and a /dev/cpu_dma_latency for root alone");
	pid = fork_child();
	if (pid == 0)
		_exit(setgid(65534) || setuid(65534) ? 1 : latency_hold() == -EACCES ? 0 : 2);
	assert_int_equal(reap(pid), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(test_background), IN_DIR(test_no_pidfile_no_daemon),
		IN_DIR(test_pidfile),    IN_DIR(test_ready),
		IN_DIR(test_latency),    IN_DIR(test_latency_not_permitted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
