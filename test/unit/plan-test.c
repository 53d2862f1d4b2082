/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The plan: what is accepted of an image directory, and each reason to refuse one before any
 * process depends on it.
 */
#include "criu-lazy/base/page.h"
#include "criu-lazy/engine/plan.h"
#include "criu-lazy/source/source.h"
#include "criu-lazy/track/tracker.h"
#include "images/inventory.h"
#include "images/mm.h"
#include "images/pagemap.h"
#include "images/pstree.h"
#include "images/writer.h"
#include "test/unit/images-dir.h"
#include "test/unit/patience.h"

#include <sys/mman.h>
#include <sys/stat.h>

enum { ALIVE = 5, OTHER = 6, ZOMBIE = 9 };

static const uint64_t base = UINT64_C(0x7f0000000000);

static const struct plan_options plain;

static uint64_t page(uint64_t n)
{
	return base + n * PAGE_SIZE;
}

/* Pages 0-15 lazy, 16-23 a file's, 32-39 lazy; 24-31 are not mapped. */
static void put_mm(int dirfd, uint32_t pid)
{
	struct vma vmas[] = {
		{.start = page(0),
	         .end = page(8),
	         .prot = PROT_READ | PROT_WRITE,
	         .flags = MAP_PRIVATE | MAP_ANONYMOUS,
	         .status = VMA_REGULAR | VMA_ANON_PRIVATE},
		{.start = page(8),
	         .end = page(16),
	         .prot = PROT_READ,
	         .flags = MAP_PRIVATE | MAP_ANONYMOUS,
	         .status = VMA_REGULAR | VMA_ANON_PRIVATE},
		{.start = page(16),
	         .end = page(24),
	         .prot = PROT_READ,
	         .flags = MAP_PRIVATE,
	         .status = VMA_REGULAR | VMA_FILE_PRIVATE},
		{.start = page(32),
	         .end = page(40),
	         .prot = PROT_READ | PROT_WRITE,
	         .flags = MAP_PRIVATE | MAP_ANONYMOUS,
	         .status = VMA_REGULAR | VMA_ANON_PRIVATE,
	         .madv = UINT64_C(1) << MADV_WIPEONFORK},
	};
	struct mm mm = {.vmas = vmas, .nr = sizeof(vmas) / sizeof(*vmas), .dumpable = -1};
	struct err err = {0};

	assert_int_equal(writer_mm(dirfd, pid, &mm, &err), 0);
}

/* Entries of {first page, pages, flags}, up to one without pages.  Page n is full of n + pid. */
struct entry {
	uint64_t at, nr;
	uint32_t flags;
};

static void put_pages(int dirfd, uint32_t pid, const struct entry *entries)
{
	static uint8_t bytes[64 * PAGE_SIZE];
	struct pages_writer *w;
	struct err err = {0};

	for (size_t i = 0; i < 64; i++)
		memset(bytes + i * PAGE_SIZE, (int)(i + pid), PAGE_SIZE);
	assert_int_equal(pages_writer_open(dirfd, pid, pid, COUNT_BOTH, &w, &err), 0);
	for (; entries->nr; entries++)
		assert_int_equal(pages_writer_add(w, page(entries->at), entries->nr, entries->flags,
		                                  bytes + entries->at * PAGE_SIZE, &err),
		                 0);
	assert_int_equal(pages_writer_close(w, &err), 0);
}

static void put_tree(int dirfd)
{
	uint32_t ids[] = {ALIVE, ZOMBIE, OTHER};
	struct pstree_task tasks[3];
	struct inventory inventory = {.img_version = 2, .ns_per_id = true};
	struct err err = {0};

	for (size_t i = 0; i < 3; i++)
		tasks[i] = (struct pstree_task){.pid = ids[i],
		                                .ppid = i ? ids[0] : 0,
		                                .pgid = ids[0],
		                                .sid = ids[0],
		                                .nr_threads = 1,
		                                .threads = &ids[i]};
	assert_int_equal(writer_pstree(dirfd, tasks, 3, &err), 0);
	assert_int_equal(writer_inventory(dirfd, &inventory, &err), 0);
}

static const struct entry good[] = {
	{0, 2, PE_PRESENT | PE_LAZY},
	{4, 8, PE_PRESENT | PE_LAZY}, /* over two mappings */
	{14, 1, PE_PRESENT},
	{16, 4, PE_PRESENT}, /* not lazy: the restorer's own affair */
	{39, 1, PE_PRESENT | PE_LAZY},
	{0},
};

/* A good directory: one process as above, a zombie, one process with a page. */
static int setup(void **state)
{
	static const struct entry little[] = {{1, 1, PE_PRESENT | PE_LAZY}, {0}};
	struct dir *dir;

	alarm(PATIENCE);
	if (dir_setup(state) < 0)
		return -1;
	dir = *state;
	put_tree(dir->fd);
	put_mm(dir->fd, ALIVE);
	put_pages(dir->fd, ALIVE, good);
	put_mm(dir->fd, OTHER);
	put_pages(dir->fd, OTHER, little);
	return 0;
}

#define IN_DIR(name) cmocka_unit_test_setup_teardown(name, setup, dir_teardown)

static void refuse(const struct dir *dir, int code, const char *said)
{
	struct plan plan = {.nr = 77};
	struct err err = {0};

	assert_failed(plan_read(dir->fd, &plain, &plan, &err), code, &err, said);
	assert_int_equal(plan.nr, 77);
}

static void refuse_pages(const struct dir *dir, const struct entry *entries, const char *said)
{
	put_pages(dir->fd, ALIVE, entries);
	refuse(dir, EPROTO, said);
}

/* --- good ------------------------------------------------------------------------------------ */

static void unused(struct source_request *request, const struct source_bytes *bytes,
                   const struct err *err)
{
	(void)request, (void)bytes, (void)err;
	fail();
}

/* The page at this address is missing, and its source has this content. */
static void check_page(struct plan_process *p, uint64_t n)
{
	struct source_request request = {.nr_pages = 1, .done = unused};
	struct source_bytes bytes;
	struct ticket *ticket;

	assert_int_equal(tracker_fault(p->tracker, page(n), &request.img, &ticket), TRACKER_FETCH);
	assert_int_equal(source_fetch(p->source, &request, &bytes, NULL), SOURCE_HERE);
	assert_int_equal(*(const uint8_t *)bytes.bytes, n + p->pid);
}

static void test_good(void **state)
{
	static const uint64_t present[] = {2, 3, 12, 14, 16, 24, 32, 38, 40};
	struct dir *dir = *state;
	struct plan plan;
	struct err err = {0};
	struct ticket *ticket;
	uint64_t img;

	assert_int_equal(plan_read(dir->fd, &plain, &plan, &err), 0);
	assert_int_equal(plan.nr, 3);
	assert_int_equal(plan.nr_lazy, 12);
	assert_int_equal(plan.processes[0].pid, ALIVE);
	assert_int_equal(plan.processes[0].nr_lazy, 11);
	assert_true(plan.processes[0].has_memory);
	assert_int_equal(tracker_nr_missing(plan.processes[0].tracker), 11);
	check_page(&plan.processes[0], 0);
	check_page(&plan.processes[0], 1);
	for (uint64_t n = 4; n < 12; n++)
		check_page(&plan.processes[0], n);
	check_page(&plan.processes[0], 39);
	for (size_t i = 0; i < sizeof(present) / sizeof(*present); i++)
		assert_int_equal(
			tracker_fault(plan.processes[0].tracker, page(present[i]), &img, &ticket),
			TRACKER_ZERO);
	assert_int_equal(plan.processes[1].pid, ZOMBIE);
	assert_false(plan.processes[1].has_memory);
	assert_null(plan.processes[1].tracker);
	assert_null(plan.processes[1].source);
	check_page(&plan.processes[2], 1);
	plan_release(&plan);
	assert_int_equal(plan.nr, 0);
	plan_release(&plan);
}

/* Content that is in the parent. */
static void test_parent(void **state)
{
	static const struct entry top[] = {
		{0, 1, PE_PRESENT | PE_LAZY}, {1, 2, PE_PARENT | PE_LAZY}, {0}};
	static const struct entry parent[] = {{1, 2, PE_PRESENT}, {0}};
	struct dir *dir = *state;
	struct plan plan;
	struct err err = {0};
	int below;

	assert_int_equal(mkdirat(dir->fd, "below", 0700), 0);
	assert_int_equal(symlinkat("below", dir->fd, "parent"), 0);
	below = openat(dir->fd, "below", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(below >= 0);
	put_pages(dir->fd, ALIVE, top);
	put_pages(below, ALIVE, parent);
	assert_int_equal(plan_read(dir->fd, &plain, &plan, &err), 0);
	assert_int_equal(plan.processes[0].nr_lazy, 3);
	for (uint64_t n = 0; n < 3; n++)
		check_page(&plan.processes[0], n);
	plan_release(&plan);
	/* Said to be there, and not there. */
	put_pages(below, ALIVE, parent + 1);
	refuse(dir, EPROTO, "0x7f0000001000");
	close(below);
}

static void test_filters(void **state)
{
	static const char *const filters[] = {"short=1", "lose=7f0000000000-7f0000001000"};
	static const char *const wrong[] = {"short=1", "quick=1"};
	const struct plan_options good_options = {.filters = filters, .nr_filters = 2};
	const struct plan_options bad_options = {.filters = wrong, .nr_filters = 2};
	struct source_request request = {.img = base, .nr_pages = 1, .done = unused};
	struct source_bytes bytes;
	struct dir *dir = *state;
	struct err err = {0};
	struct plan plan;

	assert_int_equal(plan_read(dir->fd, &good_options, &plan, &err), 0);
	assert_int_equal(source_fetch(plan.processes[0].source, &request, &bytes, &err),
	                 SOURCE_LOST);
	request.img = page(4);
	request.nr_pages = 8;
	assert_int_equal(source_fetch(plan.processes[0].source, &request, &bytes, &err),
	                 SOURCE_HERE);
	assert_int_equal(bytes.nr_pages, 1);
	plan_release(&plan);
	assert_failed(plan_read(dir->fd, &bad_options, &plan, &err), EINVAL, &err, "quick=1");
}

/* What was said of a mapping by madvise() before the dump: a child finds zeros there. */
static void test_wipe_on_fork(void **state)
{
	struct dir *dir = *state;
	struct tracker *child;
	struct plan plan;

	assert_int_equal(plan_read(dir->fd, &plain, &plan, NULL), 0);
	assert_int_equal(tracker_fork(plan.processes[0].tracker, &child), 0);
	assert_int_equal(tracker_nr_missing(plan.processes[0].tracker), 11);
	assert_int_equal(tracker_nr_missing(child), 10); /* without page 39 */
	tracker_free(child);
	plan_release(&plan);
}

/* Each process once; a zombie, too; nobody else. */
static void test_claim(void **state)
{
	struct dir *dir = *state;
	struct plan plan;

	assert_int_equal(plan_read(dir->fd, &plain, &plan, NULL), 0);
	assert_ptr_equal(plan_claim(&plan, OTHER), &plan.processes[2]);
	assert_null(plan_claim(&plan, OTHER));
	assert_null(plan_claim(&plan, 1));
	assert_null(plan_claim(&plan, 0));
	assert_ptr_equal(plan_claim(&plan, ZOMBIE), &plan.processes[1]);
	assert_null(plan_claim(&plan, ZOMBIE));
	assert_ptr_equal(plan_claim(&plan, ALIVE), &plan.processes[0]);
	plan_release(&plan);
}

/* --- refused --------------------------------------------------------------------------------- */

static void test_page_outside(void **state)
{
	static const struct entry hole[] = {{24, 1, PE_PRESENT | PE_LAZY}, {0}};
	static const struct entry behind[] = {{38, 3, PE_PRESENT | PE_LAZY}, {0}};

	refuse_pages(*state, hole,
	             "pagemap-5.img: lazy page 0x7f0000018000 lies in no mapping of the process");
	refuse_pages(*state, behind,
	             "pagemap-5.img: lazy page 0x7f0000028000 lies in no mapping of the process");
}

static void test_page_not_eligible(void **state)
{
	static const struct entry within[] = {{17, 2, PE_PRESENT | PE_LAZY}, {0}};
	static const struct entry reaches[] = {{12, 8, PE_PRESENT | PE_LAZY}, {0}};

	refuse_pages(*state, within,
	             "pagemap-5.img: lazy page 0x7f0000011000 lies in a mapping that is not "
	             "restored lazily");
	refuse_pages(*state, reaches,
	             "pagemap-5.img: lazy page 0x7f0000010000 lies in a mapping that is not "
	             "restored lazily");
}

static void test_page_without_content(void **state)
{
	static const struct entry elsewhere[] = {
		{0, 2, PE_PRESENT | PE_LAZY}, {2, 2, PE_LAZY}, {0}};
	static const struct entry orphan[] = {{0, 2, PE_PARENT | PE_LAZY}, {0}};

	refuse_pages(*state, elsewhere,
	             "pagemap-5.img: lazy page 0x7f0000002000 has no content here: the image was "
	             "made by dump --lazy-pages, its content stayed with the dumper");
	refuse_pages(*state, orphan, "0x7f0000000000");
}

/* A pages file that was cut, and one that is gone. */
static void test_pages_file(void **state)
{
	struct dir *dir = *state;
	int fd = openat(dir->fd, "pages-5.img", O_WRONLY | O_CLOEXEC);

	assert_int_equal(ftruncate(fd, PAGE_SIZE), 0);
	close(fd);
	refuse(dir, EPROTO, "pages-5.img");
	unlinkat(dir->fd, "pages-5.img", 0);
	refuse(dir, ENOENT, "pages-5.img");
}

/* One of the two files of a process is an accident; none of them is a zombie. */
static void test_half_a_process(void **state)
{
	struct dir *dir = *state;
	struct plan plan;

	unlinkat(dir->fd, "mm-6.img", 0);
	refuse(dir, ENOENT, "mm-6.img");
	unlinkat(dir->fd, "pagemap-6.img", 0);
	assert_int_equal(plan_read(dir->fd, &plain, &plan, NULL), 0);
	assert_false(plan.processes[2].has_memory);
	assert_int_equal(plan.nr_lazy, 11);
	plan_release(&plan);
	unlinkat(dir->fd, "pagemap-5.img", 0);
	refuse(dir, ENOENT, "pagemap-5.img");
}

/* A field that this version does not know: refused, unless told to go on. */
static void test_newer_inventory(void **state)
{
	const struct plan_options trusting = {.trust_newer = true};
	/* img_version 2, fdinfo_per_id, and field 1000 = 1 */
	static const uint8_t newer[] = {0x08, 0x02, 0x10, 0x01, 0xc0, 0x3e, 0x01};
	struct dir *dir = *state;
	struct image_writer *w;
	struct err err = {0};
	struct plan plan;

	assert_int_equal(writer_open(dir->fd, "inventory.img", IMAGE_INVENTORY, 2, &w, &err), 0);
	assert_int_equal(writer_record(w, newer, sizeof(newer), &err), 0);
	assert_int_equal(writer_close(w, &err), 0);
	refuse(dir, EPROTO, "inventory.img: field 1000 is of a newer CRIU");
	assert_int_equal(plan_read(dir->fd, &trusting, &plan, &err), 0);
	plan_release(&plan);
}

static void test_no_images(void **state)
{
	struct dir *dir = *state;

	unlinkat(dir->fd, "pstree.img", 0);
	refuse(dir, ENOENT, "pstree.img");
	put_file(dir->fd, "pstree.img", "nonsense", 8);
	refuse(dir, EPROTO, "pstree.img");
	unlinkat(dir->fd, "inventory.img", 0);
	refuse(dir, ENOENT, "inventory.img");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(test_good),
		IN_DIR(test_parent),
		IN_DIR(test_filters),
		IN_DIR(test_wipe_on_fork),
		IN_DIR(test_claim),
		IN_DIR(test_page_outside),
		IN_DIR(test_page_not_eligible),
		IN_DIR(test_page_without_content),
		IN_DIR(test_pages_file),
		IN_DIR(test_half_a_process),
		IN_DIR(test_newer_inventory),
		IN_DIR(test_no_images),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
