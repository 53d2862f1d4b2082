/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How long a client may take for a message, and what is in the buffer meanwhile. */
#include "test/unit/images-dir.h"

#include "criu-lazy/os/stream.h"
#include "criu-lazy/server/input.h"

#include <pthread.h>
#include <sys/socket.h>

struct pair {
	struct input in;
	int fd; /* the client's */
};

static int setup(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));
	int fds[2];

	if (!p || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -1;
	p->fd = fds[0];
	p->in.stream = stream_new(fds[1]);
	*state = p;
	return p->in.stream ? 0 : -1;
}

static int teardown(void **state)
{
	struct pair *p = *state;

	stream_free(p->in.stream);
	if (p->fd >= 0)
		close(p->fd);
	free(p);
	return 0;
}

static void put(struct pair *p, const char *text)
{
	assert_int_equal(write(p->fd, text, strlen(text)), strlen(text));
}

static void hang_up(struct pair *p)
{
	close(p->fd);
	p->fd = -1;
}

static void test_peek(void **state)
{
	struct pair *p = *state;
	struct err err = {0};
	const uint8_t *at;

	put(p, "abcdefgh");
	assert_int_equal(input_peek(&p->in, 2, CLOCK_NEVER, &at, &err), 1);
	assert_memory_equal(at, "ab", 2);
	assert_int_equal(input_peek(&p->in, 4, CLOCK_NEVER, &at, &err), 1);
	assert_memory_equal(at, "abcd", 4);
	input_take(&p->in, 3);
	assert_int_equal(input_peek(&p->in, 5, CLOCK_NEVER, &at, &err), 1);
	assert_memory_equal(at, "defgh", 5);
	input_take(&p->in, 5);
	put(p, "12");
	hang_up(p);
	assert_int_equal(input_peek(&p->in, 1, CLOCK_NEVER, &at, &err), 1);
	assert_failed(input_peek(&p->in, 3, CLOCK_NEVER, &at, &err), EPROTO, &err,
	              "hung up after 2 bytes");
	input_take(&p->in, 2);
	assert_int_equal(input_peek(&p->in, 3, CLOCK_NEVER, &at, &err), 0);
}

/* Messages that do not begin where the buffer does, many times its size. */
static void test_many(void **state)
{
	struct pair *p = *state;
	uint32_t words[600], next = 0;
	const uint8_t *at;

	for (int round = 0; round < 40; round++) {
		for (size_t i = 0; i < 600; i++)
			words[i] = (uint32_t)round * 600 + (uint32_t)i;
		assert_int_equal(write(p->fd, words, sizeof(words)), sizeof(words));
		for (size_t i = 0; i < 600 / 3; i++) {
			uint32_t got[3];

			assert_int_equal(input_peek(&p->in, 4, CLOCK_NEVER, &at, NULL), 1);
			assert_int_equal(input_peek(&p->in, 12, CLOCK_NEVER, &at, NULL), 1);
			memcpy(got, at, sizeof(got));
			for (size_t k = 0; k < 3; k++)
				assert_int_equal(got[k], next++);
			input_take(&p->in, 12);
		}
	}
}

static void test_content(void **state)
{
	struct pair *p = *state;
	struct err err = {0};
	const uint8_t *at;
	char buf[16];

	p->in.content_ns = NSEC_PER_MSEC;
	put(p, "headcontent");
	assert_int_equal(input_peek(&p->in, 4, CLOCK_NEVER, &at, &err), 1);
	input_take(&p->in, 4);
	assert_int_equal(input_content(&p->in, buf, 3, &err), 3);
	assert_memory_equal(buf, "con", 3);
	assert_int_equal(input_content(&p->in, buf, sizeof(buf), &err), 4);
	assert_memory_equal(buf, "tent", 4);
	assert_failed((int)input_content(&p->in, buf, 1, &err), ETIMEDOUT, &err, "receive pages");
	put(p, "more");
	assert_int_equal(input_content(&p->in, buf, sizeof(buf), &err), 4);
	hang_up(p);
	assert_failed((int)input_content(&p->in, buf, 1, &err), EPROTO, &err,
	              "in the middle of pages");
}

/* Half a message, and then nothing. */
static void test_half(void **state)
{
	struct pair *p = *state;
	struct err err = {0};
	const uint8_t *at;

	p->in.message_ns = NSEC_PER_MSEC;
	put(p, "abc");
	assert_failed(input_peek(&p->in, 4, CLOCK_NEVER, &at, &err), ETIMEDOUT, &err,
	              "3 bytes of a message");
}

static void *drip(void *arg)
{
	const struct timespec pause = {.tv_nsec = 2000000};

	for (int i = 0; i < 10000; i++) {
		if (send(*(int *)arg, "x", 1, MSG_NOSIGNAL) != 1)
			break;
		nanosleep(&pause, NULL);
	}
	return NULL;
}

/* Progress is not enough: a message in drops has to end too, however often it is looked at. */
static void test_drip(void **state)
{
	struct pair *p = *state;
	struct err err = {0};
	const uint8_t *at;
	pthread_t thread;
	size_t len;
	int r = 1;

	p->in.message_ns = 100 * NSEC_PER_MSEC;
	assert_int_equal(pthread_create(&thread, NULL, drip, &p->fd), 0);
	for (len = 1; len <= 4000 && r > 0; len++)
		r = input_peek(&p->in, len, CLOCK_NEVER, &at, &err);
	stream_bye(p->in.stream);
	shutdown(p->fd, SHUT_RDWR);
	pthread_join(thread, NULL);
	assert_failed(r, ETIMEDOUT, &err, "bytes of a message");
	assert_true(len < 4000);
}

static void *later(void *arg)
{
	const struct timespec pause = {.tv_nsec = 50000000};

	nanosleep(&pause, NULL);
	assert_int_equal(write(*(int *)arg, "abcd", 4), 4);
	return NULL;
}

/* Between messages a client may be silent for longer than for a message. */
static void test_silence(void **state)
{
	struct pair *p = *state;
	struct err err = {0};
	const uint8_t *at;
	pthread_t thread;

	p->in.message_ns = 10 * NSEC_PER_MSEC;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pthread_create(&thread, NULL, later, &p->fd), 0);
		assert_int_equal(input_peek(&p->in, 4, CLOCK_NEVER, &at, &err), 1);
		input_take(&p->in, 4);
		pthread_join(thread, NULL);
	}
	assert_failed(input_peek(&p->in, 4, NSEC_PER_MSEC, &at, &err), ETIMEDOUT, &err, "0 bytes");
}

static void test_end(void **state)
{
	struct pair *p = *state;
	struct err err = {0};
	const uint8_t *at;

	assert_failed(input_end(&p->in, NSEC_PER_MSEC, &err), ETIMEDOUT, &err, "hang up");
	put(p, "ab");
	assert_failed(input_end(&p->in, NSEC_PER_SEC, &err), EPROTO, &err, "goes on");
	assert_int_equal(input_peek(&p->in, 1, CLOCK_NEVER, &at, &err), 1);
	assert_failed(input_end(&p->in, NSEC_PER_SEC, &err), EPROTO, &err, "goes on");
	input_take(&p->in, 1);
	hang_up(p);
	assert_int_equal(input_end(&p->in, NSEC_PER_SEC, &err), 0);
}

#define INPUT_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		INPUT_TEST(test_peek), INPUT_TEST(test_many), INPUT_TEST(test_content),
		INPUT_TEST(test_half), INPUT_TEST(test_drip), INPUT_TEST(test_silence),
		INPUT_TEST(test_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
