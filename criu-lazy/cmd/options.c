/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/cmd/options.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/cmd/config.h"
#include "criu-lazy/engine/pool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	OPT_SOCKET = OPT_OWN,
	OPT_JOBS,
	OPT_BACKGROUND,
	OPT_LOW_LATENCY,
	OPT_ON_LOST,
	OPT_PROGRESS,
	OPT_FILTER,
	OPT_TRUST_NEWER,
	OPT_PAGE_SERVER,
	OPT_NO_PAGE_SERVER,
	OPT_RECONNECT,
	OPT_PROTOCOL,
	OPT_NO_COMPRESS,
	OPT_FORCE,
	OPT_NO_GUARDIAN,
	OPT_GUARDIAN_DEATH,
	OPT_FD_STORE,
};

static const struct option longs[] = {
	COMMON_LONG_OPTIONS,
	{"socket", required_argument, NULL, OPT_SOCKET},
	{"jobs", required_argument, NULL, OPT_JOBS},
	{"background", required_argument, NULL, OPT_BACKGROUND},
	{"low-latency", required_argument, NULL, OPT_LOW_LATENCY},
	{"on-lost", required_argument, NULL, OPT_ON_LOST},
	{"progress", no_argument, NULL, OPT_PROGRESS},
	{"filter", required_argument, NULL, OPT_FILTER},
	{"trust-newer-images", no_argument, NULL, OPT_TRUST_NEWER},
	{"lazy-pages", no_argument, NULL, OPT_SILENT},
	{"page-server", no_argument, NULL, OPT_PAGE_SERVER},
	{"no-page-server", no_argument, NULL, OPT_NO_PAGE_SERVER},
	{"reconnect-timeout", required_argument, NULL, OPT_RECONNECT},
	{"protocol", required_argument, NULL, OPT_PROTOCOL},
	{"no-compress", no_argument, NULL, OPT_NO_COMPRESS},
	{"force", no_argument, NULL, OPT_FORCE},
	{"no-guardian", no_argument, NULL, OPT_NO_GUARDIAN}, /* for bench/ */
	{"on-guardian-death", required_argument, NULL, OPT_GUARDIAN_DEATH},
	{"fd-store", no_argument, NULL, OPT_FD_STORE},
	NET_LONG_OPTIONS,
	CRIU_IGNORED_OPTIONS,
	IGNORED_ARG("prev-images-dir"),
	IGNORED_ARG("action-script"),
	{0},
};

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
	     "      --page-server       pages come from a page server: criu-lazy's, or CRIU's\n"
	     "                          (page-server --lazy-pages, dump --lazy-pages); the images\n"
	     "                          directory is needed without its pages files\n"
	     "      --address A         name or address of the server's host\n"
	     "      --port N            its port\n"
	     "      --ps-socket FD      a connected stream instead");
	net_help_tls();
	config_help();
	puts("  -h, --help\n"
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
	     "      --on-guardian-death HOW\n"
	     "                          when the process that was started is killed while memory "
	     "is\n"
	     "                          missing: kill (default) the restored processes, or "
	     "continue\n"
	     "                          in another one\n"
	     "      --fd-store          as a service: have the manager ($NOTIFY_SOCKET) keep all\n"
	     "                          descriptors, and go on with them when started again\n"
	     "      --force             SIGTERM and SIGINT end it at once: what is missing is "
	     "lost\n"
	     "                          (--on-lost)\n"
	     "      --unix PATH         the page server listens at a unix socket\n"
	     "      --reconnect-timeout SECONDS\n"
	     "                          try so long to connect again when the page server is lost\n"
	     "                          (default 300); threads that touch missing pages wait\n"
	     "      --protocol HOW      what the page server speaks: auto (default) finds out, in "
	     "a\n"
	     "                          way that does CRIU's no harm; criu; lanes: criu-lazy's "
	     "own\n"
	     "      --no-compress       do not let it compress what nobody waits for\n"
	     "      --progress          a progress line, if standard error is a terminal\n"
	     "      --trust-newer-images\n"
	     "                          go on when inventory.img has fields of a newer CRIU\n"
	     "      --filter TEXT       for tests: delay=USEC, short=PAGES, lose=HEX-HEX, "
	     "crash=HEX;\n"
	     "                          repeatable\n"
	     "\n"
	     "SIGTERM and SIGINT before a restore has begun end the helper; later they make it "
	     "bring\n"
	     "the rest at full speed, and then end: ending earlier would turn missing memory into\n"
	     "zeros.\n"
	     "\n"
	     "Other options of CRIU are accepted and ignored with one warning.");
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

static int parse_protocol(const char *value, struct lazy_options *o, struct err *err)
{
	if (!strcmp(value, "auto"))
		o->protocol = REMOTE_AUTO;
	else if (!strcmp(value, "criu"))
		o->protocol = REMOTE_CRIU;
	else if (!strcmp(value, "lanes"))
		o->protocol = REMOTE_LANES;
	else
		return bad_value(err, "--protocol", value, "auto, criu or lanes");
	return 0;
}

static int parse_guardian_death(const char *value, struct lazy_options *o, struct err *err)
{
	if (!strcmp(value, "kill"))
		o->on_guardian_death = GUARD_DEATH_KILL;
	else if (!strcmp(value, "continue"))
		o->on_guardian_death = GUARD_DEATH_CONTINUE;
	else
		return bad_value(err, "--on-guardian-death", value, "kill or continue");
	return 0;
}

/* What cannot be is said before anybody depends on us. */
static int check_net(struct lazy_options *o, struct err *err)
{
	const struct net_options *net = &o->net;

	if (!o->page_server) {
		/* As in CRIU: configuration files may have them for other commands. */
		if (net->any)
			common_ignore(&o->common, "page server options without --page-server");
		return 0;
	}
	if (net->ps_socket >= 0 || net->unix_path)
		return net_check(net, &o->common, err);
	if (!net->address || !net->port)
		return err_set(err, EINVAL,
		               "--page-server wants --address and --port, --unix or --ps-socket");
	return net_check(net, &o->common, err);
}

/* Who is started again has the same command line, and nothing else but what was kept. */
static int check_fd_store(struct lazy_options *o, struct err *err)
{
	const char *other = o->common.daemon             ? "--daemon"
	                    : o->common.status_fd >= 0   ? "--status-fd"
	                    : o->net.ps_socket >= 0      ? "--ps-socket"
	                    : o->no_guardian             ? "--no-guardian"
	                    : o->guardian_death_is_given ? "--on-guardian-death"
	                                                 : NULL;

	if (!o->fd_store)
		return 0;
	if (other)
		return err_set(err, EINVAL, "--fd-store does not go with %s", other);
	o->on_guardian_death = GUARD_DEATH_HAND_OVER;
	return 0;
}

static int apply(int c, const char *name, const char *value, void *options, struct err *err)
{
	struct lazy_options *o = options;
	unsigned long number;
	int r;

	switch (c) {
	case OPT_SOCKET:
		o->socket = value;
		return 0;
	case OPT_JOBS:
		if (!parse_number(value, 1, POOL_MAX_JOBS, &number))
			return bad_value(err, "--jobs", value, "1 to 64");
		o->jobs = (unsigned)number;
		return 0;
	case OPT_BACKGROUND:
		return parse_background(value, &o->engine, err);
	case OPT_LOW_LATENCY:
		return parse_low_latency(value, &o->engine, err);
	case OPT_ON_LOST:
		return parse_on_lost(value, &o->engine, err);
	case OPT_PROGRESS:
		o->progress = true;
		return 0;
	case OPT_FILTER:
		if (o->nr_filters == OPTIONS_MAX_FILTERS)
			return err_set(err, EINVAL, "more than %d filters", OPTIONS_MAX_FILTERS);
		o->filters[o->nr_filters++] = value;
		return 0;
	case OPT_TRUST_NEWER:
		o->trust_newer = true;
		return 0;
	case OPT_PAGE_SERVER:
	case OPT_NO_PAGE_SERVER:
		o->page_server = c == OPT_PAGE_SERVER;
		return 0;
	case OPT_RECONNECT:
		if (!parse_number(value, 0, 86400, &number))
			return bad_value(err, "--reconnect-timeout", value, "0 to 86400 seconds");
		o->reconnect_timeout = (unsigned)number;
		return 0;
	case OPT_PROTOCOL:
		return parse_protocol(value, o, err);
	case OPT_FORCE:
		o->force = true;
		return 0;
	case OPT_NO_GUARDIAN:
		o->no_guardian = true;
		return 0;
	case OPT_GUARDIAN_DEATH:
		o->guardian_death_is_given = true;
		return parse_guardian_death(value, o, err);
	case OPT_FD_STORE:
		o->fd_store = true;
		return 0;
	case OPT_NO_COMPRESS:
		o->no_compress = true;
		return 0;
	default:
		r = net_apply(c, value, &o->net, err);
		if (r == 0)
			r = common_apply(c, name, value, &o->common, err);
		return r < 0 ? r : 0;
	}
}

int lazy_options_parse(int argc, char **argv, struct lazy_options *ret, struct err *err)
{
	struct lazy_options o = {
		.common = COMMON_OPTIONS_DEFAULT,
		.socket = "lazy-pages.socket",
		.jobs = 1,
		.net = NET_OPTIONS_DEFAULT,
		.reconnect_timeout = 300,
	};
	int r = options_parse(argc, argv, longs, apply, &o, err);

	if (r == 0 && !o.common.help)
		r = check_net(&o, err);
	if (r == 0 && !o.common.help)
		r = check_fd_store(&o, err);
	if (r == 0)
		*ret = o;
	return r;
}
