/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/base/err.h"
#include "images/inventory.h"
#include "test/fuzz/image-file.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct inventory inv;
	struct err err = {0};
	int dir = fuzz_file("inventory.img", data, size);

	if (inventory_read(dir, &inv, &err) < 0) {
		MUST(err.code && err.text[0]);
	} else {
		MUST(inv.img_version == 1 || inv.img_version == 2);
		MUST(memchr(inv.run_id, 0, sizeof(inv.run_id)));
		MUST(inv.has_unknown == (inv.nr_unknown > 0));
	}
	unlinkat(dir, "inventory.img", 0);
	return 0;
}
