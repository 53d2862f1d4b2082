/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The library of the whole-system tests.
 *
 * A test is an ordinary program.  It builds some state, says so, waits, and when it is woken (by
 * then it has been dumped and restored lazily) does something to its memory and judges itself:
 *
 *	int main(int argc, char **argv)
 *	{
 *		test_init(argc, argv);
 *		... fill memory ...
 *		test_daemon();		// ready to be dumped
 *		test_waitsig();		// comes back in the restored process
 *		... use memory, fail("...") on anything wrong ...
 *		pass();
 *	}
 *
 * fail() may be called by any thread and by any process of the tree: the first verdict stands, and
 * the root's pass() after it is not one.  A child's end must be checked with test_reap().
 *
 * Memory is filled by pages, each keyed by (seed, page number), and all 512 words of a page are
 * compared, so a page that is missing, old, torn or another one is told apart.
 *
 * test_waitsig() returns at SIGTERM or as soon as the file "go" exists: the runner makes it before
 * the restore when a test shall race with the background copy, after it otherwise.
 *
 * The first lines of a test may tell the runner how to run it; test/zdtm/run --help lists the keys.
 */
#ifndef TEST_ZDTM_H
#define TEST_ZDTM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#define PAGE ((size_t)4096)

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/* --- life and verdict --- */

void test_init(int argc, char **argv);
void test_daemon(void);
void test_waitsig(void);
_Noreturn void pass(void);
/* What the test is about cannot be had here, and why. */
_Noreturn void skip(const char *why);
_Noreturn void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define CHECK(cond)                                                                   \
	do {                                                                          \
		if (!(cond))                                                          \
			fail("%s:%d: %s (errno %m)", __FILE_NAME__, __LINE__, #cond); \
	} while (0)

/* An absolute path in the test's own folder; the string lives until the next call. */
const char *test_path(const char *name);

/* For trees too large to let every process poll: they sleep in gate_wait() until the root, woken by
 * test_waitsig(), calls gate_open().  gate_init() comes before the first fork. */
void gate_init(void);
void gate_wait(void);
void gate_open(void);

/* --- processes and threads --- */

pid_t test_fork(void);
/* Waits for a child (-1: any) and fails unless it ended with this wait status (0, or a signal's
 * number). */
void test_reap(pid_t pid, int status);
/* Runs fn(i, arg) in n threads, i = 0..n-1, and waits for all of them. */
void test_threads(int n, void (*fn)(int i, void *arg), void *arg);

/* --- page contents --- */

void fill_page(void *page, uint64_t seed, uint64_t nr);
/* Fails unless the page holds what fill_page(seed, nr) wrote. */
void check_page(const void *page, uint64_t seed, uint64_t nr);
void check_zero(const void *page);
bool page_holds(const void *page, uint64_t seed, uint64_t nr);
bool page_is_zero(const void *page);

/* --- areas: anonymous private memory with pages seed:0, seed:1, ... --- */

struct area {
	uint8_t *p;
	size_t pages;
	uint64_t seed;
};

/* Inaccessible guard pages around it keep the kernel from merging it with its neighbours. */
struct area area_map(size_t pages);
struct area area_new(size_t pages, uint64_t seed);
void area_fill(const struct area *a, size_t from, size_t n);
/* Pages [from, from + n) of the area hold what they were filled with. */
void area_check(const struct area *a, size_t from, size_t n);
void area_check_all(const struct area *a);
void area_check_zero(const struct area *a, size_t from, size_t n);

/* That many MiB of memory that the test does not care about: they keep the background busy while
 * the test works, for which they should be mapped last (the kernel gives them a low address). */
void ballast(size_t mib);

/* Sleeps, without touching them, until the background has brought pages [from, from + n); fails
 * when it does not.  Returns at once in mode off, in which there is no background. */
void area_wait(const struct area *a, size_t from, size_t n);

static inline uint8_t *area_page(const struct area *a, size_t i)
{
	return a->p + i * PAGE;
}

/* --- random numbers --- */

uint64_t rnd(uint64_t *state);

static inline size_t rnd_below(uint64_t *state, size_t n)
{
	return (size_t)(rnd(state) % n);
}

/* The seed of a randomised test: ZDTM_SEED from the environment, or a fixed one. */
uint64_t test_seed(void);

#endif
