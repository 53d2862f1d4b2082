/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pstree.h - pstree.img: the processes of a dump, zombies included.
 *
 * All ids are those of the dumped pid namespace, as in file names and on the lazy-pages socket.
 * Tasks are in file order: a parent stands before its children, the first task is the root
 * (ppid 0).
 */
#ifndef CRIU_LAZY_IMAGES_PSTREE_H
#define CRIU_LAZY_IMAGES_PSTREE_H

#include <stddef.h>
#include <stdint.h>

struct err;

struct pstree_task {
	uint32_t pid, ppid, pgid, sid;
	uint32_t nr_threads;
	uint32_t *threads; /* the leader first; a zombie's only element is arbitrary */
};

/* Zero-initialise; owned by the caller, pstree_release() frees what is inside. */
struct pstree {
	struct pstree_task *tasks;
	size_t nr;
	size_t *by_pid; /* indices into tasks, by rising pid; private to pstree_find() */
};

/*
 * Read dirfd/pstree.img.  Refused: no file (-ENOENT), no task, a first task that is not the root,
 * pid 0, a pid twice, a ppid that no earlier task has.  *ret is written only on success.
 */
int pstree_read(int dirfd, struct pstree *ret, struct err *err);

/* The same from a file of another name. */
int pstree_read_file(int dirfd, const char *name, struct pstree *ret, struct err *err);

void pstree_release(struct pstree *tree);

/* The task with this pid or NULL.  O(log n). */
const struct pstree_task *pstree_find(const struct pstree *tree, uint32_t pid);

#endif
