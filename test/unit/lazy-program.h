/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lazy-program.h - a process whose memory is lazy, and which does what a test orders.
 *
 *	program_start(&p)		a child of the test, with LANES threads, and its userfaultfd
 *	order(p, lane, OP_REMAP, ...)	one thread of it begins; it may get stuck in that
 *	stuck(p, lane), is_over(p, lane)
 *	program_end(p)
 *
 * It is another process, so that it can exit, fork and be told apart from who serves it; orders and
 * answers lie in memory that it shares with the test, and with the workers that the test makes.
 *
 * Its memory: PAGES lazy ones; as many places before and behind them, which are reserved.  The
 * first places hold SCRAPS mappings of one page, registered but of no image: who unmaps one of them
 * has an event to tell that concerns nothing.
 */
#ifndef TEST_UNIT_LAZY_PROGRAM_H
#define TEST_UNIT_LAZY_PROGRAM_H

#include "test/unit/patience.h"

#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/os/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGES = 256, LANES = 4, SCRAPS = 2, MOVED = 4 * PAGES };

#define LEN ((size_t)PAGES * PAGE_SIZE)

enum op { OP_READ, OP_REMOVE, OP_UNMAP, OP_REMAP, OP_FORK, OP_REAP, OP_VERIFY, OP_EXIT, OP_CALL };

enum { NOT_MAPPED = -1 };

struct lane {
	struct program *program;
	unsigned nr;
	atomic_uint ordered, begun, over; /* numbers of orders */
	atomic_int tid;
	enum op op;
	int (*call)(struct lane *lane);
	uint64_t at, to, len;
	int result;
	int pipe[2];
};

struct program {
	struct lane lane[LANES];
	pid_t pid;
	int its_uffd, pidfd, uffd; /* its own number; the test's */
	int error; /* positive errno: why there is no userfaultfd */
	uint8_t *mem;
	atomic_bool ready, handed_over;
	atomic_bool child_may_look;
	/* What each page must be: its byte, or NOT_MAPPED.  Of what was moved: at + MOVED. */
	struct {
		uint64_t addr;
		int byte;
	} expected[PAGES];
	atomic_int wrong; /* the first page that is not, + 1 */
};

static inline uint8_t content_of(size_t page)
{
	return (uint8_t)(1 + page % 251);
}

static inline uint64_t page_at(const struct program *p, size_t page)
{
	return (uint64_t)(uintptr_t)p->mem + page * PAGE_SIZE;
}

/* --- in the program --------------------------------------------------------------------------- */

/* By a system call, which does not end the program where there is nothing. */
static inline int read_byte(struct lane *lane, uint64_t at)
{
	uint8_t byte;

	if (write(lane->pipe[1], (const void *)(uintptr_t)at, 1) != 1)
		return NOT_MAPPED;
	return read(lane->pipe[0], &byte, 1) == 1 ? byte : -2;
}

static inline bool page_is(struct lane *lane, uint64_t addr, int byte)
{
	const uint8_t *mem = (const uint8_t *)(uintptr_t)addr;

	if (read_byte(lane, addr) != byte)
		return false;
	for (size_t i = 0; byte != NOT_MAPPED && i < PAGE_SIZE; i++)
		if (mem[i] != byte)
			return false;
	return true;
}

/* 0, or the number of the first page that is wrong, + 1. */
static inline int verify(struct lane *lane)
{
	const struct program *p = lane->program;

	for (int i = 0; i < PAGES; i++)
		if (!page_is(lane, p->expected[i].addr, p->expected[i].byte))
			return i + 1;
	return 0;
}

static inline void be_child(struct lane *lane)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!atomic_load(&lane->program->child_may_look))
		usleep(100);
	_exit(verify(lane) ? 1 : 0);
}

static inline int carry_out(struct lane *lane)
{
	void *at = (void *)(uintptr_t)lane->at, *to = (void *)(uintptr_t)lane->to;
	int status;

	switch (lane->op) {
	case OP_READ:
		return read_byte(lane, lane->at);
	case OP_REMOVE:
		return madvise(at, lane->len, MADV_DONTNEED);
	case OP_UNMAP:
		return munmap(at, lane->len);
	case OP_REMAP:
		return mremap(at, lane->len, lane->len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to
		               ? 0
		               : -1;
	case OP_FORK:
		status = _Fork();
		if (status == 0)
			be_child(lane);
		return status;
	case OP_REAP:
		return waitpid((pid_t)lane->at, &status, 0) < 0 ? -1 : status;
	case OP_VERIFY:
		return verify(lane);
	case OP_EXIT:
		_exit(0);
	case OP_CALL:
		return lane->call(lane);
	}
	return -1;
}

static inline void *live_lane(void *arg)
{
	struct lane *lane = arg;
	unsigned seen = 0;

	atomic_store(&lane->tid, (int)syscall(SYS_gettid));
	for (;; usleep(50)) {
		if (atomic_load(&lane->ordered) == seen)
			continue;
		atomic_store(&lane->begun, ++seen);
		lane->result = carry_out(lane);
		atomic_store(&lane->over, seen);
	}
	return NULL;
}

static inline int register_lazy(int fd, const void *mem, size_t len)
{
	struct uffdio_register reg = {.range = {(uint64_t)(uintptr_t)mem, len},
	                              .mode = UFFDIO_REGISTER_MODE_MISSING};

	return ioctl(fd, UFFDIO_REGISTER, &reg);
}

static inline int make_lazy(struct program *p)
{
	struct uffdio_api api = {.api = UFFD_API,
	                         .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
	                                     UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP};
	const int rw = PROT_READ | PROT_WRITE;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	uint8_t *place = mmap(NULL, 3 * LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	p->its_uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (place == MAP_FAILED || p->its_uffd < 0 || ioctl(p->its_uffd, UFFDIO_API, &api) < 0)
		return -errno;
	p->mem = place + LEN;
	if (mmap(p->mem, LEN, rw, flags, -1, 0) == MAP_FAILED ||
	    register_lazy(p->its_uffd, p->mem, LEN) < 0)
		return -errno;
	for (size_t i = 0; i < SCRAPS; i++) {
		uint8_t *scrap = place + 2 * i * PAGE_SIZE;

		if (mmap(scrap, PAGE_SIZE, rw, flags, -1, 0) == MAP_FAILED ||
		    register_lazy(p->its_uffd, scrap, PAGE_SIZE) < 0)
			return -errno;
	}
	return 0;
}

static inline void be_program(struct program *p)
{
	pthread_t thread;

	p->error = -make_lazy(p);
	for (unsigned i = 0; !p->error && i < LANES; i++) {
		p->lane[i].program = p;
		p->lane[i].nr = i;
		if (pipe(p->lane[i].pipe) < 0)
			p->error = errno;
		else
			p->error = pthread_create(&thread, NULL, live_lane, &p->lane[i]);
	}
	atomic_store(&p->ready, true);
	while (!atomic_load(&p->handed_over))
		usleep(100);
	close(p->its_uffd);
	atomic_store(&p->ready, false);
	for (;;)
		pause();
}

/* --- in the test ------------------------------------------------------------------------------ */

static inline uint64_t scrap_at(const struct program *p, size_t nr)
{
	return (uint64_t)(uintptr_t)p->mem - LEN + 2 * nr * PAGE_SIZE;
}

static inline struct program *program_start(void)
{
	struct program *p =
		mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	assert_true(p != MAP_FAILED);
	pid = fork_child(); /* not to p->pid, which the child would write, too */
	if (pid == 0)
		be_program(p);
	p->pid = pid;
	eventually(atomic_load(&p->ready));
	if (p->error == EPERM || p->error == ENOSYS)
		skip_because("no userfaultfd here: %s", strerror(p->error));
	assert_int_equal(p->error, 0);
	p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	assert_true(p->pidfd >= 0);
	p->uffd = (int)syscall(SYS_pidfd_getfd, p->pidfd, p->its_uffd, 0);
	assert_true(p->uffd >= 0);
	atomic_store(&p->handed_over, true);
	eventually(!atomic_load(&p->ready));
	for (size_t i = 0; i < PAGES; i++) {
		p->expected[i].addr = page_at(p, i);
		p->expected[i].byte = content_of(i);
	}
	return p;
}

static inline void program_end(struct program *p)
{
	kill(p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
	munmap(p, sizeof(*p));
}

static inline void order(struct program *p, unsigned lane, enum op op, uint64_t at, uint64_t to,
                         uint64_t len)
{
	struct lane *l = &p->lane[lane];

	l->op = op;
	l->at = at;
	l->to = to;
	l->len = len;
	atomic_fetch_add(&l->ordered, 1);
}

static inline bool is_over(const struct program *p, unsigned lane)
{
	return atomic_load(&p->lane[lane].over) == atomic_load(&p->lane[lane].ordered);
}

static inline bool lane_waits(const struct program *p, unsigned lane)
{
	const struct lane *l = &p->lane[lane];
	char path[64], text[512];
	ssize_t got;
	int fd;

	if (atomic_load(&l->begun) != atomic_load(&l->ordered) || is_over(p, lane))
		return false;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", p->pid, atomic_load(&l->tid));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (got <= 0)
		return false;
	text[got] = '\0';
	return strstr(text, ") S ") || strstr(text, ") D ");
}

/* Wait until what was ordered has something to tell that nobody has read; uffd: the test's. */
static inline void stuck(const struct program *p, unsigned lane)
{
	eventually(lane_waits(p, lane) && readable(p->uffd, 0));
}

#endif
