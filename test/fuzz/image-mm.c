/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "images/mm.h"
#include "test/fuzz/image-file.h"

static void check(const struct mm *mm)
{
	MUST(mm->nr > 0);
	for (size_t i = 0; i < mm->nr; i++) {
		const struct vma *vma = &mm->vmas[i];

		MUST(page_aligned(vma->start) && page_aligned(vma->end));
		MUST(vma->start < vma->end);
		MUST(vma->end <= USER_ADDRESS_END || vma->status & VMA_VSYSCALL);
		MUST(i == 0 || vma[-1].end <= vma->start);
		MUST(mm_find(mm, vma->start) == vma && mm_find(mm, vma->end - 1) == vma);
		MUST(mm_find(mm, vma->end) != vma);
		MUST(!(vma->status & VMA_GUARD));
		(void)vma_lazy_eligible(vma);
	}
	for (size_t i = 0; i < mm->nr_guards; i++)
		MUST(mm->guards[i].start < mm->guards[i].end);
	for (size_t i = 0; i < mm->nr_auxv; i++)
		(void)*(volatile uint64_t *)&mm->auxv[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mm mm = {0};
	struct err err = {0};
	int dir = fuzz_file("mm-5.img", data, size);

	if (mm_read(dir, 5, &mm, &err) < 0)
		MUST(err.code && err.text[0] && !mm.vmas);
	else
		check(&mm);
	mm_release(&mm);
	unlinkat(dir, "mm-5.img", 0);
	return 0;
}
