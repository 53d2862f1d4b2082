/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ps.h - the page-server protocol of CRIU on the wire: headers, commands, and the one gate through
 * which everything passes that a peer has sent.
 *
 * A request or reply is a header, in some cases followed by pages as they are.  The header has two
 * layouts, without any negotiation:
 *
 *	PS_24 (CRIU <= 4.1.1)	u32 cmd, u32 nr_pages,           u64 vaddr, u64 dst_id
 *	PS_32 (CRIU >= 4.2)	u32 cmd, u32 mark, u64 nr_pages, u64 vaddr, u64 dst_id
 *
 * little-endian.  mark is padding to CRIU, which sends what was in memory, ignores it, and echoes
 * it in replies to GET (seen with 4.2.1); lanes.h makes use of it.
 *
 * Pure: bytes in, values and verdicts out.  Nothing here allocates.
 */
#ifndef CRIU_LAZY_PROTO_PS_H
#define CRIU_LAZY_PROTO_PS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

enum ps_layout { PS_UNKNOWN, PS_24, PS_32 };

enum { PS_HEADER_MIN = 24, PS_HEADER_MAX = 32 };

enum ps_command { /* low 16 bits of cmd */
	          PS_ADD = 1, /* ADD_F with PRESENT */
	          PS_HOLE = 2, /* ADD_F with PARENT */
	          PS_OPEN = 3, /* OPEN2 without an answer; of old */
	          PS_OPEN2 = 4, /* answered by one byte: is there a parent? */
	          PS_PARENT = 5, /* answered by an int32: the same */
	          PS_ADD_F = 6, /* flags in the high 16 bits of cmd */
	          PS_GET = 7, /* answered by ADD_F|PRESENT and pages */
	          PS_CLOSE = 0x1023, /* answered by int32 0 */
	          PS_FORCE_CLOSE = 0x1024, /* the same */
};

/* Flags of ADD_F; the same bits as in a pagemap. */
enum { PS_PARENT_FLAG = 1, PS_LAZY_FLAG = 2, PS_PRESENT_FLAG = 4 };

/* Named limits of the gate. */
#define PS_MAX_GET_PAGES (UINT64_C(1) << 20) /* what one GET may ask for: 4 GiB */
#define PS_MAX_PID       ((UINT32_C(1) << 22) - 1) /* no Linux gives out a higher one */
#define PS_SHMEM_END     (UINT64_C(1) << 63) /* offsets in shared memory are loff_t */

struct ps_header {
	uint32_t cmd; /* as sent: command and flags */
	uint32_t mark; /* 0 in PS_24 */
	uint64_t nr_pages;
	uint64_t vaddr;
	uint64_t dst_id;
};

static inline unsigned ps_command(const struct ps_header *h)
{
	return h->cmd & 0xffff;
}

static inline unsigned ps_flags(const struct ps_header *h)
{
	return h->cmd >> 16;
}

size_t ps_header_size(enum ps_layout layout);

/* nr_pages must fit 32 bits for PS_24.  Returns the size. */
size_t ps_encode(enum ps_layout layout, const struct ps_header *h, uint8_t out[PS_HEADER_MAX]);

void ps_decode(enum ps_layout layout, const uint8_t *in, struct ps_header *ret);

/*
 * Which layout does the first request of a connection have, judged from its first 24 bytes?
 * PS_UNKNOWN: it is no command of this protocol.  Whether the request makes sense is the gate's
 * business.  (GET: offset 8 is an address in PS_24 and a small count in PS_32.  Storing commands:
 * offset 16 is the object, whose type is never 0, in PS_24, and the address, which is page aligned,
 * in PS_32.  CLOSE: all zero; the answer is the same for both, PS_24 is told and the rest drained.)
 */
enum ps_layout ps_detect(const uint8_t first[PS_HEADER_MIN]);

/* What a storing command names. */
enum ps_object_kind { PS_OBJECT_PID, PS_OBJECT_SHMEM };

struct ps_object {
	enum ps_object_kind kind;
	uint32_t id;
};

/* dst_id of storing commands: (id << 8) | type, legacy type numbers included.  -EPROTO: neither. */
int ps_object(uint64_t dst_id, struct ps_object *ret, struct err *err);
uint64_t ps_object_id(const struct ps_object *object);

enum ps_role { PS_SERVING, PS_STORING };

/*
 * The gate of a server: is this header a command of its role, with fields that can be true
 * (aligned, counts within limits, range below USER_ADDRESS_END, known flags, flags that make
 * sense together)?  0 or -EPROTO with one line that says what is wrong.  Commands of the other
 * role are named as such.
 */
int ps_check_request(const struct ps_header *h, enum ps_role role, struct err *err);

/* The gate of a client: does this reply answer this GET?  (granted pages 1..asked, vaddr and dst_id
 * echoed, PRESENT set.) */
int ps_check_reply(const struct ps_header *reply, const struct ps_header *request, struct err *err);

#endif
