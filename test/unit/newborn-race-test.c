/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Children that are still held: what they do meanwhile, and a worker's death meanwhile. */
#include "test/unit/newborn-kin.h"

static void changes_of_child(void)
{
	int16_t *const both[] = {kin->of_child, kin->of_grandchild};

	kin->child_moves = true;
	for (int i = 0; i < 2; i++) {
		both[i][20] = 0;
		both[i][22] = NOT_MAPPED;
		moved(both[i], 24, BEHIND + VICTIMS, 1);
	}
	kin->of_child[21] = 0;
}

static bool all_have_looked(void)
{
	return (kin->child_exits || atomic_load(&kin->child_wrong)) &&
	       atomic_load(&kin->grandchild_wrong);
}

/* Everything comes, and is what it must be. */
static void judge(struct stage *s)
{
	release();
	atomic_store(&kin->may_look, true);
	turn_until(s, all_have_looked());
	assert_int_equal(atomic_load(&kin->child_wrong), !kin->child_exits);
	assert_int_equal(atomic_load(&kin->grandchild_wrong), 1);
	order(s->p, REAPER, OP_REAP, (uint64_t)atomic_load(&kin->child), 0, 0);
	turn_until(s, is_over(s->p, FORKER) && is_over(s->p, MOVER) && is_over(s->p, REAPER));
	assert_int_equal(s->p->lane[REAPER].result, 0);
	engine_hurry(s->engine);
	engine_begin_background(s->engine);
	turn_until(s, engine_nr_sessions(s->engine) == 0);
	assert_int_equal(stats_of(s).pages_lost, 0);
	assert_int_equal(stats_of(s).sessions_lost, 0);
	s->p->lane[JUDGE].call = look_at_parent;
	order(s->p, JUDGE, OP_CALL, 0, 0, 0);
	eventually(is_over(s->p, JUDGE));
	assert_int_equal(s->p->lane[JUDGE].result, 1);
	stage_close_all(s);
}

/*
 *	parent	forks: the child is held
 *	child	changes its memory, forks, changes it again: read, and kept
 *	parent	is quiet
 */
static void test_grandchild(void **state)
{
	struct stage s;

	(void)state;
	begin(&s);
	changes_of_child();
	grandchild_is_born(&s);
	judge(&s);
}

/* The same; before the parent is quiet the worker dies. */
static void test_grandchild_then_death(void **state)
{
	struct stage s;

	(void)state;
	begin(&s);
	changes_of_child();
	live(&s, grandchild_is_born);
	must(engine_go_on(&s) == 0);
	must(!said(&s, "pid 1.1: FORK"));
	judge(&s);
}

static bool sleeps(int pid)
{
	char path[64], text[512];
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[got > 0 ? got : 0] = '\0';
	return strstr(text, ") S ") || strstr(text, ") D ");
}

static void child_has_gone(struct stage *s)
{
	char path[32];

	grandchild_is_born(s);
	snprintf(path, sizeof(path), "/proc/%d/maps", atomic_load(&kin->child));
	eventually(is_gone(path));
}

/*
 *	parent	forks: the child is held
 *	child	forks: read, and kept; exits
 *	engine	finds that it is gone before the parent is quiet
 */
static void test_child_exits(void **state)
{
	struct stage s;

	(void)state;
	begin(&s);
	kin->child_exits = true;
	child_has_gone(&s);
	turn_until(&s, said(&s, "pid 1.1: EXIT"));
	must(said(&s, "pid 1.1: FORK: child 1"));
	judge(&s);
}

/* The same; but first the worker dies. */
static void test_child_exits_then_death(void **state)
{
	struct stage s;

	(void)state;
	begin(&s);
	kin->child_exits = true;
	live(&s, child_has_gone);
	must(engine_go_on(&s) == 0);
	must(!said(&s, "pid 1.1: FORK"));
	judge(&s);
}

/*
 *	parent		forks: the child is held
 *	child		forks: read, and kept; exits
 *	grandchild	discards a page, and waits: nobody hears it before the child's story is
 *settled parent		moves: where the child has that is asked, and who could say so
 *refuses
 *	parent		is quiet: the child is let go, and not only when it has been held for too
 *long
 */
static void test_child_exits_and_its_child_refuses(void **state)
{
	enum { FEW = 100 };
	struct stage s;
	int turns;

	(void)state;
	begin(&s);
	kin->child_exits = kin->grandchild_tells = true;
	kin->of_grandchild[21] = 0;
	child_has_gone(&s);
	eventually(sleeps(atomic_load(&kin->grandchild)));
	moved(kin->parent, VICTIM, THERE, VICTIMS);
	order(s.p, MOVER, OP_REMAP, page_at(s.p, VICTIM), page_at(s.p, THERE), VICTIMS * PAGE_SIZE);
	turn_until(&s, is_over(s.p, MOVER));
	release();
	for (turns = 0; turns < FEW && !said(&s, "pid 1.1: FORK: child 1"); turns++)
		turn(&s);
	assert_int_not_equal(turns, FEW);
	judge(&s);
}

/* --- a move that is half told ------------------------------------------------------------------
 *
 *	A	mremap(VICTIM -> THERE, FIXED): made; UNMAP(THERE) is told
 *	B	fork: FORK is told
 *	engine	reads both: now A can tell REMAP, and then UNMAP(VICTIM)
 *
 * The child has at THERE what was at VICTIM; that is all that it can have.
 */

static void expect_move(void)
{
	int16_t *const all[] = {kin->parent, kin->of_child, kin->of_grandchild};

	for (int i = 0; i < 3; i++)
		moved(all[i], VICTIM, THERE, VICTIMS);
}

static void half_a_move(struct stage *s)
{
	engine_begin(s);
	order(s->p, MOVER, OP_REMAP, page_at(s->p, VICTIM), page_at(s->p, THERE),
	      VICTIMS * PAGE_SIZE);
	stuck(s->p, MOVER);
	begin_family(s);
	eventually(lane_waits(s->p, FORKER));
	must(uffd_quiet(s->p->uffd) == UFFD_CHANGING);
}

/* The one turn that reads the FORK; of A nothing more can be read by that. */
static void fork_is_read(struct stage *s)
{
	half_a_move(s);
	turn_until(s, said(s, "pid 1: FORK: child 1"));
}

/* All is told; the child is still held. */
static void move_is_read(struct stage *s)
{
	half_a_move(s);
	hold(s);
	turn_until(s, is_over(s->p, MOVER) && is_over(s->p, FORKER));
	for (int i = 0; i < 3; i++)
		turn(s);
}

static void run_move(void (*worker)(struct stage *s), void (*here)(struct stage *s))
{
	struct stage s;

	begin(&s);
	expect_move();
	atomic_store(&kin->go, true);
	if (worker) {
		live(&s, worker);
		must(engine_go_on(&s) == 0);
	}
	if (here)
		here(&s);
	judge(&s);
}

static void test_move(void **state)
{
	(void)state;
	run_move(NULL, fork_is_read);
}

/* The worker dies when it has read the FORK. */
static void test_move_then_death(void **state)
{
	(void)state;
	run_move(fork_is_read, NULL);
}

/* The worker dies when it has read all, and before the parent is quiet. */
static void test_move_read_then_death(void **state)
{
	(void)state;
	run_move(move_is_read, NULL);
}

/* The child has told that it has moved on what it got by that; all is told, and it is held. */
static void child_has_moved_on(struct stage *s)
{
	half_a_move(s);
	hold(s);
	turn_until(s, said(s, "pid 1: FORK: child 1"));
	atomic_store(&kin->go, true);
	turn_until(s, is_over(s->p, MOVER) && atomic_load(&kin->has_forked));
	for (int i = 0; i < 3; i++)
		turn(s);
	must(!said(s, "pid 1.1: FORK"));
}

static void move_on(void (*worker)(struct stage *s), void (*here)(struct stage *s))
{
	struct stage s;

	begin(&s);
	expect_move();
	moved(kin->of_child, THERE, BEHIND, VICTIMS);
	moved(kin->of_grandchild, THERE, BEHIND, VICTIMS);
	kin->child_moves_on = true;
	if (worker) {
		live(&s, worker);
		must(engine_go_on(&s) == 0);
	}
	if (here)
		here(&s);
	judge(&s);
}

static void test_moves_on(void **state)
{
	(void)state;
	move_on(NULL, child_has_moved_on);
}

/* The next worker cannot ask any more what the child had there. */
static void test_moves_on_then_death(void **state)
{
	(void)state;
	move_on(child_has_moved_on, NULL);
}

/* --- the same move in a child that is held ---------------------------------------------------- */

/* Nobody of the child's threads sleeps but in what it has to tell. */
static void half_a_move_in_child(struct stage *s)
{
	engine_begin(s);
	hold(s);
	begin_family(s);
	turn_until(s, is_over(s->p, FORKER));
	atomic_store(&kin->may_move, true); /* nobody reads what it tells before the next turn */
	eventually(atomic_load(&kin->mover) && sleeps(atomic_load(&kin->mover)));
	atomic_store(&kin->go, true);
	eventually(sleeps(atomic_load(&kin->child)));
	turn_until(s, atomic_load(&kin->has_forked) && atomic_load(&kin->has_moved));
	for (int i = 0; i < 3; i++)
		turn(s);
	must(!said(s, "pid 1.1: FORK"));
}

static void expect_move_in_child(void)
{
	moved(kin->of_child, VICTIM, THERE, VICTIMS);
	moved(kin->of_grandchild, VICTIM, THERE, VICTIMS);
	kin->child_has_threads = true;
}

static void test_move_in_child(void **state)
{
	struct stage s;

	(void)state;
	begin(&s);
	expect_move_in_child();
	half_a_move_in_child(&s);
	judge(&s);
}

/* The worker dies when it has read all, and before the parent is quiet. */
static void test_move_in_child_then_death(void **state)
{
	struct stage s;

	(void)state;
	begin(&s);
	expect_move_in_child();
	live(&s, half_a_move_in_child);
	must(engine_go_on(&s) == 0);
	judge(&s);
}

/* --- a journal that is full ---------------------------------------------------------------------
 *
 * While a child is held there is no snapshot, so as many events as the journal holds fill it.
 */

#define NOBODY_CAN "nobody can go on if this worker dies"

static void begin_with_small_journal(struct stage *s)
{
	static const struct journal_options small = {
		.name = "small", .limit = 4096, .state_size = sizeof(struct engine_state)};
	struct err err = {0};

	begin(s);
	journal_free(s->journal);
	assert_int_equal(journal_new(&small, &s->journal, &err), 0);
	s->options.journal = s->journal;
}

static void fill_journal(struct stage *s)
{
	enum { FIRST = 100, NR = 100, AT_MOST = 500 };
	int i;

	grandchild_is_born(s);
	for (i = 0; i < AT_MOST && !said(s, NOBODY_CAN); i++) {
		kin->parent[FIRST + i % NR] = 0;
		order(s->p, MOVER, OP_REMOVE, page_at(s->p, FIRST + (size_t)i % NR), 0, PAGE_SIZE);
		turn_until(s, is_over(s->p, MOVER));
	}
	must(i < AT_MOST);
}

/* It is given up, which is said once, and nothing else changes. */
static void test_full_journal(void **state)
{
	struct stage s;

	(void)state;
	begin_with_small_journal(&s);
	fill_journal(&s);
	order(s.p, MOVER, OP_REMOVE, page_at(s.p, 99), 0, PAGE_SIZE);
	turn_until(&s, is_over(s.p, MOVER));
	kin->parent[99] = 0;
	assert_int_equal(said(&s, NOBODY_CAN), 1);
	judge(&s);
}

/* The next worker is told so, and goes on with nothing. */
static void test_full_journal_then_death(void **state)
{
	struct stage s;

	(void)state;
	begin_with_small_journal(&s);
	live(&s, fill_journal);
	assert_int_equal(said(&s, NOBODY_CAN), 1);
	assert_int_equal(engine_go_on(&s), -EPROTO);
	stage_close_all(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_grandchild),
		TIMED(test_grandchild_then_death),
		TIMED(test_child_exits),
		TIMED(test_child_exits_then_death),
		TIMED(test_child_exits_and_its_child_refuses),
		TIMED(test_move),
		TIMED(test_move_then_death),
		TIMED(test_move_read_then_death),
		TIMED(test_moves_on),
		TIMED(test_moves_on_then_death),
		TIMED(test_move_in_child),
		TIMED(test_move_in_child_then_death),
		TIMED(test_full_journal),
		TIMED(test_full_journal_then_death),
	};

	kin = mmap(NULL, sizeof(*kin), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (kin == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
