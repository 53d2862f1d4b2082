/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clock.h - CLOCK_MONOTONIC in nanoseconds, the only time used inside. */
#ifndef CRIU_LAZY_BASE_CLOCK_H
#define CRIU_LAZY_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NSEC_PER_USEC INT64_C(1000)
#define NSEC_PER_MSEC INT64_C(1000000)
#define NSEC_PER_SEC  INT64_C(1000000000)
#define CLOCK_NEVER   INT64_MAX

static inline int64_t clock_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

#endif
