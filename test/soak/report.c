/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What to tell of a round that failed: ends of logs, the last steps, where everybody stands. */
#include "test/soak/soak.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { MAX_TAIL = 40, MAX_PROCS = 512, MAX_TIDS = 8 };

void report_tail(const char *path, int lines)
{
	static char ring[MAX_TAIL][300];
	FILE *f = fopen(path, "re");
	int nr = 0, i;

	if (!f)
		return;
	while (fgets(ring[nr % lines], sizeof(ring[0]), f))
		nr++;
	fclose(f);
	if (nr)
		printf("    -- end of %s\n", path);
	for (i = nr > lines ? nr - lines : 0; i < nr; i++) {
		ring[i % lines][strcspn(ring[i % lines], "\n")] = 0;
		printf("    %s\n", ring[i % lines]);
	}
}

/* --- steps --- */

static void print_trace(FILE *f, const struct trace *t, unsigned int steps)
{
	unsigned int nr = t->nr, i = nr > steps ? nr - steps : 0;
	const struct step *s;

	fprintf(f,
	        "    -- pid %d, task %d thread %d depth %d: step, time before now (ms), what, "
	        "area:page+n -> area:page\n",
	        t->pid, t->task, t->thread, t->depth);
	for (; i < nr; i++) {
		s = &t->step[i % TRACE_STEPS];
		fprintf(f, "    %6u %10.3f  %-14s %u:%u+%u -> %u:%u\n", i,
		        (double)(soak_now() - s->ns) / 1e6, s->op, s->area, s->from, s->n,
		        s->to_area, s->to_from);
	}
}

void report_traces(const struct shared *shared, const char *why, const char *path)
{
	const char *at = strstr(why, "task ");
	int i, task = -1, thread = -1;
	const struct trace *t;
	FILE *f = fopen(path, "we");

	if (at && sscanf(at, "task %d thread %d", &task, &thread) != 2)
		task = thread = -1;
	for (i = 0; i < TRACES; i++) {
		t = &shared->trace[i];
		if (!t->pid)
			continue;
		if (f)
			print_trace(f, t, TRACE_STEPS);
		if (task < 0 || (t->task == task && t->thread == thread))
			print_trace(stdout, t, task < 0 ? 3 : 10);
	}
	if (f)
		fclose(f);
}

/* --- where everybody stands --- */

/* A file of /proc on one line. */
static const char *peek(const char *dir, const char *name, char *text, size_t size)
{
	char path[512];
	ssize_t n = -1;
	size_t i;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, size - 1);
		close(fd);
	}
	text[n > 0 ? n : 0] = 0;
	for (i = 0; text[i]; i++)
		if (text[i] == '\n')
			text[i] = text[i + 1] ? '|' : 0;
	return text;
}

static void print_thread(const char *dir)
{
	char wchan[64], call[200], stack[1200];

	printf("    tid %s: wchan %s, syscall %s\n", strrchr(dir, '/') + 1,
	       peek(dir, "wchan", wchan, sizeof(wchan)), peek(dir, "syscall", call, sizeof(call)));
	printf("        stack %s\n", peek(dir, "stack", stack, sizeof(stack)));
}

static void print_process(pid_t pid)
{
	char dir[64], task[400], comm[64], stat[300];
	const char *state;
	struct dirent *e;
	int nr = 0;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%d", pid);
	state = strrchr(peek(dir, "stat", stat, sizeof(stat)), ')');
	printf("    -- pid %d %s, state %c\n", pid, peek(dir, "comm", comm, sizeof(comm)),
	       state && state[1] ? state[2] : '?');
	snprintf(dir, sizeof(dir), "/proc/%d/task", pid);
	d = opendir(dir);
	while (d && (e = readdir(d)) && nr < MAX_TIDS)
		if (e->d_name[0] != '.') {
			snprintf(task, sizeof(task), "%s/%s", dir, e->d_name);
			print_thread(task);
			nr++;
		}
	if (d)
		closedir(d);
}

/* Appends the children of all threads of pid. */
static size_t add_children(pid_t pid, pid_t *pids, size_t nr)
{
	char dir[64], path[400], text[4096], *word, *save;
	struct dirent *e;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%d/task", pid);
	d = opendir(dir);
	while (d && (e = readdir(d))) {
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		peek(path, "children", text, sizeof(text));
		for (word = strtok_r(text, " ", &save); word && nr < MAX_PROCS;
		     word = strtok_r(NULL, " ", &save))
			pids[nr++] = (pid_t)strtol(word, NULL, 10);
	}
	if (d)
		closedir(d);
	return nr;
}

void report_stacks(void)
{
	static pid_t pids[MAX_PROCS];
	size_t nr = add_children(getpid(), pids, 0), i;

	for (i = 0; i < nr; i++) {
		print_process(pids[i]);
		nr = add_children(pids[i], pids, nr);
	}
}
