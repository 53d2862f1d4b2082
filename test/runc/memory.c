/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What runs in the container of test/runc: processes and a thread that fill memory with content
 * that can be computed, and compare every byte of it.
 *
 *   memory serve SOCKET MIB       in the container, as its first process
 *   memory ask SOCKET REQUEST     outside: prints the answer; exit status 0 if it begins with "ok"
 *
 *   pid 1 ---- thread             compares an area of its own all the time, in random order
 *     |  \
 *     |   child 3                 the same
 *   child 1
 *     |
 *   child 2                       like child 1 and pid 1: compares when asked
 *
 * Each has MIB of its own; each process also has an area of SHARED_PAGES that was there before the
 * forks: a third of it it has written since, the rest is still its parent's.  Requests:
 *
 *   check    everybody compares everything; pid 1 also a file on a tmpfs, a System V segment, the
 *            host name and its pid
 *   change   everybody writes a fifth of their pages anew, another fifth each time
 *   rounds   how often the two were through with comparing by themselves
 *
 * The content of a page follows from who wrote it last, its area, its number and how many times
 * it was changed; a page of zeros, of another process or of an earlier time is wrong.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#define PAGE          4096
#define NR_WORDS      (PAGE / sizeof(uint64_t))
#define SHARED_PAGES  2048
#define NR_CHILDREN   3
#define THREAD        (NR_CHILDREN + 1) /* its number as a writer */
#define BATCH         16 /* pages that are compared by oneself before one looks for requests */
#define WALK_PRIME    1000003 /* above any number of pages: every page once a round */
#define SEGMENT_BYTES (64 * 1024)
#define TMPFS_FILE    "/tmp/file"
#define HOST_NAME     "lazy-box"

struct area {
	uint64_t *words;
	uint64_t nr_pages;
	uint64_t id;
};

struct result {
	uint64_t pages;
	uint64_t bad;
	uint64_t where; /* the first wrong byte's address */
};

struct child {
	int request[2];
	int answer[2];
};

/* One of the processes, or the thread. */
struct task {
	uint64_t number;
	uint64_t changes;
	struct area own, shared; /* the thread has no shared area */
	struct result found; /* what comparing by itself has found so far */
	uint64_t next; /* page to compare by itself, before it is shuffled */
	uint64_t rounds;
};

static void die(const char *what)
{
	fprintf(stderr, "memory: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static uint64_t page_seed(uint64_t area, uint64_t writer, uint64_t page, uint64_t times)
{
	return mix(area << 56 ^ writer << 48 ^ times << 32 ^ page);
}

/* How many of the changes 1..changes were of this page. */
static uint64_t times_changed(uint64_t page, uint64_t changes)
{
	return (changes + 5 - 1 - page % 5) / 5;
}

static uint64_t expected_seed(const struct task *t, const struct area *a, uint64_t page)
{
	uint64_t times = times_changed(page, t->changes);
	uint64_t writer = t->number;

	if (a == &t->shared && times == 0 && page % 3)
		writer = 0; /* as it was before the fork */
	return page_seed(a->id, writer, page, times);
}

static void write_page(const struct task *t, const struct area *a, uint64_t page)
{
	uint64_t seed = expected_seed(t, a, page);
	uint64_t *w = a->words + page * NR_WORDS;

	for (uint64_t i = 0; i < NR_WORDS; i++)
		w[i] = mix(seed + i);
}

static void compare_page(const struct task *t, const struct area *a, uint64_t page,
                         struct result *r)
{
	uint64_t seed = expected_seed(t, a, page);
	const uint64_t *w = a->words + page * NR_WORDS;

	for (uint64_t i = 0; i < NR_WORDS; i++)
		if (w[i] != mix(seed + i)) {
			if (!r->bad)
				r->where = (uintptr_t)&w[i];
			r->bad++;
			break;
		}
	r->pages++;
}

static struct area area_new(uint64_t id, uint64_t nr_pages)
{
	struct area a = {.nr_pages = nr_pages, .id = id};

	a.words = mmap(NULL, nr_pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
	               -1, 0);
	if (a.words == MAP_FAILED)
		die("mmap");
	return a;
}

static void area_fill(const struct task *t, const struct area *a)
{
	for (uint64_t page = 0; page < a->nr_pages; page++)
		write_page(t, a, page);
}

static void area_change(const struct task *t, const struct area *a)
{
	for (uint64_t page = (t->changes + 4) % 5; page < a->nr_pages; page += 5)
		write_page(t, a, page);
}

static void task_change(struct task *t)
{
	t->changes++;
	area_change(t, &t->own);
	area_change(t, &t->shared);
}

static struct result task_check(const struct task *t)
{
	struct result r = t->found;

	r.pages = 0;
	for (uint64_t page = 0; page < t->own.nr_pages; page++)
		compare_page(t, &t->own, page, &r);
	for (uint64_t page = 0; page < t->shared.nr_pages; page++)
		compare_page(t, &t->shared, page, &r);
	return r;
}

/* Compare the next few pages of one's own area, every page once a round, in an order like none. */
static void task_walk(struct task *t)
{
	for (int i = 0; i < BATCH; i++) {
		uint64_t page = t->next * WALK_PRIME % t->own.nr_pages;

		compare_page(t, &t->own, page, &t->found);
		if (++t->next == t->own.nr_pages) {
			t->next = 0;
			t->rounds++;
		}
	}
	usleep(500);
}

/* The thread; pid 1 tells it with these what to do, and waits until it has. */
static struct task thread_task;
static atomic_uint_fast64_t thread_changes, thread_changes_wanted;
static atomic_uint_fast64_t thread_checks, thread_checks_wanted;
static struct result thread_result;

static void *thread_main(void *arg)
{
	struct task *t = arg;

	for (;;) {
		task_walk(t);
		if (atomic_load(&thread_changes) != atomic_load(&thread_changes_wanted)) {
			task_change(t);
			atomic_fetch_add(&thread_changes, 1);
		}
		if (atomic_load(&thread_checks) != atomic_load(&thread_checks_wanted)) {
			thread_result = task_check(t);
			atomic_fetch_add(&thread_checks, 1);
		}
	}
	return NULL;
}

static void thread_wait(atomic_uint_fast64_t *is, atomic_uint_fast64_t *wanted)
{
	atomic_fetch_add(wanted, 1);
	while (atomic_load(is) != atomic_load(wanted))
		usleep(200);
}

static _Noreturn void child_main(struct task *t, const struct child *c)
{
	struct pollfd p = {.fd = c->request[0], .events = POLLIN};
	int walks = t->number == 3;
	char verb;

	area_fill(t, &t->own);
	for (uint64_t page = 0; page < t->shared.nr_pages; page += 3)
		write_page(t, &t->shared, page);
	for (;;) {
		struct result r = {0};

		if (walks && poll(&p, 1, 0) == 0) {
			task_walk(t);
			continue;
		}
		if (read(c->request[0], &verb, 1) != 1)
			exit(0);
		switch (verb) {
		case 'v':
			r = task_check(t);
			break;
		case 'c':
			task_change(t);
			break;
		default:
			r.pages = t->rounds;
		}
		if (write(c->answer[1], &r, sizeof(r)) != sizeof(r))
			die("answer");
	}
}

/* Child 2 is the child of child 1. */
static void start_children(const struct task *parent, struct child *children, uint64_t first)
{
	for (uint64_t n = first; n <= NR_CHILDREN; n++) {
		struct task t = *parent;
		pid_t pid;

		if (parent->number == 0 && n == 2)
			continue;
		pid = fork();
		if (pid < 0)
			die("fork");
		if (pid == 0) {
			t.number = n;
			t.own = area_new(n + 1, parent->own.nr_pages);
			munmap(parent->own.words, parent->own.nr_pages * PAGE);
			if (n == 1)
				start_children(&t, children, 2);
			child_main(&t, &children[n]);
		}
		if (parent->number == 1)
			return;
	}
}

static struct result ask_child(const struct child *c, char verb)
{
	struct result r;

	if (write(c->request[1], &verb, 1) != 1 || read(c->answer[0], &r, sizeof(r)) != sizeof(r))
		r = (struct result){.bad = 1};
	return r;
}

/* What belongs to the container rather than to its memory: NULL or what is wrong. */
static const char *box_wrong(const uint64_t *segment)
{
	struct utsname name;
	uint64_t word;
	FILE *f;

	if (getpid() != 1)
		return "the pid";
	if (uname(&name) < 0 || strcmp(name.nodename, HOST_NAME) != 0)
		return "the host name";
	for (uint64_t i = 0; i < SEGMENT_BYTES / sizeof(*segment); i++)
		if (segment[i] != mix(i))
			return "the System V segment";
	f = fopen(TMPFS_FILE, "r");
	if (!f)
		return "the file on the tmpfs";
	for (uint64_t i = 0; i < NR_WORDS; i++) {
		if (fread(&word, sizeof(word), 1, f) != 1 || word != mix(~i)) {
			fclose(f);
			return "the content of the file on the tmpfs";
		}
	}
	fclose(f);
	return NULL;
}

static uint64_t *box_fill(void)
{
	int id = shmget(IPC_PRIVATE, SEGMENT_BYTES, IPC_CREAT | 0600);
	uint64_t *segment = id < 0 ? (void *)-1 : shmat(id, NULL, 0);
	FILE *f = fopen(TMPFS_FILE, "w");

	if (segment == (void *)-1)
		die("System V segment");
	if (!f)
		die(TMPFS_FILE);
	for (uint64_t i = 0; i < SEGMENT_BYTES / sizeof(*segment); i++)
		segment[i] = mix(i);
	for (uint64_t i = 0; i < NR_WORDS; i++) {
		uint64_t word = mix(~i);

		if (fwrite(&word, sizeof(word), 1, f) != 1)
			die(TMPFS_FILE);
	}
	if (fclose(f))
		die(TMPFS_FILE);
	return segment;
}

static void answer(struct task *t, const struct child *children, const uint64_t *segment,
                   const char *request, char *reply, size_t size)
{
	struct result all[THREAD + 1] = {0};
	char verb = request[0] == 'c' ? (request[2] == 'e' ? 'v' : 'c') : 'r';
	uint64_t pages = 0;
	const char *wrong;

	if (verb == 'v') {
		all[0] = task_check(t);
		thread_wait(&thread_checks, &thread_checks_wanted);
		all[THREAD] = thread_result;
	} else if (verb == 'c') {
		task_change(t);
		thread_wait(&thread_changes, &thread_changes_wanted);
	} else {
		all[THREAD].pages = thread_task.rounds;
	}
	for (int n = 1; n <= NR_CHILDREN; n++)
		all[n] = ask_child(&children[n], verb);
	for (int n = 0; n <= THREAD; n++) {
		pages += all[n].pages;
		if (all[n].bad) {
			snprintf(reply, size, "bad: task %d: %lu pages differ, the first at %lx\n",
			         n, all[n].bad, all[n].where);
			return;
		}
	}
	wrong = box_wrong(segment);
	if (wrong)
		snprintf(reply, size, "bad: %s\n", wrong);
	else if (verb == 'r')
		snprintf(reply, size, "ok %lu rounds\n", pages);
	else
		snprintf(reply, size, "ok %lu pages, %lu changes\n", pages, t->changes);
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(a.sun_path)) {
		errno = ENAMETOOLONG;
		die(path);
	}
	strcpy(a.sun_path, path);
	return a;
}

static _Noreturn void serve(const char *path, uint64_t nr_pages)
{
	struct sockaddr_un a = address(path);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct child children[NR_CHILDREN + 1];
	struct task t = {0};
	uint64_t *segment;
	pthread_t thread;

	t.own = area_new(1, nr_pages);
	t.shared = area_new(0, SHARED_PAGES);
	area_fill(&t, &t.shared);
	for (int n = 1; n <= NR_CHILDREN; n++)
		if (pipe(children[n].request) < 0 || pipe(children[n].answer) < 0)
			die("pipe");
	start_children(&t, children, 1);
	area_fill(&t, &t.own);
	segment = box_fill();
	thread_task.number = THREAD;
	thread_task.own = area_new(THREAD + 1, nr_pages);
	area_fill(&thread_task, &thread_task.own);
	if (pthread_create(&thread, NULL, thread_main, &thread_task))
		die("pthread_create");
	for (int n = 1; n <= NR_CHILDREN; n++)
		ask_child(&children[n], 'r'); /* it has filled its memory when it answers */
	if (bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listener, 8) < 0)
		die(path);
	for (;;) {
		char request[32] = "", reply[128];
		int c = accept(listener, NULL, NULL);

		if (c < 0)
			continue;
		if (read(c, request, sizeof(request) - 1) > 3) {
			answer(&t, children, segment, request, reply, sizeof(reply));
			if (write(c, reply, strlen(reply)) < 0)
				fprintf(stderr, "memory: the asker is gone\n");
		}
		close(c);
	}
}

static int ask(const char *path, const char *request)
{
	struct sockaddr_un a = address(path);
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	char reply[128] = "";
	ssize_t n;

	if (connect(s, (struct sockaddr *)&a, sizeof(a)) < 0)
		die(path);
	if (write(s, request, strlen(request)) < 0)
		die("write");
	n = read(s, reply, sizeof(reply) - 1);
	if (n <= 0) {
		fprintf(stderr, "memory: no answer\n");
		return 1;
	}
	fputs(reply, stdout);
	return strncmp(reply, "ok", 2) != 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "serve") == 0)
		serve(argv[2], strtoul(argv[3], NULL, 10) * (1024 * 1024 / PAGE));
	if (argc == 4 && strcmp(argv[1], "ask") == 0)
		return ask(argv[2], argv[3]);
	fprintf(stderr, "usage: memory serve SOCKET MIB | memory ask SOCKET check|change|rounds\n");
	return 2;
}
