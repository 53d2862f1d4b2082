/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/cmd/scripts.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int scripts_add(struct scripts *scripts, const char *path, struct err *err)
{
	if (scripts->nr == SCRIPTS_MAX)
		return err_set(err, EINVAL, "more than %d action scripts", SCRIPTS_MAX);
	scripts->path[scripts->nr++] = path;
	return 0;
}

/* Signals as a program expects them, whatever we have blocked or ignored. */
static int spawn(const char *path, pid_t *ret)
{
	char *argv[] = {(char *)path, NULL};
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r;

	r = posix_spawnattr_init(&attr);
	if (r)
		return r;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	r = posix_spawnp(ret, path, NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	return r;
}

static int run(const char *path, struct err *err)
{
	int status, r;
	pid_t pid;

	r = spawn(path, &pid);
	if (r)
		return err_set(err, r, "action script %s", path);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_set(err, errno, "action script %s", path);
	if (WIFSIGNALED(status))
		return err_set(err, EPROTO, "action script %s was killed by signal %d", path,
		               WTERMSIG(status));
	if (WEXITSTATUS(status))
		return err_set(err, EPROTO, "action script %s ended with status %d", path,
		               WEXITSTATUS(status));
	return 0;
}

int scripts_run(const struct scripts *scripts, const char *action, int images, struct err *err)
{
	char dir[48];
	int r = 0;

	snprintf(dir, sizeof(dir), "/proc/%d/fd/%d", getpid(), images);
	if (setenv("CRTOOLS_SCRIPT_ACTION", action, 1) < 0 ||
	    setenv("CRTOOLS_IMAGE_DIR", dir, 1) < 0)
		return err_set(err, errno, "environment of action scripts");
	for (size_t i = scripts->nr; i-- > 0;) {
		log_info("action script %s: %s", scripts->path[i], action);
		if (run(scripts->path[i], r ? NULL : err) < 0)
			r = -EPROTO;
	}
	return r;
}
