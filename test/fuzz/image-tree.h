/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image-tree.h - for fuzz targets that need a whole image directory: processes 1 .. TREE_IMAGES,
 * each with one lazy mapping, and a zombie.
 */
#ifndef TEST_FUZZ_IMAGE_TREE_H
#define TEST_FUZZ_IMAGE_TREE_H

#include "criu-lazy/base/page.h"
#include "images/inventory.h"
#include "images/mm.h"
#include "images/pagemap.h"
#include "images/pstree.h"
#include "images/writer.h"
#include "test/fuzz/image-file.h"

#include <sys/mman.h>

enum { TREE_IMAGES = 3, TREE_ZOMBIE = TREE_IMAGES + 1 };

/* mm, pagemap and pages: nr_pages at start, all of them lazy. */
static inline void tree_write_memory(int dir, uint32_t pid, uint64_t start, uint64_t nr_pages,
                                     const void *bytes)
{
	struct pages_writer *w;
	struct vma vma = {.start = start,
	                  .end = start + nr_pages * PAGE_SIZE,
	                  .prot = PROT_READ | PROT_WRITE,
	                  .flags = MAP_PRIVATE | MAP_ANONYMOUS,
	                  .status = VMA_REGULAR | VMA_ANON_PRIVATE};
	struct mm mm = {.vmas = &vma, .nr = 1, .dumpable = -1};

	MUST(writer_mm(dir, pid, &mm, NULL) == 0);
	MUST(pages_writer_open(dir, pid, pid, COUNT_BOTH, &w, NULL) == 0);
	MUST(pages_writer_add(w, start, nr_pages, PE_PRESENT | PE_LAZY, bytes, NULL) == 0);
	MUST(pages_writer_close(w, NULL) == 0);
}

static inline void tree_remove(void)
{
	static const char *const names[] = {"mm", "pagemap", "pages"};
	char name[32];

	for (int pid = 1; pid <= TREE_IMAGES; pid++)
		for (size_t i = 0; i < 3; i++) {
			snprintf(name, sizeof(name), "%s-%d.img", names[i], pid);
			unlinkat(fuzz_dir, name, 0);
		}
	unlinkat(fuzz_dir, "pstree.img", 0);
	unlinkat(fuzz_dir, "inventory.img", 0);
}

/* The processes, but not yet their memory; all of it goes when the program ends. */
static inline int tree_begin(void)
{
	struct pstree_task tasks[TREE_ZOMBIE];
	struct inventory inventory = {.img_version = 2, .ns_per_id = true};
	uint32_t ids[TREE_ZOMBIE];
	int dir = fuzz_file("pstree.img", NULL, 0);

	atexit(tree_remove); /* before the directory goes */
	for (uint32_t i = 0; i < TREE_ZOMBIE; i++) {
		ids[i] = i + 1;
		tasks[i] = (struct pstree_task){.pid = ids[i],
		                                .ppid = i ? 1 : 0,
		                                .pgid = 1,
		                                .sid = 1,
		                                .nr_threads = 1,
		                                .threads = &ids[i]};
	}
	MUST(writer_pstree(dir, tasks, TREE_ZOMBIE, NULL) == 0);
	MUST(writer_inventory(dir, &inventory, NULL) == 0);
	return dir;
}

#endif
