/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images that are not in the page cache: read by the kernel beside everything else, and answered
 * from ring_wait().  Nothing is told before that is called, so what is begun and what waits is known.
 * Places are FAR apart, so that no read brings what the next one is about to ask for.
 */
#include "criu-lazy/base/page.h"
#include "criu-lazy/os/ring.h"
#include "criu-lazy/source/source.h"
#include "images/pagemap.h"
#include "images/pages.h"
#include "images/writer.h"
#include "test/unit/images-dir.h"
#include "test/unit/patience.h"

#include <fcntl.h>
#include <sys/mman.h>

enum { PID = 7, FAR = 512, PLACES = 8, PAGES = PLACES * FAR };

static const uint64_t base = UINT64_C(0x7f0000000000);

struct world {
	struct ring *ring;
	struct source *source;
	int fd; /* of the pages file */
};

/* A request and what became of it. */
struct asked {
	struct source_request request;
	unsigned nr_done;
	uint64_t nr_pages;
};

static int content(uint64_t page)
{
	return (int)(page % 251 + 1);
}

/* Each page is full of one byte. */
static int write_image(const struct dir *dir)
{
	static uint8_t bytes[(size_t)PAGES * PAGE_SIZE];
	struct pages_writer *w = NULL;
	int r;

	for (size_t i = 0; i < PAGES; i++)
		memset(bytes + i * PAGE_SIZE, content(i), PAGE_SIZE);
	r = pages_writer_open(dir->fd, PID, 1, COUNT_BOTH, &w, NULL);
	if (r == 0)
		r = pages_writer_add(w, base, PAGES, PE_PRESENT | PE_LAZY, bytes, NULL);
	return pages_writer_close(w, NULL) < 0 ? -1 : r;
}

static int setup(void **state)
{
	alarm(PATIENCE);
	return dir_setup(state) < 0 ? -1 : write_image(*state);
}

#define IN_DIR(name) cmocka_unit_test_setup_teardown(name, setup, dir_teardown)

static bool is_cached(int fd, size_t page)
{
	unsigned char in_core;
	void *mem = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, fd, (off_t)(page * PAGE_SIZE));

	assert_true(mem != MAP_FAILED);
	assert_int_equal(mincore(mem, PAGE_SIZE, &in_core), 0);
	munmap(mem, PAGE_SIZE);
	return in_core & 1;
}

/* From page nr_warm (a multiple of FAR) on nothing is cached. */
static void open_world(const struct dir *dir, struct world *w, size_t nr_warm)
{
	struct pages *pages;
	struct err err = {0};
	size_t i;

	assert_int_equal(pages_open(dir->fd, PID, &pages, &err), 0);
	w->source = source_image(pages);
	assert_int_equal(ring_new(&w->ring, &err), 0);
	source_attach(w->source, w->ring);
	w->fd = openat(dir->fd, "pages-1.img", O_RDWR | O_CLOEXEC);
	assert_true(w->fd >= 0);
	assert_int_equal(fsync(w->fd), 0);
	posix_fadvise(w->fd, (off_t)(nr_warm * PAGE_SIZE), 0, POSIX_FADV_DONTNEED);
	for (i = 0; i < PAGES; i++)
		if (is_cached(w->fd, i) != (i < nr_warm))
			skip_because("this file system does not take page %zu %s the cache", i,
			             i < nr_warm ? "into" : "out of");
}

static void close_world(struct world *w)
{
	source_close(w->source);
	ring_free(w->ring);
	close(w->fd);
}

static void on_done(struct source_request *request, const struct source_bytes *bytes,
                    const struct err *err)
{
	struct asked *a = request->owner;
	uint64_t page = (request->img - base) >> PAGE_SHIFT;

	(void)err;
	assert_int_equal(a->nr_done++, 0);
	assert_non_null(bytes);
	a->nr_pages = bytes->nr_pages;
	for (uint64_t i = 0; i < bytes->nr_pages; i++)
		assert_int_equal(((const uint8_t *)bytes->bytes)[i * PAGE_SIZE], content(page + i));
}

static enum source_answer ask(struct world *w, struct asked *a, uint64_t page, uint64_t nr)
{
	struct source_bytes bytes = {0};
	struct err err = {0};
	enum source_answer answer;

	*a = (struct asked){.request = {.img = base + page * PAGE_SIZE,
	                                .nr_pages = nr,
	                                .done = on_done,
	                                .owner = a}};
	answer = source_fetch(w->source, &a->request, &bytes, &err);
	assert_int_equal(a->nr_done, 0);
	if (answer == SOURCE_HERE)
		a->nr_pages = bytes.nr_pages;
	return answer;
}

static void wait_for(struct world *w, const struct asked *a)
{
	struct err err = {0};

	while (!a->nr_done)
		assert_true(ring_wait(w->ring, INT64_MAX, &err) >= 0);
}

static void test_cold(void **state)
{
	struct world w;
	struct asked a;

	open_world(*state, &w, 0);
	assert_int_equal(ask(&w, &a, 3, 2), SOURCE_LATER);
	wait_for(&w, &a);
	assert_int_equal(a.nr_pages, 2);
	assert_true(is_cached(w.fd, 3) && is_cached(w.fd, 4));
	assert_int_equal(ask(&w, &a, 3, 2), SOURCE_HERE);
	close_world(&w);
}

/* What is cached is given at once, as far as it goes. */
static void test_half(void **state)
{
	struct world w;
	struct asked a;

	open_world(*state, &w, FAR);
	assert_int_equal(ask(&w, &a, FAR - 3, 10), SOURCE_HERE);
	assert_int_equal(a.nr_pages, 3);
	assert_int_equal(ask(&w, &a, FAR, 4), SOURCE_LATER);
	wait_for(&w, &a);
	close_world(&w);
}

/*
 * Four at a time: of 0-5, 4 and 5 wait.
 *
 *	0	cancelled while it is read
 *	4	a thread waits for it: it does not wait any more
 *	5	cancelled while it waits
 *	6	a thread waits for it from the first: read at once
 */
static void test_queue(void **state)
{
	enum { ASKED = 7 };
	struct asked a[ASKED];
	struct source_bytes bytes;
	struct err err = {0};
	struct world w;

	open_world(*state, &w, 0);
	for (uint64_t i = 0; i < ASKED - 1; i++)
		assert_int_equal(ask(&w, &a[i], FAR * i, 1), SOURCE_LATER);
	a[6] = (struct asked){.request = {.img = base + 7 * FAR * PAGE_SIZE,
	                                  .nr_pages = 1,
	                                  .urgent = true,
	                                  .done = on_done,
	                                  .owner = &a[6]}};
	assert_int_equal(source_fetch(w.source, &a[6].request, &bytes, &err), SOURCE_LATER);
	source_hurry(w.source, &a[4].request);
	source_cancel(w.source, &a[5].request);
	source_cancel(w.source, &a[0].request);
	for (int i = 1; i < ASKED; i++)
		if (i != 5)
			wait_for(&w, &a[i]);
	while (ring_wait(w.ring, 10 * NSEC_PER_MSEC, &err) > 0)
		;
	assert_int_equal(a[0].nr_done, 0);
	assert_int_equal(a[5].nr_done, 0);
	close_world(&w);
}

/* Who waits is begun when others are done. */
static void test_all_in_turn(void **state)
{
	struct asked a[PLACES];
	struct world w;

	open_world(*state, &w, 0);
	for (uint64_t i = 0; i < PLACES; i++)
		assert_int_equal(ask(&w, &a[i], FAR * i, 1), SOURCE_LATER);
	for (int i = 0; i < PLACES; i++)
		wait_for(&w, &a[i]);
	close_world(&w);
}

/* Closed while something is read: it is freed when that is over, or with the ring. */
static void test_closed_meanwhile(void **state)
{
	struct asked a;
	struct world w;

	open_world(*state, &w, 0);
	assert_int_equal(ask(&w, &a, 0, PAGES), SOURCE_LATER);
	source_cancel(w.source, &a.request);
	close_world(&w);
	assert_int_equal(a.nr_done, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(test_cold),
		IN_DIR(test_half),
		IN_DIR(test_queue),
		IN_DIR(test_all_in_turn),
		IN_DIR(test_closed_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
