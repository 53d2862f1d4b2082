/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/os/daemon.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

void daemon_hide(void)
{
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* cannot fail for 0 */
}

int daemon_write_pidfile(const char *pidfile, int pid, struct err *err)
{
	cleanup_close int fd =
		open(pidfile, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", pid);

	if (fd < 0)
		return err_set(err, errno, "pidfile %s", pidfile);
	if (write(fd, text, (size_t)len) != len)
		return err_set(err, errno ? errno : EIO, "pidfile %s", pidfile);
	return 0;
}

/* The pipe at whose other end the parent waits; -1: nobody does. */
static int parent_fd = -1;

static void wait_until_ready(int fd)
{
	char byte;
	ssize_t got;

	do {
		got = read(fd, &byte, 1);
	} while (got < 0 && errno == EINTR);
	_exit(got == 1 ? 0 : 1);
}

int daemon_enter(const char *pidfile, struct err *err)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(err, errno, "pipe");
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		close(ends[0]);
		close(ends[1]);
		return err_set(err, errno, "fork");
	}
	if (pid > 0) {
		close(ends[1]);
		wait_until_ready(ends[0]);
	}
	close(ends[0]);
	parent_fd = ends[1];
	if (setsid() < 0)
		return err_set(err, errno, "setsid");
	return pidfile ? daemon_write_pidfile(pidfile, getpid(), err) : 0;
}

static int say_ready(int status_fd, const char *text, struct err *err)
{
	char out[64] = "";
	size_t len = 1 + strnlen(text, sizeof(out) - 1);
	ssize_t put;

	memcpy(out + 1, text, len - 1);
	do {
		put = write(status_fd, out, len);
	} while (put < 0 && errno == EINTR);
	if (put != (ssize_t)len)
		return err_set(err, put < 0 ? errno : EIO, "status descriptor %d", status_fd);
	return 0;
}

static int leave_terminal(int null, struct err *err)
{
	int fd;

	for (fd = 0; fd <= 2; fd++)
		if (dup2(null, fd) < 0)
			return err_set(err, errno, "/dev/null");
	return 0;
}

static void let_parent_go(void)
{
	ssize_t put = write(parent_fd, "", 1);

	(void)put; /* it may have been killed: nobody waits then */
	close(parent_fd);
	parent_fd = -1;
}

int daemon_ready_text(int status_fd, const char *text, struct err *err)
{
	bool goes = parent_fd >= 0;
	int null = -1, r = 0;

	/* Whatever can fail comes before the parent says success, and where errors are seen. */
	if (goes) {
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null < 0)
			return err_set(err, errno, "/dev/null");
	}
	if (status_fd >= 0)
		r = say_ready(status_fd, text, err);
	if (r == 0 && goes)
		r = leave_terminal(null, err);
	if (null > 2)
		close(null);
	if (r < 0)
		return r;
	if (goes)
		let_parent_go();
	if (status_fd >= 0 && !(goes && status_fd <= 2)) /* else it is /dev/null by now */
		close(status_fd);
	return 0;
}

int daemon_ready(int status_fd, struct err *err)
{
	return daemon_ready_text(status_fd, "", err);
}
