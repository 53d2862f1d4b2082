/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The frame of image files: magic numbers of both versions, records, and every way to be cut. */
#include "images/image.h"
#include "images/writer.h"
#include "test/unit/images-dir.h"

#include <sys/stat.h>
#include <sys/syscall.h>

#define COMMON  0x19, 0x43, 0x56, 0x54
#define SERVICE 0x40, 0x59, 0x10, 0x55
#define PAGEMAP 0x25, 0x40, 0x08, 0x56
#define INVENT  0x16, 0x31, 0x31, 0x58
#define STATS   0x06, 0x33, 0x09, 0x57

static void two_records(void **state)
{
	struct dir *dir = *state;
	struct err err = {0};
	struct image img;
	const void *data;
	size_t len;

	PUT(dir->fd, "a.img", COMMON, PAGEMAP, 2, 0, 0, 0, 8, 7, 0, 0, 0, 0, 1, 0, 0, 0, 0xff);
	assert_int_equal(image_open(dir->fd, "a.img", IMAGE_PAGEMAP, &img, &err), 0);
	assert_int_equal(img.version, 2);
	assert_int_equal(image_next(&img, &data, &len, &err), 1);
	assert_int_equal(len, 2);
	assert_memory_equal(data, "\x08\x07", 2);
	assert_int_equal(image_next(&img, &data, &len, &err), 1);
	assert_int_equal(len, 0);
	assert_int_equal(image_next(&img, &data, &len, &err), 1);
	assert_int_equal(len, 1);
	assert_int_equal(*(const uint8_t *)data, 0xff);
	assert_int_equal(img.record, 3);
	assert_int_equal(image_next(&img, &data, &len, &err), 0);
	assert_int_equal(image_next(&img, &data, &len, &err), 0);
	image_close(&img);
	image_close(&img);
}

static void version_1(void **state)
{
	struct dir *dir = *state;
	struct err err = {0};
	struct image img;
	const void *data;
	size_t len;

	PUT(dir->fd, "a.img", PAGEMAP, 2, 0, 0, 0, 8, 7);
	assert_int_equal(image_open(dir->fd, "a.img", IMAGE_PAGEMAP, &img, &err), 0);
	assert_int_equal(img.version, 1);
	assert_int_equal(image_next(&img, &data, &len, &err), 1);
	assert_int_equal(len, 2);
	assert_int_equal(image_next(&img, &data, &len, &err), 0);
	image_close(&img);
}

static void frames_of_other_kinds(void **state)
{
	struct dir *dir = *state;
	struct err err = {0};
	struct image img;

	PUT(dir->fd, "inv", INVENT);
	assert_int_equal(image_open(dir->fd, "inv", IMAGE_INVENTORY, &img, &err), 0);
	image_close(&img);
	PUT(dir->fd, "inv", COMMON, INVENT);
	assert_failed(image_open(dir->fd, "inv", IMAGE_INVENTORY, &img, &err), EPROTO, &err,
	              "inv: an image of type inventory cannot start with 0x54564319");
	PUT(dir->fd, "stats", SERVICE, STATS);
	assert_int_equal(image_open(dir->fd, "stats", IMAGE_STATS, &img, &err), 0);
	image_close(&img);
	PUT(dir->fd, "stats", COMMON, STATS);
	assert_failed(image_open(dir->fd, "stats", IMAGE_STATS, &img, &err), EPROTO, &err,
	              "cannot start with 0x54564319");
	PUT(dir->fd, "stats", STATS);
	assert_failed(image_open(dir->fd, "stats", IMAGE_STATS, &img, &err), EPROTO, &err,
	              "cannot start with 0x57093306");
	PUT(dir->fd, "p", SERVICE, PAGEMAP);
	assert_failed(image_open(dir->fd, "p", IMAGE_PAGEMAP, &img, &err), EPROTO, &err,
	              "cannot start with 0x55105940");
}

static void wrong_magics(void **state)
{
	struct dir *dir = *state;
	struct err err = {0};
	struct image img;

	PUT(dir->fd, "a.img", COMMON, INVENT);
	assert_failed(image_open(dir->fd, "a.img", IMAGE_PAGEMAP, &img, &err), EPROTO, &err,
	              "a.img: not a pagemap image (magic 0x58313116, not 0x56084025)");
	PUT(dir->fd, "a.img", 1, 2, 3, 4, 5, 6, 7, 8);
	assert_failed(image_open(dir->fd, "a.img", IMAGE_PAGEMAP, &img, &err), EPROTO, &err,
	              "a.img: not an image: starts with 0x04030201");
	PUT(dir->fd, "a.img", COMMON, 1, 2, 3);
	assert_failed(image_open(dir->fd, "a.img", IMAGE_PAGEMAP, &img, &err), EPROTO, &err,
	              "a.img: 7 bytes, too short for an image");
	PUT(dir->fd, "a.img", 0x19, 0x43, 0x56);
	assert_failed(image_open(dir->fd, "a.img", IMAGE_PAGEMAP, &img, &err), EPROTO, &err,
	              "a.img: 3 bytes, too short for an image");
	put_file(dir->fd, "a.img", "", 0);
	assert_failed(image_open(dir->fd, "a.img", IMAGE_PAGEMAP, &img, &err), EPROTO, &err,
	              "a.img: 0 bytes");
}

static void cut_records(void **state)
{
	struct dir *dir = *state;
	struct err err = {0};
	struct image img;
	const void *data;
	size_t len;

	PUT(dir->fd, "a.img", COMMON, PAGEMAP, 0, 0, 0, 0, 5, 0, 0);
	assert_int_equal(image_open(dir->fd, "a.img", IMAGE_PAGEMAP, &img, &err), 0);
	assert_int_equal(image_next(&img, &data, &len, &err), 1);
	assert_failed(image_next(&img, &data, &len, &err), EPROTO, &err,
	              "a.img: record 2: the file ends at offset 15 in the record's length");
	image_close(&img);

	PUT(dir->fd, "a.img", COMMON, PAGEMAP, 3, 0, 0, 0, 1, 2);
	assert_int_equal(image_open(dir->fd, "a.img", IMAGE_PAGEMAP, &img, &err), 0);
	assert_failed(image_next(&img, &data, &len, &err), EPROTO, &err,
	              "a.img: record 1: at offset 8: 3 bytes wanted, the file has 2");
	image_close(&img);

	PUT(dir->fd, "a.img", COMMON, PAGEMAP, 0xff, 0xff, 0xff, 0xff);
	assert_int_equal(image_open(dir->fd, "a.img", IMAGE_PAGEMAP, &img, &err), 0);
	assert_failed(image_next(&img, &data, &len, &err), EPROTO, &err,
	              "4294967295 bytes wanted, the file has 0");
	image_close(&img);
}

static void not_a_file(void **state)
{
	struct dir *dir = *state;
	struct err err = {0};
	struct image img;

	assert_failed(image_open(dir->fd, "none.img", IMAGE_MM, &img, &err), ENOENT, &err,
	              "none.img: No such file");
	assert_int_equal(mkfifoat(dir->fd, "fifo.img", 0600), 0);
	assert_failed(image_open(dir->fd, "fifo.img", IMAGE_MM, &img, &err), EINVAL, &err,
	              "fifo.img: not a regular file");
	assert_int_equal(mkdirat(dir->fd, "dir.img", 0700), 0);
	assert_failed(image_open(dir->fd, "dir.img", IMAGE_MM, &img, &err), EINVAL, &err,
	              "dir.img: not a regular file");
	assert_int_equal(image_open(dir->fd, "none.img", IMAGE_MM, &img, NULL), -ENOENT);
}

static void any_type(void **state)
{
	struct dir *dir = *state;
	struct err err = {0};
	struct image_writer *w;
	struct image img;

	for (int i = 0; i < IMAGE_NR_TYPES; i++) {
		assert_int_equal(writer_open(dir->fd, "x", (enum image_type)i, 2, &w, &err), 0);
		assert_int_equal(writer_close(w, &err), 0);
		assert_int_equal(image_open_any(dir->fd, "x", &img, &err), 0);
		assert_int_equal(img.type, i);
		image_close(&img);
		assert_int_equal(image_open(dir->fd, "x", (enum image_type)i, &img, &err), 0);
		image_close(&img);
	}
	PUT(dir->fd, "x", 1, 2, 3, 4);
	assert_failed(image_open_any(dir->fd, "x", &img, &err), EPROTO, &err,
	              "x: not an image: starts with 0x04030201");
}

/* The content is what it was at image_open(), whatever happens to the file. */
static void truncated_afterwards(void **state)
{
	struct dir *dir = *state;
	struct err err = {0};
	struct image_writer *w;
	struct image img;
	const void *data;
	size_t len, nr = 0;
	uint8_t block[4096];

	assert_int_equal(writer_open(dir->fd, "big", IMAGE_CORE, 1, &w, &err), 0);
	for (int i = 0; i < 2000; i++) {
		memset(block, i, sizeof(block));
		assert_int_equal(writer_record(w, block, sizeof(block), &err), 0);
	}
	assert_int_equal(writer_close(w, &err), 0);
	assert_int_equal(image_open(dir->fd, "big", IMAGE_CORE, &img, &err), 0);
	put_file(dir->fd, "big", "", 0);
	while (image_next(&img, &data, &len, &err) == 1) {
		memset(block, (int)nr, sizeof(block));
		assert_int_equal(len, sizeof(block));
		assert_memory_equal(data, block, sizeof(block));
		nr++;
	}
	assert_int_equal(nr, 2000);
	image_close(&img);
}

/* Stands in for the C library's fstat(), and tells that files are shorter than they are. */
static off_t stat_says = -1;

int fstat(int fd, struct stat *st)
{
	int r = (int)syscall(SYS_fstat, fd, st);

	if (r == 0 && stat_says >= 0)
		st->st_size = stat_says;
	return r;
}

/* A file that grows after stat, or one of /proc: it is read to its end. */
static void longer_than_stat_says(void **state)
{
	struct dir *dir = *state;
	struct err err = {0};
	struct image_writer *w;
	struct image img;
	uint8_t block[4096] = {0};

	assert_int_equal(writer_open(dir->fd, "big", IMAGE_CORE, 2, &w, &err), 0);
	for (int i = 0; i < 50; i++)
		assert_int_equal(writer_raw(w, block, sizeof(block), &err), 0);
	assert_int_equal(writer_close(w, &err), 0);
	for (stat_says = 0; stat_says < 20000; stat_says += 1999) {
		assert_int_equal(image_open(dir->fd, "big", IMAGE_CORE, &img, &err), 0);
		assert_int_equal(img.size, 50 * 4096 + 8);
		image_close(&img);
	}
	stat_says = INT64_C(1) << 20; /* or shorter */
	assert_int_equal(image_open(dir->fd, "big", IMAGE_CORE, &img, &err), 0);
	assert_int_equal(img.size, 50 * 4096 + 8);
	image_close(&img);
	stat_says = -1;
}

static void full_disk(void **state)
{
	struct err err = {0};
	struct image_writer *w;
	uint8_t block[4096] = {0};
	int r = 0;

	(void)state;
	assert_int_equal(writer_open(AT_FDCWD, "/dev/full", IMAGE_CORE, 2, &w, &err), 0);
	for (int i = 0; i < 4 && r == 0; i++)
		r = writer_record(w, block, sizeof(block), &err);
	assert_failed(r, ENOSPC, &err, "write /dev/full: No space left");
	assert_failed(writer_close(w, &err), ENOSPC, &err, "write /dev/full: No space left");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(two_records),
		TEST(version_1),
		TEST(frames_of_other_kinds),
		TEST(wrong_magics),
		TEST(cut_records),
		TEST(not_a_file),
		TEST(any_type),
		TEST(truncated_afterwards),
		TEST(longer_than_stat_says),
		TEST(full_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
