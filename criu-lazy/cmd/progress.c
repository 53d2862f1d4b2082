/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/cmd/progress.h"

#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/engine/engine.h"

#include <stdio.h>

static double seconds(int64_t nsec)
{
	return (double)nsec / (double)NSEC_PER_SEC;
}

static double mib(uint64_t pages)
{
	return (double)(pages << PAGE_SHIFT) / (1 << 20);
}

static double usec(uint64_t nsec)
{
	return (double)nsec / (double)NSEC_PER_USEC;
}

void progress_draw(const struct engine_stats *stats, int64_t start, int64_t now)
{
	uint64_t present = stats->pages_total - stats->pages_missing;
	double elapsed = seconds(now - start);
	double rate = elapsed > 0 ? mib(stats->pages_fault + stats->pages_background) / elapsed : 0;

	fprintf(stderr, "\r%llu/%llu pages  %.0f MiB/s  %llu faults  p99 %.0f us  ",
	        (unsigned long long)present, (unsigned long long)stats->pages_total, rate,
	        (unsigned long long)stats->fault.nr, usec(hist_quantile(&stats->fault, 990)));
	if (rate > 0 && stats->pages_missing)
		fprintf(stderr, "ETA %.1f s\033[K", mib(stats->pages_missing) / rate);
	else
		fputs("\033[K", stderr);
	fflush(stderr);
}

void progress_end(void)
{
	fputc('\n', stderr);
}

void progress_summary(const struct engine_stats *stats, int64_t start, int64_t now)
{
	uint64_t copied = stats->pages_fault + stats->pages_background;

	log_msg("%llu pages by fault, %llu by background, %llu zero; %.1f MiB in %.3f s; "
	        "fault p50/p99/max %.1f/%.1f/%.1f us; %llu address spaces, %llu exited early, "
	        "%llu pages lost",
	        (unsigned long long)stats->pages_fault, (unsigned long long)stats->pages_background,
	        (unsigned long long)stats->pages_zero, mib(copied), seconds(now - start),
	        usec(hist_quantile(&stats->fault, 500)), usec(hist_quantile(&stats->fault, 990)),
	        usec(stats->fault.max), (unsigned long long)stats->sessions,
	        (unsigned long long)stats->sessions_exited, (unsigned long long)stats->pages_lost);
}
