/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fail.so, for LD_PRELOAD: counts the calls of each function in functions.h, and makes one of them
 * fail, once, in one of the helper's processes.
 *
 * Calls that are made before the last constructor (this one) are nobody's: they belong to the
 * libraries' start.  A wrapper asks the next library for the real function, so that a sanitizer's
 * wrappers go on working behind it.
 */
#include "test/torture/fail.h"

#include <dlfcn.h>
#include <elf.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

struct torture *torture;
__thread bool busy;

static uint64_t base, base_end;

void *real_of(const char *name)
{
	bool before = busy;
	void *real;

	busy = true; /* dlsym() may allocate */
	real = dlsym(RTLD_NEXT, name);
	busy = before;
	if (!real)
		abort();
	return real;
}

static void note_place(void)
{
	void *frames[MAX_FRAMES];
	int nr = backtrace(frames, MAX_FRAMES), i;
	uint32_t used = 0;

	for (i = 0; i < nr; i++) {
		uint64_t at = (uint64_t)(uintptr_t)frames[i];

		if (at >= base && at < base_end)
			torture->frame[used++] = at - base;
	}
	torture->nr_frames = used;
	torture->pid = (uint32_t)getpid();
}

bool fails(enum function function)
{
	uint64_t n;

	if (!torture || busy)
		return false;
	n = __atomic_add_fetch(&torture->count[function], 1, __ATOMIC_RELAXED);
	if (torture->function != (int32_t)function || torture->nth != n)
		return false;
	busy = true;
	note_place();
	busy = false;
	if (!torture->nr_frames) /* a sanitizer's own, which may not fail */
		return false;
	__atomic_add_fetch(&torture->hits, 1, __ATOMIC_SEQ_CST);
	errno = torture->error;
	return true;
}

static void find_program(void)
{
	const Elf64_Phdr *phdr = (const Elf64_Phdr *)getauxval(AT_PHDR);
	unsigned long nr = getauxval(AT_PHNUM), i;

	base = ((uint64_t)(uintptr_t)phdr) &
	       ~UINT64_C(4095); /* the headers are in its first page */
	for (i = 0; i < nr; i++)
		if (phdr[i].p_type == PT_LOAD &&
		    base + phdr[i].p_vaddr + phdr[i].p_memsz > base_end)
			base_end = base + phdr[i].p_vaddr + phdr[i].p_memsz;
}

static void __attribute__((constructor)) start(void)
{
	static const char *const names[] = {
#define FUNCTION_NAME(name, text) text,
		FUNCTIONS(FUNCTION_NAME)};
	const char *path = getenv("TORTURE_FILE");
	struct torture *map = MAP_FAILED;
	void *frames[4];
	int fd = -1, i;

	busy = true;
	if (path)
		fd = REAL(open)(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		map = REAL(mmap)(NULL, sizeof(*map), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		fprintf(stderr, "fail.so: TORTURE_FILE: %m\n");
		abort();
	}
	REAL(close)(fd);
	for (i = 0; i < NR_FUNCTIONS; i++)
		snprintf(map->name[i], NAME_SIZE, "%s", names[i]);
	map->nr_functions = NR_FUNCTIONS;
	find_program();
	backtrace(frames, 4); /* loads what it needs */
	torture = map;
	busy = false;
}
