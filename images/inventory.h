/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inventory.h - inventory.img: which version of the format an image directory is in.
 *
 * Read it first: it tells whether this is an image directory at all and whether we can read it.
 *
 * A newer CRIU adds fields here now and then, mostly harmless ones.  They are not refused but
 * listed, so that a caller can warn; what changes the content of memory is noticed where it
 * happens, in the pagemap (see pagemap.h), and refused there.
 */
#ifndef CRIU_LAZY_IMAGES_INVENTORY_H
#define CRIU_LAZY_IMAGES_INVENTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

enum { INVENTORY_MAX_UNKNOWN = 16 };

/* Plain data, no release needed. */
struct inventory {
	uint32_t img_version; /* 1 or 2 */
	bool ns_per_id;
	bool has_lsm;
	uint32_t lsm; /* 0 none, 1 SELinux, 2 AppArmor, others: newer */
	bool has_dump_uptime;
	uint64_t dump_uptime; /* microseconds since boot when dumped; only with memory tracking */
	uint32_t pre_dump_mode; /* 0: not a pre-dump, 1: splice, 2: read */
	bool tcp_close;
	uint32_t network_lock; /* 0 iptables, 1 nftables, 2 skipped */
	bool allow_uprobes;
	char run_id[64]; /* UUID of the dump, "" when absent; cut when longer */

	/* Fields that this version does not know: their number and the first of their tags. */
	bool has_unknown;
	size_t nr_unknown; /* may be more than the array holds */
	uint32_t unknown[INVENTORY_MAX_UNKNOWN];
};

/*
 * Read dirfd/inventory.img.  Errors: none there (-ENOENT), more or less than one record, a version
 * other than 1 and 2, images so old that descriptors are not per id.
 */
int inventory_read(int dirfd, struct inventory *ret, struct err *err);

/* The same from a file of another name. */
int inventory_read_file(int dirfd, const char *name, struct inventory *ret, struct err *err);

/*
 * Has it fields of a newer CRIU?  They may mean that pages are compressed or encrypted, so who
 * hands out pages goes on only when the user says so.  -EPROTO with the story, or 0.
 */
int inventory_refuse_newer(const struct inventory *inventory, struct err *err);

#endif
