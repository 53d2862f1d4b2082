/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hist.h - a histogram of durations: constant size, no allocation, 6 % resolution.
 *
 * Sixteen buckets for each power of two of nanoseconds.
 */
#ifndef CRIU_LAZY_BASE_HIST_H
#define CRIU_LAZY_BASE_HIST_H

#include <stdint.h>

enum { HIST_SUB = 16, HIST_BUCKETS = 64 * HIST_SUB };

struct hist {
	uint64_t count[HIST_BUCKETS];
	uint64_t nr;
	uint64_t max; /* exact, nanoseconds */
};

void hist_add(struct hist *h, uint64_t nsec);

/* Add all of from to h. */
void hist_merge(struct hist *h, const struct hist *from);

/* The duration (nanoseconds) that permille of a thousand do not exceed; 0 when empty. */
uint64_t hist_quantile(const struct hist *h, unsigned permille);

#endif
