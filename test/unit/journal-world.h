/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * journal-world.h - for the tests of the journal: a small one, and records that tell their own
 * number, so that a prefix of what was written is recognised by itself.
 */
#ifndef TEST_UNIT_JOURNAL_WORLD_H
#define TEST_UNIT_JOURNAL_WORLD_H

#include "criu-lazy/engine/journal.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/os/uffd-abi.h"
#include "test/unit/patience.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	LIMIT = 128 << 10,
	STATE = 100,
	SIDE_AT = 2 * PAGE_SIZE, /* the head, the state */
	/* of the head */
	VERSION_AT = 8,
	WHICH_SIDE_AT = 12,
	HEAD_SIZE = 56,
	/* types of records */
	PLAIN = 7,
	EVENTS,
	OPENED,
	SNAPSHOT,
	UNKEPT, /* events */
};

static const struct journal_options options = {
	.name = "test journal", .identity = 42, .limit = LIMIT, .state_size = STATE};

static inline struct journal *fresh(void)
{
	struct journal *j;
	struct err err = {0};

	assert_int_equal(journal_new(&options, &j, &err), 0);
	return j;
}

/* As another process that was given the descriptor. */
static inline struct journal *adopt(const struct journal *j)
{
	struct journal *other;
	struct err err = {0};

	assert_int_equal(journal_adopt(&options, dup(journal_fd(j)), &other, &err), 0);
	return other;
}

static inline uint8_t *side(struct journal *j, unsigned nr)
{
	return (uint8_t *)journal_state(j) - PAGE_SIZE + SIDE_AT + nr * (size_t)LIMIT;
}

static inline uint8_t *head(struct journal *j)
{
	return (uint8_t *)journal_state(j) - PAGE_SIZE;
}

/* --- records that can be told apart ----------------------------------------------------------- */

static inline size_t length_of(uint32_t nr)
{
	return nr * 37 % 201; /* some empty, some not a multiple of 8 */
}

static inline uint8_t byte_of(uint32_t nr, size_t i)
{
	return (uint8_t)(1 + (nr * 131 + i * 7) % 255);
}

static inline int add_nr(struct journal *j, uint32_t type, uint32_t nr)
{
	uint8_t bytes[256];
	size_t len = length_of(nr), cut = len / 3, i;

	for (i = 0; i < len; i++)
		bytes[i] = byte_of(nr, i);
	return journal_add(j, type, nr, bytes, cut, bytes + cut, len - cut);
}

static inline struct uffd_msg message_of(uint32_t nr, size_t i)
{
	struct uffd_msg msg = {.event = UFFD_EVENT_UNMAP};

	msg.arg.remove.start = nr;
	msg.arg.remove.end = i;
	return msg;
}

/* Is this record number nr, whole?  Of events: how many messages. */
static inline bool is_nr(const struct journal_record *r, const void *payload, uint32_t nr,
                         size_t *ret_messages)
{
	const uint8_t *bytes = payload;
	size_t i;

	*ret_messages = 0;
	if (r->id != nr)
		return false;
	if (r->type == EVENTS) {
		for (i = 0; i < r->len / sizeof(struct uffd_msg); i++) {
			struct uffd_msg msg = message_of(nr, i);

			if (memcmp(bytes + i * sizeof(msg), &msg, sizeof(msg)))
				return false;
		}
		*ret_messages = i;
		return r->len % sizeof(struct uffd_msg) == 0;
	}
	if (r->len != length_of(nr))
		return false;
	for (i = 0; i < r->len; i++)
		if (bytes[i] != byte_of(nr, i))
			return false;
	return true;
}

/* Records 0.. in order: how many.  All must be whole. */
static inline uint32_t count(struct journal *j)
{
	struct journal_record r;
	const void *payload;
	size_t at = 0, nr_messages;
	uint32_t nr = 0;

	while (journal_next(j, &at, &r, &payload))
		assert_true(is_nr(&r, payload, nr++, &nr_messages));
	return nr;
}

static inline uint32_t count_loaded(struct journal *j)
{
	struct err err = {0};

	assert_int_equal(journal_load(j, &err), 0);
	return count(j);
}

static inline void put_messages(struct uffd_msg *msgs, uint32_t nr, size_t nr_messages)
{
	for (size_t i = 0; i < nr_messages; i++) {
		struct uffd_msg msg = message_of(nr, i);

		/* The kernel's cannot be torn by a kill; so these must not be. */
		msgs[i].arg = msg.arg;
		__atomic_store_n(&msgs[i].event, msg.event, __ATOMIC_RELEASE);
	}
}

#endif
