/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The supervisor of one dump or one restore: init of a pid namespace of its own, so that the pids
 * of the images are free, nothing of an earlier run is in the way, and everything ends with it.
 *
 *   measure dump    --criu PATH --images DIR --control FILE --log-dir DIR -- WORKLOAD ARG...
 *   measure restore --criu PATH --images DIR --control FILE --log-dir DIR --mode N --threads N
 *                   [--timeout S] [--lazy-forever] [--samples FILE] -- HELPER ARG...
 *
 * The helper is an ordinary child that is told `--status-fd 7` by its caller and says there when it
 * listens.  What is measured of it is measured from outside and in the same way whichever helper it
 * is: its end (a pidfd that becomes readable), its and its children's processor time (wait4), and
 * its anonymous memory (RssAnon of it and its children, looked at every 5 ms; mapped page images
 * are file pages and do not count).  Results are lines key=value on stdout.
 *
 * With --samples, the restored program's anonymous memory is read every 2 ms into FILE (lines of
 * "ms pages"); that costs processor time, so the runner does it in runs that it does not measure.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/control.h"
#include "bench/look.h"
#include "bench/spawn.h"

#define FIRST_PID        20000 /* of the workload; the restorer's and helper's are far below */
#define HELPER_SAMPLE_NS 5000000ull

struct options {
	const char *criu, *images, *control, *log_dir, *samples;
	uint32_t mode, threads;
	double timeout_s;
	bool lazy_forever; /* do not wait for the helper's end before the program is looked at */
	char **child;
};

/* One run.  Whatever is reaped is either of the two or belongs to the helper or the program. */
struct run {
	const struct options *opt;
	volatile struct control *ctl;
	struct proc helper, restore;
	struct rusage helper_usage; /* sum over the helper and its orphans */
	uint64_t peak_anon_kib, next_helper_sample_ns, next_program_sample_ns;
	FILE *samples;
	bool program_ended;
};

static void sleep_ns(uint64_t ns)
{
	const struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000),
	                            .tv_nsec = (long)(ns % 1000000000)};

	nanosleep(&ts, NULL);
}

/* --- processes -------------------------------------------------------------------------------- */

static void add_usage(struct rusage *sum, const struct rusage *u)
{
	timeradd(&sum->ru_utime, &u->ru_utime, &sum->ru_utime);
	timeradd(&sum->ru_stime, &u->ru_stime, &sum->ru_stime);
	if (u->ru_maxrss > sum->ru_maxrss)
		sum->ru_maxrss = u->ru_maxrss;
}

static void reap(struct run *r)
{
	uint64_t t = now();
	struct rusage usage;
	int status;
	pid_t pid;

	while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
		if (pid == r->restore.pid) {
			r->restore.ended = true;
			r->restore.status = status;
			r->restore.end_ns = t;
		} else if (pid == r->ctl->pid) {
			r->program_ended = true;
		} else {
			add_usage(&r->helper_usage, &usage);
			if (pid == r->helper.pid) {
				r->helper.ended = true;
				r->helper.status = status;
				r->helper.end_ns = t;
			}
		}
	}
}

/* --- looking on ------------------------------------------------------------------------------- */

static void sample_helper(struct run *r, uint64_t t)
{
	uint64_t kib;

	if (t < r->next_helper_sample_ns || r->helper.ended)
		return;
	kib = look_tree_anon_kib(r->helper.pid, 2);
	if (kib > r->peak_anon_kib)
		r->peak_anon_kib = kib;
	r->next_helper_sample_ns = t + HELPER_SAMPLE_NS;
}

static void sample_program(struct run *r, uint64_t t)
{
	uint64_t pages;

	if (!r->samples || r->ctl->state < STATE_STARTED || t < r->next_program_sample_ns)
		return;
	if (!look_anon_pages(r->ctl->pid, &pages))
		fprintf(r->samples, "%.3f %" PRIu64 "\n",
		        ((double)t - (double)r->ctl->first_real) / 1e6, pages);
	r->next_program_sample_ns = t + 2000000;
}

/* Until something is true or the time is up; looks every few ms, and at once when a child ends. */
static bool watch(struct run *r, bool (*done)(const struct run *), uint64_t deadline_ns)
{
	for (;;) {
		uint64_t t = now();
		struct pollfd fds[2] = {
			{.fd = r->helper.ended ? -1 : r->helper.pidfd, .events = POLLIN},
			{.fd = r->restore.ended ? -1 : r->restore.pidfd, .events = POLLIN},
		};

		if (done(r))
			return true;
		if (t > deadline_ns || r->program_ended)
			return false;
		sample_helper(r, t);
		sample_program(r, t);
		poll(fds, 2, r->samples ? 2 : 5);
		reap(r);
	}
}

static bool is_restored(const struct run *r)
{
	return r->restore.ended || r->helper.ended;
}

static bool is_done(const struct run *r)
{
	return r->ctl->state >= STATE_DONE;
}

static bool is_verified(const struct run *r)
{
	return r->ctl->state >= STATE_VERIFIED;
}

static bool is_helper_gone(const struct run *r)
{
	return r->helper.ended;
}

static bool is_nobody_left(const struct run *r)
{
	return r->helper.ended && r->program_ended;
}

/* --- the two verbs ---------------------------------------------------------------------------- */

static volatile struct control *map_control(const char *path, bool create)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_TRUNC : 0), 0600);
	void *p;

	if (fd < 0 || ftruncate(fd, CONTROL_SIZE))
		die(path);
	p = mmap(NULL, CONTROL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		die(path);
	close(fd);
	return p;
}

static int dump(const struct options *opt)
{
	volatile struct control *ctl = map_control(opt->control, true);
	char *argv[] = {(char *)opt->criu,   "dump", "-t",       NULL, "-D",
	                (char *)opt->images, "-o",   "dump.log", NULL};
	struct proc program, criu;
	char pid[16];
	int fd, status;

	fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || dprintf(fd, "%d", FIRST_PID) < 0)
		die("/proc/sys/kernel/ns_last_pid");
	close(fd);
	program = spawn(opt->child, opt->log_dir, "workload.out", -1);
	while (ctl->state != STATE_READY) {
		if (waitpid(program.pid, &status, WNOHANG) == program.pid) {
			fprintf(stderr, "measure: the workload ended before it was ready\n");
			return 1;
		}
		sleep_ns(2000000);
	}
	snprintf(pid, sizeof(pid), "%d", program.pid);
	argv[3] = pid;
	criu = spawn(argv, opt->log_dir, "dump.out", -1);
	if (waitpid(criu.pid, &status, 0) != criu.pid || status) {
		fprintf(stderr, "measure: criu dump failed (status 0x%x), see %s/dump.log\n",
		        (unsigned int)status, opt->images);
		return 1;
	}
	printf("pid=%d\ndump_ms=%.1f\n", program.pid, (double)(now() - criu.start_ns) / 1e6);
	return 0;
}

/* Starts the helper and waits until it says on its status descriptor that it listens. */
static void start_helper(struct run *r)
{
	struct pollfd p = {.events = POLLIN};
	int fds[2];
	char byte;

	if (pipe2(fds, O_CLOEXEC))
		die("pipe");
	r->helper = spawn(r->opt->child, r->opt->log_dir, "helper.out", fds[1]);
	close(fds[1]);
	p.fd = fds[0];
	if (poll(&p, 1, 20000) != 1 || read(fds[0], &byte, 1) != 1) {
		fprintf(stderr, "measure: the helper did not get ready, see %s/helper.out\n",
		        r->opt->log_dir);
		exit(1);
	}
	close(fds[0]);
}

static void start_restore(struct run *r)
{
	char *argv[] = {(char *)r->opt->criu,
	                "restore",
	                "--lazy-pages",
	                "-D",
	                (char *)r->opt->images,
	                "-W",
	                (char *)r->opt->log_dir,
	                "-o",
	                "restore.log",
	                "-d",
	                NULL};

	r->restore = spawn(argv, r->opt->log_dir, "restore.out", -1);
}

static double seconds(const struct timeval *t)
{
	return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

static double ms_between(uint64_t from, uint64_t to)
{
	return ((double)to - (double)from) / 1e6;
}

static void report(const struct run *r, uint64_t helper_end_ns)
{
	volatile struct control *ctl = r->ctl;
	const struct rusage *u = &r->helper_usage;
	double shift = ms_between(ctl->ready_mono, ctl->first_mono) -
	               ms_between(ctl->ready_real, ctl->first_real);

	printf("monotonic_shift_ms=%.3f\n", shift);
	printf("restore_to_first_ms=%.3f\n", ms_between(r->restore.start_ns, ctl->first_real));
	printf("restore_ms=%.3f\n", ms_between(r->restore.start_ns, r->restore.end_ns));
	if (helper_end_ns)
		printf("first_to_all_ms=%.3f\n", ms_between(ctl->first_real, helper_end_ns));
	if (r->helper.ended)
		printf("helper_status=0x%x\n", (unsigned int)r->helper.status);
	printf("helper_cpu_s=%.4f\nhelper_user_s=%.4f\nhelper_system_s=%.4f\n",
	       seconds(&u->ru_utime) + seconds(&u->ru_stime), seconds(&u->ru_utime),
	       seconds(&u->ru_stime));
	printf("helper_maxrss_kib=%ld\nhelper_anon_kib=%" PRIu64 "\n", u->ru_maxrss,
	       r->peak_anon_kib);
}

static int stopped(struct run *r, const char *why)
{
	uint64_t touched = 0;

	for (int i = 0; i < CONTROL_MAX_THREADS; i++)
		touched += r->ctl->thread[i].touched;
	if (r->ctl->wrong_pages != UINT64_MAX)
		printf("wrong_pages=%" PRIu64 "\n", r->ctl->wrong_pages);
	printf("stopped=%s\ntouched=%" PRIu64 "\nnr_pages=%" PRIu64 "\nstopped_after_s=%.1f\n", why,
	       touched, r->ctl->nr_pages, ms_between(r->restore.start_ns, now()) / 1000);
	return 3;
}

/* The end of a run in which the helper may stay for ever: the program goes, then the helper. */
static void end_all(struct run *r)
{
	if (!r->program_ended && r->ctl->pid > 1)
		kill(r->ctl->pid, SIGKILL);
	r->program_ended = false; /* watch() must not stop at this end: it is wanted */
	for (int i = 0; i < 500 && !is_nobody_left(r); i++) {
		if (i == 300 && !r->helper.ended)
			kill(r->helper.pid, SIGTERM);
		sleep_ns(10000000);
		reap(r);
	}
}

static int restore(const struct options *opt)
{
	struct run r = {.opt = opt, .ctl = map_control(opt->control, false)};
	uint64_t deadline, helper_end_ns = 0;

	r.ctl->mode = opt->mode;
	r.ctl->threads = opt->threads;
	r.ctl->verify = 0;
	r.ctl->state = STATE_READY;
	for (int i = 0; i < CONTROL_MAX_THREADS; i++)
		r.ctl->thread[i].touched = 0;
	r.ctl->wrong_pages = UINT64_MAX;
	r.ctl->released = 1;
	if (opt->samples && !(r.samples = fopen(opt->samples, "we")))
		die(opt->samples);

	start_helper(&r);
	start_restore(&r);
	deadline = r.restore.start_ns + (uint64_t)(opt->timeout_s * 1e9);
	if (!watch(&r, is_restored, deadline))
		return stopped(&r, "restore-timeout");
	if (r.restore.ended && r.restore.status)
		return stopped(&r, "restore-failed");
	if (!watch(&r, is_done, deadline))
		return stopped(&r, r.program_ended ? "program-ended" : "timeout");
	if (!opt->lazy_forever) {
		if (!watch(&r, is_helper_gone, deadline))
			return stopped(&r, r.program_ended ? "program-ended" : "helper-timeout");
		helper_end_ns = r.helper.end_ns;
	}
	r.ctl->verify = 1;
	if (!watch(&r, is_verified, now() + 60000000000ull))
		return stopped(&r, r.program_ended ? "program-ended" : "verify-timeout");
	end_all(&r);
	report(&r, helper_end_ns);
	if (r.samples)
		fclose(r.samples);
	return 0;
}

/* --- init of its own pid namespace ------------------------------------------------------------ */

static int as_init(const struct options *opt, const char *verb)
{
	int rc, status;
	pid_t pid;

	if (unshare(CLONE_NEWPID | CLONE_NEWNS))
		die("unshare(CLONE_NEWPID | CLONE_NEWNS)");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid) {
		while (waitpid(pid, &status, 0) < 0)
			;
		return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
		die("mount of /proc");
	rc = !strcmp(verb, "dump") ? dump(opt) : restore(opt);
	fflush(stdout);
	_exit(rc); /* everything else in the namespace is killed now */
}

static int usage(void)
{
	fprintf(stderr,
	        "usage: measure dump|restore --criu PATH --images DIR --control FILE --log-dir "
	        "DIR\n"
	        "               [--mode 0|1|2] [--threads N] [--timeout S] [--lazy-forever]\n"
	        "               [--samples FILE] -- PROGRAM ARG...\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"criu", required_argument, NULL, 'c'},
		{"images", required_argument, NULL, 'D'},
		{"control", required_argument, NULL, 'C'},
		{"log-dir", required_argument, NULL, 'W'},
		{"mode", required_argument, NULL, 'm'},
		{"threads", required_argument, NULL, 't'},
		{"timeout", required_argument, NULL, 'T'},
		{"samples", required_argument, NULL, 's'},
		{"lazy-forever", no_argument, NULL, 'l'},
		{NULL, 0, NULL, 0},
	};
	struct options opt = {.threads = 1, .timeout_s = 120};
	const char *verb = argc > 1 ? argv[1] : "";
	int c;

	if (strcmp(verb, "dump") && strcmp(verb, "restore"))
		return usage();
	optind = 2;
	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			opt.criu = optarg;
			break;
		case 'D':
			opt.images = optarg;
			break;
		case 'C':
			opt.control = optarg;
			break;
		case 'W':
			opt.log_dir = optarg;
			break;
		case 's':
			opt.samples = optarg;
			break;
		case 'm':
			opt.mode = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 't':
			opt.threads = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'T':
			opt.timeout_s = strtod(optarg, NULL);
			break;
		case 'l':
			opt.lazy_forever = true;
			break;
		default:
			return usage();
		}
	}
	opt.child = argv + optind;
	if (!opt.criu || !opt.images || !opt.control || !opt.log_dir || optind >= argc ||
	    opt.mode > MODE_SEQUENTIAL || !opt.threads || opt.threads > CONTROL_MAX_THREADS)
		return usage();
	return as_init(&opt, verb);
}
