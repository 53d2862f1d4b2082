/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * handshake.h - what a restorer says on the lazy-pages socket (criu-interop, 3.5), decoded.
 *
 * One direction, little-endian 32-bit words:
 *	pid > 0		a live task; followed by one byte 0 that carries a descriptor
 *	pid < 0		-pid is a zombie
 *	0x52535446	"finished", once, after every task of the image has reported
 *
 * The kernel never delivers a byte without the descriptor it was sent with, so the decoder is told
 * of bytes and descriptors in the order of recvmsg(2):
 *
 *	want = handshake_want(&h);		how many bytes to ask recvmsg() for
 *	event = handshake_feed(&h, bytes, n, has_fd, err);
 *
 *	  WORD ----pid > 0----> FD ----byte + descriptor----> WORD   (HANDSHAKE_TASK)
 *	  WORD ----pid < 0----> WORD (HANDSHAKE_ZOMBIE)
 *	  WORD ----finished---> DONE (HANDSHAKE_FINISHED)
 *
 * Pure: no descriptor is touched here.
 */
#ifndef CRIU_LAZY_PROTO_HANDSHAKE_H
#define CRIU_LAZY_PROTO_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

enum { HANDSHAKE_FINISHED_WORD = 0x52535446 };

/* Zero-initialise and set nr_expected. */
struct handshake {
	size_t nr_expected; /* records in pstree.img */
	size_t nr_seen;
	uint32_t pid; /* of the last task or zombie */
	enum { HANDSHAKE_AT_WORD, HANDSHAKE_AT_FD, HANDSHAKE_AT_END } at;
	uint8_t word[4];
	size_t nr_word;
};

enum handshake_event {
	HANDSHAKE_MORE, /* nothing complete yet */
	HANDSHAKE_TASK, /* h->pid has sent the descriptor of this call */
	HANDSHAKE_ZOMBIE, /* h->pid is a zombie */
	HANDSHAKE_FINISHED,
};

/* 1..4: how many bytes the next receive may bring; 0 after the end. */
size_t handshake_want(const struct handshake *h);

/*
 * n bytes (at most handshake_want()) have come, and a descriptor with them or not.  Returns an
 * enum handshake_event, or -EPROTO with the story; the caller closes an unwanted descriptor.
 */
int handshake_feed(struct handshake *h, const void *bytes, size_t n, bool has_fd, struct err *err);

/* The peer is gone: an error unless everything was said. */
int handshake_eof(const struct handshake *h, struct err *err);

#endif
