/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * probe.c - the table of probes, and the ones that take a single call.
 *
 * userfaultfd's are in probe-uffd.c, io_uring's in probe-uring.c.
 */
#include "criu-lazy/os/probe.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/os/caps.h"
#include "criu-lazy/os/probe-parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

/* --- telling ---------------------------------------------------------------------------------- */

static void tell(struct probe_result *result, enum probe_verdict verdict, const char *fmt,
                 va_list ap) __attribute__((format(printf, 3, 0)));

static void tell(struct probe_result *result, enum probe_verdict verdict, const char *fmt,
                 va_list ap)
{
	char text[2 * PROBE_TEXT_SIZE];
	char *newline;

	vsnprintf(text, sizeof(text), fmt, ap);
	newline = strchr(text, '\n');
	if (newline)
		*newline++ = '\0';
	result->verdict = verdict;
	snprintf(result->detail, sizeof(result->detail), "%.*s", PROBE_TEXT_SIZE - 1, text);
	snprintf(result->remedy, sizeof(result->remedy), "%.*s", PROBE_TEXT_SIZE - 1,
	         newline ? newline : "");
}

void probe_ok(struct probe_result *result, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tell(result, PROBE_OK, fmt, ap);
	va_end(ap);
}

void probe_limited(struct probe_result *result, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tell(result, PROBE_LIMITED, fmt, ap);
	va_end(ap);
}

void probe_missing(struct probe_result *result, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tell(result, PROBE_MISSING, fmt, ap);
	va_end(ap);
}

/* --- reading /proc ---------------------------------------------------------------------------- */

bool probe_under_seccomp(void)
{
	cleanup_fclose FILE *status = fopen("/proc/self/status", "re");
	char line[256];
	int mode = 0;

	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "Seccomp: %d", &mode) == 1)
			break;
	return mode != 0;
}

long probe_read_number(const char *path)
{
	cleanup_fclose FILE *file = fopen(path, "re");
	long number;

	if (!file || fscanf(file, "%ld", &number) != 1)
		return -1;
	return number;
}

/* --- the probes ------------------------------------------------------------------------------- */

/*
 * 5.13 brought io_uring's multishot poll, without which nothing here works; the rest of what the
 * helper likes to have came with 6.6 at the latest.
 */
static void probe_kernel(struct probe_result *result)
{
	struct utsname name;
	unsigned int major, minor, version;

	if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2) {
		probe_limited(result,
		              "the kernel's version cannot be read\nUse Linux 5.13 or newer.");
		return;
	}
	version = major << 16 | minor;
	if (version < (5 << 16 | 13))
		probe_missing(result, "Linux %s is too old\nUse Linux 5.13 or newer, best 6.6.",
		              name.release);
	else if (version < (6 << 16 | 6))
		probe_limited(result, "Linux %s works, without what 6.6 brought\nUse Linux 6.6.",
		              name.release);
	else
		probe_ok(result, "Linux %s %s", name.release, name.machine);
}

static void probe_cap_sys_ptrace(struct probe_result *result)
{
	if (caps_have(CAP_SYS_PTRACE))
		probe_ok(result, "CAP_SYS_PTRACE: fork events and kernel faults are allowed");
	else
		probe_missing(result,
		              "no CAP_SYS_PTRACE: the restorer may not ask for fork events\n"
		              "Run as root, or give the container --cap-add SYS_PTRACE.");
}

static void probe_cap_kill(struct probe_result *result)
{
	if (caps_have(CAP_KILL))
		probe_ok(result, "CAP_KILL: a process whose page is lost can be stopped");
	else
		probe_limited(result,
		              "no CAP_KILL: a process of another user whose page is lost cannot be "
		              "stopped\n"
		              "Run as root, or give the container --cap-add KILL.");
}

static void probe_cap_dac_read_search(struct probe_result *result)
{
	if (caps_have(CAP_DAC_READ_SEARCH) || caps_have(CAP_DAC_OVERRIDE))
		probe_ok(result, "%s: image files of any user can be read",
		         caps_have(CAP_DAC_READ_SEARCH) ? "CAP_DAC_READ_SEARCH"
		                                        : "CAP_DAC_OVERRIDE");
	else
		probe_limited(result,
		              "no CAP_DAC_READ_SEARCH: only image files that this user may read\n"
		              "Run as root, or make the images readable for this user.");
}

static void probe_pidfd(struct probe_result *result)
{
	cleanup_close int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	if (fd >= 0)
		probe_ok(result, "pidfd_open() works: signals cannot reach a reused pid");
	else
		probe_limited(result,
		              "pidfd_open(): %s: a process can be told only by its number\n%s",
		              strerror(errno),
		              probe_under_seccomp() ? "Allow pidfd_open in the seccomp profile."
		                                    : "Use Linux 5.3 or newer.");
}

static void probe_memfd(struct probe_result *result)
{
	cleanup_close int fd = memfd_create("criu-lazy-probe", MFD_CLOEXEC);

	if (fd >= 0 && ftruncate(fd, 4096) == 0)
		probe_ok(result, "memfd_create() works");
	else
		probe_limited(result, "memfd_create(): %s\n%s", strerror(errno),
		              probe_under_seccomp() ? "Allow memfd_create in the seccomp profile."
		                                    : "Use Linux 3.17 or newer.");
}

/* Opening the file and writing a latency are one request; closing takes it back at once. */
static void probe_cpu_dma_latency(struct probe_result *result)
{
	cleanup_close int fd = open("/dev/cpu_dma_latency", O_WRONLY | O_CLOEXEC);
	const int32_t no_limit = INT32_MAX;

	if (fd >= 0 && write(fd, &no_limit, sizeof(no_limit)) == sizeof(no_limit)) {
		probe_ok(result, "/dev/cpu_dma_latency: idle processors can be kept awake");
		return;
	}
	probe_limited(result,
	              "/dev/cpu_dma_latency: %s: each fault may wait tens of microseconds for an "
	              "idle processor\n%s",
	              strerror(errno),
	              errno == ENOENT ? "Mount the host's /dev/cpu_dma_latency into the container; "
	                                "its kernel needs CONFIG_CPU_IDLE and CONFIG_PM."
	                              : "Run as root, or make the device writable for this user.");
}

/* --- the table -------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	bool required;
	void (*run)(struct probe_result *result);
} probes[] = {
	{"kernel", true, probe_kernel},
	{"uffd", true, probe_uffd},
	{"uffd-noncoop", true, probe_uffd_noncoop},
	{"uffd-range", true, probe_uffd_range},
	{"uffd-poison", false, probe_uffd_poison},
	{"uffd-move", false, probe_uffd_move},
	{"uffd-wp-async", false, probe_uffd_wp_async},
	{"uffd-device", false, probe_uffd_device},
	{"uffd-unprivileged", false, probe_uffd_unprivileged},
	{"io-uring", true, probe_uring},
	{"io-uring-ops", true, probe_uring_ops},
	{"io-uring-multishot", true, probe_uring_multishot},
	{"cap-sys-ptrace", true, probe_cap_sys_ptrace},
	{"cap-kill", false, probe_cap_kill},
	{"cap-dac-read-search", false, probe_cap_dac_read_search},
	{"pidfd", false, probe_pidfd},
	{"memfd", false, probe_memfd},
	{"cpu-dma-latency", false, probe_cpu_dma_latency},
};

static const size_t nr_probes = sizeof(probes) / sizeof(probes[0]);

_Static_assert(sizeof(probes) / sizeof(probes[0]) <= PROBE_MAX, "PROBE_MAX");

static void run(size_t i, struct probe_result *ret_result)
{
	*ret_result = (struct probe_result){
		.name = probes[i].name,
		.required = probes[i].required,
	};
	probes[i].run(ret_result);
}

size_t probe_run(struct probe_result results[PROBE_MAX])
{
	for (size_t i = 0; i < nr_probes; i++)
		run(i, &results[i]);
	return nr_probes;
}

bool probe_one(const char *name, struct probe_result *ret_result)
{
	for (size_t i = 0; i < nr_probes; i++) {
		if (strcmp(probes[i].name, name) == 0) {
			run(i, ret_result);
			return true;
		}
	}
	return false;
}

const char *probe_verdict_name(enum probe_verdict verdict)
{
	switch (verdict) {
	case PROBE_OK:
		return "ok";
	case PROBE_LIMITED:
		return "limited";
	case PROBE_MISSING:
		break;
	}
	return "missing";
}
