/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The library of the whole-system tests: see zdtm.h. */
#include "test/zdtm/zdtm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

static char dir[PATH_MAX - 64];
static char go_path[PATH_MAX];
static char verdict_path[PATH_MAX];
static uint64_t seed_value = 1;
static bool background = true;
static int gate[2] = {-1, -1};

/* --- life and verdict --- */

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd >= 0) {
		if (write(fd, text, strlen(text)) < 0)
			_exit(3);
		close(fd);
	}
}

void fail(const char *fmt, ...)
{
	int saved = errno;
	char text[1024];
	size_t len;
	va_list ap;

	len = (size_t)snprintf(text, sizeof(text), "FAIL pid %d: ", getpid());
	va_start(ap, fmt);
	errno = saved;
	vsnprintf(text + len, sizeof(text) - len, fmt, ap);
	va_end(ap);
	write_file(verdict_path, text);
	_exit(1);
}

void pass(void)
{
	if (access(verdict_path, F_OK) == 0)
		_exit(1);
	write_file(verdict_path, "PASS");
	_exit(0);
}

void skip(const char *why)
{
	char text[256];

	snprintf(text, sizeof(text), "SKIP %s", why);
	if (access(verdict_path, F_OK) == 0)
		_exit(1);
	write_file(verdict_path, text);
	_exit(0);
}

const char *test_path(const char *name)
{
	static _Thread_local char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

void test_init(int argc, char **argv)
{
	const char *env = getenv("ZDTM_SEED");
	const char *mode = getenv("ZDTM_MODE");
	sigset_t set;

	if (argc < 2 || argv[1][0] != '/' || strlen(argv[1]) >= sizeof(dir)) {
		fprintf(stderr, "usage: %s /ABSOLUTE/DIRECTORY\n", argv[0]);
		exit(2);
	}
	strcpy(dir, argv[1]);
	snprintf(go_path, sizeof(go_path), "%s/go", dir);
	snprintf(verdict_path, sizeof(verdict_path), "%s/verdict", dir);
	if (env && *env)
		seed_value = strtoull(env, NULL, 0);
	background = !mode || strcmp(mode, "off");
	/* Descriptors of whoever started us must not get into the images. */
	close_range(3, ~0U, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

void test_daemon(void)
{
	write_file(test_path("ready"), "ready");
}

void test_waitsig(void)
{
	const struct timespec tick = {.tv_nsec = 500000};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	while (sigtimedwait(&set, NULL, &tick) != SIGTERM)
		if (access(go_path, F_OK) == 0)
			return;
}

void gate_init(void)
{
	CHECK(pipe(gate) == 0);
}

void gate_wait(void)
{
	char c;

	if (gate[1] >= 0)
		close(gate[1]);
	gate[1] = -1;
	CHECK(read(gate[0], &c, 1) == 0);
}

void gate_open(void)
{
	close(gate[1]);
	gate[1] = -1;
}

/* --- processes and threads --- */

pid_t test_fork(void)
{
	pid_t pid = fork();

	if (pid < 0)
		fail("fork: %m");
	return pid;
}

void test_reap(pid_t pid, int status)
{
	pid_t who;
	int got;

	/* Others of the tree may end while CRIU still traces this process: EINTR is its doing. */
	do
		who = waitpid(pid, &got, 0);
	while (who < 0 && errno == EINTR);
	if (who < 0)
		fail("waitpid(%d): %m", pid);
	if (got != status)
		fail("child %d ended with wait status %#x, not %#x", who, got, status);
}

struct job {
	void (*fn)(int i, void *arg);
	void *arg;
	int i;
};

static void *job_main(void *arg)
{
	struct job *job = arg;

	job->fn(job->i, job->arg);
	return NULL;
}

void test_threads(int n, void (*fn)(int i, void *arg), void *arg)
{
	struct job *jobs = calloc((size_t)n, sizeof(*jobs));
	pthread_t *threads = calloc((size_t)n, sizeof(*threads));
	int i, err;

	CHECK(jobs && threads);
	for (i = 0; i < n; i++) {
		jobs[i] = (struct job){fn, arg, i};
		err = pthread_create(&threads[i], NULL, job_main, &jobs[i]);
		if (err)
			fail("pthread_create: %s", strerror(err));
	}
	for (i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	free(jobs);
	free(threads);
}

/* --- page contents --- */

#define WORDS (PAGE / sizeof(uint64_t))
#define STEP  0x9e3779b97f4a7c15ULL

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static uint64_t first_word(uint64_t seed, uint64_t nr)
{
	return mix(mix(seed + STEP) + nr * STEP + 1) | 1;
}

void fill_page(void *page, uint64_t seed, uint64_t nr)
{
	volatile uint64_t *w = page;
	uint64_t v = first_word(seed, nr);
	size_t i;

	for (i = 0; i < WORDS; i++, v += STEP)
		w[i] = v;
}

static size_t first_difference(const void *page, uint64_t v, uint64_t step)
{
	const volatile uint64_t *w = page;
	size_t i;

	for (i = 0; i < WORDS; i++, v += step)
		if (w[i] != v)
			return i;
	return WORDS;
}

bool page_holds(const void *page, uint64_t seed, uint64_t nr)
{
	return first_difference(page, first_word(seed, nr), STEP) == WORDS;
}

bool page_is_zero(const void *page)
{
	return first_difference(page, 0, 0) == WORDS;
}

/* What a wrong page looks like, in words: most failures are explained by it. */
static const char *describe(const void *page, uint64_t seed)
{
	static _Thread_local char text[96];
	const volatile uint64_t *w = page;
	uint64_t nr;

	if (page_is_zero(page))
		return "it is all zero";
	for (nr = 0; nr < 1 << 20; nr++)
		if (w[0] == first_word(seed, nr)) {
			snprintf(text, sizeof(text), "it holds page %s%llu of the same area",
			         page_holds(page, seed, nr) ? "" : "(torn) ",
			         (unsigned long long)nr);
			return text;
		}
	return "it holds something else";
}

void check_page(const void *page, uint64_t seed, uint64_t nr)
{
	const volatile uint64_t *w = page;
	uint64_t v = first_word(seed, nr);
	size_t i = first_difference(page, v, STEP);

	if (i < WORDS)
		fail("address %p (page %llu of area seed %#llx): word %zu is %#llx, not %#llx; %s",
		     page, (unsigned long long)nr, (unsigned long long)seed, i,
		     (unsigned long long)w[i], (unsigned long long)(v + i * STEP),
		     describe(page, seed));
}

void check_zero(const void *page)
{
	const volatile uint64_t *w = page;
	size_t i = first_difference(page, 0, 0);

	if (i < WORDS)
		fail("address %p: word %zu is %#llx, not zero", page, i, (unsigned long long)w[i]);
}

/* --- areas --- */

struct area area_map(size_t pages)
{
	struct area a = {.pages = pages};
	uint8_t *p = mmap(NULL, (pages + 2) * PAGE, PROT_NONE,
	                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		fail("mmap of %zu pages: %m", pages);
	a.p = p + PAGE;
	if (mmap(a.p, pages * PAGE, PROT_READ | PROT_WRITE,
	         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
		fail("mmap of %zu pages: %m", pages);
	return a;
}

struct area area_new(size_t pages, uint64_t seed)
{
	struct area a = area_map(pages);

	a.seed = seed;
	area_fill(&a, 0, pages);
	return a;
}

/* The first page that is not there, or n. */
static size_t first_missing(const struct area *a, size_t from, size_t n)
{
	unsigned char vec[1024];
	size_t i, k, part;

	for (i = 0; i < n; i += part) {
		part = n - i < sizeof(vec) ? n - i : sizeof(vec);
		CHECK(mincore(area_page(a, from + i), part * PAGE, vec) == 0);
		for (k = 0; k < part; k++)
			if (!(vec[k] & 1))
				return i + k;
	}
	return n;
}

void area_wait(const struct area *a, size_t from, size_t n)
{
	const struct timespec tick = {.tv_nsec = 5000000};
	size_t got = 0, next;
	int idle = 0;

	if (!background)
		return;
	while ((next = first_missing(a, from, n)) < n) {
		idle = next > got ? 0 : idle + 1;
		if (next > got)
			got = next;
		if (idle == 2000)
			fail("the background stands still: page %zu of %zu (%p) has not come for "
			     "10 s",
			     from + next, from + n, (void *)area_page(a, from + next));
		nanosleep(&tick, NULL);
	}
}

void ballast(size_t mib)
{
	area_new((mib << 20) / PAGE, 0xba11a57);
}

void area_fill(const struct area *a, size_t from, size_t n)
{
	size_t i;

	for (i = from; i < from + n; i++)
		fill_page(area_page(a, i), a->seed, i);
}

void area_check(const struct area *a, size_t from, size_t n)
{
	size_t i;

	for (i = from; i < from + n; i++)
		check_page(area_page(a, i), a->seed, i);
}

void area_check_all(const struct area *a)
{
	area_check(a, 0, a->pages);
}

void area_check_zero(const struct area *a, size_t from, size_t n)
{
	size_t i;

	for (i = from; i < from + n; i++)
		check_zero(area_page(a, i));
}

/* --- random numbers --- */

uint64_t rnd(uint64_t *state)
{
	*state += STEP;
	return mix(*state);
}

uint64_t test_seed(void)
{
	return seed_value;
}
