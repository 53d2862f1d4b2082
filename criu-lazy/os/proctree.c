/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/os/proctree.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct member {
	pid_t pid;
	int pidfd;
};

struct tree {
	struct member *member; /* the first one's pidfd is the caller's */
	size_t nr, room;
};

static int send_signal(int pidfd, int signal)
{
	return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

/* A number behind a word at the start of a line; -1: there is none. */
static long read_field(const char *path, const char *word)
{
	cleanup_fclose FILE *file = fopen(path, "re");
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, word, strlen(word)))
			return strtol(line + strlen(word), NULL, 10);
	return -1;
}

static bool knows(const struct tree *tree, pid_t pid)
{
	size_t i;

	for (i = 0; i < tree->nr; i++)
		if (tree->member[i].pid == pid)
			return true;
	return false;
}

static int add(struct tree *tree, pid_t pid, int pidfd)
{
	if (tree->nr == tree->room) {
		size_t room = tree->room ? 2 * tree->room : 16;
		struct member *grown = reallocarray(tree->member, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		tree->member = grown;
		tree->room = room;
	}
	tree->member[tree->nr++] = (struct member){.pid = pid, .pidfd = pidfd};
	return 0;
}

/* A pid that was read: is it, now that a pidfd holds it, still a child of that one? */
static int add_child(struct tree *tree, pid_t parent, pid_t pid)
{
	cleanup_close int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (pidfd < 0 || read_field(path, "PPid:") != parent)
		return 0;
	send_signal(pidfd, SIGSTOP);
	r = add(tree, pid, pidfd);
	if (r == 0)
		steal_fd(&pidfd);
	return r;
}

static int add_children_of_thread(struct tree *tree, pid_t parent, const char *tid)
{
	cleanup_fclose FILE *file = NULL;
	char path[96];
	int pid, r = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%.20s/children", parent, tid);
	file = fopen(path, "re");
	if (!file) /* the thread may have ended meanwhile */
		return access("/proc/thread-self/children", F_OK) < 0 ? -ENOENT : 0;
	while (r == 0 && fscanf(file, "%d", &pid) == 1)
		if (!knows(tree, pid))
			r = add_child(tree, parent, pid);
	return r;
}

static int add_children(struct tree *tree, pid_t parent)
{
	const struct dirent *entry;
	char path[64];
	DIR *dir;
	int r = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", parent);
	dir = opendir(path);
	while (dir && r == 0 && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			r = add_children_of_thread(tree, parent, entry->d_name);
	if (dir)
		closedir(dir);
	return r;
}

int proctree_kill(int pidfd, struct err *err)
{
	struct tree tree = {0};
	size_t before, i;
	char path[64];
	long root;
	int r = 0;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	root = read_field(path, "Pid:");
	if (root <= 0) /* exited, or of another namespace */
		return send_signal(pidfd, SIGKILL) < 0 && errno != ESRCH
		               ? err_set(err, errno, "killing the process of pidfd %d", pidfd)
		               : 0;
	send_signal(pidfd, SIGSTOP);
	r = add(&tree, (pid_t)root, pidfd);
	do {
		before = tree.nr;
		for (i = 0; i < tree.nr && r == 0; i++)
			r = add_children(&tree, tree.member[i].pid);
	} while (r == 0 && tree.nr > before);
	send_signal(pidfd, SIGKILL);
	for (i = 1; i < tree.nr; i++) {
		send_signal(tree.member[i].pidfd, SIGKILL);
		close(tree.member[i].pidfd);
	}
	free(tree.member);
	return r < 0 ? err_set(err, -r, "descendants of process %ld", root) : 0;
}
