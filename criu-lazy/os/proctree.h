/* SPDX-License-Identifier: GPL-2.0-or-later */
/* proctree.h - a process with all that came from it. */
#ifndef CRIU_LAZY_OS_PROCTREE_H
#define CRIU_LAZY_OS_PROCTREE_H

struct err;

/*
 * SIGKILL to the process of this pidfd and to all its descendants.  They are stopped first, and
 * looked for until no new one appears, so that none escapes by forking; one whose parent has ended
 * before is nobody's descendant any more and is not found.  A process that has exited is no error.
 * Needs /proc with task/TID/children (CONFIG_PROC_CHILDREN); without it only the process itself is
 * killed, and the error is -ENOENT.
 */
int proctree_kill(int pidfd, struct err *err);

#endif
