/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A page that Linux (seen with 6.18) loses without userfaultfd: Documentation/LIMITS.md,
 * "process_vm_readv(), fork and MADV_FREE".  Not run by any test.
 *
 *	cc -o /tmp/free-shared test/kernel/free-shared.c && /tmp/free-shared
 *
 * It prints what the first byte is, which nobody has changed from 7.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE = 4096 };

int main(void)
{
	char *page = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char copy[SIZE];
	struct iovec to = {copy, SIZE}, from = {page, SIZE};
	pid_t holder, freer;

	if (page == MAP_FAILED)
		return 2;
	memset(page, 7, SIZE);
	holder = fork(); /* the page is shared */
	if (!holder) {
		pause();
		_exit(0);
	}
	/* A pin of a shared page: the kernel makes an exclusive copy, which is clean. */
	if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != SIZE)
		return 2;
	freer = fork(); /* that one is shared */
	if (!freer)
		_exit(madvise(page, SIZE, MADV_FREE) ? 1 : 0);
	waitpid(freer, NULL, 0);
	madvise(page, SIZE, MADV_PAGEOUT); /* as when memory is scarce */
	printf("%d\n", page[0]);
	kill(holder, SIGKILL);
	return page[0] != 7;
}
