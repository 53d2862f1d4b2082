/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cleanup.h - ownership by scope.
 *
 *	cleanup_close int fd = open(...);	closed when it leaves scope, unless
 *	return steal_fd(&fd);			its owner changes
 *
 *	cleanup_free char *buf = malloc(...);
 *	*ret_buf = steal_ptr(&buf);
 */
#ifndef CRIU_LAZY_BASE_CLEANUP_H
#define CRIU_LAZY_BASE_CLEANUP_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_close_fd(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

static inline void cleanup_free_ptr(void *ptr)
{
	free(*(void **)ptr);
}

static inline void cleanup_fclose_file(FILE **file)
{
	if (*file)
		fclose(*file);
}

static inline int steal_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#define steal_ptr(ptr)                              \
	({                                          \
		__typeof__(*(ptr)) taken_ = *(ptr); \
		*(ptr) = NULL;                      \
		taken_;                             \
	})

#define cleanup_close  __attribute__((cleanup(cleanup_close_fd)))
#define cleanup_free   __attribute__((cleanup(cleanup_free_ptr)))
#define cleanup_fclose __attribute__((cleanup(cleanup_fclose_file)))

#endif
