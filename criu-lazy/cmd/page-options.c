/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/cmd/page-options.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/cmd/config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	OPT_LAZY_PAGES = OPT_OWN,
	OPT_KEEP,
	OPT_ONCE,
	OPT_TRUST_NEWER,
	OPT_PREV_IMAGES,
	OPT_ACTION_SCRIPT,
};

static const struct option longs[] = {
	COMMON_LONG_OPTIONS,
	NET_LONG_OPTIONS,
	{"lazy-pages", no_argument, NULL, OPT_LAZY_PAGES},
	{"keep", no_argument, NULL, OPT_KEEP},
	{"once", no_argument, NULL, OPT_ONCE},
	{"trust-newer-images", no_argument, NULL, OPT_TRUST_NEWER},
	{"prev-images-dir", required_argument, NULL, OPT_PREV_IMAGES},
	{"action-script", required_argument, NULL, OPT_ACTION_SCRIPT},
	{"page-server", no_argument, NULL, OPT_SILENT},
	CRIU_IGNORED_OPTIONS,
	{0},
};

void page_options_help(void)
{
	puts("Usage: criu-lazy page-server [OPTION]...\n"
	     "       criu-lazy serve [OPTION]...\n"
	     "\n"
	     "With --lazy-pages: serves the memory in an image directory to `criu-lazy lazy-pages\n"
	     "--page-server` or `criu lazy-pages --page-server` on other hosts.  Without: "
	     "receives\n"
	     "memory from `criu dump --page-server` or `criu pre-dump --page-server`, and has it "
	     "in\n"
	     "the image directory when the dump is complete, or nothing.\n"
	     "\n"
	     "As `criu page-server` it ends by itself after the first client: with status 0 when\n"
	     "that has said that it is done (or, served, has just hung up), with 1 when it was\n"
	     "lost or dropped.  A client is a helper with all its connections; who connects and\n"
	     "says nothing sensible is none; one whose connections broke may come back within\n"
	     "10 min.  With --keep, and as `serve`, it goes on until SIGTERM.\n"
	     "\n"
	     "As in `criu page-server`:\n"
	     "  -D, --images-dir DIR    directory of the images (default: the current one)\n"
	     "  -W, --work-dir DIR      directory of log and pidfile (default: images)\n"
	     "  -o, --log-file FILE     log there instead of to standard error\n"
	     "  -v[LEVEL], --verbosity[=LEVEL]\n"
	     "                          0 silent, 1 errors, 2 warnings (default), 3 info, 4 "
	     "debug;\n"
	     "                          -v adds one, also -vv\n"
	     "  -d, --daemon            go to the background once the server listens\n"
	     "      --pidfile FILE      write the server's pid there\n"
	     "      --status-fd N       write one zero byte to descriptor N when ready, then, if\n"
	     "                          the port was not given, \"port NUMBER\" and a newline;\n"
	     "                          close it\n"
	     "      --lazy-pages        serve\n"
	     "      --address A         numeric address to listen at (default: 127.0.0.1; CRIU's "
	     "is\n"
	     "                          0.0.0.0: every address of this host, and anybody who can\n"
	     "                          reach it gets or writes memory, unless there is --tls)\n"
	     "      --port N            (default, and with 0: the kernel chooses, and a line\n"
	     "                          \"port NUMBER\" on standard output tells)\n"
	     "      --ps-socket FD      a connected stream: the only client\n"
	     "      --prev-images-dir DIR\n"
	     "                          storing: make the link \"parent\" to DIR, relative to the\n"
	     "                          image directory\n"
	     "      --action-script FILE\n"
	     "                          run it with CRTOOLS_SCRIPT_ACTION=status-ready once the\n"
	     "                          server listens; repeatable");
	net_help_tls();
	config_help();
	puts("  -h, --help\n"
	     "\n"
	     "Beyond it:\n"
	     "      --keep              stay: any number of clients, one after another and (when\n"
	     "                          serving) at once\n"
	     "      --once              end after the first (the default but for `serve`)\n"
	     "      --unix PATH         listen at a unix socket\n"
	     "      --trust-newer-images\n"
	     "                          go on when inventory.img has fields of a newer CRIU\n"
	     "\n"
	     "Limits: 1024 connections at a time; 1048576 pages (4 GiB) for one request; a "
	     "message\n"
	     "that has begun must be complete after 30 s, announced pages must not pause for more\n"
	     "than 2 min; a client that takes nothing of its answer for 5 min is dropped.\n"
	     "\n"
	     "Other options of CRIU are accepted and ignored with one warning.");
}

static int apply(int c, const char *name, const char *value, void *options, struct err *err)
{
	struct page_options *o = options;
	int r;

	switch (c) {
	case OPT_LAZY_PAGES:
		o->lazy_pages = true;
		return 0;
	case OPT_KEEP:
		o->keep = true;
		return 0;
	case OPT_ONCE:
		o->once = true;
		return 0;
	case OPT_TRUST_NEWER:
		o->trust_newer = true;
		return 0;
	case OPT_PREV_IMAGES:
		o->prev_images_dir = value;
		return 0;
	case OPT_ACTION_SCRIPT:
		return scripts_add(&o->scripts, value, err);
	default:
		r = net_apply(c, value, &o->net, err);
		if (r)
			return r < 0 ? r : 0;
		return common_apply(c, name, value, &o->common, err);
	}
}

static int check(const struct page_options *o, struct err *err)
{
	if (o->keep && o->once)
		return err_set(err, EINVAL, "--keep and --once: one of them");
	if (o->keep && o->net.ps_socket >= 0)
		return err_set(err, EINVAL, "--keep and --ps-socket: that is only one client");
	if (o->lazy_pages && o->prev_images_dir)
		return err_set(err, EINVAL,
		               "--prev-images-dir is for storing, not for --lazy-pages");
	return net_check(&o->net, &o->common, err);
}

int page_options_parse(int argc, char **argv, struct page_options *ret, struct err *err)
{
	struct page_options o = {
		.common = COMMON_OPTIONS_DEFAULT,
		.net = NET_OPTIONS_DEFAULT,
	};
	bool serve = !strcmp(argv[0], "serve");
	int r = options_parse(argc, argv, longs, apply, &o, err);

	if (serve) {
		o.lazy_pages = true;
		o.keep = o.keep || (!o.once && o.net.ps_socket < 0);
	}
	if (r == 0 && !o.common.help)
		r = check(&o, err);
	if (r == 0)
		*ret = o;
	return r;
}
