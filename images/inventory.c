/* SPDX-License-Identifier: GPL-2.0-or-later */
/* inventory.c - decode and judge inventory.img. */
#include "images/inventory.h"

#include "criu-lazy/base/err.h"
#include "images/image.h"
#include "images/inventory.pb-c.h"

#include <errno.h>
#include <stdio.h>

static void list_unknown(const ProtobufCMessage *base, struct inventory *inv)
{
	inv->nr_unknown = base->n_unknown_fields;
	inv->has_unknown = inv->nr_unknown > 0;
	for (size_t i = 0; i < inv->nr_unknown && i < INVENTORY_MAX_UNKNOWN; i++)
		inv->unknown[i] = base->unknown_fields[i].tag;
}

static int judge(const struct image *img, const InventoryEntry *msg, struct inventory *ret,
                 struct err *err)
{
	struct inventory inv = {.img_version = msg->img_version};

	if (inv.img_version != 1 && inv.img_version != 2)
		return image_bad(img, err, "image version %u, only 1 and 2 are known",
		                 inv.img_version);
	if (!msg->has_fdinfo_per_id || !msg->fdinfo_per_id)
		return image_bad(img, err, "these images are too old (fdinfo_per_id is not set)");
	if (msg->has_root_cg_set && msg->root_cg_set == 0)
		return image_bad(img, err, "root_cg_set is 0");
	inv.ns_per_id = msg->has_ns_per_id && msg->ns_per_id;
	inv.has_lsm = msg->has_lsmtype;
	inv.lsm = msg->has_lsmtype ? (uint32_t)msg->lsmtype : 0;
	inv.has_dump_uptime = msg->has_dump_uptime;
	inv.dump_uptime = msg->has_dump_uptime ? msg->dump_uptime : 0;
	inv.pre_dump_mode = msg->has_pre_dump_mode ? msg->pre_dump_mode : 0;
	inv.tcp_close = msg->has_tcp_close && msg->tcp_close;
	inv.network_lock = msg->has_network_lock_method ? msg->network_lock_method : 0;
	inv.allow_uprobes = msg->has_allow_uprobes && msg->allow_uprobes;
	if (msg->dump_criu_run_id)
		snprintf(inv.run_id, sizeof(inv.run_id), "%s", msg->dump_criu_run_id);
	list_unknown(&msg->base, &inv);
	*ret = inv;
	return 0;
}

static int read_only_record(struct image *img, struct inventory *ret, struct err *err)
{
	ProtobufCMessage *msg;
	const void *data;
	size_t len;
	int r;

	r = image_next_message(img, &inventory_entry__descriptor, &msg, err);
	if (r < 0)
		return r;
	if (r == 0)
		return image_bad(img, err, "has no record");
	r = judge(img, (const InventoryEntry *)msg, ret, err);
	protobuf_c_message_free_unpacked(msg, NULL);
	if (r < 0)
		return r;
	r = image_next(img, &data, &len, err);
	return r > 0 ? image_bad(img, err, "unexpected, an inventory has one") : r;
}

int inventory_read_file(int dirfd, const char *name, struct inventory *ret, struct err *err)
{
	struct inventory inv;
	struct image img;
	int r;

	r = image_open(dirfd, name, IMAGE_INVENTORY, &img, err);
	if (r < 0)
		return r;
	r = read_only_record(&img, &inv, err);
	image_close(&img);
	if (r == 0)
		*ret = inv;
	return r;
}

int inventory_read(int dirfd, struct inventory *ret, struct err *err)
{
	return inventory_read_file(dirfd, "inventory.img", ret, err);
}

int inventory_refuse_newer(const struct inventory *inventory, struct err *err)
{
	if (!inventory->has_unknown)
		return 0;
	return err_set(err, EPROTO,
	               "inventory.img: field %u is of a newer CRIU and may mean that pages "
	               "are compressed or encrypted (--trust-newer-images goes on)",
	               inventory->unknown[0]);
}
