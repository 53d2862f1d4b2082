/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * journal.h - what a worker must not forget when it dies: a log of records in shared memory.
 *
 *	journal_new(&options, &j, err);		the guardian, before there is a worker
 *	journal_add(j, type, id, ...);		a worker, for each thing that happened
 *	msgs = journal_events_begin(j, id, 64);	events of a userfaultfd are read *into* it
 *	journal_events_end(j, nr, keep);
 *	...					it dies
 *	journal_load(j, err);			the next one: is all of it well-formed?
 *	journal_next(j, &at, &record)		and what was it?
 *
 * Layout: a head of one page; the owner's state; two sides of `limit` bytes each, of which one is
 * in use; marks.  A side is a sequence of records
 *
 *	struct journal_record | payload, padded to 8 bytes
 *
 * and ends at the first type 0.  A record is written from its end: the payload, then the checksum
 * (XXH3-64 of record and payload), the type last; so whoever dies while writing has written
 * nothing.  Of the record of an unfinished read the length is JOURNAL_OPEN, and its messages are
 * those up to the first whose event is 0: the kernel has put there what it has told, and nobody
 * else knows of it.  A kill cannot tear a message: it does not interrupt a read that does not
 * sleep.
 *
 * It does not grow without bound: journal_is_long() asks for a snapshot, written into the other
 * side and put in force by one store.  Where a record does not fit, journal_add() answers -ENOSPC;
 * journal_break() then says that nobody can go on from it.
 *
 * One thread writes.  Nothing here survives the host; with systemd's descriptor store it survives
 * guardian and worker.
 */
#ifndef CRIU_LAZY_ENGINE_JOURNAL_H
#define CRIU_LAZY_ENGINE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct journal;
struct uffd_msg;

enum { JOURNAL_VERSION = 1 };

#define JOURNAL_LIMIT ((size_t)256 << 20) /* bytes a side */
#define JOURNAL_OPEN  UINT64_MAX

struct journal_record {
	uint32_t type; /* the owner's, not 0 */
	uint32_t id; /* the owner's */
	uint64_t len; /* of the payload */
	uint64_t sum;
};

struct journal_options {
	const char *name; /* for messages, and in /proc/PID/maps */
	uint64_t identity; /* of what it is about: who takes it up later must have the same */
	size_t limit; /* bytes a side, whole pages; 0: JOURNAL_LIMIT */
	size_t state_size;
};

int journal_new(const struct journal_options *options, struct journal **ret, struct err *err);

/* From a descriptor that was kept; the options must be the same.  Takes over fd on success. */
int journal_adopt(const struct journal_options *options, int fd, struct journal **ret,
                  struct err *err);

void journal_free(struct journal *j); /* NULL is fine */
int journal_fd(const struct journal *j);
const char *journal_name(const struct journal *j);

/* state_size bytes, zero at first, for what has no history.  Aligned to a page. */
void *journal_state(struct journal *j);

/* --- writing --------------------------------------------------------------------------------- */

/* The next records, len bytes of payload together, will find memory.  0, -ENOMEM or -ENOSPC. */
int journal_reserve(struct journal *j, size_t len);

/* payload in two parts, either of which may be empty.  0, -ENOMEM or -ENOSPC: nothing is added. */
int journal_add(struct journal *j, uint32_t type, uint32_t id, const void *head, size_t head_len,
                const void *tail, size_t tail_len);

/*
 * Where to read at most max messages to; NULL: no memory at present, or no room.  The record has
 * this type.  journal_events_end(): nr have been read; keep: they are to be remembered, else the
 * record vanishes.
 */
struct uffd_msg *journal_events_begin(struct journal *j, uint32_t type, uint32_t id, size_t max);
void journal_events_end(struct journal *j, size_t nr, bool keep);

/*
 * The same for what is no message: len bytes, zero, which whoever writes there (the kernel, within
 * a system call) leaves in a state that tells whether it has written.
 */
void *journal_open(struct journal *j, uint32_t type, uint32_t id, size_t len);
void journal_seal(struct journal *j, bool keep);

/* --- snapshots ------------------------------------------------------------------------------- */

/* replayed: it was long enough for that to be felt. */
bool journal_is_long(const struct journal *j, bool replayed);

/*
 * From here on records go to the other side; commit: they replace everything before.  false at
 * commit: one of them did not fit, or the owner says that they are not whole; everything is as it
 * was before begin.
 */
void journal_snapshot_begin(struct journal *j);
bool journal_snapshot_commit(struct journal *j, bool whole);

/* --- marks ----------------------------------------------------------------------------------- */

/*
 * nr_words words, zero; *ret_at tells where, for journal_marks_at().  NULL: no room, or nothing to
 * mark (errno: EINVAL).  They cost memory where they are set.  journal_marks_free() also unmaps;
 * journal_marks_leave() does only that.
 */
uint64_t *journal_marks_new(struct journal *j, size_t nr_words, uint64_t *ret_at);
uint64_t *journal_marks_at(struct journal *j, uint64_t at, size_t nr_words);
void journal_marks_leave(uint64_t *marks, size_t nr_words);
void journal_marks_free(struct journal *j, uint64_t at, uint64_t *marks, size_t nr_words);

/* --- reading --------------------------------------------------------------------------------- */

/* Find the end, check everything.  0, or -EPROTO; then, as after journal_break(), nobody may go on.
 */
int journal_load(struct journal *j, struct err *err);

/*
 * Start with *at 0.  false: no more.  An unfinished read has been sealed by journal_load(), with
 * what the kernel has put there.
 */
bool journal_next(struct journal *j, size_t *at, struct journal_record *ret,
                  const void **ret_payload);

/* Nobody can go on from this one. */
void journal_break(struct journal *j);
bool journal_is_broken(const struct journal *j);

#endif
