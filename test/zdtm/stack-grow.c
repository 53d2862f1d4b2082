/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FAULT */
/*
 * The main stack is large and missing when the process comes back from a deep recursion, and then
 * it grows far below the area that was dumped.
 */
#include "test/zdtm/zdtm.h"

#include <sys/resource.h>

#define DEPTH 400
#define FRAME 2048

static void grow(size_t depth)
{
	volatile uint64_t frame[FRAME / 8];
	size_t i;

	for (i = 0; i < FRAME / 8; i++)
		frame[i] = depth * 1000 + i;
	if (depth)
		grow(depth - 1);
	for (i = 0; i < FRAME / 8; i++)
		if (frame[i] != depth * 1000 + i)
			fail("frame %zu after growth: word %zu is %#llx", depth, i,
			     (unsigned long long)frame[i]);
}

/* Goes down, is dumped at the bottom, and checks each frame on its way up. */
static void down(size_t depth)
{
	volatile uint64_t frame[FRAME / 8];
	size_t i;

	for (i = 0; i < FRAME / 8; i++)
		frame[i] = depth + i;
	if (depth) {
		down(depth - 1);
	} else {
		test_daemon();
		test_waitsig();
		/* 2 MiB below everything that was there. */
		grow(1000);
	}
	for (i = 0; i < FRAME / 8; i++)
		if (frame[i] != depth + i)
			fail("frame %zu: word %zu is %#llx", depth, i,
			     (unsigned long long)frame[i]);
}

int main(int argc, char **argv)
{
	test_init(argc, argv);
	down(DEPTH);
	/* Up again and down into what is there now, and then further. */
	grow(DEPTH);
	grow(3000);
	pass();
}
