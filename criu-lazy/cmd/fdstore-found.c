/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a service manager has kept for us, and gives back at the start.  See fdstore.h. */
#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/cmd/fdstore.h"
#include "criu-lazy/engine/engine.h"
#include "criu-lazy/os/fdset.h"
#include "criu-lazy/os/notify.h"
#include "criu-lazy/os/proctree.h"
#include "criu-lazy/os/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* 0, 1 and 2 are never free, so no kept descriptor is ever there. */
static int occupy_stdio(struct err *err)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return err_set(err, errno, "/dev/null");
	} while (fd <= STDERR_FILENO);
	close(fd);
	return 0;
}

/* A letter of ours and a number that is written as we write it; the number, or -1. */
static int parse_name(const char *name)
{
	static const char letters[] = {KEPT_HANDOFF,    KEPT_JOURNAL, KEPT_SOCKET, KEPT_LOCK,
	                               KEPT_CONNECTION, KEPT_UFFD,    KEPT_PIDFD,  '\0'};
	size_t len = strspn(name + (*name != 0), "0123456789");
	long number;

	if (!*name || !strchr(letters, *name) || !len || len > 6 || name[1 + len] || name[1] == '0')
		return -1;
	number = strtol(name + 1, NULL, 10);
	return number > STDERR_FILENO && number < FDSTORE_NUMBERS ? (int)number : -1;
}

static int compare(const void *a, const void *b)
{
	const struct fdstore_found *one = a, *two = b;

	return one->fd - two->fd;
}

/* What is not ours is closed: sockets of the unit, for which we have no use. */
static int sort_out(struct fdstore *store, const struct notify_fd *fds, size_t nr,
                    struct fdset_move *moves, struct err *err)
{
	size_t i;

	store->found = calloc(nr + 1, sizeof(*store->found));
	if (!store->found)
		return err_set(err, ENOMEM, "%zu kept descriptors", nr);
	for (i = 0; i < nr; i++) {
		int wanted = parse_name(fds[i].name);

		if (wanted < 0) {
			log_warn("the service manager has given us descriptor %d, \"%s\", which is "
			         "not ours: closed",
			         fds[i].fd, fds[i].name);
			close(fds[i].fd);
			continue;
		}
		moves[store->nr_found] = (struct fdset_move){.now = fds[i].fd, .wanted = wanted};
		store->found[store->nr_found++] =
			(struct fdstore_found){.fd = fds[i].fd, .kind = fds[i].name[0]};
	}
	return 0;
}

static int take_found(struct fdstore *store, struct err *err)
{
	cleanup_free struct notify_fd *fds = NULL;
	cleanup_free struct fdset_move *moves = NULL;
	size_t nr = 0, i;
	int r = notify_listen_fds(&fds, &nr, err);

	if (r < 0 || !nr)
		return r;
	moves = calloc(nr, sizeof(*moves));
	if (!moves)
		return err_set(err, ENOMEM, "%zu kept descriptors", nr);
	r = sort_out(store, fds, nr, moves, err);
	if (r < 0)
		return r;
	r = fdset_restore(moves, store->nr_found, err);
	for (i = 0; i < store->nr_found; i++)
		store->found[i].fd = moves[i].now;
	if (store->nr_found)
		qsort(store->found, store->nr_found, sizeof(*store->found), compare);
	return r;
}

/* The numbers may be high. */
static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int fdstore_open(struct fdstore *store, bool keeps, struct err *err)
{
	const char *room = getenv("FDSTORE");
	struct err why = {0};
	int r = occupy_stdio(err);

	if (r == 0 && keeps) {
		raise_limit();
		r = take_found(store, err);
	}
	store->keeps = keeps;
	store->fd = notify_open(&why);
	if (r < 0)
		return r;
	if (room && *room >= '0' && *room <= '9')
		store->room = strtol(room, NULL, 10);
	if (store->fd < 0 && keeps)
		return err_set(err, -store->fd, "--fd-store wants a service manager: %s", why.text);
	if (store->fd < 0 && store->fd != -ENOENT)
		log_warn("%s", why.text);
	if (store->fd < 0)
		store->fd = -1;
	return 0;
}

void fdstore_release(struct fdstore *store)
{
	free(store->found);
	store->found = NULL;
	store->nr_found = 0;
}

int fdstore_found_fd(const struct fdstore *store, char kind)
{
	size_t i;

	for (i = 0; i < store->nr_found; i++)
		if (store->found[i].kind == kind)
			return store->found[i].fd;
	return -1;
}

bool fdstore_has_room(const struct fdstore *store, size_t nr)
{
	return store->room < 0 || nr <= (size_t)store->room;
}

static void forget(struct fdstore *store)
{
	char name[16];
	size_t i;

	for (i = 0; i < store->nr_found && store->fd >= 0; i++) {
		snprintf(name, sizeof(name), "%c%d", store->found[i].kind, store->found[i].fd);
		notify_remove(store->fd, name, NULL);
	}
	fdstore_sync(store);
}

void fdstore_discard(struct fdstore *store)
{
	size_t i;

	forget(store);
	for (i = 0; i < store->nr_found; i++)
		close(store->found[i].fd);
	fdstore_release(store);
}

static bool anybody_depends(const struct fdstore *store)
{
	bool any = false, fixed;
	size_t i;

	for (i = 0; i < store->nr_found; i++)
		if (uffd_is_one(store->found[i].fd, &fixed) &&
		    uffd_quiet(store->found[i].fd) != UFFD_EXITED)
			any = true;
	return any;
}

void fdstore_abandon(struct fdstore *store)
{
	static const struct timespec tick = {.tv_nsec = 50L * 1000 * 1000};
	struct err err = {0};
	unsigned ticks;
	size_t i;

	for (i = 0; i < store->nr_found; i++)
		if (store->found[i].kind == KEPT_PIDFD &&
		    proctree_kill(store->found[i].fd, &err) < 0)
			log_error("%s", err.text);
	for (ticks = 0; anybody_depends(store); ticks++) {
		if (ticks % 1200 == 20)
			log_error("processes are left whose memory is not complete and which "
			          "cannot be named: kill them; until then their threads wait");
		nanosleep(&tick, NULL);
	}
	forget(store);
}
