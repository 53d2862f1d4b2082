/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The event loop: who is told, how often, with full queues, and when nothing happens. */
#include "test/unit/ring-bell.h"
#include "test/unit/uffd-world.h"

#include <sys/resource.h>

/* --- ready ----------------------------------------------------------------------------------- */

static void test_fires(void **state)
{
	struct ring *ring = new_ring();
	struct count count = {0};
	struct bell *b = bell_new(ring, &count);

	(void)state;
	bell_watch(b);
	assert_int_equal(wait_ring(ring, 0), 0);
	ring_bell(b->fd);
	assert_int_equal(wait_ring(ring, INT64_MAX), 1);
	assert_int_equal(count.ready, 1);
	assert_true(count.events & POLLIN);
	drain(ring);
	assert_int_equal(count.ready, 1);
	ring_unwatch(ring, &b->watch);
	await(ring, &count.gone, 1);
	ring_free(ring);
}

/* What was there before the watch is told, too. */
static void test_ready_before_the_watch(void **state)
{
	struct ring *ring = new_ring();
	struct count count = {0};
	struct bell *b = bell_new(ring, &count);

	(void)state;
	ring_bell(b->fd);
	bell_watch(b);
	await(ring, &count.ready, 1);
	ring_unwatch(ring, &b->watch);
	await(ring, &count.gone, 1);
	ring_free(ring);
}

static void test_keeps_firing(void **state)
{
	struct ring *ring = new_ring();
	struct count count = {0};
	struct bell *b = bell_new(ring, &count);

	(void)state;
	bell_watch(b);
	for (unsigned i = 1; i <= 1000; i++) {
		ring_bell(b->fd);
		await(ring, &count.ready, i);
	}
	/* Also when a handler reads nothing: once for each wake-up. */
	b->leave_it = true;
	for (unsigned i = 1001; i <= 1100; i++) {
		ring_bell(b->fd);
		await(ring, &count.ready, i);
	}
	drain(ring);
	assert_int_equal(count.ready, 1100);
	ring_unwatch(ring, &b->watch);
	await(ring, &count.gone, 1);
	ring_free(ring);
}

static void test_many(void **state)
{
	enum { MANY = 1500 };
	static struct bell *bells[MANY];
	static struct count counts[MANY];
	struct ring *ring = new_ring();
	struct rlimit limit;

	(void)state;
	memset(counts, 0, sizeof(counts));
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur < MANY + 100) {
		limit.rlim_cur = MANY + 100;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
			ring_free(ring);
			skip_because("only %llu descriptors are allowed",
			             (unsigned long long)limit.rlim_max);
		}
	}
	for (size_t i = 0; i < MANY; i++) {
		bells[i] = bell_new(ring, &counts[i]);
		bell_watch(bells[i]);
	}
	for (unsigned round = 1; round <= 3; round++) {
		for (size_t i = 0; i < MANY; i++)
			ring_bell(bells[i]->fd);
		for (size_t i = 0; i < MANY; i++)
			await(ring, &counts[i].ready, round);
	}
	for (size_t i = 0; i < MANY; i++)
		ring_unwatch(ring, &bells[i]->watch);
	for (size_t i = 0; i < MANY; i++)
		await(ring, &counts[i].gone, 1);
	ring_free(ring);
}

/*
 * One bell fills the completion queue; the others then find no room, so that the kernel ends their
 * multishot polls, and more of them are armed again in one turn than the submission queue holds.
 */
static void test_full_queues(void **state)
{
	enum { OTHERS = 600, FULL = 16384 };
	static struct bell *bells[OTHERS];
	static struct count counts[OTHERS];
	struct ring *ring = new_ring();
	struct count loud = {0};
	struct bell *b = bell_new(ring, &loud);

	(void)state;
	memset(counts, 0, sizeof(counts));
	bell_watch(b);
	for (size_t i = 0; i < OTHERS; i++) {
		bells[i] = bell_new(ring, &counts[i]);
		bell_watch(bells[i]);
	}
	for (size_t i = 0; i < FULL + 100; i++)
		ring_bell(b->fd);
	for (size_t i = 0; i < OTHERS; i++)
		ring_bell(bells[i]->fd);
	for (size_t i = 0; i < OTHERS; i++)
		while (!counts[i].ready)
			wait_ring(ring, INT64_MAX);
	assert_true(loud.ready > 1000);
	drain(ring);
	/* Everyone goes on as before. */
	for (size_t i = 0; i < OTHERS; i++) {
		unsigned before = counts[i].ready;

		ring_bell(bells[i]->fd);
		await(ring, &counts[i].ready, before + 1);
		ring_unwatch(ring, &bells[i]->watch);
	}
	ring_unwatch(ring, &b->watch);
	for (size_t i = 0; i < OTHERS; i++)
		await(ring, &counts[i].gone, 1);
	await(ring, &loud.gone, 1);
	ring_free(ring);
}

/* A descriptor that cannot be polled is told as an error, once. */
static void test_bad_descriptor(void **state)
{
	struct ring *ring = new_ring();
	struct count count = {0};
	struct bell *b = bell_new(ring, &count);
	struct err err = {0};

	(void)state;
	assert_int_equal(ring_watch(ring, &b->watch, 1 << 20, POLLIN, &err), 0);
	await(ring, &count.ready, 1);
	assert_int_equal(count.events, POLLERR);
	drain(ring);
	assert_int_equal(count.ready, 1);
	ring_unwatch(ring, &b->watch);
	assert_int_equal(count.gone, 1);
	ring_free(ring);
}

static void test_hang_up(void **state)
{
	struct ring *ring = new_ring();
	struct count count = {0};
	struct bell *b = bell_new(ring, &count);
	int ends[2];

	(void)state;
	close(b->fd);
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	b->fd = ends[0];
	bell_watch(b);
	close(ends[1]);
	await(ring, &count.ready, 1);
	assert_true(count.events & POLLHUP);
	ring_unwatch(ring, &b->watch);
	await(ring, &count.gone, 1);
	ring_free(ring);
}

/* --- time ------------------------------------------------------------------------------------ */

static void test_timeout(void **state)
{
	struct ring *ring = new_ring();
	struct count count = {0};
	struct bell *b = bell_new(ring, &count);
	int64_t start;

	(void)state;
	bell_watch(b);
	start = clock_now();
	for (int i = 0; i < 1000; i++)
		assert_int_equal(wait_ring(ring, 0), 0);
	assert_true(clock_now() - start < 5 * NSEC_PER_SEC);
	start = clock_now();
	assert_int_equal(wait_ring(ring, 50 * NSEC_PER_MSEC), 0);
	assert_true(clock_now() - start >= 50 * NSEC_PER_MSEC);
	assert_true(clock_now() - start < 5 * NSEC_PER_SEC);
	start = clock_now();
	assert_int_equal(wait_ring(ring, 1), 0); /* rounded, and not for ever */
	assert_true(clock_now() - start < 5 * NSEC_PER_SEC);
	ring_unwatch(ring, &b->watch);
	await(ring, &count.gone, 1);
	ring_free(ring);
}

static void *ring_later(void *arg)
{
	sleep_ms(50);
	ring_bell(*(int *)arg);
	return NULL;
}

/* From another thread: while waiting without limit, and while only looking now and then. */
static void test_rung_by_a_thread(void **state)
{
	struct ring *ring = new_ring();
	struct count count = {0};
	struct bell *b = bell_new(ring, &count);
	pthread_t thread;
	int64_t start = clock_now();

	(void)state;
	bell_watch(b);
	assert_int_equal(pthread_create(&thread, NULL, ring_later, &b->fd), 0);
	assert_int_equal(wait_ring(ring, INT64_MAX), 1);
	assert_true(clock_now() - start >= 50 * NSEC_PER_MSEC);
	pthread_join(thread, NULL);
	assert_int_equal(pthread_create(&thread, NULL, ring_later, &b->fd), 0);
	while (count.ready < 2)
		wait_ring(ring, 0);
	pthread_join(thread, NULL);
	ring_unwatch(ring, &b->watch);
	await(ring, &count.gone, 1);
	ring_free(ring);
}

static atomic_bool interrupted;

static void on_signal(int nr)
{
	(void)nr;
	atomic_store(&interrupted, true);
}

static void *interrupt(void *arg)
{
	while (!atomic_load(&interrupted)) {
		sleep_ms(20);
		pthread_kill(*(pthread_t *)arg, SIGUSR1);
	}
	return NULL;
}

static void test_signal_ends_the_wait(void **state)
{
	struct sigaction action = {.sa_handler = on_signal}, before;
	struct ring *ring = new_ring();
	pthread_t self = pthread_self(), thread;

	(void)state;
	atomic_store(&interrupted, false);
	sigaction(SIGUSR1, &action, &before);
	assert_int_equal(pthread_create(&thread, NULL, interrupt, &self), 0);
	while (!atomic_load(&interrupted))
		assert_int_equal(wait_ring(ring, INT64_MAX), 0);
	pthread_join(thread, NULL);
	sigaction(SIGUSR1, &before, NULL);
	ring_free(ring);
}

/* --- a userfaultfd --------------------------------------------------------------------------- */

struct uffd_watch {
	struct watch watch;
	struct world *w;
	unsigned nr_faults, nr_events;
};

static void uffd_ready(struct watch *watch, uint32_t events)
{
	struct uffd_watch *u = (struct uffd_watch *)watch;
	struct uffd_msg msgs[4];
	uint64_t done;
	int nr;

	assert_true(events & POLLIN);
	while ((nr = uffd_read(u->w->fd, msgs, 4)) > 0)
		for (int i = 0; i < nr; i++) {
			if (msgs[i].event != UFFD_EVENT_PAGEFAULT) {
				u->nr_events++;
				continue;
			}
			u->nr_faults++;
			assert_int_equal(uffd_copy(u->w->fd,
			                           page_down(msgs[i].arg.pagefault.address),
			                           u->w->src, PAGE_SIZE, &done),
			                 UFFD_DONE);
		}
	assert_int_equal(nr, 0);
}

static void test_userfaultfd(void **state)
{
	struct ring *ring = new_ring();
	struct err err = {0};
	struct world w;
	struct uffd_watch u = {.watch = {.ready = uffd_ready}, .w = &w};

	(void)state;
	world_open(&w);
	assert_int_equal(ring_watch(ring, &u.watch, w.fd, POLLIN, &err), 0);
	for (size_t page = 0; page < 4; page++) {
		world_do(&w, touch_page, page);
		await(ring, &u.nr_faults, (unsigned)page + 1);
		world_join(&w);
		assert_int_equal(w.seen, 'a');
		world_do(&w, page % 2 ? unmap_page : discard_page, page);
		await(ring, &u.nr_events, (unsigned)page + 1);
		world_join(&w);
	}
	ring_unwatch(ring, &u.watch);
	while (u.watch.state != WATCH_IDLE)
		wait_ring(ring, INT64_MAX);
	world_close(&w);
	ring_free(ring);
}

/* --- memory that is read ---------------------------------------------------------------------- */

struct read_memory {
	struct populate populate;
	int nr_done, res;
};

static void on_read(struct populate *p, int res)
{
	struct read_memory *r = (struct read_memory *)p;

	r->nr_done++;
	r->res = res;
}

static int read_memory(struct ring *ring, const void *addr, size_t len)
{
	struct read_memory r = {.populate = {.done = on_read}};

	ring_populate(ring, &r.populate, addr, len);
	while (!r.nr_done)
		wait_ring(ring, INT64_MAX);
	return r.res;
}

static void test_populate(void **state)
{
	struct ring *ring = new_ring();
	int fd = memfd_create("ring-test", MFD_CLOEXEC);
	uint8_t *mem;

	(void)state;
	assert_int_equal(ftruncate(fd, PAGE_SIZE), 0);
	mem = mmap(NULL, 3 * PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	assert_true(mem != MAP_FAILED);
	munmap(mem + 2 * PAGE_SIZE, PAGE_SIZE);
	assert_int_equal(read_memory(ring, mem, PAGE_SIZE), 0);
	assert_int_equal(read_memory(ring, mem, 2 * PAGE_SIZE), -EFAULT); /* behind the end */
	assert_int_equal(read_memory(ring, mem + 2 * PAGE_SIZE, PAGE_SIZE), -ENOMEM);
	munmap(mem, 2 * PAGE_SIZE);
	close(fd);
	ring_free(ring);
}

/*
 * Memory of a userfaultfd that nobody answers is as slow as a disk can be.
 *
 *	kernel	reads page 0: a fault, and waits
 *	ring	tells of a bell
 *	test	brings page 0: it is told
 *	kernel	reads page 1, and waits
 *	test	frees the ring: it is told once, that it was given up
 */
static void test_populate_waits(void **state)
{
	struct read_memory r[2] = {{.populate = {.done = on_read}},
	                           {.populate = {.done = on_read}}};
	struct ring *ring = new_ring();
	struct count count = {0};
	struct bell *b = bell_new(ring, &count);
	struct world w;
	uint64_t done;

	(void)state;
	world_open(&w);
	bell_watch(b);
	ring_populate(ring, &r[0].populate, w.mem, PAGE_SIZE);
	expect_fault(w.fd, addr_of(&w, 0));
	ring_bell(b->fd);
	await(ring, &count.ready, 1);
	assert_int_equal(r[0].nr_done, 0);
	assert_int_equal(uffd_copy(w.fd, addr_of(&w, 0), w.src, PAGE_SIZE, &done), UFFD_DONE);
	while (!r[0].nr_done)
		wait_ring(ring, INT64_MAX);
	assert_int_equal(r[0].res, 0);
	ring_unwatch(ring, &b->watch);
	await(ring, &count.gone, 1);
	ring_populate(ring, &r[1].populate, w.mem + PAGE_SIZE, PAGE_SIZE);
	expect_fault(w.fd, addr_of(&w, 1));
	ring_free(ring);
	assert_int_equal(r[1].nr_done, 1);
	assert_int_equal(r[1].res, -ECANCELED);
	assert_int_equal(r[0].nr_done, 1);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_fires),
		TIMED(test_ready_before_the_watch),
		TIMED(test_keeps_firing),
		TIMED(test_many),
		TIMED(test_full_queues),
		TIMED(test_bad_descriptor),
		TIMED(test_hang_up),
		TIMED(test_timeout),
		TIMED(test_rung_by_a_thread),
		TIMED(test_signal_ends_the_wait),
		TIMED(test_userfaultfd),
		TIMED(test_populate),
		TIMED(test_populate_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
