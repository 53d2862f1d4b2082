/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proto/ps.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "proto/le.h"

#include <errno.h>
#include <inttypes.h>

/* Nothing is mapped below, with the usual vm.mmap_min_addr. */
#define LOWEST_ADDRESS UINT64_C(0x10000)

size_t ps_header_size(enum ps_layout layout)
{
	return layout == PS_24 ? 24 : 32;
}

size_t ps_encode(enum ps_layout layout, const struct ps_header *h, uint8_t out[PS_HEADER_MAX])
{
	uint8_t *at = out;

	le32_put(at, h->cmd);
	if (layout == PS_24) {
		le32_put(at + 4, (uint32_t)h->nr_pages);
	} else {
		le32_put(at + 4, h->mark);
		le64_put(at + 8, h->nr_pages);
		at += 8;
	}
	le64_put(at + 8, h->vaddr);
	le64_put(at + 16, h->dst_id);
	return ps_header_size(layout);
}

void ps_decode(enum ps_layout layout, const uint8_t *in, struct ps_header *ret)
{
	*ret = (struct ps_header){.cmd = le32_get(in)};
	if (layout == PS_24) {
		ret->nr_pages = le32_get(in + 4);
	} else {
		ret->mark = le32_get(in + 4);
		ret->nr_pages = le64_get(in + 8);
		in += 8;
	}
	ret->vaddr = le64_get(in + 8);
	ret->dst_id = le64_get(in + 16);
}

/* --- which layout? ---------------------------------------------------------------------------- */

static enum ps_layout detect_get(const uint8_t *first)
{
	uint32_t at_4 = le32_get(first + 4); /* a count, or anything */
	uint64_t at_8 = le64_get(first + 8); /* an address, or a count */
	uint64_t at_16 = le64_get(first + 16); /* a pid, or an address */
	bool can_be_24 = at_4 && at_4 <= PS_MAX_GET_PAGES && page_aligned(at_8) && at_8 && at_16 &&
	                 at_16 <= PS_MAX_PID;
	bool can_be_32 = at_8 && at_8 <= PS_MAX_GET_PAGES && page_aligned(at_16) && at_16;

	/*
	 * Both fit only where a pid that is a multiple of 4096 meets an address of at most 1 MiB
	 * (PS_24), or a count that is such a multiple meets an address below 4 MiB (PS_32).  No
	 * stock client sends the latter (its counts end at 1024), so an address it is, unless it is
	 * one where nothing can be mapped.
	 */
	if (can_be_24 != can_be_32)
		return can_be_24 ? PS_24 : PS_32;
	return page_aligned(at_8) && at_8 >= LOWEST_ADDRESS ? PS_24 : PS_32;
}

enum ps_layout ps_detect(const uint8_t first[PS_HEADER_MIN])
{
	uint32_t cmd = le32_get(first);

	if (cmd == PS_CLOSE || cmd == PS_FORCE_CLOSE)
		return PS_24;
	if (cmd == PS_GET)
		return detect_get(first);
	switch (cmd & 0xffff) {
	case PS_ADD:
	case PS_HOLE:
	case PS_OPEN:
	case PS_OPEN2:
	case PS_PARENT:
	case PS_ADD_F:
		return page_aligned(le64_get(first + 16)) ? PS_32 : PS_24;
	default:
		return PS_UNKNOWN;
	}
}

/* --- objects ---------------------------------------------------------------------------------- */

/* Versions before 3.5 shifted the number of their enum's value, which moved from one to the next.
 */
static int object_kind(unsigned type)
{
	switch (type) {
	case 1:
	case 10:
	case 11:
	case 16:
	case 17:
		return PS_OBJECT_PID;
	case 2:
	case 27:
	case 28:
	case 29:
	case 32:
	case 33:
	case 34:
		return PS_OBJECT_SHMEM;
	default:
		return -1;
	}
}

int ps_object(uint64_t dst_id, struct ps_object *ret, struct err *err)
{
	uint64_t id = dst_id >> 8;
	int kind = object_kind(dst_id & 0xff);

	if (kind < 0)
		return err_set(err, EPROTO, "object 0x%" PRIx64 " has the unknown type %u", dst_id,
		               (unsigned)(dst_id & 0xff));
	if (kind == PS_OBJECT_PID && (!id || id > PS_MAX_PID))
		return err_set(err, EPROTO, "object 0x%" PRIx64 " has the impossible pid %" PRIu64,
		               dst_id, id);
	if (id > UINT32_MAX)
		return err_set(err, EPROTO, "object 0x%" PRIx64 " has the impossible id %" PRIu64,
		               dst_id, id);
	*ret = (struct ps_object){.kind = (enum ps_object_kind)kind, .id = (uint32_t)id};
	return 0;
}

uint64_t ps_object_id(const struct ps_object *object)
{
	return (uint64_t)object->id << 8 | (object->kind == PS_OBJECT_PID ? 1 : 2);
}

/* --- the gates -------------------------------------------------------------------------------- */

static const char *command_name(unsigned command)
{
	switch (command) {
	case PS_ADD:
		return "ADD";
	case PS_HOLE:
		return "HOLE";
	case PS_OPEN:
		return "OPEN";
	case PS_OPEN2:
		return "OPEN2";
	case PS_PARENT:
		return "PARENT";
	case PS_ADD_F:
		return "ADD_F";
	case PS_GET:
		return "GET";
	case PS_CLOSE:
		return "CLOSE";
	case PS_FORCE_CLOSE:
		return "FORCE_CLOSE";
	default:
		return NULL;
	}
}

static int check_range(const struct ps_header *h, uint64_t end, struct err *err)
{
	const char *name = command_name(ps_command(h));

	if (!page_aligned(h->vaddr))
		return err_set(err, EPROTO, "%s at 0x%" PRIx64 ", which is not page aligned", name,
		               h->vaddr);
	if (!h->nr_pages)
		return err_set(err, EPROTO, "%s of no pages at 0x%" PRIx64, name, h->vaddr);
	if (h->vaddr >= end || h->nr_pages > (end - h->vaddr) >> PAGE_SHIFT)
		return err_set(err, EPROTO,
		               "%s of %" PRIu64 " pages at 0x%" PRIx64
		               ", which ends above 0x%" PRIx64,
		               name, h->nr_pages, h->vaddr, end);
	return 0;
}

static int check_get(const struct ps_header *h, struct err *err)
{
	if (!h->dst_id || h->dst_id > PS_MAX_PID)
		return err_set(err, EPROTO, "GET from the impossible pid %" PRIu64, h->dst_id);
	if (h->nr_pages > PS_MAX_GET_PAGES)
		return err_set(err, EPROTO,
		               "GET of %" PRIu64 " pages, more than the limit of %" PRIu64,
		               h->nr_pages, PS_MAX_GET_PAGES);
	return check_range(h, USER_ADDRESS_END, err);
}

static int check_open(const struct ps_header *h, struct err *err)
{
	struct ps_object object;

	if (h->nr_pages || h->vaddr)
		return err_set(err, EPROTO, "%s with %" PRIu64 " pages at 0x%" PRIx64,
		               command_name(ps_command(h)), h->nr_pages, h->vaddr);
	return ps_object(h->dst_id, &object, err);
}

static int check_add(const struct ps_header *h, struct err *err)
{
	unsigned flags = ps_flags(h);
	struct ps_object object;
	int r;

	if (ps_command(h) == PS_ADD_F) {
		if (flags & ~(unsigned)(PS_PARENT_FLAG | PS_LAZY_FLAG | PS_PRESENT_FLAG))
			return err_set(err, EPROTO, "ADD_F with the unknown flags 0x%x", flags);
		if (!flags)
			return err_set(err, EPROTO, "ADD_F without flags");
		if ((flags & PS_PRESENT_FLAG) && (flags & PS_PARENT_FLAG))
			return err_set(err, EPROTO,
			               "ADD_F of pages both present and in the parent");
	}
	r = ps_object(h->dst_id, &object, err);
	if (r < 0)
		return r;
	return check_range(h, object.kind == PS_OBJECT_PID ? USER_ADDRESS_END : PS_SHMEM_END, err);
}

int ps_check_request(const struct ps_header *h, enum ps_role role, struct err *err)
{
	unsigned command = ps_command(h);
	const char *name = command_name(command);

	if (!name)
		return err_set(err, EPROTO, "unknown command 0x%08x", h->cmd);
	if (ps_flags(h) && command != PS_ADD_F)
		return err_set(err, EPROTO, "%s with the flags 0x%x", name, ps_flags(h));
	switch (command) {
	case PS_CLOSE:
	case PS_FORCE_CLOSE:
		return 0; /* its other fields mean nothing in any version, and nothing follows */
	case PS_GET:
		if (role != PS_SERVING)
			return err_set(err, EPROTO,
			               "GET asks for pages, and this server only stores them");
		return check_get(h, err);
	default:
		if (role != PS_STORING)
			return err_set(err, EPROTO,
			               "%s is for storing, and this server only serves pages",
			               name);
		return command == PS_ADD || command == PS_HOLE || command == PS_ADD_F
		               ? check_add(h, err)
		               : check_open(h, err);
	}
}

int ps_check_reply(const struct ps_header *reply, const struct ps_header *request, struct err *err)
{
	unsigned flags = ps_flags(reply);

	if (ps_command(reply) != PS_ADD_F || !(flags & PS_PRESENT_FLAG) ||
	    flags & ~(unsigned)(PS_PRESENT_FLAG | PS_LAZY_FLAG))
		return err_set(err, EPROTO, "the server answers a GET by 0x%08x", reply->cmd);
	if (reply->vaddr != request->vaddr || reply->dst_id != request->dst_id)
		return err_set(err, EPROTO,
		               "the server answers for process %" PRIu64 " at 0x%" PRIx64
		               ", asked for was process %" PRIu64 " at 0x%" PRIx64,
		               reply->dst_id, reply->vaddr, request->dst_id, request->vaddr);
	if (!reply->nr_pages || reply->nr_pages > request->nr_pages)
		return err_set(err, EPROTO,
		               "the server grants %" PRIu64 " pages at 0x%" PRIx64
		               ", asked for were %" PRIu64,
		               reply->nr_pages, reply->vaddr, request->nr_pages);
	return 0;
}
