/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/cmd/common-options.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/cmd/config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const char shorts[] = ":D:W:o:v::dht:r:L:J:SsRjl";

bool parse_number(const char *text, unsigned long min, unsigned long max, unsigned long *ret)
{
	char *end;

	errno = 0;
	*ret = strtoul(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *ret >= min && *ret <= max;
}

int bad_value(struct err *err, const char *option, const char *value, const char *want)
{
	return err_set(err, EINVAL, "option %s: \"%s\": %s wanted", option, value, want);
}

/* -v, -vv, -v4; CRIU counts the v's up from its default of 2 when there is no number. */
static int parse_verbosity(const char *value, enum log_level *level, struct err *err)
{
	unsigned long number;

	if (!value)
		*level = *level < LOG_DEBUG ? *level + 1 : LOG_DEBUG;
	else if (*value == 'v' && strspn(value, "v") == strlen(value))
		*level = LOG_DEBUG;
	else if (parse_number(value, 0, 1000, &number))
		*level = number > LOG_DEBUG ? LOG_DEBUG : (enum log_level)number;
	else
		return bad_value(err, "-v", value, "a level of 0 to 4");
	return 0;
}

void common_ignore(struct common_options *o, const char *name)
{
	size_t used = strlen(o->ignored);

	snprintf(o->ignored + used, sizeof(o->ignored) - used, "%s%s%s", used ? ", " : "",
	         strlen(name) > 1 ? "--" : "-", name);
}

int common_apply(int c, const char *name, const char *value, struct common_options *o,
                 struct err *err)
{
	unsigned long number;

	switch (c) {
	case 'D':
		o->images_dir = value;
		return 0;
	case 'W':
		o->work_dir = value;
		return 0;
	case 'o':
		o->log_file = value;
		return 0;
	case 'v':
	case OPT_VERBOSITY:
		return parse_verbosity(value, &o->level, err);
	case 'd':
		o->daemon = true;
		return 0;
	case OPT_NO_DAEMON:
		o->daemon = false;
		return 0;
	case 'h':
		o->help = true;
		return 0;
	case OPT_PIDFILE:
		o->pidfile = value;
		return 0;
	case OPT_STATUS_FD:
		if (!parse_number(value, 0, INT_MAX, &number))
			return bad_value(err, "--status-fd", value, "a descriptor's number");
		o->status_fd = (int)number;
		return 0;
	case OPT_SILENT:
		return 0;
	case OPT_REFUSED:
		return err_set(err, EINVAL, "option --%s is not supported", name);
	default:
		common_ignore(o, name);
		return 0;
	}
}

/* The two ways in which getopt_long() says that it cannot go on. */
static int refuse(int c, const char *what, struct err *err)
{
	if (c == ':')
		return err_set(err, EINVAL, "option %s wants an argument", what);
	return err_set(err, EINVAL, "unknown option %s (see --help)", what);
}

int options_parse(int argc, char **argv, const struct option *longs, option_apply *apply,
                  void *options, struct err *err)
{
	static struct config config; /* what options point to */
	char one[2] = "";
	const char *what;
	int c, at = 0, r;

	config_release(&config);
	r = config_prepend(&config, argc, argv, shorts, longs, err);
	opterr = 0;
	optind = 0;
	while (r == 0 && (c = getopt_long(config.argc, config.argv, shorts, longs, &at)) != -1) {
		one[0] = (char)c;
		what = config.argv[optind - 1];
		if (c == '?' && !strncmp(what, "--", 2) && config_is_elsewhere(what + 2))
			r = apply(OPT_IGNORED, what + 2, NULL, options, err);
		else if (c == ':' || c == '?')
			r = refuse(c, what, err);
		else
			r = apply(c, c < 256 ? one : longs[at].name, optarg, options, err);
		if (r < 0)
			config_blame(&config, optind - 1, err);
	}
	if (r == 0 && optind < config.argc)
		r = err_set(err, EINVAL, "excessive parameter \"%s\" for command %s",
		            config.argv[optind], argv[0]);
	return r;
}

/* Processes, their pages files, connections: each wants descriptors. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int common_start(const struct common_options *o, struct err *err)
{
	cleanup_close int images = open(o->images_dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	int r;

	if (images < 0)
		return err_set(err, errno, "images directory %s", o->images_dir);
	if (o->work_dir ? chdir(o->work_dir) < 0 : fchdir(images) < 0)
		return err_set(err, errno, "work directory %s",
		               o->work_dir ? o->work_dir : o->images_dir);
	r = log_open(o->log_file, o->level, err);
	if (r < 0)
		return r;
	if (*o->ignored)
		log_warn("accepted without effect: %s", o->ignored);
	if (o->pidfile && !o->daemon)
		log_info("without --daemon --pidfile is written all the same");
	raise_file_limit();
	return steal_fd(&images);
}
