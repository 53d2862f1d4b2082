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
struct remote;
struct source;
struct tracker;

struct plan_process {
	uint32_t pid;
	bool has_memory; /* false: the image has no memory for it; it must be a zombie */
	bool claimed; /* it has reported on the socket */
	struct tracker *tracker; /* NULL once taken */
	struct source *source;
	uint64_t nr_lazy; /* pages */
	bool in_parent; /* some of them have their content in parent images only */
	bool expected; /* its source has been told: pool_expect() */
};

struct plan {
	struct plan_process *processes; /* as in pstree.img */
	size_t nr;
	uint64_t nr_lazy;
	bool old_counts; /* the images are of CRIU <= 4.1.1 */
	/* The first lazy page with content of its own; first_pid 0: there is none. */
	uint32_t first_pid;
	uint64_t first_vaddr;
};

struct plan_options {
	const char *const *filters; /* for source_filter(); the last one is the outermost */
	size_t nr_filters;
	/* Go on when inventory.img has fields that this version does not know.  They may say that
	 * pages are not stored as they are (CRIU 4.3 compresses and encrypts). */
	bool trust_newer;
	/* Content comes from a page server: it need not be here, and sources are still to be given
	 * by plan_attach(). */
	bool remote;
};

int plan_read(int dirfd, const struct plan_options *options, struct plan *ret, struct err *err);

/* remote: for plans that were read for it; filters of the options go in front. */
int plan_attach(struct plan *plan, struct remote *remote, const struct plan_options *options,
                struct err *err);

void plan_release(struct plan *plan);

/* The process that says it is pid; NULL: the image has none, or it has reported already. */
struct plan_process *plan_claim(struct plan *plan, uint32_t pid);

#endif
