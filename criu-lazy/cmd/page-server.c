/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * criu-lazy page-server: serve the memory of an image directory, or store what a dump sends.
 *
 * Everything that can be wrong with options, images, addresses and certificates is found before
 * "ready" is said.
 */
#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/cmd/cmd.h"
#include "criu-lazy/cmd/page-options.h"
#include "criu-lazy/os/caps.h"
#include "criu-lazy/os/daemon.h"
#include "criu-lazy/os/net.h"
#include "criu-lazy/server/content.h"
#include "criu-lazy/server/server.h"
#include "images/store.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct page_server {
	struct page_options options;
	struct server_options run;
	int images; /* the directory */
	struct stat unix_file; /* to remove only our own */
	char port[32]; /* "port N\n" when the kernel has chosen it, else empty */
};

/* --- what is served or stored to -------------------------------------------------------------- */

/* As CRIU: the link is made of the text as it is, one that is there already stays. */
static int link_parent(int images, const char *prev, struct err *err)
{
	if (symlinkat(prev, images, "parent") < 0 && errno != EEXIST)
		return err_set(err, errno, "link parent to %s", prev);
	if (faccessat(images, "parent", F_OK, 0) == 0)
		return 0;
	return err_set(err, errno, "--prev-images-dir %s (seen from the images directory)", prev);
}

static int open_images(struct page_server *s, struct err *err)
{
	const struct page_options *o = &s->options;
	int images = common_start(&o->common, err), r;
	size_t leftovers = 0;

	if (images < 0)
		return images;
	s->images = images;
	net_warn(&o->net);
	if (o->lazy_pages) {
		r = content_open(images, o->trust_newer, &s->run.content, err);
	} else {
		r = o->prev_images_dir ? link_parent(images, o->prev_images_dir, err) : 0;
		if (r == 0)
			r = store_open(images, &s->run.store, &leftovers, err);
	}
	if (r < 0)
		return err_wrap(err, "%s", o->common.images_dir);
	if (leftovers)
		log_warn("removed %zu files of a dump that was never completed", leftovers);
	if (o->lazy_pages)
		log_info("%zu processes, %llu pages", content_nr_processes(s->run.content),
		         (unsigned long long)content_nr_pages(s->run.content));
	return 0;
}

/* --- listening -------------------------------------------------------------------------------- */

static int listen_unix(struct page_server *s, struct err *err)
{
	const char *path = s->options.net.unix_path;

	s->run.listen_fd = net_listen_unix(path, err);
	s->run.is_unix = true;
	if (s->run.listen_fd < 0)
		return s->run.listen_fd;
	if (lstat(path, &s->unix_file) < 0)
		return err_set(err, errno, "%s", path);
	log_info("listening at %s", path);
	return 0;
}

static void unlink_unix(const struct page_server *s)
{
	const char *path = s->options.net.unix_path;
	struct stat st;

	if (s->unix_file.st_ino && lstat(path, &st) == 0 && st.st_ino == s->unix_file.st_ino &&
	    st.st_dev == s->unix_file.st_dev)
		unlink(path);
}

static int listen_inet(struct page_server *s, struct err *err)
{
	const struct net_options *net = &s->options.net;
	const char *address = net->address ? net->address : "127.0.0.1";
	uint16_t port;

	s->run.listen_fd = net_listen(address, net->port, &port, err);
	if (s->run.listen_fd < 0)
		return s->run.listen_fd;
	if (net_is_wildcard(address) && !net->tls)
		log_warn("listening at every address of this host, without --tls: anybody who can "
		         "reach it can %s",
		         s->options.lazy_pages ? "read the memory of the checkpoint"
		                               : "store images");
	log_info("listening at %s, port %u", address, port);
	if (net->port)
		return 0;
	snprintf(s->port, sizeof(s->port), "port %u\n", port);
	fputs(s->port, stdout);
	return fflush(stdout) == 0 ? 0 : err_set(err, errno, "standard output");
}

static int open_socket(struct page_server *s, struct err *err)
{
	const struct net_options *net = &s->options.net;

	if (net->ps_socket >= 0) {
		s->run.ps_socket = net->ps_socket;
		return 0;
	}
	return net->unix_path ? listen_unix(s, err) : listen_inet(s, err);
}

/* --- running ---------------------------------------------------------------------------------- */

static void block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* What is served is open by now; what is stored goes to a directory that may be anybody's. */
static int drop_privileges(const struct page_server *s, struct err *err)
{
	static const cap_value_t store[] = {CAP_DAC_OVERRIDE};

	daemon_hide();
	return caps_keep(store, s->options.lazy_pages ? 0 : 1, NULL, 0, err);
}

static int get_ready(struct page_server *s, struct err *err)
{
	const struct page_options *o = &s->options;
	int r = 0;

	s->run.role = o->lazy_pages ? PS_SERVING : PS_STORING;
	s->run.once = !o->keep;
	s->run.peer_name = net_peer_name(&o->net);
	r = net_tls(&o->net, &s->run.tls, err);
	if (r == 0)
		r = open_socket(s, err);
	if (r < 0)
		return r;
	if (o->common.daemon)
		r = daemon_enter(o->common.pidfile, err);
	else if (o->common.pidfile)
		r = daemon_write_pidfile(o->common.pidfile, getpid(), err);
	if (r == 0)
		r = scripts_run(&o->scripts, "status-ready", s->images, err);
	if (r == 0)
		r = drop_privileges(s, err);
	return r < 0 ? r : daemon_ready_text(o->common.status_fd, s->port, err);
}

int cmd_page_server(int argc, char **argv)
{
	struct page_server s = {.images = -1, .run = {.listen_fd = -1, .ps_socket = -1}};
	struct err err = {0};
	int r;

	r = page_options_parse(argc, argv, &s.options, &err);
	if (r == 0 && s.options.common.help) {
		page_options_help();
		return 0;
	}
	block_signals();
	if (r == 0)
		r = open_images(&s, &err);
	if (r == 0)
		r = get_ready(&s, &err);
	if (r == 0)
		r = server_run(&s.run, &err);
	if (r == -EINTR)
		err_set(&err, EPROTO, "told to end before a client had come and gone");
	if (r < 0 && err.code)
		log_error("%s", err.text);
	unlink_unix(&s);
	cleanup_close_fd(&s.run.listen_fd);
	cleanup_close_fd(&s.images);
	content_close(s.run.content);
	store_close(s.run.store);
	tls_free(s.run.tls);
	return r < 0 ? 1 : 0;
}
