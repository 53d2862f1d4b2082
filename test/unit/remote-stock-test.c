/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A remote and a server of CRIU: the first question, requests and answers, the end. */
#include "test/unit/remote-world.h"

/* --- the first question ---------------------------------------------------------------------- */

static void first_mark(struct net *n, uint32_t mark)
{
	struct remote_stats stats;
	struct ps_header h;
	struct asked a = {0};
	int fd;

	connect_begin(n);
	fd = accept_one(n);
	h = get(n, fd);
	assert_get(&h, 0, 1);
	assert_int_equal(h.dst_id, PID);
	assert_int_equal(h.mark, mark);
	give(n, fd, &h, 1);
	connect_done(n);
	remote_stats(n->remote, &stats);
	assert_false(stats.lanes);
	/* From then on CRIU's own. */
	ask(n, &a, 3, 2, false);
	h = get(n, fd);
	assert_get(&h, 3, 2);
	assert_int_equal(h.mark, 0);
	give(n, fd, &h, 2);
	await_answer(n, &a);
	assert_int_equal(a.nr_pages, 2);
	close(fd);
}

static void test_asks_by_the_padding(void **state)
{
	first_mark(*state, LANES_ASK);
}

static void test_does_not_ask_when_told(void **state)
{
	struct net *n = *state;

	n->options.protocol = REMOTE_CRIU;
	first_mark(n, 0);
}

static void test_old_header(void **state)
{
	struct net *n = *state;

	n->options.old_header = true;
	first_mark(n, 0);
}

static void test_refused(void **state)
{
	struct net *n = *state;

	close(n->listen_fd);
	n->listen_fd = -1;
	connect_begin(n);
	connect_failed(n);
	assert_int_equal(n->result, -ECONNREFUSED);
	assert_non_null(strstr(n->err.text, "127.0.0.1"));
}

static void test_hangs_up_at_the_first_question(void **state)
{
	struct net *n = *state;
	int fd;

	connect_begin(n);
	fd = accept_one(n);
	get(n, fd);
	close(fd);
	connect_failed(n);
	assert_int_equal(n->result, -ECONNRESET);
	assert_non_null(strstr(n->err.text, "a server of CRIU up to 4.1.1 does not understand"));
}

static void test_first_answer_is_wrong(void **state)
{
	struct net *n = *state;
	struct ps_header h;
	int fd;

	connect_begin(n);
	fd = accept_one(n);
	h = get(n, fd);
	h.vaddr += PAGE_SIZE;
	give(n, fd, &h, 1);
	connect_failed(n);
	assert_int_equal(n->result, -EPROTO);
	close(fd);
}

/* --- requests and answers -------------------------------------------------------------------- */

static void test_many_in_flight(void **state)
{
	struct net *n = *state;
	struct asked a[20] = {0};
	struct ps_header h[20];
	int fd = stock(n);

	for (unsigned i = 0; i < 20; i++)
		ask(n, &a[i], 10 * i, 1 + i % 5, false);
	for (unsigned i = 0; i < 20; i++) { /* all are there before one is answered */
		h[i] = get(n, fd);
		assert_get(&h[i], 10 * i, 1 + i % 5);
	}
	for (unsigned i = 0; i < 20; i++)
		give(n, fd, &h[i], 1 + i % 5);
	for (unsigned i = 0; i < 20; i++) {
		await_answer(n, &a[i]);
		assert_int_equal(a[i].nr_pages, 1 + i % 5);
	}
	close(fd);
}

static void test_two_processes(void **state)
{
	struct net *n = *state;
	struct asked a = {0}, b = {.pid = OTHER_PID};
	struct source *other;
	struct ps_header h;
	int fd = stock(n);

	other = remote_source(n->remote, OTHER_PID);
	assert_non_null(other);
	ask(n, &a, 1, 1, false);
	assert_int_equal(ask_from(other, &b, 1, 1, false), SOURCE_LATER);
	for (unsigned i = 0; i < 2; i++) {
		h = get(n, fd);
		assert_int_equal(h.dst_id, i ? OTHER_PID : PID);
		give(n, fd, &h, 1);
	}
	await_answer(n, &a);
	await_answer(n, &b);
	source_close(other);
	close(fd);
}

static void test_short_grant(void **state)
{
	struct net *n = *state;
	struct asked a = {0};
	struct ps_header h;
	int fd = stock(n);

	ask(n, &a, 5, 40, false);
	h = get(n, fd);
	give(n, fd, &h, 7);
	await_answer(n, &a);
	assert_int_equal(a.nr_pages, 7);
	close(fd);
}

static void test_large_is_cut(void **state)
{
	struct net *n = *state;
	struct asked a = {0};
	struct ps_header h;
	int fd = stock(n);

	ask(n, &a, 0, 100000, false);
	assert_in_range(a.request.nr_pages, 16, 256);
	h = get(n, fd);
	assert_get(&h, 0, a.request.nr_pages);
	give(n, fd, &h, h.nr_pages);
	await_answer(n, &a);
	assert_int_equal(a.nr_pages, a.request.nr_pages);
	close(fd);
}

static void test_a_byte_at_a_time(void **state)
{
	struct net *n = *state;
	struct asked a[2] = {0};
	struct ps_header h, reply;
	uint8_t buf[PS_HEADER_MAX + PAGE_SIZE];
	size_t len;
	int fd = stock(n);

	ask(n, &a[0], 1, 1, true);
	ask(n, &a[1], 2, 1, true);
	for (unsigned i = 0; i < 2; i++) {
		h = reply = get(n, fd);
		reply.cmd = PS_ADD_F | PS_PRESENT_FLAG << 16;
		len = ps_encode(PS_32, &reply, buf);
		fill_page(buf + len, PID, h.vaddr);
		for (size_t at = 0; at < len + PAGE_SIZE; at++) {
			server_write(n, fd, buf + at, 1);
			if (at < 40 || at % 64 == 0)
				wait_ring(n->ring, 0);
		}
	}
	await_answer(n, &a[0]);
	await_answer(n, &a[1]);
	close(fd);
}

/* --- order, windows -------------------------------------------------------------------------- */

/* Of 40 MiB only some are on their way; an urgent request goes before those that are not. */
static void test_urgent_overtakes(void **state)
{
	enum { NR = 40, PIECE = 64 };
	struct net *n = *state;
	struct asked a[NR] = {0}, urgent = {0};
	unsigned sent = 0, i;
	struct ps_header h[NR];
	int fd = stock(n);

	for (i = 0; i < NR; i++)
		ask(n, &a[i], i * PIECE, PIECE, false);
	while (comes(n, fd, 20)) {
		h[sent] = get(n, fd);
		assert_get(&h[sent], sent * PIECE, PIECE);
		sent++;
	}
	assert_in_range(sent, 1, (4 << 20) / (PIECE * PAGE_SIZE));
	ask(n, &urgent, 9999, 1, true);
	h[sent] = get(n, fd);
	assert_get(&h[sent], 9999, 1);
	for (i = 0; i <= sent; i++)
		give(n, fd, &h[i], h[i].nr_pages);
	await_answer(n, &urgent);
	assert_int_equal(a[0].nr_done, 1);
	/* And the rest follow, in order. */
	for (i = sent; i < NR; i++) {
		h[0] = get(n, fd);
		assert_get(&h[0], i * PIECE, PIECE);
		give(n, fd, &h[0], PIECE);
	}
	await_answer(n, &a[NR - 1]);
	close(fd);
}

/* How much is worth being asked for. */
static void test_room(void **state)
{
	enum { NR = 40, PIECE = 64 };
	struct net *n = *state;
	struct asked a[NR] = {0};
	uint64_t room, before;
	int fd = stock(n);

	room = remote_room(n->remote);
	assert_true(room >= PIECE * PAGE_SIZE);
	for (unsigned i = 0; i < NR; i++) {
		before = room;
		ask(n, &a[i], i * PIECE, PIECE, false);
		room = remote_room(n->remote);
		assert_int_equal(room, before - min_u64(before, PIECE * PAGE_SIZE));
	}
	assert_int_equal(room, 0);
	for (unsigned i = 0; i < NR; i++)
		source_cancel(n->source, &a[NR - 1 - i].request);
	/* What was sent is on its way all the same. */
	assert_int_equal(remote_room(n->remote), 0);
	close(fd);
	while (!n->nr_troubles)
		turn(n);
	assert_int_equal(remote_room(n->remote), 0); /* nor when nothing is up */
	fd = accept_stock(n);
	settle(n);
	assert_true(remote_room(n->remote) >= PIECE * PAGE_SIZE);
	close(fd);
}

static void test_hurry_moves_what_was_not_sent(void **state)
{
	enum { NR = 40, PIECE = 64 };
	struct net *n = *state;
	struct asked a[NR] = {0};
	struct ps_header h;
	int fd = stock(n);

	for (unsigned i = 0; i < NR; i++)
		ask(n, &a[i], i * PIECE, PIECE, false);
	while (comes(n, fd, 20))
		get(n, fd);
	source_hurry(n->source, &a[NR - 2].request);
	h = get(n, fd);
	assert_get(&h, (NR - 2) * PIECE, PIECE);
	/* One that is on its way cannot be overtaken on the only connection. */
	source_hurry(n->source, &a[0].request);
	assert_false(comes(n, fd, 20));
	close(fd);
	for (unsigned i = 0; i < NR; i++)
		source_cancel(n->source, &a[i].request);
}

/* --- requests that end early ----------------------------------------------------------------- */

static void test_cancelled_is_drained(void **state)
{
	struct net *n = *state;
	struct asked a[3] = {0};
	struct ps_header h[3];
	int fd = stock(n);

	for (unsigned i = 0; i < 3; i++)
		ask(n, &a[i], i * 10, 3, false);
	for (unsigned i = 0; i < 3; i++)
		h[i] = get(n, fd);
	source_cancel(n->source, &a[1].request);
	memset(&a[1], 0xee, sizeof(a[1])); /* nobody may touch it */
	for (unsigned i = 0; i < 3; i++)
		give(n, fd, &h[i], 3);
	await_answer(n, &a[2]);
	assert_int_equal(a[0].nr_done, 1);
	assert_int_equal(a[1].nr_done, 0xeeeeeeee);
	close(fd);
}

static void cancel_while_receiving(struct net *n, size_t bytes)
{
	struct asked a = {0}, b = {0};
	struct ps_header h;
	uint8_t buf[PS_HEADER_MAX], *pages = make_pages(PID, page_at(4), 4);
	struct ps_header reply;
	int fd = stock(n);

	ask(n, &a, 4, 4, false);
	h = reply = get(n, fd);
	reply.cmd = PS_ADD_F | PS_PRESENT_FLAG << 16;
	ps_encode(PS_32, &reply, buf);
	server_write(n, fd, buf, bytes < 32 ? bytes : 32);
	if (bytes > 32)
		server_write(n, fd, pages, bytes - 32);
	settle(n);
	source_cancel(n->source, &a.request);
	ask(n, &b, 8, 1, true);
	if (bytes < 32)
		server_write(n, fd, buf + bytes, 32 - bytes);
	server_write(n, fd, pages + (bytes > 32 ? bytes - 32 : 0),
	             4 * PAGE_SIZE - (bytes > 32 ? bytes - 32 : 0));
	h = get(n, fd);
	give(n, fd, &h, 1);
	await_answer(n, &b);
	assert_int_equal(a.nr_done, 0);
	free(pages);
	close(fd);
}

static void test_cancelled_in_the_header(void **state)
{
	cancel_while_receiving(*state, 5);
}

static void test_cancelled_in_the_pages(void **state)
{
	cancel_while_receiving(*state, 32 + 6000);
}

static struct asked *victim, *newcomer;

static void cancel_and_ask(struct asked *a)
{
	source_cancel(a->net->source, &victim->request);
	ask(a->net, newcomer, 50, 1, true);
	source_hurry(a->net->source, &a[1].request);
}

/* done() calls fetch, cancel and hurry. */
static void test_calls_from_done(void **state)
{
	struct net *n = *state;
	struct asked a[4] = {0}, extra = {0};
	struct ps_header h[4];
	int fd = stock(n);

	victim = &a[2];
	newcomer = &extra;
	a[0].then = cancel_and_ask;
	for (unsigned i = 0; i < 4; i++)
		ask(n, &a[i], i, 1, false);
	for (unsigned i = 0; i < 4; i++)
		h[i] = get(n, fd);
	for (unsigned i = 0; i < 4; i++)
		give(n, fd, &h[i], 1);
	h[0] = get(n, fd);
	assert_get(&h[0], 50, 1);
	give(n, fd, &h[0], 1);
	await_answer(n, &extra);
	assert_int_equal(a[1].nr_done, 1);
	assert_int_equal(a[2].nr_done, 0);
	assert_int_equal(a[3].nr_done, 1);
	close(fd);
}

/* --- the end --------------------------------------------------------------------------------- */

static void *end_main(void *cookie)
{
	struct net *n = cookie;

	n->result = remote_end(n->remote, &n->err);
	return NULL;
}

/* remote_end() waits: in a thread, and the ring stands still meanwhile. */
static void end_begin(struct net *n)
{
	source_close(n->source);
	n->source = NULL;
	ring_free(n->ring);
	n->ring = NULL;
	assert_int_equal(pthread_create(&n->thread, NULL, end_main, n), 0);
}

static void end_with(struct net *n, int fd, uint32_t cmd)
{
	struct ps_header h = get(n, fd);

	assert_int_equal(h.cmd, cmd);
	server_write(n, fd, "\0\0\0\0", 4);
	pthread_join(n->thread, NULL);
	if (n->result)
		fail_msg("%s", n->err.text);
}

static void test_end(void **state)
{
	struct net *n = *state;
	int fd = stock(n);

	end_begin(n);
	end_with(n, fd, PS_CLOSE);
	server_eof(n, fd);
}

/* A server of CRIU whose answer waits in its socket until it has seen our end. */
static void test_end_is_half_closed(void **state)
{
	struct net *n = *state;
	struct ps_header h;
	int fd = stock(n);
	char c;

	end_begin(n);
	h = get(n, fd);
	assert_int_equal(h.cmd, PS_CLOSE);
	assert_int_equal(read(fd, &c, 1), 0);
	server_write(n, fd, "\0\0\0\0", 4);
	pthread_join(n->thread, NULL);
	assert_int_equal(n->result, 0);
	close(fd);
}

/* What was asked for is read before CLOSE, though nobody wants it. */
static void test_end_drains(void **state)
{
	struct net *n = *state;
	struct asked a[2] = {0};
	struct ps_header h[2];
	int fd = stock(n);

	for (unsigned i = 0; i < 2; i++) {
		ask(n, &a[i], i * 100, 50, false);
		h[i] = get(n, fd);
	}
	source_cancel(n->source, &a[0].request);
	source_cancel(n->source, &a[1].request);
	end_begin(n);
	assert_false(comes(n, fd, 20));
	give(n, fd, &h[0], 50);
	give(n, fd, &h[1], 50);
	end_with(n, fd, PS_CLOSE);
	server_eof(n, fd);
}

static void test_end_is_not_answered(void **state)
{
	struct net *n = *state;
	int fd = stock(n);

	end_begin(n);
	get(n, fd);
	close(fd);
	pthread_join(n->thread, NULL);
	assert_int_equal(n->result, -ECONNRESET);
}

static void test_ps_socket(void **state)
{
	struct net *n = *state;
	struct ps_header h;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	n->options.ps_socket = pair[0];
	connect_begin(n);
	h = get(n, pair[1]);
	give(n, pair[1], &h, 1);
	connect_done(n);
	end_begin(n);
	end_with(n, pair[1], PS_FORCE_CLOSE);
	server_eof(n, pair[1]);
}

/* CLOSE makes a dumper kill its processes: never without remote_end(). */
static void test_free_only_disconnects(void **state)
{
	struct net *n = *state;
	int fd = stock(n);

	source_close(n->source);
	n->source = NULL;
	ring_free(n->ring);
	n->ring = NULL;
	remote_free(n->remote);
	n->remote = NULL;
	server_eof(n, fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_NET(test_asks_by_the_padding),
		IN_NET(test_does_not_ask_when_told),
		IN_NET(test_old_header),
		IN_NET(test_refused),
		IN_NET(test_hangs_up_at_the_first_question),
		IN_NET(test_first_answer_is_wrong),
		IN_NET(test_many_in_flight),
		IN_NET(test_two_processes),
		IN_NET(test_short_grant),
		IN_NET(test_large_is_cut),
		IN_NET(test_a_byte_at_a_time),
		IN_NET(test_urgent_overtakes),
		IN_NET(test_room),
		IN_NET(test_hurry_moves_what_was_not_sent),
		IN_NET(test_cancelled_is_drained),
		IN_NET(test_cancelled_in_the_header),
		IN_NET(test_cancelled_in_the_pages),
		IN_NET(test_calls_from_done),
		IN_NET(test_end),
		IN_NET(test_end_is_half_closed),
		IN_NET(test_end_drains),
		IN_NET(test_end_is_not_answered),
		IN_NET(test_ps_socket),
		IN_NET(test_free_only_disconnects),
	};

	return cmocka_run_group_tests_name("remote source, stock server", tests, NULL, NULL);
}
