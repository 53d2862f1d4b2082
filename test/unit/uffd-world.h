/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * uffd-world.h - what the tests of userfaultfd share: a stretch of memory of this process,
 * registered as a restorer registers it (missing pages; the four address-space events), and a
 * thread that does to it what would block this one.
 *
 * Whoever unmaps, moves, discards or forks registered memory waits until somebody reads the event;
 * so this thread only reads, and the other one does these things.
 */
#ifndef TEST_UNIT_UFFD_WORLD_H
#define TEST_UNIT_UFFD_WORLD_H

#include "test/unit/patience.h"

#include "criu-lazy/base/page.h"
#include "criu-lazy/os/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { WORLD_PAGES = 8 };

#define WORLD_LEN (WORLD_PAGES * PAGE_SIZE)

struct world {
	int fd; /* the userfaultfd */
	uint8_t *mem; /* WORLD_PAGES, registered; before and behind it lie as many that are not */
	uint8_t *place; /* where the first of them begin */
	uint8_t *src; /* WORLD_PAGES of content: page n is full of 'a' + n */
	uint64_t features; /* of the kernel */
	/* The other thread. */
	pthread_t thread;
	void (*what)(struct world *w);
	size_t page; /* for what() */
	atomic_int tid; /* set just before what() */
	atomic_bool over; /* set after it */
	uint8_t seen; /* by what() */
};

static inline uint64_t addr_of(const struct world *w, size_t page)
{
	return (uint64_t)(uintptr_t)w->mem + page * PAGE_SIZE;
}

/* A userfaultfd that is ready for UFFDIO_REGISTER; negative errno. */
static inline int open_uffd(uint64_t *ret_features)
{
	struct uffdio_api api = {.api = UFFD_API,
	                         .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
	                                     UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (ioctl(fd, UFFDIO_API, &api) < 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	*ret_features = api.features;
	return fd;
}

static inline void register_range(int fd, uint64_t start, uint64_t len)
{
	struct uffdio_register reg = {.range = {start, len}, .mode = UFFDIO_REGISTER_MODE_MISSING};

	assert_int_equal(ioctl(fd, UFFDIO_REGISTER, &reg), 0);
}

static inline void world_open(struct world *w)
{
	memset(w, 0, sizeof(*w));
	w->fd = open_uffd(&w->features);
	if (w->fd == -EPERM || w->fd == -ENOSYS)
		skip_because("no userfaultfd here: %s", strerror(-w->fd));
	assert_true(w->fd >= 0);
	w->place = mmap(NULL, 3 * WORLD_LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	w->src = mmap(NULL, WORLD_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(w->place != MAP_FAILED && w->src != MAP_FAILED);
	w->mem = w->place + WORLD_LEN;
	assert_ptr_equal(mmap(w->mem, WORLD_LEN, PROT_READ | PROT_WRITE,
	                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
	                 w->mem);
	for (size_t i = 0; i < WORLD_PAGES; i++)
		memset(w->src + i * PAGE_SIZE, 'a' + (int)i, PAGE_SIZE);
	register_range(w->fd, addr_of(w, 0), WORLD_LEN);
}

/* Closing first: after that unmapping waits for nobody. */
static inline void world_close(struct world *w)
{
	close(w->fd);
	munmap(w->place, 3 * WORLD_LEN);
	munmap(w->src, WORLD_LEN);
}

static inline void *world_thread(void *arg)
{
	struct world *w = arg;

	atomic_store(&w->tid, (int)syscall(SYS_gettid));
	w->what(w);
	atomic_store(&w->over, true);
	return NULL;
}

static inline void world_do(struct world *w, void (*what)(struct world *w), size_t page)
{
	w->what = what;
	w->page = page;
	atomic_store(&w->tid, 0);
	atomic_store(&w->over, false);
	assert_int_equal(pthread_create(&w->thread, NULL, world_thread, w), 0);
}

static inline void world_join(struct world *w)
{
	assert_int_equal(pthread_join(w->thread, NULL), 0);
}

/* Is this task off the processor, waiting? */
static inline bool task_waits(int tid)
{
	char path[64], text[512];
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
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

/* Wait until the other thread is stuck in what it does (and in nothing before it). */
static inline void world_stuck(struct world *w)
{
	eventually(atomic_load(&w->tid));
	eventually(task_waits(atomic_load(&w->tid)));
}

/* Exactly nr messages, waiting for them. */
static inline void read_msgs(int fd, struct uffd_msg *msgs, size_t nr)
{
	size_t have = 0;

	while (have < nr) {
		int got;

		assert_true(readable(fd, PATIENCE * 1000));
		got = uffd_read(fd, msgs + have, nr - have);
		assert_true(got >= 0);
		have += (size_t)got;
	}
}

static inline void expect_fault(int fd, uint64_t page)
{
	struct uffd_msg msg;

	read_msgs(fd, &msg, 1);
	assert_int_equal(msg.event, UFFD_EVENT_PAGEFAULT);
	assert_int_equal(page_down(msg.arg.pagefault.address), page);
}

/* --- what the other thread does -------------------------------------------------------------- */

static inline void touch_page(struct world *w)
{
	w->seen = *(volatile uint8_t *)(w->mem + w->page * PAGE_SIZE);
}

static inline void unmap_page(struct world *w)
{
	munmap(w->mem + w->page * PAGE_SIZE, PAGE_SIZE);
}

static inline void discard_page(struct world *w)
{
	madvise(w->mem + w->page * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED);
}

#endif
