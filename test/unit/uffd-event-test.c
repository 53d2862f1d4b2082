/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What userfaultfd reports, and in which order: the facts that the engine and the tracker are
 * built on, checked against the kernel at hand.
 */
#include "test/unit/uffd-world.h"

static void test_nothing_to_read(void **state)
{
	struct uffd_msg msgs[4];
	struct world w;

	(void)state;
	world_open(&w);
	assert_int_equal(uffd_read(w.fd, msgs, 4), 0);
	assert_true(uffd_read(-1, msgs, 4) == -EBADF);
	world_close(&w);
}

/* The event is older, and read last. */
static void test_faults_before_events(void **state)
{
	struct world unmapper, w;
	struct uffd_msg msgs[4];
	uint64_t done;

	(void)state;
	world_open(&w);
	unmapper = w; /* the same memory and descriptor, another thread */
	world_do(&unmapper, unmap_page, 1);
	assert_true(readable(w.fd, PATIENCE * 1000));
	world_do(&w, touch_page, 5);
	world_stuck(&w);
	assert_int_equal(uffd_read(w.fd, msgs, 4), 2);
	assert_int_equal(msgs[0].event, UFFD_EVENT_PAGEFAULT);
	assert_int_equal(page_down(msgs[0].arg.pagefault.address), addr_of(&w, 5));
	assert_int_equal(msgs[1].event, UFFD_EVENT_UNMAP);
	assert_int_equal(msgs[1].arg.remove.start, addr_of(&w, 1));
	assert_int_equal(msgs[1].arg.remove.end, addr_of(&w, 2));
	world_join(&unmapper);
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 5), w.src, PAGE_SIZE, &done), UFFD_DONE);
	world_join(&w);
	assert_int_equal(w.seen, 'a');
	world_close(&w);
}

/* As many as there is room for, the rest at the next call. */
static void test_read_in_parts(void **state)
{
	struct world touchers[5], w;
	struct uffd_msg msgs[5];
	uint64_t done;
	int got, pages = 0;

	(void)state;
	world_open(&w);
	for (size_t i = 0; i < 5; i++) {
		touchers[i] = w;
		world_do(&touchers[i], touch_page, i);
	}
	for (size_t i = 0; i < 5; i++)
		world_stuck(&touchers[i]);
	got = uffd_read(w.fd, msgs, 3);
	assert_int_equal(got, 3);
	got = uffd_read(w.fd, msgs + 3, 2);
	assert_int_equal(got, 2);
	assert_int_equal(uffd_read(w.fd, msgs, 0 + 1), 0);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(msgs[i].event, UFFD_EVENT_PAGEFAULT);
		pages |= 1 << (msgs[i].arg.pagefault.address - addr_of(&w, 0)) / PAGE_SIZE;
	}
	assert_int_equal(pages, 31);
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 0), w.src, 5 * PAGE_SIZE, &done), UFFD_DONE);
	for (size_t i = 0; i < 5; i++) {
		world_join(&touchers[i]);
		assert_int_equal(touchers[i].seen, 'a' + i);
	}
	world_close(&w);
}

static void test_remove(void **state)
{
	struct uffd_msg msg;
	struct world w;
	uint64_t done;

	(void)state;
	world_open(&w);
	world_do(&w, discard_page, 2);
	read_msgs(w.fd, &msg, 1);
	assert_int_equal(msg.event, UFFD_EVENT_REMOVE);
	assert_int_equal(msg.arg.remove.start, addr_of(&w, 2));
	assert_int_equal(msg.arg.remove.end, addr_of(&w, 3));
	world_join(&w);
	/* Still registered. */
	assert_int_equal(uffd_registered(w.fd, addr_of(&w, 2), PAGE_SIZE), UFFD_DONE);
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 2), w.src, PAGE_SIZE, &done), UFFD_DONE);
	world_close(&w);
}

/* --- mremap ---------------------------------------------------------------------------------- */

static void move_two_pages(struct world *w)
{
	mremap(w->mem + 2 * PAGE_SIZE, 2 * PAGE_SIZE, 2 * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
	       w->place);
}

static void move_and_leave_mapped(struct world *w)
{
	mremap(w->mem + 2 * PAGE_SIZE, 2 * PAGE_SIZE, 2 * PAGE_SIZE,
	       MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, w->place);
}

static void expect_remap(const struct world *w)
{
	struct uffd_msg msg;

	read_msgs(w->fd, &msg, 1);
	assert_int_equal(msg.event, UFFD_EVENT_REMAP);
	assert_int_equal(msg.arg.remap.from, addr_of(w, 2));
	assert_int_equal(msg.arg.remap.to, (uint64_t)(uintptr_t)w->place);
	assert_int_equal(msg.arg.remap.len, 2 * PAGE_SIZE);
}

static void test_move(void **state)
{
	struct uffd_msg msg;
	struct world w;
	uint64_t done;

	(void)state;
	world_open(&w);
	world_do(&w, move_two_pages, 0);
	expect_remap(&w);
	read_msgs(w.fd, &msg, 1);
	assert_int_equal(msg.event, UFFD_EVENT_UNMAP);
	assert_int_equal(msg.arg.remove.start, addr_of(&w, 2));
	assert_int_equal(msg.arg.remove.end, addr_of(&w, 4));
	world_join(&w);
	assert_int_equal(uffd_read(w.fd, &msg, 1), 0);
	/* The registration went along. */
	assert_int_equal(uffd_registered(w.fd, addr_of(&w, 2), PAGE_SIZE), UFFD_NOWHERE);
	assert_int_equal(uffd_registered(w.fd, (uint64_t)(uintptr_t)w.place, PAGE_SIZE), UFFD_DONE);
	assert_int_equal(uffd_copy(w.fd, (uint64_t)(uintptr_t)w.place, w.src + 2 * PAGE_SIZE,
	                           2 * PAGE_SIZE, &done),
	                 UFFD_DONE);
	assert_memory_equal(w.place, w.src + 2 * PAGE_SIZE, 2 * PAGE_SIZE);
	world_close(&w);
}

static void test_move_without_unmap(void **state)
{
	struct uffd_msg msg;
	struct world w;

	(void)state;
	world_open(&w);
	world_do(&w, move_and_leave_mapped, 0);
	expect_remap(&w);
	world_join(&w); /* would hang if there were one more to read */
	assert_int_equal(uffd_read(w.fd, &msg, 1), 0);
	assert_int_equal(uffd_registered(w.fd, (uint64_t)(uintptr_t)w.place, PAGE_SIZE), UFFD_DONE);
	world_close(&w);
}

/* --- fork ------------------------------------------------------------------------------------ */

static void fork_and_touch(struct world *w)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		touch_page(w);
		_exit(w->seen);
	}
	w->seen = pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status)
	                  ? (uint8_t)WEXITSTATUS(status)
	                  : 0;
}

static void test_fork(void **state)
{
	struct uffd_msg msg;
	struct world w;
	uint64_t done;
	bool fixed = true;
	int child;

	(void)state;
	world_open(&w);
	world_do(&w, fork_and_touch, 6);
	read_msgs(w.fd, &msg, 1);
	assert_int_equal(msg.event, UFFD_EVENT_FORK);
	child = (int)msg.arg.fork.ufd;
	assert_true(uffd_is_one(child, &fixed));
	assert_false(fixed); /* as non-blocking as its parent's */
	expect_fault(child, addr_of(&w, 6));
	assert_false(readable(w.fd, 0));
	assert_int_equal(uffd_registered(child, addr_of(&w, 0), PAGE_SIZE), UFFD_DONE);
	assert_int_equal(uffd_copy(child, addr_of(&w, 6), w.src + PAGE_SIZE, PAGE_SIZE, &done),
	                 UFFD_DONE);
	world_join(&w);
	assert_int_equal(w.seen, 'b');
	eventually(uffd_quiet(child) == UFFD_EXITED);
	/* What the child was given, the parent does not have. */
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 6), w.src, PAGE_SIZE, &done), UFFD_DONE);
	close(child);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_nothing_to_read),
		TIMED(test_faults_before_events),
		TIMED(test_read_in_parts),
		TIMED(test_remove),
		TIMED(test_move),
		TIMED(test_move_without_unmap),
		TIMED(test_fork),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
