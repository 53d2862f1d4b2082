/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: modes=soon,off; sp=aligned */
/*
 * A process that is dumped with a stack pointer that is a multiple of the page size: CRIU then
 * marks none of its pages lazy, and a helper with nothing to do must end well all the same.  Its
 * child is an ordinary process.
 */
#include "test/zdtm/zdtm.h"

#include <sys/syscall.h>

#define PAGES 1024

static struct area stack;
static char one;

/* read(fd, &one, 1) with the stack pointer at the beginning of a page. */
static long read_aligned(int fd)
{
	long ret = SYS_read;

#ifdef __x86_64__
	__asm__ volatile("movq %%rsp, %%r12\n\t"
	                 "movq %1, %%rsp\n\t"
	                 "syscall\n\t"
	                 "movq %%r12, %%rsp"
	                 : "+a"(ret)
	                 : "r"(area_page(&stack, 8)), "D"((long)fd), "S"(&one), "d"(1L)
	                 : "rcx", "r11", "r12", "memory");
#else
	ret = read(fd, &one, 1);
#endif
	return ret;
}

int main(int argc, char **argv)
{
	struct area a;
	pid_t child;
	int go[2];

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	stack = area_new(16, 2);
	CHECK(pipe(go) == 0);
	child = test_fork();
	if (!child) {
		test_waitsig();
		area_check_all(&a);
		CHECK(write(go[1], "g", 1) == 1);
		_exit(0);
	}
	test_daemon();
	CHECK(read_aligned(go[0]) == 1);

	area_check_all(&a);
	area_check_all(&stack);
	test_reap(child, 0);
	pass();
}
