/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mm.c - decode and judge mm-PID.img. */
#include "images/mm.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "images/image.h"
#include "images/mm.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/*
 * One VMA of its own right.  The vsyscall page is the kernel's: it lies in the upper half of the
 * address space in every x86-64 process.
 */
static int check_vma(const struct image *img, size_t nr, const struct vma *vma, struct err *err)
{
	uint64_t limit = vma->status & VMA_VSYSCALL ? UINT64_MAX : USER_ADDRESS_END;

	if (!page_aligned(vma->start) || !page_aligned(vma->end))
		return image_bad(img, err, "VMA %zu: 0x%llx-0x%llx is not page aligned", nr,
		                 (unsigned long long)vma->start, (unsigned long long)vma->end);
	if (vma->start >= vma->end)
		return image_bad(img, err, "VMA %zu: 0x%llx-0x%llx is empty", nr,
		                 (unsigned long long)vma->start, (unsigned long long)vma->end);
	if (vma->end > limit)
		return image_bad(img, err, "VMA %zu: 0x%llx-0x%llx is not a user address", nr,
		                 (unsigned long long)vma->start, (unsigned long long)vma->end);
	return 0;
}

static struct vma vma_from_entry(const VmaEntry *entry)
{
	return (struct vma){
		.start = entry->start,
		.end = entry->end,
		.pgoff = entry->pgoff,
		.shmid = entry->shmid,
		.prot = entry->prot,
		.flags = entry->flags,
		.status = entry->status,
		.madv = entry->has_madv ? entry->madv : 0,
	};
}

/* VMAs from the front of one array, pseudo-VMAs into another: both as long as the list at most. */
static int take_vmas(const struct image *img, const MmEntry *msg, struct mm *mm, struct err *err)
{
	size_t nr_guards = 0;

	if (msg->n_vmas == 0)
		return image_bad(img, err, "has no VMAs (an image of a CRIU too old to be read)");
	for (size_t i = 0; i < msg->n_vmas; i++)
		nr_guards += (msg->vmas[i]->status & VMA_GUARD) != 0;
	mm->vmas = calloc(msg->n_vmas - nr_guards + 1, sizeof(*mm->vmas));
	mm->guards = calloc(nr_guards + 1, sizeof(*mm->guards));
	if (!mm->vmas || !mm->guards)
		return err_set(err, ENOMEM, "%s: %zu VMAs", img->name, msg->n_vmas);
	for (size_t i = 0; i < msg->n_vmas; i++) {
		struct vma vma = vma_from_entry(msg->vmas[i]);
		int r = check_vma(img, i + 1, &vma, err);

		if (r < 0)
			return r;
		if (vma.status & VMA_GUARD) {
			mm->guards[mm->nr_guards++] = vma;
			continue;
		}
		if (mm->nr && vma.start < mm->vmas[mm->nr - 1].end)
			return image_bad(img, err,
			                 "VMA %zu: 0x%llx-0x%llx begins before the VMA in front of "
			                 "it ends (0x%llx)",
			                 i + 1, (unsigned long long)vma.start,
			                 (unsigned long long)vma.end,
			                 (unsigned long long)mm->vmas[mm->nr - 1].end);
		mm->vmas[mm->nr++] = vma;
	}
	if (mm->nr == 0)
		return image_bad(img, err, "has no VMAs but guards");
	return 0;
}

static int take_auxv(const struct image *img, const MmEntry *msg, struct mm *mm, struct err *err)
{
	if (msg->n_mm_saved_auxv == 0)
		return 0;
	mm->auxv = calloc(msg->n_mm_saved_auxv, sizeof(*mm->auxv));
	if (!mm->auxv)
		return err_set(err, ENOMEM, "%s: auxv", img->name);
	memcpy(mm->auxv, msg->mm_saved_auxv, msg->n_mm_saved_auxv * sizeof(*mm->auxv));
	mm->nr_auxv = msg->n_mm_saved_auxv;
	return 0;
}

static int take_entry(const struct image *img, const MmEntry *msg, struct mm *mm, struct err *err)
{
	int r;

	mm->start_code = msg->mm_start_code;
	mm->end_code = msg->mm_end_code;
	mm->start_data = msg->mm_start_data;
	mm->end_data = msg->mm_end_data;
	mm->start_stack = msg->mm_start_stack;
	mm->start_brk = msg->mm_start_brk;
	mm->brk = msg->mm_brk;
	mm->arg_start = msg->mm_arg_start;
	mm->arg_end = msg->mm_arg_end;
	mm->env_start = msg->mm_env_start;
	mm->env_end = msg->mm_env_end;
	mm->exe_file_id = msg->exe_file_id;
	mm->dumpable = msg->has_dumpable ? msg->dumpable : -1;
	mm->thp_disabled = msg->has_thp_disabled && msg->thp_disabled;
	r = take_vmas(img, msg, mm, err);
	return r < 0 ? r : take_auxv(img, msg, mm, err);
}

static int read_only_record(struct image *img, struct mm *mm, struct err *err)
{
	ProtobufCMessage *msg;
	const void *data;
	size_t len;
	int r;

	r = image_next_message(img, &mm_entry__descriptor, &msg, err);
	if (r < 0)
		return r;
	if (r == 0)
		return image_bad(img, err, "has no record");
	r = take_entry(img, (const MmEntry *)msg, mm, err);
	protobuf_c_message_free_unpacked(msg, NULL);
	if (r < 0)
		return r;
	r = image_next(img, &data, &len, err);
	return r > 0 ? image_bad(img, err, "unexpected, an mm image has one") : r;
}

int mm_read_file(int dirfd, const char *name, struct mm *ret, struct err *err)
{
	struct mm mm = {0};
	struct image img;
	int r;

	r = image_open(dirfd, name, IMAGE_MM, &img, err);
	if (r < 0)
		return r;
	r = read_only_record(&img, &mm, err);
	image_close(&img);
	if (r < 0)
		mm_release(&mm);
	else
		*ret = mm;
	return r;
}

int mm_read(int dirfd, uint32_t pid, struct mm *ret, struct err *err)
{
	char name[32];

	snprintf(name, sizeof(name), "mm-%u.img", pid);
	return mm_read_file(dirfd, name, ret, err);
}

void mm_release(struct mm *mm)
{
	free(mm->vmas);
	free(mm->guards);
	free(mm->auxv);
	*mm = (struct mm){0};
}

bool vma_lazy_eligible(const struct vma *vma)
{
	const uint32_t needed = MAP_ANONYMOUS | MAP_PRIVATE;
	const uint32_t excluded = MAP_LOCKED | MAP_HUGETLB;
	const uint32_t kernels_own = VMA_VDSO | VMA_VVAR | VMA_VSYSCALL;

	return (vma->flags & needed) == needed && !(vma->flags & excluded) &&
	       !(vma->status & kernels_own);
}

size_t mm_lower(const struct mm *mm, uint64_t addr)
{
	size_t low = 0, high = mm->nr;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (mm->vmas[mid].end <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

const struct vma *mm_find(const struct mm *mm, uint64_t addr)
{
	size_t i = mm_lower(mm, addr);

	return i < mm->nr && mm->vmas[i].start <= addr ? &mm->vmas[i] : NULL;
}
