/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Workers are killed at any moment while a program changes its lazy memory at random, and each goes
 * on from the journal of those before: at the end, and at each look on the way, every page of every
 * process is what it must be.
 *
 * Each of three threads has places of its own (SLOTS, of SLOT_PAGES) and a model of what lies in
 * them.  A child looks at what its thread had when it forked.
 */
#include "test/unit/race-stage.h"

#include "criu-lazy/engine/pool.h"
#include "criu-lazy/engine/record.h"

enum { STORMS = 3, SLOT_PAGES = 4, SLOTS = 32, OWN_PAGES = SLOTS / 2 * SLOT_PAGES, STEPS = 120 };

struct slot {
	bool mapped;
	uint8_t byte[SLOT_PAGES];
};

/* In shared memory: the test prints it. */
struct storm {
	unsigned seed;
	struct slot slot[SLOTS];
	char what[160]; /* is wrong */
	unsigned nr_done[6];
};

static struct storm *storms;

/* In shared memory: the program is in the journal, so the next worker goes on with it. */
static atomic_bool *known;

/* Half of a thread's places are lazy at the start, the others lie behind all lazy memory. */
static uint8_t *slot_at(const struct lane *lane, size_t slot)
{
	size_t page = lane->nr * OWN_PAGES + slot % (SLOTS / 2) * SLOT_PAGES;

	return lane->program->mem + (page + (slot < SLOTS / 2 ? 0 : PAGES)) * PAGE_SIZE;
}

static void begin_storm(unsigned nr, unsigned seed)
{
	struct storm *m = &storms[nr];

	*m = (struct storm){.seed = seed};
	for (size_t i = 0; i < SLOTS / 2; i++) {
		m->slot[i].mapped = true;
		for (size_t k = 0; k < SLOT_PAGES; k++)
			m->slot[i].byte[k] = content_of(nr * OWN_PAGES + i * SLOT_PAGES + k);
	}
}

static bool look(struct lane *lane, const struct slot *slot, size_t i, size_t page, const char *who)
{
	uint64_t at = (uint64_t)(uintptr_t)slot_at(lane, i) + page * PAGE_SIZE;
	int byte = slot->mapped ? slot->byte[page] : NOT_MAPPED;

	if (page_is(lane, at, byte))
		return true;
	snprintf(storms[lane->nr].what, sizeof(storms[0].what),
	         "%s: thread %u, slot %zu, page %zu (0x%llx): %d, not %d", who, lane->nr, i, page,
	         (unsigned long long)at, read_byte(lane, at), byte);
	return false;
}

static bool look_at_all(struct lane *lane, const struct slot *slots, const char *who)
{
	for (size_t i = 0; i < SLOTS; i++)
		for (size_t page = 0; page < SLOT_PAGES; page++)
			if (!look(lane, &slots[i], i, page, who))
				return false;
	return true;
}

static bool change(struct lane *lane, struct storm *m)
{
	size_t i = (size_t)rand_r(&m->seed) % SLOTS, to = (size_t)rand_r(&m->seed) % SLOTS,
	       page = (size_t)rand_r(&m->seed) % SLOT_PAGES;
	uint8_t *at = slot_at(lane, i), *dest = slot_at(lane, to);
	unsigned what = (unsigned)rand_r(&m->seed) % 20;
	struct slot *slot = &m->slot[i];

	if (!slot->mapped)
		return true;
	if (what < 8) {
		m->nr_done[0]++;
		return look(lane, slot, i, page, "read");
	}
	if (what < 11) {
		m->nr_done[1]++;
		slot->byte[page] = (uint8_t)(1 + rand_r(&m->seed) % 250);
		memset(at + page * PAGE_SIZE, slot->byte[page], PAGE_SIZE);
		return true;
	}
	if (what < 14) {
		m->nr_done[2]++;
		memset(slot->byte + page, 0, SLOT_PAGES - page);
		return madvise(at + page * PAGE_SIZE, (SLOT_PAGES - page) * PAGE_SIZE,
		               MADV_DONTNEED) == 0;
	}
	if (what < 15) {
		m->nr_done[3]++;
		slot->mapped = false;
		return munmap(at, SLOT_PAGES * PAGE_SIZE) == 0;
	}
	if (i == to)
		return true;
	m->nr_done[4]++;
	m->slot[to] = *slot;
	slot->mapped = false;
	return mremap(at, SLOT_PAGES * PAGE_SIZE, SLOT_PAGES * PAGE_SIZE,
	              MREMAP_MAYMOVE | MREMAP_FIXED, dest) == dest;
}

/* The child looks at what there was; meanwhile the thread goes on. */
static bool have_child(struct lane *lane, struct storm *m)
{
	struct slot slots[SLOTS];
	int status = -1;
	pid_t pid;

	memcpy(slots, m->slot, sizeof(slots));
	m->nr_done[5]++;
	pid = _Fork();
	if (pid == 0) {
		struct lane own = *lane;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (pipe(own.pipe) < 0) /* the thread goes on with its own */
			_exit(2);
		_exit(look_at_all(&own, slots, "child") ? 0 : 1);
	}
	for (int i = 0; i < 3; i++)
		if (!change(lane, m))
			return false;
	return waitpid(pid, &status, 0) == pid && status == 0;
}

static int storm(struct lane *lane)
{
	struct storm *m = &storms[lane->nr];

	for (unsigned step = 0; step < STEPS; step++) {
		bool fork = rand_r(&m->seed) % 30 == 0;

		if (!(fork ? have_child(lane, m) : change(lane, m))) {
			if (!m->what[0])
				snprintf(m->what, sizeof(m->what), "thread %u, step %u: errno %d",
				         lane->nr, step, errno);
			return 1;
		}
	}
	return 0;
}

static int look_at_end(struct lane *lane)
{
	return look_at_all(lane, storms[lane->nr].slot, "at the end") ? 0 : 1;
}

static void order_call(struct program *p, unsigned lane, int (*call)(struct lane *lane))
{
	p->lane[lane].call = call;
	order(p, lane, OP_CALL, 0, 0, 0);
}

/* --- workers ---------------------------------------------------------------------------------- */

static unsigned life, seed_of_life;

static void serve(struct stage *s)
{
	if (!life) {
		engine_begin(s);
		atomic_store(known, true);
	} else {
		must(engine_go_on(s) == 0);
	}
	if (seed_of_life % 3 == 0)
		engine_begin_background(s->engine);
	for (;;) {
		if (engine_nr_sessions(s->engine))
			turn(s);
		else
			pause();
	}
}

/*
 * From the moment when the program is known.  Who dies before that leaves a journal that names
 * nobody, and all that come after have nothing to do: what was handed over and not yet adopted is
 * not the engine's business (handoff.h), and there is nobody else here.
 */
static void live_for(struct stage *s, unsigned usec)
{
	pid_t pid = family_clone();

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(s);
	}
	while (!atomic_load(known)) /* later ones may die at once */
		usleep(50);
	usleep(usec);
	kill(pid, SIGKILL);
	assert_true(WTERMSIG(reap(pid)) == SIGKILL);
}

static bool storms_over(const struct stage *s)
{
	for (unsigned i = 0; i < STORMS; i++)
		if (!is_over(s->p, i))
			return false;
	return true;
}

static void expect_no_wrong(struct stage *s, unsigned seed)
{
	for (unsigned i = 0; i < STORMS; i++)
		if (s->p->lane[i].result)
			fail_msg("seed %u, life %u: %s", seed, life, storms[i].what);
}

static void one_history(unsigned seed)
{
	const struct engine_options options = {.background = BACKGROUND_RATE,
	                                       .rate = 20 << 20,
	                                       .low_latency = LOW_LATENCY_OFF,
	                                       .copier = seed % 2};
	unsigned dice = seed;
	struct stage s;

	for (unsigned i = 0; i < STORMS; i++)
		begin_storm(i, seed * 3 + i);
	stage_open(&s, &options, false, true);
	for (unsigned i = 0; i < STORMS; i++)
		order_call(s.p, i, storm);
	atomic_store(known, false);
	for (life = 0; life < 100 && !storms_over(&s); life++) {
		seed_of_life = (unsigned)rand_r(&dice);
		live_for(&s, 300 + (unsigned)rand_r(&dice) % 4000);
	}
	if (getenv("VERBOSE"))
		print_message("seed %u: %u lives\n", seed, life);
	must(engine_go_on(&s) == 0);
	assert_int_not_equal(stats_of(&s).sessions, 0);
	turn_until(&s, storms_over(&s));
	expect_no_wrong(&s, seed);
	for (unsigned i = 0; i < STORMS; i++)
		order_call(s.p, i, look_at_end);
	turn_until(&s, storms_over(&s));
	expect_no_wrong(&s, seed);
	engine_hurry(s.engine);
	engine_begin_background(s.engine);
	turn_until(&s, engine_nr_sessions(s.engine) == 0);
	for (unsigned i = 0; i < STORMS; i++)
		order_call(s.p, i, look_at_end);
	eventually(storms_over(&s));
	expect_no_wrong(&s, seed);
	assert_int_equal(stats_of(&s).pages_lost, 0);
	stage_close_all(&s);
}

/* RESUME_SEED: one history; RESUME_ROUNDS: so many. */
static void test_histories(void **state)
{
	const char *one = getenv("RESUME_SEED"), *rounds = getenv("RESUME_ROUNDS");
	unsigned nr = one ? 1 : rounds ? (unsigned)atoi(rounds) : 20;
	unsigned seed = one ? (unsigned)atoi(one) : (unsigned)clock_now() % 1000000;

	(void)state;
	storms = mmap(NULL, STORMS * sizeof(*storms), PROT_READ | PROT_WRITE,
	              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(storms != MAP_FAILED);
	known = mmap(NULL, sizeof(*known), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
	             0);
	assert_true(known != MAP_FAILED);
	print_message("seeds %u to %u\n", seed, seed + nr - 1);
	for (unsigned i = 0; i < nr; i++) {
		alarm(PATIENCE);
		one_history(seed + i);
	}
	munmap(known, sizeof(*known));
	munmap(storms, STORMS * sizeof(*storms));
}

/* --- a worker that cannot go on --------------------------------------------------------------- */

static void brings_a_page(struct stage *s)
{
	engine_begin(s);
	order(s->p, 0, OP_READ, page_at(s->p, 7), 0, 0);
	turn_until(s, is_over(s->p, 0));
}

/*
 *	worker	brings a page, reads an event, dies before it acts on it
 *	second	looks at what was brought, and fails in what follows
 *	next	must find what was brought
 */
static void test_failed(void **state)
{
	const struct engine_options options = {.background = BACKGROUND_OFF,
	                                       .low_latency = LOW_LATENCY_OFF};
	const struct uffd_msg msg = {.event = UFFD_EVENT_UNMAP};
	enum { UNKNOWN = 4711 };
	uint64_t *marks;
	struct stage s;

	(void)state;
	stage_open(&s, &options, false, true);
	live(&s, brings_a_page);
	assert_int_equal(journal_load(s.journal, NULL), 0);
	assert_int_equal(journal_add(s.journal, RECORD_EVENTS, 0, &msg, sizeof(msg), NULL, 0), 0);
	assert_int_equal(journal_add(s.journal, UNKNOWN, 0, NULL, 0, NULL, 0), 0);
	assert_int_equal(engine_go_on(&s), -EPROTO);
	engine_free(s.engine);
	s.engine = NULL;
	marks = journal_marks_at(s.journal, 0, PAGES / 64);
	assert_non_null(marks);
	assert_int_equal(marks[0], 1 << 7);
	journal_marks_leave(marks, PAGES / 64);
	assert_int_equal(((struct engine_stats *)journal_state(s.journal))->sessions_exited, 0);
	stage_close_all(&s);
}

/*
 *	worker	has two engines; one brings a page; dies
 *	second	the one has gone on when the other cannot
 *	next	finds the one's userfaultfd open, and what it had brought
 */
static void test_one_of_two_failed(void **state)
{
	const struct engine_options options = {.background = BACKGROUND_OFF,
	                                       .low_latency = LOW_LATENCY_OFF};
	const struct journal_options other_journal = {
		.name = "other", .limit = 8 << 20, .state_size = sizeof(struct engine_state)};
	struct journal *journals[2];
	struct engine_resume how;
	struct err err = {0};
	uint8_t taken[1] = {0};
	struct pool *pool;
	struct stage s;
	bool fixed;

	(void)state;
	stage_open(&s, &options, false, true);
	live(&s, brings_a_page);
	how = (struct engine_resume){stage_source, &s, taken, 1};
	journals[0] = s.journal;
	assert_int_equal(journal_new(&other_journal, &journals[1], &err), 0);
	journal_break(journals[1]);
	assert_int_equal(pool_new(&options, 2, journals, &how, &pool, &err), -EPROTO);
	journal_free(journals[1]);
	assert_true(uffd_is_one(s.p->uffd, &fixed));
	must(engine_go_on(&s) == 0);
	assert_int_equal(engine_nr_sessions(s.engine), 1);
	assert_int_equal(stats_of(&s).pages_missing, PAGES - 1);
	engine_hurry(s.engine);
	engine_begin_background(s.engine);
	turn_until(&s, engine_nr_sessions(s.engine) == 0);
	order(s.p, 0, OP_VERIFY, 0, 0, 0);
	eventually(is_over(s.p, 0));
	assert_int_equal(s.p->lane[0].result, 0);
	stage_close_all(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {TIMED(test_failed), TIMED(test_one_of_two_failed),
	                                   TIMED(test_histories)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
