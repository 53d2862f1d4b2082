/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bits.h - a bitmap that finds its next set bit fast however empty it is.
 *
 * Two levels: a word of the upper level tells which 64 words of the lower one are not empty, so
 * a search over 16 million bits (64 GiB of pages) reads 4096 words at worst.
 */
#ifndef CRIU_LAZY_BASE_BITS_H
#define CRIU_LAZY_BASE_BITS_H

#include <stdbool.h>
#include <stdint.h>

struct bits {
	uint64_t *word;
	uint64_t *upper;
	uint64_t nr; /* bits in use */
	uint64_t room; /* bits allocated, a multiple of 4096 */
};

/* Zero-initialise; bits_release() leaves an empty bitmap. */
void bits_release(struct bits *bits);

/* Append nr set bits; amortised O(nr / 64).  0 or -ENOMEM, then nothing has changed. */
int bits_append(struct bits *bits, uint64_t nr);

/* A copy of its own.  0 or -ENOMEM. */
int bits_copy(const struct bits *from, struct bits *ret);

bool bits_test(const struct bits *bits, uint64_t bit);

/* Clear [bit, bit + nr); returns how many were set. */
uint64_t bits_clear(struct bits *bits, uint64_t bit, uint64_t nr);

uint64_t bits_count(const struct bits *bits, uint64_t bit, uint64_t nr);

/* First set bit in [bit, end), or end. */
uint64_t bits_next_set(const struct bits *bits, uint64_t bit, uint64_t end);

/* First clear bit in [bit, end), or end.  O(length of the run / 64). */
uint64_t bits_next_clear(const struct bits *bits, uint64_t bit, uint64_t end);

#endif
