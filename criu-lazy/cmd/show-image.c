/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * show-image.c - one image file, put into words.
 *
 * The files that the helper reads are shown through the helper's own readers: what show refuses, a
 * restore refuses, with the same words.
 */
#include "criu-lazy/cmd/show-image.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/cmd/show-out.h"
#include "images/image.h"
#include "images/inventory.h"
#include "images/mm.h"
#include "images/pagemap.h"
#include "images/pstree.h"
#include "images/stats.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Of records that we cannot explain, no more hex than this. */
enum { MAX_HEX = 4096 };

#define NR(array) (sizeof(array) / sizeof((array)[0]))

static const struct out_bit prot_bits[] = {
	{PROT_READ, "read"}, {PROT_WRITE, "write"}, {PROT_EXEC, "exec"}};

static const struct out_bit map_bits[] = {
	{MAP_SHARED, "shared"},       {MAP_PRIVATE, "private"},     {8, "droppable"},
	{MAP_ANONYMOUS, "anonymous"}, {MAP_GROWSDOWN, "growsdown"}, {MAP_LOCKED, "locked"},
	{MAP_NORESERVE, "noreserve"}, {MAP_HUGETLB, "hugetlb"},
};

static const struct out_bit status_bits[] = {
	{VMA_REGULAR, "regular"},
	{VMA_STACK, "stack"},
	{VMA_VSYSCALL, "vsyscall"},
	{VMA_VDSO, "vdso"},
	{VMA_HEAP, "heap"},
	{VMA_FILE_PRIVATE, "file-private"},
	{VMA_FILE_SHARED, "file-shared"},
	{VMA_ANON_SHARED, "anon-shared"},
	{VMA_ANON_PRIVATE, "anon-private"},
	{VMA_SYSVIPC, "sysvipc"},
	{VMA_SOCKET, "socket"},
	{VMA_VVAR, "vvar"},
	{VMA_AIORING, "aio-ring"},
	{VMA_MEMFD, "memfd"},
	{VMA_SHSTK, "shadow-stack"},
	{VMA_GUARD, "guard"},
	{VMA_UPROBES, "uprobes"},
	{VMA_EXT_PLUGIN, "plugin"},
};

static const struct out_bit pe_bits[] = {
	{PE_PARENT, "parent"}, {PE_LAZY, "lazy"}, {PE_PRESENT, "present"}};

static int show_inventory(struct out *out, const char *path, struct err *err)
{
	struct inventory inv;
	int r = inventory_read_file(AT_FDCWD, path, &inv, err);

	if (r < 0)
		return r;
	out_u64(out, "img_version", inv.img_version);
	out_bool(out, "ns_per_id", inv.ns_per_id);
	if (inv.has_lsm)
		out_u64(out, "lsm", inv.lsm);
	if (inv.has_dump_uptime)
		out_u64(out, "dump_uptime_us", inv.dump_uptime);
	out_u64(out, "pre_dump_mode", inv.pre_dump_mode);
	out_bool(out, "tcp_close", inv.tcp_close);
	out_u64(out, "network_lock", inv.network_lock);
	out_bool(out, "allow_uprobes", inv.allow_uprobes);
	if (inv.run_id[0])
		out_str(out, "run_id", inv.run_id);
	out_u64(out, "nr_unknown_fields", inv.nr_unknown);
	for (size_t i = 0; i < inv.nr_unknown && i < INVENTORY_MAX_UNKNOWN; i++) {
		if (i == 0)
			out_list(out, "unknown_fields");
		out_row(out, 0);
		out_u64(out, "tag", inv.unknown[i]);
		out_end(out);
		if (i + 1 == inv.nr_unknown || i + 1 == INVENTORY_MAX_UNKNOWN)
			out_end(out);
	}
	return 0;
}

static int show_pstree(struct out *out, const char *path, struct err *err)
{
	struct pstree tree = {0};
	int r = pstree_read_file(AT_FDCWD, path, &tree, err);

	if (r < 0)
		return r;
	out_u64(out, "nr_tasks", tree.nr);
	out_list(out, "tasks");
	for (size_t i = 0; i < tree.nr; i++) {
		const struct pstree_task *task = &tree.tasks[i];

		out_object(out, NULL);
		out_u64(out, "pid", task->pid);
		out_u64(out, "ppid", task->ppid);
		out_u64(out, "pgid", task->pgid);
		out_u64(out, "sid", task->sid);
		out_list(out, "threads");
		for (uint32_t t = 0; t < task->nr_threads; t++) {
			out_row(out, 0);
			out_u64(out, "tid", task->threads[t]);
			out_end(out);
		}
		out_end(out);
		out_end(out);
	}
	out_end(out);
	pstree_release(&tree);
	return 0;
}

static void show_vma(struct out *out, const struct vma *vma)
{
	out_row(out, 0);
	out_hex(out, "start", vma->start);
	out_hex(out, "end", vma->end);
	out_bits(out, "prot", vma->prot, prot_bits, NR(prot_bits));
	out_bits(out, "flags", vma->flags, map_bits, NR(map_bits));
	out_bits(out, "status", vma->status, status_bits, NR(status_bits));
	out_hex(out, "pgoff", vma->pgoff);
	out_u64(out, "shmid", vma->shmid);
	out_hex(out, "madv", vma->madv);
	out_bool(out, "lazy_eligible", vma_lazy_eligible(vma));
	out_end(out);
}

static int show_mm(struct out *out, const char *path, struct err *err)
{
	struct mm mm = {0};
	int r = mm_read_file(AT_FDCWD, path, &mm, err);

	if (r < 0)
		return r;
	out_hex(out, "start_code", mm.start_code);
	out_hex(out, "end_code", mm.end_code);
	out_hex(out, "start_data", mm.start_data);
	out_hex(out, "end_data", mm.end_data);
	out_hex(out, "start_stack", mm.start_stack);
	out_hex(out, "start_brk", mm.start_brk);
	out_hex(out, "brk", mm.brk);
	out_hex(out, "arg_start", mm.arg_start);
	out_hex(out, "arg_end", mm.arg_end);
	out_hex(out, "env_start", mm.env_start);
	out_hex(out, "env_end", mm.env_end);
	out_u64(out, "exe_file_id", mm.exe_file_id);
	out_i64(out, "dumpable", mm.dumpable);
	out_bool(out, "thp_disabled", mm.thp_disabled);
	out_u64(out, "nr_auxv_words", mm.nr_auxv);
	out_u64(out, "nr_vmas", mm.nr);
	out_list(out, "vmas");
	for (size_t i = 0; i < mm.nr; i++)
		show_vma(out, &mm.vmas[i]);
	out_end(out);
	out_list(out, "guards");
	for (size_t i = 0; i < mm.nr_guards; i++)
		show_vma(out, &mm.guards[i]);
	out_end(out);
	mm_release(&mm);
	return 0;
}

static int show_pagemap(struct out *out, const char *path, struct err *err)
{
	struct pagemap map = {0};
	int r = pagemap_read_file(AT_FDCWD, path, &map, err);

	if (r < 0)
		return r;
	out_u64(out, "pages_id", map.pages_id);
	out_u64(out, "pages_bytes", map.pages_bytes);
	out_u64(out, "nr_runs", map.nr);
	out_list(out, "runs");
	for (size_t i = 0; i < map.nr; i++) {
		const struct pagemap_run *run = &map.runs[i];

		out_row(out, 0);
		out_hex(out, "vaddr", run->vaddr);
		out_u64(out, "nr_pages", run->nr_pages);
		out_bits(out, "flags", run->flags, pe_bits, NR(pe_bits));
		if (run->flags & PE_PRESENT)
			out_u64(out, "offset", run->offset);
		out_end(out);
	}
	out_end(out);
	pagemap_release(&map);
	return 0;
}

/* The fields that are set, by their names in the .proto file; numbers and messages only. */
static void show_message(struct out *out, const ProtobufCMessage *msg)
{
	const char *at = (const char *)msg;

	for (unsigned int i = 0; i < msg->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &msg->descriptor->fields[i];
		const void *value = at + field->offset;

		if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
			const ProtobufCMessage *inner = *(ProtobufCMessage *const *)value;

			if (!inner)
				continue;
			out_object(out, field->name);
			show_message(out, inner);
			out_end(out);
			continue;
		}
		if (field->label == PROTOBUF_C_LABEL_OPTIONAL &&
		    !*(const protobuf_c_boolean *)(at + field->quantifier_offset))
			continue;
		out_u64(out, field->name,
		        field->type == PROTOBUF_C_TYPE_UINT64 ? *(const uint64_t *)value
		                                              : *(const uint32_t *)value);
	}
}

static int show_stats(struct out *out, struct image *img, struct err *err)
{
	ProtobufCMessage *msg;
	int r = image_next_message(img, &stats_entry__descriptor, &msg, err);

	if (r < 0)
		return r;
	if (r == 0)
		return image_bad(img, err, "has no record");
	show_message(out, msg);
	protobuf_c_message_free_unpacked(msg, NULL);
	return 0;
}

static void show_hex(struct out *out, const void *data, size_t len)
{
	out_object(out, NULL);
	out_u64(out, "bytes", len);
	out_bytes(out, "hex", data, len < MAX_HEX ? len : MAX_HEX);
	if (len > MAX_HEX)
		out_u64(out, "bytes_not_shown", len - MAX_HEX);
	out_end(out);
}

/* Records of a kind that we do not decode. */
static int show_records(struct out *out, struct image *img, struct err *err)
{
	const void *data;
	size_t len;
	int r = 0;

	if (image_kind(img->type)->frame == FRAME_RAW)
		out_str(out, "note", "raw bytes follow the records; shown as one");
	out_list(out, "records");
	if (image_kind(img->type)->frame == FRAME_RAW)
		show_hex(out, img->data + img->pos, img->size - img->pos);
	else
		while ((r = image_next(img, &data, &len, err)) > 0)
			show_hex(out, data, len);
	out_end(out);
	if (r == 0 && image_kind(img->type)->frame != FRAME_RAW)
		out_u64(out, "nr_records", img->record);
	return r;
}

/* The pages themselves have no frame: only their size can be told. */
static int show_pages_file(struct out *out, const char *path, struct err *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_set(err, errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "%s: not a regular file", path);
	out_object(out, NULL);
	out_str(out, "file", path);
	out_str(out, "type", "pages");
	out_u64(out, "bytes", (uint64_t)st.st_size);
	out_pages(out, "nr_pages", (uint64_t)st.st_size / PAGE_SIZE);
	if ((uint64_t)st.st_size % PAGE_SIZE)
		out_u64(out, "bytes_left_over", (uint64_t)st.st_size % PAGE_SIZE);
	out_end(out);
	return 0;
}

static int show_content(struct out *out, struct image *img, struct err *err)
{
	switch (img->type) {
	case IMAGE_INVENTORY:
		return show_inventory(out, img->name, err);
	case IMAGE_PSTREE:
		return show_pstree(out, img->name, err);
	case IMAGE_MM:
		return show_mm(out, img->name, err);
	case IMAGE_PAGEMAP:
		return show_pagemap(out, img->name, err);
	case IMAGE_STATS:
		return show_stats(out, img, err);
	default:
		return show_records(out, img, err);
	}
}

int show_file(struct out *out, const char *path, struct err *err)
{
	const char *slash = strrchr(path, '/');
	struct image img;
	int r;

	if (strncmp(slash ? slash + 1 : path, "pages-", 6) == 0)
		return show_pages_file(out, path, err);
	r = image_open_any(AT_FDCWD, path, &img, err);
	if (r < 0)
		return r;
	out_object(out, NULL);
	out_str(out, "file", path);
	out_str(out, "type", image_kind(img.type)->name);
	out_u64(out, "bytes", img.size);
	r = show_content(out, &img, err);
	out_end(out);
	image_close(&img);
	return r;
}
