/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See queue.h. */
#include <err.h>
#include <stdlib.h>

#include "test/proxy/queue.h"

enum { CHUNK = 64 * 1024, WORTH_FILLING = 2048 };

struct chunk {
	struct chunk *next;
	uint32_t start, end;
	uint8_t data[CHUNK];
};

struct stamp {
	uint64_t due, bytes;
};

static struct chunk *chunk_get(struct pool *pool)
{
	struct chunk *c = pool->free;

	if (c)
		pool->free = c->next;
	else if (!(c = malloc(sizeof(*c))))
		err(1, "malloc");
	c->next = NULL;
	c->start = c->end = 0;
	return c;
}

static void chunk_put(struct pool *pool, struct chunk *c)
{
	c->next = pool->free;
	pool->free = c;
}

void pool_free(struct pool *pool)
{
	struct chunk *c;

	while ((c = pool->free)) {
		pool->free = c->next;
		free(c);
	}
}

void queue_init(struct queue *q, struct pool *pool)
{
	*q = (struct queue){.pool = pool, .max_stamps = 64};
	q->stamps = malloc(q->max_stamps * sizeof(*q->stamps));
	if (!q->stamps)
		err(1, "malloc");
}

void queue_free(struct queue *q)
{
	struct chunk *c;

	while ((c = q->first)) {
		q->first = c->next;
		chunk_put(q->pool, c);
	}
	while (q->nr_spare)
		chunk_put(q->pool, q->spare[--q->nr_spare]);
	free(q->stamps);
	q->stamps = NULL;
	q->last = NULL;
	q->nr_stamps = 0;
	q->bytes = 0;
}

int queue_space(struct queue *q, size_t want, struct iovec *iov)
{
	int n = 0;

	if (q->last && CHUNK - q->last->end >= WORTH_FILLING) {
		size_t room = CHUNK - q->last->end;

		iov[n++] = (struct iovec){q->last->data + q->last->end, room < want ? room : want};
		want -= iov[0].iov_len;
	}
	while (n < QUEUE_IOV && want) {
		struct chunk *c = chunk_get(q->pool);

		q->spare[q->nr_spare++] = c;
		iov[n++] = (struct iovec){c->data, want < CHUNK ? want : CHUNK};
		want -= iov[n - 1].iov_len;
	}
	return n;
}

static void add_stamp(struct queue *q, size_t bytes, uint64_t due)
{
	struct stamp *last;

	if (q->nr_stamps) {
		last = &q->stamps[(q->first_stamp + q->nr_stamps - 1) % q->max_stamps];
		if (last->due >= due) {
			last->bytes += bytes;
			return;
		}
	}
	if (q->nr_stamps == q->max_stamps) {
		struct stamp *more = malloc(2 * q->max_stamps * sizeof(*more));

		if (!more)
			err(1, "malloc");
		for (size_t i = 0; i < q->nr_stamps; i++)
			more[i] = q->stamps[(q->first_stamp + i) % q->max_stamps];
		free(q->stamps);
		q->stamps = more;
		q->first_stamp = 0;
		q->max_stamps *= 2;
	}
	q->stamps[(q->first_stamp + q->nr_stamps++) % q->max_stamps] = (struct stamp){due, bytes};
}

void queue_added(struct queue *q, size_t bytes, uint64_t due)
{
	size_t left = bytes;
	unsigned used = 0;

	if (q->last && CHUNK - q->last->end >= WORTH_FILLING) {
		size_t n = CHUNK - q->last->end < left ? CHUNK - q->last->end : left;

		q->last->end += (uint32_t)n;
		left -= n;
	}
	while (left) {
		struct chunk *c = q->spare[used++];

		c->end = (uint32_t)(left < CHUNK ? left : CHUNK);
		left -= c->end;
		if (q->last)
			q->last->next = c;
		else
			q->first = c;
		q->last = c;
	}
	while (q->nr_spare > used)
		chunk_put(q->pool, q->spare[--q->nr_spare]);
	q->nr_spare = 0;
	q->bytes += bytes;
	if (bytes)
		add_stamp(q, bytes, due);
}

uint64_t queue_next(const struct queue *q)
{
	return q->nr_stamps ? q->stamps[q->first_stamp].due : UINT64_MAX;
}

int queue_due(const struct queue *q, uint64_t now, size_t max, struct iovec *iov, size_t *ret_bytes)
{
	size_t bytes = 0, left;
	int n = 0;

	for (size_t i = 0; i < q->nr_stamps && bytes < max; i++) {
		const struct stamp *s = &q->stamps[(q->first_stamp + i) % q->max_stamps];

		if (s->due > now)
			break;
		bytes += s->bytes;
	}
	left = bytes < max ? bytes : max;
	bytes = 0;
	for (struct chunk *c = q->first; c && left && n < QUEUE_IOV; c = c->next) {
		size_t len = c->end - c->start < left ? c->end - c->start : left;

		iov[n++] = (struct iovec){c->data + c->start, len};
		bytes += len;
		left -= len;
	}
	*ret_bytes = bytes;
	return n;
}

void queue_sent(struct queue *q, size_t bytes)
{
	q->bytes -= bytes;
	for (size_t left = bytes; left;) {
		struct stamp *s = &q->stamps[q->first_stamp];
		uint64_t n = s->bytes < left ? s->bytes : left;

		s->bytes -= n;
		left -= n;
		if (!s->bytes) {
			q->first_stamp = (q->first_stamp + 1) % q->max_stamps;
			q->nr_stamps--;
		}
	}
	while (q->first) {
		struct chunk *c = q->first;
		size_t n = c->end - c->start < bytes ? c->end - c->start : bytes;

		c->start += (uint32_t)n;
		bytes -= n;
		if (c->start != c->end)
			break;
		q->first = c->next;
		if (!q->first)
			q->last = NULL;
		chunk_put(q->pool, c);
	}
}
