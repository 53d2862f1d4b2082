/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/cmd/guardian.h"

#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/os/family.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * A worker that dies of itself (an assertion, a fault) may do so again, at the same place; so many
 * in a row without a single page brought are enough.  Who is killed from outside is not to blame.
 */
enum { CRASHES_MAX = 20, QUICK = 8 };

static const int64_t PAUSE_MAX = 1 * NSEC_PER_SEC;

static void watched_signals(sigset_t *ret)
{
	sigemptyset(ret);
	sigaddset(ret, SIGCHLD);
	sigaddset(ret, SIGTERM);
	sigaddset(ret, SIGINT);
	sigaddset(ret, SIGHUP);
	sigaddset(ret, SIGUSR1);
}

/* A worker's first words; it must not outlive the guardian: two would work on the same memory. */
static int be_worker(const struct guarded *g, pid_t guardian, unsigned life, bool abandon)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != guardian)
		_exit(0);
	g->memory->worker_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	return g->work(g->cookie, life, abandon);
}

/* Until it has ended.  Who tells us to end means it: the worker decides how. */
static int wait_for(const struct guarded *g, pid_t worker, int *told)
{
	siginfo_t info;
	sigset_t set;
	int status;

	watched_signals(&set);
	for (;;) {
		if (waitpid(worker, &status, WNOHANG) == worker)
			return status;
		if (sigwaitinfo(&set, &info) < 0)
			continue;
		if (info.si_signo == SIGTERM || info.si_signo == SIGINT) {
			*told = info.si_signo;
			kill(worker, *told);
		}
		if (info.si_signo == SIGUSR1)
			g->ready(g->cookie);
	}
}

static void pause_for(int64_t time)
{
	struct timespec ts = {.tv_sec = time / NSEC_PER_SEC, .tv_nsec = time % NSEC_PER_SEC};

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

/* Its own statuses are 0 and 1; with others it is ended by libraries: a sanitizer, for one. */
static bool died(int status)
{
	return WIFSIGNALED(status) || WEXITSTATUS(status) > 1;
}

static void tell_death(int status, bool abandon)
{
	char how[64];

	if (WIFSIGNALED(status))
		snprintf(how, sizeof(how), "was killed by signal %d (%s)", WTERMSIG(status),
		         strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) == WORKER_AGAIN)
		snprintf(how, sizeof(how), "could not go on");
	else
		snprintf(how, sizeof(how), "ended with status %d", WEXITSTATUS(status));
	log_warn("the worker %s; %s", how,
	         abandon ? "the processes will be stopped" : "the next one goes on where it was");
}

/* One worker after the other, until one ends by itself. */
static int guard(const struct guarded *g, unsigned life, struct err *err)
{
	unsigned crashes = 0, quick = 0;
	int status, told = 0;

	for (;; life++) {
		pid_t guardian = getpid(), worker;
		uint64_t achieved = g->progress(g->cookie);
		bool crashed;

		g->memory->worker_pidfd = -1;
		fflush(NULL);
		worker = family_clone();
		if (worker == 0)
			exit(be_worker(g, guardian, life, g->memory->abandoned));
		if (worker < 0 && !life)
			return err_set(err, (int)-worker, "starting the worker");
		if (worker < 0) {
			log_warn("no worker: %s; trying again", strerror((int)-worker));
			pause_for(PAUSE_MAX);
			continue;
		}
		if (told)
			kill(worker, told); /* the last one may not have heard of it */
		status = wait_for(g, worker, &told);
		if (!died(status))
			return WEXITSTATUS(status);
		if (WIFEXITED(status) && WEXITSTATUS(status) == WORKER_NEVER) {
			log_error("no worker can go on: the processes are killed, lest they read "
			          "zeros");
			g->last_resort(g->cookie);
			return 1;
		}
		if (g->progress(g->cookie) != achieved)
			crashes = quick = 0;
		crashed = !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL;
		crashes += crashed;
		if (crashes == CRASHES_MAX) {
			log_error("%u workers have failed: giving up", crashes);
			if (g->memory->abandoned) {
				g->last_resort(g->cookie);
				return 1;
			}
			g->memory->abandoned = 1;
			crashes = 0;
		}
		tell_death(status, g->memory->abandoned);
		/* Somebody who kills without end (for want of memory) shall not keep us busy. */
		if (++quick > QUICK)
			pause_for(quick < QUICK + 10 ? NSEC_PER_MSEC << (quick - QUICK)
			                             : PAUSE_MAX);
	}
}

/* Wait until there is neither guardian nor worker.  Does not return when all ended in order. */
static void watch_guardian(const struct guarded *g)
{
	struct pollfd gone = {.fd = g->memory->guardian_pidfd, .events = POLLIN};
	int fd;

	while (poll(&gone, 1, -1) <= 0)
		;
	if (g->memory->ended)
		_exit(0);
	fd = g->memory->worker_pidfd; /* -1: it ends when it finds itself without a guardian */
	gone = (struct pollfd){.fd = fd, .events = POLLIN};
	while (fd >= 0 && poll(&gone, 1, -1) <= 0)
		;
}

static void be_sentinel(const struct guarded *g)
{
	struct err err = {0};

	watch_guardian(g);
	if (g->on_death == GUARD_DEATH_HAND_OVER) {
		g->hand_over(g->cookie);
		_exit(0);
	}
	if (g->on_death == GUARD_DEATH_KILL) {
		log_error("the guardian was killed while memory was missing: the processes are "
		          "stopped, lest they read zeros");
		g->memory->abandoned = 1;
	} else {
		log_warn("the guardian was killed: going on in its place");
	}
	_exit(guardian_run(g, &err) == 0 ? 0 : 1);
}

static int start_sentinel(const struct guarded *g, struct err *err)
{
	int guardian_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	pid_t pid;

	if (guardian_pidfd < 0)
		return err_set(err, errno, "watching ourselves");
	g->memory->guardian_pidfd = guardian_pidfd;
	fflush(NULL);
	pid = family_clone_orphan();
	if (pid == 0)
		be_sentinel(g);
	return pid < 0 ? err_set(err, (int)-pid, "starting the sentinel") : 0;
}

int guardian_run(const struct guarded *g, struct err *err)
{
	bool again = g->memory->worker_pidfd != 0; /* we are a sentinel that takes over */
	sigset_t set;
	int r = 0;

	watched_signals(&set); /* for good: one that comes late shall not spoil the exit status */
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (g->on_death != GUARD_DEATH_NOTHING)
		r = start_sentinel(g, err);
	if (r == 0)
		r = guard(g, again, err);
	g->memory->ended = 1;
	return r;
}
