/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * criu-lazy lazy-pages: the restore helper, up to the point where a worker serves (worker.c).
 *
 * Everything that can be wrong with options, images and socket is found before "ready" is said, so
 * that no process depends on a helper that cannot help it.
 */
#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/cmd/cmd.h"
#include "criu-lazy/cmd/helper.h"
#include "criu-lazy/engine/journal.h"
#include "criu-lazy/os/caps.h"
#include "criu-lazy/os/daemon.h"
#include "criu-lazy/os/tls.h"
#include "criu-lazy/source/remote.h"
#include "criu-lazy/source/source.h"
#include "images/identity.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static void end_signals(sigset_t *ret)
{
	sigemptyset(ret);
	sigaddset(ret, SIGTERM);
	sigaddset(ret, SIGINT);
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

/* --- the guardian's ----------------------------------------------------------------------------
 */

static int make_journals(struct helper *h, uint64_t identity, struct err *err)
{
	const struct journal_options options = {.name = "criu-lazy journal",
	                                        .identity = identity,
	                                        .state_size = sizeof(struct engine_stats)};
	const struct journal_options handoff = {.name = "criu-lazy handoff journal",
	                                        .identity = identity,
	                                        .state_size = sizeof(*h->memory) + h->plan.nr};
	unsigned i;
	int r;

	h->journals = calloc(h->options.jobs, sizeof(struct journal *));
	if (!h->journals)
		return err_set(err, ENOMEM, "journals");
	r = journal_new(&handoff, &h->handoff_journal, err);
	for (i = 0; i < h->options.jobs && r == 0; i++)
		r = journal_new(&options, &h->journals[i], err);
	if (r == 0)
		h->memory = journal_state(h->handoff_journal);
	return r;
}

/*
 * From here on descriptors are shared, so what belongs to the guardian is closed by nobody: the
 * number may name something else by then.
 */
static int lend(struct helper *h, struct err *err)
{
	size_t i;

	for (i = 0; i < h->plan.nr; i++)
		if (h->plan.processes[i].source)
			source_lend(h->plan.processes[i].source);
	return fdset_open(&h->lent, err);
}

static uint64_t progress(const void *helper)
{
	const struct helper *h = helper;
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < h->options.jobs; i++) {
		const struct engine_stats *stats = journal_state(h->journals[i]);

		sum += stats->pages_fault + stats->pages_background + stats->pages_zero +
		       stats->pages_lost + stats->sessions;
	}
	return sum;
}

static int be_guardian(struct helper *h, struct err *err)
{
	struct guarded guarded = {
		.work = helper_work,
		.last_resort = helper_last_resort,
		.progress = progress,
		.cookie = h,
		.on_death = h->options.on_guardian_death,
	};
	int r = make_journals(h, 0, err);

	if (r == 0)
		r = lend(h, err);
	if (r < 0)
		return r;
	guarded.memory = &h->memory->guard;
	return guardian_run(&guarded, err);
}

static int go_away(const struct helper *h, struct err *err)
{
	const struct lazy_options *o = &h->options;
	int r = 0;

	if (o->common.daemon)
		r = daemon_enter(o->common.pidfile, err);
	else if (o->common.pidfile)
		r = daemon_write_pidfile(o->common.pidfile, getpid(), err);
	return r < 0 ? r : drop_privileges(err);
}

/* Memory only: who shares the descriptors may still be about to end. */
static void release(struct helper *h)
{
	unsigned i;

	for (i = 0; h->journals && i < h->options.jobs; i++)
		journal_free(h->journals[i]);
	free(h->journals);
	journal_free(h->handoff_journal);
	fdset_release(&h->lent);
	plan_release(&h->plan);
	remote_free(h->remote);
	tls_free(h->tls);
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
		r = go_away(&h, &err);
	if (r == 0)
		r = h.options.no_guardian ? helper_work(&h, 0, false) : be_guardian(&h, &err);
	if (r < 0) {
		log_error("%s", err.text);
		if (h.remote)
			remote_abort(h.remote);
		unixsock_close(&h.sock);
	}
	release(&h);
	return r ? 1 : 0;
}
