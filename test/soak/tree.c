/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The restored processes, without a restore: image files are written from the model; then a process
 * of ours plays the restorer.  Its tasks map the memory of the images without any content, register
 * it with userfaultfds of their own and report at the helper's socket, as criu restore's tasks do.
 * So a round takes a second, most of it the work itself.
 */
#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/os/uffd-abi.h"
#include "images/inventory.h"
#include "images/mm.h"
#include "images/pagemap.h"
#include "images/pstree.h"
#include "images/writer.h"
#include "test/soak/soak.h"
#include "test/unit/send-fds.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

/* --- images --- */

/* The areas of a task as VMAs, neighbours merged as the kernel does; how many there are. */
static size_t make_vmas(const struct settings *s, struct vma *vmas)
{
	uint64_t len = s->pages * PAGE, start;
	unsigned int i;
	size_t nr = 0;

	for (i = 0; i < s->threads * s->areas; i++) {
		start = (uint64_t)(uintptr_t)world_place(s, i);
		if (nr && vmas[nr - 1].end == start) {
			vmas[nr - 1].end += len;
			continue;
		}
		vmas[nr++] = (struct vma){.start = start,
		                          .end = start + len,
		                          .prot = PROT_READ | PROT_WRITE,
		                          .flags = MAP_PRIVATE | MAP_ANONYMOUS,
		                          .status = VMA_REGULAR | VMA_ANON_PRIVATE};
	}
	return nr;
}

static int write_area(const struct world *w, unsigned int area, struct pages_writer *pages,
                      struct err *err)
{
	static uint8_t bytes[64 * PAGE];
	unsigned int i, n;
	int r = 0;

	for (i = 0; r == 0 && i < w->pages; i += n ? n : 1) {
		for (n = 0; n < 64 && i + n < w->pages && w->id[area][i + n] != ID_ZERO; n++)
			fill_page(bytes + n * PAGE, w->seed, w->id[area][i + n]);
		if (n)
			r = pages_writer_add(pages, (uint64_t)(uintptr_t)w->area[area] + i * PAGE,
			                     n, PE_PRESENT | PE_LAZY, bytes, err);
	}
	return r;
}

static int write_pages(int dirfd, const struct settings *s, const struct shared *sh,
                       unsigned int task, struct err *err)
{
	struct pages_writer *pages = NULL;
	unsigned int t, a;
	int r, closed;

	r = pages_writer_open(dirfd, FIRST_PID + task, task + 1, COUNT_BOTH, &pages, err);
	for (t = 0; t < s->threads; t++)
		for (a = 0; r == 0 && a < s->areas; a++)
			r = write_area(&sh->world[task][t], a, pages, err);
	closed = pages_writer_close(pages, err);
	return r < 0 ? r : closed;
}

/* Out of the page cache, where the file system has one behind which there is a disk. */
static int make_cold(int dirfd, unsigned int task, struct err *err)
{
	char name[64];

	snprintf(name, sizeof(name), "pages-%u.img", task + 1);
	cleanup_close int fd = openat(dirfd, name, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return err_set(err, errno, "%s", name);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return 0;
}

static int write_tree(int dirfd, const struct settings *s, struct err *err)
{
	struct pstree_task tasks[MAX_TASKS + 1] = {0};
	uint32_t pids[MAX_TASKS + 1];
	unsigned int nr = s->tasks + (s->zombie ? 1 : 0), i;

	for (i = 0; i < nr; i++) {
		pids[i] = i < s->tasks ? FIRST_PID + i : ZOMBIE_PID;
		tasks[i] = (struct pstree_task){.pid = pids[i],
		                                .ppid = i ? FIRST_PID : 0,
		                                .pgid = FIRST_PID,
		                                .sid = FIRST_PID,
		                                .nr_threads = 1,
		                                .threads = &pids[i]};
	}
	return writer_pstree(dirfd, tasks, nr, err);
}

static int write_images(int dirfd, const struct settings *s, const struct shared *sh,
                        struct err *err)
{
	struct inventory inventory = {.img_version = 1};
	struct vma vmas[MAX_THREADS * MAX_AREAS];
	struct mm mm = {.vmas = vmas, .dumpable = -1};
	unsigned int t;
	int r;

	mm.nr = make_vmas(s, vmas);
	r = writer_inventory(dirfd, &inventory, err);
	if (r == 0)
		r = write_tree(dirfd, s, err);
	for (t = 0; r == 0 && t < s->tasks; t++) {
		r = writer_mm(dirfd, FIRST_PID + t, &mm, err);
		if (r == 0)
			r = write_pages(dirfd, s, sh, t, err);
		if (r == 0 && s->cold)
			r = make_cold(dirfd, t, err);
	}
	return r;
}

/* DIR/lean: links to everything in DIR/img but pages. */
static int make_lean(const struct settings *s, const char *dir, struct err *err)
{
	static const char *const of_task[] = {"mm-%u.img", "pagemap-%u.img"};
	char from[4096], to[4096], name[64];
	unsigned int i;

	snprintf(to, sizeof(to), "%s/lean", dir);
	if (mkdir(to, 0700) < 0)
		return err_set(err, errno, "mkdir %s", to);
	for (i = 0; i < 2 + 2 * s->tasks; i++) {
		if (i < 2)
			snprintf(name, sizeof(name), "%s.img", i ? "pstree" : "inventory");
		else if (i % 2)
			snprintf(name, sizeof(name), of_task[1], FIRST_PID + i / 2 - 1);
		else
			snprintf(name, sizeof(name), of_task[0], FIRST_PID + i / 2 - 1);
		snprintf(from, sizeof(from), "%s/img/%s", dir, name);
		snprintf(to, sizeof(to), "%s/lean/%s", dir, name);
		if (link(from, to) < 0)
			return err_set(err, errno, "link %s", to);
	}
	return 0;
}

int tree_images(const struct settings *s, const struct shared *sh, const char *dir)
{
	struct err err = {0};
	char path[4096];
	int r;

	snprintf(path, sizeof(path), "%s/img", dir);
	if (mkdir(path, 0700) < 0) {
		printf("    mkdir %s: %m\n", path);
		return -1;
	}
	cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 ? err_set(&err, errno, "open %s", path) : write_images(fd, s, sh, &err);
	if (r == 0 && s->remote)
		r = make_lean(s, dir, &err);
	if (r < 0)
		printf("    images: %s\n", err.text);
	return r < 0 ? -1 : 0;
}

/* --- a task --- */

static int make_uffd(void)
{
	struct uffdio_api api = {.api = UFFD_API,
	                         .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
	                                     UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		fail("userfaultfd: %m");
	if (ioctl(fd, UFFDIO_API, &api) < 0)
		fail("UFFDIO_API: %m");
	return fd;
}

static void map_area(const struct settings *s, int uffd, uint8_t *addr)
{
	struct uffdio_register reg = {.range = {(uint64_t)(uintptr_t)addr, s->pages * PAGE},
	                              .mode = UFFDIO_REGISTER_MODE_MISSING};

	CHECK(mmap(addr, s->pages * PAGE, PROT_READ | PROT_WRITE,
	           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == addr);
	if (s->huge)
		madvise(addr, s->pages * PAGE, MADV_HUGEPAGE);
	CHECK(ioctl(uffd, UFFDIO_REGISTER, &reg) == 0);
}

static void report(int sock, int32_t pid, int uffd)
{
	if (send(sock, &pid, sizeof(pid), MSG_NOSIGNAL) != (ssize_t)sizeof(pid) ||
	    send_fds(sock, "", 1, &uffd, 1) != 1)
		fail("task %d cannot report to the helper: %m", pid);
}

struct live {
	const struct settings *s;
	struct shared *shared;
	int task;
};

static void thread_main(int i, void *arg)
{
	const struct live *live = arg;

	world_live(&live->shared->world[live->task][i], live->s);
}

static _Noreturn void task_main(const struct settings *s, struct shared *sh, int task, int sock)
{
	struct live live = {s, sh, task};
	int uffd = make_uffd();
	unsigned int i;

	world_init_places(s);
	for (i = 0; i < s->threads * s->areas; i++)
		map_area(s, uffd, world_place(s, i));
	report(sock, FIRST_PID + task, uffd);
	close(uffd);
	close(sock);
	sh->task_pid[task] = getpid();
	sh->nr_ready++;
	while (!sh->go)
		soak_sleep_us(200);
	sh->task_going[task] = true;
	test_threads((int)s->threads, thread_main, &live);
	_exit(0);
}

/* --- the restorer --- */

static int dial(const char *dir)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (snprintf(at.sun_path, sizeof(at.sun_path), "%s/lazy-pages.socket", dir) >=
	    (int)sizeof(at.sun_path))
		fail("the folder's name is too long: %s", dir);
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		fail("connect to %s: %m", at.sun_path);
	return fd;
}

static void hand_over(const struct settings *s, struct shared *sh, int sock)
{
	static const char finished[] = {'F', 'T', 'S', 'R'};
	int32_t zombie = -ZOMBIE_PID;

	if (s->zombie && send(sock, &zombie, sizeof(zombie), MSG_NOSIGNAL) != sizeof(zombie))
		fail("cannot report the zombie: %m");
	if (send(sock, finished, sizeof(finished), MSG_NOSIGNAL) != sizeof(finished))
		fail("cannot tell the helper that the restore is finished: %m");
	sh->handed_over = true;
	close(sock);
}

/* Tasks end with status 0, or as they were killed. */
static void wait_for_tasks(const struct settings *s, const pid_t *task)
{
	unsigned int t;
	int status;

	for (t = 0; t < s->tasks; t++) {
		while (waitpid(task[t], &status, 0) < 0)
			if (errno != EINTR)
				fail("waitpid: %m");
		if (status != 0 && !(s->end == END_KILLED && status == SIGKILL))
			fail("task %u ended with wait status %#x", t, status);
	}
}

_Noreturn void tree_restore(const struct settings *s, struct shared *sh, const char *dir)
{
	char *argv[] = {(char *)"soak", (char *)dir, NULL};
	pid_t task[MAX_TASKS];
	unsigned int t;
	int sock;

	test_init(2, argv);
	sock = dial(dir);
	for (t = 0; t < s->tasks; t++) {
		task[t] = test_fork();
		if (!task[t])
			task_main(s, sh, (int)t, sock);
		/* One after another: a message and its descriptor belong together. */
		while (sh->nr_ready <= (int)t) {
			if (waitpid(task[t], NULL, WNOHANG) == task[t])
				fail("task %u ended before it was ready", t);
			soak_sleep_us(100);
		}
	}
	/* Some tasks work before the helper hears that all are there. */
	if (s->seed % 2)
		sh->go = true;
	hand_over(s, sh, sock);
	sh->go = true;
	if (s->end == END_KILLED) {
		soak_sleep_us(s->end_ms * 1000);
		for (t = 0; t < s->tasks; t++)
			kill(task[t], SIGKILL);
	}
	wait_for_tasks(s, task);
	_exit(0);
}
