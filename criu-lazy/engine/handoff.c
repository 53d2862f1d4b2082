/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/engine/handoff.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/engine/callers.h"
#include "criu-lazy/engine/journal.h"
#include "criu-lazy/engine/plan.h"
#include "criu-lazy/engine/pool.h"
#include "criu-lazy/os/ring.h"
#include "criu-lazy/os/uffd.h"
#include "proto/handshake.h"

#include <errno.h>
#include <poll.h>
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
	bool attending;
	struct callers callers;
	int conn;
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
	h->state = HANDOFF_TALKING;
	h->handshake = (struct handshake){.nr_expected = h->plan->nr};
}

static int on_message(struct handoff *h, const void *bytes, struct unixsock_msg *msg)
{
	struct err err = {0};
	int r = msg->nr ? feed(h, bytes, msg, &err) : handshake_eof(&h->handshake, &err);

	if (r < 0)
		fail(h, &err);
	return r;
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
		if (on_message(h, bytes, &msg) == ADOPT_AGAIN)
			return;
	}
}

static int watch_connection(struct handoff *h, struct err *err)
{
	return ring_watch(engine_ring(pool_first(h->pool)), &h->conn_watch, h->conn,
	                  POLLIN | POLLRDHUP, err);
}

/* Somebody has said something: the restorer.  Noted before it is heard. */
static void take_restorer(struct handoff *h, int fd)
{
	struct err err = {0};
	int r = 0;

	begin(h, fd);
	if (records(h))
		r = journal_add(h->memory.journal, RECORD_ACCEPT, 0, &fd, sizeof(fd), NULL, 0);
	callers_send_away(&h->callers);
	/* Once more: there may have been too many of the others for the store. */
	engine_keep(pool_first(h->pool), KEPT_CONNECTION, fd, true);
	if (r < 0)
		err_set(&err, -r, "a restorer's connection");
	else
		r = watch_connection(h, &err);
	if (r < 0)
		fail(h, &err);
}

/* Listen to all that have connected, until nobody is left that can be listened to now. */
static void attend(struct handoff *h)
{
	bool began = false;
	int fd;

	if (h->attending) /* the kernel lets go of somebody at once */
		return;
	h->attending = true;
	for (;;) {
		struct err err = {0};

		if (h->state == HANDOFF_LISTENING && (fd = callers_spoken(&h->callers)) >= 0) {
			take_restorer(h, fd);
			began = true;
		}
		if (h->state == HANDOFF_LISTENING && !callers_has_place(&h->callers))
			break;
		fd = unixsock_accept(h->sock, &err);
		if (fd == -EAGAIN)
			break;
		if (fd < 0) {
			log_warn("connection refused: %s", err.text);
			if (fd == -EPERM)
				continue;
			ring_retry(engine_ring(pool_first(h->pool)), &h->listen_watch);
			break;
		}
		if (h->state == HANDOFF_LISTENING) {
			callers_add(&h->callers, fd);
		} else {
			log_warn("a second restorer connected to %s: sent away", h->sock->path);
			refuse_queued(fd);
			close(fd);
		}
	}
	h->attending = false;
	if (began) /* who else waited has been sent away */
		conn_ready(&h->conn_watch, 0);
}

static void listen_ready(struct watch *w, uint32_t events)
{
	(void)events;
	attend((struct handoff *)((char *)w - offsetof(struct handoff, listen_watch)));
}

static void callers_again(struct callers *c)
{
	struct handoff *h = (struct handoff *)((char *)c - offsetof(struct handoff, callers));

	if (h->state == HANDOFF_LISTENING)
		attend(h);
}

void handoff_found(struct handoff *h, int fd)
{
	h->attending = true;
	if (h->state == HANDOFF_LISTENING && callers_has_place(&h->callers)) {
		callers_add(&h->callers, fd);
	} else {
		refuse_queued(fd);
		close(fd);
	}
	h->attending = false;
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

int handoff_descriptors(const struct handoff *h, int (*add)(void *cookie, int fd), void *cookie)
{
	int r = h->conn >= 0 ? add(cookie, h->conn) : 0;

	return r < 0 ? r : callers_descriptors(&h->callers, add, cookie);
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
	h->conn_watch = (struct watch){.ready = conn_ready};
	callers_init(&h->callers, pool_first(pool), sock, callers_again);
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
	h->attending = true; /* there is nobody any more who attends */
	callers_send_away(&h->callers);
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
	callers_close(&h->callers);
	free(h);
}
