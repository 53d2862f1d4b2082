/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The program that is checkpointed and restored lazily: N MiB of private anonymous memory in V
 * mappings, filled with a pattern.
 *
 *   ready --(dumped, restored)--> first instruction --> touch every page --> verify every word
 *
 * What is timed is the first touch of each page: one load of eight bytes between two readings of
 * the time stamp counter.  What the timing itself needs (orders, latencies, control block) is in
 * shared memory, which is never lazy, and is made present before the first touch.
 *
 * Did a touch fault?  The latencies show a valley between touches that found their page and touches
 * that waited, and `threshold_us` is put there (see threshold()); `minflt`, the kernel's own count
 * of the faults of the touching threads, is printed beside it and must be about the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#ifdef __x86_64__
#include <x86intrin.h>
#endif

#include "bench/control.h"
#include "bench/latency.h"

#define PAGE  4096ull
#define WORDS (PAGE / sizeof(uint64_t))

struct worker {
	uint64_t wrong; /* touches that did not see the page's first word */
	uint64_t minflt;
	uint64_t pad[6];
};

/* Everything that outlives the dump and is not lazy: one shared anonymous mapping. */
struct shared {
	_Atomic uint32_t go; /* futex: the other threads may start */
	_Atomic uint32_t nr_running; /* futex: threads that have not finished */
	struct worker worker[CONTROL_MAX_THREADS];
};

struct workload {
	struct control *ctl;
	struct shared *shared;
	uint32_t *order[3]; /* by mode: page slots; a slot is (address - base) / PAGE */
	uint64_t *latency; /* ticks, by position in the order */
	unsigned char *base; /* the memory, with a hole of a page after each mapping */
	uint64_t nr_pages, nr_vmas, seed;
	char out[1024];
};

struct thread_arg {
	struct workload *w;
	uint32_t nr;
};

static void die(const char *what)
{
	fprintf(stderr, "workload: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static inline uint64_t ticks_begin(void)
{
#ifdef __x86_64__
	_mm_lfence();
	return __rdtsc();
#else
	return now(CLOCK_MONOTONIC);
#endif
}

static inline uint64_t ticks_end(void)
{
#ifdef __x86_64__
	unsigned int aux;
	uint64_t t = __rdtscp(&aux);

	_mm_lfence();
	return t;
#else
	return now(CLOCK_MONOTONIC);
#endif
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* The word at `word` of the page in `slot`; never 0, so that a zero page is always wrong. */
static uint64_t pattern(uint64_t seed, uint64_t slot, uint64_t word)
{
	return mix(seed + slot * WORDS + word) | 1;
}

static void futex_wait(_Atomic uint32_t *at, uint32_t value)
{
	syscall(SYS_futex, at, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *at)
{
	syscall(SYS_futex, at, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* --- before the dump ------------------------------------------------------------------------- */

static void *map_shared(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap of shared memory");
	return p;
}

/* V mappings of nearly equal size; a hole of one page after each keeps them apart. */
static void map_memory(struct workload *w)
{
	uint64_t slots = w->nr_pages + w->nr_vmas, slot = 0, nr = 0;
	void *p = mmap(NULL, slots * PAGE, PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		die("mmap of the memory");
	w->base = p;
	madvise(p, slots * PAGE, MADV_NOHUGEPAGE);
	for (uint64_t v = 0; v < w->nr_vmas; v++) {
		uint64_t end = (v + 1) * w->nr_pages / w->nr_vmas;

		for (; nr < end; nr++)
			w->order[MODE_SEQUENTIAL][nr] = (uint32_t)slot++;
		if (munmap(w->base + slot++ * PAGE, PAGE))
			die("munmap of a hole");
	}
}

static void fill(struct workload *w)
{
	for (uint64_t i = 0; i < w->nr_pages; i++) {
		uint64_t slot = w->order[MODE_SEQUENTIAL][i];
		uint64_t *page = (uint64_t *)(void *)(w->base + slot * PAGE);

		for (uint64_t k = 0; k < WORDS; k++)
			page[k] = pattern(w->seed, slot, k);
	}
}

static void shuffle(struct workload *w)
{
	uint32_t *order = w->order[MODE_RANDOM];
	uint64_t state = w->seed;

	memcpy(order, w->order[MODE_SEQUENTIAL], w->nr_pages * sizeof(*order));
	for (uint64_t i = w->nr_pages - 1; i > 0; i--) {
		uint64_t k = (state = mix(state)) % (i + 1);
		uint32_t tmp = order[i];

		order[i] = order[k];
		order[k] = tmp;
	}
}

static struct control *map_control(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *p;

	if (fd < 0 || ftruncate(fd, CONTROL_SIZE))
		die(path);
	p = mmap(NULL, CONTROL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		die(path);
	close(fd);
	return p;
}

/* --- after the restore ------------------------------------------------------------------------ */

static void touch(struct workload *w, uint32_t nr)
{
	struct control *ctl = w->ctl;
	struct worker *me = &w->shared->worker[nr];
	volatile uint64_t *progress = &ctl->thread[nr].touched;
	uint64_t first = w->nr_pages * nr / ctl->threads;
	uint64_t end = w->nr_pages * (nr + 1) / ctl->threads;
	const uint32_t *order = w->order[ctl->mode];
	struct rusage before, after;

	getrusage(RUSAGE_THREAD, &before);
	for (uint64_t i = first; i < end; i++) {
		const volatile uint64_t *at =
			(const volatile uint64_t *)(const void *)(w->base + order[i] * PAGE);
		uint64_t t0 = ticks_begin(), word = *at;

		w->latency[i] = ticks_end() - t0;
		me->wrong += word != pattern(w->seed, order[i], 0);
		*progress = i - first + 1;
	}
	getrusage(RUSAGE_THREAD, &after);
	me->minflt = (uint64_t)(after.ru_minflt - before.ru_minflt);
}

static void *thread_main(void *p)
{
	struct thread_arg *arg = p;
	struct shared *sh = arg->w->shared;

	while (!atomic_load(&sh->go))
		futex_wait(&sh->go, 0);
	if (arg->nr < arg->w->ctl->threads)
		touch(arg->w, arg->nr);
	if (atomic_fetch_sub(&sh->nr_running, 1) == 1)
		futex_wake(&sh->nr_running);
	return NULL;
}

/* The first touches of what we measure with must not be among what we measure. */
static void make_present(struct workload *w)
{
	madvise(w->latency, w->nr_pages * sizeof(uint64_t), MADV_POPULATE_WRITE);
	madvise(w->order[w->ctl->mode], w->nr_pages * sizeof(uint32_t), MADV_POPULATE_READ);
	madvise(w->shared, sizeof(*w->shared), MADV_POPULATE_WRITE);
}

static void run(struct workload *w, uint32_t nr_threads)
{
	struct control *ctl = w->ctl;
	struct shared *sh = w->shared;
	uint32_t running;

	if (ctl->mode == MODE_IDLE)
		return;
	make_present(w);
	atomic_store(&sh->nr_running, nr_threads);
	ctl->start_mono = now(CLOCK_MONOTONIC);
	if (ctl->threads > 1) {
		atomic_store(&sh->go, 1);
		futex_wake(&sh->go);
	} else {
		atomic_store(&sh->nr_running, 1);
	}
	touch(w, 0);
	atomic_fetch_sub(&sh->nr_running, 1);
	while ((running = atomic_load(&sh->nr_running)) > 0)
		futex_wait(&sh->nr_running, running);
	ctl->end_mono = now(CLOCK_MONOTONIC);
}

static uint64_t wrong_pages(const struct workload *w)
{
	uint64_t wrong = 0;

	for (uint64_t i = 0; i < w->nr_pages; i++) {
		uint64_t slot = w->order[MODE_SEQUENTIAL][i], k = 0;
		const uint64_t *page = (const uint64_t *)(const void *)(w->base + slot * PAGE);

		while (k < WORDS && page[k] == pattern(w->seed, slot, k))
			k++;
		wrong += k < WORDS;
	}
	return wrong;
}

static void write_latencies(const struct workload *w)
{
	char path[1100];
	FILE *f;

	snprintf(path, sizeof(path), "%s.latency", w->out);
	f = fopen(path, "w");
	if (!f || fwrite(w->latency, sizeof(uint64_t), w->nr_pages, f) != w->nr_pages)
		die(path);
	fclose(f);
}

/* The clock of the counter, from the run itself: ticks between two moments that it also timed. */
static void ticks_to_ns(struct workload *w, uint64_t tick0, uint64_t mono0)
{
	double ns = (double)(now(CLOCK_MONOTONIC) - mono0);
	double ratio = ns / (double)(ticks_end() - tick0);

	for (uint64_t i = 0; i < w->nr_pages; i++)
		w->latency[i] = (uint64_t)((double)w->latency[i] * ratio + 0.5);
}

static void report(struct workload *w)
{
	struct control *ctl = w->ctl;
	uint64_t touch_wrong = 0, minflt = 0;
	char path[1100];
	FILE *f;

	snprintf(path, sizeof(path), "%s.result", w->out);
	f = fopen(path, "w");
	if (!f)
		die(path);
	if (ctl->mode != MODE_IDLE) {
		for (uint32_t t = 0; t < ctl->threads; t++) {
			touch_wrong += w->shared->worker[t].wrong;
			minflt += w->shared->worker[t].minflt;
		}
		fprintf(f, "wall_ms=%.3f\nwrong_touches=%lu\nminflt=%lu\n",
		        (double)(ctl->end_mono - ctl->start_mono) / 1e6, (unsigned long)touch_wrong,
		        (unsigned long)minflt);
		write_latencies(w);
		latency_print(w->latency, w->nr_pages, f);
	}
	fprintf(f, "wrong_pages=%lu\n", (unsigned long)ctl->wrong_pages);
	if (fclose(f))
		die(path);
}

/* --- the whole -------------------------------------------------------------------------------- */

static void start_threads(struct workload *w, uint32_t nr)
{
	static struct thread_arg args[CONTROL_MAX_THREADS];
	pthread_t id;

	for (uint32_t i = 1; i < nr; i++) {
		args[i] = (struct thread_arg){.w = w, .nr = i};
		errno = pthread_create(&id, NULL, thread_main, &args[i]);
		if (errno)
			die("pthread_create");
	}
}

static void wait_for_verify(const volatile struct control *ctl)
{
	const struct timespec pause = {.tv_nsec = 5000000};

	while (!ctl->verify)
		nanosleep(&pause, NULL);
}

static void live(struct workload *w, uint32_t nr_threads)
{
	volatile struct control *ctl = w->ctl;
	uint64_t tick0, mono0;

	ctl->pid = getpid();
	ctl->ready_real = now(CLOCK_REALTIME);
	ctl->ready_mono = now(CLOCK_MONOTONIC);
	ctl->magic = CONTROL_MAGIC;
	ctl->state = STATE_READY;
	printf("ready\n");
	fflush(stdout);

	while (!ctl->released)
		; /* dumped here */
	mono0 = now(CLOCK_MONOTONIC);
	ctl->first_mono = mono0;
	ctl->first_real = now(CLOCK_REALTIME);
	ctl->state = STATE_STARTED;
	tick0 = ticks_begin();
	run(w, nr_threads);
	ctl->state = STATE_DONE;

	wait_for_verify(ctl);
	ctl->wrong_pages =
		wrong_pages(w); /* before any use of the C library: its data may be wrong too */
	if (ctl->mode != MODE_IDLE)
		ticks_to_ns(w, tick0, mono0);
	report(w);
	ctl->state = STATE_VERIFIED;
	for (;;)
		pause();
}

static void usage(void)
{
	fprintf(stderr, "usage: workload --control FILE --out PREFIX [--mib N] [--vmas V] "
	                "[--threads MAX] [--seed S]\n");
	exit(2);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"control", required_argument, NULL, 'c'},
		{"out", required_argument, NULL, 'o'},
		{"mib", required_argument, NULL, 'm'},
		{"vmas", required_argument, NULL, 'v'},
		{"threads", required_argument, NULL, 't'},
		{"seed", required_argument, NULL, 's'},
		{NULL, 0, NULL, 0},
	};
	/* shared: must be right also after a helper that lost pages */
	struct workload *w = map_shared(sizeof(*w));
	uint64_t mib = 512, threads = 4;
	const char *control = NULL;
	int opt;

	w->nr_vmas = 1;
	w->seed = 1;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			control = optarg;
			break;
		case 'o':
			snprintf(w->out, sizeof(w->out), "%s", optarg);
			break;
		case 'm':
			mib = strtoull(optarg, NULL, 10);
			break;
		case 'v':
			w->nr_vmas = strtoull(optarg, NULL, 10);
			break;
		case 't':
			threads = strtoull(optarg, NULL, 10);
			break;
		case 's':
			w->seed = strtoull(optarg, NULL, 10);
			break;
		default:
			usage();
		}
	}
	w->nr_pages = mib * 256;
	if (!control || !w->out[0] || !mib || mib > (1u << 20) || !w->nr_vmas ||
	    w->nr_vmas > w->nr_pages || !threads || threads > CONTROL_MAX_THREADS)
		usage();
	w->shared = map_shared(sizeof(*w->shared));
	w->latency = map_shared(w->nr_pages * sizeof(uint64_t));
	w->order[MODE_RANDOM] = map_shared(w->nr_pages * sizeof(uint32_t));
	w->order[MODE_SEQUENTIAL] = map_shared(w->nr_pages * sizeof(uint32_t));
	w->ctl = map_control(control);
	w->ctl->nr_pages = w->nr_pages;
	w->ctl->nr_vmas = w->nr_vmas;
	map_memory(w);
	shuffle(w);
	fill(w);
	start_threads(w, (uint32_t)threads);
	live(w, (uint32_t)threads);
}
