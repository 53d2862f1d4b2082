/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client that says anything at all to a whole connection of the page server: conn_serve() at the
 * other end of a socket pair, with real images to serve or a real directory to store to.
 *
 * The input: a byte of flags (1 it stores, 2 the checksums of the lanes are made right before, 4
 * the bytes come in pieces), the length of a piece, and what the client says until it hangs up.  A
 * directory that is stored to has the served one as its parent.
 *
 * What must hold: it comes to an end; what is answered is whole messages, and pages of the image;
 * of what is stored there is nothing, or a set that can be read; no descriptor is left open.
 */
#include "criu-lazy/server/server.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/server/conn.h"
#include "criu-lazy/server/content.h"
#include "images/store.h"
#include "proto/lanes.h"
#include "test/fuzz/image-tree.h"

#include <dirent.h>
#include <errno.h>
#include <lz4.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define SERVED_AT UINT64_C(0x7f0000000000)

enum { STORES = 1, REPAIR = 2, PIECES = 4, SERVED_PAGES = 24, HEARD_MAX = 8 << 20 };

static struct content *content;
static int store_dir = -1;

/* --- what there is ---------------------------------------------------------------------------- */

/* Even pages compress well, odd ones not at all. */
static void make_page(uint32_t pid, uint64_t nr, uint8_t page[PAGE_SIZE])
{
	uint64_t x = pid * 1000 + nr + 1;

	for (size_t at = 0; at < PAGE_SIZE; at += sizeof(x)) {
		if (nr % 2 || at == 0) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
		}
		memcpy(page + at, &x, sizeof(x));
	}
}

static void remove_store(void)
{
	unlinkat(store_dir, "parent", 0);
	unlinkat(fuzz_dir, "store", AT_REMOVEDIR);
}

static void prepare(void)
{
	static uint8_t bytes[SERVED_PAGES * PAGE_SIZE];
	int dir = tree_begin();
	struct err err = {0};

	log_open(getenv("FUZZ_VERBOSE") ? NULL : "/dev/null", LOG_DEBUG, NULL);
	for (uint32_t pid = 1; pid <= TREE_IMAGES; pid++) {
		for (uint64_t i = 0; i < SERVED_PAGES; i++)
			make_page(pid, i, bytes + i * PAGE_SIZE);
		tree_write_memory(dir, pid, SERVED_AT, SERVED_PAGES, bytes);
	}
	atexit(remove_store);
	MUST(mkdirat(dir, "store", 0700) == 0);
	store_dir = openat(dir, "store", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MUST(store_dir >= 0 && symlinkat("..", store_dir, "parent") == 0);
	if (content_open(dir, false, &content, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

/* --- the client ------------------------------------------------------------------------------- */

struct client {
	int fd;
	const uint8_t *says;
	size_t left, piece;
	uint8_t *heard;
	size_t nr_heard;
};

static void say(struct client *c)
{
	size_t nr = c->left < c->piece ? c->left : c->piece;
	ssize_t put = nr ? send(c->fd, c->says, nr, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;

	if (put < 0 && errno != EAGAIN)
		c->left = 0; /* it has hung up */
	if (put > 0) {
		c->says += put;
		c->left -= (size_t)put;
	}
	if (!c->left)
		shutdown(c->fd, SHUT_WR);
}

static void *be_client(void *arg)
{
	struct client *c = arg;
	ssize_t got;

	say(c);
	for (;;) {
		struct pollfd p = {.fd = c->fd,
		                   .events = (short)(c->left ? POLLIN | POLLOUT : POLLIN)};

		MUST(poll(&p, 1, -1) == 1);
		if (c->left && p.revents & POLLOUT)
			say(c);
		if (!(p.revents & (POLLIN | POLLHUP | POLLERR)))
			continue;
		MUST(c->nr_heard < HEARD_MAX);
		got = recv(c->fd, c->heard + c->nr_heard, HEARD_MAX - c->nr_heard, 0);
		if (got <= 0)
			return NULL;
		c->nr_heard += (size_t)got;
	}
}

/* --- what it hears ---------------------------------------------------------------------------- */

struct heard {
	const uint8_t *at;
	size_t left;
	uint64_t nr_pages;
};

static const uint8_t *hear(struct heard *h, size_t len)
{
	const uint8_t *at = h->at;

	MUST(len <= h->left); /* whole messages */
	h->at += len;
	h->left -= len;
	return at;
}

static void must_be_pages(struct heard *h, uint64_t pid, uint64_t vaddr, uint64_t nr,
                          const uint8_t *bytes)
{
	uint8_t page[PAGE_SIZE];

	MUST(pid >= 1 && pid <= TREE_IMAGES && vaddr >= SERVED_AT && vaddr % PAGE_SIZE == 0);
	MUST(nr > 0 && nr <= SERVED_PAGES);
	for (uint64_t i = 0; i < nr; i++) {
		uint64_t which = ((vaddr - SERVED_AT) >> PAGE_SHIFT) + i;

		MUST(which < SERVED_PAGES);
		make_page((uint32_t)pid, which, page);
		MUST(!memcmp(bytes + i * PAGE_SIZE, page, PAGE_SIZE));
	}
	h->nr_pages += nr;
}

static void hear_data(struct heard *h, const struct lanes_header *header, const uint8_t *tail,
                      size_t len)
{
	static uint8_t pages[SERVED_PAGES * PAGE_SIZE];
	int room = (int)(header->nr_pages * PAGE_SIZE);
	struct lanes_data data;
	const uint8_t *body;

	MUST(header->nr_pages <= SERVED_PAGES);
	MUST(lanes_decode_data(tail, len, header->nr_pages, &data, NULL) == 0);
	body = hear(h, data.length);
	if (data.encoding == LANES_ENCODED_LZ4) {
		MUST(LZ4_decompress_safe((const char *)body, (char *)pages, (int)data.length,
		                         room) == room);
		body = pages;
	}
	must_be_pages(h, header->pid, header->vaddr, header->nr_pages, body);
	for (uint64_t i = 0; i < header->nr_pages; i++)
		MUST(lanes_sum(&data, i) == lanes_page_sum(body + i * PAGE_SIZE));
}

static void hear_lanes(struct heard *h)
{
	for (bool first = true; h->left; first = false) {
		const uint8_t *bytes = hear(h, LANES_HEADER), *tail;
		struct lanes_header header;
		struct lanes_hello hello;
		int len;

		lanes_decode(bytes, &header);
		len = lanes_tail(&header, NULL);
		MUST(len >= 0 && (header.cmd == LANES_HELLO) == first);
		tail = hear(h, (size_t)len);
		MUST(lanes_verify(bytes, tail, (size_t)len, NULL) == 0);
		if (header.cmd == LANES_HELLO)
			MUST(lanes_decode_hello(tail, &hello, NULL) == 0);
		else if (header.cmd == LANES_DATA)
			hear_data(h, &header, tail, (size_t)len);
		else
			MUST(header.cmd == LANES_MISS || header.cmd == LANES_PONG);
	}
}

static uint32_t next_word(const struct heard *h)
{
	uint32_t word = 0;

	memcpy(&word, h->at, h->left < sizeof(word) ? h->left : sizeof(word));
	return word;
}

static void hear_served(struct heard *h, enum ps_layout layout)
{
	while (h->left > 4 && next_word(h) != LANES_HELLO) {
		struct ps_header header;

		MUST(layout != PS_UNKNOWN);
		ps_decode(layout, hear(h, ps_header_size(layout)), &header);
		MUST(header.cmd == (PS_ADD_F | PS_PRESENT_FLAG << 16));
		MUST(header.mark == 0 || header.mark == LANES_ANSWER);
		MUST(header.nr_pages <= SERVED_PAGES);
		must_be_pages(h, header.dst_id, header.vaddr, header.nr_pages,
		              hear(h, header.nr_pages * PAGE_SIZE));
	}
	if (h->left == 4) { /* the answer to CLOSE */
		MUST(next_word(h) == 0);
		hear(h, 4);
	}
	hear_lanes(h);
}

/* --- what is stored --------------------------------------------------------------------------- */

static void must_be_pagemap(const char *name)
{
	struct pagemap map = {0};
	struct err err = {0};
	struct stat st = {0};
	char pages[32];

	if (pagemap_read_file(store_dir, name, &map, &err) < 0) {
		fprintf(stderr, "%s: %s\n", name, err.text);
		abort();
	}
	snprintf(pages, sizeof(pages), "pages-%u.img", map.pages_id);
	MUST(fstatat(store_dir, pages, &st, 0) == 0);
	MUST((uint64_t)st.st_size == map.pages_bytes);
	pagemap_release(&map);
}

/* Returns how many pagemaps there are; the directory is as new afterwards. */
static unsigned look_at_store(void)
{
	DIR *d = fdopendir(openat(store_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	unsigned nr_pagemaps = 0, nr_pages = 0;
	const struct dirent *e;

	MUST(d);
	while ((e = readdir(d))) {
		if (!strncmp(e->d_name, "pagemap-", 8)) {
			must_be_pagemap(e->d_name);
			nr_pagemaps++;
		} else if (!strncmp(e->d_name, "pages-", 6)) {
			nr_pages++;
		} else if (!strcmp(e->d_name, STORE_PLACE)) {
			MUST(unlinkat(store_dir, STORE_PLACE, AT_REMOVEDIR) == 0); /* empty */
		} else {
			MUST(e->d_name[0] == '.' || !strcmp(e->d_name, "parent"));
		}
	}
	MUST(nr_pages == nr_pagemaps);
	rewinddir(d);
	while ((e = readdir(d)))
		if (e->d_name[0] == 'p' && strcmp(e->d_name, "parent") != 0)
			unlinkat(store_dir, e->d_name, 0);
	closedir(d);
	return nr_pagemaps;
}

/* --- one connection --------------------------------------------------------------------------- */

/* From the first hello on; a fuzzer cannot guess checksums. */
static void repair(uint8_t *bytes, size_t len)
{
	static const uint8_t hello[4] = {0x01, 0x5a, 0x4c, 0x00};
	uint8_t *at = memmem(bytes, len, hello, sizeof(hello)), *end = bytes + len;

	while (at && end - at >= LANES_HEADER) {
		struct lanes_header h;
		int tail;

		lanes_decode(at, &h);
		tail = lanes_tail(&h, NULL);
		if (tail < 0 || end - at - LANES_HEADER < tail)
			return;
		lanes_encode(&h, at + LANES_HEADER, (size_t)tail, at);
		at += LANES_HEADER + tail;
	}
}

static void talk(struct conn *conn, struct client *c)
{
	pthread_t thread;
	int pair[2];

	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	c->fd = pair[0];
	conn->fd = pair[1];
	MUST(pthread_create(&thread, NULL, be_client, c) == 0);
	conn_serve(conn);
	MUST(pthread_join(thread, NULL) == 0);
	close(c->fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t heard[HEARD_MAX];
	struct server_options options = {.listen_fd = -1, .ps_socket = -1};
	struct conn conn = {.options = &options, .peer = "fuzz"};
	struct client c = {.heard = heard, .piece = SIZE_MAX};
	struct heard h = {.at = heard};
	struct err err = {0};
	uint8_t *bytes;
	size_t leftovers;
	int before;

	if (size < 2)
		return 0;
	if (store_dir < 0)
		prepare();
	before = lowest_free(store_dir);
	bytes = malloc(size - 2 ? size - 2 : 1);
	MUST(bytes);
	if (size > 2)
		memcpy(bytes, data + 2, size - 2);
	if (data[0] & REPAIR)
		repair(bytes, size - 2);
	if (data[0] & PIECES)
		c.piece = data[1] ? data[1] : 256;
	c.says = bytes;
	c.left = size - 2;
	options.content = content;
	options.role = data[0] & STORES ? PS_STORING : PS_SERVING;
	if (options.role == PS_STORING)
		MUST(store_open(store_dir, &options.store, &leftovers, &err) == 0 && !leftovers);
	talk(&conn, &c);
	store_close(options.store);
	h.left = c.nr_heard;
	if (options.role == PS_SERVING) {
		hear_served(&h, conn.layout);
		MUST(h.nr_pages == conn.nr_pages);
	} else if (look_at_store()) {
		MUST(conn.end == CONN_DONE);
	}
	free(bytes);
	MUST(lowest_free(store_dir) == before);
	return 0;
}
