/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Children: of a fork in the middle of everything, with the parent's missing memory, at work beside
 * it; some exec, some exit at once, some are killed.  And vfork + exec, which has the parent's
 * memory.
 *
 * A child goes on with a copy of the world of the thread that made it.  What its siblings' worlds
 * are at that moment nobody knows, so it leaves them alone, and also the places of the task.
 */
#include "test/soak/ops.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/*
 * The child's world, made before the fork: the parent's is in memory that both have in common, and
 * the parent goes on.
 */
static struct world *inherit(const struct world *parent)
{
	struct world *w = malloc(sizeof(*w));

	if (!w)
		fail("malloc: %m");
	*w = *parent;
	w->depth++;
	memset(w->kid, 0, sizeof(w->kid));
	memset(w->kid_killed, 0, sizeof(w->kid_killed));
	w->rng ^= w->rng << 32;
	return w;
}

/* A trace of its own; the first ones are the threads'. */
static void begin_trace(struct world *w)
{
	const unsigned int threads = MAX_TASKS * MAX_THREADS;
	unsigned int nr = threads + w->shared->nr_traces++ % (TRACES - threads);

	w->trace = &w->shared->trace[nr];
	w->trace->task = w->task;
	w->trace->thread = w->thread;
	w->trace->depth = w->depth;
	w->trace->nr = 0;
	w->trace->pid = getpid();
}

static _Noreturn void be_kid(struct world *w)
{
	size_t i, steps = rnd_below(&w->rng, 24);

	begin_trace(w);
	switch (rnd_below(&w->rng, 8)) {
	case 0: /* exits with everything missing */
		_exit(0);
	case 1:
		op_random(w);
		trace_step(w, "exec", NULL, NULL);
		execl("/bin/true", "true", NULL);
		fail("exec: %m");
	case 2:
		steps = 0; /* nothing but looks */
		break;
	}
	for (i = 0; i < steps; i++)
		op_random(w);
	check_world(w);
	reap_all(w);
	trace_step(w, "end", NULL, NULL);
	_exit(0);
}

static void reap(struct world *w, size_t slot)
{
	pid_t who;
	int got;

	do
		who = waitpid(w->kid[slot], &got, 0);
	while (who < 0 && errno == EINTR);
	if (who < 0)
		fail("waitpid(%d): %m", w->kid[slot]);
	if (got != 0 && !(w->kid_killed[slot] && got == SIGKILL))
		fail("child %d of task %d thread %d ended with wait status %#x", w->kid[slot],
		     w->task, w->thread, got);
	w->kid[slot] = 0;
	w->kid_killed[slot] = false;
}

void op_fork(struct world *w)
{
	size_t slot = rnd_below(&w->rng, MAX_KIDS);
	struct world *kid;
	pid_t pid;

	if (w->depth == MAX_DEPTH || (w->depth && rnd_below(&w->rng, 3)))
		return;
	if (w->kid[slot])
		reap(w, slot);
	trace_step(w, "fork", NULL, NULL);
	kid = inherit(w);
	pid = test_fork();
	if (!pid)
		be_kid(kid);
	free(kid);
	w->kid[slot] = pid;
	w->kid_killed[slot] = rnd_below(&w->rng, 6) == 0;
	if (w->kid_killed[slot]) {
		soak_sleep_us(rnd_below(&w->rng, 3000));
		kill(pid, SIGKILL);
	}
}

void op_spawn(struct world *w)
{
	pid_t pid;

	trace_step(w, "vfork", NULL, NULL);
	pid = vfork();
	if (pid < 0)
		fail("vfork: %m");
	if (!pid) {
		execl("/bin/true", "true", NULL);
		_exit(127);
	}
	test_reap(pid, 0);
}

void op_reap(struct world *w)
{
	size_t slot = rnd_below(&w->rng, MAX_KIDS);

	if (!w->kid[slot])
		return;
	trace_step(w, "reap", NULL, NULL);
	reap(w, slot);
}

void reap_all(struct world *w)
{
	size_t i;

	trace_step(w, "reap all", NULL, NULL);
	for (i = 0; i < MAX_KIDS; i++)
		if (w->kid[i])
			reap(w, i);
}
