/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection through the proxy: two sockets, two ways.
 *
 *	client --read--> up.queue ----(due)--write--> server
 *	client <--write-(due)---- down.queue <--read-- server
 *
 * Bytes get the moment at which they are due when they are read, so that neither the time they wait
 * for a full socket nor a late wake-up of ours adds up.  What happens to a way (fate) is decided
 * when bytes are read: reading stops exactly at the byte, what came before it still arrives, then
 * the connection is cut.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "test/proxy/proxy.h"

enum {
	READ_AT_ONCE = 512 * 1024,
	ROUNDS = 4, /* system calls for one way before the others have their turn */
	PIECES = 64, /* the same with --split */
	LINE_QUEUE_NS = 20000000, /* how much a line with a --rate takes ahead of what it sends */
	RATE_BUFFER = 256 * 1024, /* socket buffers of such a line */
	LOOK_AGAIN_NS = 200000,
	MAX_AGO_NS = 10000000, /* more is not believed: somebody has set the clock */
};

#define CUT_PATIENCE_NS UINT64_C(2000000000) /* for a peer that does not read what it shall get */

static void set_option(int fd, int level, int name, int value)
{
	setsockopt(fd, level, name, &value, sizeof(value));
}

static void tune(const struct proxy *p, int fd)
{
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (p->set.rate) {
		set_option(fd, SOL_SOCKET, SO_RCVBUF, RATE_BUFFER);
		set_option(fd, SOL_SOCKET, SO_SNDBUF, RATE_BUFFER);
	}
	if (p->set.delay_ns)
		set_option(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
}

static void watch(const struct proxy *p, struct end *e)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
	                         .data.ptr = e};

	epoll_ctl(p->epoll, EPOLL_CTL_ADD, e->fd, &ev);
}

static void way_init(struct proxy *p, struct way *w, struct end *from, struct end *to)
{
	w->from = from;
	w->to = to;
	queue_init(&w->queue, &p->pool);
}

void link_new(struct proxy *p, int client_fd)
{
	struct link *l = calloc(1, sizeof(*l));
	int fd = socket(p->set.target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (!l || fd < 0) {
		perror("proxy: no room for one more connection");
		exit(1);
	}
	*l = (struct link){.proxy = p, .nr = p->nr_links++, .connecting = true};
	l->client = (struct end){.link = l, .fd = client_fd};
	l->server = (struct end){.link = l, .fd = fd};
	way_init(p, &l->up, &l->client, &l->server);
	way_init(p, &l->down, &l->server, &l->client);
	faults_plan(&p->faults, &l->up.fate, &l->down.fate);
	TAILQ_INSERT_TAIL(&p->links, l, link);
	p->totals.connections++;
	tell("%u: accepted", l->nr);
	tune(p, client_fd);
	tune(p, fd);
	watch(p, &l->client);
	if (connect(fd, (struct sockaddr *)&p->set.target, p->set.target_len) &&
	    errno != EINPROGRESS) {
		tell("%u: connect: %s", l->nr, strerror(errno));
		link_close(l, true);
		return;
	}
	watch(p, &l->server);
}

void link_close(struct link *l, bool reset)
{
	const struct linger now = {.l_onoff = 1};
	struct proxy *p = l->proxy;

	if (reset) {
		setsockopt(l->client.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		setsockopt(l->server.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	}
	tell("%u: %s after %llu bytes up, %llu down", l->nr, reset ? "reset" : "closed",
	     (unsigned long long)l->up.pos, (unsigned long long)l->down.pos);
	close(l->client.fd);
	close(l->server.fd);
	queue_free(&l->up.queue);
	queue_free(&l->down.queue);
	p->totals.up += l->up.pos;
	p->totals.down += l->down.pos;
	TAILQ_REMOVE(&p->links, l, link);
	free(l);
}

/* When bytes that have come now go on: a line with a rate sends one after the other. */
static uint64_t due(struct proxy *p, const struct link *l, const struct way *w, size_t bytes,
                    uint64_t now)
{
	uint64_t *line_free = w == &l->up ? &p->up_free : &p->down_free;

	if (!p->set.rate)
		return now + p->set.delay_ns;
	if (*line_free < now)
		*line_free = now;
	*line_free += bytes * UINT64_C(1000000000) / p->set.rate;
	return *line_free + p->set.delay_ns;
}

/*
 * Reads; *came, now by then, becomes when the last of the bytes reached the socket.  Waking up
 * takes a processor that sleeps 50 us and more, which must not add to the delay.
 */
static ssize_t receive(const struct proxy *p, int fd, struct iovec *iov, int nr, uint64_t *came)
{
	union {
		char buf[CMSG_SPACE(sizeof(struct timespec))];
		struct cmsghdr align;
	} control;
	struct msghdr msg = {.msg_iov = iov,
	                     .msg_iovlen = (size_t)nr,
	                     .msg_control = control.buf,
	                     .msg_controllen = sizeof(control)};
	struct cmsghdr *c;
	struct timespec ts;
	uint64_t ago;
	ssize_t n;

	if (!p->set.delay_ns)
		return readv(fd, iov, nr);
	n = recvmsg(fd, &msg, 0);
	c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS)
		return n;
	memcpy(&ts, CMSG_DATA(c), sizeof(ts));
	ago = clock_ns(CLOCK_REALTIME) -
	      ((uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec);
	if (ago < MAX_AGO_NS)
		*came = clock_ns(CLOCK_MONOTONIC) - ago;
	return n;
}

static size_t want(const struct proxy *p, const struct way *w)
{
	uint64_t n = READ_AT_ONCE,
		 fate = w->fate.cut_at < w->fate.hole_at ? w->fate.cut_at : w->fate.hole_at;

	if (p->set.rate && p->set.rate / 1000 < n)
		n = p->set.rate / 1000 < 1024 ? 1024 : p->set.rate / 1000;
	if (n > p->set.buffer - w->queue.bytes)
		n = p->set.buffer - w->queue.bytes;
	return fate - w->pos < n ? fate - w->pos : n;
}

static void meet_fate(struct link *l, struct way *w, uint64_t now)
{
	if (w->pos == w->fate.cut_at) {
		w->ended = w->shut = l->cutting = true;
		l->handshake = w->fate.handshake;
		l->cut_deadline = now + CUT_PATIENCE_NS;
	} else if (w->pos == w->fate.hole_at) {
		tell("%u: silent from now on", l->nr);
		l->proxy->totals.holes++;
		l->up.ended = l->down.ended = l->up.shut = l->down.shut = l->hole = true;
	}
}

/* 0: it may go on at once; NEVER: not without an event. */
static uint64_t way_read(struct link *l, struct way *w, uint64_t now)
{
	struct proxy *p = l->proxy;
	struct iovec iov[QUEUE_IOV];
	uint64_t came;
	ssize_t n;

	for (int i = 0; i < ROUNDS && !w->ended; i++) {
		uint64_t line_free = w == &l->up ? p->up_free : p->down_free;

		meet_fate(l, w, now);
		if (w->ended || !w->from->can_read || w->queue.bytes >= p->set.buffer)
			return NEVER;
		if (p->set.rate && line_free > now + LINE_QUEUE_NS)
			return line_free - LINE_QUEUE_NS / 2;
		came = now;
		n = receive(p, w->from->fd, iov, queue_space(&w->queue, want(p, w), iov), &came);
		if (n < 0 && errno == EAGAIN) {
			queue_added(&w->queue, 0, 0);
			w->from->can_read = false;
		} else if (n <= 0) {
			queue_added(&w->queue, 0, 0);
			w->ended = true;
			w->from->hung_up = n < 0;
			w->end_due = due(p, l, w, 0, now);
		} else {
			faults_flip(&p->faults, &w->fate, w->pos, (size_t)n, iov);
			w->pos += (uint64_t)n;
			queue_added(&w->queue, (size_t)n, due(p, l, w, (size_t)n, came));
			meet_fate(l, w, now);
		}
	}
	return w->ended || !w->from->can_read ? NEVER : 0;
}

/* As way_read(); *ret_broken when nobody is at the other end any more. */
static uint64_t way_write(struct link *l, struct way *w, uint64_t now, bool *ret_broken)
{
	const struct settings *set = &l->proxy->set;
	size_t max = set->split ? set->split : SIZE_MAX, bytes;
	struct iovec iov[QUEUE_IOV];
	ssize_t n;
	int nr;

	for (int i = 0; i < (set->split ? PIECES : ROUNDS); i++) {
		nr = queue_due(&w->queue, now, max, iov, &bytes);
		if (!nr)
			return queue_next(&w->queue);
		if (!w->to->can_write)
			return NEVER;
		n = writev(w->to->fd, iov, nr);
		if (n < 0 && errno == EAGAIN) {
			w->to->can_write = false;
			return NEVER;
		}
		if (n < 0) {
			*ret_broken = true;
			return NEVER;
		}
		queue_sent(&w->queue, (size_t)n);
	}
	return 0;
}

/* Everything has gone on: let the other side know how it ended. */
static uint64_t way_end(struct way *w, uint64_t now, bool *ret_broken)
{
	if (!w->ended || w->shut || w->queue.bytes)
		return NEVER;
	if (now < w->end_due)
		return w->end_due;
	if (w->from->hung_up)
		*ret_broken = true;
	shutdown(w->to->fd, SHUT_WR);
	w->shut = true;
	return NEVER;
}

static bool arrived(const struct way *w)
{
	int unsent = 0;

	return !w->queue.bytes && !ioctl(w->to->fd, SIOCOUTQ, &unsent) && !unsent;
}

static void cut(struct link *l)
{
	struct proxy *p = l->proxy;

	if (l->handshake) {
		p->totals.handshakes++;
	} else {
		p->totals.cuts++;
		p->cut_all_now = p->faults.cut_all;
		faults_cut(&p->faults);
		proxy_refuse(p);
	}
	tell("%u: cut%s", l->nr, l->handshake ? " in the handshake" : "");
	link_close(l, !p->faults.fin);
}

static bool connected(struct link *l)
{
	socklen_t len = sizeof(int);
	int error = 0;

	getsockopt(l->server.fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (!error) {
		l->connecting = false;
		return true;
	}
	tell("%u: the server: %s", l->nr, strerror(error));
	l->proxy->totals.refused++;
	link_close(l, true);
	return false;
}

static void earlier(uint64_t *next, uint64_t t)
{
	if (t < *next)
		*next = t;
}

uint64_t link_work(struct link *l, uint64_t now)
{
	struct way *ways[] = {&l->up, &l->down};
	uint64_t next = NEVER;
	bool broken = false;

	if (l->connecting && (!l->server.can_write || !connected(l)))
		return NEVER;
	for (int i = 0; i < 2; i++) {
		bool was_full;

		earlier(&next, way_read(l, ways[i], now));
		was_full = ways[i]->queue.bytes >= l->proxy->set.buffer;
		earlier(&next, way_write(l, ways[i], now, &broken));
		if (was_full && ways[i]->queue.bytes < l->proxy->set.buffer)
			next = 0;
		earlier(&next, way_end(ways[i], now, &broken));
	}
	if (l->hole)
		return broken ? NEVER : next;
	if (l->cutting) {
		if (broken || now > l->cut_deadline ||
		    arrived(l->up.fate.cut_at == l->up.pos ? &l->up : &l->down)) {
			cut(l);
			return NEVER;
		}
		earlier(&next, now + LOOK_AGAIN_NS);
		return next;
	}
	if (broken || (l->up.shut && l->down.shut)) {
		link_close(l, broken);
		return NEVER;
	}
	return next;
}
