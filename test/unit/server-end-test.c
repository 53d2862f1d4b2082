/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When a server that ends with its first client ends: the cases in which lanes matter. */
#include "test/unit/server-world.h"

#include "criu-lazy/os/net.h"
#include "proto/lanes.h"

#include <signal.h>
#include <sys/un.h>

struct running {
	struct server_options options;
	pthread_t thread;
	char path[80];
	int result;
};

static void *run(void *arg)
{
	struct running *r = arg;

	r->result = server_run(&r->options, NULL);
	return NULL;
}

static void start(struct running *r, struct world *world, int64_t return_ns)
{
	*r = (struct running){.options = world->options};
	snprintf(r->path, sizeof(r->path), "%s/socket", world->dir->path);
	r->options.listen_fd = net_listen_unix(r->path, NULL);
	assert_true(r->options.listen_fd >= 0);
	r->options.once = true;
	r->options.return_ns = return_ns;
	assert_int_equal(pthread_create(&r->thread, NULL, run, r), 0);
}

static int end(struct running *r)
{
	pthread_join(r->thread, NULL);
	close(r->options.listen_fd);
	unlink(r->path);
	return r->result;
}

/* A lane that has said hello and was answered. */
static int lane(struct running *r)
{
	const struct lanes_header h = {.cmd = LANES_HELLO};
	const struct lanes_hello hello = {.version = LANES_VERSION};
	uint8_t out[LANES_HEADER + LANES_HELLO_TAIL];
	int fd = net_connect_unix(r->path, NULL);
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	assert_true(fd >= 0);
	lanes_encode_hello(&hello, out + LANES_HEADER);
	lanes_encode(&h, out + LANES_HEADER, LANES_HELLO_TAIL, out);
	assert_int_equal(write(fd, out, sizeof(out)), sizeof(out));
	assert_int_equal(poll(&pfd, 1, 10000), 1);
	assert_int_equal(read(fd, out, sizeof(out)), sizeof(out));
	return fd;
}

static void bye(int fd)
{
	const struct lanes_header h = {.cmd = LANES_BYE};
	uint8_t out[LANES_HEADER];

	lanes_encode(&h, NULL, 0, out);
	assert_int_equal(write(fd, out, sizeof(out)), sizeof(out));
	close(fd);
}

static void test_bye(void **state)
{
	struct running r;
	int first, second;

	start(&r, *state, 0);
	first = lane(&r);
	second = lane(&r);
	bye(first);
	bye(second);
	assert_int_equal(end(&r), 0);
}

/* Lanes that break are no end: the helper comes back, more than once. */
static void test_comes_back(void **state)
{
	struct running r;

	start(&r, *state, 0);
	for (int i = 0; i < 5; i++) {
		int first = lane(&r), second = lane(&r);

		close(first);
		close(second);
	}
	bye(lane(&r));
	assert_int_equal(end(&r), 0);
}

static void test_does_not_come_back(void **state)
{
	struct running r;

	start(&r, *state, NSEC_PER_MSEC);
	close(lane(&r));
	assert_int_equal(end(&r), -EIO);
}

/* As long as one of its lanes is there nothing is over. */
static void test_one_is_left(void **state)
{
	const struct timespec pause = {.tv_nsec = 300000000};
	struct running r;
	int first, second;

	start(&r, *state, NSEC_PER_MSEC);
	first = lane(&r);
	second = lane(&r);
	close(second);
	nanosleep(&pause, NULL);
	bye(first);
	assert_int_equal(end(&r), 0);
}

/* A signal: shut down at once, and say that nobody was served to the end. */
static void test_signal(void **state)
{
	struct running r;
	int fd;
	char byte;

	start(&r, *state, 0);
	fd = lane(&r);
	kill(getpid(), SIGTERM);
	assert_int_equal(end(&r), -EINTR);
	assert_int_equal(read(fd, &byte, 1), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SERVER_TEST(test_bye),
		SERVER_TEST(test_comes_back),
		SERVER_TEST(test_does_not_come_back),
		SERVER_TEST(test_one_is_left),
		SERVER_TEST(test_signal),
	};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
