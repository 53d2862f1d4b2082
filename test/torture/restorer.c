/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One restore, from the helper's start to its end: starts the helper, plays a restorer and its
 * tasks, and says in one line of NAME=VALUE what became of everybody.
 *
 *	restorer [OPTION...] SOCKET PRELOAD|- HELPER ARGUMENT...
 *
 *	this process ("runner", a subreaper)
 *	  |- the helper, with whatever it becomes: everything here that is not
 *	  `- the restorer (a subreaper, too)
 *	       `- tasks 1000, 1001, ... and the children that they fork
 *
 * Like CRIU's, this restorer lets its tasks go only when the last word of the protocol was sent; if
 * it cannot be sent, it kills them.  What a task reads is compared with what the image had there
 * (content(); test/torture/run writes the same), whatever happened to the address space meanwhile.
 *
 * A participant's fate:
 *	unborn	it never came to be, or was not let go by the restorer: no page of it was used
 *	right	everything it read was right, and it ended
 *	wrong	a page had something else; "zero": zeros, where the image had content
 *	killed	by SIGKILL, before the time was over
 *	bus	by SIGBUS
 *	stuck	it still waited when the time was over
 *	died	in another way
 */
#include "criu-lazy/os/uffd-abi.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, MAX_PAGES = 4096, MAX_FATES = 512, FIRST_PID = 1000 };

static const uint64_t BASE = UINT64_C(0x100000000000), ELSEWHERE = UINT64_C(0x110000000000);

enum state { UNBORN, LIVES, RIGHT, WRONG, ZERO, KILLED, BUS, STUCK, DIED };

struct fate {
	_Atomic int state;
	_Atomic int pid;
	_Atomic int page; /* that was wrong */
};

static struct shared {
	_Atomic int nr;
	_Atomic int finished; /* the last word was sent */
	struct fate fates[MAX_FATES];
} * shared;

static struct {
	int tasks, pages, forks, linger_us, limit_ms, nofile;
	const char *task_cgroup, *helper_cgroup;
	rlim_t address_space, data;
} options = {.tasks = 3, .pages = 24, .forks = 1, .linger_us = 3000, .limit_ms = 10000};

static int64_t started;

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int ms_left(void)
{
	int64_t left = started + options.limit_ms - now_ms();

	return left > 0 ? (int)left : 0;
}

static void die(const char *what)
{
	fprintf(stderr, "restorer: %s: %m\n", what);
	_exit(70);
}

static void enter_cgroup(const char *path)
{
	int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;

	if (path && (fd < 0 || write(fd, "0", 1) != 1))
		die(path);
	close(fd);
}

/* --- a task ---------------------------------------------------------------------------------- */

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

static struct fate *new_fate(void)
{
	int i = atomic_fetch_add(&shared->nr, 1);

	return i < MAX_FATES ? &shared->fates[i] : NULL;
}

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

static void set_end(struct fate *fate, int status)
{
	if (fate->state != LIVES)
		return;
	fate->state = !WIFSIGNALED(status)          ? DIED
	              : WTERMSIG(status) == SIGKILL ? KILLED
	              : WTERMSIG(status) == SIGBUS  ? BUS
	                                            : DIED;
}

static struct fate *fate_of(int pid)
{
	int i;

	for (i = 0; i < MAX_FATES; i++)
		if (shared->fates[i].pid == pid)
			return &shared->fates[i];
	return NULL;
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

static void live(int index, struct fate *fate, int sock, int ready, int go)
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

/* --- the restorer ---------------------------------------------------------------------------- */

static int connect_to(const char *path)
{
	struct timeval patience = {.tv_sec = options.limit_ms / 1000};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static bool make_task(int index, int sock, const int go[2], int *ret_pid)
{
	struct fate *fate = new_fate();
	int ready[2];
	char c;
	bool well;

	if (pipe2(ready, O_CLOEXEC) < 0)
		die("pipe");
	*ret_pid = fork();
	if (*ret_pid == 0) {
		close(go[1]);
		live(index, fate, sock, ready[1], go[0]);
	}
	fate->pid = *ret_pid;
	close(ready[1]);
	well = read(ready[0], &c, 1) == 1;
	close(ready[0]);
	return well;
}

/* All descendants, for who forks is this process's child when its parent is gone. */
static bool kill_children(void)
{
	char path[64], line[4096] = "", *at = line, *end;
	int fd;
	bool any = false;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, line, sizeof(line) - 1) < 0)
		die(path);
	close(fd);
	for (;;) {
		long pid = strtol(at, &end, 10);

		if (end == at)
			return any;
		kill((pid_t)pid, SIGKILL);
		any = true;
		at = end;
	}
}

static void restore(const char *path)
{
	int go[2], pids[MAX_FATES], nr = 0, sock = connect_to(path), i, pid, status;
	bool well = sock >= 0;
	struct fate *fate;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (pipe2(go, O_CLOEXEC) < 0)
		die("pipe");
	for (; well && nr < options.tasks; nr++)
		well = make_task(nr, sock, go, &pids[nr]);
	if (well && send(sock, "FTSR", 4, MSG_NOSIGNAL) != 4)
		well = false;
	shared->finished = well;
	close(sock);
	for (i = 0; i < nr && !well; i++)
		kill(pids[i], SIGKILL);
	for (i = 0; i < nr && well; i++)
		if (write(go[1], "", 1) != 1)
			die("go");
	close(go[1]);
	close(go[0]);
	for (;;) {
		pid = waitpid(-1, &status, WNOHANG);
		if (pid < 0)
			_exit(0);
		if (pid > 0 && (fate = fate_of(pid)))
			set_end(fate, status);
		if (pid > 0)
			continue;
		if (!ms_left())
			break;
		usleep(300);
	}
	for (i = 0; i < MAX_FATES; i++)
		if (shared->fates[i].state == LIVES)
			shared->fates[i].state = STUCK;
	while (kill_children())
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	_exit(0);
}

/* --- the runner ------------------------------------------------------------------------------ */

static void limit(int what, rlim_t value)
{
	struct rlimit l = {value, value};

	if (value && setrlimit(what, &l) < 0)
		die("setrlimit");
}

static int start_helper(char **argv, const char *preload, int *ret_status_fd)
{
	int fds[2], pid;
	char number[16];

	if (pipe2(fds, 0) < 0)
		die("pipe");
	fcntl(fds[0], F_SETFD, FD_CLOEXEC);
	pid = fork();
	if (pid == 0) {
		for (int i = 1; argv[i]; i++)
			if (!strcmp(argv[i], "STATUS_FD")) {
				snprintf(number, sizeof(number), "%d", fds[1]);
				argv[i] = number;
			}
		enter_cgroup(options.helper_cgroup);
		if (strcmp(preload, "-"))
			setenv("LD_PRELOAD", preload, 1);
		limit(RLIMIT_NOFILE, (rlim_t)options.nofile);
		limit(RLIMIT_AS, options.address_space);
		limit(RLIMIT_DATA, options.data);
		execv(argv[0], argv);
		die(argv[0]);
	}
	close(fds[1]);
	*ret_status_fd = fds[0];
	return pid;
}

static bool wait_ready(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char c = 1;

	if (poll(&p, 1, ms_left()) != 1 || read(fd, &c, 1) != 1)
		c = 1;
	close(fd);
	return c == 0;
}

/* Is there anybody besides the restorer?  They get the signal, if it is not 0. */
static bool any_left(int restorer, int number)
{
	bool any = false;
	char path[64], line[4096] = "", *at = line, *end;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, line, sizeof(line) - 1) < 0)
		die(path);
	close(fd);
	for (;;) {
		long pid = strtol(at, &end, 10);

		if (end == at)
			return any;
		if (pid != restorer) {
			any = true;
			kill((pid_t)pid, number);
		}
		at = end;
	}
}

struct ends {
	int first; /* wait status of the helper that was started, -1: it has not ended */
	int others; /* the worst of what it became (a daemon): 0, a wait status */
	int64_t cpu_ms;
};

static void count_end(struct ends *ends, bool is_first, int status, const struct rusage *u)
{
	int64_t cpu = u->ru_utime.tv_sec * 1000 + u->ru_utime.tv_usec / 1000 +
	              u->ru_stime.tv_sec * 1000 + u->ru_stime.tv_usec / 1000;

	ends->cpu_ms += cpu;
	if (is_first)
		ends->first = status;
	else if (WIFSIGNALED(status) || !ends->others)
		ends->others = status;
}

static void print_fates(void)
{
	static const char *const names[] = {"unborn", "lives", "right", "wrong", "zero",
	                                    "killed", "bus",   "stuck", "died"};
	int i;

	printf(" fates=");
	for (i = 0; i < shared->nr && i < MAX_FATES; i++) {
		const struct fate *f = &shared->fates[i];

		printf("%s%s", i ? "," : "", names[f->state]);
		if (f->state == WRONG || f->state == ZERO)
			printf(":%d", f->page);
	}
	printf("\n");
}

static char **parse(int argc, char **argv)
{
	int at = 1;

	for (; at + 1 < argc && argv[at][0] == '-' && argv[at][1] == '-'; at += 2) {
		const char *name = argv[at] + 2, *value = argv[at + 1];
		unsigned long long number = strtoull(value, NULL, 0);

		if (!strcmp(name, "tasks"))
			options.tasks = (int)number;
		else if (!strcmp(name, "pages"))
			options.pages = (int)number;
		else if (!strcmp(name, "forks"))
			options.forks = (int)number;
		else if (!strcmp(name, "linger-us"))
			options.linger_us = (int)number;
		else if (!strcmp(name, "limit-ms"))
			options.limit_ms = (int)number;
		else if (!strcmp(name, "nofile"))
			options.nofile = (int)number;
		else if (!strcmp(name, "address-space"))
			options.address_space = number;
		else if (!strcmp(name, "data"))
			options.data = number;
		else if (!strcmp(name, "task-cgroup"))
			options.task_cgroup = value;
		else if (!strcmp(name, "helper-cgroup"))
			options.helper_cgroup = value;
		else
			die(name);
	}
	if (argc - at < 3 || options.pages > MAX_PAGES || options.pages < 16)
		die("arguments");
	return argv + at;
}

int main(int argc, char **argv)
{
	char **rest = parse(argc, argv);
	struct ends ends = {.first = -1};
	int helper, restorer = -1, status_fd, pid, status;
	bool ready, told = false, hung = false;
	struct rusage usage;

	started = now_ms();
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
	              0);
	if (shared == MAP_FAILED)
		die("mmap");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	helper = start_helper(rest + 2, rest[1], &status_fd);
	ready = wait_ready(status_fd);
	if (ready) {
		restorer = fork();
		if (restorer == 0)
			restore(rest[0]);
	}
	for (;;) {
		pid = wait4(-1, &status, WNOHANG, &usage);
		if (pid < 0)
			break;
		if (pid > 0 && pid == restorer) {
			restorer = -1;
			if (!shared->finished) /* nobody will come any more */
				told = any_left(-1, SIGTERM);
		} else if (pid > 0) {
			count_end(&ends, pid == helper, status, &usage);
		}
		if (pid > 0)
			continue;
		if (!ms_left() && any_left(restorer, 0)) {
			hung = true;
			break;
		}
		usleep(300);
	}
	/* Only the hung are left; the restorer ends by itself. */
	while (restorer > 0 && (pid = waitpid(restorer, &status, 0)) > 0)
		restorer = -1;
	while (hung && kill_children())
		while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0)
			ends.cpu_ms += (int64_t)usage.ru_utime.tv_sec * 1000 +
			               (int64_t)usage.ru_stime.tv_sec * 1000;
	printf("ready=%d finished=%d told=%d hung=%d status=%d signal=%d others=%d cpu_ms=%lld "
	       "wall_ms=%lld",
	       ready, shared->finished, told, hung,
	       ends.first >= 0 && WIFEXITED(ends.first) ? WEXITSTATUS(ends.first) : -1,
	       ends.first >= 0 && WIFSIGNALED(ends.first) ? WTERMSIG(ends.first) : 0, ends.others,
	       (long long)ends.cpu_ms, (long long)(now_ms() - started));
	print_fates();
	return 0;
}
