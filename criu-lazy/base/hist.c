/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/base/hist.h"

static unsigned bucket(uint64_t nsec)
{
	unsigned top;

	if (nsec < HIST_SUB)
		return (unsigned)nsec;
	top = 63 - (unsigned)__builtin_clzll(nsec);
	return (top - 3) * HIST_SUB + (unsigned)(nsec >> (top - 4) & (HIST_SUB - 1));
}

/* The largest duration that falls into a bucket. */
static uint64_t upper_edge(unsigned b)
{
	unsigned top = b / HIST_SUB + 3;

	if (b < HIST_SUB)
		return b;
	return (UINT64_C(1) << top) + ((uint64_t)(b % HIST_SUB + 1) << (top - 4)) - 1;
}

void hist_add(struct hist *h, uint64_t nsec)
{
	h->count[bucket(nsec)]++;
	h->nr++;
	if (nsec > h->max)
		h->max = nsec;
}

void hist_merge(struct hist *h, const struct hist *from)
{
	unsigned b;

	for (b = 0; b < HIST_BUCKETS; b++)
		h->count[b] += from->count[b];
	h->nr += from->nr;
	if (from->max > h->max)
		h->max = from->max;
}

uint64_t hist_quantile(const struct hist *h, unsigned permille)
{
	uint64_t rank = (h->nr * permille + 999) / 1000, seen = 0;
	unsigned b;

	if (!h->nr)
		return 0;
	for (b = 0; b < HIST_BUCKETS; b++) {
		seen += h->count[b];
		if (seen >= rank && seen)
			return upper_edge(b) < h->max ? upper_edge(b) : h->max;
	}
	return h->max;
}
