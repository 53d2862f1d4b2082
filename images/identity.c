/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "images/identity.h"

#include "criu-lazy/base/err.h"
#include "images/image.h"
#include "images/pstree.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* What stands for the length of a file that is not there: a zombie has no pagemap. */
#define ABSENT UINT64_MAX

/* Name with its 0, length, content: no two lists of files give the same bytes. */
static int add_file(XXH3_state_t *state, int dirfd, const char *name, enum image_type type,
                    struct err *err)
{
	struct err scratch = {0};
	struct image img;
	uint64_t length = ABSENT;
	int r = image_open(dirfd, name, type, &img, &scratch);

	if (r < 0 && !(r == -ENOENT && type == IMAGE_PAGEMAP)) {
		if (err)
			*err = scratch;
		return r;
	}
	if (r == 0)
		length = img.size;
	XXH3_64bits_update(state, name, strlen(name) + 1);
	XXH3_64bits_update(state, &length, sizeof(length));
	if (r == 0) {
		XXH3_64bits_update(state, img.data, img.size);
		image_close(&img);
	}
	return 0;
}

int images_identity(int dirfd, uint64_t *ret, struct err *err)
{
	struct pstree tree = {0};
	XXH3_state_t state;
	uint64_t sum;
	size_t i;
	int r = pstree_read(dirfd, &tree, err);

	if (r < 0)
		return r;
	XXH3_64bits_reset(&state);
	r = add_file(&state, dirfd, "inventory.img", IMAGE_INVENTORY, err);
	for (i = 0; r == 0 && i < tree.nr; i++) {
		char name[32];

		snprintf(name, sizeof(name), "pagemap-%" PRIu32 ".img", tree.tasks[i].pid);
		r = add_file(&state, dirfd, name, IMAGE_PAGEMAP, err);
	}
	pstree_release(&tree);
	if (r < 0)
		return r;
	sum = XXH3_64bits_digest(&state);
	*ret = sum ? sum : 1;
	return 0;
}
