/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pagemap.c - decode and judge one pagemap image.
 *
 * An entry has had four shapes over the years; they are brought to one here:
 *
 *	in_parent true		flags |= PE_PARENT
 *	else no flags field	flags  = PE_PRESENT
 *	no nr_pages field	the count is in compat_nr_pages
 */
#include "images/pagemap.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "images/image.h"
#include "images/pagemap.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { PE_KNOWN = PE_PARENT | PE_LAZY | PE_PRESENT };

static int refuse_unknown(const struct image *img, const ProtobufCMessage *base, struct err *err)
{
	if (base->n_unknown_fields == 0)
		return 0;
	return image_bad(img, err, "unknown field %u (a newer image feature such as compression)",
	                 base->unknown_fields[0].tag);
}

static uint32_t entry_flags(const PagemapEntry *msg)
{
	uint32_t flags = msg->has_flags ? msg->flags : 0;

	if (msg->has_in_parent && msg->in_parent)
		flags |= PE_PARENT;
	else if (!msg->has_flags)
		flags = PE_PRESENT;
	return flags;
}

static int check_flags(const struct image *img, uint32_t flags, struct err *err)
{
	if (flags & ~(uint32_t)PE_KNOWN)
		return image_bad(img, err, "unknown flag 0x%x (a newer image feature)",
		                 flags & ~(uint32_t)PE_KNOWN);
	if (flags == 0)
		return image_bad(img, err, "flags 0 do not say where the pages are");
	if ((flags & PE_PARENT) && (flags & PE_PRESENT))
		return image_bad(img, err, "flags 0x%x say both in the parent and here", flags);
	return 0;
}

/* The end of the run is below USER_ADDRESS_END, so no sum here can overflow 64 bits. */
static int check_range(const struct image *img, const struct pagemap *map,
                       const struct pagemap_run *run, struct err *err)
{
	unsigned long long vaddr = run->vaddr, nr_pages = run->nr_pages;

	if (!page_aligned(run->vaddr))
		return image_bad(img, err, "address 0x%llx is not page aligned", vaddr);
	if (nr_pages == 0)
		return image_bad(img, err, "0 pages at 0x%llx", vaddr);
	if (run->vaddr >= USER_ADDRESS_END ||
	    run->nr_pages > (USER_ADDRESS_END - run->vaddr) >> PAGE_SHIFT)
		return image_bad(img, err, "%llu pages at 0x%llx are not in user memory", nr_pages,
		                 vaddr);
	if (map->nr) {
		unsigned long long before = pagemap_run_end(&map->runs[map->nr - 1]);

		if (vaddr < before)
			return image_bad(img, err,
			                 "address 0x%llx is below the end of the record before "
			                 "(0x%llx)",
			                 vaddr, before);
	}
	return 0;
}

static int add_entry(const struct image *img, const PagemapEntry *msg, struct pagemap *map,
                     size_t *room, struct err *err)
{
	struct pagemap_run run = {
		.vaddr = msg->vaddr,
		.nr_pages = msg->has_nr_pages ? msg->nr_pages : msg->compat_nr_pages,
		.flags = entry_flags(msg),
	};
	int r;

	r = refuse_unknown(img, &msg->base, err);
	if (r == 0)
		r = check_flags(img, run.flags, err);
	if (r == 0)
		r = check_range(img, map, &run, err);
	if (r < 0)
		return r;
	if (map->nr == *room) {
		size_t more = *room ? *room * 2 : 64;
		struct pagemap_run *grown = reallocarray(map->runs, more, sizeof(*grown));

		if (!grown)
			return err_set(err, ENOMEM, "%s: %zu runs", img->name, more);
		map->runs = grown;
		*room = more;
	}
	if (run.flags & PE_PRESENT) {
		run.offset = map->pages_bytes;
		map->pages_bytes += run.nr_pages << PAGE_SHIFT;
	}
	map->runs[map->nr++] = run;
	map->old_counts |= !msg->has_nr_pages;
	return 0;
}

static int read_head(struct image *img, struct pagemap *map, struct err *err)
{
	ProtobufCMessage *msg;
	int r;

	r = image_next_message(img, &pagemap_head__descriptor, &msg, err);
	if (r < 0)
		return r;
	if (r == 0)
		return image_bad(img, err, "has no head");
	r = refuse_unknown(img, msg, err);
	map->pages_id = ((const PagemapHead *)msg)->pages_id;
	protobuf_c_message_free_unpacked(msg, NULL);
	return r;
}

static int read_entries(struct image *img, struct pagemap *map, struct err *err)
{
	ProtobufCMessage *msg;
	size_t room = 0;
	int r;

	while ((r = image_next_message(img, &pagemap_entry__descriptor, &msg, err)) > 0) {
		r = add_entry(img, (const PagemapEntry *)msg, map, &room, err);
		protobuf_c_message_free_unpacked(msg, NULL);
		if (r < 0)
			break;
	}
	return r;
}

int pagemap_read_file(int dirfd, const char *name, struct pagemap *ret, struct err *err)
{
	struct pagemap map = {0};
	struct image img;
	int r;

	r = image_open(dirfd, name, IMAGE_PAGEMAP, &img, err);
	if (r < 0)
		return r;
	r = read_head(&img, &map, err);
	if (r == 0)
		r = read_entries(&img, &map, err);
	image_close(&img);
	if (r < 0)
		pagemap_release(&map);
	else
		*ret = map;
	return r;
}

int pagemap_read(int dirfd, uint32_t pid, struct pagemap *ret, struct err *err)
{
	char name[32];

	snprintf(name, sizeof(name), "pagemap-%u.img", pid);
	return pagemap_read_file(dirfd, name, ret, err);
}

void pagemap_release(struct pagemap *map)
{
	free(map->runs);
	*map = (struct pagemap){0};
}

size_t pagemap_lower(const struct pagemap *map, uint64_t vaddr)
{
	size_t low = 0, high = map->nr;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (pagemap_run_end(&map->runs[mid]) <= vaddr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

const struct pagemap_run *pagemap_find(const struct pagemap *map, uint64_t vaddr)
{
	size_t i = pagemap_lower(map, vaddr);

	return i < map->nr && map->runs[i].vaddr <= vaddr ? &map->runs[i] : NULL;
}
