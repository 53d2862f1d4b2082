/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * server-world.h - an image directory that is served, and connections to it: each has the server's
 * own conn_serve() at the other end of a socket pair, in a thread.
 *
 * Process 5 has WORLD_PAGES pages at WORLD_AT, one run of the first half and one of the second, a
 * page apart.  Even pages compress well, odd ones not at all.
 */
#ifndef TEST_UNIT_SERVER_WORLD_H
#define TEST_UNIT_SERVER_WORLD_H

#include "test/unit/images-dir.h"

#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/server/conn.h"
#include "criu-lazy/server/content.h"
#include "criu-lazy/server/server.h"
#include "images/inventory.h"
#include "images/pagemap.h"
#include "images/pstree.h"
#include "images/writer.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#define WORLD_AT UINT64_C(0x7f0000000000)
enum { WORLD_PID = 5, WORLD_PAGES = 600, WORLD_HALF = WORLD_PAGES / 2 };

struct world {
	struct dir *dir;
	struct content *content;
	struct server_options options;
};

struct caller {
	struct conn conn;
	pthread_t thread;
	int fd; /* ours */
};

/* Page number i, which lies a page higher in the second half. */
static inline uint64_t world_addr(uint64_t i)
{
	return WORLD_AT + ((i + (i >= WORLD_HALF)) << PAGE_SHIFT);
}

static inline void world_page(uint64_t i, uint8_t page[PAGE_SIZE])
{
	uint64_t x = i + 1;

	for (size_t at = 0; at < PAGE_SIZE; at += sizeof(x)) {
		if (i % 2 || at == 0) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
		}
		memcpy(page + at, &x, sizeof(x));
	}
}

static inline void world_images(int dirfd)
{
	const struct inventory inventory = {.img_version = 2};
	uint32_t threads[] = {WORLD_PID, 6};
	const struct pstree_task tasks[] = {
		{.pid = WORLD_PID, .nr_threads = 1, .threads = threads},
		{.pid = 6, .ppid = WORLD_PID, .nr_threads = 1, .threads = threads + 1},
	};
	uint8_t *pages = malloc((size_t)WORLD_HALF << PAGE_SHIFT);
	struct pages_writer *w;

	assert_non_null(pages);
	assert_int_equal(writer_inventory(dirfd, &inventory, NULL), 0);
	assert_int_equal(writer_pstree(dirfd, tasks, 2, NULL), 0);
	assert_int_equal(pages_writer_open(dirfd, WORLD_PID, 1, COUNT_NEW, &w, NULL), 0);
	for (uint64_t half = 0; half < 2; half++) {
		uint64_t first = half * WORLD_HALF;

		for (uint64_t i = 0; i < WORLD_HALF; i++)
			world_page(first + i, pages + (i << PAGE_SHIFT));
		assert_int_equal(pages_writer_add(w, world_addr(first), WORLD_HALF,
		                                  PE_PRESENT | PE_LAZY, pages, NULL),
		                 0);
	}
	assert_int_equal(pages_writer_close(w, NULL), 0);
	free(pages);
}

static inline int world_setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	struct err err = {0};
	void *dir;

	log_open(NULL, LOG_MSG, NULL);
	if (!world || dir_setup(&dir))
		return -1;
	world->dir = dir;
	world_images(world->dir->fd);
	if (content_open(world->dir->fd, false, &world->content, &err) < 0) {
		print_error("%s\n", err.text);
		return -1;
	}
	world->options = (struct server_options){
		.role = PS_SERVING, .listen_fd = -1, .ps_socket = -1, .content = world->content};
	*state = world;
	return 0;
}

static inline int world_teardown(void **state)
{
	struct world *world = *state;
	void *dir = world->dir;

	content_close(world->content);
	dir_teardown(&dir);
	free(world);
	return 0;
}

static inline void *world_thread(void *arg)
{
	conn_serve(arg);
	return NULL;
}

static inline struct caller *call(struct world *world)
{
	struct caller *c = calloc(1, sizeof(*c));
	int pair[2];

	assert_non_null(c);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	c->fd = pair[0];
	c->conn.fd = pair[1];
	c->conn.options = &world->options;
	assert_int_equal(pthread_create(&c->thread, NULL, world_thread, &c->conn), 0);
	return c;
}

static inline void say(struct caller *c, const void *data, size_t len)
{
	assert_int_equal(send(c->fd, data, len, MSG_NOSIGNAL), len);
}

/* Exactly len bytes; a server that says nothing for ten seconds has failed. */
static inline void hear(struct caller *c, void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		struct pollfd pfd = {.fd = c->fd, .events = POLLIN};
		ssize_t got;

		assert_int_equal(poll(&pfd, 1, 10000), 1);
		got = read(c->fd, (uint8_t *)buf + done, len - done);
		assert_true(got > 0);
		done += (size_t)got;
	}
}

/* Hang up; how did it end for the server?  It has said nothing that was not heard. */
static inline enum conn_end hang_up(struct caller *c)
{
	enum conn_end end;
	char byte;

	shutdown(c->fd, SHUT_WR);
	pthread_join(c->thread, NULL);
	assert_true(read(c->fd, &byte, 1) <= 0);
	end = c->conn.end;
	close(c->fd);
	free(c);
	return end;
}

/* The same when the server is to hang up by itself. */
static inline enum conn_end dropped(struct caller *c)
{
	struct pollfd pfd = {.fd = c->fd, .events = POLLIN};

	assert_int_equal(poll(&pfd, 1, 10000), 1);
	return hang_up(c);
}

#define SERVER_TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

#endif
