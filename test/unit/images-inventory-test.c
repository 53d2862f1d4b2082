/* SPDX-License-Identifier: GPL-2.0-or-later */
/* inventory.img: what is refused, what is only reported. */
#include "images/inventory.h"
#include "images/writer.h"
#include "test/unit/images-dir.h"

#define INVENT 0x16, 0x31, 0x31, 0x58

static void written_and_read(void **state)
{
	struct dir *dir = *state;
	struct inventory in = {.img_version = 2,
	                       .has_dump_uptime = true,
	                       .dump_uptime = UINT64_C(123456789012),
	                       .pre_dump_mode = 2,
	                       .tcp_close = true,
	                       .run_id = "0123-4567"};
	struct inventory out;
	struct err err = {0};

	assert_int_equal(writer_inventory(dir->fd, &in, &err), 0);
	assert_int_equal(inventory_read(dir->fd, &out, &err), 0);
	assert_int_equal(out.img_version, 2);
	assert_true(out.has_dump_uptime);
	assert_int_equal(out.dump_uptime, UINT64_C(123456789012));
	assert_int_equal(out.pre_dump_mode, 2);
	assert_true(out.tcp_close);
	assert_false(out.allow_uprobes);
	assert_false(out.has_unknown);
	assert_string_equal(out.run_id, "0123-4567");
}

static void versions(void **state)
{
	struct dir *dir = *state;
	struct inventory out = {.img_version = 77};
	struct err err = {0};

	PUT(dir->fd, "inventory.img", INVENT, 4, 0, 0, 0, 8, 1, 16, 1);
	assert_int_equal(inventory_read(dir->fd, &out, &err), 0);
	assert_int_equal(out.img_version, 1);
	PUT(dir->fd, "inventory.img", INVENT, 4, 0, 0, 0, 8, 3, 16, 1);
	assert_failed(inventory_read(dir->fd, &out, &err), EPROTO, &err,
	              "inventory.img: record 1: image version 3, only 1 and 2 are known");
	PUT(dir->fd, "inventory.img", INVENT, 4, 0, 0, 0, 8, 0, 16, 1);
	assert_failed(inventory_read(dir->fd, &out, &err), EPROTO, &err, "image version 0");
	assert_int_equal(out.img_version, 1);
}

static void too_old(void **state)
{
	struct dir *dir = *state;
	struct inventory out;
	struct err err = {0};

	PUT(dir->fd, "inventory.img", INVENT, 2, 0, 0, 0, 8, 2);
	assert_failed(inventory_read(dir->fd, &out, &err), EPROTO, &err, "too old");
	PUT(dir->fd, "inventory.img", INVENT, 4, 0, 0, 0, 8, 2, 16, 0);
	assert_failed(inventory_read(dir->fd, &out, &err), EPROTO, &err, "too old");
	PUT(dir->fd, "inventory.img", INVENT, 6, 0, 0, 0, 8, 2, 16, 1, 40, 0);
	assert_failed(inventory_read(dir->fd, &out, &err), EPROTO, &err, "root_cg_set is 0");
}

static void number_of_records(void **state)
{
	struct dir *dir = *state;
	struct inventory out;
	struct err err = {0};

	assert_failed(inventory_read(dir->fd, &out, &err), ENOENT, &err, "inventory.img: No such");
	PUT(dir->fd, "inventory.img", INVENT);
	assert_failed(inventory_read(dir->fd, &out, &err), EPROTO, &err,
	              "inventory.img: has no record");
	PUT(dir->fd, "inventory.img", INVENT, 4, 0, 0, 0, 8, 2, 16, 1, 0, 0, 0, 0);
	assert_failed(inventory_read(dir->fd, &out, &err), EPROTO, &err,
	              "inventory.img: record 2: unexpected");
	PUT(dir->fd, "inventory.img", INVENT, 2, 0, 0, 0, 16, 1);
	assert_failed(inventory_read(dir->fd, &out, &err), EPROTO, &err,
	              "record 1: at offset 4: not a valid inventory_entry of 2 bytes");
}

static void unknown_fields(void **state)
{
	struct dir *dir = *state;
	struct inventory out;
	struct err err = {0};
	uint8_t many[8 + 4 + 2 * 40] = {INVENT, 4 + 2 * 40, 0, 0, 0, 8, 2, 16, 1};

	PUT(dir->fd, "inventory.img", INVENT, 9, 0, 0, 0, 8, 2, 16, 1, 120, 1, 0x82, 1, 0);
	assert_int_equal(inventory_read(dir->fd, &out, &err), 0);
	assert_true(out.has_unknown);
	assert_int_equal(out.nr_unknown, 2);
	assert_int_equal(out.unknown[0], 15);
	assert_int_equal(out.unknown[1], 16);

	for (int i = 0; i < 40; i++) {
		many[12 + 2 * i] = 15 << 3;
		many[13 + 2 * i] = 1;
	}
	put_file(dir->fd, "inventory.img", many, sizeof(many));
	assert_int_equal(inventory_read(dir->fd, &out, &err), 0);
	assert_int_equal(out.nr_unknown, 40);
	assert_int_equal(out.unknown[INVENTORY_MAX_UNKNOWN - 1], 15);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(written_and_read),  TEST(versions),       TEST(too_old),
		TEST(number_of_records), TEST(unknown_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
