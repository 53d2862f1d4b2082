/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * family.h - processes that share one table of descriptors and nothing else.
 *
 *	pid = family_clone();
 *	if (pid < 0)
 *		return err_set(err, -pid, "clone");
 *	if (pid == 0)
 *		_exit(work());
 *	... the parent goes on, and reaps it as any other child ...
 *
 * What sharing the table means, for every member:
 *
 * - A number names the same file for all.  What one opens all have; what one closes is closed for
 *   all, so nobody may close "its copy" of anything, as one does after a fork().
 * - The table lives as long as one of its members, however the others end: nothing is closed, no
 *   end of file is seen by a peer and no userfaultfd is given up before the last one is gone.  So a
 *   member cannot learn of another's death by a pipe; that is what waitpid(2), pidfds and
 *   PR_SET_PDEATHSIG are for.
 * - O_CLOEXEC is irrelevant here, it acts in exec(2): that gives the caller a table of its own
 *   first, and leaves the family's as it is.  What a member fork()s has a copy of the table, and
 *   holds all of it open.
 * - fcntl(2) locks belong to the table, so members do not lock each other out.
 * - Memory, signal handlers, working directory and credentials are each member's own, copied as
 *   fork() copies them.
 *
 * Call it only while the process has one thread: another's locks (malloc's, stdio's) would stay
 * taken in the child for ever.  pthread_atfork() handlers do not run.  Apart from that the child
 * is what _Fork() would make and has all of glibc; buffered stdio output is in both memories, so
 * flush before, or end the child by _exit().  Where the kernel lacks PR_GET_TID_ADDRESS
 * (CONFIG_CHECKPOINT_RESTORE), the child's pthread_self() keeps its parent's thread id inside, and
 * robust and priority-inheriting mutexes, pthread_setaffinity_np() and the like are not to be used
 * in it; gettid(), raise(), abort() and pthread_create() are fine even then.
 */
#ifndef CRIU_LAZY_OS_FAMILY_H
#define CRIU_LAZY_OS_FAMILY_H

#include <sys/types.h>

/* As fork(), but with a shared table: 0 in the child, its pid in the parent, or negative errno. */
pid_t family_clone(void);

/*
 * A member that is nobody's child: 0 in it, its pid in the caller, or negative errno (then there is
 * none).  It is in a session of its own, without a terminal and unable to get one (the session's
 * leader has ended), and has every signal blocked that can be, glibc's internal two included; it is
 * SIGKILL and SIGSTOP that remain.
 *
 * When the caller has its pid, its parent is init, or the nearest ancestor of the caller that is a
 * subreaper (PR_SET_CHILD_SUBREAPER), which reaps it in the end.  If the caller itself is one, or
 * is the init of a pid namespace, then it is the caller's child after all, by the kernel's rules.
 *
 * The caller gets no SIGCHLD by this, and may have that ignored; its signal mask is as before.
 */
pid_t family_clone_orphan(void);

#endif
