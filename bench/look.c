/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See look.h. */
#include <inttypes.h>

#include "bench/look.h"

static uint64_t rss_anon_kib(pid_t pid)
{
	char path[64], line[256];
	uint64_t kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "RssAnon: %" SCNu64, &kib) == 1)
			break;
	}
	fclose(f);
	return kib;
}

uint64_t look_tree_anon_kib(pid_t pid, int depth)
{
	uint64_t sum = rss_anon_kib(pid);
	char path[64];
	pid_t child;
	FILE *f;

	if (!depth)
		return sum;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	f = fopen(path, "re");
	if (!f)
		return sum;
	while (fscanf(f, "%d", &child) == 1)
		sum += look_tree_anon_kib(child, depth - 1);
	fclose(f);
	return sum;
}

int look_anon_pages(pid_t pid, uint64_t *ret_pages)
{
	uint64_t size, rss, shared;
	char path[64];
	FILE *f;
	int nr;

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	f = fopen(path, "re");
	if (!f)
		return -1;
	nr = fscanf(f, "%" SCNu64 " %" SCNu64 " %" SCNu64, &size, &rss, &shared);
	fclose(f);
	if (nr != 3)
		return -1;
	*ret_pages = rss - shared;
	return 0;
}
