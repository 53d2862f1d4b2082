/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All have died, and a service manager has given back what it had, which is not everything: the
 * userfaultfd of a child's child that nobody had begun to serve is not among it.
 */
#include "test/unit/newborn-kin.h"

#include "criu-lazy/engine/record.h"

/* The descriptor of the last FORK that the journal has. */
static int last_born(struct stage *s)
{
	struct journal_record record;
	const void *payload;
	size_t at = 0;
	int fd = -1;

	must(journal_load(s->journal, NULL) == 0);
	while (journal_next(s->journal, &at, &record, &payload)) {
		const struct uffd_msg *msgs = payload;

		for (size_t i = 0; record.type == RECORD_EVENTS && i < record.len / sizeof(*msgs);
		     i++)
			if (msgs[i].event == UFFD_EVENT_FORK)
				fd = (int)msgs[i].arg.fork.ufd;
	}
	must(fd >= 0);
	return fd;
}

static bool is_needed(struct stage *s, int fd)
{
	struct fdset needed = {0};
	bool found;

	must(engine_descriptors(s->engine, keep_fd, &needed) == 0);
	found = fdset_has(&needed, fd);
	fdset_release(&needed);
	return found;
}

static bool has_exited(int pid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	return is_gone(path);
}

static void replace(int fd, int by)
{
	must(by >= 0 && dup3(by, fd, O_CLOEXEC) == fd);
}

/* All that came from the program has been stopped, and nobody is left to serve. */
static void expect_all_stopped(struct stage *s)
{
	eventually(has_exited(s->p->pid));
	eventually(has_exited(atomic_load(&kin->child)));
	eventually(has_exited(atomic_load(&kin->grandchild)));
	release();
	turn_until(s, engine_nr_sessions(s->engine) == 0);
	assert_int_equal(stats_of(s).sessions_lost, 1);
}

/*
 *	worker	has read, and kept, the FORK of a child that is held; all die
 *	next	has got everything but the grandchild's userfaultfd; something else has its number
 */
static void test_grandchild_not_kept(void **state)
{
	int other = open("/dev/null", O_RDONLY | O_CLOEXEC), born;
	struct stage s;

	(void)state;
	begin(&s);
	live(&s, grandchild_is_born);
	born = last_born(&s);
	replace(born, other);
	must(engine_go_on(&s) == 0);
	assert_int_equal(said(&s, "pid 1.1: a child of it: its userfaultfd was not kept"), 1);
	assert_false(is_needed(&s, born));
	assert_false(fcntl(other, F_GETFL) & O_NONBLOCK);
	expect_all_stopped(&s);
	close(other);
	stage_close_all(&s);
}

static void goes_on(struct stage *s)
{
	must(engine_go_on(s) == 0);
}

/* The same; that one dies, too, when the number is that of another userfaultfd. */
static void test_grandchild_not_kept_then_death(void **state)
{
	struct stage s;
	int born;

	(void)state;
	begin(&s);
	live(&s, grandchild_is_born);
	born = last_born(&s);
	close(born);
	live(&s, goes_on);
	replace(born, s.p->uffd);
	must(engine_go_on(&s) == 0);
	assert_int_equal(said(&s, "was not kept"), 1);
	assert_false(is_needed(&s, born));
	expect_all_stopped(&s);
	stage_close_all(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_grandchild_not_kept),
		TIMED(test_grandchild_not_kept_then_death),
	};

	kin = mmap(NULL, sizeof(*kin), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (kin == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
