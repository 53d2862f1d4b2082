/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client that says anything at all, up to the gates of a server: the layout is told from the
 * first bytes, then one request after the other is decoded and judged, by a server that serves and
 * by one that stores.  What begins like HELLO of the lanes goes through those gates.
 *
 * What must hold: what passes is what the comments of the gates say, computed here in another way;
 * what does not is refused in one line; nothing is read beyond a header.
 */
#include "criu-lazy/base/page.h"
#include "proto/ps.h"
#include "test/fuzz/wire-lanes.h"

static void must_be_in(uint64_t vaddr, uint64_t nr_pages, uint64_t end)
{
	unsigned __int128 last = (unsigned __int128)nr_pages * PAGE_SIZE + vaddr;

	MUST(nr_pages > 0 && vaddr % PAGE_SIZE == 0 && last <= end);
}

static void must_be_storing(const struct ps_header *h)
{
	uint32_t flags = h->cmd >> 16;
	struct ps_object object, again;

	MUST(ps_object(h->dst_id, &object, NULL) == 0);
	MUST(object.kind == PS_OBJECT_SHMEM || (object.id > 0 && object.id < 4194304));
	MUST(ps_object(ps_object_id(&object), &again, NULL) == 0);
	MUST(again.kind == object.kind && again.id == object.id);
	switch (h->cmd & 0xffff) {
	case PS_OPEN:
	case PS_OPEN2:
	case PS_PARENT:
		MUST(!flags && !h->nr_pages && !h->vaddr);
		return;
	case PS_ADD:
	case PS_HOLE:
		MUST(!flags);
		break;
	default:
		MUST((h->cmd & 0xffff) == PS_ADD_F && flags && flags < 8);
		MUST((flags & 5) != 5);
	}
	must_be_in(h->vaddr, h->nr_pages,
	           object.kind == PS_OBJECT_PID ? USER_ADDRESS_END : UINT64_C(1) << 63);
}

/* Judge; returns whether a server of either role would go on. */
static bool judge(const struct ps_header *h)
{
	struct err serving_err = {0}, storing_err = {0};
	int serving = ps_check_request(h, PS_SERVING, &serving_err);
	int storing = ps_check_request(h, PS_STORING, &storing_err);

	must_be_verdict(serving, &serving_err);
	must_be_verdict(storing, &storing_err);
	MUST(ps_check_request(h, PS_SERVING, NULL) == serving);
	if (serving == 0 && storing == 0) {
		MUST(h->cmd == PS_CLOSE || h->cmd == PS_FORCE_CLOSE);
		return false;
	}
	if (serving == 0) {
		MUST(h->cmd == PS_GET && h->dst_id > 0 && h->dst_id < 4194304);
		MUST(h->nr_pages <= 1 << 20);
		must_be_in(h->vaddr, h->nr_pages, USER_ADDRESS_END);
	}
	if (storing == 0)
		must_be_storing(h);
	return serving == 0 || storing == 0;
}

static void requests(struct wire *wire)
{
	enum ps_layout layout;
	const uint8_t *bytes;
	bool first = true;

	if (wire->left < PS_HEADER_MIN)
		return;
	layout = ps_detect(wire->data);
	if (layout == PS_UNKNOWN)
		return;
	while ((bytes = wire_take(wire, ps_header_size(layout)))) {
		uint8_t again[PS_HEADER_MAX];
		struct ps_header h;

		ps_decode(layout, bytes, &h);
		MUST(layout == PS_32 || (h.mark == 0 && h.nr_pages <= UINT32_MAX));
		MUST(ps_encode(layout, &h, again) == ps_header_size(layout));
		MUST(!memcmp(bytes, again, ps_header_size(layout)));
		if (!judge(&h))
			return;
		/* what a well-behaved client can send first is told right */
		if (first && layout == PS_24 && ps_command(&h) == PS_GET)
			MUST(h.vaddr > 0);
		first = false;
		if (ps_command(&h) == PS_ADD ||
		    (ps_command(&h) == PS_ADD_F && ps_flags(&h) & PS_PRESENT_FLAG))
			wire_skip(wire, h.nr_pages * PAGE_SIZE);
	}
}

/* Checksums that a fuzzer cannot guess are put right in every second input. */
static void lanes(struct wire *wire, bool repair)
{
	struct wire_lanes m;
	const uint8_t *bytes;

	while ((bytes = wire_lanes(wire, repair, &m))) {
		struct lanes_hello hello;
		struct err check_err = {0}, hello_err = {0};
		int r = lanes_verify(m.header, bytes, m.tail, &check_err);

		must_be_verdict(r, &check_err);
		MUST(r == 0 || !repair);
		if (r < 0)
			return;
		if (m.h.cmd == LANES_HELLO) {
			r = lanes_decode_hello(bytes, &hello, &hello_err);
			must_be_verdict(r, &hello_err);
			MUST(r < 0 || (hello.version == 1 && hello.kind <= 1));
		} else if (lanes_check_fetch(&m.h, NULL) == 0) {
			MUST(m.h.cmd == LANES_FETCH && m.h.nr_pages <= LANES_MAX_PAGES);
			MUST(m.h.pid > 0 && m.h.pid < 4194304);
			must_be_in(m.h.vaddr, m.h.nr_pages, USER_ADDRESS_END);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t hello[4] = {0x01, 0x5a, 0x4c, 0x00};
	struct wire wire = {.data = data, .left = size};

	if (size >= 4 && !memcmp(data, hello, 4)) {
		lanes(&wire, size & 1);
	} else {
		requests(&wire);
	}
	free(wire.slice);
	return 0;
}
