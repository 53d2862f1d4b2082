/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FAULT */
/* Sixty-four threads wait deep in their stacks, and each checks every frame on its way up. */
#include "test/zdtm/zdtm.h"

#include <pthread.h>
#include <unistd.h>

#define THREADS 64
#define DEPTH   64
#define FRAME   1024

static pthread_barrier_t start;
static int wake[2];
static _Thread_local uint64_t tls[512];

static void down(size_t depth, uint64_t key)
{
	volatile uint64_t frame[FRAME / 8];
	size_t i;
	char c;

	for (i = 0; i < FRAME / 8; i++)
		frame[i] = key + depth * 1000 + i;
	if (depth) {
		down(depth - 1, key);
	} else {
		pthread_barrier_wait(&start);
		CHECK(read(wake[0], &c, 1) == 0);
	}
	for (i = 0; i < FRAME / 8; i++)
		if (frame[i] != key + depth * 1000 + i)
			fail("thread %llu, frame %zu: word %zu is %#llx",
			     (unsigned long long)(key >> 32), depth, i,
			     (unsigned long long)frame[i]);
}

static void *thread(void *arg)
{
	uint64_t key = (uint64_t)(uintptr_t)arg << 32;
	size_t i;

	for (i = 0; i < 512; i++)
		tls[i] = key + i;
	down(DEPTH, key);
	for (i = 0; i < 512; i++)
		CHECK(tls[i] == key + i);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[THREADS];
	size_t i;

	test_init(argc, argv);
	CHECK(pipe(wake) == 0);
	pthread_barrier_init(&start, NULL, THREADS + 1);
	for (i = 0; i < THREADS; i++)
		CHECK(pthread_create(&t[i], NULL, thread, (void *)(i + 1)) == 0);
	pthread_barrier_wait(&start);
	test_daemon();
	test_waitsig();

	close(wake[1]);
	for (i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	pass();
}
