/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plan.h - what an image directory says must be brought, read and judged before anybody depends on
 * it: a wrong or broken directory is an error while no process exists yet.
 */
#ifndef CRIU_LAZY_ENGINE_PLAN_H
#define CRIU_LAZY_ENGINE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct source;
struct tracker;

struct plan_process {
	uint32_t pid;
	bool has_memory; /* false: the image has no memory for it; it must be a zombie */
	bool claimed; /* it has reported on the socket */
	struct tracker *tracker; /* NULL once taken */
	struct source *source;
	uint64_t nr_lazy; /* pages */
	bool expected; /* its source has been told: pool_expect() */
};

struct plan {
	struct plan_process *processes; /* as in pstree.img */
	size_t nr;
	uint64_t nr_lazy;
};

struct plan_options {
	const char *const *filters; /* for source_filter(); the last one is the outermost */
	size_t nr_filters;
	/* Go on when inventory.img has fields that this version does not know.  They may say that
	 * pages are not stored as they are (CRIU 4.3 compresses and encrypts). */
	bool trust_newer;
};

int plan_read(int dirfd, const struct plan_options *options, struct plan *ret, struct err *err);

void plan_release(struct plan *plan);

/* The process that says it is pid; NULL: the image has none, or it has reported already. */
struct plan_process *plan_claim(struct plan *plan, uint32_t pid);

#endif
