/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where pages come from: the image source on images written for the purpose, the filters by
 * themselves and stacked, and the counting of owners.
 */
#include "criu-lazy/base/page.h"
#include "criu-lazy/source/source.h"
#include "images/pagemap.h"
#include "images/pages.h"
#include "images/writer.h"
#include "test/unit/images-dir.h"
#include "test/unit/patience.h"

#include <ctype.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

enum { PID = 7 };

static const uint64_t base = UINT64_C(0x7f0000000000);

/*
 * The image: pages 0-7 in one run, 8-9 not there, 10-11 said to be elsewhere, 12-15 present again.
 * Page n is full of the byte n + 1.
 */
static int write_image(const struct dir *dir)
{
	static uint8_t bytes[16 * PAGE_SIZE];
	struct pages_writer *w = NULL;
	int r;

	for (size_t i = 0; i < 16; i++)
		memset(bytes + i * PAGE_SIZE, (int)i + 1, PAGE_SIZE);
	r = pages_writer_open(dir->fd, PID, 1, COUNT_BOTH, &w, NULL);
	if (r == 0)
		r = pages_writer_add(w, base, 8, PE_PRESENT | PE_LAZY, bytes, NULL);
	if (r == 0)
		r = pages_writer_add(w, base + 10 * PAGE_SIZE, 2, PE_LAZY, NULL, NULL);
	if (r == 0)
		r = pages_writer_add(w, base + 12 * PAGE_SIZE, 4, PE_PRESENT | PE_LAZY,
		                     bytes + 12 * PAGE_SIZE, NULL);
	if (pages_writer_close(w, NULL) < 0)
		return -1;
	return r;
}

static int setup(void **state)
{
	alarm(PATIENCE);
	return dir_setup(state) < 0 ? -1 : write_image(*state);
}

#define IN_DIR(name) cmocka_unit_test_setup_teardown(name, setup, dir_teardown)

/* The image with these filters before it, the last one outermost; up to NULL. */
static struct source *stack(const struct dir *dir, ...)
{
	struct pages *pages;
	struct source *s;
	struct err err = {0};
	const char *filter;
	va_list ap;

	assert_int_equal(pages_open(dir->fd, PID, &pages, &err), 0);
	s = source_image(pages);
	assert_non_null(s);
	va_start(ap, dir);
	while ((filter = va_arg(ap, const char *))) {
		s = source_filter(filter, s, &err);
		assert_non_null(s);
	}
	va_end(ap);
	return s;
}

/* A request and what became of it. */
struct asked {
	struct source_request request;
	unsigned nr_done;
	uint64_t nr_pages; /* of the answer; 0: lost */
	uint8_t first; /* its first byte */
	char text[ERR_TEXT_SIZE];
	unsigned *clock; /* counts answers */
	unsigned when;
};

static void check_bytes(struct asked *a, const struct source_bytes *bytes)
{
	const uint8_t *b = bytes->bytes;
	uint64_t page = (a->request.img - base) >> PAGE_SHIFT;

	a->nr_pages = bytes->nr_pages;
	a->first = *b;
	for (uint64_t i = 0; i < bytes->nr_pages; i++) {
		assert_int_equal(b[i * PAGE_SIZE], page + i + 1);
		assert_int_equal(b[i * PAGE_SIZE + PAGE_SIZE - 1], page + i + 1);
	}
}

static void on_done(struct source_request *request, const struct source_bytes *bytes,
                    const struct err *err)
{
	struct asked *a = request->owner;

	assert_int_equal(a->nr_done++, 0);
	if (a->clock)
		a->when = ++*a->clock;
	if (bytes->bytes)
		check_bytes(a, bytes);
	else
		strcpy(a->text, err->text);
}

static void on_done_null(struct source_request *request, const struct source_bytes *bytes,
                         const struct err *err)
{
	static const struct source_bytes none;

	on_done(request, bytes ? bytes : &none, err);
}

static enum source_answer ask(struct source *s, struct asked *a, uint64_t page, uint64_t nr)
{
	struct source_bytes bytes = {0};
	struct err err = {0};
	enum source_answer answer;
	unsigned *clock = a->clock;

	*a = (struct asked){.request = {.img = base + page * PAGE_SIZE,
	                                .nr_pages = nr,
	                                .done = on_done_null,
	                                .owner = a},
	                    .clock = clock};
	answer = source_fetch(s, &a->request, &bytes, &err);
	assert_int_equal(a->nr_done, 0); /* never from within */
	if (answer == SOURCE_HERE)
		check_bytes(a, &bytes);
	if (answer == SOURCE_LOST)
		strcpy(a->text, err.text);
	assert_int_equal(!*a->text, answer != SOURCE_LOST);
	return answer;
}

/* --- the image ------------------------------------------------------------------------------- */

static void test_image(void **state)
{
	struct source *s = stack(*state, NULL);
	struct asked a = {0};

	assert_int_equal(ask(s, &a, 0, 8), SOURCE_HERE);
	assert_int_equal(a.nr_pages, 8);
	assert_int_equal(ask(s, &a, 3, 2), SOURCE_HERE);
	assert_int_equal(a.nr_pages, 2);
	assert_int_equal(a.first, 4);
	assert_int_equal(ask(s, &a, 6, 10), SOURCE_HERE); /* as far as there is something */
	assert_int_equal(a.nr_pages, 2);
	assert_int_equal(ask(s, &a, 15, 1), SOURCE_HERE);
	assert_true(source_deadline(s) == CLOCK_NEVER);
	source_run(s, clock_now());
	source_close(s);
}

static void test_image_has_no_content(void **state)
{
	struct source *s = stack(*state, NULL);
	struct asked a = {0};

	assert_int_equal(ask(s, &a, 8, 1), SOURCE_LOST);
	assert_string_equal(a.text, "the image has no content for page 0x7f0000008000");
	assert_int_equal(ask(s, &a, 11, 5), SOURCE_LOST);
	assert_string_equal(a.text, "the image has no content for page 0x7f000000b000");
	source_close(s);
}

/* Reading ahead over everything, holes and the end of memory included, harms nobody. */
static void test_image_expect(void **state)
{
	struct source *s = stack(*state, "short=1", "delay=1", NULL);
	struct asked a = {0};

	source_expect(s, base, 16);
	source_expect(s, base + 8 * PAGE_SIZE, 1);
	source_expect(s, 0, 1000);
	source_expect(s, USER_ADDRESS_END - PAGE_SIZE, 100);
	source_expect(s, base, 0);
	assert_int_equal(ask(s, &a, 0, 1), SOURCE_LATER);
	source_run(s, INT64_MAX - 1);
	assert_int_equal(a.nr_done, 1);
	source_close(s);
}

/* What is done to a pages file while it is in use, and what is then said of it. */
struct change {
	const char *said; /* NULL: it is as good as before */
	void (*make)(const struct dir *dir, int fd);
};

static void cut_all(const struct dir *dir, int fd)
{
	(void)dir;
	assert_int_equal(ftruncate(fd, 0), 0);
}

static void cut_within_a_page(const struct dir *dir, int fd)
{
	(void)dir;
	assert_int_equal(ftruncate(fd, 9 * PAGE_SIZE + 100), 0);
}

static void overwrite(const struct dir *dir, int fd)
{
	(void)dir;
	assert_int_equal(pwrite(fd, "x", 1, 11 * PAGE_SIZE), 1);
}

static void overwrite_by_the_same(const struct dir *dir, int fd)
{
	(void)dir;
	assert_int_equal(pwrite(fd, "\1", 1, 0), 1); /* nobody can tell by looking at the time */
}

static void append(const struct dir *dir, int fd)
{
	(void)dir;
	assert_int_equal(pwrite(fd, "x", 1, 12 * PAGE_SIZE), 1);
}

static void write_mapped(const struct dir *dir, int fd)
{
	char *p = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	(void)dir;
	assert_true(p != MAP_FAILED);
	*p = 'x';
	munmap(p, PAGE_SIZE);
}

static void replace(const struct dir *dir, int fd)
{
	(void)fd;
	PUT(dir->fd, "new", 1, 2, 3);
	assert_int_equal(renameat(dir->fd, "new", dir->fd, "pages-1.img"), 0);
}

static void remove_it(const struct dir *dir, int fd)
{
	(void)fd;
	assert_int_equal(unlinkat(dir->fd, "pages-1.img", 0), 0);
}

static void change_mode(const struct dir *dir, int fd)
{
	(void)dir;
	assert_int_equal(fchmod(fd, 0400), 0);
}

static void read_it(const struct dir *dir, int fd)
{
	char byte;

	(void)dir;
	assert_int_equal(pread(fd, &byte, 1, 0), 1);
}

static void test_changed(void **state)
{
	static const struct change changes[] = {
		{"it was cut short", cut_all},
		{"it was cut short", cut_within_a_page},
		{"it was written to", overwrite},
		{"it was written to", overwrite_by_the_same},
		{"it has grown", append},
		{"it was written to", write_mapped},
		{NULL, replace},
		{NULL, remove_it},
		{NULL, change_mode},
		{NULL, read_it},
	};
	const struct dir *dir = *state;

	for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
		const struct change *c = &changes[i];
		struct source *s;
		struct asked a = {0};
		int fd;

		unlinkat(dir->fd, "pages-1.img", 0);
		write_image(dir); /* at once before it is opened: hardly older than the change */
		s = stack(dir, NULL);
		fd = openat(dir->fd, "pages-1.img", O_RDWR | O_CLOEXEC);
		assert_int_equal(ask(s, &a, 4, 1), SOURCE_HERE);
		c->make(dir, fd);
		for (uint64_t page = 0; page < 8; page++) {
			assert_int_equal(ask(s, &a, page, 1), c->said ? SOURCE_LOST : SOURCE_HERE);
			if (c->said) {
				assert_non_null(strstr(a.text, "pages-1.img was changed while it "
				                               "was in use (/tmp/"));
				assert_non_null(strstr(a.text, c->said));
			}
		}
		source_expect(s, base, 16); /* over what is not there any more: no SIGBUS */
		close(fd);
		source_close(s);
	}
}

/* Written, opened, written again, all within a tick of the clock, if the machine is quick. */
static void test_changed_at_once(void **state)
{
	const struct dir *dir = *state;
	int fd = openat(dir->fd, "pages-1.img", O_RDWR | O_CLOEXEC);

	for (unsigned i = 0; i < 30; i++) {
		struct asked a = {0};
		struct source *s;

		overwrite_by_the_same(dir, fd);
		s = stack(dir, NULL);
		overwrite_by_the_same(dir, fd);
		assert_int_equal(ask(s, &a, 0, 1), SOURCE_LOST);
		source_close(s);
	}
	close(fd);
}

/* A file system that counts seconds: what it says of a file that was written to just now. */
static void test_changed_within_a_second(void **state)
{
	const struct dir *dir = *state;
	int fd = openat(dir->fd, "pages-1.img", O_RDWR | O_CLOEXEC);
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
	struct timespec before, after;
	struct source *s;

	clock_gettime(CLOCK_REALTIME, &before);
	times[1].tv_sec = before.tv_sec;
	assert_int_equal(futimens(fd, times), 0);
	s = stack(dir, NULL);
	clock_gettime(CLOCK_REALTIME, &after);
	assert_true(after.tv_sec >= before.tv_sec + 2);
	source_close(s);
	close(fd);
}

/* Hundreds of years ago, or to come: nobody waits for that. */
static void test_strange_times(void **state)
{
	static const int64_t seconds[] = {0, 1, INT32_MAX, UINT32_MAX, INT64_C(0x37fffffff)};
	const struct dir *dir = *state;
	int fd = openat(dir->fd, "pages-1.img", O_RDWR | O_CLOEXEC);

	for (size_t i = 0; i < sizeof(seconds) / sizeof(*seconds); i++) {
		struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = seconds[i]}};
		struct asked a = {0};
		struct source *s;

		assert_int_equal(futimens(fd, times), 0);
		s = stack(dir, NULL);
		assert_int_equal(ask(s, &a, 0, 1), SOURCE_HERE);
		source_close(s);
	}
	close(fd);
}

/* --- descriptors that are somebody else's ---------------------------------------------------- */

static int pages_fd(const struct dir *dir)
{
	struct stat want, st;

	assert_int_equal(fstatat(dir->fd, "pages-1.img", &want, 0), 0);
	for (int fd = 3; fd < 100; fd++)
		if (fstat(fd, &st) == 0 && st.st_dev == want.st_dev && st.st_ino == want.st_ino)
			return fd;
	return -1;
}

static void test_lend(void **state)
{
	const struct dir *dir = *state;
	struct source *s = stack(dir, "short=4", "delay=1", NULL);
	struct asked a = {0};
	int fd = pages_fd(dir);

	assert_true(fd >= 0);
	source_close(s);
	assert_int_equal(pages_fd(dir), -1); /* its own it closes */
	s = stack(dir, "short=4", "delay=1", NULL);
	fd = pages_fd(dir);
	source_lend(s);
	source_lend(s); /* twice is once */
	assert_int_equal(ask(s, &a, 0, 8), SOURCE_LATER); /* and it works as before */
	source_run(s, a.request.due);
	assert_int_equal(a.nr_pages, 4);
	source_close(s);
	assert_int_equal(pages_fd(dir), fd);
	close(fd);
	source_lend(NULL);
}

/* --- filters --------------------------------------------------------------------------------- */

static void test_short(void **state)
{
	struct source *s = stack(*state, "short=3", NULL);
	struct asked a = {0};

	assert_int_equal(ask(s, &a, 0, 8), SOURCE_HERE);
	assert_int_equal(a.nr_pages, 3);
	assert_int_equal(ask(s, &a, 0, 2), SOURCE_HERE);
	assert_int_equal(a.nr_pages, 2);
	source_close(s);
}

/* [2, 4) is lost; what lies before it is not, nor what lies behind. */
static void test_lose(void **state)
{
	struct source *s = stack(*state, "lose=7f0000002000-7f0000004000", NULL);
	struct asked a = {0};

	assert_int_equal(ask(s, &a, 0, 8), SOURCE_HERE);
	assert_int_equal(a.nr_pages, 2);
	assert_int_equal(ask(s, &a, 2, 1), SOURCE_LOST);
	assert_string_equal(a.text, "page 0x7f0000002000 is lost by --filter: Input/output error");
	assert_int_equal(ask(s, &a, 3, 5), SOURCE_LOST);
	assert_int_equal(ask(s, &a, 4, 4), SOURCE_HERE);
	assert_int_equal(a.nr_pages, 4);
	source_close(s);
}

static void test_delay(void **state)
{
	struct source *s = stack(*state, "delay=30000", NULL);
	struct asked a = {0}, b = {0};
	int64_t start = clock_now();
	unsigned clock = 0;

	a.clock = b.clock = &clock;
	assert_true(source_deadline(s) == CLOCK_NEVER);
	assert_int_equal(ask(s, &a, 0, 8), SOURCE_LATER);
	assert_true(source_deadline(s) >= start + 30 * NSEC_PER_MSEC);
	assert_true(source_deadline(s) <= clock_now() + 30 * NSEC_PER_MSEC);
	sleep_ms(2);
	assert_int_equal(ask(s, &b, 8, 1), SOURCE_LATER);
	source_run(s, a.request.due - 1);
	assert_int_equal(a.nr_done, 0);
	source_hurry(s, &a.request);
	assert_true(a.request.urgent);
	source_run(s, a.request.due);
	assert_int_equal(a.nr_done, 1);
	assert_int_equal(a.nr_pages, 8);
	assert_int_equal(b.nr_done, 0);
	assert_true(source_deadline(s) == b.request.due);
	source_run(s, b.request.due);
	assert_int_equal(b.nr_done, 1); /* lost, and told why */
	assert_string_equal(b.text, "the image has no content for page 0x7f0000008000");
	assert_true(source_deadline(s) == CLOCK_NEVER);
	assert_int_equal(a.when, 1);
	source_close(s);
}

/* First come, first served, and whoever was cancelled is not: first, middle, last, all. */
static void test_cancel(void **state)
{
	enum { NR = 5 };

	for (unsigned cancelled = 0; cancelled < 1 << NR; cancelled++) {
		struct source *s = stack(*state, "delay=10", NULL);
		struct asked a[NR];
		unsigned clock = 0, want = 0;

		memset(a, 0, sizeof(a));
		for (size_t i = 0; i < NR; i++) {
			a[i].clock = &clock;
			assert_int_equal(ask(s, &a[i], i, 1), SOURCE_LATER);
		}
		for (size_t i = 0; i < NR; i++)
			if (cancelled >> i & 1)
				source_cancel(s, &a[i].request);
		/* The list is whole: one more goes to its end. */
		struct asked last = {.clock = &clock};

		assert_int_equal(ask(s, &last, 7, 1), SOURCE_LATER);
		source_run(s, last.request.due);
		for (size_t i = 0; i < NR; i++) {
			if (cancelled >> i & 1) {
				assert_int_equal(a[i].nr_done, 0);
				continue;
			}
			assert_int_equal(a[i].nr_done, 1);
			assert_int_equal(a[i].when, ++want);
		}
		assert_int_equal(last.when, want + 1);
		source_close(s);
	}
}

/* An answer that asks again, as the engine does for the rest. */
struct chain {
	struct source_request request;
	struct source *source;
	uint64_t got;
};

static void on_link(struct source_request *request, const struct source_bytes *bytes,
                    const struct err *err)
{
	struct chain *c = request->owner;
	struct source_bytes none;

	assert_null(err);
	c->got += bytes->nr_pages;
	if (c->got == 8)
		return;
	request->img = base + c->got * PAGE_SIZE;
	request->nr_pages = 8 - c->got;
	assert_int_equal(source_fetch(c->source, request, &none, NULL), SOURCE_LATER);
}

static void test_ask_again_from_done(void **state)
{
	struct source *s = stack(*state, "short=3", "delay=100", NULL);
	struct chain c = {.request = {.img = base, .nr_pages = 8, .done = on_link}, .source = s};
	struct source_bytes none;
	int rounds = 0;

	c.request.owner = &c;
	assert_int_equal(source_fetch(s, &c.request, &none, NULL), SOURCE_LATER);
	while (source_deadline(s) != CLOCK_NEVER) {
		source_run(s, source_deadline(s));
		rounds++;
	}
	assert_int_equal(c.got, 8);
	assert_int_equal(rounds, 3);
	source_close(s);
}

static void test_stacked(void **state)
{
	struct source *s =
		stack(*state, "lose=7f0000005000-7f0000006000", "short=4", "delay=1000", NULL);
	struct asked a = {0}, b = {0};

	assert_int_equal(ask(s, &a, 0, 8), SOURCE_LATER);
	assert_int_equal(ask(s, &b, 5, 1), SOURCE_LATER);
	source_run(s, b.request.due);
	assert_int_equal(a.nr_pages, 4);
	assert_string_equal(b.text, "page 0x7f0000005000 is lost by --filter: Input/output error");
	source_close(s);

	/* A cancellation finds its way through those who hold nothing. */
	s = stack(*state, "delay=1000", "short=4", "lose=0-1000", NULL);
	assert_int_equal(ask(s, &a, 0, 8), SOURCE_LATER);
	assert_int_equal(ask(s, &b, 1, 1), SOURCE_LATER);
	source_cancel(s, &a.request);
	source_run(s, b.request.due);
	assert_int_equal(a.nr_done, 0);
	assert_int_equal(b.nr_done, 1);
	source_close(s);
}

/* Two delays: the sum, and a request can be cancelled while it waits in the one or the other. */
static void test_two_delays(void **state)
{
	struct source *s = stack(*state, "delay=2000", "delay=1000", NULL);
	struct asked a = {0}, b = {0};
	int64_t start = clock_now();

	assert_int_equal(ask(s, &a, 0, 8), SOURCE_LATER);
	assert_int_equal(ask(s, &b, 4, 1), SOURCE_LATER);
	while (source_deadline(s) != CLOCK_NEVER) {
		int64_t now = clock_now();

		if (now < source_deadline(s))
			usleep(100);
		source_run(s, now);
	}
	assert_true(clock_now() - start >= 3 * NSEC_PER_MSEC);
	assert_int_equal(a.nr_done, 1);
	assert_int_equal(b.nr_done, 1);

	assert_int_equal(ask(s, &a, 0, 8), SOURCE_LATER);
	source_run(s, a.request.due); /* now the second one has it */
	assert_int_equal(a.nr_done, 0);
	source_cancel(s, &a.request);
	assert_true(source_deadline(s) == CLOCK_NEVER);
	assert_int_equal(ask(s, &b, 0, 8), SOURCE_LATER);
	source_cancel(s, &b.request);
	assert_true(source_deadline(s) == CLOCK_NEVER);
	source_close(s);
}

static void test_bad_filters(void **state)
{
	static const char *const bad[] = {
		"",
		"delay",
		"delay=",
		"delay=x",
		"delay=1x",
		"delay=-1",
		"short=0",
		"short=",
		"short=1x",
		"short=-1",
		"short=\t1",
		"delay=\n-1",
		"lose=1000",
		"lose=1000-",
		"lose=2000-1000",
		"lose=",
		"lose=1000-1000",
		"nothing=1",
		"lose=0-1000 x",
		"delay= 5 ms",
		"lose=-1",
		"crash=\r1000",
		"delay=18446744073709551615",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct source *image = stack(*state, NULL);
		struct err err = {0};
		char said[64];

		snprintf(said, sizeof(said), "filter \"%s\": ", bad[i]);
		for (char *c = said; *c; c++)
			*c = iscntrl((unsigned char)*c) ? '?' : *c;
		if (source_filter(bad[i], image, &err))
			print_error("accepted: %s\n", bad[i]);
		assert_failed(-err.code, EINVAL, &err,
		              said); /* image was closed, says the leak check */
	}
}

/* --- owners ---------------------------------------------------------------------------------- */

struct counted {
	struct source source;
	unsigned *nr_closed;
};

static enum source_answer counted_fetch(struct source *s, struct source_request *request,
                                        struct source_bytes *ret, struct err *err)
{
	(void)s, (void)request, (void)ret;
	err_set(err, EIO, "nothing here");
	return SOURCE_LOST;
}

static void counted_close(struct source *s)
{
	++*((struct counted *)s)->nr_closed;
	free(s);
}

static const struct source_ops counted_ops = {
	.name = "counted",
	.fetch = counted_fetch,
	.close = counted_close,
};

static void test_owners(void **state)
{
	struct counted *c = calloc(1, sizeof(*c));
	unsigned nr_closed = 0;
	struct source *s, *same;

	(void)state;
	assert_non_null(c);
	*c = (struct counted){.source = {.ops = &counted_ops, .nr_owners = 1},
	                      .nr_closed = &nr_closed};
	s = source_filter("short=1", &c->source, NULL);
	assert_non_null(s);
	same = source_share(s);
	assert_ptr_equal(same, s);
	source_share(s);
	source_close(s);
	source_close(same);
	assert_int_equal(nr_closed, 0);
	/* Still of use to the last one. */
	struct asked a = {0};

	assert_int_equal(ask(s, &a, 0, 1), SOURCE_LOST);
	assert_string_equal(a.text, "nothing here: Input/output error");
	source_close(s);
	assert_int_equal(nr_closed, 1);
	source_close(NULL);
}

/* What a wrapper was given is closed also when the wrapper cannot be made. */
static void test_owner_after_failure(void **state)
{
	struct counted *c = calloc(1, sizeof(*c));
	unsigned nr_closed = 0;

	(void)state;
	assert_non_null(c);
	*c = (struct counted){.source = {.ops = &counted_ops, .nr_owners = 1},
	                      .nr_closed = &nr_closed};
	assert_null(source_filter("wrong", &c->source, NULL));
	assert_int_equal(nr_closed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(test_image),
		IN_DIR(test_image_has_no_content),
		IN_DIR(test_image_expect),
		IN_DIR(test_changed),
		IN_DIR(test_changed_at_once),
		IN_DIR(test_changed_within_a_second),
		IN_DIR(test_strange_times),
		IN_DIR(test_lend),
		IN_DIR(test_short),
		IN_DIR(test_lose),
		IN_DIR(test_delay),
		IN_DIR(test_cancel),
		IN_DIR(test_ask_again_from_done),
		IN_DIR(test_stacked),
		IN_DIR(test_two_delays),
		IN_DIR(test_bad_filters),
		IN_DIR(test_owners),
		IN_DIR(test_owner_after_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
