/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the manager is told.  See fdstore.h; fdstore-found.c has what it gives back. */
#include "criu-lazy/cmd/fdstore.h"

#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/engine/engine.h"
#include "criu-lazy/os/fdset.h"
#include "criu-lazy/os/notify.h"
#include "criu-lazy/os/uffd.h"
#include "criu-lazy/os/unixsock.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { PATIENCE_MS = 20, SYNC_TRIES = 1000 };

static const char letters[] = {KEPT_HANDOFF,    KEPT_JOURNAL, KEPT_SOCKET, KEPT_LOCK,
                               KEPT_CONNECTION, KEPT_UFFD,    KEPT_PIDFD,  '\0'};

static const int64_t SYNC_TIMEOUT = 5 * NSEC_PER_SEC;

/* Does the manager take something now? */
static bool listens(const struct fdstore *store)
{
	struct pollfd pfd = {.fd = store->fd, .events = POLLOUT};

	return poll(&pfd, 1, store->nr_late ? 0 : PATIENCE_MS) == 1;
}

static bool say(struct fdstore *store, bool keep, char kind, int fd)
{
	struct err err = {0};
	char name[16];
	int r;

	if (!listens(store))
		return false;
	snprintf(name, sizeof(name), "%c%d", kind, fd);
	r = keep ? notify_store(store->fd, name, fd, &err) : notify_remove(store->fd, name, &err);
	if (r < 0 && !store->told) {
		log_warn("%s; if guardian and worker were killed now, nobody could go on",
		         err.text);
		store->told = true;
	}
	return r == 0;
}

/* One place as it should be; false: not yet. */
static bool tell(struct fdstore *store, int fd)
{
	struct fdstore_place *p = &store->memory->place[fd];
	unsigned i;

	for (i = 0; letters[i] && p->drop_late; i++) {
		if (!(p->drop_late & 1U << i))
			continue;
		if (!say(store, false, letters[i], fd))
			return false;
		p->drop_late &= (uint8_t) ~(1U << i);
	}
	if (p->kept && p->late) {
		if (!say(store, true, p->kept, fd))
			return false;
		p->late = 0;
	}
	return true;
}

static void drop(struct fdstore *store, int fd)
{
	struct fdstore_place *p = &store->memory->place[fd];
	const char *letter = p->kept ? strchr(letters, p->kept) : NULL;

	if (!letter)
		return;
	p->dropped |= (uint8_t)(1U << (letter - letters));
	p->drop_late |= (uint8_t)(1U << (letter - letters));
	p->kept = p->late = 0;
	store->memory->nr_kept--;
	if (!tell(store, fd))
		store->nr_late++;
}

static bool is_kept(const struct fdstore *store, int fd)
{
	return store->memory && fd >= 0 && fd < FDSTORE_NUMBERS && store->memory->place[fd].kept;
}

static void tell_full(struct fdstore *store, int fd)
{
	if (!store->told_full)
		log_warn("descriptor %d is one more than the service manager keeps "
		         "(FileDescriptorStoreMax=): if guardian and worker were killed now, its "
		         "process would be stopped",
		         fd);
	store->told_full = true;
}

void fdstore_attach(struct fdstore *store, struct fdstore_memory *memory)
{
	size_t i;

	store->memory = memory;
	memset(memory, 0, sizeof(*memory));
	for (i = 0; i < store->nr_found; i++)
		if (store->found[i].fd < FDSTORE_NUMBERS)
			memory->place[store->found[i].fd].kept = store->found[i].kind;
	memory->nr_kept = (uint32_t)store->nr_found;
}

void fdstore_keep(struct fdstore *store, char kind, int fd)
{
	struct fdstore_place *p;

	if (!store->memory || fd < 0)
		return;
	pthread_mutex_lock(&store->lock);
	if (fd >= FDSTORE_NUMBERS ||
	    (store->room >= 0 && !is_kept(store, fd) && store->memory->nr_kept >= store->room)) {
		tell_full(store, fd);
	} else {
		p = &store->memory->place[fd];
		if (p->kept && p->kept != kind)
			drop(store, fd);
		store->memory->nr_kept += !p->kept;
		p->late = 1;
		p->kept = kind;
		if (!tell(store, fd))
			store->nr_late++;
	}
	pthread_mutex_unlock(&store->lock);
}

void fdstore_drop(struct fdstore *store, int fd)
{
	if (!is_kept(store, fd))
		return;
	pthread_mutex_lock(&store->lock);
	drop(store, fd);
	pthread_mutex_unlock(&store->lock);
}

bool fdstore_flush(struct fdstore *store)
{
	bool any = false;
	int fd;

	if (!store->memory || !__atomic_load_n(&store->nr_late, __ATOMIC_RELAXED))
		return false;
	pthread_mutex_lock(&store->lock);
	for (fd = 0; fd < FDSTORE_NUMBERS && !any; fd++)
		any = !tell(store, fd);
	store->nr_late = any;
	pthread_mutex_unlock(&store->lock);
	return any;
}

bool fdstore_sync(struct fdstore *store)
{
	static const struct timespec pause = {.tv_nsec = 5L * 1000 * 1000};
	unsigned tries = 0;
	struct err err = {0};

	/* Now it may take its time. */
	while (store->fd >= 0 && fdstore_flush(store) && tries++ < SYNC_TRIES)
		nanosleep(&pause, NULL);
	if (store->fd < 0 || store->nr_late)
		return false;
	if (notify_barrier(store->fd, SYNC_TIMEOUT, &err) == 0)
		return true;
	log_warn("%s", err.text);
	return false;
}

void fdstore_again(struct fdstore *store)
{
	int fd;

	if (!store->memory)
		return;
	pthread_mutex_lock(&store->lock);
	for (fd = 0; fd < FDSTORE_NUMBERS; fd++) {
		store->memory->place[fd].drop_late = store->memory->place[fd].dropped;
		store->memory->place[fd].late = store->memory->place[fd].kept != 0;
	}
	store->nr_late++;
	pthread_mutex_unlock(&store->lock);
}

void fdstore_settle(struct fdstore *store, const struct fdset *needed)
{
	int fd;

	if (!store->memory)
		return;
	pthread_mutex_lock(&store->lock);
	for (fd = 0; fd < FDSTORE_NUMBERS; fd++) {
		struct fdstore_place *p = &store->memory->place[fd];

		if (p->kept && !fdset_has(needed, fd))
			drop(store, fd);
	}
	pthread_mutex_unlock(&store->lock);
}

void fdstore_hand_over(struct fdstore *store, const struct unixsock *sock)
{
	struct fdset open = {0};
	size_t i;
	bool fixed;

	if (!store->memory || fdset_open(&open, NULL) < 0)
		return;
	fdstore_again(store);
	for (i = 0; i < open.nr; i++) {
		int fd = open.fds[i];

		if (is_kept(store, fd))
			continue;
		if (uffd_is_one(fd, &fixed))
			fdstore_keep(store, KEPT_UFFD, fd);
		else if (sock->fd >= 0 && unixsock_is_connection(sock, fd))
			fdstore_keep(store, KEPT_CONNECTION, fd);
	}
	fdset_release(&open);
	fdstore_sync(store);
}

void fdstore_clear(struct fdstore *store)
{
	const struct fdset none = {0};
	const struct fdstore_place *place;
	int fd;

	if (!store->memory)
		return;
	place = store->memory->place;
	/* Journals last, the handoff's at the very end: it says that all is over. */
	fdstore_again(store);
	for (fd = 0; fd < FDSTORE_NUMBERS; fd++)
		if (place[fd].kept != KEPT_HANDOFF && place[fd].kept != KEPT_JOURNAL)
			fdstore_drop(store, fd);
	fdstore_sync(store);
	for (fd = 0; fd < FDSTORE_NUMBERS; fd++)
		if (place[fd].kept != KEPT_HANDOFF)
			fdstore_drop(store, fd);
	fdstore_sync(store);
	fdstore_settle(store, &none);
	fdstore_sync(store);
}

void fdstore_ready(struct fdstore *store)
{
	struct err err = {0};

	if (store->fd >= 0 && notify_ready(store->fd, &err) < 0)
		log_warn("%s", err.text);
}
