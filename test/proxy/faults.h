/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TEST_PROXY_FAULTS_H
#define TEST_PROXY_FAULTS_H

/*
 * What goes wrong, and where: read from the command line, asked when a connection is made and when
 * bytes have come.  Offsets count the bytes of one connection in one direction, from 0.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define NEVER UINT64_MAX

enum { FAULTS_MAX_LIST = 64 };

struct offsets {
	uint64_t at[FAULTS_MAX_LIST];
	unsigned nr;
};

struct faults {
	/* what was asked for */
	struct offsets cut_after; /* the nth connection */
	struct offsets hole_after; /* the nth connection */
	struct offsets flip_at; /* every connection: a bit in these bytes */
	uint64_t cut_every, flip_every; /* 0: never */
	uint64_t flip_max; /* how many bits at most */
	unsigned cut_handshake;
	bool cut_all, fin;
	uint64_t refuse_ns;
	uint64_t seed;
	/* where we are */
	unsigned nr_connections, handshakes_left;
	uint64_t nr_flips, random;
};

/* Of one direction of one connection. */
struct fate {
	uint64_t cut_at, hole_at, flip_at; /* offsets, or NEVER */
	unsigned next_flip; /* in faults.flip_at */
	bool handshake; /* this cut is one of cut_handshake */
};

/* A new connection: what will happen to it.  Up is client to server. */
void faults_plan(struct faults *f, struct fate *up, struct fate *down);

/* A connection has been cut, other than by cut_handshake: the next ones will be too. */
void faults_cut(struct faults *f);

/* Flips what is to be flipped in bytes [pos, pos + bytes) of this direction, which lie in iov. */
void faults_flip(struct faults *f, struct fate *fate, uint64_t pos, size_t bytes,
                 const struct iovec *iov);

#endif
