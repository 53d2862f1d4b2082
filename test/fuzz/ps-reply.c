/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A server that says anything at all, up to the gates of a helper.  The input:
 *
 *	u8 how		bit 0: lanes; bit 1: PS_24; bit 2: put checksums right
 *	u8 asked	pages asked for, less one; all else is asked for in one place
 *	bytes		what the server answers
 *
 * What must hold: an answer that passes is to what was asked for, and no longer; where DATA says
 * its pages are, they are.
 */
#include "criu-lazy/base/page.h"
#include "proto/ps.h"
#include "test/fuzz/wire-lanes.h"

#define PLACE UINT64_C(0x7f0000001000)

enum { PID = 4711, TAG = 99 };

static void replies(struct wire *wire, enum ps_layout layout, uint64_t asked)
{
	const struct ps_header get = {
		.cmd = PS_GET, .nr_pages = asked, .vaddr = PLACE, .dst_id = PID};
	const uint8_t *bytes;

	while ((bytes = wire_take(wire, ps_header_size(layout)))) {
		struct ps_header h;
		struct err err = {0};
		int r;

		ps_decode(layout, bytes, &h);
		r = ps_check_reply(&h, &get, &err);
		must_be_verdict(r, &err);
		if (r < 0)
			return;
		MUST(h.cmd == 0x40006 || h.cmd == 0x60006);
		MUST(h.nr_pages > 0 && h.nr_pages <= asked);
		MUST(h.vaddr == PLACE && h.dst_id == PID);
		wire_skip(wire, h.nr_pages * PAGE_SIZE);
	}
}

static void must_be_data(const uint8_t *tail, size_t len, const struct lanes_header *h,
                         struct wire *wire)
{
	struct lanes_data data;
	struct err err = {0};
	uint64_t i, sum;
	int r = lanes_decode_data(tail, len, h->nr_pages, &data, &err);

	must_be_verdict(r, &err);
	if (r < 0)
		return;
	MUST(data.encoding <= LANES_ENCODED_LZ4);
	MUST(data.length > 0 && data.length <= h->nr_pages * PAGE_SIZE);
	MUST(data.length <= LANES_MAX_BODY);
	MUST(data.encoding != LANES_RAW || data.length == h->nr_pages * PAGE_SIZE);
	for (i = 0; i < h->nr_pages; i++) {
		sum = lanes_sum(&data, i);
		MUST(!memcmp(&sum, tail + 8 + 8 * i, 8));
	}
	wire_skip(wire, data.length);
}

static void answers(struct wire *wire, uint64_t asked, bool repair)
{
	const struct lanes_header fetch = {
		.cmd = LANES_FETCH, .tag = TAG, .nr_pages = asked, .vaddr = PLACE, .pid = PID};
	struct wire_lanes m;
	const uint8_t *bytes;

	while ((bytes = wire_lanes(wire, repair, &m))) {
		struct lanes_hello hello;
		struct err answer_err = {0};
		int r;

		if (lanes_verify(m.header, bytes, m.tail, NULL) < 0) {
			MUST(!repair);
			return;
		}
		if (m.h.cmd == LANES_HELLO && lanes_decode_hello(bytes, &hello, NULL) == 0) {
			uint8_t again[LANES_HELLO_TAIL];

			lanes_encode_hello(&hello, again);
			MUST(!memcmp(bytes, again, sizeof(again)));
		}
		r = lanes_check_answer(&m.h, &fetch, &answer_err);
		must_be_verdict(r, &answer_err);
		if (r < 0)
			continue;
		MUST(m.h.tag == TAG && m.h.pid == PID && m.h.vaddr == PLACE);
		if (m.h.cmd == LANES_DATA) {
			MUST(m.h.nr_pages > 0 && m.h.nr_pages <= asked);
			must_be_data(bytes, m.tail, &m.h, wire);
		} else {
			MUST(m.h.cmd == LANES_MISS && m.h.nr_pages > 0 && m.h.nr_pages < 4096);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire wire;

	if (size < 2)
		return 0;
	wire = (struct wire){.data = data + 2, .left = size - 2};
	if (data[0] & 1)
		answers(&wire, 1 + (uint64_t)data[1], data[0] & 4);
	else
		replies(&wire, data[0] & 2 ? PS_24 : PS_32, 1 + (uint64_t)data[1]);
	free(wire.slice);
	return 0;
}
