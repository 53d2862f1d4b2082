/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal: whoever dies while writing leaves a prefix of what was written, at whichever byte;
 * what somebody has damaged is refused.
 */
#include "test/unit/journal-world.h"

/* --- cut and damaged -------------------------------------------------------------------------- */

enum { CUT_RECORDS = 24 };

struct image {
	uint8_t bytes[16 << 10];
	size_t start[CUT_RECORDS + 1];
};

/* CUT_RECORDS records, every fourth of them events. */
static void make_image(struct image *image)
{
	struct journal *j = fresh();
	struct journal_record r;
	const void *payload;
	size_t at = 0;
	uint32_t nr;

	for (nr = 0; nr < CUT_RECORDS; nr++)
		if (nr % 4 == 3) {
			put_messages(journal_events_begin(j, EVENTS, nr, 8), nr, 1 + nr % 8);
			journal_events_end(j, 1 + nr % 8, true);
		} else {
			assert_int_equal(add_nr(j, PLAIN, nr), 0);
		}
	for (nr = 0; nr <= CUT_RECORDS; nr++) {
		image->start[nr] = at;
		journal_next(j, &at, &r, &payload);
	}
	assert_true(at <= sizeof(image->bytes));
	memcpy(image->bytes, side(j, 0), sizeof(image->bytes));
	journal_free(j);
}

/* Load these bytes: how many records, or -EPROTO.  What is behind them is zero. */
static int load_bytes(const void *bytes, size_t len)
{
	struct journal *j = fresh();
	struct err err = {0};
	int r;

	memcpy(side(j, 0), bytes, len);
	r = journal_load(j, &err);
	if (r == 0) {
		r = (int)count(j);
		/* It can be gone on with, and the next one agrees. */
		assert_int_equal(add_nr(j, PLAIN, (uint32_t)r), 0);
		assert_int_equal(count_loaded(j), r + 1);
	} else {
		assert_int_equal(r, -EPROTO);
		assert_true(err.text[0] && !strchr(err.text, '\n'));
		assert_true(journal_is_broken(j));
	}
	journal_free(j);
	return r;
}

/*
 * In the order in which journal_add() writes: the payload, byte by byte; then id, length, checksum;
 * the type last.  Everywhere before the type the record is not there.
 */
static void test_cut_add(void **state)
{
	static const size_t steps[] = {8, 16, 24}; /* what of the head, from byte 4 on */
	static struct image image;
	static uint8_t bytes[sizeof(image.bytes)];
	size_t nr, at, end, m, i;

	(void)state;
	make_image(&image);
	for (nr = 0; nr < CUT_RECORDS; nr++) {
		at = image.start[nr] + sizeof(struct journal_record);
		end = image.start[nr + 1];
		memset(bytes, 0, sizeof(bytes));
		memcpy(bytes, image.bytes, image.start[nr]);
		for (m = at; m <= end; m++) {
			memcpy(bytes + at, image.bytes + at, m - at);
			assert_int_equal(load_bytes(bytes, sizeof(bytes)), nr);
		}
		for (i = 0; i < 3; i++) {
			memcpy(bytes + image.start[nr] + 4, image.bytes + image.start[nr] + 4,
			       steps[i] - 4);
			assert_int_equal(load_bytes(bytes, sizeof(bytes)), nr);
		}
		memcpy(bytes + image.start[nr], image.bytes + image.start[nr], 4);
		assert_int_equal(load_bytes(bytes, sizeof(bytes)), nr + 1);
	}
}

/* In the order in which events come: the head with an open length, messages, checksum, length. */
static void test_cut_events(void **state)
{
	static struct image image;
	static uint8_t bytes[sizeof(image.bytes)];
	const uint64_t open = JOURNAL_OPEN;
	size_t nr, at, end, m;

	(void)state;
	make_image(&image);
	for (nr = 3; nr < CUT_RECORDS; nr += 4) {
		at = image.start[nr] + sizeof(struct journal_record);
		end = image.start[nr + 1];
		memset(bytes, 0, sizeof(bytes));
		memcpy(bytes, image.bytes, at);
		memcpy(bytes + image.start[nr] + 8, &open, sizeof(open));
		memset(bytes + image.start[nr] + 16, 0, 8);
		for (m = at; m <= end; m += sizeof(struct uffd_msg)) {
			memcpy(bytes + at, image.bytes + at, m - at);
			assert_int_equal(load_bytes(bytes, sizeof(bytes)), m > at ? nr + 1 : nr);
		}
		memcpy(bytes + image.start[nr] + 16, image.bytes + image.start[nr] + 16, 8);
		assert_int_equal(load_bytes(bytes, sizeof(bytes)), nr + 1);
	}
}

/* The last k bytes of a record are missing though its type is there: nobody leaves that. */
static void test_truncated(void **state)
{
	static struct image image;
	static uint8_t bytes[sizeof(image.bytes)];
	size_t nr, k, used = sizeof(struct journal_record);

	(void)state;
	make_image(&image);
	for (nr = 0; nr < CUT_RECORDS; nr++) {
		size_t len = nr % 4 == 3 ? (1 + nr % 8) * sizeof(struct uffd_msg)
		                         : length_of((uint32_t)nr);
		size_t end = image.start[nr] + used + len;

		memset(bytes, 0, sizeof(bytes));
		memcpy(bytes, image.bytes, end);
		for (k = 1; k <= end - image.start[nr]; k++) {
			bool changed = image.bytes[end - k];
			int r;

			bytes[end - k] = 0;
			r = load_bytes(bytes, sizeof(bytes));
			/* Message ends may be zero by themselves. */
			assert_true(r == -EPROTO || r == (int)nr || (r == (int)nr + 1 && !changed));
		}
		assert_int_equal(load_bytes(bytes, sizeof(bytes)), nr);
	}
}

/* Any byte of the records is another one: refused, or it ends before that one. */
static void test_flipped(void **state)
{
	static const uint8_t masks[] = {0x01, 0x80, 0xff};
	static struct image image;
	size_t i, m, nr = 0, refusals = 0;

	(void)state;
	make_image(&image);
	for (i = 0; i < image.start[CUT_RECORDS]; i++) {
		while (i >= image.start[nr + 1])
			nr++;
		for (m = 0; m < sizeof(masks); m++) {
			int r;

			image.bytes[i] ^= masks[m];
			r = load_bytes(image.bytes, sizeof(image.bytes));
			image.bytes[i] ^= masks[m];
			refusals += r < 0;
			if (r == CUT_RECORDS) /* padding */
				assert_int_equal(image.bytes[i], 0);
			else
				assert_true(r == -EPROTO || r == (int)nr);
		}
	}
	assert_true(refusals > 1000);
}

/* The head: refused at adoption or at loading, or it makes no difference, or all is gone. */
static void test_flipped_head(void **state)
{
	struct err err = {0};
	struct journal *j, *other;
	uint32_t nr;
	size_t i;
	int r;

	(void)state;
	for (i = 0; i < HEAD_SIZE * 8; i++) {
		j = fresh();
		for (nr = 0; nr < 10; nr++)
			assert_int_equal(add_nr(j, PLAIN, nr), 0);
		head(j)[i / 8] ^= (uint8_t)(1 << i % 8);
		r = journal_adopt(&options, dup(journal_fd(j)), &other, &err);
		if (r == 0) {
			if (journal_load(other, &err) == 0)
				assert_true(count(other) == (i == WHICH_SIDE_AT * 8 ? 0 : 10));
			journal_free(other);
		} else {
			assert_int_equal(r, -EPROTO);
			assert_true(i < WHICH_SIDE_AT * 8 || i / 8 >= 16);
		}
		journal_free(j);
	}
}

/* --- killed ----------------------------------------------------------------------------------- */

struct progress {
	_Atomic uint32_t begun, done; /* records */
	_Atomic uint32_t snapshots;
};

/* Records 0, 1, 2, ... for ever; now and then all of them are replaced by the last one. */
static void write_for_ever(struct journal *j, struct progress *p, unsigned seed)
{
	for (uint32_t nr = 0;; nr++) {
		bool snapshot = rand_r(&seed) % 50 == 0 || journal_is_long(j, false);
		uint32_t kind = (uint32_t)rand_r(&seed) % 4;

		atomic_store(&p->begun, nr + 1);
		if (kind == 0) { /* read, and not kept: may be seen as the last */
			put_messages(journal_events_begin(j, UNKEPT, nr, 16), nr, 16);
			journal_events_end(j, 16, false);
		}
		if (snapshot)
			journal_snapshot_begin(j);
		if (!snapshot && kind == 1) {
			put_messages(journal_events_begin(j, EVENTS, nr, 16), nr, 9);
			journal_events_end(j, 9, true);
		} else if (add_nr(j, snapshot ? SNAPSHOT : PLAIN, nr) < 0) {
			_exit(1);
		}
		if (snapshot && !journal_snapshot_commit(j, true))
			_exit(2);
		atomic_store(&p->done, nr + 1);
		if (snapshot)
			atomic_fetch_add(&p->snapshots, 1);
	}
}

/* What is there: one after the other, the first is 0 or a snapshot, the last is the last done. */
static void judge(struct journal *j, const struct progress *p)
{
	struct journal_record r;
	const void *payload;
	size_t at = 0, last = 0, nr_messages;
	uint32_t first = 0, nr = 0;
	struct err err = {0};

	if (journal_load(j, &err) < 0)
		fail_msg("%s", err.text);
	while (journal_next(j, &at, &r, &payload)) {
		assert_true(at > last);
		last = at;
		if (r.type == UNKEPT) {
			assert_false(journal_next(j, &at, &r, &payload));
			break;
		}
		if (!nr)
			first = r.id;
		assert_true(nr ? r.type != SNAPSHOT : r.type == SNAPSHOT || r.id == 0);
		assert_true(is_nr(&r, payload, first + nr, &nr_messages));
		nr++;
	}
	assert_in_range(first + nr, p->done, p->begun);
}

/* A writer is killed anywhere, a hundred times. */
static void test_killed(void **state)
{
	struct progress *p =
		mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned seed = (unsigned)clock_now(), snapshots = 0;

	(void)state;
	print_message("seed %u\n", seed);
	assert_true(p != MAP_FAILED);
	for (int round = 0; round < 100; round++) {
		struct journal *j = fresh();
		uint32_t before;
		pid_t pid;

		memset(p, 0, sizeof(*p));
		pid = fork_child();
		if (pid == 0)
			write_for_ever(j, p, seed);
		while (!atomic_load(&p->done))
			usleep(50);
		usleep((useconds_t)rand_r(&seed) % 3000);
		kill(pid, SIGKILL);
		assert_true(WIFSIGNALED(reap(pid)));
		snapshots += p->snapshots;
		before = p->done;
		assert_true(before > 0);
		judge(j, p);
		judge(j, p); /* the next one sees the same */
		journal_free(j);
	}
	assert_true(snapshots > 100);
	munmap(p, sizeof(*p));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_cut_add), TIMED(test_cut_events),   TIMED(test_truncated),
		TIMED(test_flipped), TIMED(test_flipped_head), TIMED(test_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
