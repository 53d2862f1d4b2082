/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/engine/callers.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/engine/engine.h"
#include "criu-lazy/os/unixsock.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

void refuse_sender(pid_t pid)
{
	if (pid > 0 && kill(pid, SIGKILL) == 0)
		log_warn("process %d of this host: killed: its memory will not be completed", pid);
}

void refuse_queued(int conn)
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

static void on_ready(struct watch *w, uint32_t events)
{
	struct caller *one = (struct caller *)((char *)w - offsetof(struct caller, watch));

	(void)events;
	one->all->again(one->all);
}

static void on_gone(struct watch *w)
{
	on_ready(w, 0);
}

void callers_init(struct callers *c, struct engine *engine, const struct unixsock *sock,
                  void (*again)(struct callers *c))
{
	struct caller *one;

	*c = (struct callers){.engine = engine, .sock = sock, .again = again};
	for (one = c->places; one < c->places + CALLERS_PLACES; one++)
		*one = (struct caller){
			.all = c, .watch = {.ready = on_ready, .gone = on_gone}, .fd = -1};
}

static struct caller *free_place(const struct callers *c)
{
	const struct caller *one;

	for (one = c->places; one < c->places + CALLERS_PLACES; one++)
		if (one->fd < 0 && one->watch.state == WATCH_IDLE)
			return (struct caller *)(uintptr_t)one;
	return NULL;
}

bool callers_has_place(const struct callers *c)
{
	return free_place(c) != NULL;
}

/* The one that is here longest, of those after the given one; NULL: no more. */
static struct caller *next(struct callers *c, const struct caller *after)
{
	struct caller *one, *found = NULL;

	for (one = c->places; one < c->places + CALLERS_PLACES; one++)
		if (one->fd >= 0 && (!after || one->nr > after->nr) &&
		    (!found || one->nr < found->nr))
			found = one;
	return found;
}

static unsigned count(const struct callers *c)
{
	unsigned nr = 0, i;

	for (i = 0; i < CALLERS_PLACES; i++)
		nr += c->places[i].fd >= 0;
	return nr;
}

/* Its descriptor is somebody else's from now on. */
static int let_go(struct caller *one)
{
	int fd = one->fd;

	one->fd = -1;
	ring_unwatch(engine_ring(one->all->engine), &one->watch);
	return fd;
}

/* What it says from now on it says to nobody; what it has said is refused. */
static void drop(struct caller *one)
{
	struct engine *engine = one->all->engine;
	int fd = let_go(one);

	refuse_queued(fd);
	engine_keep(engine, KEPT_CONNECTION, fd, false);
	close(fd);
}

void callers_add(struct callers *c, int fd)
{
	struct caller *one = free_place(c);
	struct err err = {0};

	if (count(c) == CALLERS_MAX) {
		log_warn("%d connections to %s say nothing, and there is one more: the oldest is "
		         "closed",
		         CALLERS_MAX, c->sock->path);
		drop(next(c, NULL));
	}
	one->fd = fd;
	one->nr = c->nr_ever++;
	engine_keep(c->engine, KEPT_CONNECTION, fd, true);
	if (ring_watch(engine_ring(c->engine), &one->watch, fd, POLLIN | POLLRDHUP, &err) < 0) {
		log_warn("connection refused: %s", err.text);
		drop(one);
	}
}

int callers_spoken(struct callers *c)
{
	struct caller *one = NULL;
	struct unixsock_msg msg;
	int r;

	while ((one = next(c, one))) {
		r = unixsock_peek(one->fd, &msg);
		if (r == 0 && msg.nr)
			return let_go(one);
		if (r == -EAGAIN)
			continue;
		if (r < 0 && r != -ECONNRESET) { /* no memory, say */
			ring_retry(engine_ring(c->engine), &one->watch);
			continue;
		}
		log_warn("somebody connected to %s and left without a word", c->sock->path);
		drop(one);
	}
	return -1;
}

void callers_send_away(struct callers *c)
{
	unsigned nr = count(c);
	struct caller *one;

	if (nr)
		log_warn("other connections to %s are closed: %u", c->sock->path, nr);
	while ((one = next(c, NULL)))
		drop(one);
}

int callers_descriptors(const struct callers *c, int (*add)(void *cookie, int fd), void *cookie)
{
	int r = 0, i;

	for (i = 0; i < CALLERS_PLACES && r >= 0; i++)
		if (c->places[i].fd >= 0)
			r = add(cookie, c->places[i].fd);
	return r < 0 ? r : 0;
}

void callers_close(struct callers *c)
{
	int i;

	for (i = 0; i < CALLERS_PLACES; i++)
		if (c->places[i].fd >= 0)
			close(c->places[i].fd);
}
