/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/cmd/options.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/engine/pool.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	OPT_PIDFILE = 256,
	OPT_STATUS_FD,
	OPT_VERBOSITY,
	OPT_SOCKET,
	OPT_JOBS,
	OPT_BACKGROUND,
	OPT_LOW_LATENCY,
	OPT_ON_LOST,
	OPT_PROGRESS,
	OPT_FILTER,
	OPT_TRUST_NEWER,
	OPT_SILENT, /* CRIU's, without a meaning here, in everybody's scripts */
	OPT_IGNORED, /* CRIU's, without a meaning here */
	OPT_REFUSED, /* CRIU's, with a meaning that we would have to honour */
};

#define IGNORED(name)                                \
	{                                            \
		name, no_argument, NULL, OPT_IGNORED \
	}
#define IGNORED_ARG(name)                                  \
	{                                                  \
		name, required_argument, NULL, OPT_IGNORED \
	}
#define REFUSED(name)                                \
	{                                            \
		name, no_argument, NULL, OPT_REFUSED \
	}
#define REFUSED_ARG(name)                                  \
	{                                                  \
		name, required_argument, NULL, OPT_REFUSED \
	}

static const struct option longs[] = {
	{"images-dir", required_argument, NULL, 'D'},
	{"work-dir", required_argument, NULL, 'W'},
	{"log-file", required_argument, NULL, 'o'},
	{"verbosity", optional_argument, NULL, OPT_VERBOSITY},
	{"daemon", no_argument, NULL, 'd'},
	{"restore-detached", no_argument, NULL, 'd'},
	{"pidfile", required_argument, NULL, OPT_PIDFILE},
	{"status-fd", required_argument, NULL, OPT_STATUS_FD},
	{"help", no_argument, NULL, 'h'},
	{"socket", required_argument, NULL, OPT_SOCKET},
	{"jobs", required_argument, NULL, OPT_JOBS},
	{"background", required_argument, NULL, OPT_BACKGROUND},
	{"low-latency", required_argument, NULL, OPT_LOW_LATENCY},
	{"on-lost", required_argument, NULL, OPT_ON_LOST},
	{"progress", no_argument, NULL, OPT_PROGRESS},
	{"filter", required_argument, NULL, OPT_FILTER},
	{"trust-newer-images", no_argument, NULL, OPT_TRUST_NEWER},
	{"no-default-config", no_argument, NULL, OPT_SILENT},
	{"lazy-pages", no_argument, NULL, OPT_SILENT},
	/* What `criu lazy-pages` accepts besides, since it has one parser for all commands. */
	IGNORED("auto-dedup"),
	IGNORED("no-auto-dedup"),
	IGNORED_ARG("config"),
	IGNORED("restore-sibling"),
	IGNORED("leave-stopped"),
	IGNORED("leave-running"),
	IGNORED("shell-job"),
	IGNORED("file-locks"),
	IGNORED("link-remap"),
	IGNORED("tcp-established"),
	IGNORED("skip-in-flight"),
	IGNORED("tcp-close"),
	IGNORED("evasive-devices"),
	IGNORED("track-mem"),
	IGNORED("force-irmap"),
	IGNORED("weak-sysctls"),
	IGNORED("display-stats"),
	IGNORED("log-pid"),
	IGNORED("unprivileged"),
	IGNORED("mntns-compat-mode"),
	IGNORED("ghost-fiemap"),
	IGNORED("allow-uprobes"),
	IGNORED("skip-file-rwx-check"),
	IGNORED("extra"),
	IGNORED("experimental"),
	IGNORED("all"),
	IGNORED_ARG("tree"),
	IGNORED_ARG("root"),
	IGNORED_ARG("libdir"),
	IGNORED_ARG("external"),
	IGNORED_ARG("ghost-limit"),
	IGNORED_ARG("action-script"),
	IGNORED_ARG("timeout"),
	IGNORED_ARG("irmap-scan-path"),
	IGNORED_ARG("cgroup-root"),
	IGNORED_ARG("cgroup-props"),
	IGNORED_ARG("cgroup-props-file"),
	IGNORED_ARG("cgroup-dump-controller"),
	IGNORED_ARG("cgroup-yard"),
	IGNORED_ARG("lsm-profile"),
	IGNORED_ARG("lsm-mount-context"),
	IGNORED_ARG("skip-mnt"),
	IGNORED_ARG("enable-fs"),
	IGNORED_ARG("inherit-fd"),
	IGNORED_ARG("empty-ns"),
	IGNORED_ARG("join-ns"),
	IGNORED_ARG("file-validation"),
	IGNORED_ARG("freeze-cgroup"),
	IGNORED_ARG("network-lock"),
	IGNORED_ARG("feature"),
	IGNORED_ARG("prev-images-dir"),
	IGNORED_ARG("pre-dump-mode"),
	{"manage-cgroups", optional_argument, NULL, OPT_IGNORED},
	{"cpu-cap", optional_argument, NULL, OPT_IGNORED},
	REFUSED("page-server"),
	REFUSED_ARG("address"),
	REFUSED_ARG("port"),
	REFUSED_ARG("ps-socket"),
	REFUSED("tls"),
	REFUSED("stream"),
	{"tls-cacert", required_argument, NULL, OPT_REFUSED},
	{"tls-cacrl", required_argument, NULL, OPT_REFUSED},
	{"tls-cert", required_argument, NULL, OPT_REFUSED},
	{"tls-key", required_argument, NULL, OPT_REFUSED},
	{"tls-no-cn-verify", no_argument, NULL, OPT_REFUSED},
	{0},
};

static const char shorts[] = ":D:W:o:v::dht:r:L:J:SsRjl";

void lazy_options_help(void)
{
	puts("Usage: criu-lazy lazy-pages [OPTION]...\n"
	     "\n"
	     "Brings the memory of processes that `criu restore --lazy-pages` has started, page "
	     "by\n"
	     "page as they touch it and the rest in the background.  Start it first, then the\n"
	     "restore, both with the same images and work directory:\n"
	     "\n"
	     "    criu-lazy lazy-pages -D IMAGES --daemon\n"
	     "    criu restore -D IMAGES --lazy-pages --restore-detached\n"
	     "\n"
	     "It ends by itself, with status 0, when everything has arrived or the processes have\n"
	     "exited.\n"
	     "\n"
	     "As in `criu lazy-pages`:\n"
	     "  -D, --images-dir DIR    directory of the images (default: the current one)\n"
	     "  -W, --work-dir DIR      directory of the socket, log and pidfile (default: "
	     "images)\n"
	     "  -o, --log-file FILE     log there instead of to standard error\n"
	     "  -v[LEVEL], --verbosity[=LEVEL]\n"
	     "                          0 silent, 1 errors, 2 warnings (default), 3 info, 4 "
	     "debug;\n"
	     "                          -v adds one, also -vv\n"
	     "  -d, --daemon            go to the background once the socket is there\n"
	     "      --pidfile FILE      write the helper's pid there\n"
	     "      --status-fd N       write one zero byte to descriptor N when ready, close it\n"
	     "  -h, --help\n"
	     "\n"
	     "Beyond it:\n"
	     "      --socket PATH       listen there instead of at lazy-pages.socket\n"
	     "      --jobs N            threads; each process belongs to one (default 1)\n"
	     "      --background HOW    pages that nobody touches: full (default) brings them as\n"
	     "                          fast as it can, off never, RATE (bytes a second, with K, "
	     "M\n"
	     "                          or G) not faster than that\n"
	     "      --low-latency HOW   keep processors awake while threads wait for pages:\n"
	     "                          auto (default): while there is something to do, on: as\n"
	     "                          long as pages are missing, off\n"
	     "      --on-lost HOW       when a page cannot be had: kill (default) the process, or\n"
	     "                          poison the page: SIGBUS where it is touched\n"
	     "      --progress          a progress line, if standard error is a terminal\n"
	     "      --trust-newer-images\n"
	     "                          go on when inventory.img has fields of a newer CRIU\n"
	     "      --filter TEXT       for tests: delay=USEC, short=PAGES, lose=HEX-HEX; "
	     "repeatable\n"
	     "\n"
	     "SIGTERM and SIGINT before a restore has begun end the helper; later they make it "
	     "bring\n"
	     "the rest at full speed, and then end: ending earlier would turn missing memory into\n"
	     "zeros.\n"
	     "\n"
	     "Other options of CRIU are accepted and ignored with one warning.");
}

static bool parse_number(const char *text, unsigned long min, unsigned long max, unsigned long *ret)
{
	char *end;

	errno = 0;
	*ret = strtoul(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *ret >= min && *ret <= max;
}

static bool parse_rate(const char *text, uint64_t *ret)
{
	static const char units[] = "KMG";
	const char *unit;
	char *end;
	uint64_t shift = 0;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || errno)
		return false;
	if (*end && (unit = strchr(units, *end))) {
		shift = 10 * (uint64_t)(unit - units + 1);
		end++;
	}
	if (*end || !*ret || *ret > UINT64_MAX >> shift)
		return false;
	*ret <<= shift;
	return true;
}

static int bad_value(struct err *err, const char *option, const char *value, const char *want)
{
	return err_set(err, EINVAL, "option %s: \"%s\": %s wanted", option, value, want);
}

static int parse_background(const char *value, struct engine_options *o, struct err *err)
{
	if (!strcmp(value, "full")) {
		o->background = BACKGROUND_FULL;
	} else if (!strcmp(value, "off")) {
		o->background = BACKGROUND_OFF;
	} else {
		o->background = BACKGROUND_RATE;
		if (!parse_rate(value, &o->rate))
			return bad_value(err, "--background", value,
			                 "full, off, or bytes a second (with K, M or G)");
	}
	return 0;
}

static int parse_low_latency(const char *value, struct engine_options *o, struct err *err)
{
	if (!strcmp(value, "auto"))
		o->low_latency = LOW_LATENCY_AUTO;
	else if (!strcmp(value, "on"))
		o->low_latency = LOW_LATENCY_ON;
	else if (!strcmp(value, "off"))
		o->low_latency = LOW_LATENCY_OFF;
	else
		return bad_value(err, "--low-latency", value, "auto, on or off");
	return 0;
}

static int parse_on_lost(const char *value, struct engine_options *o, struct err *err)
{
	if (!strcmp(value, "kill"))
		o->on_lost = ON_LOST_KILL;
	else if (!strcmp(value, "poison"))
		o->on_lost = ON_LOST_POISON;
	else
		return bad_value(err, "--on-lost", value, "kill or poison");
	return 0;
}

/* -v, -vv, -v4; CRIU counts the v's up from its default of 2 when there is no number. */
static int parse_verbosity(const char *value, enum log_level *level, struct err *err)
{
	unsigned long number;

	if (!value)
		*level = *level < LOG_DEBUG ? *level + 1 : LOG_DEBUG;
	else if (*value == 'v' && strspn(value, "v") == strlen(value))
		*level = strlen(value) >= 1 ? LOG_DEBUG : *level;
	else if (parse_number(value, 0, 1000, &number))
		*level = number > LOG_DEBUG ? LOG_DEBUG : (enum log_level)number;
	else
		return bad_value(err, "-v", value, "a level of 0 to 4");
	return 0;
}

static void ignore(struct lazy_options *o, const char *name)
{
	size_t used = strlen(o->ignored);

	snprintf(o->ignored + used, sizeof(o->ignored) - used, "%s%s%s", used ? ", " : "",
	         strlen(name) > 1 ? "--" : "-", name);
}

static int apply(int c, const char *name, struct lazy_options *o, struct err *err)
{
	unsigned long number;

	switch (c) {
	case 'D':
		o->images_dir = optarg;
		return 0;
	case 'W':
		o->work_dir = optarg;
		return 0;
	case 'o':
		o->log_file = optarg;
		return 0;
	case 'v':
	case OPT_VERBOSITY:
		return parse_verbosity(optarg, &o->level, err);
	case 'd':
		o->daemon = true;
		return 0;
	case 'h':
		o->help = true;
		return 0;
	case OPT_PIDFILE:
		o->pidfile = optarg;
		return 0;
	case OPT_STATUS_FD:
		if (!parse_number(optarg, 0, INT_MAX, &number))
			return bad_value(err, "--status-fd", optarg, "a descriptor's number");
		o->status_fd = (int)number;
		return 0;
	case OPT_SOCKET:
		o->socket = optarg;
		return 0;
	case OPT_JOBS:
		if (!parse_number(optarg, 1, POOL_MAX_JOBS, &number))
			return bad_value(err, "--jobs", optarg, "1 to 64");
		o->jobs = (unsigned)number;
		return 0;
	case OPT_BACKGROUND:
		return parse_background(optarg, &o->engine, err);
	case OPT_LOW_LATENCY:
		return parse_low_latency(optarg, &o->engine, err);
	case OPT_ON_LOST:
		return parse_on_lost(optarg, &o->engine, err);
	case OPT_PROGRESS:
		o->progress = true;
		return 0;
	case OPT_FILTER:
		if (o->nr_filters == OPTIONS_MAX_FILTERS)
			return err_set(err, EINVAL, "more than %d filters", OPTIONS_MAX_FILTERS);
		o->filters[o->nr_filters++] = optarg;
		return 0;
	case OPT_TRUST_NEWER:
		o->trust_newer = true;
		return 0;
	case OPT_SILENT:
		return 0;
	case OPT_REFUSED:
		return err_set(err, EINVAL,
		               "option --%s is not supported: pages come from local images only",
		               name);
	default:
		ignore(o, name);
		return 0;
	}
}

int lazy_options_parse(int argc, char **argv, struct lazy_options *ret, struct err *err)
{
	struct lazy_options o = {
		.images_dir = ".",
		.level = LOG_WARN,
		.status_fd = -1,
		.socket = "lazy-pages.socket",
		.jobs = 1,
	};
	char one[2] = "";
	int c, r, at = 0;

	opterr = 0;
	optind = 0;
	while ((c = getopt_long(argc, argv, shorts, longs, &at)) != -1) {
		one[0] = (char)c;
		if (c == ':')
			return err_set(err, EINVAL, "option %s wants an argument",
			               argv[optind - 1]);
		if (c == '?')
			return err_set(err, EINVAL, "unknown option %s (see --help)",
			               argv[optind - 1]);
		r = apply(c, c < 256 ? one : longs[at].name, &o, err);
		if (r < 0)
			return r;
	}
	if (optind < argc)
		return err_set(err, EINVAL, "excessive parameter \"%s\" for command lazy-pages",
		               argv[optind]);
	*ret = o;
	return 0;
}
