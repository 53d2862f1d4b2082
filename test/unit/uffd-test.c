/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Filling somebody's memory: each outcome of uffd.h as the kernel at hand produces it. */
#include "test/unit/uffd-world.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/os/unixsock.h"
#include "test/unit/send-fds.h"

#include <sys/eventfd.h>

/* --- copy ------------------------------------------------------------------------------------ */

static void test_copy(void **state)
{
	struct world w;
	uint64_t done;

	(void)state;
	world_open(&w);
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 0), w.src, WORLD_LEN, &done), UFFD_DONE);
	assert_int_equal(done, WORLD_LEN);
	assert_memory_equal(w.mem, w.src, WORLD_LEN);
	assert_false(readable(w.fd, 0));
	world_close(&w);
}

static void test_copy_onto_a_page(void **state)
{
	struct world w;
	uint64_t done = 1;

	(void)state;
	world_open(&w);
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 3), w.src, PAGE_SIZE, &done), UFFD_DONE);
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 3), w.src + PAGE_SIZE, PAGE_SIZE, &done),
	                 UFFD_EXISTS);
	assert_int_equal(done, 0);
	assert_int_equal(w.mem[3 * PAGE_SIZE], 'a'); /* the first stays */
	world_close(&w);
}

/* Three pages, then one that is there: what was done is told, and what stopped it. */
static void test_short_copy(void **state)
{
	struct world w;
	uint64_t done = 0;

	(void)state;
	world_open(&w);
	assert_int_equal(
		uffd_copy(w.fd, addr_of(&w, 3), w.src + WORLD_LEN - PAGE_SIZE, PAGE_SIZE, &done),
		UFFD_DONE);
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 0), w.src, WORLD_LEN, &done), UFFD_EXISTS);
	assert_int_equal(done, 3 * PAGE_SIZE);
	assert_memory_equal(w.mem, w.src, 3 * PAGE_SIZE);
	assert_int_equal(w.mem[3 * PAGE_SIZE], 'a' + WORLD_PAGES - 1);
	assert_int_equal(uffd_registered(w.fd, addr_of(&w, 4), PAGE_SIZE), UFFD_DONE);
	assert_int_equal(
		uffd_copy(w.fd, addr_of(&w, 4), w.src + 4 * PAGE_SIZE, 4 * PAGE_SIZE, &done),
		UFFD_DONE);
	world_close(&w);
}

/* Not registered, not mapped, and a range that leaves the mapping. */
static void test_copy_to_nowhere(void **state)
{
	struct world w;
	uint64_t done = 1;

	(void)state;
	world_open(&w);
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, WORLD_PAGES), w.src, PAGE_SIZE, &done),
	                 UFFD_NOWHERE);
	munmap(w.place, PAGE_SIZE);
	assert_int_equal(uffd_copy(w.fd, (uint64_t)(uintptr_t)w.place, w.src, PAGE_SIZE, &done),
	                 UFFD_NOWHERE);
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 7), w.src, 2 * PAGE_SIZE, &done),
	                 UFFD_NOWHERE);
	assert_int_equal(done, 0);
	/* As a whole or not at all: the last page is still missing. */
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 7), w.src, PAGE_SIZE, &done), UFFD_DONE);
	world_close(&w);
}

/* A boundary between two registered mappings, which no event told of. */
static void test_copy_over_a_boundary(void **state)
{
	struct world w;
	uint64_t done = 1;

	(void)state;
	world_open(&w);
	assert_int_equal(mprotect(w.mem + 4 * PAGE_SIZE, PAGE_SIZE, PROT_READ), 0);
	assert_false(readable(w.fd, 0));
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 3), w.src, 2 * PAGE_SIZE, &done),
	                 UFFD_NOWHERE);
	assert_int_equal(done, 0);
	for (size_t i = 3; i < 6; i++)
		assert_int_equal(uffd_copy(w.fd, addr_of(&w, i), w.src, PAGE_SIZE, &done),
		                 UFFD_DONE);
	world_close(&w);
}

/* The image was cut after it had been mapped: an answer, and no SIGBUS for us. */
static void test_copy_from_beyond_the_file(void **state)
{
	FILE *file = tmpfile();
	struct world w;
	uint64_t done = 0;
	uint8_t *map;

	(void)state;
	world_open(&w);
	assert_non_null(file);
	assert_int_equal(ftruncate(fileno(file), 4 * (off_t)PAGE_SIZE), 0);
	assert_int_equal(pwrite(fileno(file), "z", 1, 0), 1);
	map = mmap(NULL, 4 * PAGE_SIZE, PROT_READ, MAP_SHARED, fileno(file), 0);
	assert_true(map != MAP_FAILED);
	assert_int_equal(ftruncate(fileno(file), 2 * (off_t)PAGE_SIZE), 0);
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 0), map, 4 * PAGE_SIZE, &done),
	                 UFFD_NO_SOURCE);
	assert_int_equal(done, 2 * PAGE_SIZE);
	assert_int_equal(w.mem[0], 'z');
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 2), w.src, PAGE_SIZE, &done), UFFD_DONE);
	munmap(map, 4 * PAGE_SIZE);
	fclose(file);
	world_close(&w);
}

static void test_refused(void **state)
{
	struct world w;
	uint64_t done = 1;

	(void)state;
	world_open(&w);
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 0) + 1, w.src, PAGE_SIZE, &done),
	                 UFFD_REFUSED);
	assert_int_equal(done, 0);
	assert_int_equal(uffd_copy(STDIN_FILENO, addr_of(&w, 0), w.src, PAGE_SIZE, &done),
	                 UFFD_REFUSED);
	world_close(&w);
}

/* --- zero, wake, poison ---------------------------------------------------------------------- */

/* Any address within the page will do. */
static void test_zero(void **state)
{
	static const uint8_t zeros[PAGE_SIZE];
	struct world w;

	(void)state;
	world_open(&w);
	assert_int_equal(uffd_zero(w.fd, addr_of(&w, 1) + 4095), UFFD_DONE);
	assert_memory_equal(w.mem + PAGE_SIZE, zeros, PAGE_SIZE);
	assert_int_equal(uffd_zero(w.fd, addr_of(&w, 1)), UFFD_EXISTS);
	assert_int_equal(uffd_zero(w.fd, addr_of(&w, WORLD_PAGES)), UFFD_NOWHERE);
	world_close(&w);
}

/* A copy wakes who waits; zero does, too. */
static void test_fill_wakes(void **state)
{
	struct world w;
	uint64_t done;

	(void)state;
	world_open(&w);
	world_do(&w, touch_page, 2);
	expect_fault(w.fd, addr_of(&w, 2));
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 2), w.src + 2 * PAGE_SIZE, PAGE_SIZE, &done),
	                 UFFD_DONE);
	world_join(&w);
	assert_int_equal(w.seen, 'c');
	world_do(&w, touch_page, 5);
	expect_fault(w.fd, addr_of(&w, 5));
	assert_int_equal(uffd_zero(w.fd, addr_of(&w, 5) + 7), UFFD_DONE);
	world_join(&w);
	assert_int_equal(w.seen, 0);
	world_close(&w);
}

/* The page is there, and the thread that waits for it does not know until it is woken. */
static void test_wake(void **state)
{
	struct world w;
	uint64_t done;

	(void)state;
	world_open(&w);
	world_do(&w, touch_page, 6);
	expect_fault(w.fd, addr_of(&w, 6));
	struct uffdio_copy quietly = {.dst = addr_of(&w, 6),
	                              .src = (uint64_t)(uintptr_t)w.src,
	                              .len = PAGE_SIZE,
	                              .mode = UFFDIO_COPY_MODE_DONTWAKE};
	assert_int_equal(ioctl(w.fd, UFFDIO_COPY, &quietly), 0);
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 6), w.src, PAGE_SIZE, &done), UFFD_EXISTS);
	uffd_wake(w.fd, addr_of(&w, 0), 6 * PAGE_SIZE); /* not its page */
	sleep_ms(30);
	assert_false(atomic_load(&w.over));
	uffd_wake(w.fd, addr_of(&w, 6) + 9, PAGE_SIZE);
	world_join(&w);
	assert_int_equal(w.seen, 'a');
	world_close(&w);
}

/* In a child of its own, whose memory it is: it must die where it touches, not before. */
static void poisoned_child(void)
{
	struct world w;

	signal(SIGBUS, SIG_DFL);
	world_open(&w);
	if (uffd_poison(w.fd, addr_of(&w, 4) + 5) != UFFD_DONE)
		_exit(1);
	if (uffd_poison(w.fd, addr_of(&w, 4)) != UFFD_EXISTS ||
	    uffd_poison(w.fd, addr_of(&w, WORLD_PAGES)) != UFFD_NOWHERE)
		_exit(2);
	if (uffd_zero(w.fd, addr_of(&w, 3)) != UFFD_DONE || w.mem[3 * PAGE_SIZE])
		_exit(3);
	w.page = 4;
	touch_page(&w);
	_exit(4);
}

static void test_poison(void **state)
{
	uint64_t features = 0;
	int fd = open_uffd(&features), status;
	pid_t pid;

	(void)state;
	if (fd < 0)
		skip_because("no userfaultfd here: %s", strerror(-fd));
	close(fd);
	if (!(features & UFFD_FEATURE_POISON))
		skip_because("this kernel has no UFFDIO_POISON (Linux 6.6)");
	pid = fork_child();
	if (pid == 0)
		poisoned_child();
	status = reap(pid);
	if (WIFEXITED(status))
		print_error("the child exits with %d\n", WEXITSTATUS(status));
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGBUS);
}

/* --- a change that is not finished ----------------------------------------------------------- */

static void test_changing(void **state)
{
	struct uffd_msg msg;
	struct world w;
	uint64_t done = 1;

	(void)state;
	world_open(&w);
	assert_int_equal(uffd_quiet(w.fd), UFFD_DONE);
	world_do(&w, unmap_page, 1);
	assert_true(readable(w.fd, PATIENCE * 1000));
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 3), w.src, PAGE_SIZE, &done), UFFD_CHANGING);
	assert_int_equal(done, 0);
	assert_int_equal(uffd_zero(w.fd, addr_of(&w, 3)), UFFD_CHANGING);
	if (w.features & UFFD_FEATURE_POISON)
		assert_int_equal(uffd_poison(w.fd, addr_of(&w, 3)), UFFD_CHANGING);
	assert_int_equal(uffd_quiet(w.fd), UFFD_CHANGING);
	assert_int_equal(uffd_registered(w.fd, addr_of(&w, 3), PAGE_SIZE), UFFD_CHANGING);
	assert_int_equal(uffd_registered(w.fd, addr_of(&w, 1), PAGE_SIZE), UFFD_CHANGING);
	assert_int_equal(uffd_registered(w.fd, addr_of(&w, WORLD_PAGES), PAGE_SIZE), UFFD_CHANGING);
	assert_int_equal(uffd_read(w.fd, &msg, 1), 1);
	assert_int_equal(msg.event, UFFD_EVENT_UNMAP);
	world_join(&w); /* it has gone on, so the kernel has counted it off */
	assert_int_equal(uffd_quiet(w.fd), UFFD_DONE);
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 3), w.src, PAGE_SIZE, &done), UFFD_DONE);
	assert_int_equal(uffd_registered(w.fd, addr_of(&w, 1), PAGE_SIZE), UFFD_NOWHERE);
	assert_int_equal(uffd_registered(w.fd, addr_of(&w, 2), PAGE_SIZE), UFFD_DONE);
	world_close(&w);
}

/* --- registered ------------------------------------------------------------------------------ */

static void test_registered(void **state)
{
	struct world w;
	uint64_t done;

	(void)state;
	world_open(&w);
	assert_int_equal(uffd_registered(w.fd, addr_of(&w, 0), PAGE_SIZE), UFFD_DONE);
	assert_int_equal(uffd_registered(w.fd, addr_of(&w, 7) + 4095, PAGE_SIZE), UFFD_DONE);
	assert_int_equal(uffd_registered(w.fd, addr_of(&w, 0) - 1, PAGE_SIZE), UFFD_NOWHERE);
	assert_int_equal(uffd_registered(w.fd, addr_of(&w, WORLD_PAGES), PAGE_SIZE), UFFD_NOWHERE);
	assert_int_equal(uffd_registered(w.fd, (uint64_t)(uintptr_t)w.src, PAGE_SIZE),
	                 UFFD_NOWHERE);
	/* With a page in it, too; and asking has put nothing there. */
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 0), w.src, PAGE_SIZE, &done), UFFD_DONE);
	assert_int_equal(uffd_registered(w.fd, addr_of(&w, 0), PAGE_SIZE), UFFD_DONE);
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 7), w.src, PAGE_SIZE, &done), UFFD_DONE);
	world_close(&w);
}

/* --- a process that is gone ------------------------------------------------------------------ */

/* The child sends its userfaultfd, and goes when told. */
static void short_life(int sock)
{
	struct world w;
	char byte;

	world_open(&w);
	send_fds(sock, "", 1, &w.fd, 1);
	_exit(read(sock, &byte, 1) == 1 ? 0 : 1);
}

static void test_exited(void **state)
{
	struct unixsock_msg msg;
	struct uffd_msg event;
	uint64_t features = 0, done = 1;
	uint8_t src[2 * PAGE_SIZE] = {0}, byte;
	int sock[2], fd = open_uffd(&features);
	bool fixed = true;
	pid_t pid;

	(void)state;
	if (fd < 0)
		skip_because("no userfaultfd here: %s", strerror(-fd));
	close(fd);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sock), 0);
	pid = fork_child();
	if (pid == 0)
		short_life(sock[1]);
	assert_true(readable(sock[0], PATIENCE * 1000));
	assert_int_equal(unixsock_recv(sock[0], &byte, 1, &msg), 0);
	assert_true(uffd_is_one(msg.fd, &fixed));
	assert_false(fixed);
	assert_int_equal(uffd_quiet(msg.fd), UFFD_DONE);
	assert_int_equal(write(sock[0], "", 1), 1);
	assert_int_equal(reap(pid), 0);
	/* Somebody who looks at its /proc may hold the memory for a moment longer. */
	eventually(uffd_quiet(msg.fd) == UFFD_EXITED);
	assert_int_equal(uffd_copy(msg.fd, 0x100000, src, PAGE_SIZE, &done), UFFD_EXITED);
	assert_int_equal(done, 0);
	assert_int_equal(uffd_zero(msg.fd, 0x100000), UFFD_EXITED);
	assert_int_equal(uffd_registered(msg.fd, 0x100000, PAGE_SIZE), UFFD_EXITED);
	if (features & UFFD_FEATURE_POISON)
		assert_int_equal(uffd_poison(msg.fd, 0x100000), UFFD_EXITED);
	assert_int_equal(uffd_read(msg.fd, &event, 1), 0);
	close(msg.fd);
	close(sock[0]);
	close(sock[1]);
}

/* --- is it one? ------------------------------------------------------------------------------ */

static void test_is_one(void **state)
{
	uint64_t features;
	int good = open_uffd(&features), raw, event = eventfd(0, 0), ends[2];
	struct uffd_msg msg;
	bool fixed = true;

	(void)state;
	if (good < 0)
		skip_because("no userfaultfd here: %s", strerror(-good));
	assert_true(uffd_is_one(good, &fixed));
	assert_false(fixed);
	assert_int_equal(fcntl(good, F_SETFL, 0), 0);
	assert_true(uffd_is_one(good, &fixed));
	assert_true(fixed);
	assert_true(fcntl(good, F_GETFL) & O_NONBLOCK);
	assert_true(uffd_is_one(good, &fixed));
	assert_false(fixed);

	raw = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	assert_true(raw >= 0);
	assert_true(uffd_read(raw, &msg, 1) < 0); /* nobody has said UFFDIO_API */
	assert_false(uffd_is_one(raw, &fixed));

	assert_int_equal(pipe(ends), 0);
	assert_false(uffd_is_one(ends[0], &fixed));
	assert_false(uffd_is_one(event, &fixed)); /* an anonymous inode as well */
	close(ends[0]);
	assert_false(uffd_is_one(ends[0], &fixed));
	assert_false(uffd_is_one(-1, &fixed));
	close(ends[1]);
	close(event);
	close(raw);
	close(good);
}

static void test_names(void **state)
{
	(void)state;
	for (int a = UFFD_DONE; a <= UFFD_REFUSED; a++) {
		assert_non_null(uffd_outcome_name((enum uffd_outcome)a));
		for (int b = UFFD_DONE; b < a; b++)
			assert_string_not_equal(uffd_outcome_name((enum uffd_outcome)a),
			                        uffd_outcome_name((enum uffd_outcome)b));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_copy),
		TIMED(test_copy_onto_a_page),
		TIMED(test_short_copy),
		TIMED(test_copy_to_nowhere),
		TIMED(test_copy_over_a_boundary),
		TIMED(test_copy_from_beyond_the_file),
		TIMED(test_refused),
		TIMED(test_zero),
		TIMED(test_fill_wakes),
		TIMED(test_wake),
		TIMED(test_poison),
		TIMED(test_changing),
		TIMED(test_registered),
		TIMED(test_exited),
		TIMED(test_is_one),
		TIMED(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
