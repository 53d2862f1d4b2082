/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An engine with memory of this process, and a source that this file plays: interleavings that
 * whole programs meet once in a hundred runs.
 */
#include "criu-lazy/engine/engine.h"

#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/source/source.h"
#include "criu-lazy/track/tracker.h"
#include "test/unit/patience.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "test/unit/uffd-world.h"

enum { PAGES = 4096, MAX_REQUESTS = 16 };

#define LEN ((size_t)PAGES * PAGE_SIZE)

/* --- a source --------------------------------------------------------------------------------- */

/* Pages of memory; later: requests wait until the test answers them. */
struct memory {
	struct source source;
	const uint8_t *bytes; /* of image address 0 on */
	bool later;
	struct source_request *request[MAX_REQUESTS];
	unsigned nr_requests; /* ever */
};

static enum source_answer fetch(struct source *s, struct source_request *request,
                                struct source_bytes *ret, struct err *err)
{
	struct memory *m = (struct memory *)s;

	(void)err;
	if (m->later) {
		assert_true(m->nr_requests < MAX_REQUESTS);
		m->request[m->nr_requests++] = request;
		return SOURCE_LATER;
	}
	*ret = (struct source_bytes){m->bytes + request->img, request->nr_pages, true};
	return SOURCE_HERE;
}

static void cancel(struct source *s, struct source_request *request)
{
	struct memory *m = (struct memory *)s;

	for (unsigned i = 0; i < m->nr_requests; i++)
		if (m->request[i] == request)
			m->request[i] = NULL;
}

static void close_memory(struct source *s)
{
	(void)s; /* the test's */
}

static const struct source_ops ops = {
	.name = "memory", .dear = true, .fetch = fetch, .cancel = cancel, .close = close_memory};

static void answer(struct memory *m, unsigned nr)
{
	struct source_request *request = m->request[nr];
	struct source_bytes bytes = {m->bytes + request->img, request->nr_pages, false};

	m->request[nr] = NULL;
	request->done(request, &bytes, NULL);
}

/* --- a program -------------------------------------------------------------------------------- */

struct space {
	uint8_t *mem, *content;
	struct memory memory;
	struct engine *engine;
};

struct toucher {
	pthread_t thread;
	const volatile uint8_t *at;
	int by_call; /* a pipe to write it to; -1: it is read */
	atomic_int tid;
	atomic_bool over;
	uint8_t seen;
	int error; /* of the call */
};

static void *touch(void *arg)
{
	struct toucher *t = arg;

	atomic_store(&t->tid, (int)syscall(SYS_gettid));
	if (t->by_call < 0)
		t->seen = *t->at;
	else if (write(t->by_call, (const void *)t->at, 1) < 0)
		t->error = errno;
	atomic_store(&t->over, true);
	return NULL;
}

/* A thread that is stuck in a touch of this page. */
static void start_touch(struct toucher *t, const struct space *s, size_t page, int by_call)
{
	*t = (struct toucher){.at = s->mem + page * PAGE_SIZE, .by_call = by_call};
	assert_int_equal(pthread_create(&t->thread, NULL, touch, t), 0);
	eventually(atomic_load(&t->tid));
	eventually(task_waits(atomic_load(&t->tid)));
}

static uint8_t content_of(size_t page)
{
	return (uint8_t)(1 + page % 251);
}

static void turn(struct engine *engine)
{
	struct err err = {0};

	assert_int_equal(engine_turn(engine, clock_now() + NSEC_PER_MSEC, &err), 0);
}

static const size_t LOST = SIZE_MAX; /* not a page: it cannot be read */

/* As long as it takes, within patience; put_off: no background copying meanwhile. */
static void finish_touch(struct toucher *t, const struct space *s, size_t page, bool put_off)
{
	int64_t until = clock_now() + PATIENCE * NSEC_PER_SEC;

	while (!atomic_load(&t->over) && clock_now() < until) {
		if (put_off)
			engine_begin_background(s->engine);
		turn(s->engine);
	}
	assert_true(atomic_load(&t->over));
	assert_int_equal(pthread_join(t->thread, NULL), 0);
	if (page == LOST)
		assert_int_equal(t->error, EFAULT);
	else
		assert_int_equal(t->seen, content_of(page));
}

static void open_space(struct space *s, const struct engine_options *options)
{
	struct engine_process process = {.pid = 1, .pidfd = -1};
	struct err err = {0};
	uint64_t features;

	memset(s, 0, sizeof(*s));
	process.uffd = open_uffd(&features);
	if (process.uffd == -EPERM || process.uffd == -ENOSYS)
		skip_because("no userfaultfd here: %s", strerror(-process.uffd));
	assert_true(process.uffd >= 0);
	s->mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	s->content = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(s->mem != MAP_FAILED && s->content != MAP_FAILED);
	for (size_t i = 0; i < PAGES; i++)
		memset(s->content + i * PAGE_SIZE, content_of(i), PAGE_SIZE);
	register_range(process.uffd, (uint64_t)(uintptr_t)s->mem, LEN);
	process.tracker = tracker_new();
	assert_non_null(process.tracker);
	assert_int_equal(tracker_add(process.tracker, (uint64_t)(uintptr_t)s->mem, 0, PAGES), 0);
	s->memory = (struct memory){.source = {.ops = &ops, .nr_owners = 1}, .bytes = s->content};
	process.source = &s->memory.source;
	assert_int_equal(engine_new(options, &s->engine, &err), 0);
	assert_int_equal(engine_adopt(s->engine, &process, &err), 0);
}

static void close_space(struct space *s)
{
	engine_free(s->engine);
	munmap(s->mem, LEN);
	munmap(s->content, LEN);
}

/* --- tests ------------------------------------------------------------------------------------ */

/*
 * A and B wait, A for the page that comes next after many in order, B for one behind it:
 *
 *	engine	answers A with 512 pages, gives the next 512 to the copier; B's is one: it joins
 *	copier	cannot read B's page
 *	engine	takes them back, and has to think of B, which gets SIGBUS (a call: EFAULT)
 */
static void test_joins_copier(void **state)
{
	const struct engine_options options = {.background = BACKGROUND_FULL, .copier = true};
	static const struct source_ops cheap = {
		.name = "memory", .fetch = fetch, .cancel = cancel, .close = close_memory};
	struct toucher a, b;
	struct space s;
	int by_call[2];
	size_t page;

	(void)state;
	open_space(&s, &options);
	s.memory.source.ops = &cheap;
	assert_int_equal(pipe(by_call), 0);
	/* Four in a row are known for a streak; the fifth brings 512, and gives 512 away. */
	for (page = 0; page < 5; page++) {
		start_touch(&a, &s, page, -1);
		finish_touch(&a, &s, page, true);
	}
	page += 2 * 512 - 1;
	start_touch(&a, &s, page, -1);
	start_touch(&b, &s, page + 512 + 100, by_call[1]);
	assert_int_equal(mprotect(s.content + (page + 512 + 100) * PAGE_SIZE, PAGE_SIZE, PROT_NONE),
	                 0);
	finish_touch(&a, &s, page, true);
	finish_touch(&b, &s, LOST, true);
	close_space(&s);
	close(by_call[0]);
	close(by_call[1]);
}

static void *fork_and_touch(void *arg)
{
	struct toucher *t = arg;
	pid_t pid = _Fork(); /* fork() waits with malloc's locks held, and the engine allocates */
	int status = -1;

	if (pid == 0)
		_exit(*t->at == content_of(7) ? 0 : 1);
	waitpid(pid, &status, 0);
	t->seen = (uint8_t)(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
	atomic_store(&t->over, true);
	return NULL;
}

/* Parent and child wait for one page: it is asked for once, and its answer goes to both. */
static void test_family_asks_once(void **state)
{
	const struct engine_options options = {.background = BACKGROUND_OFF};
	int64_t until = clock_now() + PATIENCE * NSEC_PER_SEC;
	struct toucher parent, forker;
	struct engine_stats stats;
	struct space s;

	(void)state;
	open_space(&s, &options);
	s.memory.later = true;
	forker = (struct toucher){.at = s.mem + 7 * PAGE_SIZE};
	assert_int_equal(pthread_create(&forker.thread, NULL, fork_and_touch, &forker), 0);
	do {
		turn(s.engine);
		engine_stats(s.engine, &stats);
	} while ((stats.sessions < 2 || !s.memory.nr_requests) && clock_now() < until);
	assert_int_equal(stats.sessions, 2);
	assert_int_equal(s.memory.nr_requests, 1); /* the child's */
	start_touch(&parent, &s, 7, -1);
	for (int i = 0; i < 50; i++)
		turn(s.engine);
	assert_int_equal(s.memory.nr_requests, 1);
	answer(&s.memory, 0);
	finish_touch(&parent, &s, 7, false);
	while (!atomic_load(&forker.over) && clock_now() < until)
		turn(s.engine);
	assert_true(atomic_load(&forker.over));
	assert_int_equal(pthread_join(forker.thread, NULL), 0);
	assert_int_equal(forker.seen, 0);
	assert_int_equal(s.memory.nr_requests, 1);
	close_space(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_joins_copier),
		cmocka_unit_test(test_family_asks_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
