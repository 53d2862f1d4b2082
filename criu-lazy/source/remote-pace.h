/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * remote-pace.h - how many bytes may be on their way over one connection.
 *
 * Enough that the connection is never idle: some more than it carries in a round trip.  Not much
 * more while faults come, as their answers stand in line behind it: twice that.  (Measured with a
 * round trip of 1 ms: 1.5 times lets a program that touches at random wait longer in all, since it
 * finds less there; 2.5 times makes single waits longer.)  When none come, 4 times, which also
 * finds out soon that it carries more than it seemed.
 *
 * The rate is a sliding mean of what was answered between the sending of a request and its
 * answer; rising is believed sooner than falling.  The round trip is that of requests that were
 * alone.
 *
 * Pure.
 */
#ifndef CRIU_LAZY_SOURCE_REMOTE_PACE_H
#define CRIU_LAZY_SOURCE_REMOTE_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes. */
enum {
	PACE_MIN = 256 << 10,
	PACE_MIN_CALM = 1 << 20, /* and as long as nothing is known */
	PACE_MAX = 4 << 20,
};

struct pace { /* zero-initialise */
	int64_t rtt; /* ns; 0: not known */
	double rate; /* bytes a second; 0: not known */
};

/* A request that was alone was answered (its header came) so long after it was sent. */
void pace_round_trip(struct pace *p, int64_t ns);

/* So many bytes, of this request and of those before it, were answered in so many ns. */
void pace_answered(struct pace *p, uint64_t bytes, int64_t ns);

/* Bytes that come in a round trip; 0: not known. */
uint64_t pace_carried(const struct pace *p);

/* calm: nobody waits for a page. */
uint64_t pace_window(const struct pace *p, bool calm);

#endif
