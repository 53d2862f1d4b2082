/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/base/err.h"
#include "images/pstree.h"
#include "test/fuzz/image-file.h"

static void check(const struct pstree *tree)
{
	MUST(tree->nr > 0 && tree->tasks[0].ppid == 0);
	for (size_t i = 0; i < tree->nr; i++) {
		const struct pstree_task *task = &tree->tasks[i];

		MUST(pstree_find(tree, task->pid) == task);
		if (task->ppid)
			MUST(pstree_find(tree, task->ppid) < task);
		for (uint32_t t = 0; t < task->nr_threads; t++)
			(void)*(volatile uint32_t *)&task->threads[t];
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pstree tree = {0};
	struct err err = {0};
	int dir = fuzz_file("pstree.img", data, size);

	if (pstree_read(dir, &tree, &err) < 0)
		MUST(err.code && err.text[0] && !tree.tasks);
	else
		check(&tree);
	pstree_release(&tree);
	unlinkat(dir, "pstree.img", 0);
	return 0;
}
