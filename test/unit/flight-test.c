/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A worker dies when the kernel has copied a page and nobody has noted that: it is stopped, by
 * ptrace(2), on its way out of UFFDIO_COPY.  Who goes on must find out by itself that the page is
 * not missing, since nobody faults on it: with --background off it would wait for ever.
 */
#include "test/unit/race-table.h"

#include <sys/ptrace.h>

static const struct engine_options quiet = {.background = BACKGROUND_OFF,
                                            .low_latency = LOW_LATENCY_OFF};

/* The next stop of its system calls. */
static void step(pid_t pid, struct __ptrace_syscall_info *ret)
{
	int status;

	do {
		assert_int_equal(ptrace(PTRACE_SYSCALL, pid, 0, 0), 0);
		assert_int_equal(waitpid(pid, &status, __WALL), pid);
		assert_true(WIFSTOPPED(status));
	} while (WSTOPSIG(status) != (SIGTRAP | 0x80));
	assert_true(ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(*ret), ret) > 0);
}

/* A worker that does this, and dies within its first UFFDIO_COPY, of which the kernel says so. */
static void live_until_copy(struct stage *s, void (*script)(struct stage *s), int64_t says)
{
	struct __ptrace_syscall_info info;
	pid_t pid = family_clone();

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		must(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
		raise(SIGSTOP);
		script(s);
		for (;;)
			turn(s);
	}
	assert_true(WIFSTOPPED(reap(pid)));
	assert_int_equal(
		ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL), 0);
	do
		step(pid, &info);
	while (info.op != PTRACE_SYSCALL_INFO_ENTRY || info.entry.nr != SYS_ioctl ||
	       info.entry.args[1] != UFFDIO_COPY);
	step(pid, &info);
	assert_int_equal(info.op, PTRACE_SYSCALL_INFO_EXIT);
	assert_int_equal(info.exit.rval, says);
	kill(pid, SIGKILL);
	assert_int_equal(WTERMSIG(reap(pid)), SIGKILL);
}

static void wants_page(struct stage *s)
{
	engine_begin(s);
	engine_begin_background(s->engine);
	read_page(s, WANTED);
}

static void goes_on(struct stage *s)
{
	must(engine_go_on(s) == 0);
	engine_begin_background(s->engine);
}

static void open_and_die(struct stage *s)
{
	stage_open(s, &quiet, false, true);
	live_until_copy(s, wants_page, 0);
	eventually(is_over(s->p, READER));
	assert_int_equal(s->p->lane[READER].result, content_of(WANTED));
}

/* The program touches everything, page after page; then nobody is needed any more. */
static void judge_all(struct stage *s)
{
	order(s->p, JUDGE, OP_VERIFY, 0, 0, 0);
	turn_until(s, is_over(s->p, JUDGE));
	assert_int_equal(s->p->lane[JUDGE].result, 0);
	turn_until(s, engine_nr_sessions(s->engine) == 0);
	assert_int_equal(stats_of(s).sessions_exited, 0);
	assert_int_equal(stats_of(s).pages_lost, 0);
	stage_close_all(s);
}

/*
 *	worker	copies a page; dies
 *	next	asks for that page, and for none that nobody wants
 */
static void test_death(void **state)
{
	struct stage s;

	(void)state;
	open_and_die(&s);
	goes_on(&s);
	assert_int_equal(stats_of(&s).pages_missing, PAGES);
	turn_until(&s, stats_of(&s).pages_missing < PAGES);
	for (int i = 0; i < 20; i++)
		turn(&s);
	assert_int_equal(s.nr_fetches, 1);
	assert_int_equal(stats_of(&s).pages_missing, PAGES - 1);
	judge_all(&s);
}

/*
 *	worker	copies a page; dies
 *	second	asks the kernel, which says that it is there; dies before it notes that
 *	third	dies before it does anything
 *	next	knows of it nevertheless
 */
static void test_deaths(void **state)
{
	struct stage s;

	(void)state;
	open_and_die(&s);
	live_until_copy(&s, goes_on, -EEXIST);
	live(&s, goes_on);
	goes_on(&s);
	judge_all(&s);
}

/*
 *	worker	copies a page; dies
 *	program	does something with it: told, not read
 *	next	hears of it; the page is elsewhere, or gone, or a child has it, too
 */
static void test_event(void **state)
{
	struct stage s;

	now = *state;
	open_and_die(&s);
	make_event(&s);
	goes_on(&s);
	hear_event(&s);
	if (now->event == EXIT) {
		stage_close_all(&s);
		return;
	}
	expect_after_event(&s);
	if (now->event == FORK)
		judge_child(&s);
	judge_all(&s);
}

/* More deaths than can be kept in mind: all of it comes. */
static void test_too_many(void **state)
{
	struct engine_state *shared;
	struct stage s;

	(void)state;
	open_and_die(&s);
	shared = journal_state(s.journal);
	/* Of the only family that there is, so that none can be dropped. */
	for (shared->nr_suspects = 0; shared->nr_suspects < ENGINE_SUSPECTS; shared->nr_suspects++)
		shared->suspect[shared->nr_suspects] =
			(struct engine_suspect){.page = 100 + shared->nr_suspects, .nr_pages = 1};
	goes_on(&s);
	turn_until(&s, engine_nr_sessions(s.engine) == 0);
	assert_true(s.p->lane[JUDGE].ordered == 0);
	order(s.p, JUDGE, OP_VERIFY, 0, 0, 0);
	eventually(is_over(s.p, JUDGE));
	assert_int_equal(s.p->lane[JUDGE].result, 0);
	stage_close_all(&s);
}

/* What lies in the memory that a manager has kept is judged. */
static void test_nonsense(void **state)
{
	struct engine_state *shared;
	struct stage s;

	(void)state;
	open_and_die(&s);
	shared = journal_state(s.journal);
	shared->nr_suspects = ENGINE_SUSPECTS + 1;
	assert_int_equal(engine_go_on(&s), -EPROTO);
	engine_free(s.engine);
	shared->nr_suspects = 0;
	shared->flight[1].nr_pages = UINT64_MAX;
	assert_int_equal(engine_go_on(&s), -EPROTO);
	engine_free(s.engine);
	shared->flight[1].nr_pages = 0;
	assert_int_equal(shared->nr_suspects, 1); /* of flight[0] */
	shared->nr_suspects = 2;
	shared->suspect[1] =
		(struct engine_suspect){.page = UINT64_MAX - 3, .nr_pages = UINT64_MAX};
	goes_on(&s);
	judge_all(&s);
}

int main(void)
{
	static const struct race races[EVENTS] = {{.name = "copied", .event = REMOVE},
	                                          {.name = "copied", .event = UNMAP},
	                                          {.name = "copied", .event = REMAP},
	                                          {.name = "copied", .event = FORK},
	                                          {.name = "copied", .event = EXIT}};
	struct CMUnitTest tests[4 + EVENTS] = {TIMED(test_death), TIMED(test_deaths),
	                                       TIMED(test_too_many), TIMED(test_nonsense)};

	for (size_t i = 0; i < EVENTS; i++)
		tests[4 + i] = (struct CMUnitTest){event_name[i], test_event, be_patient, NULL,
		                                   (void *)(uintptr_t)&races[i]};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
