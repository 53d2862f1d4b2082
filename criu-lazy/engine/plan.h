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

/* filters: texts for source_filter(), put before each image, the last one outermost. */
int plan_read(int dirfd, const char *const *filters, size_t nr_filters, struct plan *ret,
              struct err *err);

void plan_release(struct plan *plan);

/* The process that says it is pid; NULL: the image has none, or it has reported already. */
struct plan_process *plan_claim(struct plan *plan, uint32_t pid);

#endif
