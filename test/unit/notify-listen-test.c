/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The descriptors that a service is started with: LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES. */
#include "criu-lazy/os/notify.h"
#include "test/unit/in-child.h"

#include "criu-lazy/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

struct start {
	const char *pid; /* NULL: not set; "own": this process's */
	const char *fds, *names;
	int code; /* what is to come of it: a positive errno, or */
	size_t nr; /* so many, of these names */
	const char *want[4];
	const char *said;
};

static void set_or_not(const char *variable, const char *value)
{
	if (value)
		setenv(variable, value, 1);
	else
		unsetenv(variable);
}

/* In a child with descriptors at 3 to 6 and none at 7, all without O_CLOEXEC. */
static void start_so(const struct start *start)
{
	struct notify_fd *fds = (struct notify_fd *)1;
	struct err err = {0};
	size_t nr = 77;
	char pid[16];
	int r;

	snprintf(pid, sizeof(pid), "%d", getpid());
	for (int fd = 3; fd < 7; fd++)
		check(dup2(2, fd) == fd);
	close(7);
	set_or_not("LISTEN_PID", start->pid && !strcmp(start->pid, "own") ? pid : start->pid);
	set_or_not("LISTEN_FDS", start->fds);
	set_or_not("LISTEN_FDNAMES", start->names);
	set_or_not("LISTEN_PIDFDID", "1234");
	r = notify_listen_fds(&fds, &nr, &err);
	check(!getenv("LISTEN_PID") && !getenv("LISTEN_FDS") && !getenv("LISTEN_FDNAMES") &&
	      !getenv("LISTEN_PIDFDID"));
	if (start->code) {
		if (r != -start->code || !strstr(err.text, start->said))
			fprintf(stderr, "got %d \"%s\"\n", r, err.text);
		check(r == -start->code && err.code == start->code);
		check(strstr(err.text, start->said) && !strchr(err.text, '\n'));
		check(nr == 77 && fds == (struct notify_fd *)1);
		nr = 0;
	} else {
		if (r < 0)
			fprintf(stderr, "%s\n", err.text);
		check(r == 0 && err.code == 0 && nr == start->nr && !nr == !fds);
	}
	for (int fd = 3; fd < 7; fd++)
		check(fcntl(fd, F_GETFD) == (fd < 3 + (int)nr ? FD_CLOEXEC : 0));
	for (size_t i = 0; i < nr; i++)
		check(fds[i].fd == 3 + (int)i && !strcmp(fds[i].name, start->want[i]));
	if (!start->code)
		free(fds);
	/* There is no second time. */
	check(notify_listen_fds(&fds, &nr, &err) == 0 && !fds && !nr);
	_exit(0);
}

static void start_all(const struct start *starts, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		pid_t pid = fork_child();
		int status;

		if (pid == 0)
			start_so(&starts[i]);
		status = reap(pid);
		if (status)
			print_error("case %zu\n", i);
		assert_int_equal(status, 0);
	}
}

static void test_listen(void **state)
{
	static const struct start starts[] = {
		{NULL, NULL, NULL, 0, 0, {0}, ""},
		{"own", NULL, NULL, 0, 0, {0}, ""},
		{NULL, "2", "a:b", 0, 0, {0}, ""},
		{"1", "2", "a:b", 0, 0, {0}, ""}, /* for somebody else */
		{"own", "0", "", 0, 0, {0}, ""},
		{"own", "0", NULL, 0, 0, {0}, ""},
		{"own", "1", "journal", 0, 1, {"journal"}, ""},
		{"own", "4", "a:b:a:listen@1.socket", 0, 4, {"a", "b", "a", "listen@1.socket"}, ""},
		{"own", "2", NULL, 0, 2, {"unknown", "unknown"}, ""},
		{"own", "1", "two words", 0, 1, {"two words"}, ""},
	};

	(void)state;
	start_all(starts, sizeof(starts) / sizeof(*starts));
}

static void test_listen_malformed(void **state)
{
	static char long_name[257], bad_name[] = "a:b\n";
	const struct start starts[] = {
		{"", "1", "a", EINVAL, 0, {0}, "$LISTEN_PID is malformed"},
		{"0", "1", "a", EINVAL, 0, {0}, "$LISTEN_PID is malformed: 0"},
		{"-1", "1", "a", EINVAL, 0, {0}, "$LISTEN_PID is malformed: -1"},
		{"12x", "1", "a", EINVAL, 0, {0}, "$LISTEN_PID is malformed: 12x"},
		{"99999999999999999999", "1", "a", EINVAL, 0, {0}, "$LISTEN_PID is malformed"},
		{"own", "", "a", EINVAL, 0, {0}, "$LISTEN_FDS is not a number"},
		{"own", "-1", "a", EINVAL, 0, {0}, "$LISTEN_FDS is not a number"},
		{"own", " 1", "a", EINVAL, 0, {0}, "$LISTEN_FDS is not a number"},
		{"own", "1 ", "a", EINVAL, 0, {0}, "$LISTEN_FDS is not a number"},
		{"own", "0x1", "a", EINVAL, 0, {0}, "$LISTEN_FDS is not a number"},
		{"own", "16385", NULL, EINVAL, 0, {0}, "from 0 to 16384: 16385"},
		{"own", "18446744073709551617", NULL, EINVAL, 0, {0}, "from 0 to 16384"},
		{"own", "5", NULL, EBADF, 0, {0}, "descriptor 7 of $LISTEN_FDS 5"},
		{"own", "16384", NULL, EBADF, 0, {0}, "descriptor 7 of $LISTEN_FDS 16384"},
		{"own", "2", "a", EINVAL, 0, {0}, "$LISTEN_FDNAMES: 1 names for 2 descriptors"},
		{"own", "2", "a:b:c", EINVAL, 0, {0}, "more names than the 2 descriptors"},
		{"own", "2", "a:b:", EINVAL, 0, {0}, "more names than the 2 descriptors"},
		{"own", "2", "", EINVAL, 0, {0}, "name 1 of 2 is malformed"},
		{"own", "2", "a:", EINVAL, 0, {0}, "name 2 of 2 is malformed"},
		{"own", "2", ":a", EINVAL, 0, {0}, "name 1 of 2 is malformed"},
		{"own", "2", bad_name, EINVAL, 0, {0}, "name 2 of 2 is malformed"},
		{"own", "1", "\xc3\xa4", EINVAL, 0, {0}, "name 1 of 1 is malformed"},
		{"own", "1", long_name, EINVAL, 0, {0}, "name 1 of 1 is malformed"},
	};

	(void)state;
	snprintf(long_name, sizeof(long_name), "%0256d", 7);
	start_all(starts, sizeof(starts) / sizeof(*starts));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_listen),
		TIMED(test_listen_malformed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
