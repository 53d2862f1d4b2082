/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The program: options, round after round, and the sums at the end.  See soak.h. */
#include "test/soak/soak.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

static struct runner runner = {.kills = true, .log_level = 2};

int64_t soak_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

void soak_sleep_us(uint64_t us)
{
	const struct timespec ts = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};

	nanosleep(&ts, NULL);
}

static void on_signal(int sig)
{
	(void)sig;
	runner.interrupted = true;
}

/* --- options --- */

struct wish {
	uint64_t seed, round_seed;
	unsigned int seconds, rounds, seeds;
	bool one_round;
};

static const struct option options[] = {
	{"helper", required_argument, NULL, 'h'},  {"proxy", required_argument, NULL, 'p'},
	{"tmp", required_argument, NULL, 't'},     {"seconds", required_argument, NULL, 's'},
	{"rounds", required_argument, NULL, 'r'},  {"seed", required_argument, NULL, 'S'},
	{"seeds", required_argument, NULL, 'N'},   {"round-seed", required_argument, NULL, 'R'},
	{"without", required_argument, NULL, 'W'}, {"no-kill", no_argument, NULL, 'K'},
	{"log", required_argument, NULL, 'l'},     {"keep", no_argument, NULL, 'k'},
	{"verbose", no_argument, NULL, 'v'},       {NULL, 0, NULL, 0},
};

/* "fork,move" */
static bool leave_out(char *names)
{
	char *word, *save;
	unsigned int i;

	for (word = strtok_r(names, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		for (i = 0; op_name(i) && strcmp(op_name(i), word) != 0; i++)
			;
		if (!op_name(i))
			return false;
		runner.without |= UINT32_C(1) << i;
	}
	return true;
}

static bool parse(int argc, char **argv, struct wish *wish)
{
	int c;

	while ((c = getopt_long(argc, argv, "v", options, NULL)) != -1)
		switch (c) {
		case 'h':
			runner.helper = optarg;
			break;
		case 'p':
			runner.proxy = optarg;
			break;
		case 't':
			runner.tmp = optarg;
			break;
		case 's':
			wish->seconds = (unsigned int)strtoul(optarg, NULL, 10);
			break;
		case 'r':
			wish->rounds = (unsigned int)strtoul(optarg, NULL, 10);
			break;
		case 'S':
			wish->seed = strtoull(optarg, NULL, 0);
			break;
		case 'N':
			wish->seeds = (unsigned int)strtoul(optarg, NULL, 10);
			break;
		case 'R':
			wish->round_seed = strtoull(optarg, NULL, 0);
			wish->one_round = true;
			break;
		case 'K':
			runner.kills = false;
			break;
		case 'W':
			if (!leave_out(optarg))
				return false;
			break;
		case 'l':
			runner.log_level = (int)strtol(optarg, NULL, 10);
			break;
		case 'k':
			runner.keep = true;
			break;
		case 'v':
			runner.verbose = true;
			break;
		default:
			return false;
		}
	return optind == argc && runner.helper && runner.proxy && runner.tmp;
}

/* --- rounds --- */

static void one_round(unsigned int nr, uint64_t seed)
{
	struct totals *t = &runner.totals;
	int64_t start = soak_now();
	struct settings s;
	char text[400];
	bool failed;

	settings_make(seed, &s);
	failed = round_run(&runner, nr, &s) != 0;
	if (runner.interrupted && failed)
		return;
	t->passed += !failed;
	t->failed += failed;
	if (!runner.verbose)
		return;
	settings_print(&s, text, sizeof(text));
	printf("round %u, seed %#llx: %s in %.2f s; %llu workers, %llu kills; %s\n", nr,
	       (unsigned long long)seed, failed ? "failed" : "passed",
	       (double)(soak_now() - start) / 1e9, (unsigned long long)runner.shared->kills.workers,
	       (unsigned long long)kills_sum(&runner.shared->kills), text);
}

static void print_progress(unsigned int round)
{
	const struct totals *t = &runner.totals;

	printf("... round %u: %llu failed, %llu workers killed, %llu pages checked\n", round,
	       (unsigned long long)t->failed,
	       (unsigned long long)(t->kills[KILL_KILL] + t->kills[KILL_ABRT] +
	                            t->kills[KILL_SEGV]),
	       (unsigned long long)t->checked);
}

/* Rounds of one seed, until one of the limits is reached (0: there is none). */
static void run_seed(uint64_t seed, unsigned int seconds, unsigned int rounds)
{
	int64_t start = soak_now(), told = start;
	uint64_t rng = seed;
	unsigned int i;

	for (i = 0; !runner.interrupted; i++) {
		if (rounds ? i >= rounds : soak_now() - start >= seconds * INT64_C(1000000000))
			return;
		/* 48 bits: short enough to be typed. */
		one_round(i, rnd(&rng) >> 16);
		if (soak_now() - told > INT64_C(15000000000)) {
			told = soak_now();
			print_progress(i + 1);
		}
	}
}

static void summary(bool proof)
{
	struct totals *t = &runner.totals;
	uint64_t kills = t->kills[KILL_KILL] + t->kills[KILL_ABRT] + t->kills[KILL_SEGV];
	unsigned int i;

	printf("operations:");
	for (i = 0; op_name(i); i++)
		if (runner.without & (UINT32_C(1) << i))
			printf(" %s LEFT OUT", op_name(i));
		else
			printf(" %s %llu", op_name(i), (unsigned long long)t->ops[i]);
	printf("\npages: %llu checked; the helper's last workers brought %llu by fault, %llu by "
	       "background\n",
	       (unsigned long long)t->checked, (unsigned long long)t->by_fault,
	       (unsigned long long)t->by_background);
	printf("kills: %llu (KILL %llu, ABRT %llu, SEGV %llu), stops %llu, cuts %llu; workers "
	       "%llu, "
	       "restarts %llu; %llu while pages were missing (%llu on average), %llu while a "
	       "thread "
	       "waited\n",
	       (unsigned long long)kills, (unsigned long long)t->kills[KILL_KILL],
	       (unsigned long long)t->kills[KILL_ABRT], (unsigned long long)t->kills[KILL_SEGV],
	       (unsigned long long)t->kills[KILL_STOP], (unsigned long long)t->cuts,
	       (unsigned long long)t->workers, (unsigned long long)t->restarts,
	       (unsigned long long)t->missing,
	       (unsigned long long)(t->missing ? t->pages_missing / t->missing : 0),
	       (unsigned long long)t->waiting);
	if (proof && runner.kills && !runner.interrupted &&
	    (!t->missing || !t->waiting || !t->restarts)) {
		printf("FAIL: no worker was killed while pages were missing: this proves "
		       "nothing\n");
		t->failed++;
	}
	printf("%llu passed, %llu failed, %llu skipped\n", (unsigned long long)t->passed,
	       (unsigned long long)t->failed, (unsigned long long)t->skipped);
}

int main(int argc, char **argv)
{
	struct wish wish = {.seconds = 60, .seeds = 1, .seed = 1};
	const struct rlimit no_core = {0, 0};
	unsigned int i;

	if (argc > 1 && !strcmp(argv[1], "kill"))
		return killer_main(argc - 1, argv + 1);
	if (!parse(argc, argv, &wish)) {
		fprintf(stderr, "soak: bad usage: see test/soak/run --help\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	setrlimit(RLIMIT_CORE, &no_core);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	runner.shared = mmap(NULL, sizeof(*runner.shared), PROT_READ | PROT_WRITE,
	                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (runner.shared == MAP_FAILED) {
		perror("soak: mmap");
		return 2;
	}
	printf("helper: %s; seed %llu%s\n", runner.helper, (unsigned long long)wish.seed,
	       runner.kills ? "" : "; nobody is killed");
	if (wish.one_round)
		one_round(0, wish.round_seed);
	for (i = 0; !wish.one_round && i < wish.seeds && !runner.interrupted; i++) {
		if (wish.seeds > 1)
			printf("seed %llu\n", (unsigned long long)(wish.seed + i));
		run_seed(wish.seed + i, wish.seconds, wish.rounds);
	}
	/* One round may be too short to meet a kill; the loop must not be. */
	summary(!wish.one_round);
	return runner.totals.failed ? 1 : 0;
}
