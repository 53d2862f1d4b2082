/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * criu-lazy lazy-pages: the restore helper, from start to end.
 *
 * Everything that can be wrong with options, images and socket is found before "ready" is said, so
 * that no process depends on a helper that cannot help it.
 */
#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/cmd/cmd.h"
#include "criu-lazy/cmd/options.h"
#include "criu-lazy/cmd/progress.h"
#include "criu-lazy/engine/handoff.h"
#include "criu-lazy/engine/plan.h"
#include "criu-lazy/engine/pool.h"
#include "criu-lazy/os/caps.h"
#include "criu-lazy/os/daemon.h"
#include "criu-lazy/os/ring.h"
#include "criu-lazy/os/tls.h"
#include "criu-lazy/source/remote.h"
#include "images/identity.h"

#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/signalfd.h>

struct helper {
	struct lazy_options options;
	struct unixsock sock;
	struct plan plan;
	struct pool *pool;
	struct handoff *handoff;
	struct tls *tls; /* NULL: none */
	struct remote *remote; /* NULL: pages are here */
	struct watch signal_watch;
	int signal_fd;
	bool told_to_end;
};

static const int64_t REDRAW_EVERY = 100 * NSEC_PER_MSEC;

static void on_signal(struct watch *w, uint32_t events)
{
	struct helper *h = (struct helper *)((char *)w - offsetof(struct helper, signal_watch));
	struct signalfd_siginfo info;

	(void)events;
	while (read(h->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (!h->told_to_end && pool_nr_sessions(h->pool))
			log_warn("signal %u: ending before everything is there would turn missing "
			         "memory into zeros; bringing the rest now",
			         info.ssi_signo);
		h->told_to_end = true;
		pool_hurry(h->pool);
	}
}

static void end_signals(sigset_t *ret)
{
	sigemptyset(ret);
	sigaddset(ret, SIGTERM);
	sigaddset(ret, SIGINT);
}

static int watch_signals(struct helper *h, struct err *err)
{
	sigset_t set;

	end_signals(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGHUP, SIG_IGN); /* a closed terminal must not take memory with it */
	h->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (h->signal_fd < 0)
		return err_set(err, errno, "signalfd");
	h->signal_watch = (struct watch){.ready = on_signal};
	return ring_watch(engine_ring(pool_first(h->pool)), &h->signal_watch, h->signal_fd, POLLIN,
	                  err);
}

/* A copier for each engine, where the processors are enough for both. */
static int make_pool(struct helper *h, struct err *err)
{
	struct engine_options engine = h->options.engine;

	engine.copier = !h->remote && engine.background == BACKGROUND_FULL &&
	                2 * (long)h->options.jobs <= sysconf(_SC_NPROCESSORS_ONLN);
	return pool_new(&engine, h->options.jobs, &h->pool, err);
}

/*
 * The images are open by now; what is left to need a privilege is stopping a process, and rings:
 * they count as locked memory, of which a user's helpers together have little (8 MiB).
 */
static int drop_privileges(struct err *err)
{
	static const cap_value_t keep[] = {CAP_KILL, CAP_IPC_LOCK};
	char missing[128] = "";
	int r = caps_keep(keep, 2, missing, sizeof(missing), err);

	if (r == 0 && strstr(missing, "cap_kill"))
		log_warn("without %s processes of other users cannot be stopped when a page of "
		         "theirs is lost",
		         missing);
	return r;
}

static void tell(void *cookie, bool trouble, const char *text)
{
	(void)cookie;
	if (trouble)
		log_warn("%s", text);
	else
		log_info("%s", text);
}

/* Before anybody depends on us: is the page server there, and is it the right one? */
static int connect_to_server(struct helper *h, int images, const struct plan_options *plan,
                             struct err *err)
{
	static const int64_t answer_timeout = 20 * NSEC_PER_SEC;
	const struct lazy_options *o = &h->options;
	struct remote_options remote = {
		.address = o->net.unix_path ? NULL : o->net.address,
		.port = o->net.port,
		.unix_path = o->net.unix_path,
		.ps_socket = o->net.ps_socket,
		.no_cn_verify = o->net.tls_files.no_cn_verify,
		.protocol = o->protocol,
		.old_header = h->plan.old_counts,
		.compress = !o->no_compress,
		.reconnect_timeout = o->reconnect_timeout * NSEC_PER_SEC,
		.answer_timeout = answer_timeout,
		.first_pid = h->plan.first_pid,
		.first_vaddr = h->plan.first_vaddr,
		.tell = tell,
	};
	sigset_t set;
	int r = images_identity(images, &remote.images, err);

	/* From here on we leave in order (leave_server()): a dumper's processes hang on it. */
	end_signals(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (r == 0)
		r = net_tls(&o->net, &h->tls, err);
	remote.tls = h->tls;
	if (r == 0)
		r = remote_connect(&remote, &h->remote, err);
	if (r == 0)
		r = plan_attach(&h->plan, h->remote, plan, err);
	return r;
}

static int prepare(struct helper *h, struct err *err)
{
	struct lazy_options *o = &h->options;
	const struct plan_options plan = {.filters = o->filters,
	                                  .nr_filters = o->nr_filters,
	                                  .trust_newer = o->trust_newer,
	                                  .remote = o->page_server};
	cleanup_close int images = common_start(&o->common, err);
	int r;

	if (images < 0)
		return images;
	r = plan_read(images, &plan, &h->plan, err);
	if (r < 0)
		return err_wrap(err, "%s", o->common.images_dir);
	log_info("%zu processes, %llu lazy pages", h->plan.nr, (unsigned long long)h->plan.nr_lazy);
	signal(SIGPIPE, SIG_IGN);
	if (o->page_server && o->jobs > 1) {
		log_warn("--jobs: one thread is enough for a page server");
		o->jobs = 1;
	}
	if (o->page_server) {
		r = connect_to_server(h, images, &plan, err);
		if (r < 0)
			return r;
	}
	return unixsock_listen(o->socket, &h->sock, err);
}

/*
 * Have the images mapped, and read from disk if need be, before they are asked for.  Not more than
 * would surely be wanted in memory, and not when most of it may never be touched.
 */
static void expect_all(struct helper *h)
{
	static const uint64_t limit = (UINT64_C(4) << 30) >> PAGE_SHIFT;
	uint64_t pages = 0;
	size_t i;

	if (h->options.engine.background != BACKGROUND_FULL || h->remote)
		return;
	for (i = 0; i < h->plan.nr; i++) {
		struct plan_process *p = &h->plan.processes[i];

		pages += p->nr_lazy;
		if (p->nr_lazy && pages <= limit)
			p->expected = pool_expect(h->pool, p->tracker, p->source);
	}
}

static int get_ready(struct helper *h, struct err *err)
{
	const struct lazy_options *o = &h->options;
	int r = 0;

	if (o->common.daemon)
		r = daemon_enter(o->common.pidfile, err);
	else if (o->common.pidfile)
		r = daemon_write_pidfile(o->common.pidfile, getpid(), err);
	if (r == 0)
		r = drop_privileges(err);
	if (r == 0)
		r = make_pool(h, err);
	if (r == 0)
		r = watch_signals(h, err);
	if (r == 0 && h->remote)
		r = remote_start(h->remote, engine_ring(pool_first(h->pool)), err);
	if (r == 0)
		r = handoff_new(h->pool, &h->plan, &h->sock, &h->handoff, err);
	if (r < 0)
		return r;
	expect_all(h);
	log_info("waiting for a restore at %s", o->socket);
	return daemon_ready(o->common.status_fd, err);
}

/* Until everything is there.  Returns 0, or a negative errno when the restore has failed. */
static int serve(struct helper *h, struct err *err)
{
	bool draw = h->options.progress && isatty(STDERR_FILENO), drawn = false, closed = false;
	int64_t start = 0, redraw = 0;
	struct engine_stats stats;
	enum handoff_state state;
	int r = 0;

	while ((state = handoff_state(h->handoff, err)) != HANDOFF_FAILED) {
		size_t nr = pool_nr_sessions(h->pool);
		int64_t now = clock_now();

		if (state == HANDOFF_DONE && !nr)
			break;
		if (state == HANDOFF_LISTENING && h->told_to_end) {
			log_info("told to end before a restore began");
			return 0;
		}
		if (!start && state != HANDOFF_LISTENING)
			start = now;
		if (state == HANDOFF_DONE && !closed) {
			unixsock_close(&h->sock); /* one tree for each helper, as in CRIU */
			closed = true;
		}
		if (draw && start && now >= redraw) {
			pool_stats(h->pool, &stats);
			progress_draw(&stats, start, now);
			drawn = true;
			redraw = now + REDRAW_EVERY;
		}
		r = pool_turn(h->pool, draw && start ? redraw : CLOCK_NEVER, err);
		if (r < 0)
			break;
	}
	if (drawn)
		progress_end();
	if (state == HANDOFF_FAILED || r < 0) {
		pool_kill_all(h->pool);
		return r < 0 ? r : -err->code;
	}
	pool_stats(h->pool, &stats);
	progress_summary(&stats, start, clock_now());
	return stats.sessions_lost || stats.pages_lost ? -EIO : 0;
}

/*
 * The server may need to know how it went: a dumper of CRIU ends its processes at the end, and lets
 * them go on when there was no restore.
 */
static void leave_server(struct helper *h)
{
	struct err err = {0};

	if (!h->remote)
		return;
	if (!h->handoff || handoff_state(h->handoff, &err) != HANDOFF_DONE)
		remote_abort(h->remote);
	else if (remote_end(h->remote, &err) < 0)
		log_warn("leaving the page server: %s", err.text);
}

int cmd_lazy_pages(int argc, char **argv)
{
	struct helper h = {.sock = {.fd = -1, .lock_fd = -1}, .signal_fd = -1};
	struct err err = {0};
	int r;

	r = lazy_options_parse(argc, argv, &h.options, &err);
	if (r == 0 && h.options.common.help) {
		lazy_options_help();
		return 0;
	}
	if (r == 0)
		r = prepare(&h, &err);
	if (r == 0)
		r = get_ready(&h, &err);
	if (r == 0)
		r = serve(&h, &err);
	if (r < 0 && err.code)
		log_error("%s", err.text);
	leave_server(&h);
	unixsock_close(&h.sock);
	pool_free(h.pool);
	handoff_free(h.handoff);
	plan_release(&h.plan);
	remote_free(h.remote);
	tls_free(h.tls);
	cleanup_close_fd(&h.signal_fd);
	return r < 0 ? 1 : 0;
}
