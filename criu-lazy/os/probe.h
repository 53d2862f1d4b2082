/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * probe.h - what this machine offers of the kernel features that lazy restore rests on.
 *
 *	struct probe_result results[PROBE_MAX];
 *	size_t nr = probe_run(results);
 *
 *	for (size_t i = 0; i < nr; i++)
 *		... results[i].name, .verdict, .detail, .remedy ...
 *
 * Each probe tries the thing itself where that has no lasting effect (a page of memory of its own
 * is registered and filled, a ring is set up and used) and reads versions only to explain the
 * outcome. It answers for the caller as it is: its credentials, its seccomp filter, its mount
 * namespace. Takes a few milliseconds, leaves nothing open, never blocks for longer than 0.2 s.
 */
#ifndef CRIU_LAZY_OS_PROBE_H
#define CRIU_LAZY_OS_PROBE_H

#include <stdbool.h>
#include <stddef.h>

enum { PROBE_MAX = 32, PROBE_TEXT_SIZE = 256 };

enum probe_verdict {
	PROBE_OK,
	PROBE_LIMITED, /* works, but slower or with less than all; detail says what is lost */
	PROBE_MISSING,
};

struct probe_result {
	const char *name; /* lower case, dashes; static */
	bool required; /* the helper cannot do its work when this is PROBE_MISSING */
	enum probe_verdict verdict;
	char detail[PROBE_TEXT_SIZE]; /* what was found, one line */
	char remedy[PROBE_TEXT_SIZE]; /* what to do about it; empty with PROBE_OK */
};

/* Fill results, in a fixed order, and return their number (at most PROBE_MAX). */
size_t probe_run(struct probe_result results[PROBE_MAX]);

/* Run the one probe of that name; false: there is none. */
bool probe_one(const char *name, struct probe_result *ret_result);

/* "ok", "limited", "missing" */
const char *probe_verdict_name(enum probe_verdict verdict);

#endif
