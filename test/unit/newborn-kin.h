/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * newborn-kin.h - a program (race-stage.h) with a child that is held, and a child of that.
 *
 * A child is held while its parent may have something to tell.  How long that is belongs to the
 * scheduler, so here the linker puts a function before uffd_quiet() (--wrap, see the Makefile): as
 * long as the test says so, the kernel says that the parent is changing.
 *
 * A child, and its child, look at all lazy memory, and at the places behind it, and end with the
 * number of the first page that is wrong.
 */
#ifndef TEST_UNIT_NEWBORN_KIN_H
#define TEST_UNIT_NEWBORN_KIN_H

#include "test/unit/race-stage.h"

#include <sched.h>

enum { PLACES = 2 * PAGES, VICTIM = 8, VICTIMS = 4, THERE = 40, BEHIND = PAGES + 8 };

enum { FORKER, MOVER, REAPER, JUDGE };

/* In memory that all share. */
struct kin {
	atomic_bool go; /* the child may begin */
	atomic_bool may_look;
	atomic_int child, grandchild;
	atomic_int mover; /* the child's other thread */
	atomic_bool may_move, has_moved; /* the other thread */
	atomic_bool has_forked; /* the child's fork() has returned in it */
	atomic_int child_wrong, grandchild_wrong; /* 0: has not looked, 1: nothing, else page + 2 */
	bool child_exits, child_moves, child_moves_on, child_has_threads; /* what the child does */
	bool grandchild_tells;
	atomic_int hold_fd; /* the kernel says that it is changing; 0: as it is */
	int16_t parent[PLACES], of_child[PLACES], of_grandchild[PLACES];
};

static struct kin *kin;

enum uffd_outcome __real_uffd_quiet(int fd);
enum uffd_outcome __wrap_uffd_quiet(int fd);

enum uffd_outcome __wrap_uffd_quiet(int fd)
{
	enum uffd_outcome outcome = __real_uffd_quiet(fd);

	return kin && fd == atomic_load(&kin->hold_fd) && outcome == UFFD_DONE ? UFFD_CHANGING
	                                                                       : outcome;
}

static inline void hold(struct stage *s)
{
	atomic_store(&kin->hold_fd, s->p->uffd);
}

static inline void release(void)
{
	atomic_store(&kin->hold_fd, 0);
}

/* --- in the program --------------------------------------------------------------------------- */

static inline uint8_t *place(const struct lane *lane, size_t nr)
{
	return lane->program->mem + nr * PAGE_SIZE;
}

/* 1, or the first page that is wrong, + 2. */
static inline int look(const struct lane *lane, const int16_t *expected)
{
	struct lane own = *lane;

	while (!atomic_load(&kin->may_look))
		usleep(100);
	if (pipe(own.pipe) < 0) /* the others go on with theirs */
		return -1;
	for (int i = 0; i < PLACES; i++)
		if (!page_is(&own, (uint64_t)(uintptr_t)place(&own, (size_t)i), expected[i]))
			return i + 2;
	return 1;
}

static inline void be_grandchild(const struct lane *lane)
{
	prctl(PR_SET_PDEATHSIG, 0); /* its parent may go */
	alarm(2 * PATIENCE);
	if (kin->grandchild_tells)
		madvise(place(lane, 21), PAGE_SIZE, MADV_DONTNEED);
	atomic_store(&kin->grandchild_wrong, look(lane, kin->of_grandchild));
	_exit(0);
}

static inline int move(void *arg)
{
	const struct lane *lane = arg;

	mremap(place(lane, VICTIM), VICTIMS * PAGE_SIZE, VICTIMS * PAGE_SIZE,
	       MREMAP_MAYMOVE | MREMAP_FIXED, place(lane, THERE));
	atomic_store(&kin->has_moved, true);
	return 0;
}

/* As a thread as far as memory is concerned; after _Fork() in one of several there may be none. */
static inline void begin_to_move(const struct lane *lane)
{
	static _Alignas(16) char stack[64 << 10];

	while (!atomic_load(&kin->may_move))
		usleep(100);
	atomic_store(&kin->mover, clone(move, stack + sizeof(stack), CLONE_VM | SIGCHLD,
	                                (void *)(uintptr_t)lane));
	while (!atomic_load(&kin->go))
		;
}

static inline void be_the_child(const struct lane *lane)
{
	pid_t pid;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (kin->child_has_threads)
		begin_to_move(lane);
	while (!atomic_load(&kin->go))
		usleep(100);
	if (kin->child_moves) {
		madvise(place(lane, 20), PAGE_SIZE, MADV_DONTNEED);
		munmap(place(lane, 22), PAGE_SIZE);
		mremap(place(lane, 24), PAGE_SIZE, PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
		       place(lane, BEHIND + VICTIMS));
	}
	if (kin->child_moves_on)
		mremap(place(lane, THERE), VICTIMS * PAGE_SIZE, VICTIMS * PAGE_SIZE,
		       MREMAP_MAYMOVE | MREMAP_FIXED, place(lane, BEHIND));
	pid = _Fork();
	if (pid == 0)
		be_grandchild(lane);
	atomic_store(&kin->grandchild, pid);
	atomic_store(&kin->has_forked, true);
	if (kin->child_exits)
		_exit(0);
	if (kin->child_moves)
		madvise(place(lane, 21), PAGE_SIZE, MADV_DONTNEED);
	atomic_store(&kin->child_wrong, look(lane, kin->of_child));
	waitpid(pid, NULL, 0);
	_exit(0);
}

static inline int have_child(struct lane *lane)
{
	pid_t pid = _Fork();

	if (pid == 0)
		be_the_child(lane);
	atomic_store(&kin->child, pid);
	return pid;
}

static inline int look_at_parent(struct lane *lane)
{
	return look(lane, kin->parent);
}

/* --- in the test ------------------------------------------------------------------------------ */

static inline void everywhere(int16_t *expected)
{
	for (int i = 0; i < PLACES; i++)
		expected[i] = i < PAGES ? content_of((size_t)i) : NOT_MAPPED;
}

static inline void moved(int16_t *expected, size_t from, size_t to, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		expected[to + i] = expected[from + i];
		expected[from + i] = NOT_MAPPED;
	}
}

static inline void begin(struct stage *s)
{
	static const struct engine_options options = {.background = BACKGROUND_OFF,
	                                              .low_latency = LOW_LATENCY_OFF};

	memset(kin, 0, sizeof(*kin));
	stage_open(s, &options, false, true);
	everywhere(kin->parent);
	everywhere(kin->of_child);
	everywhere(kin->of_grandchild);
}

static inline void begin_family(struct stage *s)
{
	s->p->lane[FORKER].call = have_child;
	order(s->p, FORKER, OP_CALL, 0, 0, 0);
}

/* The child is held, and has a child of its own, whose FORK is kept. */
static inline void grandchild_is_born(struct stage *s)
{
	engine_begin(s);
	hold(s);
	begin_family(s);
	turn_until(s, said(s, "pid 1: FORK: child 1"));
	atomic_store(&kin->go, true);
	turn_until(s, atomic_load(&kin->has_forked));
	for (int i = 0; i < 3; i++)
		turn(s);
	must(!said(s, "pid 1.1: FORK"));
}

/* It has exited: it has no memory any more. */
static inline bool is_gone(const char *maps)
{
	char byte;
	int fd = open(maps, O_RDONLY | O_CLOEXEC);
	bool gone = fd < 0 || read(fd, &byte, 1) <= 0;

	if (fd >= 0)
		close(fd);
	return gone;
}

#endif
