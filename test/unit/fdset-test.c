/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sets of descriptors: what is open, closing the others (also where the kernel has no
 * close_range(2)), and bringing descriptors back to their numbers, against a plain model.
 */
#include "criu-lazy/os/fdset.h"
#include "test/unit/images-dir.h"
#include "test/unit/in-child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* A file of its own at this number; what it is can be told by its inode. */
static ino_t file_at(int fd)
{
	int made = memfd_create("at", 0);
	struct stat st;

	assert_true(made >= 0);
	if (made != fd) {
		assert_int_equal(dup2(made, fd), fd);
		close(made);
	}
	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

static ino_t inode_at(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

/* --- a set ------------------------------------------------------------------------------------ */

static void test_add_and_has(void **state)
{
	static const int order[] = {5, 0, 700, 5, 3, 2147483647, 0, 4, 6, 700};
	static const int sorted[] = {0, 3, 4, 5, 6, 700, 2147483647};
	struct fdset set = {0};

	(void)state;
	assert_false(fdset_has(&set, 0));
	for (size_t i = 0; i < sizeof(order) / sizeof(*order); i++)
		assert_int_equal(fdset_add(&set, order[i]), 0);
	assert_int_equal(set.nr, sizeof(sorted) / sizeof(*sorted));
	assert_memory_equal(set.fds, sorted, sizeof(sorted));
	for (size_t i = 0; i < set.nr; i++)
		assert_true(fdset_has(&set, sorted[i]));
	assert_false(fdset_has(&set, 1));
	assert_false(fdset_has(&set, 2147483646));
	assert_false(fdset_has(&set, -1));
	assert_int_equal(fdset_add(&set, -1), -EBADF);
	assert_int_equal(set.nr, sizeof(sorted) / sizeof(*sorted));
	fdset_release(&set);
	assert_int_equal(set.nr, 0);
	assert_false(fdset_has(&set, 0));
	fdset_release(&set);
}

/* Random numbers in random order, against an array of flags. */
static void test_add_random(void **state)
{
	enum { RANGE = 400 };

	(void)state;
	for (unsigned int seed = 0; seed < 50; seed++) {
		bool in[RANGE] = {0};
		struct fdset set = {0};
		size_t nr = 0;

		srand(seed);
		for (int i = rand() % RANGE; i > 0; i--) {
			int fd = rand() % RANGE;

			assert_int_equal(fdset_add(&set, fd), 0);
			nr += !in[fd];
			in[fd] = true;
		}
		assert_int_equal(set.nr, nr);
		for (int fd = 0; fd < RANGE; fd++)
			assert_int_equal(fdset_has(&set, fd), in[fd]);
		fdset_release(&set);
	}
}

static void test_open(void **state)
{
	struct fdset set = {0}, again = {0};
	struct err err = {0};

	(void)state;
	file_at(300);
	file_at(301);
	file_at(900);
	assert_int_equal(fdset_open(&set, &err), 0);
	for (int fd = 0; fd < 1024; fd++)
		assert_int_equal(fdset_has(&set, fd), is_open(fd)); /* none of its own is left */
	close(301);
	assert_int_equal(fdset_open(&again, &err), 0);
	assert_int_equal(again.nr, set.nr - 1);
	assert_false(fdset_has(&again, 301));
	close(300);
	close(900);
	fdset_release(&set);
	fdset_release(&again);
	assert_int_equal(err.code, 0);
}

/* --- closing the others ----------------------------------------------------------------------- */

/* From now on a call of close_range(2) fails so in this process. */
static bool without_close_range(int code)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned int)code),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = 4, .filter = filter};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 &&
	       syscall(SYS_close_range, 2000, 2000, 0) == -1 && errno == code;
}

/* In a child that has descriptors all over; code: what close_range(2) says, 0: it works. */
static void close_all_but(const int *keep, size_t nr, int code)
{
	pid_t pid = fork_child();

	if (pid == 0) {
		cleanup_fdset struct fdset set = {0};
		struct err err = {0};

		for (int fd = 3; fd < 60; fd++)
			check(dup2(2, fd) == fd);
		check(dup2(2, 500) == 500 && dup2(2, 501) == 501);
		for (size_t i = 0; i < nr; i++)
			check(fdset_add(&set, keep[i]) == 0);
		check(!code || without_close_range(code));
		if (fdset_close_others(&set, &err) < 0) {
			fprintf(stderr, "%s\n", err.text);
			_exit(98);
		}
		for (int fd = 0; fd < 1024; fd++)
			if (is_open(fd) != (fdset_has(&set, fd) && (fd < 60 || fd / 2 == 250)))
				_exit(97);
		_exit(0);
	}
	assert_exit(pid, 0);
}

static void test_close_others(void **state)
{
	static const int codes[] = {0, ENOSYS, EPERM};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		close_all_but(NULL, 0, codes[i]);
		close_all_but((int[]){0, 1, 2}, 3, codes[i]);
		close_all_but((int[]){2}, 1, codes[i]);
		close_all_but((int[]){0, 1, 3, 5, 6, 7, 59, 500}, 8, codes[i]);
		close_all_but((int[]){2, 59, 60, 61, 501, 1000}, 6, codes[i]); /* some not open */
		close_all_but((int[]){1, 2147483647}, 2, codes[i]);
	}
}

static void test_close_others_of_anybody(void **state)
{
	pid_t pid = fork_child();

	(void)state;
	if (pid == 0) {
		struct fdset set = {0};

		check(geteuid() || (setgid(61234) == 0 && setuid(61234) == 0));
		check(fdset_add(&set, 2) == 0 && dup2(2, 40) == 40);
		check(fdset_close_others(&set, NULL) == 0 && !is_open(40) && is_open(2));
		fdset_release(&set);
		_exit(0);
	}
	assert_exit(pid, 0);
}

/* Without close_range(2) and /proc there is nothing to go by, and that is said. */
static void test_close_others_impossible(void **state)
{
	pid_t pid = fork_child();

	(void)state;
	if (pid == 0) {
		const struct rlimit none = {0};
		struct fdset set = {0};
		struct err err = {0};

		check(without_close_range(ENOSYS) && setrlimit(RLIMIT_NOFILE, &none) == 0);
		check(fdset_close_others(&set, &err) == -EMFILE);
		check(strcmp(err.text, "/proc/self/fd: Too many open files") == 0);
		check(is_open(2));
		_exit(0);
	}
	assert_exit(pid, 0);
}

/* --- back to their numbers -------------------------------------------------------------------- */

enum { BASE = 100, SPAN = 24 };

/*
 * The oracle: inode[i] says what moves[i] was before; afterwards that file is at the wanted number,
 * with O_CLOEXEC, and no other number of the range is open.
 */
static void restore_and_check(struct fdset_move *moves, const ino_t *inode, size_t nr)
{
	bool wanted[SPAN] = {0};
	struct err err = {0};

	if (fdset_restore(moves, nr, &err) < 0)
		print_error("%s\n", err.text);
	assert_int_equal(err.code, 0);
	for (size_t i = 0; i < nr; i++) {
		assert_int_equal(moves[i].now, moves[i].wanted);
		assert_int_equal(inode_at(moves[i].wanted), inode[i]);
		assert_int_equal(fcntl(moves[i].wanted, F_GETFD), FD_CLOEXEC);
		wanted[moves[i].wanted - BASE] = true;
	}
	for (int i = 0; i < SPAN; i++)
		assert_int_equal(is_open(BASE + i), wanted[i]);
	for (size_t i = 0; i < nr; i++)
		close(moves[i].wanted);
}

static size_t nr_open(void)
{
	struct fdset set = {0};
	size_t nr;

	assert_int_equal(fdset_open(&set, NULL), 0);
	nr = set.nr;
	fdset_release(&set);
	return nr;
}

static void shuffle(int *numbers, int nr)
{
	for (int i = nr - 1; i > 0; i--) {
		int j = rand() % (i + 1), number = numbers[i];

		numbers[i] = numbers[j];
		numbers[j] = number;
	}
}

static void test_restore_random(void **state)
{
	size_t before = nr_open();

	(void)state;
	for (unsigned int seed = 0; seed < 400; seed++) {
		struct fdset_move moves[SPAN];
		int from[SPAN], to[SPAN], nr;
		ino_t inode[SPAN];

		srand(seed);
		for (int i = 0; i < SPAN; i++)
			from[i] = to[i] = BASE + i;
		shuffle(from, SPAN);
		shuffle(to, SPAN);
		nr = rand() % (SPAN + 1); /* all of them: nothing but cycles */
		for (int i = 0; i < nr; i++) {
			moves[i] = (struct fdset_move){.now = from[i], .wanted = to[i]};
			inode[i] = file_at(from[i]);
		}
		restore_and_check(moves, inode, (size_t)nr);
	}
	assert_int_equal(nr_open(), before);
}

/* What everybody would try first. */
static void test_restore_shapes(void **state)
{
	static const struct fdset_move shapes[][4] = {
		{{100, 100}, {101, 101}, {102, 102}, {103, 103}}, /* at home */
		{{100, 110}, {101, 111}, {102, 112}, {103, 113}},
		{{100, 101}, {101, 102}, {102, 103}, {103, 104}}, /* a chain, from its end */
		{{103, 104}, {102, 103}, {101, 102}, {100, 101}},
		{{101, 100}, {102, 101}, {103, 102}, {104, 103}},
		{{100, 101}, {101, 100}, {102, 103}, {103, 102}}, /* two swaps */
		{{100, 101}, {101, 102}, {102, 103}, {103, 100}}, /* a cycle */
		{{100, 101}, {101, 100}, {102, 102}, {103, 110}}, /* one of each */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
		struct fdset_move moves[4];
		ino_t inode[4];

		memcpy(moves, shapes[i], sizeof(moves));
		for (int k = 0; k < 4; k++)
			inode[k] = file_at(moves[k].now);
		restore_and_check(moves, inode, 4);
	}
	assert_int_equal(fdset_restore(NULL, 0, NULL), 0);
}

/* One cycle of thousands, in no time. */
static void test_restore_large(void **state)
{
	enum { LARGE = 4000, FIRST = 1000 };
	struct fdset_move *moves = calloc(LARGE, sizeof(*moves));
	ino_t *inode = calloc(LARGE, sizeof(*inode));
	struct rlimit old, limit;
	struct err err = {0};

	(void)state;
	assert_true(moves && inode);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	limit = old;
	if (limit.rlim_cur < FIRST + LARGE)
		limit.rlim_cur = FIRST + LARGE;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
		free(moves);
		free(inode);
		skip_because("RLIMIT_NOFILE is %llu", (unsigned long long)old.rlim_max);
	}
	for (int i = 0; i < LARGE; i++) {
		moves[i].now = FIRST + i;
		moves[i].wanted = FIRST + (i + 1777) % LARGE;
		inode[i] = file_at(moves[i].now);
	}
	assert_int_equal(fdset_restore(moves, LARGE, &err), 0);
	for (int i = 0; i < LARGE; i++) {
		assert_int_equal(inode_at(moves[i].wanted), inode[i]);
		close(moves[i].wanted);
	}
	setrlimit(RLIMIT_NOFILE, &old);
	free(inode);
	free(moves);
}

/* Refused, and nothing has been changed. */
static void refuse(struct fdset_move *moves, size_t nr, int code, const char *said)
{
	struct fdset_move before[4];
	struct err err = {0};
	ino_t inode[SPAN];

	memcpy(before, moves, nr * sizeof(*moves));
	for (int i = 0; i < SPAN; i++)
		inode[i] = inode_at(BASE + i);
	assert_failed(fdset_restore(moves, nr, &err), code, &err, said);
	assert_memory_equal(before, moves, nr * sizeof(*moves));
	for (int i = 0; i < SPAN; i++) {
		assert_int_equal(inode_at(BASE + i), inode[i]);
		if (inode[i])
			assert_int_equal(fcntl(BASE + i, F_GETFD), 0);
	}
}

#define MOVES(...) ((struct fdset_move[]){__VA_ARGS__})

static void test_restore_refused(void **state)
{
	struct rlimit limit;

	(void)state;
	for (int i = 0; i < 4; i++)
		file_at(BASE + i);
	refuse(MOVES({100, 101}, {102, 110}), 2, EBUSY,
	       "descriptor 100 cannot be moved to 101, where another is");
	refuse(MOVES({100, 110}, {101, 110}), 2, EINVAL, " are both to be moved to 110");
	refuse(MOVES({100, 110}, {100, 111}), 2, EINVAL, "descriptor 100 is to be moved twice");
	refuse(MOVES({100, 110}, {105, 111}), 2, EBADF, "descriptor 105 to be moved to 111");
	refuse(MOVES({100, 110}, {-1, 111}), 2, EBADF, "descriptor -1 to be moved to 111");
	refuse(MOVES({100, 110}, {101, -5}), 2, EBADF, "descriptor 101 to be moved to -5");
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	refuse(MOVES({100, 110}, {101, (int)limit.rlim_cur}), 2, EMFILE,
	       "descriptor 101 cannot be moved to ");
	for (int i = 0; i < 4; i++)
		close(BASE + i);
}

/* A cycle in a table that is full: which is where is told. */
static void test_restore_in_a_full_table(void **state)
{
	pid_t pid = fork_child();

	(void)state;
	if (pid == 0) {
		struct fdset_move moves[] = {{20, 21}, {22, 30}, {21, 20}};
		const struct rlimit limit = {.rlim_cur = 31, .rlim_max = 31};
		struct err err = {0};
		ino_t inode[3];

		for (int fd = 3; fd < 30; fd++)
			check(is_open(fd) || dup2(2, fd) == fd);
		for (int i = 0; i < 3; i++)
			inode[i] = file_at(moves[i].now);
		check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
		check(dup2(2, 22) == 22 && (inode[1] = inode_at(22)) != 0);
		/* 30 is the last free number: taken by the chain, then there is none; 22 is left.
		 */
		check(fdset_restore(moves, 3, &err) == 0);
		check(inode_at(20) == inode[2] && inode_at(21) == inode[0] &&
		      inode_at(30) == inode[1]);
		check(dup2(2, 22) == 22);
		for (int i = 0; i < 3; i++)
			moves[i].wanted = moves[(i + 1) % 3].now; /* 21 -> 30 -> 20 -> 21 */
		check(fdset_restore(moves, 3, &err) == -EMFILE);
		check(strncmp(err.text, "moving descriptor ", 18) == 0);
		for (int i = 0; i < 3; i++)
			check(inode_at(moves[i].now) == inode[i]);
		_exit(0);
	}
	assert_exit(pid, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_add_and_has),
		TIMED(test_add_random),
		TIMED(test_open),
		TIMED(test_close_others),
		TIMED(test_close_others_of_anybody),
		TIMED(test_close_others_impossible),
		TIMED(test_restore_shapes),
		TIMED(test_restore_random),
		TIMED(test_restore_large),
		TIMED(test_restore_refused),
		TIMED(test_restore_in_a_full_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
