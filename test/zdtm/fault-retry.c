/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FORK,REMAP,FAULT */
/*
 * A thread touches page after page while another one moves memory about, so that every now and then
 * a page cannot be copied at once (EAGAIN) and must be tried again.  Meanwhile 16 processes touch
 * missing pages of their own without a pause, and go on until the thread is through: a helper to
 * which the second try is background work, done when there is no fault, never comes to it.
 *
 * CRIU 4.2.1's helper gets through with images in the page cache, because it has idle moments;
 * where a page takes 100 us to read, it hangs (and takes 5 s without the second thread).
 */
#include "test/zdtm/zdtm.h"

#include <stdatomic.h>

#define PAGES     1000
#define MOVED     64
#define SUPPLIERS 2
#define CHILDREN  8
#define SUPPLY    4096 /* pages that each child touches */

static struct area mine, supply, moved;
static atomic_bool *done; /* shared by all processes */

static _Noreturn void child(void)
{
	size_t n;

	for (n = 0; n < SUPPLY && !*done; n++)
		*(volatile uint8_t *)area_page(&supply, n);
	_exit(0);
}

static _Noreturn void supplier(void)
{
	int i;

	while (!*done) {
		for (i = 0; i < CHILDREN; i++)
			if (!test_fork())
				child();
		for (i = 0; i < CHILDREN; i++)
			test_reap(-1, 0);
	}
	_exit(0);
}

static void mover(uint8_t *there)
{
	uint8_t *p;

	while (!*done) {
		p = mremap(moved.p, MOVED * PAGE, MOVED * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		           there);
		CHECK(p == there);
		there = moved.p;
		moved.p = p;
		usleep(200);
	}
}

static void work(int i, void *there)
{
	size_t n;

	if (i == 0) {
		for (n = 0; n < PAGES; n++)
			area_check(&mine, n, 1);
		*done = true;
	} else {
		mover(there);
	}
}

int main(int argc, char **argv)
{
	struct area there;
	int i;

	test_init(argc, argv);
	gate_init();
	done = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(done != MAP_FAILED);
	mine = area_new(PAGES, 7);
	there = area_map(MOVED);
	moved = area_new(MOVED, 9);
	supply = area_new(SUPPLY, 8);
	ballast(64);
	for (i = 0; i < SUPPLIERS; i++) {
		if (test_fork())
			continue;
		gate_wait();
		supplier();
	}
	test_daemon();
	test_waitsig();
	gate_open();
	test_threads(2, work, there.p);
	for (i = 0; i < SUPPLIERS; i++)
		test_reap(-1, 0);
	area_check_all(&moved);
	pass();
}
