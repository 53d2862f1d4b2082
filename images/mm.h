/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mm.h - mm-PID.img: the address space of one process when it was dumped.
 *
 *	struct mm mm = {0};
 *	r = mm_read(dirfd, pid, &mm, err);
 *	const struct vma *vma = mm_find(&mm, addr);
 *	if (vma && vma_lazy_eligible(vma))
 *		...
 *	mm_release(&mm);
 *
 * After mm_read() the VMAs are known to be page aligned, not empty, in rising order, not
 * overlapping, and, but for the kernel's vsyscall page, below USER_ADDRESS_END.  Pseudo-VMAs, which
 * describe MADV_GUARD_INSTALL ranges inside others, are in a list of their own.
 */
#ifndef CRIU_LAZY_IMAGES_MM_H
#define CRIU_LAZY_IMAGES_MM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/* Bits of vma.status. */
enum {
	VMA_REGULAR = 0x1,
	VMA_STACK = 0x2,
	VMA_VSYSCALL = 0x4,
	VMA_VDSO = 0x8,
	VMA_HEAP = 0x20,
	VMA_FILE_PRIVATE = 0x40,
	VMA_FILE_SHARED = 0x80,
	VMA_ANON_SHARED = 0x100,
	VMA_ANON_PRIVATE = 0x200,
	VMA_SYSVIPC = 0x400,
	VMA_SOCKET = 0x800,
	VMA_VVAR = 0x1000,
	VMA_AIORING = 0x2000,
	VMA_MEMFD = 0x4000,
	VMA_SHSTK = 0x8000,
	VMA_GUARD = 0x10000,
	VMA_UPROBES = 0x20000,
	VMA_EXT_PLUGIN = 0x8000000,
};

struct vma {
	uint64_t start, end; /* [start, end) */
	uint64_t pgoff; /* offset in its object, in bytes */
	uint64_t shmid; /* file id, shmem id or 0, as status says */
	uint32_t prot; /* PROT_* */
	uint32_t flags; /* MAP_* */
	uint32_t status; /* VMA_* */
	uint64_t madv; /* bit n: madvise(n) applies */
};

/* Zero-initialise; owned by the caller, mm_release() frees what is inside. */
struct mm {
	struct vma *vmas; /* sorted by start */
	size_t nr;
	struct vma *guards; /* pseudo-VMAs, in file order; only start, end, status count */
	size_t nr_guards;
	uint64_t start_code, end_code, start_data, end_data, start_stack;
	uint64_t start_brk, brk;
	uint64_t arg_start, arg_end, env_start, env_end;
	uint64_t *auxv; /* pairs of words, the last AT_NULL may be missing */
	size_t nr_auxv;
	uint32_t exe_file_id;
	int32_t dumpable; /* -1: not told */
	bool thp_disabled; /* PR_GET_THP_DISABLE */
};

/*
 * Read dirfd/mm-PID.img.  A missing file is -ENOENT; one without VMAs (CRIU before 2.0 had them
 * elsewhere) and any VMA that breaks the promises above are errors.  Linear in the number of
 * VMAs.  *ret is written only on success.
 */
int mm_read(int dirfd, uint32_t pid, struct mm *ret, struct err *err);

/* The same from a file of another name. */
int mm_read_file(int dirfd, const char *name, struct mm *ret, struct err *err);

void mm_release(struct mm *mm);

/*
 * Does criu restore --lazy-pages register this VMA with userfaultfd?  Private, anonymous, not
 * locked, not hugetlb, not one of the kernel's own.  Which *pages* are lazy only the pagemap tells.
 */
bool vma_lazy_eligible(const struct vma *vma);

/* The VMA that contains addr, or NULL.  O(log n). */
const struct vma *mm_find(const struct mm *mm, uint64_t addr);

/* Index of the first VMA that ends after addr, mm->nr if none does.  O(log n). */
size_t mm_lower(const struct mm *mm, uint64_t addr);

#endif
