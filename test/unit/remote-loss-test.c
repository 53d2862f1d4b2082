/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A remote whose connection is lost: what was asked for is asked for again, until it gives up. */
#include "test/unit/remote-world.h"

#include <netinet/in.h>

/* Close by RST. */
static void reset(int fd)
{
	struct linger linger = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

static void await_trouble(struct net *n, unsigned nr)
{
	while (n->nr_troubles < nr)
		wait_ring(n->ring, INT64_MAX);
}

static unsigned reconnects(const struct net *n)
{
	struct remote_stats stats;

	remote_stats(n->remote, &stats);
	return (unsigned)stats.reconnects;
}

/* --- back again ------------------------------------------------------------------------------ */

static void asked_again(struct net *n, void (*cut)(int fd))
{
	struct asked a[3] = {0}, urgent = {0};
	struct ps_header h;
	int fd = stock(n);

	for (unsigned i = 0; i < 3; i++)
		ask(n, &a[i], i * 10, 1, false);
	ask(n, &urgent, 90, 1, true);
	for (unsigned i = 0; i < 4; i++)
		get(n, fd);
	cut(fd);
	fd = accept_stock(n);
	h = get(n, fd);
	assert_get(&h, 90, 1); /* first those that somebody waits for */
	give(n, fd, &h, 1);
	for (unsigned i = 0; i < 3; i++) {
		h = get(n, fd);
		assert_get(&h, i * 10, 1);
		give(n, fd, &h, 1);
	}
	await_answer(n, &a[2]);
	assert_int_equal(urgent.nr_done, 1);
	assert_int_equal(reconnects(n), 1);
	assert_int_equal(n->nr_troubles, 1);
	assert_non_null(strstr(n->told, "trying again for 10.0 seconds"));
	close(fd);
}

static void orderly(int fd)
{
	close(fd);
}

static void test_end_of_stream(void **state)
{
	asked_again(*state, orderly);
}

static void test_reset(void **state)
{
	asked_again(*state, reset);
}

/* Whole pages of a broken answer are kept, and the rest is asked for by whoever wants it. */
static void test_half_an_answer(void **state)
{
	struct net *n = *state;
	struct asked a = {0}, b = {0};
	uint8_t *pages = make_pages(PID, page_at(8), 8);
	struct ps_header h;
	int fd = stock(n);

	ask(n, &a, 8, 8, false);
	ask(n, &b, 40, 1, false);
	h = get(n, fd);
	give_header(n, fd, &h, 8, 0);
	server_write(n, fd, pages, 3 * PAGE_SIZE + 100);
	settle(n);
	assert_int_equal(a.nr_done, 0);
	close(fd);
	await_answer(n, &a);
	assert_int_equal(a.nr_pages, 3);
	fd = accept_stock(n);
	h = get(n, fd);
	assert_get(&h, 40, 1);
	give(n, fd, &h, 1);
	await_answer(n, &b);
	free(pages);
	close(fd);
}

/* Not even one page came: fewer are asked for. */
static void test_less_than_a_page(void **state)
{
	struct net *n = *state;
	struct asked a = {0};
	struct ps_header h;
	int fd = stock(n);

	ask(n, &a, 8, 8, false);
	for (unsigned nr = 8; nr > 1; nr /= 2) {
		h = get(n, fd);
		assert_get(&h, 8, nr);
		give_header(n, fd, &h, nr, 0);
		server_write(n, fd, "abc", 3);
		settle(n);
		close(fd);
		fd = accept_stock(n);
	}
	h = get(n, fd);
	assert_get(&h, 8, 1);
	give(n, fd, &h, 1);
	await_answer(n, &a);
	assert_int_equal(a.nr_pages, 1);
	close(fd);
}

static void test_lost_while_shaking_hands(void **state)
{
	struct net *n = *state;
	struct asked a = {0};
	struct ps_header h;
	int fd = stock(n), i;

	ask(n, &a, 3, 1, true);
	get(n, fd);
	close(fd);
	for (i = 0; i < 5; i++) {
		fd = accept_one(n);
		if (i % 2)
			get(n, fd);
		reset(fd);
	}
	fd = accept_stock(n);
	h = get(n, fd);
	give(n, fd, &h, 1);
	await_answer(n, &a);
	assert_int_equal(n->nr_troubles, 1);
	close(fd);
}

static void test_lost_twice(void **state)
{
	struct net *n = *state;
	struct asked a = {0};
	struct ps_header h;
	int fd = stock(n);

	ask(n, &a, 3, 1, true);
	for (unsigned i = 0; i < 3; i++) {
		get(n, fd);
		reset(fd);
		fd = accept_stock(n);
	}
	h = get(n, fd);
	give(n, fd, &h, 1);
	await_answer(n, &a);
	assert_int_equal(reconnects(n), 3);
	close(fd);
}

static void test_cancelled_while_away(void **state)
{
	struct net *n = *state;
	struct asked a = {0}, b = {0};
	struct ps_header h;
	int fd = stock(n);

	ask(n, &a, 3, 1, true);
	ask(n, &b, 4, 1, true);
	get(n, fd);
	get(n, fd);
	close(fd);
	await_trouble(n, 1);
	source_cancel(n->source, &a.request);
	fd = accept_stock(n);
	h = get(n, fd);
	assert_get(&h, 4, 1);
	give(n, fd, &h, 1);
	await_answer(n, &b);
	assert_int_equal(a.nr_done, 0);
	close(fd);
}

/* Nothing was asked for: the loss is noticed all the same. */
static void test_lost_while_idle(void **state)
{
	struct net *n = *state;
	struct asked a = {0};
	struct ps_header h;
	int fd = stock(n);

	settle(n);
	close(fd);
	fd = accept_stock(n);
	ask(n, &a, 3, 1, true);
	h = get(n, fd);
	give(n, fd, &h, 1);
	await_answer(n, &a);
	close(fd);
}

/* A server that says nothing is as good as none. */
static void test_silence(void **state)
{
	struct net *n = *state;
	struct asked a = {0};
	struct ps_header h;
	int fd, deaf;

	n->options.answer_timeout = 100 * NSEC_PER_MSEC;
	deaf = stock(n);
	ask(n, &a, 3, 1, true);
	get(n, deaf);
	fd = accept_stock(n);
	assert_non_null(strstr(n->told, "not a byte came for 0.1 seconds"));
	n->options.answer_timeout = 10 * NSEC_PER_SEC;
	h = get(n, fd);
	give(n, fd, &h, 1);
	await_answer(n, &a);
	close(deaf);
	close(fd);
}

/* We did not look for a while (stopped, suspended): that says nothing about the server. */
static void test_away(void **state)
{
	struct net *n = *state;
	struct asked a = {0};
	struct ps_header h;
	int fd;

	n->options.answer_timeout = 100 * NSEC_PER_MSEC;
	fd = stock(n);
	ask(n, &a, 3, 40, true);
	h = get(n, fd);
	give(n, fd, &h, 1);
	sleep_ms(300);
	await_answer(n, &a);
	settle(n);
	assert_int_equal(n->nr_troubles, 0);
	close(fd);
}

/* --- giving up ------------------------------------------------------------------------------- */

static struct asked late;

static void ask_late(struct asked *a)
{
	assert_int_equal(ask_from(a->net->source, &late, 60, 1, true), SOURCE_LOST);
}

static void test_gives_up(void **state)
{
	struct net *n = *state;
	struct asked a[3] = {0};
	int fd;

	n->options.reconnect_timeout = 100 * NSEC_PER_MSEC;
	fd = stock(n);
	for (unsigned i = 0; i < 3; i++)
		ask(n, &a[i], i, 1, i == 1);
	a[1].then = ask_late; /* from within done() */
	close(n->listen_fd);
	n->listen_fd = -1;
	close(fd);
	for (unsigned i = 0; i < 3; i++) {
		await_answer(n, &a[i]);
		assert_int_equal(a[i].nr_pages, 0);
		assert_int_equal(a[i].code, EIO);
		assert_non_null(strstr(a[i].text, "127.0.0.1"));
		assert_non_null(strstr(a[i].text, "Connection refused"));
	}
	assert_string_equal(late.text, a[0].text);
	assert_non_null(strstr(n->told, "giving up"));
	/* The rest of a life: nothing hangs. */
	assert_int_equal(ask_from(n->source, &late, 61, 1, true), SOURCE_LOST);
	settle(n);
	assert_int_equal(remote_end(n->remote, &n->err), -EIO);
}

/* It comes back again and again, and never brings a page. */
static void test_gives_up_on_a_server_that_only_connects(void **state)
{
	struct net *n = *state;
	struct asked a = {0};
	int fd;

	n->options.reconnect_timeout = 200 * NSEC_PER_MSEC;
	fd = stock(n);
	ask(n, &a, 3, 1, true);
	while (!a.nr_done) {
		struct ps_header h;

		if (readable(fd, 1)) {
			close(fd);
			while (!a.nr_done && !comes(n, n->listen_fd, 1))
				;
			if (a.nr_done)
				break;
			fd = accept(n->listen_fd, NULL, NULL);
			net_tune(fd, 60);
			while (!a.nr_done && !comes(n, fd, 1))
				;
			if (a.nr_done || recv(fd, &h, sizeof(h), MSG_DONTWAIT) != 32)
				continue;
			give(n, fd,
			     &(struct ps_header){.nr_pages = 1, .vaddr = FIRST, .dst_id = PID}, 1);
		}
		turn(n);
	}
	assert_int_equal(a.nr_pages, 0);
	assert_non_null(strstr(a.text, "lost, for"));
	close(fd);
}

static void test_ps_socket_cannot_come_back(void **state)
{
	struct net *n = *state;
	struct asked a = {0};
	struct ps_header h;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	n->options.ps_socket = pair[0];
	connect_begin(n);
	h = get(n, pair[1]);
	give(n, pair[1], &h, 1);
	connect_done(n);
	ask(n, &a, 1, 1, true);
	get(n, pair[1]);
	close(pair[1]);
	await_answer(n, &a);
	assert_int_equal(a.nr_pages, 0);
	assert_non_null(strstr(a.text, "cannot be connected to again"));
}

/* While the dialer waits for an answer that does not come. */
static void test_free_while_dialling(void **state)
{
	struct net *n = *state;
	int fd = stock(n), deaf;
	int64_t since;

	close(fd);
	deaf = accept_one(n);
	get(n, deaf);
	since = clock_now();
	source_close(n->source);
	n->source = NULL;
	ring_free(n->ring);
	n->ring = NULL;
	remote_free(n->remote);
	n->remote = NULL;
	print_message("ended after %.3f s\n", (double)(clock_now() - since) / 1e9);
	close(deaf);
}

static void test_end_while_away(void **state)
{
	struct net *n = *state;
	int fd = stock(n);

	close(n->listen_fd);
	n->listen_fd = -1;
	close(fd);
	await_trouble(n, 1);
	assert_int_equal(remote_end(n->remote, &n->err), -ENOTCONN);
}

/* --- answers that are none ------------------------------------------------------------------- */

static void wrong_vaddr(struct ps_header *h)
{
	h->vaddr += PAGE_SIZE;
}

static void too_many(struct ps_header *h)
{
	h->nr_pages++;
}

static void none(struct ps_header *h)
{
	h->nr_pages = 0;
}

static void other_process(struct ps_header *h)
{
	h->dst_id += UINT64_C(1) << 32;
}

static void (*const damage[])(struct ps_header *h) = {wrong_vaddr, too_many, none, other_process};

/* Once: the connection is not trusted any more, and the next one brings it. */
static void test_wrong_answer(void **state)
{
	struct net *n = *state;
	struct asked a = {0};
	struct ps_header h, bad;
	int fd = stock(n);

	for (unsigned i = 0; i < 4; i++) {
		ask(n, &a, 10 + i, 2, false);
		bad = h = get(n, fd);
		damage[i](&bad);
		give_header(n, fd, &bad, bad.nr_pages, 0);
		server_eof(n, fd);
		fd = accept_stock(n);
		h = get(n, fd);
		assert_int_equal(h.vaddr, page_at(10 + i));
		give(n, fd, &h, h.nr_pages);
		await_answer(n, &a);
		assert_in_range(a.nr_pages, 1, 2);
	}
	close(fd);
}

/* Time and again: that page is lost, the others are not. */
static void test_always_a_wrong_answer(void **state)
{
	struct net *n = *state;
	struct asked a = {0}, b = {0};
	struct ps_header h;
	int fd = stock(n);

	ask(n, &a, 10, 1, true);
	ask(n, &b, 20, 1, false);
	for (unsigned i = 0; i < 3; i++) {
		h = get(n, fd);
		assert_get(&h, 10, 1);
		h.vaddr += PAGE_SIZE;
		give_header(n, fd, &h, 1, 0);
		assert_int_equal(a.nr_done, 0);
		while (readable(fd, 1) && recv(fd, &h, sizeof(h), MSG_DONTWAIT) > 0)
			turn(n);
		server_eof(n, fd);
		fd = accept_stock(n);
	}
	await_answer(n, &a);
	assert_int_equal(a.nr_pages, 0);
	assert_int_equal(a.code, EPROTO);
	h = get(n, fd);
	assert_get(&h, 20, 1);
	give(n, fd, &h, 1);
	await_answer(n, &b);
	assert_int_equal(b.nr_pages, 1);
	close(fd);
}

static void test_unasked(void **state)
{
	struct net *n = *state;
	struct ps_header h = {.nr_pages = 1, .vaddr = FIRST, .dst_id = PID};
	int fd = stock(n);

	give_header(n, fd, &h, 1, 0);
	server_eof(n, fd);
	fd = accept_stock(n);
	assert_non_null(strstr(n->told, "nobody has asked for"));
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_NET(test_end_of_stream),
		IN_NET(test_reset),
		IN_NET(test_half_an_answer),
		IN_NET(test_less_than_a_page),
		IN_NET(test_lost_while_shaking_hands),
		IN_NET(test_lost_twice),
		IN_NET(test_cancelled_while_away),
		IN_NET(test_lost_while_idle),
		IN_NET(test_silence),
		IN_NET(test_away),
		IN_NET(test_gives_up),
		IN_NET(test_gives_up_on_a_server_that_only_connects),
		IN_NET(test_ps_socket_cannot_come_back),
		IN_NET(test_free_while_dialling),
		IN_NET(test_end_while_away),
		IN_NET(test_wrong_answer),
		IN_NET(test_always_a_wrong_answer),
		IN_NET(test_unasked),
	};

	return cmocka_run_group_tests_name("remote source, losses", tests, NULL, NULL);
}
