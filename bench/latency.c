/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See latency.h.  Pure: numbers in, lines out. */
#include <stdlib.h>

#include "bench/latency.h"

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * Between "found its page" (a TLB miss, a cold cache line: some 0.1 us) and "waited" (never less
 * than a trap, a copy and a wake-up: some us) lies a valley: of the cuts from 0.5 to 4 us, the one
 * with the fewest touches within 20 % of it.
 */
static uint64_t threshold(const uint64_t *sorted, uint64_t nr)
{
	uint64_t best = 2000, fewest = UINT64_MAX, lo = 0, hi = 0;

	for (uint64_t cut = 500; cut <= 4000; cut += 100) {
		while (lo < nr && sorted[lo] < cut * 8 / 10)
			lo++;
		while (hi < nr && sorted[hi] < cut * 12 / 10)
			hi++;
		if (hi - lo < fewest) {
			fewest = hi - lo;
			best = cut;
		}
	}
	return best;
}

static double percentile_us(const uint64_t *sorted, uint64_t nr, double p)
{
	uint64_t at = (uint64_t)(p * (double)nr);

	if (!nr)
		return 0;
	return (double)sorted[at < nr ? at : nr - 1] / 1000.0;
}

void latency_print(uint64_t *ns, uint64_t nr, FILE *f)
{
	uint64_t cut, faults;

	qsort(ns, nr, sizeof(*ns), by_value);
	cut = threshold(ns, nr);
	for (faults = nr; faults > 0 && ns[nr - faults] < cut;)
		faults--;
	fprintf(f, "threshold_us=%.1f\nfaults=%lu\n", (double)cut / 1000, (unsigned long)faults);
	fprintf(f, "p999_us=%.2f\nmax_us=%.2f\n", percentile_us(ns, nr, 0.999),
	        percentile_us(ns, nr, 1));
	ns += nr - faults;
	fprintf(f, "p50_us=%.2f\np90_us=%.2f\np99_us=%.2f\nfault_p999_us=%.2f\n",
	        percentile_us(ns, faults, 0.5), percentile_us(ns, faults, 0.9),
	        percentile_us(ns, faults, 0.99), percentile_us(ns, faults, 0.999));
}
