/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One restore, from the helper's start to its end: starts the helper, plays a restorer and its
 * tasks, and says in one line of NAME=VALUE what became of everybody.
 *
 *	restorer [OPTION...] SOCKET PRELOAD|- HELPER ARGUMENT...
 *
 *	this process ("runner", a subreaper)
 *	  |- the helper, with whatever it becomes: everything here that is not
 *	  `- the restorer (a subreaper, too)
 *	       `- tasks 1000, 1001, ... and the children that they fork
 *
 * A participant's fate:
 *	unborn	it never came to be, or was not let go by the restorer: no page of it was used
 *	right	everything it read was right, and it ended
 *	wrong	a page had something else; "zero": zeros, where the image had content
 *	killed	by SIGKILL, before the time was over
 *	bus	by SIGBUS
 *	stuck	it still waited when the time was over
 *	died	in another way
 */
#include "test/torture/restorer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct shared *shared;

struct restorer_options options = {
	.tasks = 3, .pages = 24, .forks = 1, .linger_us = 3000, .limit_ms = 10000};

static int64_t started;

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int ms_left(void)
{
	int64_t left = started + options.limit_ms - now_ms();

	return left > 0 ? (int)left : 0;
}

void die(const char *what)
{
	fprintf(stderr, "restorer: %s: %m\n", what);
	_exit(70);
}

void enter_cgroup(const char *path)
{
	int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;

	if (path && (fd < 0 || write(fd, "0", 1) != 1))
		die(path);
	close(fd);
}

bool signal_children(int but, int number)
{
	bool any = false;
	char path[64], line[4096] = "", *at = line, *end;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, line, sizeof(line) - 1) < 0)
		die(path);
	close(fd);
	for (;;) {
		long pid = strtol(at, &end, 10);

		if (end == at)
			return any;
		if (pid != but) {
			any = true;
			kill((pid_t)pid, number);
		}
		at = end;
	}
}

/* --- fates ----------------------------------------------------------------------------------- */

struct fate *new_fate(void)
{
	int i = atomic_fetch_add(&shared->nr, 1);

	return i < MAX_FATES ? &shared->fates[i] : NULL;
}

void set_end(struct fate *fate, int status)
{
	if (fate->state != LIVES)
		return;
	fate->state = !WIFSIGNALED(status)          ? DIED
	              : WTERMSIG(status) == SIGKILL ? KILLED
	              : WTERMSIG(status) == SIGBUS  ? BUS
	                                            : DIED;
}

struct fate *fate_of(int pid)
{
	int i;

	for (i = 0; i < MAX_FATES; i++)
		if (shared->fates[i].pid == pid)
			return &shared->fates[i];
	return NULL;
}

/* --- the helper and everybody's end --------------------------------------------------------- */

static void limit(int what, rlim_t value)
{
	struct rlimit l = {value, value};

	if (value && setrlimit(what, &l) < 0)
		die("setrlimit");
}

static int start_helper(char **argv, const char *preload, int *ret_status_fd)
{
	int fds[2], pid;
	char number[16];

	if (pipe2(fds, 0) < 0)
		die("pipe");
	fcntl(fds[0], F_SETFD, FD_CLOEXEC);
	pid = fork();
	if (pid == 0) {
		for (int i = 1; argv[i]; i++)
			if (!strcmp(argv[i], "STATUS_FD")) {
				snprintf(number, sizeof(number), "%d", fds[1]);
				argv[i] = number;
			}
		enter_cgroup(options.helper_cgroup);
		if (strcmp(preload, "-"))
			setenv("LD_PRELOAD", preload, 1);
		limit(RLIMIT_NOFILE, (rlim_t)options.nofile);
		limit(RLIMIT_AS, options.address_space);
		limit(RLIMIT_DATA, options.data);
		execv(argv[0], argv);
		die(argv[0]);
	}
	close(fds[1]);
	*ret_status_fd = fds[0];
	return pid;
}

static bool wait_ready(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char c = 1;

	if (poll(&p, 1, ms_left()) != 1 || read(fd, &c, 1) != 1)
		c = 1;
	close(fd);
	return c == 0;
}

struct ends {
	int first; /* wait status of the helper that was started, -1: it has not ended */
	int others; /* the worst of what it became (a daemon): 0, a wait status */
	int64_t cpu_ms;
};

static void count_end(struct ends *ends, bool is_first, int status, const struct rusage *u)
{
	int64_t cpu = u->ru_utime.tv_sec * 1000 + u->ru_utime.tv_usec / 1000 +
	              u->ru_stime.tv_sec * 1000 + u->ru_stime.tv_usec / 1000;

	ends->cpu_ms += cpu;
	if (is_first)
		ends->first = status;
	else if (WIFSIGNALED(status) || !ends->others)
		ends->others = status;
}

static void print_fates(void)
{
	static const char *const names[] = {"unborn", "lives", "right", "wrong", "zero",
	                                    "killed", "bus",   "stuck", "died"};
	int i;

	printf(" fates=");
	for (i = 0; i < shared->nr && i < MAX_FATES; i++) {
		const struct fate *f = &shared->fates[i];

		printf("%s%s", i ? "," : "", names[f->state]);
		if (f->state == WRONG || f->state == ZERO)
			printf(":%d", f->page);
	}
	printf("\n");
}

static char **parse(int argc, char **argv)
{
	int at = 1;

	for (; at + 1 < argc && argv[at][0] == '-' && argv[at][1] == '-'; at += 2) {
		const char *name = argv[at] + 2, *value = argv[at + 1];
		unsigned long long number = strtoull(value, NULL, 0);

		if (!strcmp(name, "tasks"))
			options.tasks = (int)number;
		else if (!strcmp(name, "pages"))
			options.pages = (int)number;
		else if (!strcmp(name, "forks"))
			options.forks = (int)number;
		else if (!strcmp(name, "linger-us"))
			options.linger_us = (int)number;
		else if (!strcmp(name, "limit-ms"))
			options.limit_ms = (int)number;
		else if (!strcmp(name, "nofile"))
			options.nofile = (int)number;
		else if (!strcmp(name, "address-space"))
			options.address_space = number;
		else if (!strcmp(name, "data"))
			options.data = number;
		else if (!strcmp(name, "task-cgroup"))
			options.task_cgroup = value;
		else if (!strcmp(name, "helper-cgroup"))
			options.helper_cgroup = value;
		else
			die(name);
	}
	if (argc - at < 3 || options.pages > MAX_PAGES || options.pages < 16)
		die("arguments");
	return argv + at;
}

int main(int argc, char **argv)
{
	char **rest = parse(argc, argv);
	struct ends ends = {.first = -1};
	int helper, restorer = -1, status_fd, pid, status;
	bool ready, told = false, hung = false;
	struct rusage usage;

	started = now_ms();
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
	              0);
	if (shared == MAP_FAILED)
		die("mmap");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	helper = start_helper(rest + 2, rest[1], &status_fd);
	ready = wait_ready(status_fd);
	if (ready) {
		restorer = fork();
		if (restorer == 0)
			restore(rest[0]);
	}
	for (;;) {
		pid = wait4(-1, &status, WNOHANG, &usage);
		if (pid < 0)
			break;
		if (pid > 0 && pid == restorer) {
			restorer = -1;
			if (!shared->finished) /* nobody will come any more */
				told = signal_children(-1, SIGTERM);
		} else if (pid > 0) {
			count_end(&ends, pid == helper, status, &usage);
		}
		if (pid > 0)
			continue;
		if (!ms_left() && signal_children(restorer, 0)) {
			hung = true;
			break;
		}
		usleep(300);
	}
	/* Only the hung are left; the restorer ends by itself. */
	while (restorer > 0 && (pid = waitpid(restorer, &status, 0)) > 0)
		restorer = -1;
	while (hung && signal_children(-1, SIGKILL))
		while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0)
			ends.cpu_ms += (int64_t)usage.ru_utime.tv_sec * 1000 +
			               (int64_t)usage.ru_stime.tv_sec * 1000;
	printf("ready=%d finished=%d told=%d hung=%d status=%d signal=%d others=%d cpu_ms=%lld "
	       "wall_ms=%lld",
	       ready, shared->finished, told, hung,
	       ends.first >= 0 && WIFEXITED(ends.first) ? WEXITSTATUS(ends.first) : -1,
	       ends.first >= 0 && WIFSIGNALED(ends.first) ? WTERMSIG(ends.first) : 0, ends.others,
	       (long long)ends.cpu_ms, (long long)(now_ms() - started));
	print_fates();
	return 0;
}
