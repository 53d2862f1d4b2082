/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * probe-parts.h - the single probes, between probe.c, which has the table of them, and the files
 * that hold them.  Nobody else includes it.
 *
 * A probe is given a result whose name and required are set, whose verdict is PROBE_OK and whose
 * texts are empty; it ends with one of the three calls below.
 */
#ifndef CRIU_LAZY_OS_PROBE_PARTS_H
#define CRIU_LAZY_OS_PROBE_PARTS_H

#include "criu-lazy/os/probe.h"

/* The text is the detail. */
void probe_ok(struct probe_result *result, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* The text is the detail, a newline, and the remedy. */
void probe_limited(struct probe_result *result, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void probe_missing(struct probe_result *result, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* What may be behind an EPERM or ENOSYS: a seccomp filter is on this process. */
bool probe_under_seccomp(void);

/* The first number in a /proc file; -1 if there is no such file or no number. */
long probe_read_number(const char *path);

/* probe-uffd.c */
void probe_uffd(struct probe_result *result);
void probe_uffd_noncoop(struct probe_result *result);
void probe_uffd_range(struct probe_result *result);
void probe_uffd_poison(struct probe_result *result);
void probe_uffd_move(struct probe_result *result);
void probe_uffd_wp_async(struct probe_result *result);
void probe_uffd_device(struct probe_result *result);
void probe_uffd_unprivileged(struct probe_result *result);

/* probe-uring.c */
void probe_uring(struct probe_result *result);
void probe_uring_ops(struct probe_result *result);
void probe_uring_multishot(struct probe_result *result);

#endif
