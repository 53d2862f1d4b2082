/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Our own helper's lanes, as the server answers them. */
#include "test/unit/server-world.h"

#include "proto/lanes.h"

#include <lz4.h>

/* --- what a helper says ----------------------------------------------------------------------- */

static void say_header(struct caller *c, const struct lanes_header *h)
{
	uint8_t out[LANES_HEADER];

	lanes_encode(h, NULL, 0, out);
	say(c, out, sizeof(out));
}

static void say_hello(struct caller *c, const struct lanes_hello *hello)
{
	const struct lanes_header h = {.cmd = LANES_HELLO, .tag = 77};
	uint8_t out[LANES_HEADER + LANES_HELLO_TAIL];

	lanes_encode_hello(hello, out + LANES_HEADER);
	lanes_encode(&h, out + LANES_HEADER, LANES_HELLO_TAIL, out);
	say(c, out, sizeof(out));
}

static struct lanes_hello hear_hello(struct caller *c)
{
	uint8_t in[LANES_HEADER + LANES_HELLO_TAIL];
	struct lanes_hello hello;
	struct lanes_header h;

	hear(c, in, sizeof(in));
	lanes_decode(in, &h);
	assert_int_equal(h.cmd, LANES_HELLO);
	assert_int_equal(h.tag, 77);
	assert_int_equal(lanes_verify(in, in + LANES_HEADER, LANES_HELLO_TAIL, NULL), 0);
	assert_int_equal(lanes_decode_hello(in + LANES_HEADER, &hello, NULL), 0);
	return hello;
}

static struct caller *call_lane(struct world *world, uint32_t kind, uint32_t features)
{
	const struct lanes_hello hello = {.version = LANES_VERSION,
	                                  .features = features,
	                                  .kind = kind,
	                                  .images = content_identity(world->content)};
	struct caller *c = call(world);

	say_hello(c, &hello);
	hear_hello(c);
	return c;
}

static struct lanes_header fetch_of(uint32_t tag, uint64_t i, uint64_t nr)
{
	return (struct lanes_header){.cmd = LANES_FETCH,
	                             .tag = tag,
	                             .nr_pages = nr,
	                             .vaddr = world_addr(i),
	                             .pid = WORLD_PID};
}

static void say_fetch(struct caller *c, uint32_t tag, uint64_t i, uint64_t nr)
{
	struct lanes_header h = fetch_of(tag, i, nr);

	say_header(c, &h);
}

/* --- what it hears ---------------------------------------------------------------------------- */

struct heard {
	uint64_t nr;
	uint32_t encoding, length;
};

static struct lanes_header hear_header(struct caller *c, uint8_t in[LANES_HEADER])
{
	struct lanes_header h;

	hear(c, in, LANES_HEADER);
	lanes_decode(in, &h);
	return h;
}

/* The answer to a FETCH of pages i and following: right in every byte. */
static struct heard hear_data(struct caller *c, uint32_t tag, uint64_t i, uint64_t asked)
{
	uint8_t head[LANES_HEADER], tail[LANES_MAX_TAIL], page[PAGE_SIZE];
	struct lanes_header fetch = fetch_of(tag, i, asked), h = hear_header(c, head);
	struct lanes_data data;
	uint8_t *body, *pages;
	int len;

	assert_int_equal(h.cmd, LANES_DATA);
	assert_int_equal(lanes_check_answer(&h, &fetch, NULL), 0);
	len = lanes_tail(&h, NULL);
	assert_int_equal(len, 8 + 8 * h.nr_pages);
	hear(c, tail, (size_t)len);
	assert_int_equal(lanes_verify(head, tail, (size_t)len, NULL), 0);
	assert_int_equal(lanes_decode_data(tail, (size_t)len, h.nr_pages, &data, NULL), 0);
	body = malloc(data.length);
	pages = malloc(h.nr_pages << PAGE_SHIFT);
	assert_true(body && pages);
	hear(c, body, data.length);
	if (data.encoding == LANES_ENCODED_LZ4) {
		assert_int_equal(LZ4_decompress_safe((const char *)body, (char *)pages,
		                                     (int)data.length,
		                                     (int)(h.nr_pages << PAGE_SHIFT)),
		                 h.nr_pages << PAGE_SHIFT);
	} else {
		assert_int_equal(data.length, h.nr_pages << PAGE_SHIFT);
		memcpy(pages, body, data.length);
	}
	for (uint64_t k = 0; k < h.nr_pages; k++) {
		world_page(i + k, page);
		assert_memory_equal(pages + (k << PAGE_SHIFT), page, PAGE_SIZE);
		assert_true(lanes_sum(&data, k) == lanes_page_sum(page));
	}
	free(body);
	free(pages);
	return (struct heard){h.nr_pages, data.encoding, data.length};
}

static void hear_miss(struct caller *c, const struct lanes_header *fetch, uint64_t why)
{
	uint8_t head[LANES_HEADER];
	struct lanes_header h = hear_header(c, head);

	assert_int_equal(h.cmd, LANES_MISS);
	assert_int_equal(h.nr_pages, why);
	assert_int_equal(lanes_check_answer(&h, fetch, NULL), 0);
	assert_int_equal(lanes_verify(head, NULL, 0, NULL), 0);
}

static void say_bye(struct caller *c)
{
	const struct lanes_header bye = {.cmd = LANES_BYE};

	say_header(c, &bye);
	assert_int_equal(dropped(c), CONN_DONE);
}

/* --- hello ------------------------------------------------------------------------------------ */

static void test_hello(void **state)
{
	struct world *world = *state;
	const struct lanes_hello hello = {.version = LANES_VERSION, .kind = LANE_BULK};
	struct caller *c = call(world);
	struct lanes_hello theirs;

	say_hello(c, &hello);
	theirs = hear_hello(c);
	assert_int_equal(theirs.version, LANES_VERSION);
	assert_int_equal(theirs.features, LANES_LZ4);
	assert_true(theirs.images == content_identity(world->content) && theirs.images);
	assert_int_equal(theirs.kind, LANE_BULK);
	say_bye(c);
}

/* Other images, another version: answered, so that the helper can say what is wrong. */
static void test_hello_of_others(void **state)
{
	struct lanes_hello hello = {.version = LANES_VERSION, .images = 12345};
	struct caller *c = call(*state);

	say_hello(c, &hello);
	assert_true(hear_hello(c).images != 12345);
	say_fetch(c, 1, 0, 1);
	hear_data(c, 1, 0, 1);
	say_bye(c);

	c = call(*state);
	hello.version = LANES_VERSION + 1;
	say_hello(c, &hello);
	assert_int_equal(hear_hello(c).version, LANES_VERSION);
	assert_int_equal(dropped(c), CONN_LANE_LOST);
}

static void test_damaged(void **state)
{
	const struct lanes_header h = {.cmd = LANES_HELLO};
	uint8_t out[LANES_HEADER + LANES_HELLO_TAIL];
	const struct lanes_hello hello = {.version = LANES_VERSION};
	struct caller *c;

	lanes_encode_hello(&hello, out + LANES_HEADER);
	lanes_encode(&h, out + LANES_HEADER, LANES_HELLO_TAIL, out);
	for (size_t at = 4; at < sizeof(out); at += 7) {
		c = call(*state);
		out[at] ^= 4;
		say(c, out, sizeof(out));
		assert_int_equal(dropped(c), CONN_NOBODY);
		out[at] ^= 4;
	}
	c = call(*state);
	for (size_t at = 0; at < sizeof(out); at++)
		say(c, out + at, 1);
	shutdown(c->fd, SHUT_WR);
	hear(c, out, sizeof(out));
	assert_int_equal(hang_up(c), CONN_LANE_LOST);
}

/* What a helper may not say, first and later. */
static void test_refused(void **state)
{
	static const uint32_t commands[] = {LANES_FETCH, LANES_PING, LANES_BYE,  LANES_DATA,
	                                    LANES_MISS,  LANES_PONG, LANES_HELLO};
	struct lanes_hello hello = {.version = LANES_VERSION};
	struct caller *c;

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		struct lanes_header h = fetch_of(1, 0, 1);

		h.cmd = commands[i];
		if (h.cmd != LANES_HELLO) {
			c = call(*state);
			say_header(c, &h);
			assert_int_equal(dropped(c), CONN_NOBODY);
		}
		if (h.cmd == LANES_FETCH || h.cmd == LANES_PING || h.cmd == LANES_BYE)
			continue;
		c = call_lane(*state, LANE_URGENT, 0);
		if (h.cmd == LANES_HELLO)
			say_hello(c, &hello);
		else
			say_header(c, &h);
		assert_int_equal(dropped(c), CONN_LANE_LOST);
	}
}

/* --- pages ------------------------------------------------------------------------------------ */

static void test_fetch(void **state)
{
	struct caller *c = call_lane(*state, LANE_URGENT, LANES_LZ4);

	for (uint64_t i = 0; i < WORLD_PAGES; i += 37) {
		say_fetch(c, (uint32_t)i, i, 1);
		assert_int_equal(hear_data(c, (uint32_t)i, i, 1).nr, 1);
	}
	say_fetch(c, 1, 0, LANES_MAX_PAGES);
	assert_int_equal(hear_data(c, 1, 0, LANES_MAX_PAGES).nr, LANES_MAX_PAGES);
	/* Up to the hole, and not over it. */
	say_fetch(c, 2, WORLD_HALF - 5, 20);
	assert_int_equal(hear_data(c, 2, WORLD_HALF - 5, 20).nr, 5);
	say_bye(c);
}

static void test_pipelined(void **state)
{
	enum { NR = 300 };
	struct caller *c = call_lane(*state, LANE_BULK, LANES_LZ4);
	uint8_t out[NR][LANES_HEADER];

	for (uint32_t i = 0; i < NR; i++) {
		struct lanes_header h = fetch_of(i, i * 7 % WORLD_HALF, 1 + i % 3);

		lanes_encode(&h, NULL, 0, out[i]);
	}
	say(c, out, sizeof(out) - 10);
	for (uint32_t i = 0; i + 1 < NR; i++)
		hear_data(c, i, i * 7 % WORLD_HALF, 1 + i % 3);
	say(c, out[NR - 1] + LANES_HEADER - 10, 10);
	hear_data(c, NR - 1, (NR - 1) * 7 % WORLD_HALF, 1 + (NR - 1) % 3);
	say_bye(c);
}

/* Compressed only where the helper asked for it, on bulk lanes, and where it pays. */
static void test_compression(void **state)
{
	struct caller *c = call_lane(*state, LANE_BULK, LANES_LZ4);
	struct heard heard;

	say_fetch(c, 1, 0, 100);
	heard = hear_data(c, 1, 0, 100);
	assert_int_equal(heard.encoding, LANES_ENCODED_LZ4);
	assert_true(heard.length < 100 * PAGE_SIZE * 7 / 8);
	for (uint32_t i = 0; i < 20; i++) {
		say_fetch(c, i, 1, 1);
		assert_int_equal(hear_data(c, i, 1, 1).encoding, LANES_RAW);
	}
	/* After a while it is tried again. */
	for (uint32_t i = 0;; i++) {
		assert_true(i < 200);
		say_fetch(c, i, 0, 1);
		if (hear_data(c, i, 0, 1).encoding == LANES_ENCODED_LZ4)
			break;
	}
	say_bye(c);

	c = call_lane(*state, LANE_BULK, 0);
	say_fetch(c, 1, 0, 200);
	heard = hear_data(c, 1, 0, 200);
	assert_int_equal(heard.encoding, LANES_RAW);
	assert_int_equal(heard.nr, 200);
	say_bye(c);

	c = call_lane(*state, LANE_URGENT, LANES_LZ4);
	say_fetch(c, 1, 0, 100);
	assert_int_equal(hear_data(c, 1, 0, 100).encoding, LANES_RAW);
	say_bye(c);
}

/* A whole half by requests of the largest size, as a helper does: whatever is granted, ask on. */
static void test_all(void **state)
{
	for (uint32_t features = 0; features <= LANES_LZ4; features++) {
		struct caller *c = call_lane(*state, LANE_BULK, features);

		for (uint64_t i = 0; i < WORLD_HALF;) {
			uint64_t nr = min_u64(LANES_MAX_PAGES, WORLD_HALF - i);

			say_fetch(c, 9, i, nr);
			i += hear_data(c, 9, i, nr).nr;
		}
		say_bye(c);
	}
}

static void test_miss(void **state)
{
	struct world *world = *state;
	struct caller *c = call_lane(world, LANE_URGENT, 0);
	struct lanes_header h = fetch_of(4, 0, 3);

	h.pid = 6; /* a zombie */
	say_header(c, &h);
	hear_miss(c, &h, ENOENT);
	h.pid = 7;
	say_header(c, &h);
	hear_miss(c, &h, ENOENT);
	h = fetch_of(5, 0, 3);
	h.vaddr = WORLD_AT - PAGE_SIZE;
	say_header(c, &h);
	hear_miss(c, &h, ENOENT);
	h.vaddr = WORLD_AT + (WORLD_HALF << PAGE_SHIFT); /* the hole */
	say_header(c, &h);
	hear_miss(c, &h, ENOENT);
	say_bye(c);
}

/* A file that was written to, or cut, is not what it was: no page of it is sent. */
static void test_changed(void **state)
{
	struct world *world = *state;
	struct caller *c = call_lane(world, LANE_URGENT, 0);
	int fd = openat(world->dir->fd, "pages-1.img", O_WRONLY | O_CLOEXEC);
	struct lanes_header h;

	say_fetch(c, 6, 8, 5);
	assert_int_equal(hear_data(c, 6, 8, 5).nr, 5);
	for (unsigned i = 0; i < 2; i++) {
		if (i == 0)
			assert_int_equal(pwrite(fd, "x", 1, 10 * (off_t)PAGE_SIZE), 1);
		else /* in the middle of page 10 */
			assert_int_equal(ftruncate(fd, 10 * (off_t)PAGE_SIZE + 5), 0);
		for (uint64_t page = 8; page < 12; page++) {
			h = fetch_of(7, page, 2);
			say_header(c, &h);
			hear_miss(c, &h, EIO);
		}
	}
	close(fd);
	say_bye(c);
}

/* Fields that cannot be true are no misses: the lane is closed. */
static void test_wrong_fetch(void **state)
{
	struct lanes_header wrong[] = {
		fetch_of(1, 0, 0),          fetch_of(1, 0, LANES_MAX_PAGES + 1),
		fetch_of(1, 0, UINT64_MAX), fetch_of(1, 0, 1),
		fetch_of(1, 0, 1),          fetch_of(1, 0, 2)};

	wrong[3].vaddr++;
	wrong[4].pid = 0;
	wrong[5].vaddr = USER_ADDRESS_END - PAGE_SIZE;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct caller *c = call_lane(*state, LANE_URGENT, 0);

		say_header(c, &wrong[i]);
		assert_int_equal(dropped(c), CONN_LANE_LOST);
	}
}

/* --- the rest --------------------------------------------------------------------------------- */

static void test_ping(void **state)
{
	struct caller *c = call_lane(*state, LANE_URGENT, 0);
	const struct lanes_header ping = {.cmd = LANES_PING, .tag = 1234};
	uint8_t head[LANES_HEADER];
	struct lanes_header pong;

	say_header(c, &ping);
	pong = hear_header(c, head);
	assert_int_equal(pong.cmd, LANES_PONG);
	assert_int_equal(pong.tag, 1234);
	assert_int_equal(lanes_verify(head, NULL, 0, NULL), 0);
	assert_int_equal(hang_up(c), CONN_LANE_LOST);
}

static void say_get(struct caller *c, enum ps_layout layout, uint32_t mark)
{
	const struct ps_header get = {.cmd = PS_GET,
	                              .mark = mark,
	                              .nr_pages = 1,
	                              .vaddr = world_addr(2),
	                              .dst_id = WORLD_PID};
	uint8_t out[PS_HEADER_MAX];

	say(c, out, ps_encode(layout, &get, out));
}

static uint32_t hear_mark(struct caller *c, enum ps_layout layout)
{
	uint8_t in[PS_HEADER_MAX], page[PAGE_SIZE], want[PAGE_SIZE];
	struct ps_header reply;

	hear(c, in, ps_header_size(layout));
	ps_decode(layout, in, &reply);
	assert_int_equal(reply.cmd, PS_ADD_F | PS_PRESENT_FLAG << 16);
	hear(c, page, sizeof(page));
	world_page(2, want);
	assert_memory_equal(page, want, PAGE_SIZE);
	return reply.mark;
}

/* A GET that asks is answered as always, and says that this is our server. */
static void test_asking(void **state)
{
	const struct lanes_hello hello = {.version = LANES_VERSION};
	struct caller *c = call(*state);

	say_get(c, PS_32, 0x7ffc);
	assert_int_equal(hear_mark(c, PS_32), 0);
	say_get(c, PS_32, LANES_ASK);
	assert_int_equal(hear_mark(c, PS_32), LANES_ANSWER);
	say_hello(c, &hello);
	hear_hello(c);
	say_fetch(c, 1, 3, 4);
	hear_data(c, 1, 3, 4);
	say_bye(c);
	/* One that has asked is no stock client any more: hanging up is not its end. */
	c = call(*state);
	say_get(c, PS_32, LANES_ASK);
	hear_mark(c, PS_32);
	assert_int_equal(hang_up(c), CONN_LANE_LOST);
	c = call(*state);
	say_get(c, PS_32, 0);
	hear_mark(c, PS_32);
	assert_int_equal(hang_up(c), CONN_DONE);
	/* The older layout has no place for it. */
	c = call(*state);
	say_get(c, PS_24, 0);
	hear_mark(c, PS_24);
	say_hello(c, &hello);
	assert_int_equal(dropped(c), CONN_BROKEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SERVER_TEST(test_hello),       SERVER_TEST(test_hello_of_others),
		SERVER_TEST(test_damaged),     SERVER_TEST(test_refused),
		SERVER_TEST(test_fetch),       SERVER_TEST(test_pipelined),
		SERVER_TEST(test_compression), SERVER_TEST(test_all),
		SERVER_TEST(test_miss),        SERVER_TEST(test_changed),
		SERVER_TEST(test_wrong_fetch), SERVER_TEST(test_ping),
		SERVER_TEST(test_asking),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
