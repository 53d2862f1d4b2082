/* SPDX-License-Identifier: GPL-2.0-or-later */
/* show-dir.c - an image directory in a few lines: the process tree and how its memory stands. */
#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/cmd/show-image.h"
#include "criu-lazy/cmd/show-out.h"
#include "images/inventory.h"
#include "images/mm.h"
#include "images/pagemap.h"
#include "images/pstree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Pages of one process or of all. */
struct sums {
	uint64_t present; /* content is in the directory */
	uint64_t lazy; /* may come lazily; in present too, or in absent */
	uint64_t absent; /* lazy, and the content is elsewhere */
	uint64_t parent; /* content is in the parent images */
};

static void add_pagemap(struct sums *sums, const struct pagemap *map)
{
	for (size_t i = 0; i < map->nr; i++) {
		const struct pagemap_run *run = &map->runs[i];

		if (run->flags & PE_PRESENT)
			sums->present += run->nr_pages;
		else if (run->flags & PE_PARENT)
			sums->parent += run->nr_pages;
		else
			sums->absent += run->nr_pages;
		if (run->flags & PE_LAZY)
			sums->lazy += run->nr_pages;
	}
}

static void put_sums(struct out *out, const struct sums *sums)
{
	out_pages(out, "lazy_pages", sums->lazy);
	out_pages(out, "present_pages", sums->present);
	out_pages(out, "parent_pages", sums->parent);
	out_pages(out, "absent_pages", sums->absent);
}

/* A zombie has neither mm nor pagemap; one of the two without the other is an error. */
static int show_task(struct out *out, int dirfd, const struct pstree_task *task, unsigned int depth,
                     struct sums *total, struct err *err)
{
	struct pagemap map = {0};
	struct sums sums = {0};
	struct mm mm = {0};
	struct err missing = {0};
	bool has_mm;
	int r;

	r = mm_read(dirfd, task->pid, &mm, &missing);
	has_mm = r == 0;
	if (r < 0 && r != -ENOENT) {
		*err = missing;
		return r;
	}
	r = pagemap_read(dirfd, task->pid, &map, has_mm ? err : NULL);
	if (!has_mm && r != -ENOENT) {
		pagemap_release(&map);
		*err = missing;
		return -ENOENT;
	}
	if (has_mm && r < 0) {
		mm_release(&mm);
		return r;
	}
	out_row(out, depth);
	out_u64(out, "pid", task->pid);
	out_u64(out, "ppid", task->ppid);
	out_u64(out, "depth", depth);
	out_u64(out, "threads", task->nr_threads);
	if (has_mm) {
		add_pagemap(&sums, &map);
		out_u64(out, "vmas", mm.nr);
		put_sums(out, &sums);
	} else {
		out_bool(out, "zombie", true);
	}
	out_end(out);
	add_pagemap(total, &map);
	mm_release(&mm);
	pagemap_release(&map);
	return 0;
}

static int show_tasks(struct out *out, int dirfd, struct err *err)
{
	struct pstree tree = {0};
	struct sums total = {0};
	cleanup_free unsigned int *depths = NULL; /* steps to the root */
	int r = pstree_read(dirfd, &tree, err);

	if (r < 0)
		return r;
	depths = calloc(tree.nr, sizeof(*depths));
	if (!depths)
		r = err_set(err, ENOMEM, "%zu processes", tree.nr);
	out_u64(out, "nr_processes", tree.nr);
	out_list(out, "processes");
	for (size_t i = 0; i < tree.nr && r == 0; i++) {
		const struct pstree_task *task = &tree.tasks[i];

		/* Parents come first in the file: pstree_read() made sure. */
		if (task->ppid)
			depths[i] = depths[pstree_find(&tree, task->ppid) - tree.tasks] + 1;
		r = show_task(out, dirfd, task, depths[i], &total, err);
	}
	out_end(out);
	out_object(out, "total");
	put_sums(out, &total);
	out_end(out);
	pstree_release(&tree);
	return r;
}

int show_dir(struct out *out, const char *path, struct err *err)
{
	cleanup_close int dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char parent[PATH_MAX];
	struct inventory inv;
	ssize_t len;
	int r;

	if (dirfd < 0)
		return err_set(err, errno, "%s", path);
	r = inventory_read(dirfd, &inv, err);
	if (r < 0)
		return err_wrap(err, "%s", path);
	out_object(out, NULL);
	out_str(out, "directory", path);
	out_u64(out, "img_version", inv.img_version);
	if (inv.has_unknown)
		out_u64(out, "nr_unknown_inventory_fields", inv.nr_unknown);
	if (inv.pre_dump_mode)
		out_bool(out, "pre_dump", true);
	len = readlinkat(dirfd, "parent", parent, sizeof(parent) - 1);
	if (len >= 0) {
		parent[len] = '\0';
		out_str(out, "parent", parent);
	}
	r = show_tasks(out, dirfd, err);
	out_end(out);
	return r < 0 ? err_wrap(err, "%s", path) : 0;
}
