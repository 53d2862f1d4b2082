/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/engine/plan.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/source/remote.h"
#include "criu-lazy/source/source.h"
#include "criu-lazy/track/tracker.h"
#include "images/inventory.h"
#include "images/mm.h"
#include "images/pagemap.h"
#include "images/pages.h"
#include "images/pstree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static int bad_page(struct err *err, uint32_t pid, uint64_t addr, const char *what)
{
	return err_set(err, EPROTO, "pagemap-%u.img: lazy page 0x%llx %s", pid,
	               (unsigned long long)addr, what);
}

/*
 * The restorer registers whole eligible mappings and nothing else, so a lazy page elsewhere would
 * never fault: it would be zero.
 */
static int check_mapped(const struct mm *mm, uint32_t pid, const struct pagemap_run *run,
                        struct err *err)
{
	uint64_t addr = run->vaddr, end = pagemap_run_end(run);

	while (addr < end) {
		const struct vma *vma = mm_find(mm, addr);

		if (!vma)
			return bad_page(err, pid, addr, "lies in no mapping of the process");
		if (!vma_lazy_eligible(vma))
			return bad_page(err, pid, addr,
			                "lies in a mapping that is not restored lazily");
		addr = vma->end;
	}
	return 0;
}

/* Each page of the run must have its content somewhere in the chain. */
static int check_content(const struct pages *pages, uint32_t pid, const struct pagemap_run *run,
                         struct err *err)
{
	uint64_t addr = run->vaddr, end = pagemap_run_end(run);
	struct pages_piece piece;

	while (addr < end) {
		int r = pages_lookup(pages, addr, (end - addr) >> PAGE_SHIFT, &piece, err);

		if (r < 0)
			return r;
		if (piece.kind == PAGES_ABSENT)
			return bad_page(err, pid, addr,
			                "has no content here: the image was made by "
			                "dump --lazy-pages, its content stayed with the dumper");
		if (piece.kind != PAGES_HERE)
			return bad_page(err, pid, addr, "has no content in the image");
		addr += piece.nr_pages << PAGE_SHIFT;
	}
	return 0;
}

/* pages NULL: their content is elsewhere. */
static int fill_tracker(struct plan_process *p, const struct pagemap *top,
                        const struct pages *pages, const struct mm *mm, struct err *err)
{
	size_t i;
	int r;

	for (i = 0; i < top->nr; i++) {
		const struct pagemap_run *run = &top->runs[i];

		if (!(run->flags & PE_LAZY))
			continue;
		r = check_mapped(mm, p->pid, run, err);
		if (r == 0 && pages)
			r = check_content(pages, p->pid, run, err);
		p->in_parent |= run->flags & PE_PARENT && !(run->flags & PE_PRESENT);
		if (r < 0)
			return r;
		r = tracker_add(p->tracker, run->vaddr, run->vaddr, run->nr_pages);
		if (r < 0)
			return err_set(err, -r, "pagemap-%u.img: run %zu", p->pid, i);
	}
	p->nr_lazy = tracker_nr_missing(p->tracker);
	for (i = 0; i < mm->nr; i++)
		if (mm->vmas[i].madv & UINT64_C(1) << MADV_WIPEONFORK &&
		    tracker_wipe_on_fork(p->tracker, mm->vmas[i].start, mm->vmas[i].end) < 0)
			return err_set(err, ENOMEM, "process %u", p->pid);
	return 0;
}

static int add_filters(struct plan_process *p, const struct plan_options *options, struct err *err)
{
	size_t i;

	for (i = 0; i < options->nr_filters; i++) {
		p->source = source_filter(options->filters[i], p->source, err);
		if (!p->source)
			return -err->code;
	}
	return 0;
}

static bool missing(int dirfd, const char *what, uint32_t pid)
{
	char name[32];

	snprintf(name, sizeof(name), "%s-%u.img", what, pid);
	return faccessat(dirfd, name, F_OK, 0) < 0 && errno == ENOENT;
}

static int plan_local(int dirfd, struct plan_process *p, const struct mm *mm,
                      const struct plan_options *options, struct err *err)
{
	struct pages *pages = NULL;
	int r = pages_open(dirfd, p->pid, &pages, err);

	if (r == 0)
		r = fill_tracker(p, pages_top(pages), pages, mm, err);
	if (r < 0) {
		pages_close(pages);
		return r;
	}
	p->source = source_image(pages);
	if (!p->source) {
		pages_close(pages);
		return err_set(err, ENOMEM, "process %u", p->pid);
	}
	return add_filters(p, options, err);
}

/* The page that a page server can be asked for first. */
static void note_first(struct plan *plan, uint32_t pid, const struct pagemap *map)
{
	size_t i;

	for (i = 0; i < map->nr && !plan->first_pid; i++) {
		if (!(map->runs[i].flags & PE_LAZY) || map->runs[i].flags & PE_PARENT)
			continue;
		plan->first_pid = pid;
		plan->first_vaddr = map->runs[i].vaddr;
	}
}

static int plan_remote(int dirfd, struct plan *plan, struct plan_process *p, const struct mm *mm,
                       struct err *err)
{
	struct pagemap map = {0};
	int r = pagemap_read(dirfd, p->pid, &map, err);

	if (r == 0)
		r = fill_tracker(p, &map, NULL, mm, err);
	plan->old_counts |= map.old_counts;
	note_first(plan, p->pid, &map);
	pagemap_release(&map);
	return r;
}

static int plan_process(int dirfd, struct plan *plan, struct plan_process *p,
                        const struct plan_options *options, struct err *err)
{
	struct mm mm = {0};
	int r;

	/* A zombie has neither.  Whether this is one, its message tells. */
	if (missing(dirfd, "mm", p->pid) && missing(dirfd, "pagemap", p->pid))
		return 0;
	p->has_memory = true;
	r = mm_read(dirfd, p->pid, &mm, err);
	if (r < 0)
		return r;
	p->tracker = tracker_new();
	if (!p->tracker)
		r = err_set(err, ENOMEM, "process %u", p->pid);
	else if (options->remote)
		r = plan_remote(dirfd, plan, p, &mm, err);
	else
		r = plan_local(dirfd, p, &mm, options, err);
	mm_release(&mm);
	return r;
}

int plan_attach(struct plan *plan, struct remote *remote, const struct plan_options *options,
                struct err *err)
{
	struct remote_stats stats;
	size_t i;

	remote_stats(remote, &stats);
	for (i = 0; i < plan->nr; i++) {
		struct plan_process *p = &plan->processes[i];
		int r;

		if (p->in_parent && !stats.lanes)
			return err_set(err, EPROTO,
			               "process %u: pages of it are in parent images, which CRIU's "
			               "page server does not serve",
			               p->pid);
		if (!p->has_memory)
			continue;
		p->source = remote_source(remote, p->pid);
		if (!p->source)
			return err_set(err, ENOMEM, "process %u", p->pid);
		r = add_filters(p, options, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int plan_read(int dirfd, const struct plan_options *options, struct plan *ret, struct err *err)
{
	struct inventory inventory;
	struct pstree tree = {0};
	struct plan plan = {0};
	size_t i;
	int r;

	r = inventory_read(dirfd, &inventory, err);
	if (r < 0)
		return r;
	if (!options->trust_newer)
		r = inventory_refuse_newer(&inventory, err);
	if (r < 0)
		return r;
	r = pstree_read(dirfd, &tree, err);
	if (r < 0)
		return r;
	plan.processes = calloc(tree.nr, sizeof(*plan.processes));
	if (!plan.processes) {
		r = err_set(err, ENOMEM, "%zu processes", tree.nr);
		goto out;
	}
	for (i = 0; i < tree.nr && r == 0; i++) {
		plan.processes[i].pid = tree.tasks[i].pid;
		plan.nr++;
		r = plan_process(dirfd, &plan, &plan.processes[i], options, err);
		plan.nr_lazy += plan.processes[i].nr_lazy;
	}
out:
	pstree_release(&tree);
	if (r < 0)
		plan_release(&plan);
	else
		*ret = plan;
	return r < 0 ? r : 0;
}

void plan_release(struct plan *plan)
{
	size_t i;

	for (i = 0; i < plan->nr; i++) {
		tracker_free(plan->processes[i].tracker);
		source_close(plan->processes[i].source);
	}
	free(plan->processes);
	*plan = (struct plan){0};
}

struct plan_process *plan_claim(struct plan *plan, uint32_t pid)
{
	size_t i;

	for (i = 0; i < plan->nr; i++) {
		if (plan->processes[i].pid != pid || plan->processes[i].claimed)
			continue;
		plan->processes[i].claimed = true;
		return &plan->processes[i];
	}
	return NULL;
}
