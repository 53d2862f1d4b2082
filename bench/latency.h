/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef BENCH_LATENCY_H
#define BENCH_LATENCY_H

#include <stdint.h>
#include <stdio.h>

/*
 * Sorts the latencies of all first touches (ns) in place and prints, as lines key=value:
 *
 *   threshold_us, faults           where touches that waited begin, and how many they are
 *   p50_us p90_us p99_us fault_p999_us      of those that waited
 *   p999_us max_us                 of all: a page that was there is a touch that did not wait
 */
void latency_print(uint64_t *ns, uint64_t nr, FILE *f);

#endif
