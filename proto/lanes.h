/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lanes.h - what criu-lazy's own ends speak with each other: several connections ("lanes") between
 * one helper and one server, checksums, compression, and resuming after a broken connection.
 *
 * How two ends find out that both are ours, without ever disturbing a stock peer: the first GET
 * that a helper sends (PS_32 layout, for a page that it needs anyway) has LANES_ASK in its padding.
 * CRIU ignores the padding and echoes it; our server answers the GET as always, but with
 * LANES_ANSWER there.  From then on the helper may send HELLO, on this connection and on
 * further ones.  A server that is told to be ours by the user may be sent HELLO at once.
 *
 *	helper				server
 *	HELLO				HELLO		once on each lane, before anything else
 *	FETCH(tag, pid, vaddr, nr)	DATA(tag, ...)	or MISS(tag, errno); any number in flight,
 *							answered in order within a lane
 *	PING(tag)			PONG(tag)
 *	BYE						the helper has everything; both close
 *
 * Every message is a header of 32 bytes, little-endian,
 *
 *	u32 cmd, u32 tag, u64 nr_pages, u64 vaddr, u32 pid, u32 check
 *
 * where check is the low half of XXH3-64 over the 28 bytes before it and over what follows as a
 * "tail", if the command has one.  HELLO has struct lanes_hello as its tail.  DATA has
 *
 *	u32 encoding, u32 length, u64 sum[nr_pages]	the tail
 *	u8 body[length]					the pages, encoded
 *
 * sum[i] is XXH3-64 of page i as it is in the image (not encoded).  A header whose check is wrong
 * means that the stream cannot be trusted any more: the lane is closed and dialled anew.  A page
 * whose sum is wrong is asked for again.
 *
 * Pure: bytes in, values out.
 */
#ifndef CRIU_LAZY_PROTO_LANES_H
#define CRIU_LAZY_PROTO_LANES_H

#include <stddef.h>
#include <stdint.h>

struct err;

#define LANES_ASK    UINT32_C(0x7a616c3f) /* "?laz" */
#define LANES_ANSWER UINT32_C(0x7a616c21) /* "!laz" */

enum { LANES_VERSION = 1, LANES_HEADER = 32, LANES_HELLO_TAIL = 32 };

/* Named limits. */
enum {
	LANES_MAX_PAGES = 256, /* of one FETCH: 1 MiB */
	LANES_MAX_TAIL = 8 + 8 * LANES_MAX_PAGES,
	LANES_MAX_BODY = LANES_MAX_PAGES * 4096,
};

enum lanes_command {
	LANES_HELLO = 0x4c5a01,
	LANES_FETCH,
	LANES_DATA,
	LANES_MISS, /* nr_pages is a positive errno: ENOENT not in the image, EIO cannot be read */
	LANES_PING,
	LANES_PONG,
	LANES_BYE,
};

struct lanes_header {
	uint32_t cmd;
	uint32_t tag; /* the helper's, echoed */
	uint64_t nr_pages; /* DATA: granted, 1..asked */
	uint64_t vaddr;
	uint32_t pid;
	uint32_t check;
};

enum { LANES_LZ4 = 1 }; /* features: what the sender can decode (helper) or will encode (server) */

enum lanes_kind { LANE_URGENT, LANE_BULK };

struct lanes_hello {
	uint32_t version;
	uint32_t features;
	uint64_t images; /* identity of the image set, images/identity.h; 0: not known */
	uint32_t kind; /* enum lanes_kind */
	uint32_t reserved; /* 0 */
	uint64_t reserved2; /* 0 */
};

enum lanes_encoding { LANES_RAW, LANES_ENCODED_LZ4 };

/* Fills in check over the header and the tail. */
void lanes_encode(const struct lanes_header *h, const void *tail, size_t tail_len,
                  uint8_t out[LANES_HEADER]);
void lanes_decode(const uint8_t in[LANES_HEADER], struct lanes_header *ret);

/* How long is the tail that follows this header?  -EPROTO: a command or fields that cannot be. */
int lanes_tail(const struct lanes_header *h, struct err *err);

/* Is check right, for these header bytes and this tail?  0 or -EPROTO. */
int lanes_verify(const uint8_t in[LANES_HEADER], const void *tail, size_t tail_len,
                 struct err *err);

void lanes_encode_hello(const struct lanes_hello *hello, uint8_t out[LANES_HELLO_TAIL]);
int lanes_decode_hello(const uint8_t in[LANES_HELLO_TAIL], struct lanes_hello *ret,
                       struct err *err);

struct lanes_data { /* the tail of DATA */
	uint32_t encoding;
	uint32_t length;
	const uint8_t *sums; /* unaligned, little-endian; lanes_sum() reads one */
};

size_t lanes_encode_data(uint32_t encoding, uint32_t length, const uint64_t *sums, uint64_t nr,
                         uint8_t out[LANES_MAX_TAIL]);
int lanes_decode_data(const uint8_t *tail, size_t len, uint64_t nr_pages, struct lanes_data *ret,
                      struct err *err);
uint64_t lanes_sum(const struct lanes_data *data, uint64_t i);

/* XXH3-64 of one page. */
uint64_t lanes_page_sum(const void *page);

/* The server's gate: a FETCH with fields that can be true?  Other commands are the caller's. */
int lanes_check_fetch(const struct lanes_header *h, struct err *err);

/* The helper's gate: does this DATA or MISS answer this FETCH? */
int lanes_check_answer(const struct lanes_header *answer, const struct lanes_header *fetch,
                       struct err *err);

#endif
