/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon-task.h - the restored processes of fuzz target daemon.c.
 *
 * Each is a process of its own (an address space is what a userfaultfd is about) made by a raw
 * clone(CLONE_FILES): the table of descriptors is shared, so that the userfaultfd it makes is at
 * hand for the fuzzer too, and is not kept open by it.  It takes one order at a time from shared
 * memory, and knows what each page of its arena must hold: its model is ordinary memory, so a fork
 * copies both in one moment.  It calls nothing but the kernel: the fuzzer's other threads may hold
 * any lock.
 */
#ifndef TEST_FUZZ_DAEMON_TASK_H
#define TEST_FUZZ_DAEMON_TASK_H

#include "criu-lazy/base/page.h"
#include "criu-lazy/os/uffd-abi.h"
#include "test/unit/send-fds.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	ARENA_PAGES = 32, /* the image has the first of them */
	IMAGE_PAGES = 16,
	MAX_TASKS = 12, /* children that were forked while lazy included */
	GONE = 0, /* of a page of the model: not mapped */
	ZERO = 1,
	WRITTEN = 2,
	IMAGE = 0x100, /* + its number */
};

enum order_kind {
	TASK_SEND, /* bytes, and a descriptor of a kind, to a socket */
	TASK_TOUCH,
	TASK_WRITE,
	TASK_DISCARD,
	TASK_UNMAP,
	TASK_MOVE,
	TASK_SPLIT, /* mappings, without an event */
	TASK_FORK,
	TASK_EXIT,
	TASK_CHECK, /* everything */
	TASK_RESET, /* as if it were new */
	NR_ORDERS
};

enum send_kind {
	SEND_PLAIN,
	SEND_PIPE,
	SEND_EVENTFD,
	SEND_UFFD,
	SEND_BLOCKING,
	SEND_RAW,
	SEND_MANY
};

struct order {
	enum order_kind kind;
	unsigned page, nr, to;
	int sock, child; /* child: where the new task lives */
	enum send_kind send;
	uint8_t bytes[4];
};

struct task {
	_Atomic uint32_t asked, done; /* numbers of orders: futexes */
	struct order order;
	pid_t pid; /* 0: nobody */
	unsigned image; /* whose memory: 0 .. */
	bool lazy; /* its userfaultfd was sent, or its parent's was */
	bool odd; /* it was sent as who knows whose: its pages are not looked at */
	bool wrong; /* it has seen what it should not */
	unsigned wrong_page;
	uint64_t wrong_value;
};

static struct task *tasks; /* MAX_TASKS and their mother, shared by all processes */
static uint16_t model[ARENA_PAGES]; /* of this process */
static uint8_t *const arena = (uint8_t *)UINT64_C(0x200000000000); // NOLINT: not the sanitizer's

static inline uint64_t image_word(unsigned image, unsigned page)
{
	return UINT64_C(0x0101010101010101) * (1 + image * IMAGE_PAGES + page);
}

/* --- in the task ------------------------------------------------------------------------------ */

static inline void task_look(struct task *t, unsigned page)
{
	const volatile uint64_t *words = (const volatile uint64_t *)(arena + page * PAGE_SIZE);
	uint64_t want = model[page] >= IMAGE     ? image_word(t->image, model[page] - IMAGE)
	                : model[page] == WRITTEN ? UINT64_C(0x5757575757575757)
	                                         : 0;

	if (model[page] == GONE)
		return;
	for (unsigned i = 0; i < PAGE_SIZE / 8; i += 73) {
		uint64_t got = words[i];

		if (got == want || t->wrong)
			continue;
		t->wrong_page = page;
		t->wrong_value = got;
		t->wrong = true;
	}
}

static inline void task_write(struct task *t, unsigned page)
{
	task_look(t, page);
	if (model[page] == GONE)
		return;
	for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
		((volatile uint64_t *)(arena + page * PAGE_SIZE))[i] = UINT64_C(0x5757575757575757);
	model[page] = WRITTEN;
}

static inline void task_move(unsigned from, unsigned nr, unsigned to)
{
	uint16_t moved[ARENA_PAGES];

	if (to + nr > ARENA_PAGES || (from < to + nr && to < from + nr))
		return;
	for (unsigned i = 0; i < nr; i++) {
		if (model[from + i] == GONE)
			return;
		moved[i] = model[from + i];
	}
	if (mremap(arena + from * PAGE_SIZE, nr * PAGE_SIZE, nr * PAGE_SIZE,
	           MREMAP_MAYMOVE | MREMAP_FIXED, arena + to * PAGE_SIZE) == MAP_FAILED)
		/* Who knows what is at the new place now, or of what the old one consisted. */
		syscall(SYS_exit_group, 0);
	for (unsigned i = 0; i < nr; i++) {
		model[to + i] = moved[i];
		model[from + i] = GONE;
	}
}

static inline int task_uffd(struct task *t, enum send_kind kind)
{
	struct uffdio_api api = {.api = UFFD_API,
	                         .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
	                                     UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP};
	struct uffdio_register reg = {
		.range = {(uint64_t)(uintptr_t)arena, IMAGE_PAGES * PAGE_SIZE},
		.mode = UFFDIO_REGISTER_MODE_MISSING};
	int fd =
		(int)syscall(SYS_userfaultfd, O_CLOEXEC | (kind == SEND_BLOCKING ? 0 : O_NONBLOCK));

	if (fd < 0 || kind == SEND_RAW)
		return fd;
	if (ioctl(fd, UFFDIO_API, &api) < 0 || ioctl(fd, UFFDIO_REGISTER, &reg) < 0) {
		close(fd); /* its memory belongs to another one already */
		return -1;
	}
	t->lazy = true;
	return fd;
}

static inline void task_send(struct task *t, const struct order *o)
{
	int fds[SEND_FDS_MAX];
	size_t nr = 0, nr_bytes = o->nr < 4 ? o->nr : 4;

	if (o->send == SEND_PIPE || o->send == SEND_MANY) {
		size_t want = o->send == SEND_MANY ? SEND_FDS_MAX : 2;

		while (nr < want && pipe2(fds + nr, O_CLOEXEC) == 0)
			nr += 2;
		if (o->send == SEND_PIPE && nr == 2)
			close(fds[--nr]);
	} else if (o->send == SEND_EVENTFD) {
		fds[nr] = (int)syscall(SYS_eventfd2, 0, O_CLOEXEC);
		nr += fds[nr] >= 0;
	} else if (o->send != SEND_PLAIN) {
		fds[nr] = task_uffd(t, o->send);
		nr += fds[nr] >= 0;
	}
	if (send_fds(o->sock, o->bytes, nr_bytes, fds, nr) < 0)
		t->lazy = false; /* the helper has hung up: the restorer would know */
	while (nr)
		close(fds[--nr]);
}

static inline void task_live(struct task *t);

/* Its number is there before it runs: whoever kills its parent knows of it. */
static inline void task_fork(int child)
{
	long pid = syscall(SYS_clone, CLONE_FILES | CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD, 0,
	                   &tasks[child].pid, 0, 0);

	if (pid == 0)
		task_live(&tasks[child]);
}

/* Nothing but mapped, untouched memory. */
static inline void task_reset(struct task *t)
{
	t->lazy = t->odd = t->wrong = false;
	munmap(arena, ARENA_PAGES * PAGE_SIZE);
	if (mmap(arena, IMAGE_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
	         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != arena)
		syscall(SYS_exit_group, 0);
	for (unsigned i = 0; i < ARENA_PAGES; i++)
		model[i] = i < IMAGE_PAGES ? (uint16_t)(IMAGE + i) : GONE;
}

static inline void task_obey(struct task *t, const struct order *o)
{
	unsigned i, end = o->page + o->nr < ARENA_PAGES ? o->page + o->nr : ARENA_PAGES;
	uint8_t *at = arena + o->page * PAGE_SIZE;
	size_t len = (end - o->page) * PAGE_SIZE;

	/* What it has before is its own affair, and would stay. */
	if (!t->lazy && o->kind > TASK_SEND && o->kind < TASK_FORK)
		return;
	switch (o->kind) {
	case TASK_SEND:
		task_send(t, o);
		return;
	case TASK_TOUCH:
		for (i = o->page; i < end; i++)
			task_look(t, i);
		return;
	case TASK_WRITE:
		for (i = o->page; i < end; i++)
			task_write(t, i);
		return;
	case TASK_DISCARD:
		/* With a hole in it the rest is discarded all the same. */
		madvise(at, len, MADV_DONTNEED);
		for (i = o->page; i < end; i++)
			model[i] = model[i] == GONE ? GONE : ZERO;
		return;
	case TASK_UNMAP:
		munmap(at, len);
		for (i = o->page; i < end; i++)
			model[i] = GONE;
		return;
	case TASK_MOVE:
		task_move(o->page, end - o->page, o->to);
		return;
	case TASK_SPLIT:
		madvise(at, len, o->to & 1 ? MADV_DONTDUMP : MADV_DODUMP);
		return;
	case TASK_FORK:
		task_fork(o->child);
		return;
	case TASK_CHECK:
		for (i = 0; i < ARENA_PAGES; i++)
			task_look(t, i);
		return;
	case TASK_RESET:
		task_reset(t);
		return;
	default:
		syscall(SYS_exit_group, 0);
	}
}

static inline void task_live(struct task *t)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGBUS, SIG_DFL); /* a poisoned page: not the sanitizer's affair */
	for (;;) {
		uint32_t done = atomic_load(&t->done);

		while (atomic_load(&t->asked) == done)
			syscall(SYS_futex, &t->asked, FUTEX_WAIT, done, NULL, NULL, 0);
		task_obey(t, &t->order);
		atomic_store(&t->done, done + 1);
		syscall(SYS_futex, &t->done, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
}

/* --- for the fuzzer --------------------------------------------------------------------------- */

static inline bool task_is_busy(const struct task *t)
{
	return atomic_load(&t->asked) != atomic_load(&t->done);
}

static inline void task_order(struct task *t, const struct order *order)
{
	t->order = *order;
	atomic_fetch_add(&t->asked, 1);
	syscall(SYS_futex, &t->asked, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* The mother of all others, small and never touched by what they do. */
static inline pid_t task_first(struct task *t)
{
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);

	if (pid == 0) {
		task_reset(t);
		task_live(t);
	}
	t->pid = pid;
	return pid;
}

#endif
