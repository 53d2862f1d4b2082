/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * latency.h - keep idle processors awake while somebody waits for pages.
 *
 * Waking a sleeping processor costs more than the rest of a page fault (design.md, "Speed").  A
 * descriptor of /dev/cpu_dma_latency that holds the value 0 keeps processors out of sleep states;
 * closing it, also by dying, gives that back (Documentation/power/pm_qos_interface.rst).
 */
#ifndef CRIU_LAZY_OS_LATENCY_H
#define CRIU_LAZY_OS_LATENCY_H

/* A descriptor to hold and close, or a negative errno: not permitted or not there. */
int latency_hold(void);

#endif
