/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The whole daemon behind its socket: the input is a script of what a restorer and its processes
 * do, against the real handoff, plan, pool and engine.  (handshake.c has the same socket with no
 * processes behind it, and is ten times as fast.)
 *
 * The first byte says how the daemon is started: bit 0 a source that answers late, bit 1 one that
 * answers in pieces, bit 2 two jobs, bit 3 a copier, bit 4 no background, bit 5 poison.  The second
 * one, when its bit 7 is set, leaves out the good beginning: a restore of all processes.  Then
 * steps, each a byte (bits 0-3 what, 4-7 which process) and those that it calls for:
 *
 *	0	send: a byte (bits 0-2 with which descriptor, 3-5 how many bytes, 6-7 let the daemon
 *		work), then the bytes
 *	1	hang up and connect again       2	a second connection, or its end
 *	3-9	touch, write, discard, unmap, move, split, fork: a byte for page, one for number
 *	10	exit    11	killed          12	the daemon works    13	wait for the process
 *	14	the good word of this process   15	"finished"
 *
 * What must hold: the daemon comes to an end; a process sees each page as it must be, whatever it
 * and the others did, or was killed by the daemon; no descriptor is left open.
 */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/engine/handoff.h"
#include "criu-lazy/engine/plan.h"
#include "criu-lazy/engine/pool.h"
#include "test/fuzz/daemon-task.h"
#include "test/fuzz/helper-socket.h"
#include "test/fuzz/image-tree.h"

#include <string.h>
#include <sys/wait.h>

enum { NR_IMAGES = TREE_IMAGES, ZOMBIE = TREE_ZOMBIE, MAX_STEPS = 96, SOON = 10 * NSEC_PER_MSEC };

static const int64_t patience = 15 * NSEC_PER_SEC; /* for everything a script may need */
static bool gives_up; /* the daemon: then it may kill and poison */

struct play {
	const uint8_t *in;
	size_t left;
	struct plan plan;
	struct pool *pool;
	struct handoff *handoff;
	struct unixsock sock;
	int conn, second;
	unsigned nr_tasks; /* the first NR_IMAGES + 1 have their places; forked ones follow */
	int64_t until;
	bool failed, over;
};

static uint8_t next_byte(struct play *p)
{
	if (!p->left)
		return 0;
	p->left--;
	return *p->in++;
}

/* --- once: images of processes 1-3 and of a zombie 4, memory, a listener ---------------------- */

static void write_process(int dir, uint32_t pid)
{
	static uint64_t words[IMAGE_PAGES * PAGE_SIZE / 8];

	for (size_t i = 0; i < sizeof(words) / 8; i++)
		words[i] = image_word(pid - 1, (unsigned)(i / (PAGE_SIZE / 8)));
	tree_write_memory(dir, pid, (uint64_t)(uintptr_t)arena, IMAGE_PAGES, words);
}

/* Waking a process on another processor that sleeps takes longer than all of a play's work. */
static void stay_here(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void prepare(void)
{
	int dir = tree_begin();

	stay_here();
	log_open(NULL, getenv("FUZZ_VERBOSE") ? LOG_DEBUG : LOG_MSG, NULL);
	for (uint32_t pid = 1; pid <= NR_IMAGES; pid++)
		write_process(dir, pid);
	tasks = mmap(NULL, (MAX_TASKS + 1) * sizeof(*tasks), PROT_READ | PROT_WRITE,
	             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(tasks != MAP_FAILED);
	MUST(task_first(&tasks[MAX_TASKS]) > 0);
	listener_open(true);
}

/* --- the daemon ------------------------------------------------------------------------------- */

/* It leaves, as cmd/worker.c does: what is open is closed. */
static void leave(struct play *p)
{
	struct engine_stats stats;

	pool_stats(p->pool, &stats);
	MUST(p->failed || stats.pages_lost == 0);
	pool_free(p->pool);
	handoff_free(p->handoff);
	plan_release(&p->plan);
	drain_backlog();
	p->over = true;
}

static void no_end_in_sight(struct play *p)
{
	char path[64], where[64];

	if (!p->over)
		fprintf(stderr, "handoff %d, %zu sessions\n",
		        (int)handoff_state(p->handoff, &(struct err){0}),
		        pool_nr_sessions(p->pool));
	for (unsigned i = 0; i < p->nr_tasks; i++) {
		struct task *t = &tasks[i];
		int fd;

		if (!t->pid || !task_is_busy(t))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/wchan", t->pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		memset(where, 0, sizeof(where));
		if (fd >= 0 && read(fd, where, sizeof(where) - 1) >= 0)
			close(fd);
		fprintf(stderr, "task %u: order %d, page %u, %u pages, to %u: in %s\n", i,
		        t->order.kind, t->order.page, t->order.nr, t->order.to, where);
	}
	abort();
}

/* As cmd/worker.c goes round; false: it has left. */
static bool turn(struct play *p, int64_t wait)
{
	struct err err = {0};
	enum handoff_state state;

	if (clock_now() > p->until)
		no_end_in_sight(p);
	if (p->over) {
		drain_backlog();
		return false;
	}
	state = handoff_state(p->handoff, &err);
	if (state == HANDOFF_FAILED) {
		MUST(err.code && err.text[0] && !strchr(err.text, '\n'));
		p->failed = gives_up = true;
		pool_abandon(p->pool); /* for all that have come */
	}
	if (state >= HANDOFF_DONE && !pool_nr_sessions(p->pool)) {
		leave(p);
		return false;
	}
	MUST(pool_turn(p->pool, clock_now() + wait, &err) == 0);
	return true;
}

static bool start(struct play *p, unsigned how)
{
	static const char *const slow[] = {"delay=200"}, *const pieces[] = {"short=3"};
	static const char *const both[] = {"short=3", "delay=200"};
	const struct engine_options options = {
		.low_latency = LOW_LATENCY_OFF,
		.copier = how & 8 && !(how & 16),
		.background = how & 16 ? BACKGROUND_OFF : BACKGROUND_FULL,
		.on_lost = how & 32 ? ON_LOST_POISON : ON_LOST_KILL,
	};
	const struct plan_options plan = {
		.filters = (how & 3) == 3 ? both
	                   : how & 1      ? slow
	                   : how & 2      ? pieces
	                                  : NULL,
		.nr_filters = (how & 1) + (how >> 1 & 1),
	};
	struct err err = {0};

	p->sock = (struct unixsock){.fd = listener, .lock_fd = -1, .path = "fuzz"};
	if (plan_read(fuzz_dir, &plan, &p->plan, &err) == 0 &&
	    pool_new(&options, how & 4 ? 2 : 1, NULL, NULL, &p->pool, &err) == 0 &&
	    handoff_new(p->pool, &p->plan, &p->sock, NULL, &p->handoff, &err) == 0 &&
	    pool_start(p->pool, &err) == 0)
		return true;
	fprintf(stderr, "%s\n", err.text);
	return false;
}

/* --- the restorer ----------------------------------------------------------------------------- */

/* How it ended, if it did. */
static bool has_ended(struct task *t)
{
	int status;

	if (!t->pid)
		return true;
	if (waitpid(t->pid, &status, WNOHANG) != t->pid)
		return false;
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL &&
	    !(WTERMSIG(status) == SIGBUS && gives_up)) {
		fprintf(stderr, "task %td: signal %d\n", t - tasks, WTERMSIG(status));
		abort();
	}
	t->pid = 0;
	return true;
}

static void kill_task(struct task *t)
{
	int status;

	if (t->pid) {
		kill(t->pid, SIGKILL);
		waitpid(t->pid, &status, 0);
	}
	t->pid = 0;
}

static void check_task(const struct task *t)
{
	if (!t->wrong || !t->lazy || t->odd)
		return;
	fprintf(stderr, "task %td, image %u: page %u is wrong: 0x%llx\n", t - tasks, t->image,
	        t->wrong_page, (unsigned long long)t->wrong_value);
	abort();
}

/* Until it has done what it was told, or is gone.  false: gone. */
static bool wait_for(struct play *p, struct task *t)
{
	int64_t tired = clock_now() + SOON;

	for (;;) {
		bool going;

		if (has_ended(t))
			return false;
		if (!task_is_busy(t))
			return true;
		syscall(SYS_futex, &t->asked, FUTEX_WAKE, 1, NULL, NULL, 0);
		/* One who connects and says nothing keeps a restorer waiting: SECURITY.md. */
		if (p->second >= 0 && clock_now() > tired) {
			close(p->second);
			p->second = -1;
		}
		going = turn(p, 100 * NSEC_PER_USEC);
		if (!going && task_is_busy(t))
			usleep(50); /* the kernel tells it that nobody is there any more */
	}
}

/* The numbered one; NULL: it is gone. */
static struct task *the_task(struct play *p, unsigned nr)
{
	struct task *t = &tasks[nr % MAX_TASKS];

	if (nr % MAX_TASKS > NR_IMAGES && nr % MAX_TASKS >= p->nr_tasks)
		t = &tasks[nr % (NR_IMAGES + 1)];
	return t->pid ? t : NULL;
}

static void order(struct play *p, unsigned nr, struct order *o)
{
	struct task *t = the_task(p, nr);

	if (!t || has_ended(t))
		return;
	if (o->kind == TASK_SEND) { /* a restorer does one after the other */
		if (p->conn < 0 || !wait_for(p, t))
			return;
		o->sock = p->conn;
	}
	if (task_is_busy(t))
		return;
	if (o->kind == TASK_FORK) {
		if (p->nr_tasks == MAX_TASKS)
			return;
		o->child = (int)p->nr_tasks++;
		tasks[o->child] = (struct task){.image = t->image, .lazy = t->lazy, .odd = t->odd};
	}
	task_order(t, o);
	if (o->kind == TASK_SEND)
		wait_for(p, t);
}

static void word(struct order *o, int32_t pid)
{
	memcpy(o->bytes, &pid, 4);
	o->nr = 4;
}

/* What the process says when all is well. */
static void good_word(struct play *p, unsigned nr)
{
	struct order o = {.kind = TASK_SEND};

	nr %= NR_IMAGES + 1;
	word(&o, nr + 1 == ZOMBIE ? -ZOMBIE : (int32_t)nr + 1);
	order(p, nr, &o);
	if (nr + 1 == ZOMBIE)
		return;
	o = (struct order){.kind = TASK_SEND, .nr = 1, .send = SEND_UFFD};
	order(p, nr, &o);
}

static void finished(struct play *p, unsigned nr)
{
	struct order o = {.kind = TASK_SEND, .nr = 4, .bytes = "FTSR"};

	order(p, nr, &o);
}

static void say(struct play *p, unsigned nr)
{
	unsigned how = next_byte(p);
	struct order o = {.kind = TASK_SEND, .send = how & 7, .nr = how >> 3 & 7};
	struct task *t;

	if (o.send > SEND_MANY)
		o.send = SEND_UFFD;
	o.nr = o.nr > 4 ? 4 : o.nr ? o.nr : 1;
	t = the_task(p, nr);
	if (t && !t->lazy && (o.send == SEND_UFFD || o.send == SEND_BLOCKING))
		t->odd = true;
	for (unsigned i = 0; i < o.nr; i++)
		o.bytes[i] = next_byte(p);
	order(p, nr, &o);
	for (unsigned i = 0; i < how >> 6; i++)
		turn(p, 0);
}

static void change(struct play *p, unsigned what, unsigned nr)
{
	struct order o = {.kind = what, .page = next_byte(p) % ARENA_PAGES};

	o.to = next_byte(p);
	o.nr = 1 + o.to % 8;
	o.to = o.to / 8 % ARENA_PAGES;
	order(p, nr, &o);
}

static void step(struct play *p)
{
	unsigned what = next_byte(p), nr = what >> 4;
	struct order bye = {.kind = TASK_EXIT};
	struct task *t;

	switch (what &= 15) {
	case 0:
		say(p, nr);
		return;
	case 1:
		if (p->conn >= 0)
			close(p->conn);
		p->conn = call();
		return;
	case 2:
		if (p->second >= 0)
			close(p->second);
		p->second = p->second >= 0 ? -1 : call();
		return;
	case 3:
	case 4:
	case 5:
	case 6:
	case 7:
	case 8:
	case 9:
		change(p, what - 3 + TASK_TOUCH, nr);
		return;
	case 10:
		order(p, nr, &bye);
		return;
	case 11:
		kill_task(&tasks[nr % p->nr_tasks]);
		return;
	case 12:
		turn(p, 0);
		return;
	case 13:
		t = the_task(p, nr);
		if (t)
			wait_for(p, t);
		return;
	case 14:
		good_word(p, nr);
		return;
	default:
		finished(p, nr);
	}
}

/* --- the beginning and the end ---------------------------------------------------------------- */

/* Do this at once; the daemon is not needed for it. */
static bool quickly(struct task *t, const struct order *o)
{
	task_order(t, o);
	while (task_is_busy(t)) {
		uint32_t done = atomic_load(&t->done);

		if (has_ended(t))
			return false;
		if (atomic_load(&t->asked) != done)
			syscall(SYS_futex, &t->done, FUTEX_WAIT, done,
			        &(struct timespec){.tv_nsec = 5000000}, NULL, 0);
	}
	return true;
}

/* One process for each of the images; those of the last play that are still fit, or new ones. */
static void begin(struct play *p)
{
	const struct order reset = {.kind = TASK_RESET};

	p->nr_tasks = NR_IMAGES + 1;
	for (unsigned i = 0; i < MAX_TASKS; i++) {
		struct order birth = {.kind = TASK_FORK, .child = (int)i};
		struct task *t = &tasks[i];

		if (i < p->nr_tasks && t->pid && !task_is_busy(t) && quickly(t, &reset))
			continue;
		kill_task(t);
		*t = (struct task){.image = i % NR_IMAGES};
		if (i < p->nr_tasks)
			MUST(quickly(&tasks[MAX_TASKS], &birth) && t->pid);
	}
}

/* The restorer has left: the daemon fails, or still has nothing to do, or brings the rest. */
static void settle(struct play *p)
{
	enum handoff_state state = HANDOFF_TALKING;

	if (p->second >= 0)
		close(p->second);
	if (p->conn >= 0)
		close(p->conn);
	p->second = p->conn = -1;
	for (int idle = 0; idle < 3 && state != HANDOFF_DONE;) {
		if (!turn(p, 100 * NSEC_PER_USEC))
			return;
		state = handoff_state(p->handoff, &(struct err){0});
		idle = state == HANDOFF_LISTENING ? idle + 1 : 0;
	}
	if (state == HANDOFF_DONE)
		pool_hurry(p->pool);
}

/* Whose restore came to its end sees all of its pages. */
static void all_right(struct play *p)
{
	const struct order check = {.kind = TASK_CHECK};

	for (unsigned i = 0; i < p->nr_tasks; i++) {
		struct task *t = &tasks[i];

		if (!t->pid || !t->lazy || !wait_for(p, t))
			continue;
		task_order(t, &check);
		wait_for(p, t);
	}
}

static void end(struct play *p)
{
	int64_t soon;

	settle(p);
	if (!p->failed && (p->over || handoff_state(p->handoff, &(struct err){0}) == HANDOFF_DONE))
		all_right(p);
	soon = clock_now() + SOON;
	/* A child's end is looked for once a second: that is not waited for. */
	while (!p->over && handoff_state(p->handoff, &(struct err){0}) == HANDOFF_DONE &&
	       clock_now() < soon)
		turn(p, NSEC_PER_MSEC);
	for (unsigned i = 0; i < p->nr_tasks; i++) {
		if (!p->failed)
			check_task(&tasks[i]);
		if (i > NR_IMAGES || task_is_busy(&tasks[i]))
			kill_task(&tasks[i]);
	}
	if (!p->over)
		leave(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct play p = {.in = data, .left = size, .conn = -1, .second = -1};
	unsigned how, beginning;
	int before;

	if (listener < 0)
		prepare();
	before = lowest_free(listener);
	p.until = clock_now() + patience;
	gives_up = false;
	begin(&p);
	how = next_byte(&p);
	beginning = next_byte(&p);
	MUST(start(&p, how));
	p.conn = call();
	if (!(beginning & 128)) {
		for (unsigned i = 0; i <= NR_IMAGES; i++)
			good_word(&p, i);
		if (!(beginning & 64))
			finished(&p, 0);
	}
	for (unsigned i = 0; i < MAX_STEPS && p.left; i++)
		step(&p);
	end(&p);
	MUST(lowest_free(listener) == before);
	return 0;
}
