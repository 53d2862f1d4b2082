/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pages-writer.c - a pagemap and its pages file, out to disk side by side. */
#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "images/pagemap.h"
#include "images/pagemap.pb-c.h"
#include "images/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct pages_writer {
	struct image_writer *map;
	enum pages_count count;
	uint32_t pages_id;
	int fd; /* pages-PAGES_ID.img */
	uint64_t offset; /* its length so far, holes included */
	int failed; /* errno of the first failure with it */
};

static int fail(struct pages_writer *w, int code, struct err *err)
{
	if (!w->failed)
		w->failed = code;
	return err_set(err, w->failed, "write pages-%u.img", w->pages_id);
}

static int put_head(struct pages_writer *w, struct err *err)
{
	PagemapHead head = PAGEMAP_HEAD__INIT;

	head.pages_id = w->pages_id;
	return writer_message(w->map, &head.base, err);
}

int pages_writer_open(int dirfd, uint32_t pid, uint32_t pages_id, enum pages_count count,
                      struct pages_writer **ret, struct err *err)
{
	char name[32];

	snprintf(name, sizeof(name), "pagemap-%u.img", pid);
	return pages_writer_open_file(dirfd, name, pages_id, count, ret, err);
}

int pages_writer_open_file(int dirfd, const char *map_name, uint32_t pages_id,
                           enum pages_count count, struct pages_writer **ret, struct err *err)
{
	struct pages_writer *w = calloc(1, sizeof(*w));
	char name[32];
	int r;

	if (!w)
		return err_set(err, ENOMEM, "pages-%u.img", pages_id);
	w->count = count;
	w->pages_id = pages_id;
	w->fd = -1;
	r = writer_open(dirfd, map_name, IMAGE_PAGEMAP, 2, &w->map, err);
	if (r == 0)
		r = put_head(w, err);
	if (r == 0) {
		snprintf(name, sizeof(name), "pages-%u.img", pages_id);
		w->fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (w->fd < 0)
			r = err_set(err, errno, "create %s", name);
	}
	if (r < 0) {
		pages_writer_close(w, NULL);
		return r;
	}
	*ret = w;
	return 0;
}

int pages_writer_bytes(struct pages_writer *w, const void *bytes, uint64_t len, struct err *err)
{
	const uint8_t *from = bytes;

	if (w->failed)
		return fail(w, w->failed, err);
	while (from && len) {
		ssize_t put = pwrite(w->fd, from, len, (off_t)w->offset);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return fail(w, put < 0 ? errno : EIO, err);
		from += put;
		len -= (uint64_t)put;
		w->offset += (uint64_t)put;
	}
	w->offset += len;
	return 0;
}

int pages_writer_entry(struct pages_writer *w, uint64_t vaddr, uint64_t nr_pages, uint32_t flags,
                       struct err *err)
{
	PagemapEntry msg = PAGEMAP_ENTRY__INIT;

	if (w->count == COUNT_OLD && nr_pages > UINT32_MAX)
		return err_set(err, EINVAL, "%llu pages do not fit an old pagemap entry",
		               (unsigned long long)nr_pages);
	msg.vaddr = vaddr;
	msg.has_flags = true;
	msg.flags = flags;
	if (w->count != COUNT_NEW && nr_pages <= UINT32_MAX)
		msg.compat_nr_pages = (uint32_t)nr_pages;
	msg.has_nr_pages = w->count != COUNT_OLD;
	msg.nr_pages = nr_pages;
	return writer_message(w->map, &msg.base, err);
}

int pages_writer_add(struct pages_writer *w, uint64_t vaddr, uint64_t nr_pages, uint32_t flags,
                     const void *bytes, struct err *err)
{
	int r = pages_writer_entry(w, vaddr, nr_pages, flags, err);

	if (r == 0 && (flags & PE_PRESENT))
		r = pages_writer_bytes(w, bytes, nr_pages << PAGE_SHIFT, err);
	return r;
}

int pages_writer_close(struct pages_writer *w, struct err *err)
{
	int r;

	if (!w)
		return 0;
	/* A hole at the end becomes part of the file only here. */
	if (w->fd >= 0 && !w->failed && ftruncate(w->fd, (off_t)w->offset) < 0)
		w->failed = errno;
	r = writer_close(w->map, err);
	if (w->failed && r == 0)
		r = fail(w, w->failed, err);
	if (w->fd >= 0 && close(w->fd) < 0 && r == 0)
		r = err_set(err, errno, "write pages-%u.img", w->pages_id);
	free(w);
	return r;
}
