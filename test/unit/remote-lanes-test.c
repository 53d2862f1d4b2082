/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A remote and a server of ours: HELLO, what goes over which lane, the end. */
#include "test/unit/remote-lanes.h"

/* --- HELLO ----------------------------------------------------------------------------------- */

static void test_hello(void **state)
{
	struct net *n = *state;
	struct lanes l = lanes(n);

	assert_int_equal(n->nr_troubles, 0);
	close_lanes(&l);
}

static void test_hello_at_once_when_told(void **state)
{
	struct net *n = *state;
	struct lanes l;

	n->options.protocol = REMOTE_LANES;
	n->options.images = IMAGES;
	connect_begin(n);
	l.urgent = accept_lane(n, LANE_URGENT);
	l.bulk = accept_lane(n, LANE_BULK);
	connect_done(n);
	close_lanes(&l);
}

static void test_other_images(void **state)
{
	struct net *n = *state;
	int fd;

	n->options.protocol = REMOTE_LANES;
	n->options.images = IMAGES;
	connect_begin(n);
	fd = accept_one(n);
	hello(n, fd, IMAGES + 1);
	connect_failed(n);
	assert_int_equal(n->result, -EPROTO);
	assert_non_null(strstr(n->err.text, "1122334455667788"));
	assert_non_null(strstr(n->err.text, "1122334455667789"));
	close(fd);
}

/* One of them does not know. */
static void test_images_not_known(void **state)
{
	struct net *n = *state;
	struct lanes l;

	n->options.protocol = REMOTE_LANES;
	n->options.images = IMAGES;
	connect_begin(n);
	l.urgent = accept_one(n);
	hello(n, l.urgent, 0);
	l.bulk = accept_lane(n, LANE_BULK);
	connect_done(n);
	close_lanes(&l);
}

static void test_no_hello(void **state)
{
	struct net *n = *state;
	struct lanes_header h;
	int fd;

	n->options.protocol = REMOTE_LANES;
	connect_begin(n);
	fd = accept_one(n);
	message(n, fd, NULL);
	h = (struct lanes_header){.cmd = LANES_PONG};
	send_message(n, fd, &h, NULL, 0);
	connect_failed(n);
	assert_int_equal(n->result, -EPROTO);
	assert_non_null(strstr(n->err.text, "where HELLO was expected"));
	close(fd);
}

/* One connection is all there is: it carries everything. */
static void test_ps_socket(void **state)
{
	struct net *n = *state;
	struct asked a = {0}, b = {0};
	struct lanes_header h;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	n->options.ps_socket = pair[0];
	n->options.protocol = REMOTE_LANES;
	n->options.images = IMAGES;
	connect_begin(n);
	hello(n, pair[1], IMAGES);
	connect_done(n);
	ask(n, &a, 3, 3, false);
	ask(n, &b, 9, 1, true);
	h = fetch(n, pair[1], 3, 3);
	data(n, pair[1], &h, 3, NULL);
	h = fetch(n, pair[1], 9, 1);
	data(n, pair[1], &h, 1, NULL);
	await_answer(n, &a);
	await_answer(n, &b);
	close(pair[1]);
}

/* --- two lanes ------------------------------------------------------------------------------- */

static void test_each_on_its_lane(void **state)
{
	struct net *n = *state;
	struct asked bulk[10] = {0}, urgent[3] = {0};
	struct lanes l = lanes(n);
	struct lanes_header h[10];

	for (unsigned i = 0; i < 10; i++)
		ask(n, &bulk[i], 100 + 20 * i, 20, false);
	for (unsigned i = 0; i < 3; i++)
		ask(n, &urgent[i], i, 1, true);
	for (unsigned i = 0; i < 3; i++) {
		h[i] = fetch(n, l.urgent, i, 1);
		data(n, l.urgent, &h[i], 1, NULL);
	}
	await_answer(n, &urgent[2]);
	assert_int_equal(urgent[0].nr_done + urgent[1].nr_done, 2);
	assert_int_equal(bulk[0].nr_done, 0);
	for (unsigned i = 0; i < 10; i++)
		h[i] = fetch(n, l.bulk, 100 + 20 * i, 20);
	for (unsigned i = 0; i < 10; i++)
		data(n, l.bulk, &h[i], 20 - i, NULL);
	for (unsigned i = 0; i < 10; i++) {
		await_answer(n, &bulk[i]);
		assert_int_equal(bulk[i].nr_pages, 20 - i);
	}
	close_lanes(&l);
}

/* A thread begins to wait for what stands behind much: it is asked for once more. */
static void test_hurry(void **state)
{
	struct net *n = *state;
	struct asked a[4] = {0};
	struct lanes l = lanes(n);
	struct lanes_header h[4], twin;

	fill_bulk(n, &l, a, h);
	source_hurry(n->source, &a[3].request);
	source_hurry(n->source, &a[3].request); /* not a third time */
	twin = message(n, l.urgent, NULL);
	assert_int_equal(twin.vaddr, page_at(64 * 3));
	assert_false(comes(n, l.urgent, 10));
	data(n, l.urgent, &twin, twin.nr_pages, NULL);
	await_answer(n, &a[3]);
	assert_int_equal(a[3].nr_pages, twin.nr_pages);
	assert_int_equal(a[0].nr_done, 0);
	/* The first one's answer comes, too, and is of no interest. */
	for (unsigned i = 0; i < 4; i++)
		data(n, l.bulk, &h[i], 64, NULL);
	for (unsigned i = 0; i < 3; i++)
		await_answer(n, &a[i]);
	close_lanes(&l);
}

static void test_hurry_and_the_first_wins(void **state)
{
	struct net *n = *state;
	struct asked a[4] = {0}, b = {0};
	struct lanes l = lanes(n);
	struct lanes_header h[4], twin, next;

	fill_bulk(n, &l, a, h);
	source_hurry(n->source, &a[3].request);
	twin = message(n, l.urgent, NULL);
	for (unsigned i = 0; i < 4; i++)
		data(n, l.bulk, &h[i], 64, NULL);
	await_answer(n, &a[3]);
	assert_int_equal(a[3].nr_pages, 64);
	ask(n, &b, 999, 1, true);
	next = fetch(n, l.urgent, 999, 1);
	data(n, l.urgent, &twin, twin.nr_pages, NULL);
	data(n, l.urgent, &next, 1, NULL);
	await_answer(n, &b);
	close_lanes(&l);
}

static void test_hurry_and_cancel(void **state)
{
	struct net *n = *state;
	struct asked a[4] = {0}, b = {0};
	struct lanes l = lanes(n);
	struct lanes_header h[4], twin, next;

	fill_bulk(n, &l, a, h);
	source_hurry(n->source, &a[3].request);
	twin = message(n, l.urgent, NULL);
	source_cancel(n->source, &a[3].request);
	memset(&a[3], 0xee, sizeof(a[3]));
	ask(n, &b, 999, 1, true);
	next = fetch(n, l.urgent, 999, 1);
	data(n, l.urgent, &twin, twin.nr_pages, NULL);
	data(n, l.urgent, &next, 1, NULL);
	for (unsigned i = 0; i < 4; i++)
		data(n, l.bulk, &h[i], 64, NULL);
	await_answer(n, &b);
	await_answer(n, &a[2]);
	settle(n);
	close_lanes(&l);
}

/* What comes soon anyway is not asked for twice. */
static void test_hurry_in_front(void **state)
{
	struct net *n = *state;
	struct asked a[4] = {0};
	struct lanes l = lanes(n);
	struct lanes_header h[4];

	fill_bulk(n, &l, a, h);
	source_hurry(n->source, &a[0].request);
	assert_false(comes(n, l.urgent, 10));
	for (unsigned i = 0; i < 4; i++)
		data(n, l.bulk, &h[i], 64, NULL);
	await_answer(n, &a[3]);
	close_lanes(&l);
}

/* --- the end --------------------------------------------------------------------------------- */

static void test_bye(void **state)
{
	struct net *n = *state;
	struct lanes l = lanes(n);
	struct lanes_header h;

	source_close(n->source);
	n->source = NULL;
	ring_free(n->ring);
	n->ring = NULL;
	assert_int_equal(remote_end(n->remote, &n->err), 0);
	h = message(n, l.urgent, NULL);
	assert_int_equal(h.cmd, LANES_BYE);
	h = message(n, l.bulk, NULL);
	assert_int_equal(h.cmd, LANES_BYE);
	server_eof(n, l.urgent);
	server_eof(n, l.bulk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_NET(test_hello),
		IN_NET(test_hello_at_once_when_told),
		IN_NET(test_other_images),
		IN_NET(test_images_not_known),
		IN_NET(test_no_hello),
		IN_NET(test_ps_socket),
		IN_NET(test_each_on_its_lane),
		IN_NET(test_hurry),
		IN_NET(test_hurry_and_the_first_wins),
		IN_NET(test_hurry_and_cancel),
		IN_NET(test_hurry_in_front),
		IN_NET(test_bye),
	};

	return cmocka_run_group_tests_name("remote source, lanes", tests, NULL, NULL);
}
