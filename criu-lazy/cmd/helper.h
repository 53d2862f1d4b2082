/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * helper.h - the insides of `criu-lazy lazy-pages`, for its two files: lazy-pages.c makes
 * everything ready before anybody depends on it, worker.c serves.
 */
#ifndef CRIU_LAZY_CMD_HELPER_H
#define CRIU_LAZY_CMD_HELPER_H

#include "criu-lazy/cmd/fdstore.h"
#include "criu-lazy/cmd/guardian.h"
#include "criu-lazy/cmd/options.h"
#include "criu-lazy/engine/handoff.h"
#include "criu-lazy/engine/plan.h"
#include "criu-lazy/engine/pool.h"
#include "criu-lazy/os/fdset.h"
#include "criu-lazy/os/ring.h"
#include "criu-lazy/os/unixsock.h"

#include <stdbool.h>

struct journal;
struct remote;
struct tls;

/* At the start of the handoff's journal; survives workers. */
struct helper_memory {
	struct guard_memory guard;
	uint8_t ready; /* has been said */
	uint8_t leaving; /* all is over: 1 + the exit status */
	uint8_t lanes; /* the page server is one that can be connected to again */
	uint8_t pad[1];
	uint8_t taken[]; /* handoff_memory; behind it, with --fd-store, fdstore_memory */
};

struct helper {
	struct lazy_options options;
	struct unixsock sock;
	struct plan plan;
	struct tls *tls; /* NULL: none */
	struct remote *remote; /* NULL: pages are here */
	struct fdstore store;
	uint64_t identity; /* of the images */
	bool restarted; /* with what the service manager has kept */
	bool over; /* it was over already */
	unsigned first_life; /* of our workers; 1: there were some before we were started */
	/* The guardian's, for its workers; journals: options.jobs, NULL without a guardian. */
	struct journal **journals;
	struct journal *handoff_journal;
	struct helper_memory *memory;
	struct fdset lent; /* descriptors that were open before the first worker */
	/* A worker's. */
	struct pool *pool;
	struct handoff *handoff;
	struct watch signal_watch;
	int signal_fd;
	bool told_to_end;
	bool damaged; /* what the last worker has left */
	bool abandoned;
};

/* What a guardian's worker does; without a guardian, the process itself.  Returns exit status. */
int helper_work(void *helper, unsigned life, bool abandon);

/* Stop every process that a journal names, and wait until nothing depends on a descriptor. */
void helper_last_resort(void *helper);

#endif
