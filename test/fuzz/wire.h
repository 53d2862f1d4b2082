/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire.h - what the fuzz targets of the wire protocols share: the input as bytes that arrive, taken
 * in slices that are allocated to the byte, so that reading beyond one is noticed.
 */
#ifndef TEST_FUZZ_WIRE_H
#define TEST_FUZZ_WIRE_H

#include "criu-lazy/base/err.h"
#include "test/fuzz/must.h"

#include <errno.h>
#include <string.h>

struct wire {
	const uint8_t *data;
	size_t left;
	uint8_t *slice; /* the last one */
};

/* The next len bytes, until the next call; NULL: fewer have come. */
static inline const uint8_t *wire_take(struct wire *wire, size_t len)
{
	free(wire->slice);
	wire->slice = NULL;
	if (wire->left < len)
		return NULL;
	wire->slice = malloc(len ? len : 1);
	MUST(wire->slice);
	if (len)
		memcpy(wire->slice, wire->data, len);
	wire->data += len;
	wire->left -= len;
	return wire->slice;
}

static inline void wire_skip(struct wire *wire, uint64_t len)
{
	if (len > wire->left)
		len = wire->left;
	wire->data += len;
	wire->left -= len;
}

/* A verdict is 0 or more, or -EPROTO with one line that says why. */
static inline void must_be_verdict(int r, const struct err *err)
{
	if (r >= 0)
		MUST(!err->code && !err->text[0]);
	else
		MUST(r == -EPROTO && err->code == EPROTO && err->text[0] &&
		     !strchr(err->text, '\n'));
}

#endif
