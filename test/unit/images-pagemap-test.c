/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pagemap-PID.img: all shapes that an entry has had, and every entry that is refused. */
#include "criu-lazy/base/page.h"
#include "images/image.h"
#include "images/pagemap.h"
#include "images/pagemap.pb-c.h"
#include "images/writer.h"
#include "test/unit/images-dir.h"

#define END (UINT64_C(1) << 56)

/* An entry with everything that 4.2 writes; tests change it. */
static PagemapEntry entry(uint64_t vaddr, uint64_t nr_pages, uint32_t flags)
{
	PagemapEntry msg = PAGEMAP_ENTRY__INIT;

	msg.vaddr = vaddr;
	msg.has_flags = true;
	msg.flags = flags;
	msg.has_nr_pages = true;
	msg.nr_pages = nr_pages;
	return msg;
}

static int write_and_read(struct dir *dir, const PagemapEntry *msgs, size_t nr, struct pagemap *map,
                          struct err *err)
{
	PagemapHead head = PAGEMAP_HEAD__INIT;
	struct image_writer *w;

	head.pages_id = 7;
	assert_int_equal(writer_open(dir->fd, "pagemap-5.img", IMAGE_PAGEMAP, 2, &w, err), 0);
	assert_int_equal(writer_message(w, &head.base, err), 0);
	for (size_t i = 0; i < nr; i++)
		assert_int_equal(writer_message(w, &msgs[i].base, err), 0);
	assert_int_equal(writer_close(w, err), 0);
	return pagemap_read(dir->fd, 5, map, err);
}

static int record_and_read(struct dir *dir, const char *bytes, size_t len, struct pagemap *map,
                           struct err *err)
{
	struct image_writer *w;

	assert_int_equal(writer_open(dir->fd, "pagemap-5.img", IMAGE_PAGEMAP, 2, &w, err), 0);
	assert_int_equal(writer_record(w, "\x08\x07", 2, err), 0);
	assert_int_equal(writer_record(w, bytes, len, err), 0);
	assert_int_equal(writer_close(w, err), 0);
	return pagemap_read(dir->fd, 5, map, err);
}

static void check_run(const struct pagemap *map, size_t i, uint64_t vaddr, uint64_t nr_pages,
                      uint32_t flags, uint64_t offset)
{
	assert_true(i < map->nr);
	assert_int_equal(map->runs[i].vaddr, vaddr);
	assert_int_equal(map->runs[i].nr_pages, nr_pages);
	assert_int_equal(map->runs[i].flags, flags);
	assert_int_equal(map->runs[i].offset, offset);
}

/* The bytes of a real image of CRIU 4.2. */
static void real_bytes(void **state)
{
	struct dir *dir = *state;
	struct pagemap map = {0};
	struct err err = {0};

	PUT(dir->fd, "pagemap-5.img", 0x19, 0x43, 0x56, 0x54, 0x25, 0x40, 0x08, 0x56, 2, 0, 0, 0, 8,
	    7, 0x0e, 0, 0, 0, 0x08, 0x80, 0xe0, 0xa8, 0xf2, 0xb3, 0xac, 0x15, 0x10, 0x00, 0x20,
	    0x04, 0x28, 0x01, 0x0e, 0, 0, 0, 0x08, 0x80, 0xe0, 0xc9, 0x8e, 0xdc, 0xf9, 0x1f, 0x10,
	    0x00, 0x20, 0x06, 0x28, 0x02);
	assert_int_equal(pagemap_read(dir->fd, 5, &map, &err), 0);
	assert_int_equal(map.pages_id, 7);
	assert_int_equal(map.nr, 2);
	check_run(&map, 0, 0x55633e4a3000, 1, PE_PRESENT, 0);
	check_run(&map, 1, 0x7fcdc1d27000, 2, PE_PRESENT | PE_LAZY, 4096);
	pagemap_release(&map);
}

static void shapes(void **state)
{
	struct dir *dir = *state;
	PagemapEntry msgs[8];
	struct pagemap map = {0};
	struct err err = {0};

	/* new count; old count; both: the new one counts */
	msgs[0] = entry(0x1000, 2, PE_PRESENT);
	msgs[1] = entry(0x10000, 0, PE_PRESENT | PE_LAZY);
	msgs[1].has_nr_pages = false;
	msgs[1].compat_nr_pages = 3;
	msgs[2] = entry(0x20000, 4, PE_LAZY);
	msgs[2].compat_nr_pages = 9;
	/* flags: absent; absent and in_parent; both; in_parent false */
	msgs[3] = entry(0x30000, 5, 0);
	msgs[3].has_flags = false;
	msgs[4] = entry(0x40000, 6, 0);
	msgs[4].has_flags = false;
	msgs[4].has_in_parent = msgs[4].in_parent = true;
	msgs[5] = entry(0x50000, 7, PE_LAZY);
	msgs[5].has_in_parent = msgs[5].in_parent = true;
	msgs[6] = entry(0x60000, 8, 0);
	msgs[6].has_flags = false;
	msgs[6].has_in_parent = true;
	/* the same address space up to its last page */
	msgs[7] = entry(END - 4096, 1, PE_PRESENT);
	assert_int_equal(write_and_read(dir, msgs, 8, &map, &err), 0);
	assert_int_equal(map.pages_id, 7);
	assert_int_equal(map.nr, 8);
	check_run(&map, 0, 0x1000, 2, PE_PRESENT, 0);
	check_run(&map, 1, 0x10000, 3, PE_PRESENT | PE_LAZY, 2 * 4096);
	check_run(&map, 2, 0x20000, 4, PE_LAZY, 0);
	check_run(&map, 3, 0x30000, 5, PE_PRESENT, 5 * 4096);
	check_run(&map, 4, 0x40000, 6, PE_PARENT, 0);
	check_run(&map, 5, 0x50000, 7, PE_LAZY | PE_PARENT, 0);
	check_run(&map, 6, 0x60000, 8, PE_PRESENT, 10 * 4096);
	check_run(&map, 7, END - 4096, 1, PE_PRESENT, 18 * 4096);
	assert_int_equal(map.pages_bytes, 19 * 4096);
	pagemap_release(&map);
	pagemap_release(&map);
}

static void refused(void **state)
{
	struct dir *dir = *state;
	PagemapEntry zero_old = entry(0x2000, 0, PE_PRESENT);
	struct pagemap map = {0};
	struct err err = {0};
	const struct {
		PagemapEntry msg;
		const char *said;
	} cases[] = {
		{entry(0x2001, 1, PE_PRESENT), "address 0x2001 is not page aligned"},
		{entry(0x2000, 0, PE_PRESENT), "0 pages at 0x2000"},
		{entry(0x1000, 1, PE_PRESENT), "address 0x1000 is below the end of the record "
	                                       "before (0x2000)"},
		{entry(0, 1, PE_PRESENT), "address 0x0 is below the end"},
		{entry(END, 1, PE_PRESENT), "1 pages at 0x100000000000000 are not in user memory"},
		{entry(END - 4096, 2, PE_PRESENT), "are not in user memory"},
		{entry(0x2000, UINT64_MAX, PE_PRESENT), "18446744073709551615 pages at 0x2000 are"},
		{entry(0x2000, UINT64_C(1) << 52, PE_PRESENT), "are not in user memory"},
		{entry(UINT64_MAX - 4095, 1, PE_PRESENT), "are not in user memory"},
		{entry(0x2000, 1, 8 | PE_PRESENT), "unknown flag 0x8 (a newer image feature)"},
		{entry(0x2000, 1, 0), "flags 0 do not say"},
		{entry(0x2000, 1, PE_PRESENT | PE_PARENT), "flags 0x5 say both"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		PagemapEntry msgs[] = {entry(0x1000, 1, PE_PRESENT), cases[i].msg};

		assert_failed(write_and_read(dir, msgs, 2, &map, &err), EPROTO, &err,
		              cases[i].said);
		assert_non_null(strstr(err.text, "pagemap-5.img: record 3: "));
		assert_null(map.runs);
	}
	/* a reader of CRIU 4.1 sees this in images of 4.2: 0 pages everywhere */
	zero_old.compat_nr_pages = 3; /* field 5 counts although it says 0 */
	assert_failed(write_and_read(dir, &zero_old, 1, &map, &err), EPROTO, &err,
	              "pagemap-5.img: record 2: 0 pages at 0x2000");
	zero_old.compat_nr_pages = 0;
	zero_old.has_nr_pages = false;
	assert_failed(write_and_read(dir, &zero_old, 1, &map, &err), EPROTO, &err,
	              "pagemap-5.img: record 2: 0 pages at 0x2000");
}

static void newer_features(void **state)
{
	struct dir *dir = *state;
	struct pagemap map = {0};
	struct err err = {0};
	struct image_writer *w;

	assert_failed(record_and_read(dir, "\x08\x00\x10\x01\x20\x04\x30\x05", 8, &map, &err),
	              EPROTO, &err,
	              "pagemap-5.img: record 2: unknown field 6 (a newer image feature such as "
	              "compression)");
	assert_failed(record_and_read(dir, "\x08\x00\x10\x01\x92\x03\x01x", 8, &map, &err), EPROTO,
	              &err, "record 2: unknown field 50");
	assert_int_equal(writer_open(dir->fd, "pagemap-5.img", IMAGE_PAGEMAP, 2, &w, &err), 0);
	assert_int_equal(writer_record(w, "\x08\x07\x10\x01", 4, &err), 0);
	assert_int_equal(writer_close(w, &err), 0);
	assert_failed(pagemap_read(dir->fd, 5, &map, &err), EPROTO, &err,
	              "pagemap-5.img: record 1: unknown field 2");
}

static void broken_files(void **state)
{
	struct dir *dir = *state;
	struct pagemap map = {0};
	struct err err = {0};
	struct image_writer *w;

	assert_failed(pagemap_read(dir->fd, 5, &map, &err), ENOENT, &err, "pagemap-5.img: No such");
	assert_int_equal(writer_open(dir->fd, "pagemap-5.img", IMAGE_PAGEMAP, 2, &w, &err), 0);
	assert_int_equal(writer_close(w, &err), 0);
	assert_failed(pagemap_read(dir->fd, 5, &map, &err), EPROTO, &err,
	              "pagemap-5.img: has no head");
	assert_failed(record_and_read(dir, "\x08\x00", 2, &map, &err), EPROTO, &err,
	              "record 2: at offset 14: not a valid pagemap_entry of 2 bytes");
	assert_failed(record_and_read(dir, "\x08\x80", 2, &map, &err), EPROTO, &err,
	              "not a valid pagemap_entry");
	assert_failed(record_and_read(dir, "", 0, &map, &err), EPROTO, &err,
	              "not a valid pagemap_entry of 0 bytes");
}

/* No entry at all is fine: a process all of whose pages are untouched. */
static void no_runs(void **state)
{
	struct dir *dir = *state;
	struct pagemap map = {0};
	struct err err = {0};

	assert_int_equal(write_and_read(dir, NULL, 0, &map, &err), 0);
	assert_int_equal(map.nr, 0);
	assert_int_equal(map.pages_bytes, 0);
	assert_null(pagemap_find(&map, 0x1000));
	assert_int_equal(pagemap_lower(&map, 0), 0);
	pagemap_release(&map);
}

static void shmem(void **state)
{
	struct dir *dir = *state;
	PagemapEntry msg = entry(0, 3, PE_PRESENT);
	struct pagemap map = {0};
	struct err err = {0};

	assert_int_equal(write_and_read(dir, &msg, 1, &map, &err), 0);
	pagemap_release(&map);
	assert_int_equal(renameat(dir->fd, "pagemap-5.img", dir->fd, "pagemap-shmem-9.img"), 0);
	assert_int_equal(pagemap_read_file(dir->fd, "pagemap-shmem-9.img", &map, &err), 0);
	check_run(&map, 0, 0, 3, PE_PRESENT, 0);
	pagemap_release(&map);
}

static void find(void **state)
{
	struct dir *dir = *state;
	PagemapEntry msgs[] = {entry(0x1000, 2, PE_PRESENT), entry(0x3000, 1, PE_LAZY),
	                       entry(0x7000, 1, PE_PRESENT)};
	struct pagemap map = {0};
	struct err err = {0};

	assert_int_equal(write_and_read(dir, msgs, 3, &map, &err), 0);
	for (uint64_t addr = 0; addr < 0xa000; addr += 0x400) {
		const struct pagemap_run *wanted = NULL;
		size_t lower = 3;

		for (size_t i = 3; i-- > 0;) {
			uint64_t end = msgs[i].vaddr + msgs[i].nr_pages * 4096;

			if (addr >= msgs[i].vaddr && addr < end)
				wanted = &map.runs[i];
			if (end > addr)
				lower = i;
		}
		assert_ptr_equal(pagemap_find(&map, addr), wanted);
		assert_int_equal(pagemap_lower(&map, addr), lower);
	}
	pagemap_release(&map);
}

/* 100,000 runs, and one run longer than 32 bits of bytes and of pages. */
static void large(void **state)
{
	enum { NR = 100000 };
	struct dir *dir = *state;
	PagemapEntry *msgs = calloc(NR + 1, sizeof(*msgs));
	struct pagemap map = {0};
	struct err err = {0};
	const uint64_t base = UINT64_C(0x10000000000), huge = UINT64_C(5) << 32;

	for (uint64_t i = 0; i < NR; i++)
		msgs[i] = entry(base + i * 0x2000, 1, i % 2 ? PE_PRESENT : PE_PRESENT | PE_LAZY);
	msgs[NR] = entry(base * 2, huge, PE_PRESENT);
	assert_int_equal(write_and_read(dir, msgs, NR + 1, &map, &err), 0);
	assert_int_equal(map.nr, NR + 1);
	for (uint64_t i = 0; i < NR; i++) {
		assert_ptr_equal(pagemap_find(&map, base + i * 0x2000), &map.runs[i]);
		assert_null(pagemap_find(&map, base + i * 0x2000 + 0x1000));
		assert_int_equal(map.runs[i].offset, i * 4096);
	}
	assert_ptr_equal(pagemap_find(&map, base * 2 + (huge << 12) - 1), &map.runs[NR]);
	assert_int_equal(map.pages_bytes, (NR + huge) << 12);
	pagemap_release(&map);
	free(msgs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(real_bytes),     TEST(shapes),       TEST(refused),
		TEST(newer_features), TEST(broken_files), TEST(no_runs),
		TEST(shmem),          TEST(find),         TEST(large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
