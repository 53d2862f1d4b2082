/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handshake decoder: each transition and each error text of handshake.h, all ways to cut a
 * stream into pieces, and random streams against a model that sees them one cell (a byte, with a
 * descriptor or without) at a time.
 */
#include "criu-lazy/base/err.h"
#include "proto/handshake.h"
#include "test/unit/patience.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- streams --------------------------------------------------------------------------------- */

enum { MAX_CELLS = 256, MAX_EVENTS = 128 };

struct stream {
	uint8_t byte[MAX_CELLS];
	bool fd[MAX_CELLS];
	size_t nr;
};

static void put_byte(struct stream *s, uint8_t byte, bool fd)
{
	assert_true(s->nr < MAX_CELLS);
	s->byte[s->nr] = byte;
	s->fd[s->nr++] = fd;
}

static void put_word(struct stream *s, uint32_t word)
{
	for (int i = 0; i < 4; i++)
		put_byte(s, (uint8_t)(word >> 8 * i), false);
}

static void put_task(struct stream *s, uint32_t pid)
{
	put_word(s, pid);
	put_byte(s, 0, true);
}

static void put_zombie(struct stream *s, uint32_t pid)
{
	put_word(s, -pid);
}

static void put_finished(struct stream *s)
{
	put_word(s, HANDSHAKE_FINISHED_WORD);
}

/* What a whole stream came to. */
struct story {
	struct {
		int event;
		uint32_t pid;
	} events[MAX_EVENTS];
	size_t nr;
	int error; /* 0 or -EPROTO, of feed or eof */
	char text[ERR_TEXT_SIZE];
};

static void add_event(struct story *story, int event, uint32_t pid)
{
	assert_true(story->nr < MAX_EVENTS);
	story->events[story->nr].event = event;
	story->events[story->nr++].pid = event == HANDSHAKE_FINISHED ? 0 : pid;
}

/*
 * Feed a stream as recvmsg() would tell it: never more than wanted, never over a cut (cuts has bit
 * i set: a piece ends after cell i), a byte that has a descriptor by itself.
 */
static void tell(const struct stream *s, size_t nr_expected, uint64_t cuts, struct story *ret)
{
	struct handshake h = {.nr_expected = nr_expected};
	struct err err = {0};
	size_t at = 0;
	int event;

	memset(ret, 0, sizeof(*ret));
	while (at < s->nr && !ret->error) {
		size_t want = handshake_want(&h), n = 1;

		want = want ? want : 1;
		while (!s->fd[at] && n < want && at + n < s->nr && !s->fd[at + n] &&
		       !(cuts >> ((at + n - 1) % 64) & 1))
			n++;
		event = handshake_feed(&h, s->byte + at, n, s->fd[at], &err);
		at += n;
		if (event < 0)
			ret->error = event;
		else if (event != HANDSHAKE_MORE)
			add_event(ret, event, h.pid);
	}
	if (!ret->error)
		ret->error = handshake_eof(&h, &err);
	assert_int_equal(ret->error, -err.code);
	strcpy(ret->text, err.text);
	assert_null(strchr(ret->text, '\n'));
}

/* --- transitions ----------------------------------------------------------------------------- */

static void test_live_tasks(void **state)
{
	struct stream s = {0};
	struct story got;

	(void)state;
	put_task(&s, 1);
	put_task(&s, 0x7fffffff);
	put_finished(&s);
	tell(&s, 2, 0, &got);
	assert_int_equal(got.error, 0);
	assert_int_equal(got.nr, 3);
	assert_int_equal(got.events[0].event, HANDSHAKE_TASK);
	assert_int_equal(got.events[0].pid, 1);
	assert_int_equal(got.events[1].event, HANDSHAKE_TASK);
	assert_int_equal(got.events[1].pid, 0x7fffffff);
	assert_int_equal(got.events[2].event, HANDSHAKE_FINISHED);
}

static void test_zombies(void **state)
{
	struct stream s = {0};
	struct story got;

	(void)state;
	put_zombie(&s, 0x7fffffff);
	put_task(&s, 5);
	put_zombie(&s, 1);
	put_finished(&s);
	tell(&s, 3, 0, &got);
	assert_int_equal(got.error, 0);
	assert_int_equal(got.nr, 4);
	assert_int_equal(got.events[0].event, HANDSHAKE_ZOMBIE);
	assert_int_equal(got.events[0].pid, 0x7fffffff);
	assert_int_equal(got.events[1].event, HANDSHAKE_TASK);
	assert_int_equal(got.events[2].event, HANDSHAKE_ZOMBIE);
	assert_int_equal(got.events[2].pid, 1);
}

/* How many bytes may be asked for, byte by byte: a descriptor's byte is asked for alone. */
static void test_want(void **state)
{
	static const uint8_t bytes[] = {7, 0, 0, 0, 0, 0x46, 0x54, 0x53, 0x52};
	static const size_t wants[] = {4, 3, 2, 1, 1, 4, 3, 2, 1};
	struct handshake h = {.nr_expected = 1};
	struct err err = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++) {
		int want = i == 4 ? HANDSHAKE_TASK : i == 8 ? HANDSHAKE_FINISHED : HANDSHAKE_MORE;

		assert_int_equal(handshake_want(&h), wants[i]);
		assert_int_not_equal(handshake_eof(&h, NULL), 0);
		assert_int_equal(handshake_feed(&h, bytes + i, 1, i == 4, &err), want);
	}
	assert_int_equal(handshake_want(&h), 0);
	assert_int_equal(handshake_eof(&h, &err), 0);
	assert_int_equal(h.nr_seen, 1);
	assert_int_equal(err.code, 0);
}

/* --- every error text ------------------------------------------------------------------------ */

static void assert_story(const struct stream *s, size_t nr_expected, const char *text)
{
	struct story got;

	tell(s, nr_expected, 0, &got);
	assert_int_equal(got.error, -EPROTO);
	assert_string_equal(got.text, text);
	tell(s, nr_expected, UINT64_MAX, &got);
	assert_string_equal(got.text, text);
}

static void test_finished_early(void **state)
{
	struct stream s = {0};

	(void)state;
	put_task(&s, 9);
	put_finished(&s);
	assert_story(&s, 3, "the restorer says \"finished\" after 1 of 3 processes");
	s.nr = 0;
	put_finished(&s);
	assert_story(&s, 1, "the restorer says \"finished\" after 0 of 1 processes");
}

static void test_finished_late(void **state)
{
	struct stream s = {0};

	(void)state;
	put_task(&s, 9);
	put_task(&s, 10);
	assert_story(&s, 1,
	             "the restorer sends 0x0000000a where \"finished\" was expected (the image has "
	             "1 processes)");
	s.nr = 0;
	put_task(&s, 9);
	put_zombie(&s, 10);
	assert_story(&s, 1,
	             "the restorer sends 0xfffffff6 where \"finished\" was expected (the image has "
	             "1 processes)");
}

static void test_no_pid(void **state)
{
	struct stream s = {0};

	(void)state;
	put_word(&s, 0);
	assert_story(&s, 1, "the restorer sends 0x00000000 as a pid");
	s.nr = 0;
	put_word(&s, 0x80000000);
	assert_story(&s, 1, "the restorer sends 0x80000000 as a pid");
}

static void test_descriptor_missing(void **state)
{
	struct stream s = {0};

	(void)state;
	put_word(&s, 77);
	put_byte(&s, 0, false);
	assert_story(&s, 1, "process 77: the restorer sent a byte without a userfaultfd");
}

static void test_descriptor_with_wrong_byte(void **state)
{
	struct stream s = {0};

	(void)state;
	put_word(&s, 77);
	put_byte(&s, 0xa5, true);
	assert_story(&s, 1, "process 77: 0xa5 came with its userfaultfd");
}

/* With each byte of a pid, and after the end. */
static void test_descriptor_elsewhere(void **state)
{
	(void)state;
	for (size_t at = 0; at < 4; at++) {
		struct stream s = {0};

		put_word(&s, 77);
		s.fd[at] = true;
		assert_story(&s, 1, "the restorer sent a descriptor where a pid belongs");
	}
	struct stream s = {0};

	put_finished(&s);
	put_byte(&s, 0, true);
	assert_story(&s, 0, "the restorer sent a descriptor where a pid belongs");
}

static void test_more_after_the_end(void **state)
{
	struct stream s = {0};

	(void)state;
	put_zombie(&s, 3);
	put_finished(&s);
	put_byte(&s, 0x46, false);
	assert_story(&s, 1, "the restorer sent more after \"finished\"");
}

static void test_goes_away(void **state)
{
	struct stream s = {0};

	(void)state;
	assert_story(&s, 2,
	             "the restorer closed the connection before the restore was finished (0 of 2 "
	             "processes had reported)");
	put_task(&s, 4);
	assert_story(&s, 2,
	             "the restorer closed the connection before the restore was finished (1 of 2 "
	             "processes had reported)");
	put_word(&s, 5);
	assert_story(&s, 2,
	             "the restorer closed the connection between the pid 5 and its userfaultfd");
	for (int cut = 1; cut < 4; cut++) {
		s.nr--;
		assert_story(&s, 2, "the restorer closed the connection inside a pid");
	}
}

/* --- splits and random streams --------------------------------------------------------------- */

static void test_all_splits(void **state)
{
	struct stream s = {0};
	struct story whole, got;

	(void)state;
	put_task(&s, 0x01020304);
	put_zombie(&s, 0x0a0b0c0d);
	put_finished(&s);
	tell(&s, 2, 0, &whole);
	assert_int_equal(whole.error, 0);
	assert_int_equal(whole.nr, 3);
	assert_int_equal(whole.events[0].pid, 0x01020304);
	assert_int_equal(whole.events[1].pid, 0x0a0b0c0d);
	for (uint64_t cuts = 0; cuts < UINT64_C(1) << (s.nr - 1); cuts++) {
		tell(&s, 2, cuts, &got);
		assert_memory_equal(&got, &whole, sizeof(got));
	}
}

/* The protocol over all cells at once: what is wrong first, wins. */
static void model(const struct stream *s, size_t nr_expected, struct story *ret)
{
	size_t at = 0, seen = 0;

	memset(ret, 0, sizeof(*ret));
	ret->error = -EPROTO;
	for (;;) {
		uint32_t word = 0;

		for (int i = 0; i < 4; i++, at++) {
			if (at == s->nr || s->fd[at])
				return;
			word |= (uint32_t)s->byte[at] << 8 * i;
		}
		if (word == HANDSHAKE_FINISHED_WORD && seen == nr_expected) {
			add_event(ret, HANDSHAKE_FINISHED, 0);
			ret->error = at == s->nr ? 0 : -EPROTO;
			return;
		}
		if (word == HANDSHAKE_FINISHED_WORD || seen == nr_expected || word == 0 ||
		    word == 0x80000000)
			return;
		if (word >> 31) {
			add_event(ret, HANDSHAKE_ZOMBIE, 0 - word);
		} else {
			if (at == s->nr || !s->fd[at] || s->byte[at++])
				return;
			add_event(ret, HANDSHAKE_TASK, word);
		}
		seen++;
	}
}

/* Mostly right, with a mistake now and then. */
static void random_stream(struct stream *s, size_t nr, unsigned *seed)
{
	memset(s, 0, sizeof(*s));
	for (size_t i = 0; i < nr; i++) {
		uint32_t pid = rand_r(seed) % 8 ? (uint32_t)rand_r(seed) + 1 : 0;

		if (rand_r(seed) % 3)
			put_task(s, pid & 0x7fffffff);
		else
			put_zombie(s, pid & 0x7fffffff);
	}
	if (rand_r(seed) % 8)
		put_finished(s);
	while (rand_r(seed) % 3 == 0 && s->nr) {
		size_t at = (size_t)rand_r(seed) % s->nr;

		switch (rand_r(seed) % 4) {
		case 0:
			s->fd[at] = !s->fd[at];
			break;
		case 1:
			s->byte[at] = (uint8_t)rand_r(seed);
			break;
		case 2:
			s->nr = at;
			break;
		default:
			put_byte(s, 0, rand_r(seed) % 2);
		}
	}
}

static void test_random_streams(void **state)
{
	size_t good = 0, nr_events = 0;
	unsigned seed = 4;

	(void)state;
	for (int round = 0; round < 50000; round++) {
		struct stream s;
		struct story want, got;
		size_t nr = (size_t)rand_r(&seed) % 20;
		size_t expected = rand_r(&seed) % 5 ? nr : (size_t)rand_r(&seed) % 20;
		uint64_t cuts = (uint64_t)rand_r(&seed) << 31 ^ (uint64_t)rand_r(&seed);

		random_stream(&s, nr, &seed);
		model(&s, expected, &want);
		tell(&s, expected, cuts, &got);
		assert_int_equal(got.error, want.error);
		assert_int_equal(got.nr, want.nr);
		assert_memory_equal(got.events, want.events, sizeof(got.events));
		assert_int_equal(!got.error, !*got.text);
		good += !got.error;
		nr_events += got.nr;
	}
	print_message("50000 random streams: %zu right, %zu events\n", good, nr_events);
	assert_true(good > 1000 && nr_events > 100000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED(test_live_tasks),
		TIMED(test_zombies),
		TIMED(test_want),
		TIMED(test_finished_early),
		TIMED(test_finished_late),
		TIMED(test_no_pid),
		TIMED(test_descriptor_missing),
		TIMED(test_descriptor_with_wrong_byte),
		TIMED(test_descriptor_elsewhere),
		TIMED(test_more_after_the_end),
		TIMED(test_goes_away),
		TIMED(test_all_splits),
		TIMED(test_random_streams),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
