/* SPDX-License-Identifier: GPL-2.0-or-later */
/* writer.c - image files and their records, out to disk; the pages files are in pages-writer.c. */
#include "images/writer.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"
#include "images/inventory.h"
#include "images/inventory.pb-c.h"
#include "images/mm.h"
#include "images/mm.pb-c.h"
#include "images/pstree.h"
#include "images/pstree.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <protobuf-c/protobuf-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct image_writer {
	FILE *file;
	char *name;
	int failed; /* errno of the first failure */
};

int writer_raw(struct image_writer *w, const void *data, size_t len, struct err *err)
{
	if (!w->failed && len && fwrite(data, 1, len, w->file) != len)
		w->failed = errno ? errno : EIO;
	if (w->failed)
		return err_set(err, w->failed, "write %s", w->name);
	return 0;
}

static int put_magics(struct image_writer *w, enum image_type type, uint32_t version,
                      struct err *err)
{
	const struct image_kind *kind = image_kind(type);
	uint32_t magics[2] = {IMAGE_MAGIC_COMMON, kind->magic};

	if (kind->frame == FRAME_SERVICE)
		magics[0] = IMAGE_MAGIC_SERVICE;
	else if (kind->frame == FRAME_SINGLE || version == 1)
		return writer_raw(w, &magics[1], sizeof(magics[1]), err);
	return writer_raw(w, magics, sizeof(magics), err);
}

int writer_open(int dirfd, const char *name, enum image_type type, uint32_t version,
                struct image_writer **ret, struct err *err)
{
	cleanup_close int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	struct image_writer *w;
	int r;

	if (fd < 0)
		return err_set(err, errno, "create %s", name);
	w = calloc(1, sizeof(*w));
	if (!w)
		return err_set(err, ENOMEM, "%s", name);
	w->name = strdup(name);
	w->file = fdopen(fd, "w");
	if (w->file)
		fd = -1;
	r = w->name && w->file ? put_magics(w, type, version, err)
	                       : err_set(err, ENOMEM, "%s", name);
	if (r < 0) {
		writer_close(w, NULL);
		return r;
	}
	*ret = w;
	return 0;
}

int writer_record(struct image_writer *w, const void *data, size_t len, struct err *err)
{
	uint32_t word = (uint32_t)len;
	int r;

	if (len > UINT32_MAX)
		return err_set(err, EINVAL, "%s: a record of %zu bytes", w->name, len);
	r = writer_raw(w, &word, sizeof(word), err);
	return r < 0 ? r : writer_raw(w, data, len, err);
}

int writer_message(struct image_writer *w, const struct ProtobufCMessage *msg, struct err *err)
{
	size_t len = protobuf_c_message_get_packed_size(msg);
	cleanup_free uint8_t *data = malloc(len + 1);

	if (!data)
		return err_set(err, ENOMEM, "%s: a record of %zu bytes", w->name, len);
	protobuf_c_message_pack(msg, data);
	return writer_record(w, data, len, err);
}

int writer_close(struct image_writer *w, struct err *err)
{
	int r = 0;

	if (!w)
		return 0;
	if (w->file && fclose(w->file) != 0 && !w->failed)
		w->failed = errno;
	if (w->failed)
		r = err_set(err, w->failed, "write %s", w->name);
	free(w->name);
	free(w);
	return r;
}

/* A file of one message. */
static int write_single(int dirfd, const char *name, enum image_type type,
                        const ProtobufCMessage *msg, struct err *err)
{
	struct image_writer *w;
	int r, closed;

	r = writer_open(dirfd, name, type, 2, &w, err);
	if (r < 0)
		return r;
	r = writer_message(w, msg, err);
	closed = writer_close(w, r < 0 ? NULL : err);
	return r < 0 ? r : closed;
}

int writer_inventory(int dirfd, const struct inventory *inv, struct err *err)
{
	InventoryEntry msg = INVENTORY_ENTRY__INIT;
	char run_id[sizeof(inv->run_id)];

	msg.img_version = inv->img_version;
	msg.has_fdinfo_per_id = true;
	msg.fdinfo_per_id = true;
	msg.has_ns_per_id = true;
	msg.ns_per_id = true;
	msg.has_dump_uptime = inv->has_dump_uptime;
	msg.dump_uptime = inv->dump_uptime;
	msg.has_pre_dump_mode = inv->pre_dump_mode != 0;
	msg.pre_dump_mode = inv->pre_dump_mode;
	msg.has_tcp_close = inv->tcp_close;
	msg.tcp_close = inv->tcp_close;
	memcpy(run_id, inv->run_id, sizeof(run_id));
	if (run_id[0])
		msg.dump_criu_run_id = run_id;
	return write_single(dirfd, "inventory.img", IMAGE_INVENTORY, &msg.base, err);
}

int writer_pstree(int dirfd, const struct pstree_task *tasks, size_t nr, struct err *err)
{
	struct image_writer *w;
	int r, closed;

	r = writer_open(dirfd, "pstree.img", IMAGE_PSTREE, 2, &w, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < nr && r == 0; i++) {
		PstreeEntry msg = PSTREE_ENTRY__INIT;

		msg.pid = tasks[i].pid;
		msg.ppid = tasks[i].ppid;
		msg.pgid = tasks[i].pgid;
		msg.sid = tasks[i].sid;
		msg.n_threads = tasks[i].nr_threads;
		msg.threads = tasks[i].threads;
		r = writer_message(w, &msg.base, err);
	}
	closed = writer_close(w, r < 0 ? NULL : err);
	return r < 0 ? r : closed;
}

static void fill_vma(VmaEntry *entry, const struct vma *vma)
{
	vma_entry__init(entry);
	entry->start = vma->start;
	entry->end = vma->end;
	entry->pgoff = vma->pgoff;
	entry->shmid = vma->shmid;
	entry->prot = vma->prot;
	entry->flags = vma->flags;
	entry->status = vma->status;
	entry->fd = -1;
	entry->has_madv = vma->madv != 0;
	entry->madv = vma->madv;
}

static void fill_mm(MmEntry *msg, const struct mm *mm)
{
	msg->mm_start_code = mm->start_code;
	msg->mm_end_code = mm->end_code;
	msg->mm_start_data = mm->start_data;
	msg->mm_end_data = mm->end_data;
	msg->mm_start_stack = mm->start_stack;
	msg->mm_start_brk = mm->start_brk;
	msg->mm_brk = mm->brk;
	msg->mm_arg_start = mm->arg_start;
	msg->mm_arg_end = mm->arg_end;
	msg->mm_env_start = mm->env_start;
	msg->mm_env_end = mm->env_end;
	msg->exe_file_id = mm->exe_file_id;
	msg->n_mm_saved_auxv = mm->nr_auxv;
	msg->mm_saved_auxv = mm->auxv;
	msg->has_dumpable = mm->dumpable >= 0;
	msg->dumpable = mm->dumpable;
	msg->has_thp_disabled = mm->thp_disabled;
	msg->thp_disabled = mm->thp_disabled;
}

int writer_mm(int dirfd, uint32_t pid, const struct mm *mm, struct err *err)
{
	size_t nr = mm->nr + mm->nr_guards;
	cleanup_free VmaEntry *entries = calloc(nr + 1, sizeof(*entries));
	cleanup_free VmaEntry **list = calloc(nr + 1, sizeof(*list));
	MmEntry msg = MM_ENTRY__INIT;
	char name[32];

	snprintf(name, sizeof(name), "mm-%u.img", pid);
	if (!entries || !list)
		return err_set(err, ENOMEM, "%s: %zu VMAs", name, nr);
	for (size_t i = 0; i < nr; i++) {
		fill_vma(&entries[i], i < mm->nr ? &mm->vmas[i] : &mm->guards[i - mm->nr]);
		list[i] = &entries[i];
	}
	fill_mm(&msg, mm);
	msg.n_vmas = nr;
	msg.vmas = list;
	return write_single(dirfd, name, IMAGE_MM, &msg.base, err);
}
