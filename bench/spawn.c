/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See spawn.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bench/spawn.h"

_Noreturn void die(const char *what)
{
	fprintf(stderr, "measure: %s: %s\n", what, strerror(errno));
	exit(1);
}

uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static void redirect(const char *dir, const char *name)
{
	char path[4096];
	int null = open("/dev/null", O_RDONLY), fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (null < 0 || fd < 0)
		die(path);
	dup2(null, 0);
	dup2(fd, 1);
	dup2(fd, 2);
	close(null);
	close(fd);
}

struct proc spawn(char **argv, const char *dir, const char *out, int status_fd)
{
	struct proc p = {.start_ns = now()};

	p.pid = fork();
	if (p.pid < 0)
		die("fork");
	if (!p.pid) {
		setsid();
		redirect(dir, out);
		if (status_fd >= 0)
			dup2(status_fd, SPAWN_STATUS_FD);
		close_range(status_fd >= 0 ? SPAWN_STATUS_FD + 1 : 3, ~0u, 0);
		execvp(argv[0], argv);
		die(argv[0]);
	}
	p.pidfd = (int)syscall(SYS_pidfd_open, p.pid, 0);
	if (p.pidfd < 0)
		die("pidfd_open");
	return p;
}
