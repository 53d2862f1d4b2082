/* SPDX-License-Identifier: GPL-2.0-or-later */
/* wire-lanes.h - the bytes of wire.h as messages of the lanes. */
#ifndef TEST_FUZZ_WIRE_LANES_H
#define TEST_FUZZ_WIRE_LANES_H

#include "proto/lanes.h"
#include "test/fuzz/wire.h"

#include <stdbool.h>

struct wire_lanes {
	struct lanes_header h;
	uint8_t header[LANES_HEADER]; /* as it came; repaired: with a checksum that is right */
	size_t tail; /* bytes of it */
};

/* The tail of the next message; NULL: there is none.  Content that follows DATA is not taken. */
static inline const uint8_t *wire_lanes(struct wire *wire, bool repair, struct wire_lanes *ret)
{
	const uint8_t *bytes = wire_take(wire, LANES_HEADER);
	struct err err = {0};
	int tail;

	if (!bytes)
		return NULL;
	memcpy(ret->header, bytes, LANES_HEADER);
	lanes_decode(ret->header, &ret->h);
	tail = lanes_tail(&ret->h, &err);
	must_be_verdict(tail, &err);
	if (tail < 0)
		return NULL;
	MUST(tail <= LANES_MAX_TAIL);
	ret->tail = (size_t)tail;
	bytes = wire_take(wire, ret->tail);
	if (bytes && repair)
		lanes_encode(&ret->h, bytes, ret->tail, ret->header);
	return bytes;
}

#endif
