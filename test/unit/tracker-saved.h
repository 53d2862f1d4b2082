/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tracker-saved.h - trackers as bytes and back, for the tests of track/save.h. */
#ifndef TEST_UNIT_TRACKER_SAVED_H
#define TEST_UNIT_TRACKER_SAVED_H

#include "criu-lazy/base/err.h"
#include "criu-lazy/track/save.h"
#include "criu-lazy/track/tracker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static inline uint64_t *save(const struct tracker *t, size_t *ret_size)
{
	size_t size = tracker_save_size(t);
	uint64_t *bytes = malloc(size);

	assert_non_null(bytes);
	assert_int_equal(size % 8, 0);
	tracker_save(t, bytes);
	*ret_size = size;
	return bytes;
}

static inline struct tracker *load(const void *bytes, size_t size)
{
	struct tracker *t = NULL;
	struct err err = {0};

	if (tracker_load(bytes, size, &t, &err) < 0) {
		print_error("%s\n", err.text);
		fail();
	}
	return t;
}

/* And what was loaded saves the same bytes. */
static inline struct tracker *copy_of(const struct tracker *t)
{
	size_t size, again_size;
	uint64_t *bytes = save(t, &size), *again;
	struct tracker *copy = load(bytes, size);

	again = save(copy, &again_size);
	assert_int_equal(size, again_size);
	assert_memory_equal(bytes, again, size);
	free(bytes);
	free(again);
	return copy;
}

#endif
