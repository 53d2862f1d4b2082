/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/engine/journal.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/os/shm.h"
#include "criu-lazy/os/uffd-abi.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static const uint64_t MAGIC = UINT64_C(0x314c4e4a595a4c43);

/* Records are prepared for this much ahead, so that the usual ones find memory at once. */
enum { AHEAD = 64 << 10, LONG_AT_LEAST = 1 << 20, LONG_TO_REPLAY = 32 << 10 };

/* Room for marks: enough for 2 PiB of memory, children included.  It costs nothing. */
#define MARKS_ROOM (UINT64_C(1) << 36)

struct head {
	uint64_t magic;
	uint32_t version;
	_Atomic uint32_t side;
	uint64_t identity;
	uint64_t limit;
	uint64_t state_size;
	uint64_t marks_used; /* bytes */
	uint32_t broken;
};

struct journal {
	struct shm shm;
	struct head *head;
	char name[40];
	size_t limit;
	size_t state_size;
	unsigned side; /* that is written to */
	size_t used; /* of it */
	size_t populated; /* of it: pages up to here are at hand */
	size_t snapshot; /* how long the last one was */
	/* while a snapshot is written */
	bool in_snapshot, snapshot_failed;
	size_t before_used, before_populated;
};

static size_t side_at(const struct journal *j, unsigned side)
{
	return PAGE_SIZE + page_down(j->state_size + PAGE_SIZE - 1) + side * j->limit;
}

static uint64_t marks_at(const struct journal *j)
{
	return side_at(j, 2);
}

static struct journal_record *record_at(struct journal *j, size_t at)
{
	return (struct journal_record *)(void *)(j->shm.mem + side_at(j, j->side) + at);
}

static size_t padded(size_t len)
{
	return (len + 7) & ~(size_t)7;
}

/* The checksum is of all but itself, in the order of the bytes. */
static uint64_t sum_of(const struct journal_record *r, uint32_t type, uint64_t len)
{
	const struct journal_record head = {.type = type, .id = r->id, .len = len};

	return XXH3_64bits_withSeed(r + 1, len, XXH3_64bits(&head, sizeof(head)));
}

/* --- life ------------------------------------------------------------------------------------- */

static int prepare(const struct journal_options *options, struct journal **ret, size_t *ret_mapped,
                   struct err *err)
{
	struct journal *j = calloc(1, sizeof(*j));

	if (!j)
		return err_set(err, ENOMEM, "a journal");
	snprintf(j->name, sizeof(j->name), "%s", options->name);
	j->limit = options->limit ? options->limit : JOURNAL_LIMIT;
	j->state_size = options->state_size;
	*ret_mapped = side_at(j, 2);
	*ret = j;
	return 0;
}

int journal_new(const struct journal_options *options, struct journal **ret, struct err *err)
{
	struct journal *j;
	size_t mapped;
	int r = prepare(options, &j, &mapped, err);

	if (r < 0)
		return r;
	r = shm_new(j->name, mapped + MARKS_ROOM, mapped, &j->shm, err);
	if (r == 0) {
		r = shm_populate(&j->shm, 0, side_at(j, 0));
		if (r < 0) {
			err_set(err, -r, "memory for %s", j->name);
			shm_release(&j->shm);
		}
	}
	if (r < 0) {
		free(j);
		return r;
	}
	j->head = (struct head *)(void *)j->shm.mem;
	*j->head = (struct head){.magic = MAGIC,
	                         .version = JOURNAL_VERSION,
	                         .identity = options->identity,
	                         .limit = j->limit,
	                         .state_size = j->state_size};
	*ret = j;
	return 0;
}

int journal_adopt(const struct journal_options *options, int fd, struct journal **ret,
                  struct err *err)
{
	struct journal *j;
	size_t mapped;
	int r = prepare(options, &j, &mapped, err);

	if (r < 0)
		return r;
	r = shm_adopt(fd, mapped + MARKS_ROOM, mapped, &j->shm, err);
	if (r < 0) {
		free(j);
		return err_wrap(err, "%s", options->name);
	}
	j->head = (struct head *)(void *)j->shm.mem;
	if (j->head->magic != MAGIC || j->head->version != JOURNAL_VERSION)
		r = err_set(err, EPROTO, "%s: not a journal of this version", j->name);
	else if (j->head->identity != options->identity)
		r = err_set(err, EPROTO, "%s: it is about other images", j->name);
	else if (j->head->limit != j->limit || j->head->state_size != j->state_size)
		r = err_set(err, EPROTO, "%s: it was made with other options", j->name);
	if (r < 0) {
		j->shm.fd = -1; /* the caller's still */
		munmap(j->shm.mem, j->shm.mapped);
		free(j);
		return r;
	}
	*ret = j;
	return 0;
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	shm_release(&j->shm);
	free(j);
}

int journal_fd(const struct journal *j)
{
	return j->shm.fd;
}

const char *journal_name(const struct journal *j)
{
	return j->name;
}

void *journal_state(struct journal *j)
{
	return j->shm.mem + PAGE_SIZE;
}

/* --- writing ---------------------------------------------------------------------------------- */

int journal_reserve(struct journal *j, size_t len)
{
	size_t want = j->used + len + AHEAD / 2;
	int r;

	if (want <= j->populated)
		return 0;
	if (want > j->limit)
		return -ENOSPC;
	want = page_down(want + AHEAD);
	if (want > j->limit)
		want = j->limit;
	r = shm_populate(&j->shm, side_at(j, j->side) + j->populated, want - j->populated);
	if (r == 0)
		j->populated = want;
	return r;
}

static void publish(struct journal_record *r, uint32_t type, uint32_t id, uint64_t len)
{
	r->id = id;
	r->len = len;
	r->sum = sum_of(r, type, len);
	atomic_signal_fence(memory_order_release);
	__atomic_store_n(&r->type, type, __ATOMIC_RELEASE);
}

int journal_add(struct journal *j, uint32_t type, uint32_t id, const void *head, size_t head_len,
                const void *tail, size_t tail_len)
{
	size_t len = head_len + tail_len;
	struct journal_record *r;
	int error = journal_reserve(j, sizeof(*r) + padded(len));

	if (error < 0) {
		j->snapshot_failed = j->in_snapshot;
		return error;
	}
	r = record_at(j, j->used);
	if (head_len)
		memcpy(r + 1, head, head_len);
	if (tail_len)
		memcpy((uint8_t *)(r + 1) + head_len, tail, tail_len);
	publish(r, type, id, len);
	j->used += sizeof(*r) + padded(len);
	return 0;
}

void *journal_open(struct journal *j, uint32_t type, uint32_t id, size_t len)
{
	struct journal_record *r;

	if (journal_reserve(j, sizeof(*r) + padded(len)) < 0)
		return NULL;
	r = record_at(j, j->used);
	r->id = id;
	r->len = len;
	r->sum = JOURNAL_OPEN;
	__atomic_store_n(&r->type, type, __ATOMIC_RELEASE);
	return r + 1;
}

/* Without a trace: what was written must be zero again, before the type is. */
static void undo(struct journal_record *r, size_t len)
{
	memset(r + 1, 0, len);
	atomic_signal_fence(memory_order_release);
	__atomic_store_n(&r->type, 0, __ATOMIC_RELEASE);
}

void journal_seal(struct journal *j, bool keep)
{
	struct journal_record *r = record_at(j, j->used);

	if (!keep) {
		undo(r, r->len);
		return;
	}
	r->sum = sum_of(r, r->type, r->len);
	j->used += sizeof(*r) + padded(r->len);
}

struct uffd_msg *journal_events_begin(struct journal *j, uint32_t type, uint32_t id, size_t max)
{
	struct journal_record *r;

	if (journal_reserve(j, sizeof(*r) + max * sizeof(struct uffd_msg)) < 0)
		return NULL;
	r = record_at(j, j->used);
	r->id = id;
	r->len = JOURNAL_OPEN;
	__atomic_store_n(&r->type, type, __ATOMIC_RELEASE);
	return (struct uffd_msg *)(void *)(r + 1);
}

void journal_events_end(struct journal *j, size_t nr, bool keep)
{
	struct journal_record *r = record_at(j, j->used);
	size_t len = nr * sizeof(struct uffd_msg);

	if (!keep) {
		undo(r, len);
		return;
	}
	/* The sum is looked at only once the length is there. */
	r->sum = sum_of(r, r->type, len);
	atomic_signal_fence(memory_order_release);
	__atomic_store_n(&r->len, len, __ATOMIC_RELEASE);
	j->used += sizeof(*r) + padded(len);
}

static void clear_side(struct journal *j, unsigned side, size_t used)
{
	/* What cannot be given back is at least zero. */
	if (used && shm_clear(&j->shm, side_at(j, side), page_down(used + PAGE_SIZE - 1)) < 0)
		memset(j->shm.mem + side_at(j, side), 0, used);
}

/* --- snapshots -------------------------------------------------------------------------------- */

bool journal_is_long(const struct journal *j, bool replayed)
{
	size_t few = 4 * j->snapshot;

	size_t least = replayed ? LONG_TO_REPLAY : LONG_AT_LEAST;

	if (few < least)
		few = least;
	return j->used > few || j->used > j->limit / 2;
}

void journal_snapshot_begin(struct journal *j)
{
	j->in_snapshot = true;
	j->snapshot_failed = false;
	j->before_used = j->used;
	j->before_populated = j->populated;
	j->side = !j->side;
	j->used = j->populated = 0;
}

bool journal_snapshot_commit(struct journal *j, bool whole)
{
	unsigned other = !j->side;

	j->in_snapshot = false;
	if (j->snapshot_failed || !whole) {
		clear_side(j, j->side, j->used);
		j->side = other;
		j->used = j->before_used;
		j->populated = j->before_populated;
		return false;
	}
	atomic_store(&j->head->side, j->side);
	j->snapshot = j->used;
	clear_side(j, other, j->before_populated);
	return true;
}

/* --- marks ------------------------------------------------------------------------------------ */

uint64_t *journal_marks_at(struct journal *j, uint64_t at, size_t nr_words)
{
	size_t len = page_down(nr_words * sizeof(uint64_t) + PAGE_SIZE - 1);
	void *mem;

	if (!len || !page_aligned(at) || at > MARKS_ROOM || len > MARKS_ROOM - at) {
		errno = EINVAL;
		return NULL;
	}
	mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, j->shm.fd,
	           (off_t)(marks_at(j) + at));
	return mem == MAP_FAILED ? NULL : mem;
}

uint64_t *journal_marks_new(struct journal *j, size_t nr_words, uint64_t *ret_at)
{
	size_t len = page_down(nr_words * sizeof(uint64_t) + PAGE_SIZE - 1);
	uint64_t at = j->head->marks_used;
	uint64_t *marks = journal_marks_at(j, at, nr_words);

	if (!marks)
		return NULL;
	j->head->marks_used = at + len;
	*ret_at = at;
	return marks;
}

void journal_marks_leave(uint64_t *marks, size_t nr_words)
{
	if (marks)
		munmap(marks, page_down(nr_words * sizeof(uint64_t) + PAGE_SIZE - 1));
}

void journal_marks_free(struct journal *j, uint64_t at, uint64_t *marks, size_t nr_words)
{
	size_t len = page_down(nr_words * sizeof(uint64_t) + PAGE_SIZE - 1);

	if (!marks)
		return;
	journal_marks_leave(marks, nr_words);
	shm_clear(&j->shm, marks_at(j) + at, len);
	if (at + len == j->head->marks_used)
		j->head->marks_used = at;
}

/* --- reading ---------------------------------------------------------------------------------- */

static int corrupt(struct journal *j, size_t at, const char *what, struct err *err)
{
	j->head->broken = 1;
	return err_set(err, EPROTO, "%s: byte %zu: %s", j->name, at, what);
}

static void seal_events(struct journal_record *r, size_t room)
{
	const struct uffd_msg *msg = (const void *)(r + 1);
	size_t nr = 0;

	while ((nr + 1) * sizeof(*msg) <= room && msg[nr].event)
		nr++;
	if (nr) {
		r->sum = sum_of(r, r->type, nr * sizeof(*msg));
		atomic_signal_fence(memory_order_release);
		__atomic_store_n(&r->len, nr * sizeof(*msg), __ATOMIC_RELEASE);
	} else {
		r->type = 0;
	}
}

/* Whoever died may have left half a record behind the end. */
static void clear_rest(struct journal *j, size_t at)
{
	size_t next = page_down(at + PAGE_SIZE - 1);

	memset(record_at(j, at), 0, next - at);
	shm_clear(&j->shm, side_at(j, j->side) + next, j->limit - next);
}

int journal_load(struct journal *j, struct err *err)
{
	struct journal_record *r;
	size_t at = 0;

	if (j->head->broken)
		return err_set(err, EPROTO, "%s: it was given up", j->name);
	if (j->head->side > 1 || j->head->marks_used > MARKS_ROOM)
		return corrupt(j, 0, "its head is damaged", err);
	j->side = j->head->side;
	j->in_snapshot = false;
	/* A snapshot that was never finished. */
	shm_clear(&j->shm, side_at(j, !j->side), j->limit);
	for (;; at += sizeof(*r) + padded(r->len)) {
		size_t room = j->limit - at;

		if (room < sizeof(*r))
			break;
		r = record_at(j, at);
		if (!r->type)
			break;
		room -= sizeof(*r);
		if (r->len == JOURNAL_OPEN)
			seal_events(r, room);
		if (!r->type)
			break;
		if (r->len > room || padded(r->len) > room)
			return corrupt(j, at, "a record is longer than the journal", err);
		if (r->sum == JOURNAL_OPEN)
			r->sum = sum_of(r, r->type, r->len);
		if (r->sum != sum_of(r, r->type, r->len))
			return corrupt(j, at, "the checksum of a record is wrong", err);
	}
	clear_rest(j, at);
	j->used = at;
	j->populated = page_down(at);
	return 0;
}

bool journal_next(struct journal *j, size_t *at, struct journal_record *ret,
                  const void **ret_payload)
{
	const struct journal_record *r;

	if (*at >= j->used)
		return false;
	r = record_at(j, *at);
	*ret = *r;
	*ret_payload = r + 1;
	*at += sizeof(*r) + padded(r->len);
	return true;
}

void journal_break(struct journal *j)
{
	j->head->broken = 1;
}

bool journal_is_broken(const struct journal *j)
{
	return j->head->broken;
}
