/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * caps_keep() cannot be undone, so each test gives its capabilities up in a forked child and judges
 * by what the kernel says afterwards in /proc/self/status, not by libcap.
 */
#include "criu-lazy/base/err.h"
#include "criu-lazy/os/caps.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define BIT(cap) (UINT64_C(1) << (cap))

/* In a child: say which line is wrong and leave with a status that is not 0. */
#define child_assert(condition)                                                         \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			_exit(1);                                                       \
		}                                                                       \
	} while (0)

static void run_in_child(void (*body)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* A set's bits as the kernel shows them: "CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb". */
static uint64_t kernel_set(const char *name)
{
	char line[256];
	uint64_t bits = 0;
	bool found = false;
	FILE *status = fopen("/proc/self/status", "re");

	child_assert(status != NULL);
	while (fgets(line, sizeof(line), status)) {
		if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':') {
			found = sscanf(line + strlen(name) + 1, "%" SCNx64, &bits) == 1;
			break;
		}
	}
	fclose(status);
	child_assert(found);
	return bits;
}

static void keep_two(void)
{
	static const cap_value_t keep[] = {CAP_KILL, CAP_SYS_PTRACE};
	const uint64_t both = BIT(CAP_KILL) | BIT(CAP_SYS_PTRACE);
	char missing[64] = "untouched";
	struct err err = {0};

	child_assert((kernel_set("CapPrm") & both) == both);
	child_assert(chroot("/") == 0);
	/* Something in the inheritable and the ambient set, which must go. */
	child_assert(cap_iab_set_proc(cap_iab_from_text("^cap_chown,cap_fowner")) == 0);
	child_assert(kernel_set("CapAmb") != 0 && kernel_set("CapInh") != 0);

	child_assert(caps_keep(keep, 2, missing, sizeof(missing), &err) == 0);
	child_assert(strcmp(missing, "") == 0);
	child_assert(kernel_set("CapPrm") == both);
	child_assert(kernel_set("CapEff") == both);
	child_assert(kernel_set("CapInh") == 0);
	child_assert(kernel_set("CapAmb") == 0);
	child_assert(kernel_set("CapBnd") == both);
	child_assert(caps_have(CAP_KILL) && !caps_have(CAP_CHOWN));
	child_assert(chroot("/") < 0 && errno == EPERM);
	/* Root's exec must not bring them back. */
	execl("/bin/sh", "sh", "-c", "grep -q '^CapEff:.*0000080020$' /proc/self/status", NULL);
	_exit(2);
}

static void keep_what_is_gone(void)
{
	static const cap_value_t first[] = {CAP_SETPCAP, CAP_KILL};
	static const cap_value_t second[] = {CAP_SYS_PTRACE, CAP_KILL, CAP_DAC_READ_SEARCH};
	char missing[64], cut[8];
	struct err err = {0};

	child_assert(caps_keep(first, 2, NULL, 0, &err) == 0);
	child_assert(caps_keep(second, 3, missing, sizeof(missing), &err) == 0);
	child_assert(strcmp(missing, "cap_sys_ptrace, cap_dac_read_search") == 0);
	child_assert(kernel_set("CapPrm") == BIT(CAP_KILL));
	child_assert(kernel_set("CapBnd") == BIT(CAP_KILL));
	/* Again, now without CAP_SETPCAP, and with too little room for the names. */
	child_assert(caps_keep(second, 3, cut, sizeof(cut), &err) == 0);
	child_assert(strcmp(cut, "cap_sys") == 0);
}

static void bounding_stays_without_setpcap(void)
{
	static const cap_value_t keep[] = {CAP_KILL};
	const cap_value_t setpcap = CAP_SETPCAP;
	cap_t caps = cap_get_proc();
	uint64_t bounding = kernel_set("CapBnd");
	struct err err = {0};

	child_assert(cap_set_flag(caps, CAP_PERMITTED, 1, &setpcap, CAP_CLEAR) == 0);
	child_assert(cap_set_flag(caps, CAP_EFFECTIVE, 1, &setpcap, CAP_CLEAR) == 0);
	child_assert(cap_set_proc(caps) == 0);
	child_assert(caps_keep(keep, 1, NULL, 0, &err) == 0);
	child_assert(kernel_set("CapPrm") == BIT(CAP_KILL));
	child_assert(kernel_set("CapBnd") == bounding);
	cap_free(caps);
}

static void setpcap_only_permitted(void)
{
	const cap_value_t setpcap = CAP_SETPCAP;
	cap_t caps = cap_get_proc();

	child_assert(cap_set_flag(caps, CAP_EFFECTIVE, 1, &setpcap, CAP_CLEAR) == 0);
	child_assert(cap_set_proc(caps) == 0);
	child_assert(caps_keep(NULL, 0, NULL, 0, NULL) == 0);
	child_assert(kernel_set("CapPrm") == 0);
	child_assert(kernel_set("CapBnd") == 0);
	cap_free(caps);
}

static void ordinary_user(void)
{
	static const cap_value_t keep[] = {CAP_KILL};
	char missing[64];
	struct err err = {0};

	child_assert(setresuid(65534, 65534, 65534) == 0);
	child_assert(kernel_set("CapPrm") == 0);
	child_assert(caps_keep(keep, 1, missing, sizeof(missing), &err) == 0);
	child_assert(strcmp(missing, "cap_kill") == 0);
	child_assert(err.code == 0);
}

static void not_a_capability(void)
{
	static const cap_value_t keep[] = {CAP_KILL, 4711};
	char missing[8] = "same";
	struct err err = {0};
	uint64_t before = kernel_set("CapPrm");

	child_assert(caps_keep(keep, 2, missing, sizeof(missing), &err) == -EINVAL);
	child_assert(strstr(err.text, "4711") != NULL);
	child_assert(strcmp(missing, "same") == 0);
	child_assert(kernel_set("CapPrm") == before);
}

/* What needs root's capabilities to start with is a printed skip without them. */
static bool privileged(void)
{
	if (caps_have(CAP_SETPCAP) && caps_have(CAP_KILL) && caps_have(CAP_SYS_PTRACE) &&
	    caps_have(CAP_SYS_CHROOT) && caps_have(CAP_SETUID))
		return true;
	print_message("skipped: needs root's capabilities\n");
	return false;
}

static void in_child(void **state)
{
	if (!privileged())
		skip();
	run_in_child((void (*)(void)) * state);
}

#define child_test(body)                                    \
	{                                                   \
#body, in_child, NULL, NULL, (void *)(body) \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		child_test(keep_two),
		child_test(keep_what_is_gone),
		child_test(setpcap_only_permitted),
		child_test(bounding_stays_without_setpcap),
		child_test(ordinary_user),
		child_test(not_a_capability),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
