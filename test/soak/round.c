/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One round: everybody is started, watched and judged.
 *
 * It has passed when every check of the tasks was right, all processes ended as they should, the
 * helper last and with status 0, nothing is left behind, and the killer had a worker to kill.  When
 * nothing moves for HANG_SECONDS it has failed, and the report says where everybody stands.
 */
#include "test/soak/round.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

void round_fails(struct round *rd, const char *fmt, ...)
{
	va_list ap;

	if (rd->why[0])
		return;
	va_start(ap, fmt);
	vsnprintf(rd->why, sizeof(rd->why), fmt, ap);
	va_end(ap);
}

static const char *file_of(const struct round *rd, const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", rd->dir, name);
	return path;
}

/* --- watching --- */

/* What a task that found something wrong has written. */
static bool has_verdict(struct round *rd)
{
	char text[1200] = {0};
	int tries = 0, fd = open(file_of(rd, "verdict"), O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	/* It is created first and written then; whoever does so may be killed in between. */
	while (read(fd, text, sizeof(text) - 1) == 0 && tries++ < 500)
		soak_sleep_us(1000);
	close(fd);
	round_fails(rd, "%s",
	            text[0] ? text : "a check has failed; who noticed was killed over it");
	return true;
}

/* The restorer and what was orphaned of its group. */
static bool tree_ended(struct round *rd)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-rd->tree, &status, WNOHANG)) > 0)
		if (pid == rd->tree && status != 0 && !has_verdict(rd))
			round_fails(rd, "the restorer ended with wait status %#x", status);
	return pid < 0 && errno == ECHILD && kill(-rd->tree, 0) < 0;
}

static void watch(struct round *rd)
{
	uint64_t seen = 0, now_at;
	int64_t moved = soak_now();
	bool tree = false;

	while (!rd->why[0] && !rd->runner->interrupted) {
		if (!tree && tree_ended(rd)) {
			tree = rd->shared->tree_ended = true;
			moved = soak_now();
		}
		/* Asked for first: a page that is wrong makes everything else unimportant. */
		if (has_verdict(rd) || (proc_ended(&rd->helper) && tree))
			return;
		now_at = rd->shared->progress;
		if (now_at != seen)
			moved = soak_now();
		seen = now_at;
		if (soak_now() - moved > HANG_SECONDS * INT64_C(1000000000)) {
			rd->hangs = true;
			round_fails(rd, "HANG: %s for %d s",
			            tree ? "the tasks have ended, and the helper has not"
			                 : "nothing moves",
			            HANG_SECONDS);
			return;
		}
		soak_sleep_us(1000);
	}
}

/* --- judging --- */

static void read_summary(struct round *rd)
{
	struct totals *t = &rd->runner->totals;
	unsigned long long fault, background, lost;
	const char *comma;
	char line[512];
	bool found = false;
	FILE *f = fopen(file_of(rd, "helper.log"), "re");

	while (f && fgets(line, sizeof(line), f)) {
		comma = strstr(line, " pages by fault, ");
		while (comma && comma > line && comma[-1] >= '0' && comma[-1] <= '9')
			comma--;
		if (!comma || sscanf(comma, "%llu pages by fault, %llu", &fault, &background) != 2)
			continue;
		found = true;
		t->by_fault += fault;
		t->by_background += background;
		comma = strstr(line, "exited early, ");
		if (comma && sscanf(comma, "exited early, %llu", &lost) == 1 && lost)
			round_fails(rd, "the helper has lost %llu pages", lost);
	}
	if (f)
		fclose(f);
	if (!found)
		round_fails(rd, "the helper's log has no summary at its end");
}

static void judge(struct round *rd)
{
	struct kill_stats *kills = &rd->shared->kills;

	if (rd->why[0])
		return;
	if (rd->helper.status != 0)
		round_fails(rd, "the helper ended with wait status %#x", rd->helper.status);
	if (rd->runner->kills && !kills->workers)
		round_fails(rd, "the helper has no worker to kill");
	read_summary(rd);
}

static void add_up(const struct round *rd)
{
	struct totals *t = &rd->runner->totals;
	const struct shared *sh = rd->shared;
	size_t i;

	for (i = 0; i < MAX_OPS; i++)
		t->ops[i] += sh->ops[i];
	for (i = 0; i < NR_KILLS; i++)
		t->kills[i] += sh->kills.by[i];
	t->checked += sh->pages_checked;
	t->missing += sh->kills.missing;
	t->waiting += sh->kills.waiting;
	t->pages_missing += sh->kills.pages_missing;
	t->workers += sh->kills.workers;
	t->restarts += sh->kills.workers ? sh->kills.workers - 1 : 0;
	t->cuts += sh->kills.cuts;
}

/* --- the end --- */

/* Kills every child that is left; how many there were. */
static int kill_children(char *who, size_t size)
{
	char text[1024] = {0}, path[64], *word, *save;
	int fd, nr = 0;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return 0;
	for (word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		kill((pid_t)strtol(word, NULL, 10), SIGKILL);
		snprintf(who, size, "%s", word);
		nr++;
	}
	return nr;
}

/* Whatever is a child of ours now should not be there; it gets a moment to end. */
static void reap_rest(struct round *rd)
{
	int64_t until = soak_now() + INT64_C(3000000000);
	char who[32] = "";

	while (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD) {
		if (soak_now() > until && kill_children(who, sizeof(who)))
			round_fails(rd, "a process is left behind: pid %s", who);
		soak_sleep_us(500);
	}
}

static void end_all(struct round *rd)
{
	rd->shared->end = true;
	if (rd->tree)
		kill(-rd->tree, SIGKILL);
	if (rd->killer)
		waitpid(rd->killer, NULL, 0);
	proc_end(&rd->helper, SIGKILL);
	if (!proc_end(&rd->server, SIGTERM))
		round_fails(rd, "the page server does not end");
	else if (rd->server.pid && rd->server.status != 0)
		round_fails(rd, "the page server ended with wait status %#x", rd->server.status);
	if (!proc_end(&rd->proxy, SIGTERM))
		round_fails(rd, "the proxy does not end");
	reap_rest(rd);
}

static void report(const struct round *rd, unsigned int nr)
{
	static const char *const log[] = {"helper.log", "helper.err", "server.log", "server.out"};
	const struct kill_stats *k = &rd->shared->kills;
	char text[400];
	size_t i;

	settings_print(rd->s, text, sizeof(text));
	printf("FAIL round %u, seed %#llx: %s\n    %s\n", nr, (unsigned long long)rd->s->seed,
	       rd->why, text);
	printf("    again: test/soak/run --round-seed %#llx\n", (unsigned long long)rd->s->seed);
	printf("    until then: %llu workers, %llu kills, %llu stops; %llu pages checked\n",
	       (unsigned long long)k->workers, (unsigned long long)kills_sum(k),
	       (unsigned long long)k->by[KILL_STOP], (unsigned long long)rd->shared->pages_checked);
	for (i = 0; i < sizeof(log) / sizeof(log[0]); i++)
		report_tail(file_of(rd, log[i]), 15);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static bool prepare(struct round *rd)
{
	const struct settings *s = rd->s;
	unsigned int t, i;

	memset(rd->shared, 0, sizeof(*rd->shared));
	rd->shared->without = rd->runner->without;
	for (t = 0; t < s->tasks; t++)
		for (i = 0; i < s->threads; i++)
			world_make(s, (int)t, (int)i, rd->shared);
	if (mkdir(rd->dir, 0700) < 0 || tree_images(s, rd->shared, rd->dir) < 0) {
		round_fails(rd, "no images in %s", rd->dir);
		return false;
	}
	return (!s->remote || start_network(rd)) && start_helper(rd);
}

int round_run(struct runner *r, unsigned int nr, const struct settings *s)
{
	static struct round rd;

	rd = (struct round){.runner = r, .shared = r->shared, .s = s};
	snprintf(rd.dir, sizeof(rd.dir), "%s/%llx", r->tmp, (unsigned long long)s->seed);
	if (prepare(&rd)) {
		start_killer(&rd);
		start_tree(&rd);
		watch(&rd);
		judge(&rd);
	}
	if (rd.hangs)
		report_stacks();
	end_all(&rd);
	add_up(&rd);
	if (rd.why[0]) {
		report(&rd, nr);
		report_traces(rd.shared, rd.why, file_of(&rd, "steps"));
		printf("    kept: %s\n", rd.dir);
		return 1;
	}
	if (!r->keep)
		nftw(rd.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}
