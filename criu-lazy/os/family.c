/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/os/family.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * clone(2) without a new stack returns twice, like fork().  glibc's own fork tells the kernel where
 * to note the child's thread id; the kernel knows that place from the start of the thread.
 *
 * The flags are those of the child's exit signal and ret_pid, where the kernel writes the child's
 * pid in the parent's memory before the child runs (NULL: nowhere).
 */
static pid_t clone_member(int exit_signal, pid_t *ret_pid)
{
	unsigned long flags = CLONE_FILES | (unsigned long)exit_signal;
	int *tid_address = NULL;
	long pid;

	if (prctl(PR_GET_TID_ADDRESS, &tid_address, 0, 0, 0) < 0)
		tid_address = NULL;
	if (tid_address)
		flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
	if (ret_pid)
		flags |= CLONE_PARENT_SETTID;
#if defined(__x86_64__)
	pid = syscall(SYS_clone, flags, NULL, ret_pid, tid_address, 0UL);
#elif defined(__aarch64__) || defined(__powerpc64__) || defined(__arm__) || defined(__mips__)
	pid = syscall(SYS_clone, flags, NULL, ret_pid, 0UL, tid_address);
#else
#error "in which order does clone(2) take its arguments here?"
#endif
	return pid < 0 ? -errno : (pid_t)pid;
}

pid_t family_clone(void)
{
	return clone_member(SIGCHLD, NULL);
}

/* --- an orphan -------------------------------------------------------------------------------- */

/* Between the caller and the process in the middle; a pipe would lie in the shared table. */
struct note {
	pid_t orphan;
	int code; /* positive errno: why there is none */
};

/* glibc's sigprocmask() leaves out two signals of its own; the default action of both is death. */
static void set_signal_mask(const uint64_t *mask, uint64_t *ret_old)
{
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, mask, ret_old, sizeof(*mask));
}

/* In the middle.  Returns in the orphan only. */
static void leave_orphan(struct note *note)
{
	pid_t pid;

	if (setsid() < 0) {
		note->code = errno;
		_exit(1);
	}
	pid = clone_member(SIGCHLD, &note->orphan);
	if (pid == 0)
		return;
	if (pid < 0)
		note->code = -pid;
	_exit(pid < 0);
}

pid_t family_clone_orphan(void)
{
	struct note *note = mmap(NULL, sizeof(*note), PROT_READ | PROT_WRITE,
	                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const uint64_t all = UINT64_MAX;
	pid_t middle, pid;
	uint64_t old;

	if (note == MAP_FAILED)
		return -errno;
	set_signal_mask(&all, &old);
	/* Without an exit signal it is invisible to SIGCHLD and to a wait for any child, and is not
	 * reaped behind our back where SIGCHLD is ignored. */
	middle = clone_member(0, NULL);
	if (middle == 0) {
		leave_orphan(note);
		munmap(note, sizeof(*note));
		return 0;
	}
	pid = middle;
	if (middle > 0) {
		/* No signal interrupts it: all are blocked. */
		waitpid(middle, NULL, __WALL);
		pid = note->orphan > 0 ? note->orphan : note->code ? -note->code : -ECHILD;
	}
	set_signal_mask(&old, NULL);
	munmap(note, sizeof(*note));
	return pid;
}
