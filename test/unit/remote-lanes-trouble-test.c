/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A remote and a server of ours: wrong checksums, pages that are not there, losses, packed pages.
 */
#include "test/unit/remote-lanes.h"

#include <lz4.h>

/* --- what is wrong, and what is not there ---------------------------------------------------- */

static unsigned bad_pages(const struct net *n)
{
	struct remote_stats stats;

	remote_stats(n->remote, &stats);
	return (unsigned)stats.bad_pages;
}

static void test_wrong_sum(void **state)
{
	const struct flaw flaw = {.page = true};
	struct net *n = *state;
	struct asked a = {0};
	struct lanes l = lanes(n);
	struct lanes_header h;

	ask(n, &a, 5, 4, false);
	h = fetch(n, l.bulk, 5, 4);
	data(n, l.bulk, &h, 4, &flaw);
	h = fetch(n, l.bulk, 5, 4); /* on the same lane */
	assert_int_equal(a.nr_done, 0);
	data(n, l.bulk, &h, 4, NULL);
	await_answer(n, &a);
	assert_int_equal(a.nr_pages, 4);
	assert_int_equal(bad_pages(n), 1);
	assert_int_equal(n->nr_troubles, 0);
	close_lanes(&l);
}

static void test_wrong_sum_in_the_middle(void **state)
{
	const struct flaw flaw = {.page = true, .nr = 2};
	struct net *n = *state;
	struct asked a = {0};
	struct lanes l = lanes(n);
	struct lanes_header h;

	ask(n, &a, 5, 4, false);
	h = fetch(n, l.bulk, 5, 4);
	data(n, l.bulk, &h, 4, &flaw);
	await_answer(n, &a);
	assert_int_equal(a.nr_pages, 2); /* those before it are good */
	assert_int_equal(bad_pages(n), 1);
	close_lanes(&l);
}

static void test_always_a_wrong_sum(void **state)
{
	const struct flaw flaw = {.page = true};
	struct net *n = *state;
	struct asked a = {0}, b = {0};
	struct lanes l = lanes(n);
	struct lanes_header h;

	ask(n, &a, 5, 1, true);
	for (unsigned i = 0; i < 3; i++) {
		h = fetch(n, l.urgent, 5, 1);
		data(n, l.urgent, &h, 1, &flaw);
	}
	await_answer(n, &a);
	assert_int_equal(a.nr_pages, 0);
	assert_int_equal(a.code, EIO);
	assert_non_null(strstr(a.text, "0x7f0000005000 of process 77"));
	assert_int_equal(bad_pages(n), 3);
	ask(n, &b, 6, 1, true);
	h = fetch(n, l.urgent, 6, 1);
	data(n, l.urgent, &h, 1, NULL);
	await_answer(n, &b);
	assert_int_equal(b.nr_pages, 1);
	close_lanes(&l);
}

static void test_miss(void **state)
{
	struct net *n = *state;
	struct asked a[2] = {0};
	struct lanes l = lanes(n);
	struct lanes_header h[2], miss;

	for (unsigned i = 0; i < 2; i++) {
		ask(n, &a[i], 5 + i, 1, true);
		h[i] = fetch(n, l.urgent, 5 + i, 1);
	}
	miss = h[0];
	miss.cmd = LANES_MISS;
	miss.nr_pages = ENOENT;
	send_message(n, l.urgent, &miss, NULL, 0);
	data(n, l.urgent, &h[1], 1, NULL);
	await_answer(n, &a[1]);
	assert_int_equal(a[0].nr_done, 1);
	assert_int_equal(a[0].nr_pages, 0);
	assert_int_equal(a[0].code, ENOENT);
	assert_int_equal(a[1].nr_pages, 1);
	close_lanes(&l);
}

/* A message that cannot be trusted: that lane is dialled anew, the other goes on. */
static void test_wrong_check(void **state)
{
	const struct flaw flaw = {.check = true};
	struct net *n = *state;
	struct asked a = {0}, b = {0};
	struct lanes l = lanes(n);
	struct lanes_header h;

	ask(n, &a, 5, 1, false);
	h = fetch(n, l.bulk, 5, 1);
	data(n, l.bulk, &h, 1, &flaw);
	server_eof(n, l.bulk);
	ask(n, &b, 9, 1, true);
	h = fetch(n, l.urgent, 5, 1); /* the lane that is left carries all */
	data(n, l.urgent, &h, 1, NULL);
	h = fetch(n, l.urgent, 9, 1);
	data(n, l.urgent, &h, 1, NULL);
	await_answer(n, &b);
	await_answer(n, &a);
	l.bulk = accept_lane(n, LANE_BULK);
	settle(n);
	ask(n, &a, 6, 1, false);
	h = fetch(n, l.bulk, 6, 1);
	data(n, l.bulk, &h, 1, NULL);
	await_answer(n, &a);
	close_lanes(&l);
}

/* --- losses ---------------------------------------------------------------------------------- */

static void test_urgent_lane_lost(void **state)
{
	struct net *n = *state;
	struct asked a = {0}, b = {0};
	struct lanes l = lanes(n);
	struct lanes_header h;

	ask(n, &a, 5, 1, true);
	fetch(n, l.urgent, 5, 1);
	close(l.urgent);
	h = fetch(n, l.bulk, 5, 1);
	data(n, l.bulk, &h, 1, NULL);
	await_answer(n, &a);
	l.urgent = accept_lane(n, LANE_URGENT); /* no question: it is known who we are */
	settle(n);
	ask(n, &b, 6, 1, true);
	h = fetch(n, l.urgent, 6, 1);
	data(n, l.urgent, &h, 1, NULL);
	await_answer(n, &b);
	close_lanes(&l);
}

/* It was waited for, but the answer was near: on the next lane it is urgent. */
static void test_lost_after_hurry(void **state)
{
	struct net *n = *state;
	struct asked a[2] = {0};
	struct lanes l = lanes(n);
	struct lanes_header h;

	for (unsigned i = 0; i < 2; i++)
		ask(n, &a[i], 5 + i, 1, false);
	for (unsigned i = 0; i < 2; i++)
		fetch(n, l.bulk, 5 + i, 1);
	source_hurry(n->source, &a[1].request);
	close(l.bulk);
	h = fetch(n, l.urgent, 6, 1);
	data(n, l.urgent, &h, 1, NULL);
	await_answer(n, &a[1]);
	assert_int_equal(a[0].nr_done, 0);
	close(l.urgent);
	source_cancel(n->source, &a[0].request);
}

/* What is on its way by the other lane, too, is not asked for again. */
static void test_lost_with_a_twin(void **state)
{
	struct net *n = *state;
	struct asked a[4] = {0};
	struct lanes l = lanes(n);
	struct lanes_header h[4], twin;

	fill_bulk(n, &l, a, h);
	source_hurry(n->source, &a[3].request);
	twin = message(n, l.urgent, NULL);
	close(n->listen_fd); /* the lane stays away */
	n->listen_fd = -1;
	close(l.bulk);
	for (unsigned i = 0; i < 3; i++) {
		h[i] = message(n, l.urgent, NULL);
		assert_int_equal(h[i].vaddr, page_at(64 * i));
	}
	assert_false(comes(n, l.urgent, 20));
	data(n, l.urgent, &twin, twin.nr_pages, NULL);
	for (unsigned i = 0; i < 3; i++)
		data(n, l.urgent, &h[i], 1, NULL);
	for (unsigned i = 0; i < 4; i++)
		await_answer(n, &a[i]);
	close(l.urgent);
}

/* One is enough to begin with; the other is dialled until it comes. */
static void test_further_lane_refused(void **state)
{
	struct net *n = *state;
	struct asked a = {0};
	struct lanes_header h;
	struct lanes l;

	n->options.images = IMAGES;
	connect_begin(n);
	l.urgent = accept_first(n);
	close(accept_one(n));
	connect_done(n);
	assert_int_equal(n->nr_troubles, 1);
	ask(n, &a, 3, 1, false);
	h = fetch(n, l.urgent, 3, 1);
	data(n, l.urgent, &h, 1, NULL);
	await_answer(n, &a);
	close(accept_one(n));
	l.bulk = accept_lane(n, LANE_BULK);
	settle(n);
	ask(n, &a, 4, 1, false);
	h = fetch(n, l.bulk, 4, 1);
	data(n, l.bulk, &h, 1, NULL);
	await_answer(n, &a);
	close_lanes(&l);
}

/* An idle lane is asked whether it is there; one that does not answer is dialled anew. */
static void test_ping(void **state)
{
	struct net *n = *state;
	struct lanes_header h;
	struct lanes l;

	n->options.answer_timeout = 300 * NSEC_PER_MSEC;
	l = lanes(n);
	for (unsigned i = 0; i < 2; i++) {
		h = message(n, l.bulk, NULL);
		assert_int_equal(h.cmd, LANES_PING);
		h.cmd = LANES_PONG;
		send_message(n, l.bulk, &h, NULL, 0);
		h = message(n, l.urgent, NULL);
		assert_int_equal(h.cmd, LANES_PING);
		h.cmd = LANES_PONG;
		if (i == 0)
			send_message(n, l.urgent, &h, NULL, 0);
	}
	assert_int_equal(n->nr_troubles, 0);
	while (!n->nr_troubles)
		turn(n);
	assert_non_null(strstr(n->told, "not a byte came"));
	close_lanes(&l);
}

/* The first bytes that come, as a command; 0: the helper has hung up, as it dials otherwise now. */
static uint32_t peek(struct net *n, int fd)
{
	uint32_t cmd;

	while (!comes(n, fd, 1))
		;
	return recv(fd, &cmd, sizeof(cmd), MSG_PEEK) == sizeof(cmd) ? cmd : 0;
}

/* Both are lost: the first that comes back asks who is there. */
static void test_both_lost(void **state)
{
	struct net *n = *state;
	struct asked a = {0}, b = {0};
	struct lanes l = lanes(n);
	struct lanes_header h;

	ask(n, &a, 5, 1, true);
	ask(n, &b, 6, 1, false);
	fetch(n, l.urgent, 5, 1);
	fetch(n, l.bulk, 6, 1);
	close_lanes(&l);
	/* The remote sees one after the other, or both at once. */
	while (n->nr_troubles < 2)
		turn(n);
	while (!a.nr_done || !b.nr_done) {
		int fd = accept_one(n);
		uint32_t cmd = peek(n, fd);

		if (cmd == PS_GET) {
			struct ps_header g = get(n, fd);
			uint8_t *page = make_pages(PID, FIRST, 1);

			give_header(n, fd, &g, 1, LANES_ANSWER);
			server_write(n, fd, page, PAGE_SIZE);
			free(page);
		}
		if (cmd)
			hello(n, fd, IMAGES);
		for (unsigned i = 0; cmd && i < 2 && comes(n, fd, 50) && peek(n, fd); i++) {
			h = message(n, fd, NULL);
			data(n, fd, &h, 1, NULL);
			settle(n);
		}
	}
	assert_int_equal(a.nr_pages + b.nr_pages, 2);
}

/* A server of CRIU stands there now. */
static void test_another_server(void **state)
{
	struct net *n = *state;
	struct asked a = {0};
	struct lanes l = lanes(n);
	struct ps_header h;
	int fd;

	close(l.urgent);
	close(l.bulk);
	while (n->nr_troubles < 2)
		turn(n);
	for (;;) { /* a HELLO may be on its way that began when one lane was left */
		fd = accept_one(n);
		if (peek(n, fd) == PS_GET)
			break;
		close(fd);
	}
	h = get(n, fd);
	give(n, fd, &h, 1);
	ask(n, &a, 7, 1, true);
	h = get(n, fd);
	assert_get(&h, 7, 1);
	give(n, fd, &h, 1);
	await_answer(n, &a);
	close(fd);
}

/* --- packed ---------------------------------------------------------------------------------- */

static void packed(struct net *n, int fd, const struct lanes_header *fetched, bool flaw)
{
	uint8_t *pages = make_pages(fetched->pid, fetched->vaddr, fetched->nr_pages);
	int raw = (int)(fetched->nr_pages * PAGE_SIZE), len;
	uint8_t tail[LANES_MAX_TAIL];
	uint64_t sums[LANES_MAX_PAGES];
	struct lanes_header h = *fetched;
	char *body = malloc((size_t)raw);
	size_t tail_len;

	assert_non_null(body);
	for (uint64_t i = 0; i < h.nr_pages; i++)
		sums[i] = lanes_page_sum(pages + i * PAGE_SIZE);
	len = LZ4_compress_default((const char *)pages, body, raw, raw);
	assert_in_range(len, 1, raw);
	if (flaw)
		memset(body, 0xff, (size_t)len);
	h.cmd = LANES_DATA;
	tail_len = lanes_encode_data(LANES_ENCODED_LZ4, (uint32_t)len, sums, h.nr_pages, tail);
	send_message(n, fd, &h, tail, tail_len);
	server_write(n, fd, body, (size_t)len);
	free(body);
	free(pages);
}

static void test_packed(void **state)
{
	struct net *n = *state;
	struct asked a[5] = {0};
	struct lanes_header h[5];
	struct lanes l;

	n->options.compress = true;
	l = lanes(n);
	for (unsigned i = 0; i < 5; i++)
		ask(n, &a[i], 100 * i, 1 + 15 * i, false);
	for (unsigned i = 0; i < 5; i++)
		h[i] = fetch(n, l.bulk, 100 * i, 1 + 15 * i);
	for (unsigned i = 0; i < 5; i++) {
		if (i == 2)
			data(n, l.bulk, &h[i], h[i].nr_pages, NULL);
		else
			packed(n, l.bulk, &h[i], false);
	}
	for (unsigned i = 0; i < 5; i++) {
		await_answer(n, &a[i]);
		assert_int_equal(a[i].nr_pages, 1 + 15 * i);
	}
	close_lanes(&l);
}

static void test_packed_wrongly(void **state)
{
	struct net *n = *state;
	struct asked a = {0};
	struct lanes_header h;
	struct lanes l;

	n->options.compress = true;
	l = lanes(n);
	ask(n, &a, 3, 8, false);
	h = fetch(n, l.bulk, 3, 8);
	packed(n, l.bulk, &h, true);
	h = fetch(n, l.bulk, 3, 8);
	packed(n, l.bulk, &h, false);
	await_answer(n, &a);
	assert_int_equal(a.nr_pages, 8);
	assert_int_equal(bad_pages(n), 1);
	close_lanes(&l);
}

static void test_packed_without_being_asked(void **state)
{
	struct net *n = *state;
	struct asked a = {0};
	struct lanes_header h;
	struct lanes l = lanes(n);

	ask(n, &a, 3, 8, false);
	h = fetch(n, l.bulk, 3, 8);
	packed(n, l.bulk, &h, false);
	while (!n->nr_troubles)
		turn(n);
	assert_non_null(strstr(n->told, "was not asked to"));
	source_cancel(n->source, &a.request);
	close_lanes(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_NET(test_wrong_sum),
		IN_NET(test_wrong_sum_in_the_middle),
		IN_NET(test_always_a_wrong_sum),
		IN_NET(test_miss),
		IN_NET(test_wrong_check),
		IN_NET(test_urgent_lane_lost),
		IN_NET(test_lost_after_hurry),
		IN_NET(test_lost_with_a_twin),
		IN_NET(test_further_lane_refused),
		IN_NET(test_ping),
		IN_NET(test_both_lost),
		IN_NET(test_another_server),
		IN_NET(test_packed),
		IN_NET(test_packed_wrongly),
		IN_NET(test_packed_without_being_asked),
	};

	return cmocka_run_group_tests_name("remote source, lanes and trouble", tests, NULL, NULL);
}
