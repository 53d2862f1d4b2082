/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mm-PID.img: VMAs as written, every VMA that cannot be, look-up, and the eligibility rule. */
#include "images/image.h"
#include "images/mm.h"
#include "images/writer.h"
#include "test/unit/images-dir.h"

#include <sys/mman.h>
#include <time.h>

#define END (UINT64_C(1) << 56)

static int write_and_read(struct dir *dir, struct vma *vmas, size_t nr, struct mm *mm,
                          struct err *err)
{
	struct mm in = {.vmas = vmas, .nr = nr};

	assert_int_equal(writer_mm(dir->fd, 5, &in, err), 0);
	return mm_read(dir->fd, 5, mm, err);
}

static void written_and_read(void **state)
{
	struct dir *dir = *state;
	struct vma vmas[] = {
		{.start = 0x400000,
	         .end = 0x401000,
	         .pgoff = 0x3000,
	         .shmid = 7,
	         .prot = 5,
	         .flags = MAP_PRIVATE,
	         .status = VMA_REGULAR | VMA_FILE_PRIVATE,
	         .madv = 0x10004},
		{.start = 0x401000, .end = 0x900000, .prot = 3, .status = 0x201, .flags = 0x22},
		{.start = END - 4096, .end = END, .status = 0x201, .flags = 0x22},
		{.start = 0xffffffffff600000, .end = 0xffffffffff601000, .status = VMA_VSYSCALL},
	};
	struct vma guard = {.start = 0x500000, .end = 0x501000, .status = VMA_GUARD};
	uint64_t auxv[] = {6, 4096, 33, 0x7ffff7fc1000};
	struct mm in = {.vmas = vmas,
	                .nr = 4,
	                .guards = &guard,
	                .nr_guards = 1,
	                .start_code = 1,
	                .end_code = 2,
	                .start_data = 3,
	                .end_data = 4,
	                .start_stack = 5,
	                .start_brk = 6,
	                .brk = 7,
	                .arg_start = 8,
	                .arg_end = 9,
	                .env_start = 10,
	                .env_end = 11,
	                .auxv = auxv,
	                .nr_auxv = 4,
	                .exe_file_id = 12,
	                .dumpable = 2,
	                .thp_disabled = true};
	struct mm mm = {0};
	struct err err = {0};

	assert_int_equal(writer_mm(dir->fd, 5, &in, &err), 0);
	assert_int_equal(mm_read(dir->fd, 5, &mm, &err), 0);
	assert_int_equal(mm.nr, 4);
	for (size_t i = 0; i < mm.nr; i++) {
		assert_int_equal(mm.vmas[i].start, vmas[i].start);
		assert_int_equal(mm.vmas[i].end, vmas[i].end);
		assert_int_equal(mm.vmas[i].pgoff, vmas[i].pgoff);
		assert_int_equal(mm.vmas[i].shmid, vmas[i].shmid);
		assert_int_equal(mm.vmas[i].prot, vmas[i].prot);
		assert_int_equal(mm.vmas[i].flags, vmas[i].flags);
		assert_int_equal(mm.vmas[i].status, vmas[i].status);
		assert_int_equal(mm.vmas[i].madv, vmas[i].madv);
	}
	assert_int_equal(mm.nr_guards, 1);
	assert_int_equal(mm.guards[0].start, 0x500000);
	assert_int_equal(mm.start_code + mm.end_code * 10 + mm.start_data * 100 +
	                         mm.end_data * 1000 + mm.start_stack * 10000,
	                 54321);
	assert_int_equal(mm.start_brk, 6);
	assert_int_equal(mm.brk, 7);
	assert_int_equal(mm.arg_start, 8);
	assert_int_equal(mm.arg_end, 9);
	assert_int_equal(mm.env_start, 10);
	assert_int_equal(mm.env_end, 11);
	assert_int_equal(mm.nr_auxv, 4);
	assert_int_equal(mm.auxv[3], 0x7ffff7fc1000);
	assert_int_equal(mm.exe_file_id, 12);
	assert_int_equal(mm.dumpable, 2);
	assert_true(mm.thp_disabled);
	mm_release(&mm);
	mm_release(&mm);
}

static void find(void **state)
{
	struct dir *dir = *state;
	struct vma vmas[] = {{.start = 0x1000, .end = 0x3000},
	                     {.start = 0x3000, .end = 0x4000},
	                     {.start = 0x6000, .end = 0x7000}};
	struct mm mm = {0};
	struct err err = {0};

	assert_int_equal(write_and_read(dir, vmas, 3, &mm, &err), 0);
	for (uint64_t addr = 0; addr < 0x9000; addr += 0x7ff) {
		const struct vma *wanted = NULL;
		size_t lower = 3;

		for (size_t i = 3; i-- > 0;) {
			if (addr >= vmas[i].start && addr < vmas[i].end)
				wanted = &mm.vmas[i];
			if (vmas[i].end > addr)
				lower = i;
		}
		assert_ptr_equal(mm_find(&mm, addr), wanted);
		assert_int_equal(mm_lower(&mm, addr), lower);
	}
	assert_ptr_equal(mm_find(&mm, 0x2fff), &mm.vmas[0]);
	assert_ptr_equal(mm_find(&mm, 0x3000), &mm.vmas[1]);
	assert_null(mm_find(&mm, UINT64_MAX));
	mm_release(&mm);
}

static void impossible_vmas(void **state)
{
	struct dir *dir = *state;
	struct mm mm = {0};
	struct err err = {0};
	static const struct {
		struct vma vmas[2];
		const char *said;
	} cases[] = {
		{{{.start = 0x1001, .end = 0x3000}}, "VMA 1: 0x1001-0x3000 is not page aligned"},
		{{{.start = 0x1000, .end = 0x3001}}, "VMA 1: 0x1000-0x3001 is not page aligned"},
		{{{.start = 0x1000, .end = 0x1000}}, "VMA 1: 0x1000-0x1000 is empty"},
		{{{.start = 0x2000, .end = 0x1000}}, "VMA 1: 0x2000-0x1000 is empty"},
		{{{.start = END - 4096, .end = END + 4096}}, "is not a user address"},
		{{{.start = UINT64_MAX - 8191, .end = UINT64_MAX - 4095}}, "is not a user address"},
		{{{.start = 0x1000, .end = 0x3000}, {.start = 0x2000, .end = 0x4000}},
	         "VMA 2: 0x2000-0x4000 begins before the VMA in front of it ends (0x3000)"},
		{{{.start = 0x5000, .end = 0x6000}, {.start = 0x1000, .end = 0x2000}},
	         "VMA 2: 0x1000-0x2000 begins before"},
		{{{.start = 0x1000, .end = 0x3000}, {.start = 0x1000, .end = 0x3000}}, "VMA 2:"},
		{{{.start = 0x1000, .end = 0x3000},
	          {.start = 0x1000, .end = 0x1fff, .status = VMA_GUARD}},
	         "VMA 2: 0x1000-0x1fff is not page aligned"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vma vmas[2];

		memcpy(vmas, cases[i].vmas, sizeof(vmas));
		assert_failed(write_and_read(dir, vmas, vmas[1].end ? 2 : 1, &mm, &err), EPROTO,
		              &err, cases[i].said);
		assert_non_null(strstr(err.text, "mm-5.img: record 1: "));
		assert_null(mm.vmas);
	}
}

static void missing_parts(void **state)
{
	struct dir *dir = *state;
	struct vma guard = {.start = 0x1000, .end = 0x2000, .status = VMA_GUARD};
	struct image_writer *w;
	struct mm mm = {0};
	struct err err = {0};

	assert_failed(mm_read(dir->fd, 5, &mm, &err), ENOENT, &err, "mm-5.img: No such file");
	assert_failed(write_and_read(dir, NULL, 0, &mm, &err), EPROTO, &err,
	              "mm-5.img: record 1: has no VMAs");
	assert_failed(write_and_read(dir, &guard, 1, &mm, &err), EPROTO, &err,
	              "mm-5.img: record 1: has no VMAs but guards");
	assert_int_equal(writer_open(dir->fd, "mm-5.img", IMAGE_MM, 2, &w, &err), 0);
	assert_int_equal(writer_close(w, &err), 0);
	assert_failed(mm_read(dir->fd, 5, &mm, &err), EPROTO, &err, "mm-5.img: has no record");
	assert_int_equal(writer_open(dir->fd, "mm-5.img", IMAGE_MM, 2, &w, &err), 0);
	assert_int_equal(writer_record(w, "", 0, &err), 0);
	assert_int_equal(writer_close(w, &err), 0);
	assert_failed(mm_read(dir->fd, 5, &mm, &err), EPROTO, &err, "not a valid mm_entry");
}

static void second_record(void **state)
{
	struct dir *dir = *state;
	struct vma vma = {.start = 0x1000, .end = 0x2000};
	struct mm mm = {0};
	struct err err = {0};
	int fd;

	assert_int_equal(write_and_read(dir, &vma, 1, &mm, &err), 0);
	mm_release(&mm);
	fd = openat(dir->fd, "mm-5.img", O_WRONLY | O_APPEND);
	assert_int_equal(write(fd, "\0\0\0\0", 4), 4);
	close(fd);
	assert_failed(mm_read(dir->fd, 5, &mm, &err), EPROTO, &err, "mm-5.img: record 2: unexp");
}

static void eligibility(void **state)
{
	const uint32_t anon = MAP_PRIVATE | MAP_ANONYMOUS;
	static const struct {
		uint32_t flags, status;
		bool lazy;
	} cases[] = {
		{anon, 0x201, true},
		{anon | MAP_GROWSDOWN, 0x201, true},
		{anon | MAP_NORESERVE, 0x221, true},
		{anon, 0x201 | VMA_SHSTK, true},
		{anon | MAP_LOCKED, 0x201, false},
		{anon | MAP_HUGETLB, 0x201, false},
		{MAP_PRIVATE, 0x41, false},
		{MAP_SHARED | MAP_ANONYMOUS, 0x101, false},
		{MAP_ANONYMOUS | 8, 0x201, false}, /* MAP_DROPPABLE */
		{anon, 0x209, false},
		{anon, 0x1201, false},
		{anon, 0x204, false},
		{MAP_PRIVATE, VMA_AIORING, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vma vma = {.flags = cases[i].flags, .status = cases[i].status};

		assert_int_equal(vma_lazy_eligible(&vma), cases[i].lazy);
	}
}

/* As many VMAs as the kernel allows by default, read in linear time: well below a second. */
static void many(void **state)
{
	enum { NR = 65530 };
	struct dir *dir = *state;
	struct vma *vmas = calloc(NR, sizeof(*vmas));
	struct timespec before, after;
	struct mm mm = {0};
	struct err err = {0};

	for (uint64_t i = 0; i < NR; i++)
		vmas[i] = (struct vma){.start = 0x10000 + i * 0x2000, .end = 0x11000 + i * 0x2000};
	clock_gettime(CLOCK_MONOTONIC, &before);
	assert_int_equal(write_and_read(dir, vmas, NR, &mm, &err), 0);
	clock_gettime(CLOCK_MONOTONIC, &after);
	print_message("65530 VMAs written and read in %lld us\n",
	              (long long)((after.tv_sec - before.tv_sec) * 1000000 +
	                          (after.tv_nsec - before.tv_nsec) / 1000));
	assert_int_equal(mm.nr, NR);
	for (uint64_t i = 0; i < NR; i++) {
		assert_ptr_equal(mm_find(&mm, vmas[i].start + 0xfff), &mm.vmas[i]);
		assert_null(mm_find(&mm, vmas[i].end));
	}
	mm_release(&mm);
	free(vmas);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(written_and_read),
		TEST(find),
		TEST(impossible_vmas),
		TEST(missing_parts),
		TEST(second_record),
		TEST(eligibility),
		TEST(many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
