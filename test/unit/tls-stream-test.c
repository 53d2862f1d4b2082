/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TLS as a stream: what goes in comes out, in records as CRIU wants them, in the smallest pieces,
 * when the socket is full, when it breaks.
 *
 * A relay stands between the two ends where bytes on the wire matter: it passes on one at a time,
 * or stops, or flips a bit.
 */
#include "test/unit/tls-world.h"

enum { BIG = 1 << 20 };

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 31 + i / 4096 * 7);
}

static void fill(uint8_t *bytes, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		bytes[i] = byte_at(i);
}

static void assert_pattern(const uint8_t *bytes, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (bytes[i] != byte_at(i))
			fail_msg("byte %zu of %zu", i, len);
}

/* --- the relay -------------------------------------------------------------------------------- */

enum { NEVER = INT32_MAX };

/* Client's to server's direction in one thread, the other in another. */
struct way {
	int from, to;
	size_t piece;
	_Atomic size_t left; /* to be passed on before the way ends */
	_Atomic bool flip; /* one bit of what comes next */
	pthread_t thread;
};

struct relay {
	struct way up, down;
	int fds[2];
};

static void *way_runs(void *arg)
{
	struct way *way = arg;
	uint8_t buf[4096];

	while (way->left > 0) {
		size_t want = way->left < way->piece ? way->left : way->piece;
		ssize_t got = read(way->from, buf, want);

		if (got <= 0)
			break;
		if (way->flip) {
			buf[got - 1] ^= 0x10;
			way->flip = false;
		}
		way->left -= (size_t)got;
		if (send(way->to, buf, (size_t)got, MSG_NOSIGNAL) != got)
			break;
	}
	shutdown(way->to, SHUT_WR);
	return NULL;
}

static void relay_start(struct relay *relay, struct ends *e, size_t piece)
{
	int client[2], server[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, client), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, server), 0);
	e->client.fd = client[0];
	e->server.fd = server[0];
	*relay = (struct relay){
		.up = {.from = client[1], .to = server[1], .piece = piece, .left = NEVER},
		.down = {.from = server[1], .to = client[1], .piece = piece, .left = NEVER},
		.fds = {client[1], server[1]},
	};
	assert_int_equal(pthread_create(&relay->up.thread, NULL, way_runs, &relay->up), 0);
	assert_int_equal(pthread_create(&relay->down.thread, NULL, way_runs, &relay->down), 0);
}

/* After the ends have parted. */
static void relay_end(struct relay *relay)
{
	pthread_join(relay->up.thread, NULL);
	pthread_join(relay->down.thread, NULL);
	close(relay->fds[0]);
	close(relay->fds[1]);
}

/* --- one thread that writes ------------------------------------------------------------------- */

struct writer {
	struct stream *s;
	const uint8_t *bytes;
	size_t len;
	int r;
	pthread_t thread;
};

static void *writer_runs(void *arg)
{
	struct writer *w = arg;

	w->r = stream_write_full(w->s, w->bytes, w->len, CLOCK_NEVER, NULL);
	return NULL;
}

static void start_writing(struct writer *w, struct stream *s, const uint8_t *bytes, size_t len)
{
	*w = (struct writer){.s = s, .bytes = bytes, .len = len};
	assert_int_equal(pthread_create(&w->thread, NULL, writer_runs, w), 0);
}

static int written(struct writer *w)
{
	pthread_join(w->thread, NULL);
	return w->r;
}

static void connect_both(struct ends *e)
{
	shake(e);
	assert_both(e);
}

/* --- whole ------------------------------------------------------------------------------------ */

static void test_much(void **state)
{
	static uint8_t out[BIG], in[BIG];
	struct ends e = {0};
	struct writer w;

	(void)state;
	connect_both(&e);
	fill(out, BIG);
	start_writing(&w, e.server.s, out, BIG);
	assert_int_equal(stream_read_full(e.client.s, in, BIG, CLOCK_NEVER, NULL), 1);
	assert_int_equal(written(&w), 0);
	assert_pattern(in, BIG);
	memset(in, 0, BIG);
	start_writing(&w, e.client.s, out, BIG);
	assert_int_equal(stream_read_full(e.server.s, in, BIG, CLOCK_NEVER, NULL), 1);
	assert_int_equal(written(&w), 0);
	assert_pattern(in, BIG);
	part(&e);
}

static void test_pieces(void **state)
{
	static const size_t pieces[] = {1, 5, 1000};
	static uint8_t out[20000], in[20000];
	size_t i;

	(void)state;
	fill(out, sizeof(out));
	for (i = 0; i < sizeof(pieces) / sizeof(*pieces); i++) {
		struct ends e = {0};
		struct relay relay;
		struct writer w;

		relay_start(&relay, &e, pieces[i]);
		connect_both(&e);
		memset(in, 0, sizeof(in));
		start_writing(&w, e.server.s, out, sizeof(out));
		assert_int_equal(stream_read_full(e.client.s, in, 32, CLOCK_NEVER, NULL), 1);
		assert_int_equal(
			stream_read_full(e.client.s, in + 32, sizeof(in) - 32, CLOCK_NEVER, NULL),
			1);
		assert_int_equal(written(&w), 0);
		assert_pattern(in, sizeof(in));
		part(&e);
		relay_end(&relay);
	}
}

/*
 * Each write is a record of its own, and a long one several of 16 KiB: CRIU reads a header by one
 * call, and must find nothing else in its record.
 */
static void test_records(void **state)
{
	static const size_t lengths[] = {32, 4096, 32, 40960};
	static const size_t records[] = {32, 4096, 32, 16384, 16384, 8192};
	static uint8_t wire[65536], out[40960];
	struct ends e = {0};
	size_t i, at = 0;
	ssize_t got;

	(void)state;
	connect_both(&e);
	for (i = 0; i < sizeof(lengths) / sizeof(*lengths); i++)
		assert_int_equal(stream_write_full(e.client.s, out, lengths[i], CLOCK_NEVER, NULL),
		                 0);
	got = recv(stream_fd(e.server.s), wire, sizeof(wire), 0);
	assert_true(got > 0);
	for (i = 0; i < sizeof(records) / sizeof(*records); i++) {
		size_t len = (size_t)(wire[at + 3] << 8 | wire[at + 4]);

		assert_int_equal(wire[at], 23); /* application data */
		/* its type and an authentication tag come on top */
		assert_in_range(len, records[i] + 1, records[i] + 48);
		at += 5 + len;
	}
	assert_int_equal(at, got);
	part(&e);
}

/* --- now or not at all ------------------------------------------------------------------------ */

/* A full socket: the same bytes are offered until they are taken, and all arrive once. */
static void test_full_socket(void **state)
{
	static uint8_t out[BIG], in[BIG];
	size_t sent = 0, got = 0;
	unsigned nr_full = 0;
	struct ends e = {0};

	(void)state;
	connect_both(&e);
	fill(out, BIG);
	while (got < BIG) {
		ssize_t r = 0;

		while (sent < BIG && (r = stream_write(e.client.s, out + sent, BIG - sent)) > 0)
			sent += (size_t)r;
		if (r < 0) {
			assert_int_equal(r, -EAGAIN);
			nr_full++;
		}
		while (got < BIG && (r = stream_read(e.server.s, in + got, BIG - got)) > 0)
			got += (size_t)r;
		if (got < BIG)
			assert_int_equal(r, -EAGAIN);
	}
	assert_int_equal(sent, BIG);
	assert_true(nr_full > 0);
	assert_pattern(in, BIG);
	assert_int_equal(stream_read(e.server.s, in, 1), -EAGAIN);
	part(&e);
}

/* Less is read than a record holds; the rest does not wait for the socket. */
static void test_rest_of_record(void **state)
{
	struct ends e = {0};
	uint8_t buf[8];

	(void)state;
	connect_both(&e);
	assert_int_equal(stream_write_full(e.client.s, "0123456789", 10, CLOCK_NEVER, NULL), 0);
	assert_int_equal(stream_read_full(e.server.s, buf, 3, CLOCK_NEVER, NULL), 1);
	assert_false(readable(stream_fd(e.server.s), 0));
	assert_int_equal(stream_read_full(e.server.s, buf, 7, 0, NULL), 1);
	assert_memory_equal(buf, "3456789", 7);
	assert_int_equal(stream_read_full(e.server.s, buf, 1, 0, NULL), -ETIMEDOUT);
	part(&e);
}

static void test_write_timeout(void **state)
{
	static uint8_t out[8 * BIG];
	struct ends e = {0};
	struct err err = {0};

	(void)state;
	connect_both(&e);
	assert_failed(stream_write_full(e.client.s, out, sizeof(out), 20 * NSEC_PER_MSEC, &err),
	              ETIMEDOUT, &err, "send: Connection timed out");
	stream_bye(e.client.s); /* in the middle of a record: best effort, no more */
	part(&e);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void test_bye(void **state)
{
	struct ends e = {0};
	struct err err = {0};
	uint8_t buf[8];

	(void)state;
	connect_both(&e);
	assert_int_equal(stream_write_full(e.client.s, "last", 4, CLOCK_NEVER, NULL), 0);
	stream_bye(e.client.s);
	assert_int_equal(stream_read_full(e.server.s, buf, 4, CLOCK_NEVER, NULL), 1);
	assert_int_equal(stream_read_full(e.server.s, buf, 4, CLOCK_NEVER, &err), 0);
	assert_int_equal(stream_read(e.server.s, buf, 4), 0);
	/* the other direction is open */
	assert_int_equal(stream_write_full(e.server.s, "late", 4, CLOCK_NEVER, NULL), 0);
	assert_int_equal(stream_read_full(e.client.s, buf, 4, CLOCK_NEVER, NULL), 1);
	assert_memory_equal(buf, "late", 4);
	stream_bye(e.server.s);
	assert_int_equal(stream_read_full(e.client.s, buf, 4, CLOCK_NEVER, &err), 0);
	assert_int_equal(err.code, 0);
	part(&e);
}

/* Without close_notify somebody may have cut the line: that is no end of stream. */
static void test_abrupt(void **state)
{
	struct ends e = {0};
	struct err err = {0};
	uint8_t buf[8];

	(void)state;
	connect_both(&e);
	assert_int_equal(stream_write_full(e.client.s, "last", 4, CLOCK_NEVER, NULL), 0);
	stream_free(e.client.s);
	e.client.s = NULL;
	assert_int_equal(stream_read_full(e.server.s, buf, 4, CLOCK_NEVER, NULL), 1);
	assert_failed(stream_read_full(e.server.s, buf, 4, CLOCK_NEVER, &err), ECONNRESET, &err,
	              "receive (TLS: the peer hung up without a word): Connection reset by peer");
	assert_int_equal(stream_read(e.server.s, buf, 4), -ECONNRESET);
	assert_failed(stream_write_full(e.server.s, "x", 1, CLOCK_NEVER, &err), ECONNRESET, &err,
	              "send (TLS: the peer hung up without a word)");
	part(&e);
}

static void test_nobody_reads(void **state)
{
	static uint8_t out[BIG];
	struct ends e = {0};
	struct err err = {0};

	(void)state;
	connect_both(&e);
	stream_free(e.client.s);
	e.client.s = NULL;
	assert_failed(stream_write_full(e.server.s, out, BIG, CLOCK_NEVER, &err), EPIPE, &err,
	              "send: Broken pipe");
	part(&e);
}

/* The line is cut within the second record, at every byte of it. */
static void test_cut_record(void **state)
{
	size_t cut;

	(void)state;
	for (cut = 0; cut < 40; cut++) {
		struct ends e = {0};
		struct err err = {0};
		struct relay relay;
		uint8_t buf[8];

		relay_start(&relay, &e, 1);
		connect_both(&e);
		assert_int_equal(stream_write_full(e.client.s, "0123456", 7, CLOCK_NEVER, NULL), 0);
		assert_int_equal(stream_read_full(e.server.s, buf, 7, CLOCK_NEVER, NULL), 1);
		/* the relay's thread has this one byte more to come */
		relay.up.left = cut + 1;
		assert_int_equal(stream_write_full(e.client.s, "0123456789abcdefghij", 20,
		                                   CLOCK_NEVER, NULL),
		                 0);
		assert_failed(stream_read_full(e.server.s, buf, 8, CLOCK_NEVER, &err), ECONNRESET,
		              &err, "the peer hung up");
		part(&e);
		relay_end(&relay);
	}
}

static void test_flipped_bit(void **state)
{
	struct ends e = {0};
	struct err err = {0};
	struct relay relay;
	uint8_t buf[32];

	(void)state;
	relay_start(&relay, &e, 4096);
	connect_both(&e);
	relay.up.flip = true;
	assert_int_equal(stream_write_full(e.client.s, "0123456789", 10, CLOCK_NEVER, NULL), 0);
	assert_failed(stream_read_full(e.server.s, buf, 10, CLOCK_NEVER, &err), EPROTO, &err,
	              "receive: TLS: Decryption has failed");
	assert_failed(stream_read_full(e.server.s, buf, 10, CLOCK_NEVER, &err), EPROTO, &err,
	              "receive: TLS: Decryption has failed");
	part(&e);
	relay_end(&relay);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_WORLD(test_much),
		IN_WORLD(test_pieces),
		IN_WORLD(test_records),
		IN_WORLD(test_full_socket),
		IN_WORLD(test_rest_of_record),
		IN_WORLD(test_write_timeout),
		IN_WORLD(test_bye),
		IN_WORLD(test_abrupt),
		IN_WORLD(test_nobody_reads),
		IN_WORLD(test_cut_record),
		IN_WORLD(test_flipped_bit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
