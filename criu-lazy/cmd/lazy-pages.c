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
#include <time.h>

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

	daemon_hide();
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

/* --- started again ---------------------------------------------------------------------------- */

static struct journal_options journal_options(const struct helper *h)
{
	return (struct journal_options){.name = "criu-lazy journal",
	                                .identity = h->identity,
	                                .state_size = sizeof(struct engine_state)};
}

static size_t store_memory_at(const struct helper *h)
{
	return (sizeof(struct helper_memory) + h->plan.nr + 7) & ~(size_t)7;
}

static struct journal_options handoff_journal_options(const struct helper *h)
{
	return (struct journal_options){
		.name = "criu-lazy handoff journal",
		.identity = h->identity,
		.state_size = store_memory_at(h) +
	                      (h->options.fd_store ? sizeof(struct fdstore_memory) : 0)};
}

static struct fdstore_memory *fdstore_memory(const struct helper *h)
{
	return (struct fdstore_memory *)(void *)((uint8_t *)h->memory + store_memory_at(h));
}

static bool anybody_came(const struct helper *h)
{
	return fdstore_found_fd(&h->store, KEPT_UFFD) >= 0 ||
	       fdstore_found_fd(&h->store, KEPT_PIDFD) >= 0 ||
	       fdstore_found_fd(&h->store, KEPT_CONNECTION) >= 0;
}

/* As many engines as there were, whatever the options say now. */
static int adopt_journals(struct helper *h, struct err *err)
{
	const struct journal_options options = journal_options(h),
				     handoff = handoff_journal_options(h);
	unsigned jobs = 0;
	size_t i;
	int r = journal_adopt(&handoff, fdstore_found_fd(&h->store, KEPT_HANDOFF),
	                      &h->handoff_journal, err);

	h->journals = calloc(h->store.nr_found, sizeof(struct journal *));
	if (!h->journals)
		return err_set(err, ENOMEM, "journals");
	for (i = 0; i < h->store.nr_found && r == 0; i++)
		if (h->store.found[i].kind == KEPT_JOURNAL)
			r = journal_adopt(&options, h->store.found[i].fd, &h->journals[jobs++],
			                  err);
	h->options.jobs = jobs;
	if (r == 0)
		h->memory = journal_state(h->handoff_journal);
	return r;
}

static void forget_journals(struct helper *h)
{
	unsigned i;

	for (i = 0; i < h->options.jobs; i++)
		journal_free(h->journals[i]);
	free(h->journals);
	journal_free(h->handoff_journal);
	h->journals = NULL;
	h->handoff_journal = NULL;
	h->memory = NULL;
}

/*
 * Whoever was before us may have been killed before it was ready: then nobody depends on what it
 * has left, and this is a start like any other.
 */
static int take_over(struct helper *h, struct err *err)
{
	unsigned jobs = h->options.jobs;
	int r;

	if (fdstore_found_fd(&h->store, KEPT_HANDOFF) < 0) {
		if (anybody_came(h))
			return err_set(err, EPROTO, "a journal is missing");
		fdstore_discard(&h->store);
		return 0;
	}
	r = adopt_journals(h, err);
	if (r < 0)
		return r;
	h->over = h->memory->leaving;
	if (!h->over && !h->options.jobs && anybody_came(h))
		return err_set(err, EPROTO, "a journal is missing");
	if (!h->memory->ready && !anybody_came(h)) {
		forget_journals(h);
		fdstore_discard(&h->store);
		h->options.jobs = jobs;
		return 0;
	}
	log_warn("started again, with %zu descriptors that were kept: going on", h->store.nr_found);
	fdstore_attach(&h->store, fdstore_memory(h));
	h->memory->guard.ended = 0;
	h->restarted = true;
	h->first_life = h->memory->guard.worker_pidfd != 0;
	return 0;
}

/*
 * Threads wait, and stopping them can wait, too, as it does when a connection is lost.  CRIU's own
 * servers accept one connection for all their life.
 */
static int connect_again(struct helper *h, struct remote_options *remote, struct err *err)
{
	static const struct timespec second = {.tv_sec = 1};
	int64_t until = clock_now() + remote->reconnect_timeout;
	bool told = false;
	int r;

	if (!h->memory->lanes)
		return err_set(err, ENOTCONN,
		               "the page server accepts no second connection from who was killed");
	remote->protocol = REMOTE_LANES;
	for (;;) {
		struct err why = {0};

		r = remote_connect(remote, &h->remote, &why);
		if (r == 0)
			return 0;
		if (clock_now() >= until) {
			*err = why;
			return r;
		}
		if (!told)
			log_warn("%s; trying again", why.text);
		told = true;
		nanosleep(&second, NULL);
	}
}

/* Before anybody depends on us: is the page server there, and is it the right one? */
static int connect_to_server(struct helper *h, const struct plan_options *plan, struct err *err)
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
		.images = h->identity,
		.first_pid = h->plan.first_pid,
		.first_vaddr = h->plan.first_vaddr,
		.tell = tell,
	};
	sigset_t set;
	int r = 0;

	/* From here on we leave in order (leave_server()): a dumper's processes hang on it. */
	end_signals(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (r == 0)
		r = net_tls(&o->net, &h->tls, err);
	remote.tls = h->tls;
	if (r == 0 && h->restarted)
		r = connect_again(h, &remote, err);
	else if (r == 0)
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
	r = images_identity(images, &h->identity, err);
	if (r < 0)
		return r;
	signal(SIGPIPE, SIG_IGN);
	if (o->page_server && o->jobs > 1) {
		log_warn("--jobs: one thread is enough for a page server");
		o->jobs = 1;
	}
	if (h->store.nr_found) {
		r = take_over(h, err);
		if (r < 0)
			return err_wrap(err, "what the service manager has kept cannot be used");
	}
	if (h->over)
		return 0;
	if (o->page_server) {
		r = connect_to_server(h, &plan, err);
		if (r < 0)
			return r;
	}
	if (!h->restarted)
		return unixsock_listen(o->socket, &h->sock, err);
	r = fdstore_found_fd(&h->store, KEPT_SOCKET);
	if (r < 0) { /* the restorer has said everything: nobody listens any more */
		snprintf(h->sock.path, sizeof(h->sock.path), "%s", o->socket);
		return 0;
	}
	return unixsock_adopt(o->socket, r, fdstore_found_fd(&h->store, KEPT_LOCK), &h->sock, err);
}

/* --- the guardian's --------------------------------------------------------------------------- */

static int make_journals(struct helper *h, struct err *err)
{
	const struct journal_options options = journal_options(h),
				     handoff = handoff_journal_options(h);
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

/* Before anybody depends on it: all that does not come and go. */
static int fill_store(struct helper *h, struct err *err)
{
	size_t wanted = 2 * h->plan.nr + h->options.jobs + 4;
	struct remote_stats stats = {0};
	unsigned i;

	if (!fdstore_has_room(&h->store, wanted))
		return err_set(
			err, EMFILE,
			"FileDescriptorStoreMax=%ld is too little for %zu processes: they take "
			"%zu, and two more for each that is forked while memory is missing",
			h->store.room, h->plan.nr, wanted);
	if (h->remote)
		remote_stats(h->remote, &stats);
	h->memory->lanes = stats.lanes;
	fdstore_attach(&h->store, fdstore_memory(h));
	fdstore_keep(&h->store, KEPT_HANDOFF, journal_fd(h->handoff_journal));
	for (i = 0; i < h->options.jobs; i++)
		fdstore_keep(&h->store, KEPT_JOURNAL, journal_fd(h->journals[i]));
	fdstore_keep(&h->store, KEPT_LOCK, h->sock.lock_fd);
	fdstore_keep(&h->store, KEPT_SOCKET, h->sock.fd);
	if (!fdstore_sync(&h->store))
		return err_set(err, ETIMEDOUT, "the service manager does not take descriptors");
	return 0;
}

/*
 * From here on descriptors are shared, so what belongs to the guardian is closed by nobody: the
 * number may name something else by then.
 */
static int lend(struct helper *h, struct err *err)
{
	cleanup_fdset struct fdset open = {0};
	size_t i;
	int r;

	for (i = 0; i < h->plan.nr; i++)
		if (h->plan.processes[i].source)
			source_lend(h->plan.processes[i].source);
	r = fdset_open(&open, err);
	/* But what a restored process has brought is the workers'. */
	for (i = 0; i < open.nr && r == 0; i++) {
		struct fdstore_memory *kept = h->store.memory;
		int fd = open.fds[i];
		char kind = kept && fd < FDSTORE_NUMBERS ? kept->place[fd].kept : 0;

		if (kind != KEPT_UFFD && kind != KEPT_PIDFD && kind != KEPT_CONNECTION)
			r = fdset_add(&h->lent, fd) < 0 ? err_set(err, ENOMEM, "descriptors") : 0;
	}
	return r;
}

static void say_ready(void *helper)
{
	struct helper *h = helper;

	fdstore_ready(&h->store);
}

static void hand_over(void *helper)
{
	struct helper *h = helper;

	fdstore_hand_over(&h->store, &h->sock);
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
		.ready = say_ready,
		.hand_over = hand_over,
		.cookie = h,
		.on_death = h->options.on_guardian_death,
	};
	int r = h->restarted ? 0 : make_journals(h, err);

	if (r == 0 && h->store.keeps && !h->restarted)
		r = fill_store(h, err);
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
	fdstore_release(&h->store);
}

int cmd_lazy_pages(int argc, char **argv)
{
	struct helper h = {
		.sock = {.fd = -1, .lock_fd = -1}, .signal_fd = -1, .store = FDSTORE_NONE};
	struct err err = {0};
	int r;

	r = lazy_options_parse(argc, argv, &h.options, &err);
	if (r == 0 && h.options.common.help) {
		lazy_options_help();
		return 0;
	}
	if (r == 0)
		r = fdstore_open(&h.store, h.options.fd_store, &err);
	if (r == 0)
		r = prepare(&h, &err);
	if (r == 0)
		r = go_away(&h, &err);
	if (r == 0)
		r = h.over                  ? h.memory->leaving - 1
		    : h.options.no_guardian ? helper_work(&h, 0, false)
		                            : be_guardian(&h, &err);
	if (r < 0) {
		log_error("%s", err.text);
		if (h.remote)
			remote_abort(h.remote);
		fdstore_abandon(&h.store);
		unixsock_close(&h.sock);
	} else {
		fdstore_clear(&h.store);
	}
	release(&h);
	return r ? 1 : 0;
}
