/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A remote and servers that are hard to bear: they cut connections anywhere, damage pages and
 * headers, grant little, while requests are made, hurried and cancelled at random.  Whatever
 * happens, each request that was not cancelled is answered once, with the right pages.
 *
 * The oracle is fill_page(): a page is known by its address.
 *
 * Each connection has a thread of the server.  A server damages the answer about an address at most
 * twice, so that nothing may ever be lost.
 */
#include "test/unit/remote-world.h"

#include <stdatomic.h>

enum {
	PAGES = 4096,
	LIVE = 48, /* requests at a time */
	REQUESTS = 3000,
	MAX_DAMAGE = 2,
	MAX_CONNECTIONS = 4096,
};

/* --- the server ------------------------------------------------------------------------------ */

struct server {
	int listen_fd;
	bool lanes;
	unsigned trouble; /* one answer of so many is spoilt; 0: none */
	pthread_t thread;
	pthread_t client[MAX_CONNECTIONS];
	unsigned nr;
	atomic_bool stop;
	atomic_uint damaged[PAGES];
	atomic_uint nr_cuts, nr_flips, nr_wrong;
};

struct client {
	struct server *server;
	int fd;
	unsigned seed;
};

static bool read_all(int fd, void *buf, size_t len)
{
	return recv(fd, buf, len, MSG_WAITALL) == (ssize_t)len;
}

static bool write_all(int fd, const void *buf, size_t len)
{
	while (len) {
		ssize_t n = send(fd, buf, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		buf = (const char *)buf + n;
		len -= (size_t)n;
	}
	return true;
}

/* What becomes of an answer of len bytes. */
struct fate {
	enum { GOOD, CUT, FLIP, WRONG } kind;
	size_t at;
};

static struct fate plan(struct client *c, uint64_t vaddr, size_t len)
{
	struct server *s = c->server;
	struct fate fate = {.kind = GOOD};
	uint64_t nr = (vaddr - FIRST) >> PAGE_SHIFT;

	if (!s->trouble || (unsigned)rand_r(&c->seed) % s->trouble)
		return fate;
	fate.at =
		(size_t)rand_r(&c->seed) % (rand_r(&c->seed) % 2 ? len : 64); /* or in the header */
	fate.kind = CUT;
	if (rand_r(&c->seed) % 2 && nr < PAGES && atomic_fetch_add(&s->damaged[nr], 1) < MAX_DAMAGE)
		fate.kind = s->lanes ? FLIP : WRONG; /* CRIU's protocol has no checksums */
	return fate;
}

/* false: that is the end of this connection. */
static bool answer(struct client *c, uint8_t *buf, size_t len, uint64_t vaddr)
{
	struct fate fate = plan(c, vaddr, len);

	switch (fate.kind) {
	case GOOD:
		return write_all(c->fd, buf, len);
	case CUT:
		c->server->nr_cuts++;
		write_all(c->fd, buf, fate.at);
		return false;
	case FLIP:
		c->server->nr_flips++;
		buf[fate.at] ^= (uint8_t)(1 << fate.at % 8);
		return write_all(c->fd, buf, len);
	case WRONG:
		c->server->nr_wrong++;
		buf[17] ^= 0x10; /* vaddr */
		return write_all(c->fd, buf, len);
	}
	return false;
}

static uint64_t grant(struct client *c, uint64_t asked)
{
	return rand_r(&c->seed) % 3 ? asked : 1 + (uint64_t)rand_r(&c->seed) % asked;
}

static bool serve_stock(struct client *c, bool *ret_go_on)
{
	uint8_t buf[PS_HEADER_MAX], *out;
	struct ps_header h;
	size_t len;

	if (!read_all(c->fd, buf, sizeof(buf)))
		return false;
	ps_decode(PS_32, buf, &h);
	if (h.cmd != PS_GET)
		return false;
	h.nr_pages = grant(c, h.nr_pages);
	out = malloc(sizeof(buf) + h.nr_pages * PAGE_SIZE);
	h.cmd = PS_ADD_F | PS_PRESENT_FLAG << 16;
	len = ps_encode(PS_32, &h, out);
	for (uint64_t i = 0; i < h.nr_pages; i++, len += PAGE_SIZE)
		fill_page(out + len, h.dst_id, h.vaddr + i * PAGE_SIZE);
	*ret_go_on = answer(c, out, len, h.vaddr);
	free(out);
	return *ret_go_on;
}

static bool serve_hello(struct client *c)
{
	uint8_t buf[LANES_HEADER + LANES_HELLO_TAIL];

	return read_all(c->fd, buf, sizeof(buf)) && write_all(c->fd, buf, sizeof(buf));
}

static bool serve_lane(struct client *c)
{
	uint8_t buf[LANES_HEADER], tail[LANES_MAX_TAIL], *out, *pages;
	uint64_t sums[LANES_MAX_PAGES];
	struct lanes_header h;
	size_t tail_len;
	bool go_on;

	if (!read_all(c->fd, buf, sizeof(buf)))
		return false;
	lanes_decode(buf, &h);
	if (h.cmd != LANES_FETCH)
		return false;
	h.cmd = LANES_DATA;
	h.nr_pages = grant(c, h.nr_pages);
	pages = make_pages(h.pid, h.vaddr, h.nr_pages);
	for (uint64_t i = 0; i < h.nr_pages; i++)
		sums[i] = lanes_page_sum(pages + i * PAGE_SIZE);
	tail_len = lanes_encode_data(LANES_RAW, (uint32_t)(h.nr_pages * PAGE_SIZE), sums,
	                             h.nr_pages, tail);
	out = malloc(LANES_HEADER + tail_len + h.nr_pages * PAGE_SIZE);
	lanes_encode(&h, tail, tail_len, out);
	memcpy(out + LANES_HEADER, tail, tail_len);
	memcpy(out + LANES_HEADER + tail_len, pages, h.nr_pages * PAGE_SIZE);
	go_on = answer(c, out, LANES_HEADER + tail_len + h.nr_pages * PAGE_SIZE, h.vaddr);
	free(out);
	free(pages);
	return go_on;
}

static void *client_main(void *cookie)
{
	struct client *c = cookie;
	bool go_on = true;

	/* Now and then it is lost while shaking hands. */
	if (c->server->trouble && rand_r(&c->seed) % 8 == 0)
		go_on = false;
	if (go_on && c->server->lanes)
		go_on = serve_hello(c);
	while (go_on)
		go_on = c->server->lanes ? serve_lane(c) : serve_stock(c, &go_on);
	close(c->fd);
	free(c);
	return NULL;
}

static void *server_main(void *cookie)
{
	struct server *s = cookie;

	while (!s->stop && s->nr < MAX_CONNECTIONS) {
		struct client *c;
		int fd;

		if (!readable(s->listen_fd, 5))
			continue;
		fd = accept(s->listen_fd, NULL, NULL);
		if (fd < 0)
			continue;
		net_tune(fd, 60);
		c = calloc(1, sizeof(*c));
		*c = (struct client){.server = s, .fd = fd, .seed = s->nr + 1};
		pthread_create(&s->client[s->nr++], NULL, client_main, c);
	}
	for (unsigned i = 0; i < s->nr; i++)
		pthread_join(s->client[i], NULL);
	return NULL;
}

/* --- the storm ------------------------------------------------------------------------------- */

struct slot {
	struct asked asked;
	bool live;
};

static unsigned nr_answers, nr_lost;

static void slot_done(struct asked *a)
{
	struct slot *slot = (struct slot *)a;

	assert_true(slot->live);
	slot->live = false;
	nr_answers++;
	if (!a->nr_pages) {
		nr_lost++;
		print_message("lost: %s\n", a->text);
	}
}

static void act(struct net *n, struct slot *slot, unsigned *seed, unsigned *nr_asked)
{
	unsigned what = (unsigned)rand_r(seed) % 16;

	if (slot->live) {
		if (what == 0) {
			source_cancel(n->source, &slot->asked.request);
			slot->live = false;
		} else if (what < 4) {
			source_hurry(n->source, &slot->asked.request);
		}
		return;
	}
	slot->asked = (struct asked){.then = slot_done};
	slot->live = true;
	ask(n, &slot->asked, (uint64_t)rand_r(seed) % PAGES, 1 + (uint64_t)rand_r(seed) % 64,
	    what < 4);
	++*nr_asked;
}

static void run_storm(struct net *n)
{
	static struct slot slots[LIVE];
	unsigned seed = 7, nr_asked = 0;
	bool live = true;

	memset(slots, 0, sizeof(slots));
	nr_answers = nr_lost = 0;
	while (nr_asked < REQUESTS) {
		for (int i = rand_r(&seed) % 8; i >= 0; i--)
			act(n, &slots[rand_r(&seed) % LIVE], &seed, &nr_asked);
		wait_ring(n->ring, rand_r(&seed) % 4 ? 0 : NSEC_PER_MSEC);
	}
	while (live) {
		live = false;
		for (unsigned i = 0; i < LIVE; i++)
			live = live || slots[i].live;
		if (live)
			wait_ring(n->ring, 100 * NSEC_PER_MSEC);
	}
}

static void storm(struct net *n, bool lanes, unsigned trouble)
{
	static struct server s;
	struct remote_stats stats;

	memset(&s, 0, sizeof(s));
	s.listen_fd = n->listen_fd;
	s.lanes = lanes;
	assert_int_equal(pthread_create(&s.thread, NULL, server_main, &s), 0);
	n->options.protocol = lanes ? REMOTE_LANES : REMOTE_CRIU;
	n->result = remote_connect(&n->options, &n->remote, &n->err);
	if (n->result < 0)
		fail_msg("%s", n->err.text);
	s.trouble = trouble;
	n->ring = new_ring();
	assert_int_equal(remote_start(n->remote, n->ring, &n->err), 0);
	n->source = remote_source(n->remote, PID);
	run_storm(n);
	remote_stats(n->remote, &stats);
	print_message("%u answers, %u lost; %u cuts, %u flips, %u wrong; connected again %u times, "
	              "%u bad pages, %llu requests\n",
	              nr_answers, nr_lost, s.nr_cuts, s.nr_flips, s.nr_wrong,
	              (unsigned)stats.reconnects, (unsigned)stats.bad_pages,
	              (unsigned long long)stats.requests);
	source_close(n->source);
	n->source = NULL;
	ring_free(n->ring);
	n->ring = NULL;
	remote_free(n->remote);
	n->remote = NULL;
	s.stop = true;
	pthread_join(s.thread, NULL);
	assert_int_equal(nr_lost, 0);
	if (trouble) {
		assert_true(s.nr_cuts > 0 && stats.reconnects > 0);
		assert_true(lanes ? s.nr_flips > 0 : s.nr_wrong > 0);
	} else {
		assert_int_equal(n->nr_troubles, 0);
	}
}

static void test_calm_stock(void **state)
{
	storm(*state, false, 0);
}

static void test_calm_lanes(void **state)
{
	storm(*state, true, 0);
}

static void test_stock(void **state)
{
	storm(*state, false, 40);
}

static void test_lanes(void **state)
{
	storm(*state, true, 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_NET(test_calm_stock),
		IN_NET(test_calm_lanes),
		IN_NET(test_stock),
		IN_NET(test_lanes),
	};

	return cmocka_run_group_tests_name("remote source, storm", tests, NULL, NULL);
}
