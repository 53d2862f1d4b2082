/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/server/content.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "images/identity.h"
#include "images/inventory.h"
#include "images/pagemap.h"
#include "images/pages.h"
#include "images/pstree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct process {
	uint32_t pid;
	struct pages *pages;
};

struct content {
	struct process *processes; /* by rising pid */
	size_t nr;
	uint64_t nr_pages;
	uint64_t identity;
};

/* --- opening ---------------------------------------------------------------------------------- */

/* Every page that the pagemap names must have its content here. */
static int count_pages(struct content *content, const struct process *p, struct err *err)
{
	const struct pagemap *top = pages_top(p->pages);

	for (size_t i = 0; i < top->nr; i++) {
		const struct pagemap_run *run = &top->runs[i];

		if (!(run->flags & (PE_PRESENT | PE_PARENT)))
			return err_set(err, EPROTO,
			               "pagemap-%u.img: page 0x%llx has no content here: the image "
			               "was made by dump --lazy-pages, its content stayed with the "
			               "dumper",
			               p->pid, (unsigned long long)run->vaddr);
		content->nr_pages += run->nr_pages;
	}
	return 0;
}

static int open_process(int dirfd, uint32_t pid, struct content *content, struct err *err)
{
	struct process *p = &content->processes[content->nr];
	char name[32];
	int r;

	snprintf(name, sizeof(name), "pagemap-%u.img", pid);
	if (faccessat(dirfd, name, F_OK, 0) < 0 && errno == ENOENT)
		return 0;
	r = pages_open(dirfd, pid, &p->pages, err);
	if (r < 0)
		return r;
	p->pid = pid;
	content->nr++;
	return count_pages(content, p, err);
}

static int compare(const void *va, const void *vb)
{
	const struct process *a = va, *b = vb;

	return a->pid < b->pid ? -1 : a->pid > b->pid;
}

int content_open(int dirfd, bool trust_newer, struct content **ret, struct err *err)
{
	struct content *content = calloc(1, sizeof(*content));
	struct inventory inventory;
	struct pstree tree = {0};
	int r;

	if (!content)
		return err_set(err, ENOMEM, "images");
	r = inventory_read(dirfd, &inventory, err);
	if (r == 0 && !trust_newer)
		r = inventory_refuse_newer(&inventory, err);
	if (r == 0)
		r = pstree_read(dirfd, &tree, err);
	if (r == 0)
		r = images_identity(dirfd, &content->identity, err);
	if (r == 0) {
		content->processes = calloc(tree.nr, sizeof(*content->processes));
		if (!content->processes)
			r = err_set(err, ENOMEM, "%zu processes", tree.nr);
	}
	for (size_t i = 0; i < tree.nr && r == 0; i++)
		r = open_process(dirfd, tree.tasks[i].pid, content, err);
	pstree_release(&tree);
	if (r < 0) {
		content_close(content);
		return r;
	}
	qsort(content->processes, content->nr, sizeof(*content->processes), compare);
	*ret = content;
	return 0;
}

void content_close(struct content *content)
{
	if (!content)
		return;
	for (size_t i = 0; i < content->nr; i++)
		pages_close(content->processes[i].pages);
	free(content->processes);
	free(content);
}

size_t content_nr_processes(const struct content *content)
{
	return content->nr;
}

uint64_t content_nr_pages(const struct content *content)
{
	return content->nr_pages;
}

uint64_t content_identity(const struct content *content)
{
	return content->identity;
}

/* --- finding ---------------------------------------------------------------------------------- */

static const struct pages *find_process(const struct content *content, uint64_t pid)
{
	struct process key = {.pid = (uint32_t)pid}, *p;

	if (pid > UINT32_MAX || !content->nr)
		return NULL;
	p = bsearch(&key, content->processes, content->nr, sizeof(key), compare);
	return p ? p->pages : NULL;
}

int content_find(const struct content *content, uint64_t pid, uint64_t vaddr, uint64_t nr_pages,
                 struct pages_piece *ret, struct err *err)
{
	const struct pages *pages = find_process(content, pid);
	int r;

	if (!pages)
		return err_set(err, ENOENT, "process %llu is not in these images",
		               (unsigned long long)pid);
	r = pages_lookup(pages, vaddr, nr_pages, ret, err);
	if (r < 0)
		return r;
	if (ret->kind != PAGES_HERE)
		return err_set(err, ENOENT, "page 0x%llx of process %llu is not in these images",
		               (unsigned long long)vaddr, (unsigned long long)pid);
	r = pages_check(pages, ret, err);
	return r < 0 ? err_wrap(err, "page 0x%llx of process %llu", (unsigned long long)vaddr,
	                        (unsigned long long)pid)
	             : 0;
}

/* As many whole pages of the piece as can be read. */
static int64_t read_piece(const struct pages_piece *piece, uint8_t *buf, struct err *err)
{
	uint64_t len = piece->nr_pages << PAGE_SHIFT, done = 0;
	unsigned long long at = piece->offset;

	while (done < len) {
		ssize_t got = pread(piece->fd, buf + done, len - done, (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && done < PAGE_SIZE)
			return err_set(err, EIO, "read a pages file at %llu (%m)", at);
		if (got <= 0)
			break;
		done += (uint64_t)got;
		at += (uint64_t)got;
	}
	if (done < PAGE_SIZE)
		return err_set(err, EIO, "a pages file was cut short at %llu", at);
	return (int64_t)(done >> PAGE_SHIFT);
}

int64_t content_read(const struct content *content, uint64_t pid, uint64_t vaddr, uint64_t nr_pages,
                     void *buf, struct err *err)
{
	uint64_t done = 0;

	while (done < nr_pages) {
		uint8_t *to = (uint8_t *)buf + (done << PAGE_SHIFT);
		struct err *why = done ? NULL : err;
		struct pages_piece piece;
		int64_t got = content_find(content, pid, vaddr + (done << PAGE_SHIFT),
		                           nr_pages - done, &piece, why);

		if (got == 0)
			got = read_piece(&piece, to, why);
		/* Once more: who writes has changed mtime before the bytes, so these are good. */
		if (got > 0 && pages_check(find_process(content, pid), &piece, why) < 0)
			got = -EPROTO;
		if (got < 0)
			return done ? (int64_t)done : got;
		done += (uint64_t)got;
	}
	return (int64_t)done;
}
