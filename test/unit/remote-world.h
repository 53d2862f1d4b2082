/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * remote-world.h - what the tests of the remote source share: a remote over real sockets, and a
 * page server that is played by the test itself, message by message.
 *
 * Only remote_connect() has a thread of its own, as it waits for answers; everything else
 * happens in this thread: the remote's part within ring_wait(), the server's part by the functions
 * here, which run the ring while they wait.
 *
 * The page at vaddr of process pid is made by fill_page(), so every answer can be checked.
 */
#ifndef TEST_UNIT_REMOTE_WORLD_H
#define TEST_UNIT_REMOTE_WORLD_H

#include "test/unit/patience.h"
#include "test/unit/ring-bell.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/os/net.h"
#include "criu-lazy/source/remote.h"
#include "criu-lazy/source/source.h"
#include "proto/lanes.h"
#include "proto/ps.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { PID = 77, OTHER_PID = 78, MAX_ASKED = 64 };

static const uint64_t FIRST = UINT64_C(0x7f0000000000);

static inline uint64_t page_at(uint64_t nr)
{
	return FIRST + nr * PAGE_SIZE;
}

static inline void fill_page(uint8_t *page, uint64_t pid, uint64_t vaddr)
{
	uint64_t word = vaddr * UINT64_C(0x9e3779b97f4a7c15) ^ pid << 50;

	for (size_t i = 0; i < PAGE_SIZE; i += sizeof(word), word += 0x10001)
		memcpy(page + i, &word, sizeof(word));
}

/* --- the remote's side ----------------------------------------------------------------------- */

struct net {
	int listen_fd;
	struct remote_options options;
	struct remote *remote;
	struct ring *ring;
	struct source *source;
	struct err err;
	int result;
	pthread_t thread;
	unsigned nr_troubles, nr_infos;
	char told[ERR_TEXT_SIZE]; /* the last trouble */
	bool (*from_done)(struct source_request *request); /* called by done() */
};

/* A request and what became of it. */
struct asked {
	struct source_request request;
	struct net *net;
	uint64_t pid;
	unsigned nr_done;
	uint64_t nr_pages; /* of the answer; 0: lost */
	int code; /* lost */
	char text[ERR_TEXT_SIZE];
	void (*then)(struct asked *a);
};

static inline void net_told(void *cookie, bool trouble, const char *text)
{
	struct net *n = cookie;

	if (trouble) {
		n->nr_troubles++;
		snprintf(n->told, sizeof(n->told), "%s", text);
	} else {
		n->nr_infos++;
	}
}

static inline int net_setup(void **state)
{
	struct net *n = calloc(1, sizeof(*n));
	uint16_t port = 0;

	alarm(PATIENCE);
	if (!n)
		return -1;
	n->listen_fd = net_listen("127.0.0.1", 0, &port, NULL);
	n->options = (struct remote_options){
		.address = "127.0.0.1",
		.port = port,
		.ps_socket = -1,
		.reconnect_timeout = 10 * NSEC_PER_SEC,
		.answer_timeout = 10 * NSEC_PER_SEC,
		.first_pid = PID,
		.first_vaddr = FIRST,
		.tell = net_told,
		.cookie = n,
	};
	*state = n;
	return n->listen_fd < 0 ? -1 : 0;
}

static inline int net_teardown(void **state)
{
	struct net *n = *state;

	source_close(n->source);
	ring_free(n->ring);
	remote_free(n->remote);
	if (n->listen_fd >= 0)
		close(n->listen_fd);
	free(n);
	return 0;
}

#define IN_NET(name) cmocka_unit_test_setup_teardown(name, net_setup, net_teardown)

static inline void *net_connect_main(void *cookie)
{
	struct net *n = cookie;

	n->result = remote_connect(&n->options, &n->remote, &n->err);
	return NULL;
}

static inline void connect_begin(struct net *n)
{
	assert_int_equal(pthread_create(&n->thread, NULL, net_connect_main, n), 0);
}

static inline void connect_failed(struct net *n)
{
	pthread_join(n->thread, NULL);
	assert_true(n->result < 0);
	assert_null(n->remote);
}

static inline void connect_done(struct net *n)
{
	pthread_join(n->thread, NULL);
	if (n->result < 0)
		fail_msg("%s", n->err.text);
	n->ring = new_ring();
	assert_int_equal(remote_start(n->remote, n->ring, &n->err), 0);
	n->source = remote_source(n->remote, PID);
	assert_non_null(n->source);
}

static inline void ask_done(struct source_request *request, const struct source_bytes *bytes,
                            const struct err *err)
{
	struct asked *a = request->owner;
	uint8_t page[PAGE_SIZE];

	assert_int_equal(a->nr_done++, 0);
	if (bytes) {
		a->nr_pages = bytes->nr_pages;
		assert_in_range(bytes->nr_pages, 1, request->nr_pages);
		for (uint64_t i = 0; i < bytes->nr_pages; i++) {
			fill_page(page, a->pid, request->img + i * PAGE_SIZE);
			assert_memory_equal((const uint8_t *)bytes->bytes + i * PAGE_SIZE, page,
			                    PAGE_SIZE);
		}
	} else {
		a->code = err->code;
		memcpy(a->text, err->text, sizeof(a->text));
	}
	if (a->then)
		a->then(a);
}

static inline enum source_answer ask_from(struct source *s, struct asked *a, uint64_t nr,
                                          uint64_t nr_pages, bool urgent)
{
	struct source_bytes bytes;
	enum source_answer answer;
	struct err err = {0};

	a->nr_done = 0;
	a->nr_pages = 0;
	a->pid = a->pid ? a->pid : PID;
	a->request = (struct source_request){.img = page_at(nr),
	                                     .nr_pages = nr_pages,
	                                     .urgent = urgent,
	                                     .done = ask_done,
	                                     .owner = a};
	answer = source_fetch(s, &a->request, &bytes, &err);
	if (answer == SOURCE_LOST) {
		a->code = err.code;
		memcpy(a->text, err.text, sizeof(a->text));
	}
	return answer;
}

static inline void ask(struct net *n, struct asked *a, uint64_t nr, uint64_t nr_pages, bool urgent)
{
	a->net = n;
	assert_int_equal(ask_from(n->source, a, nr, nr_pages, urgent), SOURCE_LATER);
}

/* Let the remote work, shortly. */
static inline void turn(struct net *n)
{
	if (n->ring)
		wait_ring(n->ring, NSEC_PER_MSEC);
}

static inline void await_answer(struct net *n, const struct asked *a)
{
	while (!a->nr_done)
		wait_ring(n->ring, INT64_MAX);
}

/* Nothing happens any more (as far as can be told within some milliseconds). */
static inline void settle(struct net *n)
{
	drain(n->ring);
}

/* --- the server's side ----------------------------------------------------------------------- */

static inline bool comes(struct net *n, int fd, int ms)
{
	while (ms-- > 0) {
		if (readable(fd, 1))
			return true;
		turn(n);
	}
	return readable(fd, 0);
}

/* A blocking socket. */
static inline int accept_one(struct net *n)
{
	int fd;

	while (!readable(n->listen_fd, 1))
		turn(n);
	fd = accept(n->listen_fd, NULL, NULL);
	assert_true(fd >= 0);
	net_tune(fd, 60); /* what is written is sent at once */
	return fd;
}

static inline void server_read(struct net *n, int fd, void *buf, size_t len)
{
	while (len) {
		ssize_t r;

		while (!readable(fd, 0))
			turn(n);
		r = read(fd, buf, len);
		if (r <= 0)
			fail_msg("the helper has closed the connection");
		buf = (char *)buf + r;
		len -= (size_t)r;
	}
}

static inline void server_write(struct net *n, int fd, const void *buf, size_t len)
{
	while (len) {
		ssize_t r = send(fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (r < 0) {
			assert_int_equal(errno, EAGAIN);
			turn(n);
			continue;
		}
		buf = (const char *)buf + r;
		len -= (size_t)r;
	}
}

/* The helper has closed its end, and has sent nothing more before. */
static inline void server_eof(struct net *n, int fd)
{
	char c;

	while (!readable(fd, 1))
		turn(n);
	assert_true(read(fd, &c, 1) <= 0);
	close(fd);
}

static inline enum ps_layout net_layout(const struct net *n)
{
	return n->options.old_header ? PS_24 : PS_32;
}

/* The next request, of CRIU's protocol. */
static inline struct ps_header get(struct net *n, int fd)
{
	uint8_t buf[PS_HEADER_MAX];
	struct ps_header h;

	server_read(n, fd, buf, ps_header_size(net_layout(n)));
	ps_decode(net_layout(n), buf, &h);
	return h;
}

static inline void assert_get(const struct ps_header *h, uint64_t nr, uint64_t nr_pages)
{
	assert_int_equal(h->cmd, PS_GET);
	assert_int_equal(h->vaddr, page_at(nr));
	assert_int_equal(h->nr_pages, nr_pages);
}

static inline uint8_t *make_pages(uint64_t pid, uint64_t vaddr, uint64_t nr)
{
	uint8_t *pages = malloc(nr * PAGE_SIZE);

	assert_non_null(pages);
	for (uint64_t i = 0; i < nr; i++)
		fill_page(pages + i * PAGE_SIZE, pid, vaddr + i * PAGE_SIZE);
	return pages;
}

static inline void give_header(struct net *n, int fd, const struct ps_header *request,
                               uint64_t granted, uint32_t mark)
{
	struct ps_header h = *request;
	uint8_t buf[PS_HEADER_MAX];

	h.cmd = PS_ADD_F | PS_PRESENT_FLAG << 16;
	h.mark = mark;
	h.nr_pages = granted;
	server_write(n, fd, buf, ps_encode(net_layout(n), &h, buf));
}

/* The answer, with these many pages; CRIU echoes the mark. */
static inline void give(struct net *n, int fd, const struct ps_header *request, uint64_t granted)
{
	uint8_t *pages = make_pages(request->dst_id, request->vaddr, granted);

	give_header(n, fd, request, granted, request->mark);
	server_write(n, fd, pages, granted * PAGE_SIZE);
	free(pages);
}

/* Accept, and be a server of CRIU that answers the first request. */
static inline int accept_stock(struct net *n)
{
	int fd = accept_one(n);
	struct ps_header h = get(n, fd);

	assert_get(&h, 0, 1);
	assert_int_equal(h.dst_id, PID);
	give(n, fd, &h, 1);
	return fd;
}

/* From nothing to a remote that is connected to a server of CRIU. */
static inline int stock(struct net *n)
{
	int fd;

	connect_begin(n);
	fd = accept_stock(n);
	connect_done(n);
	return fd;
}

#endif
