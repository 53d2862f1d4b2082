/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FAULT */
/* Eight threads touch the same missing page at the same moment, page after page. */
#include "test/zdtm/zdtm.h"

#include <pthread.h>

#define THREADS 8
#define PAGES   3000

static struct area area;
static pthread_barrier_t barrier;

static void toucher(int i, void *arg)
{
	size_t n;

	(void)arg;
	for (n = 0; n < PAGES; n++) {
		/* Let the threads meet every few pages, so that they stay within reach. */
		if (n % 4 == 0)
			pthread_barrier_wait(&barrier);
		check_page(area_page(&area, n), area.seed, n);
		/* Each owns one word in eight and writes it while the others still read. */
		((volatile uint64_t *)area_page(&area, n))[i] |= 0;
	}
}

int main(int argc, char **argv)
{
	test_init(argc, argv);
	area = area_new(PAGES, 7);
	pthread_barrier_init(&barrier, NULL, THREADS);
	test_daemon();
	test_waitsig();

	test_threads(THREADS, toucher, NULL);
	area_check_all(&area);
	pass();
}
