/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The identity of a checkpoint: what changes it, and what must not. */
#include "images/identity.h"
#include "images/inventory.h"
#include "images/pagemap.h"
#include "images/pstree.h"
#include "images/writer.h"
#include "test/unit/images-dir.h"

#include "criu-lazy/base/page.h"

#include <sys/stat.h>

static uint8_t content[4 * PAGE_SIZE];

static void write_pages(int dir, uint32_t pid, uint32_t pages_id, uint64_t vaddr, uint32_t flags)
{
	struct pages_writer *w;

	assert_int_equal(pages_writer_open(dir, pid, pages_id, COUNT_NEW, &w, NULL), 0);
	assert_int_equal(pages_writer_add(w, vaddr, 4, flags, content, NULL), 0);
	assert_int_equal(pages_writer_close(w, NULL), 0);
}

/* Processes 5 and 7, and a zombie 6. */
static void write_images(int dir, const char *run_id)
{
	const struct pstree_task tasks[] = {
		{.pid = 5}, {.pid = 6, .ppid = 5}, {.pid = 7, .ppid = 5}};
	struct inventory inventory = {.img_version = 2};

	snprintf(inventory.run_id, sizeof(inventory.run_id), "%s", run_id);
	assert_int_equal(writer_inventory(dir, &inventory, NULL), 0);
	assert_int_equal(writer_pstree(dir, tasks, 3, NULL), 0);
	write_pages(dir, 5, 1, 0x10000, PE_PRESENT | PE_LAZY);
	write_pages(dir, 7, 2, 0x10000, PE_PRESENT | PE_LAZY);
}

static uint64_t identity(int dir)
{
	struct err err = {0};
	uint64_t id = 0;

	if (images_identity(dir, &id, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(id != 0);
	return id;
}

/* Another directory with the same images, but without pages files, and with other files. */
static void same(void **state)
{
	struct dir *dir = *state;
	uint64_t first;
	int other;

	write_images(dir->fd, "a");
	first = identity(dir->fd);
	assert_true(identity(dir->fd) == first);

	assert_int_equal(mkdirat(dir->fd, "other", 0755), 0);
	other = openat(dir->fd, "other", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(other >= 0);
	write_images(other, "a");
	assert_int_equal(unlinkat(other, "pages-1.img", 0), 0);
	assert_int_equal(unlinkat(other, "pages-2.img", 0), 0);
	put_file(other, "core-5.img", "x", 1);
	put_file(other, "stats-dump", "x", 1);
	put_file(other, "pagemap-9.img", "x", 1); /* of nobody in the tree */
	assert_true(identity(other) == first);
	close(other);
}

static void different(void **state)
{
	struct dir *dir = *state;
	const struct pstree_task fewer[] = {{.pid = 5}, {.pid = 7, .ppid = 5}};
	const struct pstree_task other[] = {
		{.pid = 5}, {.pid = 6, .ppid = 5}, {.pid = 8, .ppid = 5}};
	uint64_t seen[16];
	size_t nr = 0, i, j;

	write_images(dir->fd, "a");
	seen[nr++] = identity(dir->fd);
	write_images(dir->fd, "b"); /* dumped another time */
	seen[nr++] = identity(dir->fd);
	write_images(dir->fd, "a");
	write_pages(dir->fd, 5, 1, 0x11000, PE_PRESENT | PE_LAZY);
	seen[nr++] = identity(dir->fd);
	write_images(dir->fd, "a");
	write_pages(dir->fd, 7, 2, 0x10000, PE_PRESENT);
	seen[nr++] = identity(dir->fd);
	write_images(dir->fd, "a");
	assert_int_equal(renameat(dir->fd, "pagemap-5.img", dir->fd, "t"), 0);
	assert_int_equal(renameat(dir->fd, "pagemap-7.img", dir->fd, "pagemap-5.img"), 0);
	assert_int_equal(renameat(dir->fd, "t", dir->fd, "pagemap-7.img"), 0);
	seen[nr++] = identity(dir->fd);
	write_images(dir->fd, "a");
	assert_int_equal(unlinkat(dir->fd, "pagemap-7.img", 0), 0);
	seen[nr++] = identity(dir->fd);
	write_images(dir->fd, "a");
	write_pages(dir->fd, 6, 3, 0x10000, PE_PRESENT); /* the zombie is none */
	seen[nr++] = identity(dir->fd);
	assert_int_equal(unlinkat(dir->fd, "pagemap-6.img", 0), 0);
	assert_int_equal(writer_pstree(dir->fd, fewer, 2, NULL), 0);
	seen[nr++] = identity(dir->fd);
	write_images(dir->fd, "a");
	assert_int_equal(writer_pstree(dir->fd, other, 3, NULL), 0);
	write_pages(dir->fd, 8, 2, 0x10000, PE_PRESENT | PE_LAZY);
	seen[nr++] = identity(dir->fd);
	assert_true(nr <= sizeof(seen) / sizeof(*seen));
	for (i = 0; i < nr; i++)
		for (j = 0; j < i; j++)
			assert_true(seen[i] != seen[j]);
}

static void refused(int dirfd, int code, const char *said)
{
	struct err err = {0};
	uint64_t id = 4711;

	assert_failed(images_identity(dirfd, &id, &err), code, &err, said);
	assert_int_equal(images_identity(dirfd, &id, NULL), -code);
	assert_int_equal(id, 4711);
}

static void broken(void **state)
{
	struct dir *dir = *state;

	refused(dir->fd, ENOENT, "pstree.img");
	write_images(dir->fd, "a");
	assert_int_equal(unlinkat(dir->fd, "inventory.img", 0), 0);
	refused(dir->fd, ENOENT, "inventory.img");
	write_images(dir->fd, "a");
	put_file(dir->fd, "pagemap-7.img", "no image", 8);
	refused(dir->fd, EPROTO, "pagemap-7.img");
	assert_int_equal(unlinkat(dir->fd, "pagemap-7.img", 0), 0);
	assert_int_equal(mkfifoat(dir->fd, "pagemap-7.img", 0600), 0);
	refused(dir->fd, EINVAL, "pagemap-7.img: not a regular file");
	assert_int_equal(unlinkat(dir->fd, "pagemap-7.img", 0), 0);
	assert_int_equal(symlinkat("pagemap-7.img", dir->fd, "pagemap-7.img"), 0);
	refused(dir->fd, ELOOP, "pagemap-7.img");
}

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(same), TEST(different), TEST(broken)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
