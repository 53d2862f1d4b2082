/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files sent over a plain stream: whole, too short, of odd kinds, and to a peer that goes away. */
#include "test/unit/stream-world.h"

static int file_of(size_t len)
{
	char path[] = "/tmp/criu-lazy-stream-XXXXXX";
	uint8_t *bytes = pattern(len);
	int fd = mkostemp(path, O_CLOEXEC);

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(write(fd, bytes, len), len);
	free(bytes);
	return fd;
}

static void test_file(void **state)
{
	int fd = file_of(BIG);
	uint64_t sent = 77;
	struct peer peer;
	struct pair p;

	(void)state;
	open_pair(&p);
	start(&peer, peer_reads, p.peer, BIG, 8000);
	assert_int_equal(stream_send_file(p.s, fd, 0, 4096, CLOCK_NEVER, &sent, NULL), 0);
	assert_int_equal(sent, 4096);
	assert_int_equal(stream_send_file(p.s, fd, 4096, BIG - 4096, CLOCK_NEVER, &sent, NULL), 0);
	assert_int_equal(sent, BIG - 4096);
	stream_bye(p.s);
	assert_true(ended_well(&peer));
	assert_int_equal(lseek(fd, 0, SEEK_CUR), BIG); /* its own offset is left alone */
	close(fd);
	close_pair(&p);
}

static void test_short_file(void **state)
{
	int fd = file_of(10000);
	struct err err = {0};
	uint8_t buf[16384];
	uint64_t sent = 77;
	struct pair p;

	(void)state;
	open_pair(&p);
	assert_failed(stream_send_file(p.s, fd, 4096, 8192, CLOCK_NEVER, &sent, &err), ENODATA,
	              &err, "the file ends at 10000");
	assert_int_equal(sent, 10000 - 4096);
	assert_int_equal(read(p.peer, buf, sizeof(buf)), 10000 - 4096);
	assert_failed(stream_send_file(p.s, fd, 20000, 1, CLOCK_NEVER, &sent, &err), ENODATA, &err,
	              "the file ends at 20000");
	assert_int_equal(sent, 0);
	assert_failed(stream_send_file(p.s, fd, UINT64_MAX, 1, CLOCK_NEVER, &sent, &err), EINVAL,
	              &err, "no file has");
	assert_failed(stream_send_file(p.s, fd, 4096, INT64_MAX, CLOCK_NEVER, &sent, &err), EINVAL,
	              &err, "no file has");
	assert_int_equal(sent, 0);
	close(fd);
	close_pair(&p);
}

/* What sendfile(2) refuses goes through a buffer. */
static void test_odd_file(void **state)
{
	int fd = open("/proc/self/auxv", O_RDONLY | O_CLOEXEC);
	uint8_t want[256], got[256];
	struct err err = {0};
	uint64_t sent;
	struct pair p;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, want, sizeof(want), 16), sizeof(want));
	open_pair(&p);
	if (stream_send_file(p.s, fd, 16, sizeof(want), CLOCK_NEVER, &sent, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(sent, sizeof(want));
	assert_int_equal(read(p.peer, got, sizeof(got)), sizeof(got));
	assert_memory_equal(got, want, sizeof(want));
	close(fd);
	close_pair(&p);
}

/* The peer goes away in the middle; SIGPIPE is ignored, as in the program. */
static void test_file_cut(void **state)
{
	int fd = file_of(BIG);
	struct err err = {0};
	uint64_t sent = 0;
	struct pair p;
	int r;

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	open_pair(&p);
	assert_failed(stream_send_file(p.s, fd, 0, BIG, 10 * NSEC_PER_MSEC, &sent, &err), ETIMEDOUT,
	              &err, "send from the file");
	assert_true(sent > 0 && sent < BIG);
	close(p.peer);
	p.peer = -1;
	r = stream_send_file(p.s, fd, 0, BIG, CLOCK_NEVER, &sent, &err);
	assert_int_equal(r, -EPIPE);
	assert_int_equal(sent, 0);
	signal(SIGPIPE, SIG_DFL);
	close(fd);
	close_pair(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_file),
		TIMED(test_short_file),
		TIMED(test_odd_file),
		TIMED(test_file_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
