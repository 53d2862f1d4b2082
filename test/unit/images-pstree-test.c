/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pstree.img: the tree as written, and every tree that cannot be. */
#include "images/image.h"
#include "images/pstree.h"
#include "images/writer.h"
#include "test/unit/images-dir.h"

static int write_and_read(struct dir *dir, struct pstree_task *tasks, size_t nr,
                          struct pstree *tree, struct err *err)
{
	assert_int_equal(writer_pstree(dir->fd, tasks, nr, err), 0);
	return pstree_read(dir->fd, tree, err);
}

static void written_and_read(void **state)
{
	struct dir *dir = *state;
	uint32_t threads[] = {9, 10, 11}, zombie[] = {0};
	struct pstree_task tasks[] = {
		{.pid = 9, .pgid = 9, .sid = 8, .nr_threads = 3, .threads = threads},
		{.pid = 4, .ppid = 9, .pgid = 9, .sid = 8, .nr_threads = 1, .threads = zombie},
		{.pid = 30, .ppid = 4, .pgid = 9, .sid = 8},
	};
	struct pstree tree = {0};
	struct err err = {0};

	assert_int_equal(write_and_read(dir, tasks, 3, &tree, &err), 0);
	assert_int_equal(tree.nr, 3);
	for (size_t i = 0; i < 3; i++) {
		const struct pstree_task *task = pstree_find(&tree, tasks[i].pid);

		assert_ptr_equal(task, &tree.tasks[i]);
		assert_int_equal(task->ppid, tasks[i].ppid);
		assert_int_equal(task->pgid, 9);
		assert_int_equal(task->sid, 8);
		assert_int_equal(task->nr_threads, tasks[i].nr_threads);
		for (uint32_t t = 0; t < task->nr_threads; t++)
			assert_int_equal(task->threads[t], tasks[i].threads[t]);
	}
	assert_null(pstree_find(&tree, 0));
	assert_null(pstree_find(&tree, 5));
	assert_null(pstree_find(&tree, 31));
	pstree_release(&tree);
	pstree_release(&tree);
	assert_null(pstree_find(&tree, 9));
}

static void packed_threads(void **state)
{
	struct dir *dir = *state;
	struct pstree tree = {0};
	struct err err = {0};

	PUT(dir->fd, "pstree.img", 0x19, 0x43, 0x56, 0x54, 0x30, 0x30, 0x27, 0x50, 12, 0, 0, 0, 8,
	    5, 16, 0, 24, 5, 32, 5, 0x2a, 2, 5, 6);
	assert_int_equal(pstree_read(dir->fd, &tree, &err), 0);
	assert_int_equal(tree.tasks[0].nr_threads, 2);
	assert_int_equal(tree.tasks[0].threads[1], 6);
	pstree_release(&tree);
}

static void impossible_trees(void **state)
{
	struct dir *dir = *state;
	struct pstree_task twice[] = {{.pid = 1}, {.pid = 2, .ppid = 1}, {.pid = 2, .ppid = 1}};
	struct pstree_task orphan[] = {{.pid = 1}, {.pid = 2, .ppid = 7}};
	struct pstree_task later[] = {{.pid = 1}, {.pid = 2, .ppid = 3}, {.pid = 3, .ppid = 1}};
	struct pstree_task self[] = {{.pid = 1}, {.pid = 2, .ppid = 2}};
	struct pstree_task rootless[] = {{.pid = 2, .ppid = 1}};
	struct pstree_task zero[] = {{.pid = 1}, {.pid = 0, .ppid = 1}};
	struct pstree_task negative[] = {{.pid = 0x80000000}};
	struct pstree tree = {0};
	struct err err = {0};

	assert_failed(pstree_read(dir->fd, &tree, &err), ENOENT, &err, "pstree.img: No such");
	assert_failed(write_and_read(dir, twice, 3, &tree, &err), EPROTO, &err,
	              "pstree.img: record 3: pid 2 again, as in record 2");
	assert_failed(write_and_read(dir, orphan, 2, &tree, &err), EPROTO, &err,
	              "pstree.img: record 2: process 2 has the parent 7");
	assert_failed(write_and_read(dir, later, 3, &tree, &err), EPROTO, &err,
	              "record 2: process 2 has the parent 3, which no earlier record is about");
	assert_failed(write_and_read(dir, self, 2, &tree, &err), EPROTO, &err,
	              "process 2 has the parent 2");
	assert_failed(write_and_read(dir, rootless, 1, &tree, &err), EPROTO, &err,
	              "record 1: process 2 has the parent 1, not the root");
	assert_failed(write_and_read(dir, zero, 2, &tree, &err), EPROTO, &err,
	              "record 2: 0 is not a pid");
	assert_failed(write_and_read(dir, negative, 1, &tree, &err), EPROTO, &err,
	              "record 1: 2147483648 is not a pid");
	assert_failed(write_and_read(dir, NULL, 0, &tree, &err), EPROTO, &err,
	              "pstree.img: has no process");
	assert_null(tree.tasks);
}

static void bad_record(void **state)
{
	struct dir *dir = *state;
	struct image_writer *w;
	struct pstree tree = {0};
	struct err err = {0};

	assert_int_equal(writer_open(dir->fd, "pstree.img", IMAGE_PSTREE, 2, &w, &err), 0);
	assert_int_equal(writer_record(w, "\x08\x05", 2, &err), 0);
	assert_int_equal(writer_close(w, &err), 0);
	assert_failed(pstree_read(dir->fd, &tree, &err), EPROTO, &err,
	              "pstree.img: record 1: at offset 8: not a valid pstree_entry of 2 bytes");
}

/* A tree as wide and deep as a machine can have; found by pid as a plain loop finds it. */
static void large(void **state)
{
	enum { NR = 30000 };
	struct dir *dir = *state;
	struct pstree_task *tasks = calloc(NR, sizeof(*tasks));
	struct pstree tree = {0};
	struct err err = {0};

	for (uint32_t i = 0; i < NR; i++) {
		tasks[i].pid = (i * 7919 + 1) % 1000003;
		tasks[i].ppid = i ? tasks[i / 3].pid : 0;
	}
	assert_int_equal(write_and_read(dir, tasks, NR, &tree, &err), 0);
	for (uint32_t i = 0; i < NR; i++)
		assert_ptr_equal(pstree_find(&tree, tasks[i].pid), &tree.tasks[i]);
	pstree_release(&tree);
	free(tasks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(written_and_read), TEST(packed_threads), TEST(impossible_trees),
		TEST(bad_record),       TEST(large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
