/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fdstore.h - descriptors that a service manager keeps (systemd's fd store), so that what is
 * started after guardian and worker were both killed can go on.
 *
 *	fdstore_open(&store, keeps, err);	first of all: what was kept is back at its number
 *	fdstore_attach(&store, memory);
 *	fdstore_keep(&store, KEPT_HANDOFF, fd);	the guardian, before there is a worker
 *	fdstore_sync(&store);			... and now the manager has it
 *	fdstore_keep(), fdstore_drop()		a worker, for what comes and goes; any thread
 *	fdstore_clear(&store);			nobody depends on anything any more
 *
 * A name is a letter (enum fdstore_kind, enum engine_kept) and the number: journals tell of
 * descriptors by number, so they must come back there.
 *
 * A manager hears only processes that it can still identify when it reads, and a worker's last
 * words may come too late for that.  So whoever goes on says everything again (fdstore_keep() as
 * often as wanted; fdstore_settle()).  It never answers either: fdstore_drop() comes before
 * close(2), since the number may be somebody else's right after it.
 *
 * A fault does not wait for a manager: what cannot be sent at once (or within PATIENCE, if it is
 * the first) is late, and sent by fdstore_flush().
 */
#ifndef CRIU_LAZY_CMD_FDSTORE_H
#define CRIU_LAZY_CMD_FDSTORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct fdset;
struct unixsock;

enum { FDSTORE_NUMBERS = 1 << 15 }; /* descriptors beyond this one are not kept */

/* Besides those of enum engine_kept. */
enum fdstore_kind {
	KEPT_HANDOFF = 'h', /* the handoff's journal */
	KEPT_JOURNAL = 'j', /* an engine's; the lowest number is the first engine's */
	KEPT_SOCKET = 's', /* that listens */
	KEPT_LOCK = 'l', /* of the socket */
};

/* Shared by guardian, workers and sentinel; zero at first. */
struct fdstore_memory {
	uint32_t nr_kept;
	struct fdstore_place {
		char kept; /* letter of what is here; 0: nothing is to be kept */
		char late; /* that has not been sent yet */
		uint8_t dropped; /* a bit for each letter that was here: it may be kept still */
		uint8_t drop_late; /* of these: the manager has not been told */
	} place[FDSTORE_NUMBERS];
};

struct fdstore_found {
	int fd;
	char kind;
};

struct fdstore {
	int fd; /* to the manager; -1: there is none */
	bool keeps;
	struct fdstore_memory *memory; /* NULL: nothing is kept */
	long room; /* what the manager says that it keeps; -1: it does not say */
	pthread_mutex_t lock;
	uint32_t nr_late;
	bool told; /* that it does not listen */
	bool told_full;
	/* What we were started with. */
	struct fdstore_found *found; /* by number */
	size_t nr_found;
};

#define FDSTORE_NONE                                                    \
	{                                                               \
		.fd = -1, .room = -1, .lock = PTHREAD_MUTEX_INITIALIZER \
	}

/*
 * Without `keeps` only the manager's socket is opened, if there is one.  With it a missing one is
 * an error.  After an error found tells where the descriptors are.
 */
int fdstore_open(struct fdstore *store, bool keeps, struct err *err);
void fdstore_release(struct fdstore *store); /* memory only */

/* The first that was found of this kind, or -1. */
int fdstore_found_fd(const struct fdstore *store, char kind);

/* What was found is of no use, and nobody depends on it: closed, and not kept any more. */
void fdstore_discard(struct fdstore *store);

/* Is there room for so many descriptors, as far as the manager has said? */
bool fdstore_has_room(const struct fdstore *store, size_t nr);

/* What was found is in it from then on. */
void fdstore_attach(struct fdstore *store, struct fdstore_memory *memory);
/* Somebody was before us, and may not have been heard: everything once more. */
void fdstore_again(struct fdstore *store);

void fdstore_keep(struct fdstore *store, char kind, int fd);
void fdstore_drop(struct fdstore *store, int fd);

/* Wait until the manager has read everything; false: it has not, or is not there. */
bool fdstore_sync(struct fdstore *store);

/* Send what is late.  true: something still is; come again soon. */
bool fdstore_flush(struct fdstore *store);

/* What is kept and not needed is dropped. */
void fdstore_settle(struct fdstore *store, const struct fdset *needed);

/*
 * Guardian and worker are dead and we, who have their descriptors, will be, too: let the manager
 * have everything once more, and what they could not even tell it of.
 */
void fdstore_hand_over(struct fdstore *store, const struct unixsock *sock);

void fdstore_clear(struct fdstore *store);

/* The start is complete. */
void fdstore_ready(struct fdstore *store);

/*
 * We cannot go on with what was found: stop every process that is known by it, with all its
 * descendants, and wait until no userfaultfd is of any use any more.  Then nothing is kept.
 */
void fdstore_abandon(struct fdstore *store);

#endif
