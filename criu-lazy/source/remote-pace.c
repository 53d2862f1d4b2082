/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/source/remote-pace.h"

#include "criu-lazy/base/clock.h"

static const double BUSY = 2, CALM = 4; /* times what is carried in a round trip */

/* A shorter one is true; a longer one may be chance, or a new route. */
void pace_round_trip(struct pace *p, int64_t ns)
{
	if (ns <= 0)
		return;
	if (!p->rtt || ns < p->rtt)
		p->rtt = ns;
	else
		p->rtt += (ns - p->rtt) / 8;
}

void pace_answered(struct pace *p, uint64_t bytes, int64_t ns)
{
	double rate = (double)bytes * (double)NSEC_PER_SEC / (double)(ns > 0 ? ns : 1);

	p->rate += (rate - p->rate) / (rate > p->rate ? 4 : 8);
}

uint64_t pace_carried(const struct pace *p)
{
	return (uint64_t)(p->rate * (double)p->rtt / (double)NSEC_PER_SEC);
}

uint64_t pace_window(const struct pace *p, bool calm)
{
	double least = calm ? PACE_MIN_CALM : PACE_MIN, window;

	if (p->rate <= 0 || !p->rtt)
		return PACE_MIN_CALM;
	window = (calm ? CALM : BUSY) * p->rate * (double)p->rtt / (double)NSEC_PER_SEC;
	return window < least ? (uint64_t)least : window > PACE_MAX ? PACE_MAX : (uint64_t)window;
}
