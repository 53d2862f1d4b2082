/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The journal: what was written is read again, by the same or by another; at the limit, too. */
#include "test/unit/journal-world.h"

/* --- reading and writing ---------------------------------------------------------------------- */

static void test_add_next(void **state)
{
	struct journal *j = fresh(), *other;
	uint32_t nr;

	(void)state;
	for (nr = 0; nr < 300; nr++)
		assert_int_equal(add_nr(j, PLAIN, nr), 0);
	assert_int_equal(count(j), 300);
	memset(journal_state(j), 'x', STATE);
	other = adopt(j);
	assert_int_equal(count_loaded(other), 300);
	assert_int_equal(((uint8_t *)journal_state(other))[STATE - 1], 'x');
	/* It goes on where the other one was. */
	assert_int_equal(add_nr(other, PLAIN, 300), 0);
	assert_int_equal(count_loaded(j), 301);
	journal_free(other);
	journal_free(j);
	journal_free(NULL);
}

/* Of an unfinished read there is what was read; of none, nothing. */
static void test_events(void **state)
{
	enum { MAX = 64 };
	size_t n, nr_messages, at;
	struct journal_record r;
	const void *payload;
	struct journal *j;
	uint32_t nr;

	(void)state;
	for (n = 0; n <= MAX; n++) {
		j = fresh();
		assert_int_equal(add_nr(j, PLAIN, 0), 0);
		put_messages(journal_events_begin(j, EVENTS, 1, MAX), 1, MAX);
		journal_events_end(j, MAX, true);
		/* Read, and not kept: as if it had never been. */
		put_messages(journal_events_begin(j, EVENTS, 77, MAX), 77, MAX);
		journal_events_end(j, MAX, false);
		journal_events_end((journal_events_begin(j, EVENTS, 78, MAX), j), 0, false);
		assert_int_equal(add_nr(j, PLAIN, 2), 0);
		put_messages(journal_events_begin(j, EVENTS, 3, MAX), 3, n);
		nr = count_loaded(j);
		assert_int_equal(nr, n ? 4 : 3);
		for (at = 0, nr = 0; journal_next(j, &at, &r, &payload); nr++) {
			assert_true(is_nr(&r, payload, nr, &nr_messages));
			assert_int_equal(nr_messages, nr == 1 ? MAX : nr == 3 ? n : 0);
		}
		/* The end is clean: what comes next is read, too. */
		assert_int_equal(add_nr(j, PLAIN, n ? 4 : 3), 0);
		assert_int_equal(count_loaded(j), n ? 5 : 4);
		journal_free(j);
	}
}

static void test_open_seal(void **state)
{
	struct journal *j = fresh();
	uint8_t *room;

	(void)state;
	for (uint32_t nr = 0; nr < 20; nr++) {
		room = journal_open(j, OPENED, 1000, 50);
		assert_non_null(room);
		for (size_t i = 0; i < 50; i++)
			assert_int_equal(room[i], 0);
		memset(room, 0xff, 50);
		journal_seal(j, false);
		room = journal_open(j, OPENED, nr, length_of(nr));
		assert_non_null(room);
		for (size_t i = 0; i < length_of(nr); i++) {
			assert_int_equal(room[i], 0);
			room[i] = byte_of(nr, i);
		}
		/* Its owner dies: then it is there as it is. */
		if (nr % 2)
			assert_int_equal(count_loaded(j), nr + 1);
		else
			journal_seal(j, true);
		assert_int_equal(count_loaded(j), nr + 1);
	}
	journal_free(j);
}

/* --- snapshots, the limit --------------------------------------------------------------------- */

static uint32_t fill(struct journal *j)
{
	uint32_t nr = 0;
	int r;

	while ((r = add_nr(j, PLAIN, nr)) == 0)
		nr++;
	assert_int_equal(r, -ENOSPC);
	return nr;
}

static void test_snapshot(void **state)
{
	struct journal *j = fresh();
	uint32_t nr;

	(void)state;
	for (int round = 0; round < 6; round++) {
		for (nr = count(j); nr < 200; nr++)
			assert_int_equal(add_nr(j, PLAIN, nr), 0);
		journal_snapshot_begin(j);
		for (nr = 0; nr < 10; nr++)
			assert_int_equal(add_nr(j, SNAPSHOT, nr), 0);
		/* Before it is committed a death leaves the old ones: another one looks. */
		if (round == 3) {
			assert_int_equal(count_loaded(j), 200);
			continue;
		}
		assert_true(journal_snapshot_commit(j, true));
		assert_int_equal(count_loaded(j), 10);
	}
	journal_free(j);
}

/*
 * At the limit nothing is lost: what did not fit is not there, all else is; what is smaller may fit
 * still; a snapshot that does not fit changes nothing; one that does makes room.
 */
static void test_limit(void **state)
{
	struct journal *j = fresh();
	uint32_t nr = fill(j), more;

	(void)state;
	assert_true(nr > 100 && journal_is_long(j, false));
	assert_null(journal_events_begin(j, EVENTS, nr, 64));
	assert_null(journal_open(j, OPENED, nr, LIMIT));
	assert_int_equal(journal_reserve(j, LIMIT), -ENOSPC);
	assert_int_equal(count(j), nr);
	assert_int_equal(count_loaded(j), nr);
	assert_false(journal_is_broken(j));

	journal_snapshot_begin(j);
	more = fill(j);
	assert_int_equal(more, nr);
	assert_int_equal(journal_add(j, SNAPSHOT, 0, NULL, 0, NULL, 0), 0); /* it is too late */
	assert_false(journal_snapshot_commit(j, true));
	assert_int_equal(count(j), nr);
	assert_int_equal(count_loaded(j), nr);

	journal_snapshot_begin(j);
	for (more = 0; more < 20; more++)
		assert_int_equal(add_nr(j, SNAPSHOT, more), 0);
	assert_true(journal_snapshot_commit(j, true));
	while (more < nr)
		assert_int_equal(add_nr(j, PLAIN, more++), 0);
	assert_int_equal(count_loaded(j), nr);
	journal_break(j);
	assert_true(journal_is_broken(j));
	assert_int_equal(journal_load(j, NULL), -EPROTO);
	journal_free(j);
}

/* --- marks, adoption -------------------------------------------------------------------------- */

static void test_marks(void **state)
{
	struct journal *j = fresh(), *other;
	uint64_t at[3], again, *marks[3], *view;

	(void)state;
	assert_null(journal_marks_new(j, 0, &again));
	assert_null(journal_marks_new(j, SIZE_MAX / 16, &again));
	for (size_t i = 0; i < 3; i++) {
		marks[i] = journal_marks_new(j, 1000, &at[i]);
		assert_non_null(marks[i]);
		for (size_t w = 0; w < 1000; w++) {
			assert_int_equal(marks[i][w], 0);
			marks[i][w] = i * 1000 + w + 1;
		}
	}
	other = adopt(j);
	view = journal_marks_at(other, at[1], 1000);
	assert_non_null(view);
	assert_int_equal(view[999], 2000);
	assert_null(journal_marks_at(other, at[1] + 8, 1000));
	assert_null(journal_marks_at(other, UINT64_MAX & ~(uint64_t)(PAGE_SIZE - 1), 1000));
	assert_null(journal_marks_at(other, at[1], SIZE_MAX / 16));
	/* One in the middle stays unused, but costs nothing; the last is used again, and is zero.
	 */
	journal_marks_free(j, at[1], marks[1], 1000);
	assert_int_equal(view[999], 0);
	journal_marks_free(j, at[2], marks[2], 1000);
	journal_marks_free(j, 0, NULL, 1000);
	marks[2] = journal_marks_new(j, 500, &again);
	assert_int_equal(again, at[2]);
	for (size_t w = 0; w < 500; w++)
		assert_int_equal(marks[2][w], 0);
	assert_int_equal(marks[0][5], 6);
	journal_marks_free(other, at[1], view, 1000);
	journal_free(other);
	journal_marks_free(j, at[0], marks[0], 1000);
	journal_marks_free(j, again, marks[2], 500);
	journal_free(j);
}

static void refused(const struct journal_options *other, int fd)
{
	struct err err = {0};
	struct journal *j;

	assert_int_equal(journal_adopt(other, fd, &j, &err), -EPROTO);
	assert_int_equal(err.code, EPROTO);
	assert_true(err.text[0] && !strchr(err.text, '\n'));
	assert_true(fcntl(fd, F_GETFD) >= 0); /* still the caller's */
}

static void test_adopt(void **state)
{
	struct journal_options other = options;
	struct journal *j = fresh();
	int fd = journal_fd(j), file;

	(void)state;
	other.identity++;
	refused(&other, fd);
	other = options;
	other.limit += PAGE_SIZE;
	refused(&other, fd); /* by its size */
	other = options;
	other.state_size++;
	refused(&other, fd);
	file = memfd_create("empty", MFD_CLOEXEC);
	refused(&options, file);
	assert_int_equal(close(file), 0);
	file = memfd_create("zero", MFD_CLOEXEC);
	assert_int_equal(ftruncate(file, lseek(fd, 0, SEEK_END)), 0);
	refused(&options, file);
	assert_int_equal(close(file), 0);
	head(j)[VERSION_AT]++;
	refused(&options, fd);
	head(j)[VERSION_AT]--;
	head(j)[0]++;
	refused(&options, fd);
	head(j)[0]--;
	journal_free(adopt(j));
	journal_free(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_add_next), TIMED(test_events), TIMED(test_open_seal),
		TIMED(test_snapshot), TIMED(test_limit),  TIMED(test_marks),
		TIMED(test_adopt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
