/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kills the helper's worker at random moments, with the signals of a plain kill, an assertion and a
 * wild pointer; or stops it for a while; and cuts the connections of the proxy.
 *
 * The helper that was started is the guardian, its child is the worker.  Before each kill it is
 * looked up how many pages of the tasks are missing: the model knows which pages have content, and
 * /proc/PID/pagemap whether there is a page.  That is a moment's picture of threads at work, so a
 * few pages more or less; but hundreds of missing pages are hundreds.
 */
#include "test/soak/soak.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* 0: it has none. */
static pid_t worker_of(pid_t helper)
{
	char path[64], text[256] = {0};
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", helper, helper);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
}

static bool is_gone(pid_t pid)
{
	char path[64], text[512] = {0};
	const char *state;
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	state = n > 0 ? strrchr(text, ')') : NULL;
	return !state || state[2] == 'Z' || state[2] == 'X';
}

/* --- what is missing --- */

static uint64_t area_missing(int pagemap, const struct world *w, unsigned int a)
{
	uint64_t entry[MAX_PAGES], nr = 0;
	off_t off = (off_t)((uintptr_t)w->area[a] / PAGE * sizeof(*entry));
	ssize_t n = pread(pagemap, entry, w->pages * sizeof(*entry), off);
	unsigned int i;

	for (i = 0; n > 0 && i < (size_t)n / sizeof(*entry); i++)
		if (w->id[a][i] != ID_ZERO && w->id[a][i] < ID_FREED && !(entry[i] >> 62))
			nr++;
	return nr;
}

static uint64_t pages_missing(const struct killer *k)
{
	uint64_t nr = 0;
	unsigned int t, i, a;
	char path[64];
	int fd;

	for (t = 0; t < k->settings->tasks; t++) {
		if (!k->shared->task_going[t])
			continue;
		snprintf(path, sizeof(path), "/proc/%d/pagemap", k->shared->task_pid[t]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		for (i = 0; i < k->settings->threads; i++)
			for (a = 0; a < k->settings->areas; a++)
				nr += area_missing(fd, &k->shared->world[t][i], a);
		close(fd);
	}
	return nr;
}

static bool waits(const char *task, const char *tid)
{
	char path[512], text[64] = {0};
	int fd;

	snprintf(path, sizeof(path), "%s/%s/wchan", task, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	close(fd);
	return strcmp(text, "handle_userfault") == 0;
}

static bool somebody_waits(const struct killer *k)
{
	struct dirent *e;
	bool found = false;
	unsigned int t;
	char path[64];
	DIR *dir;

	for (t = 0; !found && t < k->settings->tasks; t++) {
		snprintf(path, sizeof(path), "/proc/%d/task", k->shared->task_pid[t]);
		dir = k->shared->task_pid[t] ? opendir(path) : NULL;
		while (dir && !found && (e = readdir(dir)))
			found = e->d_name[0] != '.' && waits(path, e->d_name);
		if (dir)
			closedir(dir);
	}
	return found;
}

/* --- what it does --- */

static void strike(const struct killer *k, pid_t worker, uint64_t *rng)
{
	static const int signal_of[] = {SIGKILL, SIGABRT, SIGSEGV, SIGSTOP};
	struct kill_stats *stats = &k->shared->kills;
	size_t die = rnd_below(rng, 20);
	size_t how = die < 13 ? KILL_KILL : die < 15 ? KILL_ABRT : die < 17 ? KILL_SEGV : KILL_STOP;
	uint64_t missing = 0;
	bool waiting = false;

	if (k->settings) {
		missing = pages_missing(k);
		waiting = somebody_waits(k);
	}
	if (kill(worker, signal_of[how]) < 0)
		return;
	stats->by[how]++;
	stats->pages_missing += missing;
	stats->missing += missing > 0;
	stats->waiting += waiting;
	if (how != KILL_STOP)
		return;
	soak_sleep_us(rnd_below(rng, 4) ? rnd_below(rng, 20000) : rnd_below(rng, 300000));
	/* Every other one is killed while it is stopped. */
	if (rnd_below(rng, 2) && kill(worker, SIGKILL) == 0)
		stats->by[KILL_KILL]++;
	kill(worker, SIGCONT);
}

/* The pause before the next one: around the mean, and now and then none, to meet a beginner. */
static uint64_t pause_us(uint64_t *rng, unsigned int mean_ms)
{
	if (rnd_below(rng, 4) == 0)
		return rnd_below(rng, 3000);
	return rnd_below(rng, 2 * 1000 * (uint64_t)mean_ms + 1);
}

void killer_live(const struct killer *k)
{
	uint64_t rng = k->seed ^ 0x6b696c6c;
	int64_t next_kill = soak_now(), next_cut = next_kill, now;
	pid_t last = 0, worker;

	while (!k->shared->end && !is_gone(k->helper)) {
		now = soak_now();
		worker = worker_of(k->helper);
		if (worker && worker != last) {
			k->shared->kills.workers++;
			last = worker;
			/* After a guardian's pause each would be struck at birth, for ever. */
			if (now >= next_kill)
				next_kill = now + 1000 * (int64_t)pause_us(&rng, k->kill_ms);
		}
		/* Nobody is left who could see a wrong page: let the worker come to its end. */
		if (k->kill_ms && worker && now >= next_kill && !k->shared->tree_ended) {
			strike(k, worker, &rng);
			next_kill = now + 1000 * (int64_t)pause_us(&rng, k->kill_ms);
		}
		if (k->cut_ms && k->proxy && now >= next_cut) {
			k->shared->kills.cuts += kill(k->proxy, SIGUSR1) == 0;
			next_cut = now + 1000 * (int64_t)pause_us(&rng, k->cut_ms);
		}
		soak_sleep_us(300);
	}
}

uint64_t kills_sum(const struct kill_stats *stats)
{
	return stats->by[KILL_KILL] + stats->by[KILL_ABRT] + stats->by[KILL_SEGV];
}

/* --- by itself --- */

static void write_stats(const char *path, const struct kill_stats *stats)
{
	FILE *f = fopen(path, "ae");

	if (!f)
		return;
	fprintf(f, "workers %llu kills %llu stops %llu\n", (unsigned long long)stats->workers,
	        (unsigned long long)kills_sum(stats), (unsigned long long)stats->by[KILL_STOP]);
	fclose(f);
}

/*
 * A child of the helper's own starts us (a shell that becomes the helper), and we must be none of
 * its children when we look for its worker.
 */
static void leave_parent(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		exit(1);
	if (pid)
		_exit(0);
	setsid();
	close_range(3, ~0U, 0);
	while (kill(parent, 0) == 0)
		soak_sleep_us(500);
}

/*
 * While the helper starts it has children that are not its worker, and who kills those kills
 * nothing but a start.  The worker is the one that stays.
 */
static void wait_for_start(pid_t helper)
{
	pid_t child = 0, now;
	int same = 0;

	while (same < 50 && !is_gone(helper)) {
		now = worker_of(helper);
		same = now && now == child ? same + 1 : 0;
		child = now;
		soak_sleep_us(1000);
	}
}

int killer_main(int argc, char **argv)
{
	static struct shared shared;
	struct killer k = {.seed = 1, .kill_ms = 30, .shared = &shared};

	if (argc < 2 || argc > 5) {
		fprintf(stderr, "usage: soak kill PID [MS [SEED [STATS-FILE]]]\n");
		return 2;
	}
	k.helper = (pid_t)strtol(argv[1], NULL, 10);
	if (argc > 2)
		k.kill_ms = (unsigned int)strtoul(argv[2], NULL, 10);
	if (argc > 3)
		k.seed = strtoull(argv[3], NULL, 0);
	leave_parent();
	wait_for_start(k.helper);
	killer_live(&k);
	if (argc > 4)
		write_stats(argv[4], &shared.kills);
	return 0;
}
