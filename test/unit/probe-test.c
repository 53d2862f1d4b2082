/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each probe must say no when the thing is not there.  A kernel without it is played by a seccomp
 * filter that fails one system call (or one value of one argument) with a given errno, a poor user
 * by giving capabilities up, an old kernel by personality(UNAME26); always in a forked child.
 */
#include "criu-lazy/base/err.h"
#include "criu-lazy/os/caps.h"
#include "criu-lazy/os/probe.h"
#include "criu-lazy/os/uffd-abi.h"

#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define child_assert(condition)                                                         \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			_exit(1);                                                       \
		}                                                                       \
	} while (0)

/* --- forced failures -------------------------------------------------------------------------- */

enum { ANY_ARGUMENT = -1 };

struct refusal {
	const char *title;
	long nr; /* system call */
	int argument; /* refuse only if this argument ... */
	uint32_t value; /* ... has this value in its low 32 bits */
	uint32_t code;
	const char *probe; /* which must then have this verdict ... */
	enum probe_verdict verdict;
	const char *says; /* ... with this somewhere in its detail or remedy */
};

static const struct refusal refusals[] = {
	{"no userfaultfd", SYS_userfaultfd, ANY_ARGUMENT, 0, ENOSYS, "uffd", PROBE_MISSING,
         "seccomp"},
	{"userfaultfd refused", SYS_userfaultfd, ANY_ARGUMENT, 0, EPERM, "uffd", PROBE_MISSING,
         "seccomp"},
	{"no more descriptors", SYS_userfaultfd, ANY_ARGUMENT, 0, EMFILE, "uffd", PROBE_MISSING,
         "Too many open files"},
	{"events without uffd", SYS_userfaultfd, ANY_ARGUMENT, 0, EPERM, "uffd-noncoop",
         PROBE_MISSING, "See uffd"},
	{"range without uffd", SYS_userfaultfd, ANY_ARGUMENT, 0, EPERM, "uffd-range", PROBE_MISSING,
         "See uffd"},
	{"move without uffd", SYS_userfaultfd, ANY_ARGUMENT, 0, EPERM, "uffd-move", PROBE_LIMITED,
         "See uffd"},
	{"no handshake", SYS_ioctl, 1, (uint32_t)UFFDIO_API, EINVAL, "uffd-noncoop", PROBE_MISSING,
         "Invalid argument"},
	{"no register", SYS_ioctl, 1, (uint32_t)UFFDIO_REGISTER, EINVAL, "uffd-range",
         PROBE_MISSING, "Invalid argument"},
	{"no copy", SYS_ioctl, 1, (uint32_t)UFFDIO_COPY, ENOENT, "uffd-range", PROBE_MISSING,
         "No such file"},
	{"no zeropage", SYS_ioctl, 1, (uint32_t)UFFDIO_ZEROPAGE, EINVAL, "uffd-range",
         PROBE_MISSING, "Invalid argument"},
	{"no poison", SYS_ioctl, 1, (uint32_t)UFFDIO_POISON, EINVAL, "uffd-poison", PROBE_LIMITED,
         "only be killed"},
	{"no device", SYS_openat, 2, 02000002 /* O_RDWR | O_CLOEXEC */, ENOENT, "uffd-device",
         PROBE_LIMITED, "6.1"},
	{"no io_uring", SYS_io_uring_setup, ANY_ARGUMENT, 0, ENOSYS, "io-uring", PROBE_MISSING,
         "seccomp"},
	{"io_uring refused", SYS_io_uring_setup, ANY_ARGUMENT, 0, EPERM, "io-uring", PROBE_MISSING,
         "seccomp"},
	{"no memory to lock", SYS_io_uring_setup, ANY_ARGUMENT, 0, ENOMEM, "io-uring",
         PROBE_MISSING, "ulimit"},
	{"no list of operations", SYS_io_uring_register, ANY_ARGUMENT, 0, EINVAL, "io-uring-ops",
         PROBE_MISSING, "listed"},
	{"poll fails", SYS_io_uring_enter, ANY_ARGUMENT, 0, EINVAL, "io-uring-multishot",
         PROBE_MISSING, "5.13"},
	{"no pidfd", SYS_pidfd_open, ANY_ARGUMENT, 0, ENOSYS, "pidfd", PROBE_LIMITED, "seccomp"},
	{"no memfd", SYS_memfd_create, ANY_ARGUMENT, 0, ENOSYS, "memfd", PROBE_LIMITED, "seccomp"},
};

static void refuse(const struct refusal *refusal)
{
	const uint32_t argument =
		refusal->argument == ANY_ARGUMENT
			? offsetof(struct seccomp_data, nr)
			: (uint32_t)(offsetof(struct seccomp_data, args) +
	                             (size_t)refusal->argument * sizeof(uint64_t));
	const uint32_t value =
		refusal->argument == ANY_ARGUMENT ? (uint32_t)refusal->nr : refusal->value;
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)refusal->nr, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | refusal->code),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	child_assert(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	child_assert(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void expect(const char *name, enum probe_verdict verdict, const char *says)
{
	struct probe_result result;

	child_assert(probe_one(name, &result));
	if (result.verdict == verdict &&
	    (strstr(result.detail, says) || strstr(result.remedy, says)) &&
	    (verdict == PROBE_OK) == (result.remedy[0] == '\0'))
		return;
	fprintf(stderr, "%s: %s: %s [%s], expected %s with \"%s\"\n", name,
	        probe_verdict_name(result.verdict), result.detail, result.remedy,
	        probe_verdict_name(verdict), says);
	_exit(1);
}

static void wait_for(pid_t pid)
{
	int status;

	assert_true(pid >= 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void refused(void **state)
{
	const struct refusal *refusal = *state;
	struct probe_result before;
	pid_t pid;

	/* Where it is not there anyway, a no would prove nothing. */
	assert_true(probe_one(refusal->probe, &before));
	if (before.verdict != PROBE_OK) {
		print_message("skipped: not on this machine: %s\n", before.detail);
		skip();
	}
	pid = fork();
	if (pid == 0) {
		refuse(refusal);
		expect(refusal->probe, refusal->verdict, refusal->says);
		_exit(0);
	}
	wait_for(pid);
}

/* --- a poor user, an old kernel --------------------------------------------------------------- */

static void no_capabilities(void **state)
{
	pid_t pid;

	(void)state;
	if (!caps_have(CAP_SYS_PTRACE) || !caps_have(CAP_KILL) || !caps_have(CAP_DAC_READ_SEARCH)) {
		print_message("skipped: needs root's capabilities\n");
		skip();
	}
	pid = fork();
	if (pid == 0) {
		expect("cap-sys-ptrace", PROBE_OK, "CAP_SYS_PTRACE");
		expect("cap-kill", PROBE_OK, "CAP_KILL");
		expect("cap-dac-read-search", PROBE_OK, "CAP_DAC_READ_SEARCH");
		child_assert(caps_keep(NULL, 0, NULL, 0, NULL) == 0);
		expect("cap-sys-ptrace", PROBE_MISSING, "no CAP_SYS_PTRACE");
		expect("cap-kill", PROBE_LIMITED, "no CAP_KILL");
		expect("cap-dac-read-search", PROBE_LIMITED, "no CAP_DAC_READ_SEARCH");
		/* EVENT_FORK needs CAP_SYS_PTRACE whatever vm.unprivileged_userfaultfd says. */
		expect("uffd-noncoop", PROBE_MISSING, "CAP_SYS_PTRACE");
		_exit(0);
	}
	wait_for(pid);
}

static void old_kernel(void **state)
{
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		child_assert(personality(UNAME26) >= 0);
		expect("kernel", PROBE_MISSING, "Linux 2.6");
		_exit(0);
	}
	wait_for(pid);
}

/* --- all of them ------------------------------------------------------------------------------ */

static size_t nr_open(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t nr = 0;

	assert_non_null(dir);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

static void every_probe_tells(void **state)
{
	struct probe_result results[PROBE_MAX];
	size_t before = nr_open(), nr = probe_run(results);

	(void)state;
	assert_int_equal(nr_open(), before);
	assert_true(nr > 0 && nr <= PROBE_MAX);
	for (size_t i = 0; i < nr; i++) {
		struct probe_result one;

		assert_true(results[i].detail[0] != '\0');
		assert_null(strchr(results[i].detail, '\n'));
		assert_null(strchr(results[i].remedy, '\n'));
		assert_int_equal(results[i].remedy[0] == '\0', results[i].verdict == PROBE_OK);
		assert_true(probe_one(results[i].name, &one));
		assert_int_equal(one.verdict, results[i].verdict);
		assert_int_equal(one.required, results[i].required);
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(results[i].name, results[j].name);
	}
}

/* Ask the kernel directly what the first two features of CRIU's check stand for. */
static void agrees_with_kernel(void **state)
{
	struct uffdio_api api = {.api = UFFD_API, .features = 0x4e};
	int fd = (int)syscall(SYS_userfaultfd, 0);
	bool events = fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;
	struct probe_result result;

	(void)state;
	assert_true(probe_one("uffd", &result));
	assert_int_equal(result.verdict == PROBE_OK, fd >= 0);
	assert_true(probe_one("uffd-noncoop", &result));
	if (fd >= 0)
		assert_int_equal(result.verdict == PROBE_OK, events);
	close(fd);
}

static void unknown_name(void **state)
{
	struct probe_result result = {.name = "same"};

	(void)state;
	assert_false(probe_one("no-such-thing", &result));
	assert_false(probe_one("", &result));
	assert_string_equal(result.name, "same");
}

int main(void)
{
	enum { NR_REFUSALS = sizeof(refusals) / sizeof(refusals[0]) };
	struct CMUnitTest forced[NR_REFUSALS];
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_probe_tells), cmocka_unit_test(agrees_with_kernel),
		cmocka_unit_test(unknown_name),      cmocka_unit_test(no_capabilities),
		cmocka_unit_test(old_kernel),
	};

	for (size_t i = 0; i < NR_REFUSALS; i++)
		forced[i] = (struct CMUnitTest){
			.name = refusals[i].title,
			.test_func = refused,
			.initial_state = (void *)&refusals[i],
		};
	return cmocka_run_group_tests_name("probe", tests, NULL, NULL) +
	       cmocka_run_group_tests_name("probe, forced to fail", forced, NULL, NULL);
}
