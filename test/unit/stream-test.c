/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Plain streams over real sockets and pipes: pieces, ends in the middle, time.  The other end is a
 * thread, or this one where the kernel's buffers hold what is said.
 *
 * Time is made: clock_gettime() below stands in for libc's, and runs ahead by what a test says;
 * poll() likewise.
 */
#include "test/unit/stream-world.h"

#include <sys/syscall.h>
#include <sys/time.h>

static _Atomic int64_t ahead;

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int r = (int)syscall(SYS_clock_gettime, clock, ts);

	ts->tv_sec += ahead / NSEC_PER_SEC;
	return r;
}

/* Where a test says so, poll() finds everything ready, and tells how long it was to wait. */
static bool always_ready;
static int waited_ms;

int poll(struct pollfd *fds, nfds_t nr, int ms)
{
	const struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * NSEC_PER_MSEC};

	if (!always_ready)
		return ppoll(fds, nr, ms < 0 ? NULL : &ts, NULL);
	waited_ms = ms;
	fds->revents = POLLIN | POLLOUT;
	return 1;
}

/* --- reading ---------------------------------------------------------------------------------- */

static void test_read_now(void **state)
{
	struct pair p;
	uint8_t buf[8];

	(void)state;
	open_pair(&p);
	assert_int_equal(stream_read(p.s, buf, sizeof(buf)), -EAGAIN);
	assert_int_equal(write(p.peer, "abc", 3), 3);
	assert_int_equal(stream_read(p.s, buf, sizeof(buf)), 3);
	assert_memory_equal(buf, "abc", 3);
	assert_int_equal(stream_read(p.s, buf, sizeof(buf)), -EAGAIN);
	shutdown(p.peer, SHUT_WR);
	assert_int_equal(stream_read(p.s, buf, sizeof(buf)), 0);
	assert_int_equal(stream_read(p.s, buf, sizeof(buf)), 0);
	assert_null(stream_why(p.s));
	close_pair(&p);
}

static void test_read_pieces(void **state)
{
	static const size_t pieces[] = {1, 7, 32, 4096};
	size_t i, at;

	(void)state;
	for (i = 0; i < sizeof(pieces) / sizeof(*pieces); i++) {
		uint8_t *got = calloc(1, 65536);
		struct peer peer;
		struct pair p;

		assert_non_null(got);
		open_pair(&p);
		start(&peer, peer_writes, p.peer, 65536, pieces[i]);
		assert_int_equal(stream_read_full(p.s, got, 32, CLOCK_NEVER, NULL), 1);
		assert_int_equal(stream_read_full(p.s, got + 32, 65536 - 32, CLOCK_NEVER, NULL), 1);
		assert_true(ended_well(&peer));
		for (at = 0; at < 65536; at++)
			assert_int_equal(got[at], byte_at(at));
		free(got);
		close_pair(&p);
	}
}

static void test_end(void **state)
{
	struct err err = {0};
	uint8_t buf[32];
	struct pair p;

	(void)state;
	open_pair(&p);
	assert_int_equal(write(p.peer, "0123456789", 10), 10);
	shutdown(p.peer, SHUT_WR);
	assert_failed(stream_read_full(p.s, buf, 32, CLOCK_NEVER, &err), ECONNRESET, &err,
	              "the peer hung up after 10 of 32 bytes");
	err = (struct err){0};
	assert_int_equal(stream_read_full(p.s, buf, 32, CLOCK_NEVER, &err), 0);
	assert_int_equal(err.code, 0);
	close_pair(&p);
}

/* The peer closes with our bytes unread: that is a reset. */
static void test_reset(void **state)
{
	struct err err = {0};
	uint8_t buf[32];
	struct pair p;

	(void)state;
	open_pair(&p);
	assert_int_equal(stream_write_full(p.s, "x", 1, CLOCK_NEVER, NULL), 0);
	close(p.peer);
	assert_failed(stream_read_full(p.s, buf, 32, CLOCK_NEVER, &err), ECONNRESET, &err,
	              "receive: Connection reset by peer");
	p.peer = -1;
	close_pair(&p);
}

static _Atomic unsigned nr_alarms;

static void on_alarm(int sig)
{
	(void)sig;
	nr_alarms++;
}

/* Signals without SA_RESTART rain on a waiting read. */
static void test_interrupted(void **state)
{
	const struct itimerval often = {.it_interval.tv_usec = 500, .it_value.tv_usec = 500};
	const struct itimerval never = {0};
	struct sigaction action = {.sa_handler = on_alarm}, old;
	sigset_t set, before;
	uint8_t buf[32];
	struct peer peer;
	struct pair p;
	int r;

	(void)state;
	open_pair(&p);
	alarm(0);
	nr_alarms = 0;
	sigaction(SIGALRM, &action, &old);
	setitimer(ITIMER_REAL, &often, NULL);
	while (nr_alarms < 3)
		;
	/* the thread is not to be interrupted */
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	start(&peer, peer_reads, p.peer, 1 << 20, 64);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	r = 0;
	for (int i = 0; r == 0 && i < 1 << 20; i += 4096) {
		uint8_t out[4096];

		for (int j = 0; j < 4096; j++)
			out[j] = byte_at((size_t)(i + j));
		r = stream_write_full(p.s, out, sizeof(out), CLOCK_NEVER, NULL);
	}
	assert_int_equal(r, 0);
	stream_bye(p.s);
	assert_true(ended_well(&peer));
	start(&peer, peer_writes, p.peer, 32, 1);
	assert_int_equal(stream_read_full(p.s, buf, 32, CLOCK_NEVER, NULL), 1);
	assert_true(ended_well(&peer));
	setitimer(ITIMER_REAL, &never, NULL);
	sigaction(SIGALRM, &old, NULL);
	close_pair(&p);
}

/* --- time ------------------------------------------------------------------------------------- */

static void test_timeout(void **state)
{
	uint8_t buf[32], *bytes = pattern(BIG);
	struct err err = {0};
	struct pair p;

	(void)state;
	open_pair(&p);
	assert_failed(stream_read_full(p.s, buf, 32, 0, &err), ETIMEDOUT, &err, "receive");
	assert_int_equal(write(p.peer, "abc", 3), 3);
	assert_failed(stream_read_full(p.s, buf, 32, 10 * NSEC_PER_MSEC, &err), ETIMEDOUT, &err,
	              "receive");
	assert_failed(stream_write_full(p.s, bytes, BIG, 10 * NSEC_PER_MSEC, &err), ETIMEDOUT, &err,
	              "send");
	free(bytes);
	close_pair(&p);
}

/* A stream whose bytes come one at a time, each step seconds after the one before it. */
struct slow {
	struct stream s;
	int64_t step; /* seconds */
	bool now; /* the last call had a byte */
	unsigned nr_waits, nr_short; /* that were not given the rest of their minute */
};

static ssize_t slow_step(struct slow *slow)
{
	slow->now = !slow->now;
	if (slow->now)
		return 1;
	ahead += slow->step * NSEC_PER_SEC;
	slow->nr_short += slow->nr_waits++ > 0 && waited_ms < 5000;
	return -EAGAIN;
}

static ssize_t slow_read(struct stream *s, void *buf, size_t len)
{
	(void)len;
	*(uint8_t *)buf = 'x';
	return slow_step((struct slow *)s);
}

static ssize_t slow_write(struct stream *s, const void *buf, size_t len)
{
	(void)buf, (void)len;
	return slow_step((struct slow *)s);
}

static const char *slow_why(const struct stream *s)
{
	(void)s;
	return NULL;
}

static const struct stream_ops slow_ops = {.read = slow_read, .write = slow_write, .why = slow_why};

/* The timeout counts from the last progress: 32 bytes at 50 s each are fine with a minute. */
static void test_progress(void **state)
{
	struct slow slow = {.s.ops = &slow_ops, .step = 50};
	const int64_t minute = 60 * NSEC_PER_SEC;
	struct err err = {0};
	uint8_t buf[32];
	struct pair p;

	(void)state;
	open_pair(&p);
	slow.s.fd = p.peer;
	always_ready = true;
	assert_int_equal(stream_read_full(&slow.s, buf, 32, minute, NULL), 1);
	assert_int_equal(stream_write_full(&slow.s, buf, 32, minute, NULL), 0);
	always_ready = false;
	assert_true(slow.nr_waits >= 60);
	assert_int_equal(slow.nr_short, 0);

	/* with nothing ready, one step above the timeout ends it */
	slow.step = 61;
	assert_failed(stream_read_full(&slow.s, buf, 32, minute, &err), ETIMEDOUT, &err, "receive");
	ahead = 0;
	close_pair(&p);
}

/* --- writing ---------------------------------------------------------------------------------- */

static void test_write(void **state)
{
	uint8_t *bytes = pattern(BIG);
	struct peer peer;
	struct pair p;

	(void)state;
	open_pair(&p);
	start(&peer, peer_reads, p.peer, BIG, 8000);
	assert_int_equal(stream_write_full(p.s, bytes, 1, CLOCK_NEVER, NULL), 0);
	assert_int_equal(stream_write_full(p.s, bytes + 1, BIG - 1, CLOCK_NEVER, NULL), 0);
	stream_bye(p.s);
	assert_true(ended_well(&peer));
	free(bytes);
	close_pair(&p);
}

static void test_write_now(void **state)
{
	uint8_t *bytes = pattern(BIG);
	ssize_t sent;
	struct pair p;

	(void)state;
	open_pair(&p);
	sent = stream_write(p.s, bytes, BIG);
	assert_true(sent > 0 && sent < BIG);
	while (sent > 0)
		sent = stream_write(p.s, bytes, BIG);
	assert_int_equal(sent, -EAGAIN);
	free(bytes);
	close_pair(&p);
}

/* SIGPIPE would end this program: its disposition is the default one. */
static void test_nobody_reads(void **state)
{
	struct err err = {0};
	struct pair p;

	(void)state;
	open_pair(&p);
	close(p.peer);
	assert_failed(stream_write_full(p.s, "x", 1, CLOCK_NEVER, &err), EPIPE, &err,
	              "send: Broken pipe");
	assert_int_equal(stream_write(p.s, "x", 1), -EPIPE);
	stream_bye(p.s);
	p.peer = -1;
	close_pair(&p);
}

static void test_pipes(void **state)
{
	struct stream *r, *w;
	uint8_t buf[5];
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	r = stream_new(fds[0]);
	w = stream_new(fds[1]);
	assert_int_equal(stream_read(r, buf, 5), -EAGAIN);
	assert_int_equal(stream_write_full(w, "hello", 5, CLOCK_NEVER, NULL), 0);
	assert_int_equal(stream_read_full(r, buf, 5, CLOCK_NEVER, NULL), 1);
	assert_memory_equal(buf, "hello", 5);
	stream_bye(w);
	stream_free(w);
	assert_int_equal(stream_read_full(r, buf, 5, CLOCK_NEVER, NULL), 0);
	stream_free(r);
	stream_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_read_now),     TIMED(test_read_pieces), TIMED(test_end),
		TIMED(test_reset),        TIMED(test_interrupted), TIMED(test_timeout),
		TIMED(test_progress),     TIMED(test_write),       TIMED(test_write_now),
		TIMED(test_nobody_reads), TIMED(test_pipes),

	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
