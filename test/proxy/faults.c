/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See faults.h. */
#include "test/proxy/faults.h"
#include "test/proxy/proxy.h"

enum { HANDSHAKE_BYTES = 10 }; /* less than any header */

static uint64_t next_random(struct faults *f)
{
	uint64_t x = f->random += 0x9e3779b97f4a7c15ull;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* The next byte to be damaged at or after `from`: listed ones first, then one in each window of
 * flip_every bytes. */
static void plan_flip(struct faults *f, struct fate *fate, uint64_t from)
{
	fate->flip_at = NEVER;
	if (fate->next_flip < f->flip_at.nr)
		fate->flip_at = f->flip_at.at[fate->next_flip++];
	else if (f->flip_every)
		fate->flip_at = (from + f->flip_every - 1) / f->flip_every * f->flip_every +
		                next_random(f) % f->flip_every;
	if (f->nr_flips >= f->flip_max)
		fate->flip_at = NEVER;
}

/* A reconnect is cut in one of three ways, in turn: in the server's first answer, in the client's
 * first words, before anything. */
static void plan_handshake(struct faults *f, struct fate *up, struct fate *down)
{
	switch (f->handshakes_left-- % 3) {
	case 0:
		down->cut_at = HANDSHAKE_BYTES;
		down->handshake = true;
		break;
	case 1:
		up->cut_at = HANDSHAKE_BYTES;
		up->handshake = true;
		break;
	default:
		up->cut_at = 0;
		up->handshake = true;
	}
}

void faults_plan(struct faults *f, struct fate *up, struct fate *down)
{
	unsigned n = f->nr_connections;

	*up = *down = (struct fate){NEVER, NEVER, NEVER, 0, false};
	if (f->handshakes_left) {
		plan_handshake(f, up, down);
		return;
	}
	f->nr_connections++;
	if (n < f->cut_after.nr)
		down->cut_at = f->cut_after.at[n];
	else if (f->cut_every)
		down->cut_at = f->cut_every;
	if (n < f->hole_after.nr)
		down->hole_at = f->hole_after.at[n];
	plan_flip(f, down, 0);
}

void faults_cut(struct faults *f)
{
	f->handshakes_left = f->cut_handshake;
}

void faults_flip(struct faults *f, struct fate *fate, uint64_t pos, size_t bytes,
                 const struct iovec *iov)
{
	while (fate->flip_at < pos + bytes) {
		uint64_t at = fate->flip_at, skip;
		unsigned bit = (unsigned)(next_random(f) % 8);

		if (at >= pos) {
			const struct iovec *v = iov;

			for (skip = at - pos; skip >= v->iov_len; v++)
				skip -= v->iov_len;
			((uint8_t *)v->iov_base)[skip] ^= (uint8_t)(1u << bit);
			f->nr_flips++;
			tell("flipped bit %u of byte %llu", bit, (unsigned long long)at);
		}
		plan_flip(f, fate, at + 1);
	}
}
