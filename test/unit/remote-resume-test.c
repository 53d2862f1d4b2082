/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A remote that several processes use one after the other: each is made by a clone that shares the
 * descriptors and not the memory, asks for pages over the connections that were there before it,
 * and is killed in the middle.  The next one, here the test itself, resumes.
 *
 * In tests of the first kind the test plays the server, so that what is on its way in the moment of
 * the kill is known.  In those of the second kind a real server runs in a process of its own, and
 * the kill comes at random.
 */
#include "test/unit/remote-lanes.h"
#include "test/unit/tls-world.h"

#include "criu-lazy/base/log.h"
#include "criu-lazy/server/content.h"
#include "criu-lazy/server/server.h"
#include "images/identity.h"
#include "images/inventory.h"
#include "images/pagemap.h"
#include "images/pstree.h"
#include "images/writer.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { MAX_FD = 256, NR_PAGES = 600 };

/* --- processes that share descriptors -------------------------------------------------------- */

static void note_fds(bool open[MAX_FD])
{
	for (int fd = 0; fd < MAX_FD; fd++)
		open[fd] = fcntl(fd, F_GETFD) >= 0;
}

/* What the owner of the table does when a worker has died. */
static void close_unknown(const bool known[MAX_FD])
{
	for (int fd = 3; fd < MAX_FD; fd++)
		if (!known[fd])
			close(fd);
}

static _Noreturn void worker_failed(int told_fd, const char *why)
{
	static const unsigned nothing;

	fprintf(stderr, "worker: %s\n", why);
	if (write(told_fd, &nothing, sizeof(nothing)) < 0)
		perror("worker");
	_exit(1);
}

static int worker_told_fd; /* the worker's own: its memory is not ours */

/* No assertions: they would go on with the test's own program. */
static void worker_done(struct source_request *request, const struct source_bytes *bytes,
                        const struct err *err)
{
	struct asked *a = request->owner;
	uint8_t page[PAGE_SIZE];

	if (!bytes)
		worker_failed(worker_told_fd, err->text);
	for (uint64_t i = 0; i < bytes->nr_pages; i++) {
		fill_page(page, PID, request->img + i * PAGE_SIZE);
		if (memcmp((const uint8_t *)bytes->bytes + i * PAGE_SIZE, page, PAGE_SIZE))
			worker_failed(worker_told_fd, "a wrong page");
	}
	a->nr_done++;
}

/* The one who asks, and goes on asking until it is killed. */
static void worker(struct net *n, unsigned nr_answers, int told_fd)
{
	static struct asked a[MAX_ASKED];
	uint64_t at = 1, nr_answered = 0;
	struct source_bytes bytes;
	struct err err = {0};

	alarm(PATIENCE);
	worker_told_fd = told_fd;
	if (ring_new(&n->ring, &err) < 0 || remote_start(n->remote, n->ring, &err) < 0)
		worker_failed(told_fd, err.text);
	for (;; at++) {
		struct asked *one = &a[at % MAX_ASKED];

		while (one->request.done && !one->nr_done)
			ring_wait(n->ring, INT64_MAX, &err);
		if (one->nr_done && ++nr_answered == nr_answers &&
		    write(told_fd, &nr_answers, sizeof(nr_answers)) < 0)
			worker_failed(told_fd, "cannot say so");
		one->nr_done = 0;
		one->request = (struct source_request){.img = page_at(at % (NR_PAGES - 2)),
		                                       .nr_pages = 2,
		                                       .urgent = at % 3 == 0,
		                                       .done = worker_done,
		                                       .owner = one};
		if (source_fetch(n->source, &one->request, &bytes, &err) != SOURCE_LATER)
			worker_failed(told_fd, err.text);
	}
}

/* Like fork(), but with one table of descriptors for both. */
static pid_t clone_worker(struct net *n, unsigned nr_answers, int told_fd)
{
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);

	assert_true(pid >= 0);
	if (pid == 0)
		worker(n, nr_answers, told_fd);
	return pid;
}

static void kill_worker(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* not by itself before */
}

/* Connected, and no more. */
static void connected(struct net *n)
{
	pthread_join(n->thread, NULL);
	if (n->result < 0)
		fail_msg("%s", n->err.text);
	n->source = remote_source(n->remote, PID);
	assert_non_null(n->source);
}

static void start(struct net *n)
{
	n->ring = new_ring();
	assert_int_equal(remote_start(n->remote, n->ring, &n->err), 0);
}

/* --- the test plays the server --------------------------------------------------------------- */

/* What was asked for before the end; then the end. */
static void server_drained(struct net *n, int fd)
{
	char buf[4096];
	ssize_t r;

	do {
		while (!readable(fd, 1))
			turn(n);
		r = read(fd, buf, sizeof(buf));
	} while (r > 0);
	close(fd);
}

/* The worker has asked for ever more, one answer is whole, one is sent by half. */
static void test_lanes(void **state)
{
	struct net *n = *state;
	bool known[MAX_FD];
	struct lanes l, next;
	struct asked a[8] = {0};
	struct lanes_header h;
	uint8_t part[LANES_HEADER + 100] = {0};
	pid_t pid;

	note_fds(known);
	n->options.images = IMAGES;
	connect_begin(n);
	l.urgent = accept_first(n);
	l.bulk = accept_lane(n, LANE_BULK);
	known[l.urgent] = known[l.bulk] = true;
	connected(n);
	pid = clone_worker(n, UINT32_MAX, -1);
	h = message(n, l.bulk, NULL);
	assert_int_equal(h.cmd, LANES_FETCH);
	data(n, l.bulk, &h, 1, NULL);
	h = message(n, l.urgent, NULL);
	h.cmd = LANES_DATA;
	h.nr_pages = 2;
	lanes_encode(&h, NULL, 0, part);
	server_write(n, l.urgent, part, sizeof(part));
	kill_worker(pid);
	remote_resume(n->remote);
	assert_non_null(strstr(n->told, "has died; trying again for 10.0 seconds"));
	close_unknown(known);
	server_drained(n, l.urgent);
	server_drained(n, l.bulk);
	start(n);
	next.urgent = accept_first(n);
	for (unsigned i = 0; i < 8; i++)
		ask(n, &a[i], i * 3, 2, i % 2);
	next.bulk = accept_lane(n, LANE_BULK);
	while (!a[0].nr_done || !a[1].nr_done || !a[2].nr_done || !a[3].nr_done || !a[4].nr_done ||
	       !a[5].nr_done || !a[6].nr_done || !a[7].nr_done) {
		for (unsigned i = 0; i < 2; i++) {
			int fd = i ? next.bulk : next.urgent;

			if (!comes(n, fd, 1))
				continue;
			h = message(n, fd, NULL);
			assert_int_equal(h.cmd, LANES_FETCH);
			data(n, fd, &h, h.nr_pages, NULL);
		}
		turn(n);
	}
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(a[i].nr_pages, 2);
	close_lanes(&next);
}

/* Nobody is there any more: lost, when the time is over. */
static void test_lanes_gone(void **state)
{
	struct net *n = *state;
	struct asked a = {0};
	struct lanes l;

	n->options.images = IMAGES;
	n->options.reconnect_timeout = 200 * NSEC_PER_MSEC;
	connect_begin(n);
	l.urgent = accept_first(n);
	l.bulk = accept_lane(n, LANE_BULK);
	connected(n);
	close_lanes(&l);
	close(n->listen_fd);
	n->listen_fd = -1;
	remote_resume(n->remote);
	start(n);
	ask(n, &a, 3, 1, true);
	await_answer(n, &a);
	assert_int_equal(a.nr_pages, 0);
	assert_int_equal(a.code, EIO);
	assert_non_null(strstr(a.text, "Connection refused"));
}

static void all_is_lost(struct net *n, const char *why)
{
	struct asked a = {0};

	start(n);
	assert_int_equal(ask_from(n->source, &a, 3, 1, true), SOURCE_LOST);
	assert_int_equal(a.code, EIO);
	assert_non_null(strstr(a.text, why));
	assert_int_equal(remote_end(n->remote, &n->err), -EIO);
}

/* A dumper of CRIU: it sees a header that breaks off, and lets its processes go on. */
static void test_stock(void **state)
{
	struct net *n = *state;
	struct ps_header h;
	bool known[MAX_FD];
	uint8_t rest[PS_HEADER_MAX];
	size_t len = 0;
	pid_t pid;
	ssize_t r;
	int fd;

	note_fds(known);
	connect_begin(n);
	fd = accept_stock(n);
	known[fd] = true;
	connected(n);
	pid = clone_worker(n, UINT32_MAX, -1);
	h = get(n, fd);
	give(n, fd, &h, 1);
	h = get(n, fd);
	give_header(n, fd, &h, 2, 0); /* and no pages */
	while (comes(n, fd, 50))
		get(n, fd); /* all that it asks for before it has an answer */
	kill_worker(pid);
	remote_resume(n->remote);
	close_unknown(known);
	while ((r = read(fd, rest + len, sizeof(rest) - len)) > 0)
		len += (size_t)r;
	assert_int_equal(len, 8);
	all_is_lost(n, "CRIU's servers accept no second one");
	assert_false(comes(n, n->listen_fd, 50)); /* nor is it tried */
	close(fd);
}

/* The number stands for another file by now: not a word is said there. */
static void test_number_used_again(void **state)
{
	struct net *n = *state;
	bool before[MAX_FD], after[MAX_FD];
	int fd, pair[2], ours = -1;

	note_fds(before);
	connect_begin(n);
	fd = accept_stock(n);
	connected(n);
	note_fds(after);
	for (int i = 0; i < MAX_FD; i++)
		if (after[i] && !before[i] && i != fd)
			ours = i;
	assert_true(ours >= 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(dup3(pair[0], ours, O_CLOEXEC), ours); /* closes what was there */
	remote_resume(n->remote);
	assert_false(comes(n, pair[1], 50));
	assert_true(fcntl(ours, F_GETFD) >= 0); /* nor is it closed */
	all_is_lost(n, "has died");
	close(pair[0]);
	close(pair[1]);
	close(ours);
	close(fd);
}

/* A descriptor that was handed to us, behind which is a server of ours. */
static void test_ps_socket(void **state)
{
	struct net *n = *state;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	n->options.ps_socket = pair[0];
	n->options.images = IMAGES;
	n->options.protocol = REMOTE_LANES;
	connect_begin(n);
	hello(n, pair[1], IMAGES);
	connected(n);
	remote_resume(n->remote);
	assert_false(comes(n, pair[1], 20));
	all_is_lost(n, "cannot be connected to again");
	close(pair[0]);
	close(pair[1]);
}

/* --- TLS, and CRIU's protocol ---------------------------------------------------------------- */

/* The server takes the connection for broken, not for ended. */
static void test_stock_tls(void **state)
{
	struct world *w = *state;
	struct net *n;
	struct end server = {0}, client = {0};
	void *net = NULL;
	uint8_t byte;

	assert_int_equal(net_setup(&net), 0);
	n = net;
	(void)w;
	prepare(&client, "client");
	prepare(&server, "server");
	n->options.tls = client.tls;
	n->options.protocol = REMOTE_CRIU;
	n->options.first_pid = 0;
	connect_begin(n);
	while (!readable(n->listen_fd, 100))
		;
	server.fd = accept(n->listen_fd, NULL, NULL);
	accept_thread(&server);
	assert_int_equal(server.r, 0);
	connected(n);
	remote_resume(n->remote);
	assert_true(stream_read_full(server.s, &byte, 1, 10 * NSEC_PER_SEC, &server.err) < 0);
	all_is_lost(n, "has died");
	stream_free(server.s);
	net_teardown(&net);
	tls_free(client.tls);
	tls_free(server.tls);
}

/* --- a real server, and a kill at random ----------------------------------------------------- */

static void write_images(int dirfd, uint64_t *ret_identity)
{
	const struct inventory inventory = {.img_version = 2};
	uint32_t threads[] = {PID};
	const struct pstree_task task = {.pid = PID, .nr_threads = 1, .threads = threads};
	uint8_t *pages = make_pages(PID, FIRST, NR_PAGES);
	struct pages_writer *w;

	assert_int_equal(writer_inventory(dirfd, &inventory, NULL), 0);
	assert_int_equal(writer_pstree(dirfd, &task, 1, NULL), 0);
	assert_int_equal(pages_writer_open(dirfd, PID, 1, COUNT_NEW, &w, NULL), 0);
	assert_int_equal(pages_writer_add(w, FIRST, NR_PAGES, PE_PRESENT | PE_LAZY, pages, NULL),
	                 0);
	assert_int_equal(pages_writer_close(w, NULL), 0);
	free(pages);
	assert_int_equal(images_identity(dirfd, ret_identity, NULL), 0);
}

static pid_t start_server(const struct net *n, int dirfd, struct tls *tls)
{
	struct server_options options = {
		.role = PS_SERVING, .listen_fd = n->listen_fd, .ps_socket = -1, .tls = tls};
	pid_t pid = fork(); /* no thread is there yet */
	sigset_t set;

	assert_true(pid >= 0);
	if (pid)
		return pid;
	alarm(PATIENCE);
	log_open(NULL, LOG_MSG, NULL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (content_open(dirfd, false, &options.content, NULL) < 0)
		_exit(1);
	_exit(server_run(&options, NULL) < 0);
}

/* Every page, right. */
static void get_all(struct net *n)
{
	struct asked a = {0};

	for (uint64_t at = 0; at < NR_PAGES; at += a.nr_pages) {
		ask(n, &a, at, NR_PAGES - at, at % 2);
		await_answer(n, &a);
		assert_true(a.nr_pages > 0);
	}
}

static void killed_at_random(struct world *w, bool with_tls, bool compress)
{
	struct end server = {0}, client = {0};
	struct net *n;
	bool known[MAX_FD];
	void *net = NULL;
	int told[2], status;
	unsigned nr;
	pid_t server_pid, pid;

	assert_int_equal(net_setup(&net), 0);
	n = net;
	write_images(w->dir->fd, &n->options.images);
	n->options.compress = compress;
	if (with_tls) {
		prepare(&client, "client");
		prepare(&server, "server");
		n->options.tls = client.tls;
	}
	server_pid = start_server(n, w->dir->fd, server.tls);
	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	note_fds(known);
	assert_int_equal(remote_connect(&n->options, &n->remote, &n->err), 0);
	n->source = remote_source(n->remote, PID);
	/* The first asks at once; the others come, each from this same memory, as a guardian does
	 * it: by a child that resumes, so that the next one finds the remote as it was. */
	pid = clone_worker(n, 50, told[1]);
	assert_int_equal(read(told[0], &nr, sizeof(nr)), sizeof(nr));
	assert_int_equal(nr, 50);
	usleep((useconds_t)rand() % 3000);
	kill_worker(pid);
	for (unsigned i = 0; i < 3; i++) {
		pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
		assert_true(pid >= 0);
		if (pid == 0) {
			remote_resume(n->remote);
			close_unknown(known);
			worker(n, 50, told[1]);
		}
		assert_int_equal(read(told[0], &nr, sizeof(nr)), sizeof(nr));
		assert_int_equal(nr, 50);
		usleep((useconds_t)rand() % 3000);
		kill_worker(pid);
	}
	remote_resume(n->remote);
	close_unknown(known);
	start(n);
	get_all(n);
	assert_int_equal(remote_end(n->remote, &n->err), 0);
	kill(server_pid, SIGTERM);
	assert_int_equal(waitpid(server_pid, &status, 0), server_pid);
	assert_int_equal(status, 0);
	close(told[0]);
	close(told[1]);
	net_teardown(&net);
	tls_free(client.tls);
	tls_free(server.tls);
}

static void test_killed_plain(void **state)
{
	killed_at_random(*state, false, false);
}

static void test_killed_compressed(void **state)
{
	killed_at_random(*state, false, true);
}

static void test_killed_tls(void **state)
{
	killed_at_random(*state, true, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_NET(test_lanes),          IN_NET(test_lanes_gone),
		IN_NET(test_stock),          IN_NET(test_number_used_again),
		IN_NET(test_ps_socket),      IN_WORLD(test_stock_tls),
		IN_WORLD(test_killed_plain), IN_WORLD(test_killed_compressed),
		IN_WORLD(test_killed_tls),
	};
	unsigned seed = (unsigned)clock_now();

	print_message("seed %u\n", seed);
	srand(seed);
	return cmocka_run_group_tests_name("remote source, resumed", tests, NULL, NULL);
}
