/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A task of the torture test's restorer: its memory is the helper's to bring, it changes it and
 * looks at it, and so do its children.  What it reads is compared with what the image had there
 * (content(); test/torture/world.py writes the same), whatever happened to the address space
 * meanwhile.
 */
#include "test/torture/restorer.h"

#include "criu-lazy/os/uffd-abi.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8 };

static const uint64_t BASE = UINT64_C(0x100000000000), ELSEWHERE = UINT64_C(0x110000000000);

static uint64_t content(int pid, int page, int word)
{
	uint64_t id = (uint64_t)pid << 40 | (uint64_t)page << 12 | (uint64_t)word;

	return (id * UINT64_C(0x9E3779B97F4A7C15)) | 1;
}

enum kind { HAS_CONTENT, HAS_ZEROS, HAS_NOTHING };

struct task {
	int pid; /* in the image */
	struct fate *fate;
	uint8_t *at[MAX_PAGES];
	enum kind kind[MAX_PAGES];
};

static void look_at(const struct task *t, int page)
{
	const volatile uint64_t *word = (const volatile uint64_t *)t->at[page];
	int i;

	if (t->kind[page] == HAS_NOTHING)
		return;
	for (i = 0; i < WORDS; i++) {
		uint64_t want = t->kind[page] == HAS_ZEROS ? 0 : content(t->pid, page, i);
		uint64_t got = word[i];

		if (got == want)
			continue;
		t->fate->page = page;
		t->fate->state = got ? WRONG : ZERO;
		_exit(0);
	}
}

static void look_at_all(const struct task *t)
{
	int i;

	for (i = 0; i < options.pages; i++)
		look_at(t, i);
}

static void *from_behind(void *arg)
{
	const struct task *t = arg;
	int i;

	for (i = options.pages - 1; i >= options.pages / 2; i--)
		look_at(t, i);
	return NULL;
}

/*
 * A child that looks at everything; its end is seen by its parent, or by the restorer.  It lingers,
 * since the end of a process whose pid the helper was not told is noticed once a second only.
 */
static int fork_child(struct task *t)
{
	struct fate *fate = new_fate();
	int pid;

	if (!fate)
		return -1;
	pid = fork();
	if (pid == 0) {
		t->fate = fate;
		fate->pid = getpid();
		fate->state = LIVES;
		look_at_all(t);
		usleep((useconds_t)options.linger_us);
		fate->state = RIGHT;
		_exit(0);
	}
	return pid;
}

static void reap_children(void)
{
	struct fate *fate;
	int pid, status;

	while ((pid = waitpid(-1, &status, 0)) > 0)
		if ((fate = fate_of(pid)))
			set_end(fate, status);
}

static void run_forker(struct task *t)
{
	pthread_t thread;
	int i;

	if (pthread_create(&thread, NULL, from_behind, t))
		die("pthread_create");
	look_at(t, 2);
	for (i = 0; i < options.forks; i++)
		fork_child(t);
	look_at(t, 1);
	t->kind[3] = HAS_NOTHING;
	munmap(t->at[3], PAGE);
	fork_child(t);
	look_at_all(t);
	pthread_join(thread, NULL);
	reap_children();
}

static void run_changer(struct task *t)
{
	int i;

	t->kind[2] = t->kind[3] = HAS_NOTHING;
	munmap(t->at[2], 2 * PAGE);
	t->kind[5] = HAS_ZEROS;
	madvise(t->at[5], PAGE, MADV_DONTNEED);
	look_at(t, 5);
	if (mremap(t->at[8], 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
	           (void *)ELSEWHERE) != (void *)ELSEWHERE)
		die("mremap");
	for (i = 0; i < 4; i++)
		t->at[8 + i] = (uint8_t *)ELSEWHERE + i * PAGE;
	look_at(t, 9);
	fork_child(t);
	look_at_all(t);
	reap_children();
}

/* Mostly the background's. */
static void run_sleeper(struct task *t)
{
	usleep(4000);
	look_at_all(t);
	memset(t->at[0], 0, PAGE);
	t->kind[0] = HAS_ZEROS;
	usleep(1000);
	look_at_all(t);
}

static int register_memory(struct task *t)
{
	struct uffdio_api api = {.api = UFFD_API,
	                         .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
	                                     UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP};
	size_t len = (size_t)options.pages * PAGE;
	struct uffdio_register reg = {.range = {BASE, len}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	uint8_t *mem = mmap((void *)BASE, len, PROT_READ | PROT_WRITE,
	                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), i;

	if (mem != (void *)BASE || fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0 ||
	    ioctl(fd, UFFDIO_REGISTER, &reg) < 0)
		die("userfaultfd");
	for (i = 0; i < options.pages; i++)
		t->at[i] = mem + (size_t)i * PAGE;
	return fd;
}

static bool send_uffd(int sock, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	char zero = 0;
	struct iovec iov = {.iov_base = &zero, .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov,
	                     .msg_iovlen = 1,
	                     .msg_control = control.bytes,
	                     .msg_controllen = sizeof(control.bytes)};

	control.align.cmsg_level = SOL_SOCKET;
	control.align.cmsg_type = SCM_RIGHTS;
	control.align.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
	return sendmsg(sock, &msg, MSG_NOSIGNAL) == 1;
}

void live(int index, struct fate *fate, int sock, int ready, int go)
{
	static struct task task;
	uint32_t pid = (uint32_t)(FIRST_PID + index);
	char c = 'r';
	int fd;

	enter_cgroup(options.task_cgroup);
	task.pid = (int)pid;
	task.fate = fate;
	fd = register_memory(&task);
	if (send(sock, &pid, sizeof(pid), MSG_NOSIGNAL) != sizeof(pid) || !send_uffd(sock, fd))
		_exit(1);
	close(fd);
	close(sock);
	if (write(ready, &c, 1) != 1)
		_exit(1);
	close(ready);
	if (read(go, &c, 1) != 1)
		_exit(1);
	close(go);
	fate->state = LIVES;
	if (index % 3 == 0)
		run_forker(&task);
	else if (index % 3 == 1)
		run_changer(&task);
	else
		run_sleeper(&task);
	fate->state = RIGHT;
	_exit(0);
}
