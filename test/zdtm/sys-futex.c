/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FAULT */
/* Futex words in missing pages: the kernel compares, wakes, requeues and changes them. */
#include "test/zdtm/zdtm.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#define PAGES 2048

static struct area area;
static _Atomic int turn;

static long futex(const void *word, int op, uint32_t val, const void *timeout, const void *word2,
                  uint32_t val3)
{
	return syscall(SYS_futex, word, op, val, timeout, word2, val3);
}

/* Thread 1 sleeps on a word of a missing page until thread 0 changes it and wakes it. */
static void pair(int who, void *arg)
{
	volatile uint32_t *w;
	uint32_t old;
	size_t i;

	(void)arg;
	for (i = 1024; i < PAGES; i++) {
		w = (volatile uint32_t *)area_page(&area, i) + 5;
		if (who == 0) {
			while (turn != (int)i)
				;
			*w = 0;
			futex((const void *)w, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
			while (turn == (int)i)
				;
		} else {
			turn = (int)i;
			while ((old = *w))
				futex((const void *)w, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
			turn = 0;
		}
	}
}

int main(int argc, char **argv)
{
	const struct timespec ms = {.tv_nsec = 1000000};
	uint32_t *w, want;
	struct area ref;
	size_t i;

	test_init(argc, argv);
	area = area_new(PAGES, 1);
	ref = area_new(1, 2);
	test_daemon();
	test_waitsig();

	for (i = 0; i < 1024; i++) {
		w = (uint32_t *)area_page(&area, i) + 77;
		fill_page(ref.p, 1, i);
		want = ((uint32_t *)ref.p)[77];
		switch (i % 4) {
		case 0: /* a value that differs: EAGAIN shows that the kernel saw the real one */
			CHECK(futex(w, FUTEX_WAIT, 0, NULL, NULL, 0) == -1 && errno == EAGAIN);
			break;
		case 1: /* the value that it has: sleeps until the time is over */
			if (i % 64 == 1)
				CHECK(futex(w, FUTEX_WAIT, want, &ms, NULL, 0) == -1 &&
				      errno == ETIMEDOUT);
			break;
		case 2:
			CHECK(futex(w, FUTEX_WAKE, 1, NULL, NULL, 0) == 0);
			break;
		case 3:
			CHECK(futex(w, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)1,
			            area_page(&area, i - 1), want) == 0);
			CHECK(futex(w, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, w,
			            FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0)) >= 0);
			CHECK(*w == want + 1);
			*w = want;
			break;
		}
		check_page(area_page(&area, i), 1, i);
	}
	test_threads(2, pair, NULL);
	pass();
}
