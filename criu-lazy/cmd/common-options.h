/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * common-options.h - what the daemons' command lines have in common: CRIU's general options, and
 * those of its options that mean nothing here.
 *
 *	static const struct option longs[] = {
 *		COMMON_LONG_OPTIONS,
 *		{"jobs", required_argument, NULL, OPT_JOBS},
 *		CRIU_IGNORED_OPTIONS,
 *		{0},
 *	};
 *
 *	r = options_parse(argc, argv, longs, apply, &options, err);
 *
 * where apply() is called for each option and hands on to common_apply() (and net_apply(), see
 * net-options.h) what it does not know itself.
 */
#ifndef CRIU_LAZY_CMD_COMMON_OPTIONS_H
#define CRIU_LAZY_CMD_COMMON_OPTIONS_H

#include "criu-lazy/base/log.h"

#include <getopt.h>
#include <stdbool.h>

struct err;

/* Numbers of long options: below 256 the letters. */
enum {
	OPT_COMMON = 256, /* first of this file */
	OPT_PIDFILE = OPT_COMMON,
	OPT_STATUS_FD,
	OPT_VERBOSITY,
	OPT_NO_DAEMON,
	OPT_SILENT, /* CRIU's, without a meaning here, in everybody's scripts */
	OPT_IGNORED, /* CRIU's, without a meaning here: one warning */
	OPT_REFUSED, /* CRIU's, with a meaning that we would have to honour */
	OPT_NET = 300, /* first of net-options.h */
	OPT_OWN = 400, /* first of a command */
};

#define IGNORED(name)                                \
	{                                            \
		name, no_argument, NULL, OPT_IGNORED \
	}
#define IGNORED_ARG(name)                                  \
	{                                                  \
		name, required_argument, NULL, OPT_IGNORED \
	}

/* clang-format off */
#define COMMON_LONG_OPTIONS                                     \
	{"images-dir", required_argument, NULL, 'D'},           \
	{"work-dir", required_argument, NULL, 'W'},             \
	{"log-file", required_argument, NULL, 'o'},             \
	{"verbosity", optional_argument, NULL, OPT_VERBOSITY},  \
	{"daemon", no_argument, NULL, 'd'},                     \
	{"restore-detached", no_argument, NULL, 'd'},           \
	{"pidfile", required_argument, NULL, OPT_PIDFILE},      \
	{"status-fd", required_argument, NULL, OPT_STATUS_FD},  \
	{"help", no_argument, NULL, 'h'},                       \
	{"no-daemon", no_argument, NULL, OPT_NO_DAEMON},        \
	{"no-restore-detached", no_argument, NULL, OPT_NO_DAEMON}, \
	{"config", required_argument, NULL, OPT_SILENT},        \
	{"no-default-config", no_argument, NULL, OPT_SILENT},   \
	{"stream", no_argument, NULL, OPT_REFUSED}

/* CRIU has one parser for all its commands, so each accepts everything. */
#define CRIU_IGNORED_OPTIONS                                                             \
	IGNORED("auto-dedup"), IGNORED("no-auto-dedup"),                                 \
	IGNORED("restore-sibling"), IGNORED("leave-stopped"), IGNORED("leave-running"),  \
	IGNORED("shell-job"), IGNORED("file-locks"), IGNORED("link-remap"),              \
	IGNORED("tcp-established"), IGNORED("skip-in-flight"), IGNORED("tcp-close"),     \
	IGNORED("evasive-devices"), IGNORED("track-mem"), IGNORED("force-irmap"),        \
	IGNORED("weak-sysctls"), IGNORED("display-stats"), IGNORED("log-pid"),           \
	IGNORED("unprivileged"), IGNORED("mntns-compat-mode"), IGNORED("ghost-fiemap"),  \
	IGNORED("allow-uprobes"), IGNORED("skip-file-rwx-check"), IGNORED("extra"),      \
	IGNORED("experimental"), IGNORED("all"), IGNORED_ARG("tree"),                    \
	IGNORED_ARG("root"), IGNORED_ARG("libdir"), IGNORED_ARG("external"),             \
	IGNORED_ARG("ghost-limit"), IGNORED_ARG("timeout"),                              \
	IGNORED_ARG("irmap-scan-path"), IGNORED_ARG("cgroup-root"),                      \
	IGNORED_ARG("cgroup-props"), IGNORED_ARG("cgroup-props-file"),                   \
	IGNORED_ARG("cgroup-dump-controller"), IGNORED_ARG("cgroup-yard"),               \
	IGNORED_ARG("lsm-profile"), IGNORED_ARG("lsm-mount-context"),                    \
	IGNORED_ARG("skip-mnt"), IGNORED_ARG("enable-fs"), IGNORED_ARG("inherit-fd"),    \
	IGNORED_ARG("empty-ns"), IGNORED_ARG("join-ns"), IGNORED_ARG("file-validation"), \
	IGNORED_ARG("freeze-cgroup"), IGNORED_ARG("network-lock"),                       \
	IGNORED_ARG("feature"), IGNORED_ARG("pre-dump-mode"),                            \
	{"manage-cgroups", optional_argument, NULL, OPT_IGNORED},                        \
	{"cpu-cap", optional_argument, NULL, OPT_IGNORED}
/* clang-format on */

struct common_options {
	const char *images_dir;
	const char *work_dir; /* NULL: the images directory */
	const char *log_file; /* NULL: stderr */
	enum log_level level;
	bool daemon;
	const char *pidfile;
	int status_fd; /* -1: none */
	bool help;
	char ignored[256]; /* options of CRIU that were accepted and mean nothing here */
};

#define COMMON_OPTIONS_DEFAULT                                         \
	{                                                              \
		.images_dir = ".", .level = LOG_WARN, .status_fd = -1, \
	}

/*
 * One option: c is a letter or OPT_*, name what it is called, value its argument.  Returns 0, or
 * -EINVAL with the story.
 */
typedef int option_apply(int c, const char *name, const char *value, void *options,
                         struct err *err);

/*
 * CRIU's configuration files (see config.h) and then the whole command line through apply();
 * argv[0] is the command's name.  Values stay for as long as the process lives.
 */
int options_parse(int argc, char **argv, const struct option *longs, option_apply *apply,
                  void *options, struct err *err);

/* What a command does not know itself.  Unknown ones of CRIU are noted in o->ignored. */
int common_apply(int c, const char *name, const char *value, struct common_options *o,
                 struct err *err);

/* Note something that was given and has no effect: one warning names all of it. */
void common_ignore(struct common_options *o, const char *what);

/* Helpers of the apply() functions. */
bool parse_number(const char *text, unsigned long min, unsigned long max, unsigned long *ret);
int bad_value(struct err *err, const char *option, const char *value, const char *want);

/*
 * Open the images directory, go to the work directory, open the log, say what was ignored, and take
 * as many descriptors as may be had.  Returns the images directory's descriptor, the caller's.
 */
int common_start(const struct common_options *o, struct err *err);

#endif
