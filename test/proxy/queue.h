/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TEST_PROXY_QUEUE_H
#define TEST_PROXY_QUEUE_H

/*
 * Bytes on their way, each with the moment at which it may go on: one queue for each direction of a
 * connection.  Bytes lie in chunks of a pool that the whole proxy shares, last returned first
 * taken, so that what was just written is still in the processor's cache when it is used anew.
 *
 *	n = queue_space(q, iov, want)		where to read to
 *	queue_added(q, bytes, due)		bytes have been read there
 *	n = queue_due(q, now, iov, max)		what may be sent
 *	queue_sent(q, bytes)
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct chunk;
struct stamp;

enum { QUEUE_IOV = 8 }; /* chunks that one system call fills or empties */

struct pool {
	struct chunk *free;
};

struct queue {
	struct pool *pool;
	struct chunk *first, *last; /* last may be partly filled */
	struct chunk *spare[QUEUE_IOV]; /* offered by queue_space(), not yet filled */
	unsigned nr_spare;
	struct stamp *stamps; /* a ring: when how many bytes are due */
	size_t nr_stamps, first_stamp, max_stamps;
	uint64_t bytes;
};

void queue_init(struct queue *q, struct pool *pool);
void queue_free(struct queue *q);
void pool_free(struct pool *pool);

/* Room for at most `want` bytes; the number of elements of iov[QUEUE_IOV] that were set. */
int queue_space(struct queue *q, size_t want, struct iovec *iov);
/* Nothing overtakes: bytes are due no earlier than those before them. */
void queue_added(struct queue *q, size_t bytes, uint64_t due);

/* When the first byte is due; UINT64_MAX: there is none. */
uint64_t queue_next(const struct queue *q);
/* What is due by now; the number of elements set, *ret_bytes in them. */
int queue_due(const struct queue *q, uint64_t now, size_t max, struct iovec *iov,
              size_t *ret_bytes);
void queue_sent(struct queue *q, size_t bytes);

#endif
