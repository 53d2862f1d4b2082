/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FORK,FAULT */
/* zdtm: criu-helper=it fills wiped memory of a child with the old content */
/*
 * MADV_WIPEONFORK since before the dump: a child sees zeros, whether the parent's pages were
 * missing at the fork or not.  No event tells of it; the images do.
 */
#include "test/zdtm/zdtm.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PAGES 512

/* Whether the mapping at p still has the flag. */
static bool still_wiped(const void *p)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	uintptr_t start, end;
	bool here = false, wiped = false;
	char line[512];

	CHECK(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2)
			here = start <= (uintptr_t)p && (uintptr_t)p < end;
		else if (here && !strncmp(line, "VmFlags:", 8))
			wiped = strstr(line, " wf") != NULL;
	}
	fclose(f);
	return wiped;
}

int main(int argc, char **argv)
{
	struct area a;
	pid_t pid;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	CHECK(madvise(a.p, PAGES * PAGE, MADV_WIPEONFORK) == 0);
	ballast(256);
	test_daemon();
	test_waitsig();

	if (!still_wiped(a.p))
		skip("this CRIU loses MADV_WIPEONFORK");
	area_check(&a, 0, PAGES / 4);
	pid = test_fork();
	if (!pid) {
		area_check_zero(&a, 0, PAGES);
		_exit(0);
	}
	area_check_all(&a);
	test_reap(pid, 0);
	pass();
}
