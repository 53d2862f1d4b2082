/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pstree.c - decode and judge pstree.img.
 *
 * Records are taken over in file order; then an index by pid finds what is twice and whether each
 * parent stands earlier in the file.
 */
#include "images/pstree.h"

#include "criu-lazy/base/err.h"
#include "images/image.h"
#include "images/pstree.pb-c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int add_task(struct pstree *tree, size_t *room, const PstreeEntry *msg,
                    const struct image *img, struct err *err)
{
	struct pstree_task *task;

	if (msg->pid == 0 || msg->pid > INT32_MAX)
		return image_bad(img, err, "%u is not a pid", msg->pid);
	if (msg->n_threads > INT32_MAX)
		return image_bad(img, err, "%zu threads", msg->n_threads);
	if (tree->nr == *room) {
		size_t more = *room ? *room * 2 : 64;
		struct pstree_task *grown = reallocarray(tree->tasks, more, sizeof(*grown));

		if (!grown)
			return err_set(err, ENOMEM, "%s: %zu tasks", img->name, more);
		tree->tasks = grown;
		*room = more;
	}
	task = &tree->tasks[tree->nr];
	*task = (struct pstree_task){
		.pid = msg->pid, .ppid = msg->ppid, .pgid = msg->pgid, .sid = msg->sid};
	if (msg->n_threads) {
		task->threads = calloc(msg->n_threads, sizeof(*task->threads));
		if (!task->threads)
			return err_set(err, ENOMEM, "%s: %zu threads", img->name, msg->n_threads);
		memcpy(task->threads, msg->threads, msg->n_threads * sizeof(*task->threads));
		task->nr_threads = (uint32_t)msg->n_threads;
	}
	tree->nr++;
	return 0;
}

static int take_tasks(struct image *img, struct pstree *tree, struct err *err)
{
	ProtobufCMessage *msg;
	size_t room = 0;
	int r;

	while ((r = image_next_message(img, &pstree_entry__descriptor, &msg, err)) > 0) {
		r = add_task(tree, &room, (const PstreeEntry *)msg, img, err);
		protobuf_c_message_free_unpacked(msg, NULL);
		if (r < 0)
			return r;
	}
	if (r == 0 && tree->nr == 0)
		return image_bad(img, err, "has no process");
	return r;
}

/* By pid; the same pid twice: by place in the file. */
static int compare_pids(const void *va, const void *vb, void *arg)
{
	const struct pstree_task *tasks = arg;
	size_t a = *(const size_t *)va, b = *(const size_t *)vb;

	if (tasks[a].pid != tasks[b].pid)
		return tasks[a].pid < tasks[b].pid ? -1 : 1;
	return a < b ? -1 : a > b;
}

static int build_index(const struct image *img, struct pstree *tree, struct err *err)
{
	tree->by_pid = calloc(tree->nr, sizeof(*tree->by_pid));
	if (!tree->by_pid)
		return err_set(err, ENOMEM, "%s: %zu tasks", img->name, tree->nr);
	for (size_t i = 0; i < tree->nr; i++)
		tree->by_pid[i] = i;
	qsort_r(tree->by_pid, tree->nr, sizeof(*tree->by_pid), compare_pids, tree->tasks);
	for (size_t i = 1; i < tree->nr; i++) {
		size_t first = tree->by_pid[i - 1], second = tree->by_pid[i];

		if (tree->tasks[first].pid == tree->tasks[second].pid)
			return err_set(err, EPROTO,
			               "%s: record %zu: pid %u again, as in record %zu", img->name,
			               second + 1, tree->tasks[second].pid, first + 1);
	}
	return 0;
}

static int check_parents(const struct image *img, const struct pstree *tree, struct err *err)
{
	if (tree->tasks[0].ppid != 0)
		return err_set(err, EPROTO,
		               "%s: record 1: process %u has the parent %u, not the root",
		               img->name, tree->tasks[0].pid, tree->tasks[0].ppid);
	for (size_t i = 1; i < tree->nr; i++) {
		const struct pstree_task *task = &tree->tasks[i];
		const struct pstree_task *parent;

		if (task->ppid == 0)
			continue;
		parent = pstree_find(tree, task->ppid);
		if (!parent || parent >= task)
			return err_set(err, EPROTO,
			               "%s: record %zu: process %u has the parent %u, which no "
			               "earlier record is about",
			               img->name, i + 1, task->pid, task->ppid);
	}
	return 0;
}

int pstree_read_file(int dirfd, const char *name, struct pstree *ret, struct err *err)
{
	struct pstree tree = {0};
	struct image img;
	int r;

	r = image_open(dirfd, name, IMAGE_PSTREE, &img, err);
	if (r < 0)
		return r;
	r = take_tasks(&img, &tree, err);
	if (r == 0)
		r = build_index(&img, &tree, err);
	if (r == 0)
		r = check_parents(&img, &tree, err);
	image_close(&img);
	if (r < 0)
		pstree_release(&tree);
	else
		*ret = tree;
	return r;
}

int pstree_read(int dirfd, struct pstree *ret, struct err *err)
{
	return pstree_read_file(dirfd, "pstree.img", ret, err);
}

void pstree_release(struct pstree *tree)
{
	for (size_t i = 0; i < tree->nr; i++)
		free(tree->tasks[i].threads);
	free(tree->tasks);
	free(tree->by_pid);
	*tree = (struct pstree){0};
}

const struct pstree_task *pstree_find(const struct pstree *tree, uint32_t pid)
{
	size_t low = 0, high = tree->nr;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct pstree_task *task = &tree->tasks[tree->by_pid[mid]];

		if (task->pid == pid)
			return task;
		if (task->pid < pid)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}
