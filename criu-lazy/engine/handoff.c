/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/engine/handoff.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/engine/journal.h"
#include "criu-lazy/engine/plan.h"
#include "criu-lazy/engine/pool.h"
#include "criu-lazy/os/ring.h"
#include "criu-lazy/os/uffd.h"
#include "proto/handshake.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

enum { ADOPT_AGAIN = 1 };

enum record_type { RECORD_ACCEPT = 1, RECORD_MESSAGE, RECORD_HANG_UP };

struct handoff {
	struct pool *pool;
	struct plan *plan;
	const struct unixsock *sock;
	struct watch listen_watch;
	struct watch conn_watch;
	struct handoff_memory memory; /* journal NULL: none */
	bool replaying;
	int conn;
	bool heard; /* the peer has said something */
	enum handoff_state state;
	struct handshake handshake;
	struct err err;
};

static bool records(const struct handoff *h)
{
	return h->memory.journal && !h->replaying;
}

static void hang_up(struct handoff *h)
{
	if (h->conn < 0)
		return;
	if (records(h))
		journal_add(h->memory.journal, RECORD_HANG_UP, 0, NULL, 0, NULL, 0);
	if (!h->replaying) {
		ring_unwatch(engine_ring(pool_first(h->pool)), &h->conn_watch);
		engine_keep(pool_first(h->pool), KEPT_CONNECTION, h->conn, false);
		close(h->conn);
	}
	h->conn = -1;
}

/*
 * A userfaultfd that nobody will serve: its process must not outlive it, or it reads zeros.  The
 * sender is the process itself (SO_PASSCRED), and as it has waited for the restorer since, or for a
 * page, the pid is still its own.
 */
static void refuse_sender(pid_t pid)
{
	if (pid > 0 && kill(pid, SIGKILL) == 0)
		log_warn("process %d of this host: killed: its memory will not be completed", pid);
}

/* The restorer cannot send any more from now on; who has sent something is refused. */
static void refuse_queued(int conn)
{
	struct unixsock_msg msg;
	uint8_t bytes[8];

	shutdown(conn, SHUT_RD);
	while (unixsock_peek(conn, &msg) == 0 && msg.nr) {
		if (msg.nr_fds)
			refuse_sender(msg.pid);
		if (recv(conn, bytes, msg.nr, MSG_DONTWAIT) < 0)
			return;
	}
}

static void fail(struct handoff *h, const struct err *err)
{
	h->err = *err;
	h->state = HANDOFF_FAILED;
	if (h->conn >= 0 && !h->replaying)
		refuse_queued(h->conn);
	hang_up(h);
}

/*
 * Who sent the message is the task itself (SO_PASSCRED), so this pidfd is the process to stop if
 * its memory is lost.  Without one only poisoning is left.
 */
static int open_pidfd(pid_t pid)
{
	return pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

static int adopt_task(struct handoff *h, struct unixsock_msg *msg, struct err *err)
{
	uint32_t pid = h->handshake.pid;
	struct plan_process *p = plan_claim(h->plan, pid);
	struct engine_process process = {.pid = pid, .uffd = msg->fd};
	bool fixed = false;

	if (p && h->memory.taken) {
		process.taken = &h->memory.taken[p - h->plan->processes];
		if (*process.taken)
			return 0; /* by an engine, before the worker died */
	}
	if (!p || !p->has_memory || !uffd_is_one(msg->fd, &fixed)) {
		if (!h->replaying) {
			if (uffd_is_one(msg->fd, &fixed))
				refuse_sender(msg->pid);
			close(msg->fd);
		}
		if (!p)
			return err_set(err, EPROTO,
			               "process %u is not in pstree.img, or has reported twice: is "
			               "this the directory that is being restored?",
			               pid);
		return err_set(err, EPROTO, "process %u: %s", pid,
		               p->has_memory ? "the descriptor it sent is no userfaultfd"
		                             : "it is alive, but the image has no memory for it");
	}
	if (fixed)
		log_warn("process %u: its userfaultfd was blocking", pid);
	process.pidfd = open_pidfd(msg->pid);
	/* In this order: whose memory is kept can be named. */
	engine_keep(pool_first(h->pool), KEPT_PIDFD, process.pidfd, true);
	engine_keep(pool_first(h->pool), KEPT_UFFD, process.uffd, true);
	process.tracker = p->tracker;
	process.source = p->source;
	process.expected = p->expected;
	process.index = (uint32_t)(p - h->plan->processes);
	p->tracker = NULL;
	p->source = NULL;
	log_info("pid %u: received its userfaultfd, %llu lazy pages%s", pid,
	         (unsigned long long)p->nr_lazy,
	         process.pidfd < 0 ? " (process not identified)" : "");
	if (pool_adopt(h->pool, &process, err) == 0)
		return 0;
	if (h->memory.journal) /* it is not the restore that has failed: the next worker adopts */
		return ADOPT_AGAIN;
	refuse_sender(msg->pid);
	return -err->code;
}

/* What came is complete to the kernel; is it, to the protocol? */
static int feed(struct handoff *h, const void *bytes, struct unixsock_msg *msg, struct err *err)
{
	int event;

	if (msg->nr_fds > 1)
		return err_set(err, EPROTO, "the restorer sent %d descriptors at once",
		               msg->nr_fds);
	event = handshake_feed(&h->handshake, bytes, msg->nr, msg->fd >= 0, err);
	if (event == HANDSHAKE_TASK)
		return adopt_task(h, msg, err);
	if (msg->fd >= 0 && !h->replaying)
		close(msg->fd);
	if (event < 0)
		return event;
	if (event == HANDSHAKE_ZOMBIE) {
		const struct plan_process *p = plan_claim(h->plan, h->handshake.pid);

		if (!p)
			return err_set(err, EPROTO,
			               "zombie %u is not in pstree.img, or has reported twice",
			               h->handshake.pid);
		if (p->has_memory)
			return err_set(err, EPROTO,
			               "process %u: it is a zombie, but the image has memory for "
			               "it: is this the directory that is being restored?",
			               h->handshake.pid);
		log_info("pid %u: zombie", h->handshake.pid);
	} else if (event == HANDSHAKE_FINISHED) {
		log_info("the restore is finished, background copying may start");
		h->state = HANDOFF_DONE;
		pool_begin_background(h->pool);
	}
	return 0;
}

static void listen_ready(struct watch *w, uint32_t events);
static int on_message(struct handoff *h, const void *bytes, struct unixsock_msg *msg);

/*
 * The kernel puts what comes, descriptors included, into the journal by itself: there is no moment
 * at which it has been received and nobody could know.
 */
static int receive(struct handoff *h, uint8_t *bytes, struct unixsock_msg *msg)
{
	/* After the end one more byte is asked for: there must be none. */
	size_t want = handshake_want(&h->handshake);
	struct unixsock_raw own = {0}, *raw = &own;
	bool kept = records(h);
	int r;

	if (kept) {
		raw = journal_open(h->memory.journal, RECORD_MESSAGE, 0, sizeof(*raw));
		if (!raw)
			return -ENOMEM;
	}
	r = unixsock_receive(h->conn, want ? want : 1, raw);
	if (r == 0) {
		memcpy(bytes, raw->bytes, sizeof(raw->bytes));
		r = unixsock_parse(raw, true, msg);
	}
	if (kept)
		journal_seal(h->memory.journal, raw->got > 0);
	return r;
}

static void begin(struct handoff *h, int fd)
{
	h->conn = fd;
	h->heard = false;
	h->state = HANDOFF_TALKING;
	h->handshake = (struct handshake){.nr_expected = h->plan->nr};
}

static void conn_ready(struct watch *w, uint32_t events)
{
	struct handoff *h = (struct handoff *)((char *)w - offsetof(struct handoff, conn_watch));
	struct unixsock_msg msg;
	struct err err = {0};
	uint8_t bytes[8];
	int r;

	(void)events;
	while (h->conn >= 0) {
		r = receive(h, bytes, &msg);
		if (r == -EAGAIN)
			return;
		if (h->state == HANDOFF_DONE) {
			if (r == 0 && msg.fd >= 0)
				close(msg.fd);
			if (r == 0 && msg.nr)
				log_warn("the restorer goes on talking after \"finished\"");
			hang_up(h);
			return;
		}
		if (r < 0) {
			err_set(&err, -r, "receiving from the restorer");
			fail(h, &err);
			return;
		}
		if (!msg.nr && !h->heard) {
			log_warn("somebody connected to %s and left without a word", h->sock->path);
			h->state = HANDOFF_LISTENING;
			hang_up(h);
			if (h->memory.journal)
				journal_empty(h->memory.journal);
			return;
		}
		if (on_message(h, bytes, &msg) == ADOPT_AGAIN)
			return;
	}
}

/* The restorer has said something (or, without a byte, is gone). */
static int on_message(struct handoff *h, const void *bytes, struct unixsock_msg *msg)
{
	struct err err = {0};
	int r;

	if (!h->heard) {
		h->heard = true;
		if (!h->replaying)
			listen_ready(&h->listen_watch, 0); /* who waits is sent away now */
	}
	r = msg->nr ? feed(h, bytes, msg, &err) : handshake_eof(&h->handshake, &err);
	if (r < 0)
		fail(h, &err);
	return r;
}

static int watch_connection(struct handoff *h, struct err *err)
{
	return ring_watch(engine_ring(pool_first(h->pool)), &h->conn_watch, h->conn,
	                  POLLIN | POLLRDHUP, err);
}

static void listen_ready(struct watch *w, uint32_t events)
{
	struct handoff *h = (struct handoff *)((char *)w - offsetof(struct handoff, listen_watch));

	(void)events;
	for (;;) {
		struct err err = {0};
		int fd;

		/* The last peer's poll is still being cancelled: conn_gone() comes back here. */
		if (h->state == HANDOFF_LISTENING && h->conn_watch.state != WATCH_IDLE)
			return;
		/*
		 * Who has not said anything may be somebody who only looked whether there is a
		 * helper: the restorer behind it waits until it has spoken or left.
		 */
		if (h->state == HANDOFF_TALKING && !h->heard)
			return;
		fd = unixsock_accept(h->sock, &err);
		if (fd == -EAGAIN)
			return;
		if (fd < 0) {
			log_warn("connection refused: %s", err.text);
			if (fd == -EPERM)
				continue;
			ring_retry(engine_ring(pool_first(h->pool)), &h->listen_watch);
			return;
		}
		if (h->state != HANDOFF_LISTENING) {
			log_warn("a second restorer connected to %s: sent away", h->sock->path);
			refuse_queued(fd);
			close(fd);
			continue;
		}
		handoff_found(h, fd);
	}
}

void handoff_found(struct handoff *h, int fd)
{
	struct err err = {0};
	int r = 0;

	engine_keep(pool_first(h->pool), KEPT_CONNECTION, fd, true);
	begin(h, fd);
	if (records(h))
		r = journal_add(h->memory.journal, RECORD_ACCEPT, 0, &fd, sizeof(fd), NULL, 0);
	if (r < 0)
		err_set(&err, -r, "a restorer's connection");
	else
		r = watch_connection(h, &err);
	if (r < 0)
		fail(h, &err);
}

static void conn_gone(struct watch *w)
{
	struct handoff *h = (struct handoff *)((char *)w - offsetof(struct handoff, conn_watch));

	if (h->state == HANDOFF_LISTENING)
		listen_ready(&h->listen_watch, 0);
}

/* --- after another worker's death ------------------------------------------------------------- */

static void replay_record(struct handoff *h, const struct journal_record *record,
                          const void *payload)
{
	const struct unixsock_raw *raw = payload;
	struct unixsock_msg msg;
	struct err err = {0};

	if (record->type == RECORD_ACCEPT && record->len >= sizeof(int)) {
		begin(h, *(const int *)payload);
	} else if (record->type == RECORD_HANG_UP) {
		if (h->state == HANDOFF_TALKING && !h->heard)
			h->state = HANDOFF_LISTENING;
		hang_up(h);
	} else if (record->type == RECORD_MESSAGE && record->len >= sizeof(*raw)) {
		if (h->state != HANDOFF_TALKING || !unixsock_has_come(raw))
			return;
		if (unixsock_parse(raw, false, &msg) < 0) {
			err_set(&err, EMFILE, "receiving from the restorer");
			fail(h, &err);
			return;
		}
		on_message(h, raw->bytes, &msg);
	}
}

static int replay(struct handoff *h, struct err *err)
{
	struct journal_record record;
	const void *payload;
	struct err lost = {0};
	size_t at = 0;
	int r = journal_load(h->memory.journal, err);

	if (r < 0)
		return r;
	h->replaying = true;
	while (h->state != HANDOFF_FAILED &&
	       journal_next(h->memory.journal, &at, &record, &payload))
		replay_record(h, &record, payload);
	h->replaying = false;
	if (h->conn >= 0 && !unixsock_is_connection(h->sock, h->conn)) {
		h->conn = -1; /* the number is somebody else's */
		err_set(&lost, ENOTCONN, "the connection with the restorer was not kept");
		if (h->state != HANDOFF_DONE)
			fail(h, &lost);
	}
	engine_keep(pool_first(h->pool), KEPT_CONNECTION, h->conn, true);
	return h->conn >= 0 ? watch_connection(h, err) : 0;
}

int handoff_connection(const struct handoff *h)
{
	return h->conn;
}

int handoff_new(struct pool *pool, struct plan *plan, const struct unixsock *sock,
                const struct handoff_memory *memory, struct handoff **ret, struct err *err)
{
	struct handoff *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return err_set(err, ENOMEM, "handoff");
	h->pool = pool;
	h->plan = plan;
	h->sock = sock;
	h->conn = -1;
	h->listen_watch = (struct watch){.ready = listen_ready};
	h->conn_watch = (struct watch){.ready = conn_ready, .gone = conn_gone};
	if (memory)
		h->memory = *memory;
	r = memory ? replay(h, err) : 0;
	if (r == 0 && h->state != HANDOFF_DONE) /* after that nobody listens any more */
		r = ring_watch(engine_ring(pool_first(pool)), &h->listen_watch, sock->fd, POLLIN,
		               err);
	if (r < 0) {
		free(h);
		return r;
	}
	*ret = h;
	return 0;
}

enum handoff_state handoff_state(const struct handoff *h, struct err *err)
{
	if (h->state == HANDOFF_FAILED)
		*err = h->err;
	return h->state;
}

void handoff_refuse(struct handoff *h)
{
	struct err err = {0};
	int fd;

	if (h->state == HANDOFF_DONE)
		return;
	if (h->conn >= 0)
		refuse_queued(h->conn);
	shutdown(h->sock->fd, SHUT_RD); /* nobody connects any more; who has is still accepted */
	while ((fd = unixsock_accept(h->sock, &err)) >= 0 || fd == -EPERM) {
		if (fd < 0)
			continue;
		refuse_queued(fd);
		close(fd);
	}
}

void handoff_free(struct handoff *h)
{
	if (!h)
		return;
	if (h->conn >= 0)
		close(h->conn);
	free(h);
}
