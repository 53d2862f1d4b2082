/* SPDX-License-Identifier: GPL-2.0-or-later */
/* helper-socket.h - the helper's socket in fuzz targets: a name of its own in no file system. */
#ifndef TEST_FUZZ_HELPER_SOCKET_H
#define TEST_FUZZ_HELPER_SOCKET_H

#include "test/fuzz/must.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_un listener_addr = {.sun_family = AF_UNIX};
static socklen_t listener_addr_len;
static int listener = -1;

/* passcred: the helper learns whose descriptors come. */
static inline void listener_open(bool passcred)
{
	int value = passcred;

	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	MUST(listener >= 0);
	MUST(setsockopt(listener, SOL_SOCKET, SO_PASSCRED, &value, sizeof(value)) == 0);
	MUST(bind(listener, (struct sockaddr *)&listener_addr, sizeof(sa_family_t)) == 0);
	MUST(listen(listener, 10) == 0);
	listener_addr_len = sizeof(listener_addr);
	MUST(getsockname(listener, (struct sockaddr *)&listener_addr, &listener_addr_len) == 0);
}

static inline int call(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	MUST(fd >= 0);
	if (connect(fd, (struct sockaddr *)&listener_addr, listener_addr_len) < 0) {
		close(fd); /* ten wait already */
		return -1;
	}
	return fd;
}

/* Who waits at the socket when it is closed, with what was sent, is let down by the kernel. */
static inline void drain_backlog(void)
{
	int fd;

	while ((fd = accept(listener, NULL, NULL)) >= 0)
		close(fd);
}

#endif
