/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef BENCH_LOOK_H
#define BENCH_LOOK_H

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/* What /proc says about other processes' memory, cheap enough to be asked every few ms. */

/* RssAnon of a process and its children, `depth` generations deep: a helper may be several. */
uint64_t look_tree_anon_kib(pid_t pid, int depth);

/* Resident pages that are neither file's nor shared (statm).  0, or -1 when there is no process. */
int look_anon_pages(pid_t pid, uint64_t *ret_pages);

#endif
