/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image directory in which several files are damaged, read as a whole: they are sound one by one
 * more often than they fit each other.
 *
 * There is a good directory of three processes (the pages of the third are in a parent image) and
 * a zombie.  The input: a byte of flags (1 content is remote, 2 newer images are trusted), then
 * files that take the place of good ones: a byte (which of names[]; with bit 7 it is not there at
 * all), two bytes of length, and its bytes.
 *
 * What must hold: it is refused with a reason of one line; or the plan is whole: what each process
 * misses adds up, each process can be claimed once, and each page that is missing can be fetched.
 */
#include "criu-lazy/engine/plan.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/source/source.h"
#include "criu-lazy/track/tracker.h"
#include "test/fuzz/image-tree.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define TREE_AT UINT64_C(0x7f0000000000)

enum {
	REMOTE = 1,
	TRUST = 2,
	ABSENT = 128,
	PAGES_EACH = 6,
	IN_PARENT = 3, /* the process, */
	PARENT_PAGES = 4, /* whose first pages are there */
	RUNS_MAX = 64, /* are looked at */
	GOOD_MAX = 1 << 16,
};

static const char *const names[] = {"inventory.img", "pstree.img", "mm-1.img", "pagemap-1.img",
                                    "mm-2.img", "pagemap-2.img", "mm-3.img", "pagemap-3.img",
                                    "up/pagemap-3.img", "mm-4.img", "pagemap-4.img",
                                    /* their sizes are looked at, not what is within */
                                    "pages-1.img", "up/pages-3.img"};

enum { NR_NAMES = sizeof(names) / sizeof(names[0]) };

static struct {
	uint8_t *bytes; /* NULL: there is none */
	size_t size;
} good[NR_NAMES];

static int tree = -1;

/* --- once: what is good ----------------------------------------------------------------------- */

static void remove_up(void)
{
	for (size_t i = 0; i < NR_NAMES; i++)
		if (!strncmp(names[i], "up/", 3))
			unlinkat(tree, names[i], 0);
	unlinkat(tree, "parent", 0);
	unlinkat(tree, "up", AT_REMOVEDIR);
}

/* Of its pages the first are in the parent image. */
static void write_incremental(const void *bytes)
{
	struct pages_writer *w;
	int up;

	MUST(mkdirat(tree, "up", 0700) == 0 && symlinkat("up", tree, "parent") == 0);
	up = openat(tree, "up", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MUST(up >= 0);
	MUST(pages_writer_open(up, IN_PARENT, IN_PARENT, COUNT_NEW, &w, NULL) == 0);
	MUST(pages_writer_add(w, TREE_AT, PARENT_PAGES, PE_PRESENT, bytes, NULL) == 0);
	MUST(pages_writer_close(w, NULL) == 0);
	close(up);
	MUST(pages_writer_open(tree, IN_PARENT, IN_PARENT, COUNT_NEW, &w, NULL) == 0);
	MUST(pages_writer_add(w, TREE_AT, PARENT_PAGES, PE_PARENT | PE_LAZY, NULL, NULL) == 0);
	MUST(pages_writer_add(w, TREE_AT + PARENT_PAGES * PAGE_SIZE, PAGES_EACH - PARENT_PAGES,
	                      PE_PRESENT | PE_LAZY, bytes, NULL) == 0);
	MUST(pages_writer_close(w, NULL) == 0);
}

static void note_good(size_t i)
{
	int fd = openat(tree, names[i], O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return;
	good[i].bytes = malloc(GOOD_MAX);
	MUST(good[i].bytes);
	got = read(fd, good[i].bytes, GOOD_MAX);
	MUST(got >= 0 && got < GOOD_MAX);
	good[i].size = (size_t)got;
	close(fd);
}

static void prepare(void)
{
	static uint8_t bytes[PAGES_EACH * PAGE_SIZE];

	log_open(getenv("FUZZ_VERBOSE") ? NULL : "/dev/null", LOG_DEBUG, NULL);
	tree = tree_begin();
	atexit(remove_up); /* before the rest goes */
	for (uint32_t pid = 1; pid <= TREE_IMAGES; pid++)
		tree_write_memory(tree, pid, TREE_AT, PAGES_EACH, bytes);
	write_incremental(bytes);
	for (size_t i = 0; i < NR_NAMES; i++)
		note_good(i);
}

/* --- the directory of this input -------------------------------------------------------------- */

/* Pages files are as long as they are, and hold nothing: pages_open() would wait for their clock.
 */
static void put(size_t i, const uint8_t *bytes, size_t size)
{
	if (!bytes)
		unlinkat(tree, names[i], 0);
	else
		fuzz_file(names[i], bytes, size);
}

/* Returns a bit for each file that is not the good one. */
static unsigned damage(const uint8_t *data, size_t size)
{
	unsigned damaged = 0;

	while (size >= 3) {
		size_t which = (data[0] & 127) % NR_NAMES, len = data[1] | (size_t)data[2] << 8;
		bool absent = data[0] & ABSENT;

		data += 3;
		size -= 3;
		if (len > size)
			len = size;
		put(which, absent ? NULL : data, len);
		damaged |= 1U << which;
		data += len;
		size -= len;
	}
	return damaged;
}

static void mend(unsigned damaged)
{
	for (size_t i = 0; i < NR_NAMES; i++)
		if (damaged & 1U << i)
			put(i, good[i].bytes, good[i].size);
}

/* --- the plan --------------------------------------------------------------------------------- */

/* Local images answer at once. */
static void done(struct source_request *request, const struct source_bytes *bytes,
                 const struct err *err)
{
	(void)request;
	(void)bytes;
	(void)err;
	abort();
}

static void must_be_fetched(struct source *s, const struct tracker_run *run)
{
	struct source_request request = {.img = run->img, .nr_pages = run->nr_pages, .done = done};
	struct source_bytes bytes = {0};
	struct err err = {0};

	MUST(source_fetch(s, &request, &bytes, &err) == SOURCE_HERE);
	MUST(bytes.bytes && bytes.nr_pages >= 1 && bytes.nr_pages <= run->nr_pages);
	(void)((const volatile uint8_t *)bytes.bytes)[bytes.nr_pages * PAGE_SIZE - 1];
}

static void look_at_process(const struct plan_process *p, bool remote)
{
	uint64_t from = 0, nr = 0, last = 0;
	struct tracker_run run;

	MUST(p->pid > 0 && !p->claimed);
	MUST(p->has_memory == (p->tracker != NULL));
	MUST((p->has_memory && !remote) == (p->source != NULL));
	if (!p->has_memory) {
		MUST(!p->nr_lazy && !p->in_parent);
		return;
	}
	MUST(p->nr_lazy == tracker_nr_missing(p->tracker));
	for (int i = 0; i < RUNS_MAX; i++) {
		if (!tracker_next(p->tracker, from, UINT64_MAX >> PAGE_SHIFT, &run)) {
			MUST(nr == p->nr_lazy);
			return;
		}
		MUST(run.nr_pages && run.start >= last && run.img == run.start);
		if (p->source)
			must_be_fetched(p->source, &run);
		nr += run.nr_pages;
		last = from = run.start + (run.nr_pages << PAGE_SHIFT);
	}
}

static void look_at_plan(struct plan *plan, bool remote)
{
	uint64_t nr_lazy = 0;

	MUST(plan->nr > 0);
	for (size_t i = 0; i < plan->nr; i++) {
		look_at_process(&plan->processes[i], remote);
		nr_lazy += plan->processes[i].nr_lazy;
	}
	MUST(plan->nr_lazy == nr_lazy);
	for (size_t i = 0; i < plan->nr && i < RUNS_MAX; i++) {
		uint32_t pid = plan->processes[i].pid;

		MUST(plan_claim(plan, pid) == &plan->processes[i]);
		MUST(!plan_claim(plan, pid));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct plan_options options = {0};
	struct plan plan = {0};
	struct err err = {0};
	unsigned damaged;
	int before;

	if (!size)
		return 0;
	if (tree < 0)
		prepare();
	before = lowest_free(tree);
	options.remote = data[0] & REMOTE;
	options.trust_newer = data[0] & TRUST;
	damaged = damage(data + 1, size - 1);
	if (plan_read(tree, &options, &plan, &err) < 0) {
		must_be_line(&err);
		MUST(damaged && !plan.processes);
	} else {
		look_at_plan(&plan, options.remote);
		plan_release(&plan);
	}
	mend(damaged);
	MUST(lowest_free(tree) == before);
	return 0;
}
