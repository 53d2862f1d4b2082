/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * restorer.h - what the parts of the torture test's restorer share.
 *
 *	restorer.c	the runner: starts the helper, waits for everybody, says what became of them
 *	restore.c	the restorer: makes the tasks, lets them go or kills them
 *	task.c		a task and its children: change memory, look at it
 */
#ifndef TEST_TORTURE_RESTORER_H
#define TEST_TORTURE_RESTORER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

enum { MAX_PAGES = 4096, MAX_FATES = 512, FIRST_PID = 1000 };

enum state { UNBORN, LIVES, RIGHT, WRONG, ZERO, KILLED, BUS, STUCK, DIED };

struct fate {
	_Atomic int state;
	_Atomic int pid;
	_Atomic int page; /* that was wrong */
};

/* Of all processes. */
struct shared {
	_Atomic int nr;
	_Atomic int finished; /* the last word was sent */
	struct fate fates[MAX_FATES];
};

struct restorer_options {
	int tasks, pages, forks, linger_us, limit_ms, nofile;
	const char *task_cgroup, *helper_cgroup;
	rlim_t address_space, data;
};

/* restorer.c */
extern struct shared *shared;
extern struct restorer_options options;

int ms_left(void);
void die(const char *what);
void enter_cgroup(const char *path); /* NULL: none */

/* Is there a child but this one (-1: none is left out)?  They get the signal, if it is not 0. */
bool signal_children(int but, int number);

struct fate *new_fate(void); /* NULL: too many */
struct fate *fate_of(int pid); /* NULL: nobody's */
void set_end(struct fate *fate, int status); /* of one that lived: as waitpid() told */

/* restore.c: the whole restore, at the helper's socket; ends the process. */
void restore(const char *path);

/*
 * task.c: the task with this index reports over sock, says so on ready, waits for go, and lives;
 * ends the process.
 */
void live(int index, struct fate *fate, int sock, int ready, int go);

#endif
