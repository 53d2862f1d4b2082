/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The worker of `criu-lazy lazy-pages`: engines, socket, signals, until everything is there.
 *
 * A second and later one finds in the journals what the one before has done.  Whatever descriptor
 * that one had and nobody knows of is closed, when it is clear which are needed.
 */
#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/cmd/helper.h"
#include "criu-lazy/cmd/progress.h"
#include "criu-lazy/engine/journal.h"
#include "criu-lazy/os/daemon.h"
#include "criu-lazy/os/uffd.h"
#include "criu-lazy/source/remote.h"
#include "criu-lazy/source/source.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int64_t REDRAW_EVERY = 100 * NSEC_PER_MSEC;
static const int64_t STORE_AGAIN = 20 * NSEC_PER_MSEC; /* what the manager did not take */

static void on_signal(struct watch *w, uint32_t events)
{
	struct helper *h = (struct helper *)((char *)w - offsetof(struct helper, signal_watch));
	struct signalfd_siginfo info;

	(void)events;
	while (read(h->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		bool missing = !h->told_to_end && pool_nr_sessions(h->pool);

		h->told_to_end = true;
		if (missing && h->options.force) {
			log_warn("signal %u, --force: giving up what is missing", info.ssi_signo);
			pool_abandon(h->pool);
			continue;
		}
		if (missing)
			log_warn("signal %u: ending before everything is there would turn missing "
			         "memory into zeros; bringing the rest now",
			         info.ssi_signo);
		pool_hurry(h->pool);
	}
}

static int watch_signals(struct helper *h, struct err *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGHUP, SIG_IGN); /* a closed terminal must not take memory with it */
	h->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (h->signal_fd < 0)
		return err_set(err, errno, "signalfd");
	h->signal_watch = (struct watch){.ready = on_signal};
	return ring_watch(engine_ring(pool_first(h->pool)), &h->signal_watch, h->signal_fd, POLLIN,
	                  err);
}

static struct source *plan_source(void *cookie, uint32_t index)
{
	const struct helper *h = cookie;

	if (index >= h->plan.nr || !h->plan.processes[index].source)
		return NULL;
	return source_share(h->plan.processes[index].source);
}

static void keep_or_drop(void *store, enum engine_kept what, int fd, bool keep)
{
	if (keep)
		fdstore_keep(store, (char)what, fd);
	else
		fdstore_drop(store, fd);
}

/* A copier for each engine, where the processors are enough for both. */
static int make_pool(struct helper *h, bool resume, struct err *err)
{
	struct engine_options engine = h->options.engine;
	const struct engine_resume how = {
		.source = plan_source,
		.cookie = h,
		.taken = h->memory ? h->memory->taken : NULL,
		.nr = h->plan.nr,
	};

	if (h->store.memory) {
		engine.keep = keep_or_drop;
		engine.keep_cookie = &h->store;
	}
	engine.copier = !h->remote && engine.background == BACKGROUND_FULL &&
	                2 * (long)h->options.jobs <= sysconf(_SC_NPROCESSORS_ONLN);
	return pool_new(&engine, h->options.jobs, h->journals, resume ? &how : NULL, &h->pool, err);
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
		if (p->nr_lazy && p->source && pages <= limit)
			p->expected = pool_expect(h->pool, p->tracker, p->source);
	}
}

/* --- after another worker's death ------------------------------------------------------------- */

static int keep(void *set, int fd)
{
	return fdset_add(set, fd);
}

/*
 * The last worker had connections of which nothing is noted, as they have not said anything, and
 * rings, timers and so on of its own.  before: what was open when this worker began.
 */
static int sort_descriptors(struct helper *h, const struct fdset *before, struct err *err)
{
	cleanup_fdset struct fdset needed = {0};
	int r = 0;
	bool done = handoff_state(h->handoff, err) == HANDOFF_DONE;
	size_t i;

	for (i = 0; i < h->lent.nr && r == 0; i++) {
		int fd = h->lent.fds[i];

		if ((done && (fd == h->sock.fd || fd == h->sock.lock_fd)) ||
		    (h->memory->ready && fd == h->options.common.status_fd))
			continue; /* closed since; the number may be anybody's */
		r = fdset_add(&needed, fd);
	}
	if (r == 0)
		r = fdset_add(&needed, h->memory->guard.worker_pidfd);
	if (r == 0 && h->options.on_guardian_death != GUARD_DEATH_NOTHING)
		r = fdset_add(&needed, h->memory->guard.guardian_pidfd);
	if (r == 0)
		r = handoff_descriptors(h->handoff, keep, &needed);
	if (r == 0)
		r = pool_descriptors(h->pool, keep, &needed);
	if (r < 0)
		return err_set(err, -r, "descriptors of the last worker");
	for (i = 0; i < before->nr; i++) {
		int fd = before->fds[i];

		if (fdset_has(&needed, fd))
			continue;
		if (unixsock_is_connection(&h->sock, fd))
			handoff_found(h->handoff, fd);
		else
			close(fd);
	}
	if (done)
		unixsock_forget(&h->sock);
	r = handoff_descriptors(h->handoff, keep, &needed);
	if (r < 0)
		return err_set(err, -r, "descriptors of the last worker");
	fdstore_settle(&h->store, &needed);
	return 0;
}

/* A manager may listen to the process only that it has started. */
static void say_ready(struct helper *h)
{
	if (h->store.fd >= 0 && h->memory)
		kill(getppid(), SIGUSR1);
	else
		fdstore_ready(&h->store);
}

static int get_ready(struct helper *h, unsigned life, struct err *err)
{
	bool resume = life > 0, first = life == h->first_life;
	const struct handoff_memory memory = {.journal = h->handoff_journal,
	                                      .taken = h->memory ? h->memory->taken : NULL};
	cleanup_fdset struct fdset before = {0};
	int r = resume ? fdset_open(&before, err) : 0;

	if (r == 0 && resume && !first)
		fdstore_again(&h->store);
	if (r == 0 && resume && !first && h->remote)
		remote_resume(h->remote);
	if (r == 0) {
		r = make_pool(h, resume, err);
		h->damaged = resume && r == -EPROTO;
	}
	if (r == 0)
		r = watch_signals(h, err);
	if (r == 0 && h->remote)
		r = remote_start(h->remote, engine_ring(pool_first(h->pool)), err);
	if (r == 0)
		r = handoff_new(h->pool, &h->plan, &h->sock, h->memory ? &memory : NULL,
		                &h->handoff, err);
	if (r == 0 && resume)
		r = sort_descriptors(h, &before, err);
	if (r == 0)
		r = pool_start(h->pool, err);
	if (r < 0)
		return r;
	if (h->memory && h->memory->ready) {
		if (first)
			say_ready(h);
		return 0;
	}
	expect_all(h);
	log_info("waiting for a restore at %s", h->options.socket);
	r = daemon_ready(h->options.common.status_fd, err);
	if (h->memory)
		h->memory->ready = 1;
	if (r == 0)
		say_ready(h);
	return r;
}

/* --- serving ---------------------------------------------------------------------------------- */

struct drawing {
	bool wanted, drawn;
	int64_t start, next;
};

static void draw(struct helper *h, struct drawing *d, enum handoff_state state)
{
	struct engine_stats stats;
	int64_t now = clock_now();

	if (!d->start && state != HANDOFF_LISTENING)
		d->start = now;
	if (!d->wanted || !d->start || now < d->next)
		return;
	pool_stats(h->pool, &stats);
	progress_draw(&stats, d->start, now);
	d->drawn = true;
	d->next = now + REDRAW_EVERY;
}

/*
 * Until everything is there.  Returns 0, -EIO when something was lost, or why it cannot go on.
 * *ret_over: nobody depends on us any more.
 */
static int serve(struct helper *h, bool *ret_over, struct err *err)
{
	struct drawing d = {.wanted = h->options.progress && isatty(STDERR_FILENO)};
	struct err failure = {0};
	struct engine_stats stats;
	enum handoff_state state;
	bool closed = false;
	int64_t until;
	int r = 0;

	for (;;) {
		size_t nr = pool_nr_sessions(h->pool);

		state = handoff_state(h->handoff, &failure);
		if (state == HANDOFF_FAILED)
			pool_abandon(h->pool); /* for all that have come */
		if ((state >= HANDOFF_DONE || h->abandoned) && !nr)
			break;
		if (state == HANDOFF_LISTENING && h->told_to_end) {
			log_info("told to end before a restore began");
			*ret_over = true;
			return 0;
		}
		if (state == HANDOFF_DONE && !closed) {
			fdstore_drop(&h->store, h->sock.fd);
			fdstore_drop(&h->store, h->sock.lock_fd);
			unixsock_close(&h->sock); /* one tree for each helper, as in CRIU */
			closed = true;
		}
		draw(h, &d, state);
		until = d.wanted && d.start ? d.next : CLOCK_NEVER;
		if (fdstore_flush(&h->store) && until > clock_now() + STORE_AGAIN)
			until = clock_now() + STORE_AGAIN;
		r = pool_turn(h->pool, until, err);
		if (r < 0)
			break;
	}
	if (d.drawn)
		progress_end();
	if (r < 0)
		return r;
	*ret_over = true;
	if (state == HANDOFF_FAILED) {
		*err = failure;
		return -err->code;
	}
	if (h->abandoned)
		return -ECANCELED;
	pool_stats(h->pool, &stats);
	progress_summary(&stats, d.start, clock_now());
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

int helper_work(void *helper, unsigned life, bool abandon)
{
	struct helper *h = helper;
	struct err err = {0};
	bool over = false;
	int r;

	if (h->memory && h->memory->leaving)
		return h->memory->leaving - 1; /* the last one died on its way out */
	r = get_ready(h, life, &err);
	h->abandoned = abandon;
	if (r == 0 && abandon)
		pool_abandon(h->pool);
	if (r == 0)
		r = serve(h, &over, &err);
	else
		over = !life; /* nobody has handed over anything yet */
	if (r < 0 && err.code)
		log_error("%s", err.text);
	if (!over && h->memory)
		return h->damaged ? WORKER_NEVER : WORKER_AGAIN; /* leaving everything */
	if (!over)
		pool_abandon(h->pool);
	if (h->memory)
		h->memory->leaving = r < 0 ? 2 : 1;
	leave_server(h);
	if (h->handoff)
		handoff_refuse(h->handoff);
	unixsock_close(&h->sock);
	pool_free(h->pool);
	handoff_free(h->handoff);
	cleanup_close_fd(&h->signal_fd);
	return r < 0 ? 1 : 0;
}

/* --- when no worker can ----------------------------------------------------------------------- */

static bool anybody_depends(void)
{
	cleanup_fdset struct fdset open = {0};
	bool fixed, any = false;
	size_t i;

	if (fdset_open(&open, NULL) < 0)
		return true;
	for (i = 0; i < open.nr; i++)
		if (uffd_is_one(open.fds[i], &fixed) && uffd_quiet(open.fds[i]) != UFFD_EXITED)
			any = true;
	return any;
}

/* A journal may be damaged: who is named by nothing but an open pidfd is one of them, too. */
static void kill_by_descriptors(const struct helper *h)
{
	const struct guard_memory *guard = &h->memory->guard;
	cleanup_fdset struct fdset open = {0};
	size_t i;

	if (fdset_open(&open, NULL) < 0)
		return;
	for (i = 0; i < open.nr; i++) {
		int fd = open.fds[i];

		if (fd != guard->guardian_pidfd && fd != guard->worker_pidfd &&
		    !fdset_has(&h->lent, fd)) /* EBADF: it is no pidfd */
			syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
	}
}

void helper_last_resort(void *helper)
{
	static const struct timespec second = {.tv_sec = 1};
	const struct helper *h = helper;
	unsigned i;

	for (i = 0; i < h->options.jobs; i++)
		engine_kill_recorded(h->journals[i]);
	kill_by_descriptors(h);
	while (anybody_depends()) {
		log_error("processes are left whose memory is not complete and which cannot be "
		          "named: kill them; until then their threads wait");
		nanosleep(&second, NULL);
	}
}
