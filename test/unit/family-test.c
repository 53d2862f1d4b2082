/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes that share a table of descriptors: what is shared, what is not, and what survives. */
#include "criu-lazy/os/family.h"
#include "test/unit/in-child.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* family_clone() with the end that every child of a test has. */
static pid_t clone_child(void)
{
	pid_t pid = family_clone();

	assert_true(pid >= 0);
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* --- a child ---------------------------------------------------------------------------------- */

static void test_table_is_shared(void **state)
{
	int *told = shared(sizeof(*told)), mine = memfd_create("mine", MFD_CLOEXEC), later;
	volatile int memory = 1;
	char text[8] = "";
	pid_t pid;

	(void)state;
	assert_true(mine >= 0);
	pid = clone_child();
	if (pid == 0) {
		memory = 2;
		*told = memfd_create("its", MFD_CLOEXEC);
		check(*told >= 0 && pwrite(*told, "hello", 5, 0) == 5);
		close(mine);
		_exit(7);
	}
	assert_exit(pid, 7);
	assert_int_equal(memory, 1);
	assert_false(is_open(mine));
	assert_int_equal(pread(*told, text, sizeof(text), 0), 5); /* after its end */
	assert_string_equal(text, "hello");
	/* And the other way: what the parent opens after the clone. */
	pid = clone_child();
	if (pid == 0) {
		eventually(__atomic_load_n(told, __ATOMIC_ACQUIRE) == -1);
		_exit(is_open(told[1]) ? 8 : 9);
	}
	later = memfd_create("later", MFD_CLOEXEC);
	told[1] = later;
	close(*told);
	__atomic_store_n(told, -1, __ATOMIC_RELEASE);
	assert_exit(pid, 8);
	close(later);
	munmap(told, sizeof(*told));
}

/* What a child that was killed had open stays: its peer sees no end of file. */
static void test_killed(void **state)
{
	int *ends = shared(2 * sizeof(*ends));
	char byte;
	pid_t pid;

	(void)state;
	pid = clone_child();
	if (pid == 0) {
		check(pipe2(ends, O_CLOEXEC) == 0 && write(ends[1], "x", 1) == 1);
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(WTERMSIG(reap(pid)), SIGKILL);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	assert_false(readable(ends[0], 20));
	assert_int_equal(write(ends[1], "y", 1), 1);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 0);
	close(ends[0]);
	munmap(ends, 2 * sizeof(*ends));
}

/* A table of its own comes with exec, and with it O_CLOEXEC; the family keeps all. */
static void test_exec_leaves_the_family(void **state)
{
	int closed = memfd_create("closed", MFD_CLOEXEC), kept = memfd_create("kept", 0);
	char script[128];
	pid_t pid;

	(void)state;
	snprintf(script, sizeof(script), "[ ! -e /proc/self/fd/%d ] && [ -e /proc/self/fd/%d ]",
	         closed, kept);
	pid = clone_child();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", script, (char *)NULL);
		_exit(98);
	}
	assert_exit(pid, 0);
	assert_true(is_open(closed) && is_open(kept));
	close(closed);
	close(kept);
}

static volatile sig_atomic_t got_signal;

static void on_signal(int signal)
{
	(void)signal;
	got_signal++;
}

static void *other_thread(void *told)
{
	*(pid_t *)told = gettid();
	return told;
}

/* glibc knows who it is, also after a clone of a clone. */
static void is_sane(pid_t parent)
{
	pthread_t thread;
	clockid_t clock;
	pid_t told = 0;
	void *ret;

	check(getpid() != parent && getppid() == parent && gettid() == getpid());
	got_signal = 0;
	check(signal(SIGUSR1, on_signal) != SIG_ERR);
	check(raise(SIGUSR1) == 0 && got_signal == 1);
	check(pthread_kill(pthread_self(), SIGUSR1) == 0 && got_signal == 2);
	/* The clock's number is made of the thread id that glibc keeps. */
	check(pthread_getcpuclockid(pthread_self(), &clock) == 0);
	check(~(clock >> 3) == getpid());
	check(pthread_create(&thread, NULL, other_thread, &told) == 0);
	check(pthread_join(thread, &ret) == 0 && ret == &told && told != getpid() && told > 0);
}

static void test_child_is_sane(void **state)
{
	pid_t parent = getpid(), pid = clone_child();

	(void)state;
	if (pid == 0) {
		pid_t own = getpid(), grandchild;
		int status;

		/* Clone first: is_sane() makes a thread. */
		grandchild = family_clone();
		check(grandchild >= 0);
		if (grandchild == 0) {
			is_sane(own);
			_exit(5);
		}
		check(waitpid(grandchild, &status, 0) == grandchild && WIFEXITED(status) &&
		      WEXITSTATUS(status) == 5);
		is_sane(parent);
		_exit(6);
	}
	assert_exit(pid, 6);
}

static void test_many(void **state)
{
	enum { MANY = 200 };
	pid_t pids[MANY];

	(void)state;
	for (int i = 0; i < MANY; i++) {
		pids[i] = clone_child();
		if (pids[i] == 0)
			_exit(i % 100);
	}
	for (int i = 0; i < MANY; i++)
		assert_exit(pids[i], i % 100);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void test_no_process_to_be_had(void **state)
{
	const struct rlimit none = {0};
	pid_t pid;

	(void)state;
	if (geteuid())
		skip_because("needs root, to become a user without processes");
	pid = fork_child();
	if (pid == 0) {
		check(setgid(61234) == 0);
		check(setrlimit(RLIMIT_NPROC, &none) == 0);
		check(setuid(61234) == 0);
		check(family_clone() == -EAGAIN);
		check(family_clone_orphan() == -EAGAIN);
		check(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
		_exit(0);
	}
	assert_exit(pid, 0);
}

/* --- the end of a child, seen by a leak checker ----------------------------------------------- */

/* Ends by exit(), as a command does: what is only on the stack is in use, what nobody has leaks. */
static void __attribute__((noinline)) end_with(bool leak)
{
	void **volatile held = malloc(sizeof(*held)); /* nowhere but on the stack */

	check(held);
	*held = malloc(100);
	check(*held);
	memset(*held, 1, 100);
	if (leak)
		*held = NULL;
	exit(0);
}

/* Quiet: a report of the leak that is wanted is not one of the test's. */
static pid_t clone_to_end(bool leak)
{
	pid_t pid;

	fflush(NULL);
	pid = clone_child();
	if (pid == 0) {
		if (leak) {
			/* Not the family's descriptor 2. */
			check(unshare(CLONE_FILES) == 0);
			close(STDERR_FILENO);
		}
		end_with(leak);
	}
	return pid;
}

static void test_exit(void **state)
{
	(void)state;
	assert_exit(clone_to_end(false), 0);
#ifdef __SANITIZE_ADDRESS__
	assert_int_not_equal(WEXITSTATUS(reap(clone_to_end(true))), 0);
#else
	assert_exit(clone_to_end(true), 0);
#endif
}

/* --- an orphan -------------------------------------------------------------------------------- */

enum step { NOTHING, ASK, TOLD };

struct seen {
	pid_t pid, ppid, sid, pgid;
	char blocked[32];
	enum step step;
};

static enum step step_of(struct seen *seen)
{
	return __atomic_load_n(&seen->step, __ATOMIC_ACQUIRE);
}

static void set_step(struct seen *seen, enum step step)
{
	__atomic_store_n(&seen->step, step, __ATOMIC_RELEASE);
}

/*
 * An orphan's life.  It blocks SIGALRM and has no parent to follow: it ends when patience does, at
 * the latest.  It is asked when the caller is back: before, it may have its first parent yet.
 */
static void tell_when_asked(struct seen *seen)
{
	int64_t end = clock_now() + PATIENCE * NSEC_PER_SEC;
	char line[256];
	FILE *status;

	eventually(step_of(seen) == ASK || clock_now() > end);
	status = fopen("/proc/self/status", "re");
	seen->pid = getpid();
	seen->ppid = getppid();
	seen->sid = getsid(0);
	seen->pgid = getpgrp();
	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "SigBlk: %31s", seen->blocked) == 1)
			break;
	if (status)
		fclose(status);
	set_step(seen, TOLD);
	poll(NULL, 0, PATIENCE * 1000);
	_exit(0);
}

static int pidfd_of(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	assert_true(fd >= 0);
	return fd;
}

static pid_t orphan_that_tells(struct seen *seen)
{
	pid_t pid = family_clone_orphan();

	assert_true(pid >= 0);
	if (pid == 0)
		tell_when_asked(seen);
	set_step(seen, ASK);
	return pid;
}

static void check_orphan(const struct seen *seen, pid_t pid)
{
	assert_int_equal(seen->pid, pid);
	assert_int_not_equal(seen->ppid, getpid());
	assert_int_not_equal(seen->sid, getsid(0));
	assert_int_not_equal(seen->sid, pid); /* not the leader */
	assert_int_equal(seen->pgid, seen->sid);
	assert_string_equal(seen->blocked, "fffffffffffbfeff"); /* but SIGKILL, SIGSTOP */
}

static void test_orphan(void **state)
{
	struct seen *seen = shared(sizeof(*seen));
	sigset_t before = {0}, after = {0}, pending;
	int death;
	pid_t pid;

	(void)state;
	got_signal = 0;
	assert_true(signal(SIGCHLD, on_signal) != SIG_ERR);
	sigprocmask(SIG_BLOCK, NULL, &before);
	pid = orphan_that_tells(seen);
	death = pidfd_of(pid);
	sigprocmask(SIG_BLOCK, NULL, &after);
	assert_memory_equal(&before, &after, 8);
	sigpending(&pending);
	assert_false(sigismember(&pending, SIGCHLD));
	assert_int_equal(got_signal, 0);
	assert_int_equal(waitpid(-1, NULL, __WALL), -1); /* no child, living or dead */
	assert_int_equal(errno, ECHILD);
	eventually(step_of(seen) == TOLD);
	check_orphan(seen, pid);
	for (int signal = 1; signal < NSIG; signal++)
		if (signal != SIGKILL && signal != SIGSTOP)
			assert_int_equal(syscall(SYS_kill, pid, signal), 0);
	assert_false(readable(death, 20));
	kill(pid, SIGKILL);
	assert_true(readable(death, PATIENCE * 1000));
	assert_int_equal(got_signal, 0);
	signal(SIGCHLD, SIG_DFL);
	close(death);
	munmap(seen, sizeof(*seen));
}

/* Where the kernel reaps children by itself; without privileges. */
static void test_orphan_of_anybody(void **state)
{
	struct seen *seen = shared(sizeof(*seen));
	pid_t pid = fork_child();

	(void)state;
	if (pid == 0) {
		pid_t orphan;

		check(geteuid() || (setgid(61234) == 0 && setuid(61234) == 0));
		check(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
		orphan = family_clone_orphan();
		check(orphan >= 0);
		if (orphan == 0)
			tell_when_asked(seen);
		set_step(seen, ASK);
		eventually(step_of(seen) == TOLD);
		check(seen->pid == orphan && seen->ppid != getpid());
		check(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
		check(kill(orphan, SIGKILL) == 0);
		_exit(0);
	}
	assert_exit(pid, 0);
	munmap(seen, sizeof(*seen));
}

/* By the kernel's rules; the caller then has to reap it. */
static void test_orphan_of_a_subreaper(void **state)
{
	struct seen *seen = shared(sizeof(*seen));
	pid_t pid;

	(void)state;
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
	pid = orphan_that_tells(seen);
	eventually(step_of(seen) == TOLD);
	assert_int_equal(seen->ppid, getpid());
	kill(pid, SIGKILL);
	assert_int_equal(WTERMSIG(reap(pid)), SIGKILL);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
	munmap(seen, sizeof(*seen));
}

/*
 * What it is for: the caller makes it, opens something, and is killed; the orphan learns that from
 * a pidfd and finds all of the table as it was.
 */
static void test_orphan_outlives(void **state)
{
	int ends[2], *late = shared(sizeof(*late));
	pid_t pid;
	char byte;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid = fork_child(); /* a table of its own, which it then shares */
	if (pid == 0) {
		int self = (int)syscall(SYS_pidfd_open, getpid(), 0), copy;
		pid_t orphan;

		close(ends[0]);
		orphan = family_clone_orphan();
		check(self >= 0 && orphan >= 0);
		if (orphan == 0) {
			check(readable(self, PATIENCE * 1000));
			check(write(*late, "x", 1) == 1);
			_exit(0);
		}
		copy = fcntl(ends[1], F_DUPFD_CLOEXEC, 50);
		check(copy >= 50);
		*late = copy;
		close(ends[1]);
		kill(getpid(), SIGKILL);
	}
	close(ends[1]);
	assert_int_equal(WTERMSIG(reap(pid)), SIGKILL);
	assert_true(readable(ends[0], PATIENCE * 1000));
	assert_int_equal(read(ends[0], &byte, 1), 1);
	assert_int_equal(read(ends[0], &byte, 1), 0); /* the last member has ended */
	close(ends[0]);
	munmap(late, sizeof(*late));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_table_is_shared),
		TIMED(test_killed),
		TIMED(test_child_is_sane),
		TIMED(test_exec_leaves_the_family),
		TIMED(test_many),
		TIMED(test_no_process_to_be_had),
		TIMED(test_exit),
		TIMED(test_orphan),
		TIMED(test_orphan_of_anybody),
		TIMED(test_orphan_of_a_subreaper),
		TIMED(test_orphan_outlives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
