/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream-world.h - what the tests of streams share: a stream with its peer's descriptor, bytes of
 * which each is known by its place, and a peer that writes or reads in pieces.
 */
#ifndef TEST_UNIT_STREAM_WORLD_H
#define TEST_UNIT_STREAM_WORLD_H

#include "criu-lazy/os/stream.h"
#include "test/unit/images-dir.h"
#include "test/unit/patience.h"

#include <pthread.h>
#include <sys/socket.h>

enum { BIG = 4 << 20 };

struct pair {
	struct stream *s;
	int peer;
};

static inline void open_pair(struct pair *p)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	p->s = stream_new(fds[0]);
	p->peer = fds[1];
	assert_non_null(p->s);
	assert_int_equal(stream_fd(p->s), fds[0]);
	assert_true(stream_is_plain(p->s));
	assert_true(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
}

static inline void close_pair(struct pair *p)
{
	stream_free(p->s);
	close(p->peer);
}

static inline uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 31 + i / 4096 * 7);
}

static inline uint8_t *pattern(size_t len)
{
	uint8_t *bytes = malloc(len);
	size_t i;

	assert_non_null(bytes);
	for (i = 0; i < len; i++)
		bytes[i] = byte_at(i);
	return bytes;
}

/* --- a peer that writes or reads in pieces, in a thread of its own ---------------------------- */

struct peer {
	int fd;
	size_t len; /* in all */
	size_t piece; /* at a time */
	bool ok;
	pthread_t thread;
};

static inline void *peer_writes(void *arg)
{
	struct peer *p = arg;
	uint8_t buf[8192];
	size_t done, i;

	for (done = 0; done < p->len; done += p->piece) {
		size_t nr = p->len - done < p->piece ? p->len - done : p->piece;

		for (i = 0; i < nr; i++)
			buf[i] = byte_at(done + i);
		if (send(p->fd, buf, nr, MSG_NOSIGNAL) != (ssize_t)nr)
			return NULL;
	}
	p->ok = true;
	return NULL;
}

static inline void *peer_reads(void *arg)
{
	struct peer *p = arg;
	uint8_t buf[8192];
	size_t done = 0;
	ssize_t got, i;

	while ((got = read(p->fd, buf, p->piece)) > 0) {
		for (i = 0; i < got; i++)
			if (buf[i] != byte_at(done + (size_t)i))
				return NULL;
		done += (size_t)got;
	}
	p->ok = got == 0 && done == p->len;
	return NULL;
}

static inline void start(struct peer *p, void *(*run)(void *), int fd, size_t len, size_t piece)
{
	*p = (struct peer){.fd = fd, .len = len, .piece = piece};
	assert_int_equal(pthread_create(&p->thread, NULL, run, p), 0);
}

static inline bool ended_well(struct peer *p)
{
	pthread_join(p->thread, NULL);
	return p->ok;
}

#endif
