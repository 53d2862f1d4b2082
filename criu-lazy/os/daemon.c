/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/os/daemon.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

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

int daemon_enter(const char *pidfile, struct err *err)
{
	pid_t pid = fork();
	int null, fd;

	if (pid < 0)
		return err_set(err, errno, "fork");
	if (pid > 0) {
		if (pidfile && daemon_write_pidfile(pidfile, pid, err) < 0) {
			log_error("%s", err->text);
			kill(pid, SIGKILL);
			_exit(1);
		}
		_exit(0);
	}
	if (setsid() < 0)
		return err_set(err, errno, "setsid");
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return err_set(err, errno, "/dev/null");
	for (fd = 0; fd <= 2; fd++)
		if (dup2(null, fd) < 0)
			return err_set(err, errno, "/dev/null");
	if (null > 2)
		close(null);
	return 0;
}

int daemon_ready_text(int status_fd, const char *text, struct err *err)
{
	char out[64] = "";
	size_t len = 1 + strnlen(text, sizeof(out) - 1);
	ssize_t put;

	if (status_fd < 0)
		return 0;
	memcpy(out + 1, text, len - 1);
	put = write(status_fd, out, len);
	if (put != (ssize_t)len)
		return err_set(err, put < 0 ? errno : EIO, "status descriptor %d", status_fd);
	close(status_fd);
	return 0;
}

int daemon_ready(int status_fd, struct err *err)
{
	return daemon_ready_text(status_fd, "", err);
}
