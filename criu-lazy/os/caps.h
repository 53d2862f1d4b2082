/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * caps.h - what a process keeps of root's powers.
 *
 *	static const cap_value_t needed[] = {CAP_KILL, CAP_SYS_PTRACE};
 *	char missing[128];
 *
 *	r = caps_keep(needed, 2, missing, sizeof(missing), err);
 *	if (r == 0 && missing[0])
 *		log_warn("without %s ...", missing);
 *
 * Capabilities belong to threads: call it while the process has only one, threads (and io_uring's
 * workers) that start later inherit the result.
 */
#ifndef CRIU_LAZY_OS_CAPS_H
#define CRIU_LAZY_OS_CAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/capability.h>

struct err;

/*
 * Give up every capability but the nr ones of keep, for good: those of keep that are permitted
 * become permitted and effective, all others leave both sets; the inheritable and the ambient set
 * are emptied; with CAP_SETPCAP the bounding set shrinks to keep too (without it that set stays,
 * which matters only if the process executes a set-user-ID program).
 *
 * A capability of keep that the process does not have is not an error: ret_missing (may be NULL,
 * size 0) names those, separated by ", ", or is empty; cut if it does not fit.
 */
int caps_keep(const cap_value_t *keep, size_t nr, char *ret_missing, size_t size, struct err *err);

/* Is the capability effective now?  False also for one that this kernel does not know. */
bool caps_have(cap_value_t cap);

#endif
