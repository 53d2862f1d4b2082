/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a journal says about a tracker, and the events after it.
 *
 * The input: a byte n, n events of four bytes (kind, from, to, length: pages of a small space),
 * the saved tracker.
 *
 * What must hold: it is refused with a reason of one line, or saves the same bytes again and goes
 * through the events, a fork, the child's story and the delivery of everything.
 */
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/track/newborn.h"
#include "criu-lazy/track/save.h"
#include "criu-lazy/track/tracker.h"
#include "test/fuzz/must.h"

#include <errno.h>
#include <string.h>

enum { EVENT = 4, NR_BITS = 8, PAGES_MAX = 1 << 20 };

static uint64_t addr_of(uint64_t page)
{
	return UINT64_C(0x7f0000000000) + (page << PAGE_SHIFT);
}

static void same_bytes(const struct tracker *t, const uint8_t *data, size_t size)
{
	uint8_t *again = malloc(size);

	MUST(again && tracker_save_size(t) == size);
	tracker_save(t, again);
	MUST(!memcmp(again, data, size));
	free(again);
}

static void event(struct tracker *t, const uint8_t *e)
{
	uint64_t start = addr_of(e[1]), to = addr_of(e[2]),
		 end = addr_of(e[1] + e[3] + UINT64_C(1));
	struct tracker_run run = {start, e[2] * PAGE_SIZE, e[3]};

	MUST(tracker_reserve(t, 2) == 0);
	switch (e[0] % 10) {
	case 0:
		tracker_unmap(t, start, end);
		break;
	case 1:
		tracker_remove(t, start, end);
		break;
	case 2:
		tracker_delivered(t, start, e[3]);
		break;
	case 3:
		tracker_quiet(t);
		break;
	case 4:
		tracker_forget(t, &run);
		break;
	case 5:
		tracker_confirm(t, &run);
		break;
	case 6:
		tracker_date(t, e[0] / 10);
		break;
	default:
		tracker_remap(t, start, to, end - start);
	}
}

static enum newborn_answer mapped(void *cookie, uint64_t addr, uint64_t len)
{
	const uint8_t *data = cookie;

	return (enum newborn_answer)(data[(addr / PAGE_SIZE + len) % 16] % 3);
}

static void go_on(struct tracker *t, const uint8_t *data)
{
	struct newborn_kernel kernel = {mapped, (void *)data};
	struct newborn_verdict verdict;
	struct tracker_run run;
	struct tracker *child;
	uint64_t from = 0, skip;

	MUST(tracker_fork(t, &child) == 0);
	MUST(tracker_reserve(child, NEWBORN_RESERVE) == 0);
	newborn_judge(child, &kernel, &verdict);
	newborn_end(child, &verdict);
	tracker_quiet(child);
	while (tracker_doubt(child, &run)) {
		MUST(tracker_reserve(child, 2) == 0);
		tracker_settle(child, &run, run.start & PAGE_SIZE);
	}
	while (tracker_next(child, from, 64, &run)) {
		struct ticket *ticket = tracker_begin(child, &run, NULL);

		MUST(ticket && tracker_place(child, ticket, 0, &run, &skip) && !skip);
		tracker_delivered(child, run.start, run.nr_pages);
		tracker_end(child, ticket);
		from = run.start + (run.nr_pages << PAGE_SHIFT);
	}
	MUST(tracker_is_done(child));
	tracker_free(child);
}

static void recall(struct tracker *t, const uint8_t *data)
{
	uint64_t nr = (tracker_nr_pages(t) + 63) / 64;
	uint64_t *marks = malloc(nr * sizeof(*marks) + 1);

	MUST(marks);
	memset(marks, data[0], nr * sizeof(*marks));
	tracker_set_marks(t, marks);
	tracker_recall(t);
	go_on(t, data);
	tracker_free(t);
	free(marks);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t nr = size ? data[0] : 0, head = 1 + nr * EVENT, i;
	struct err err = {0};
	struct tracker *t;
	uint64_t nr_bits;
	int r;

	if (size < head + NR_BITS + sizeof(nr_bits))
		return 0;
	/* Pages cost memory and time: fewer are enough. */
	memcpy(&nr_bits, data + head + NR_BITS, sizeof(nr_bits));
	if (nr_bits > PAGES_MAX && nr_bits <= TRACKER_SAVE_PAGES_MAX)
		return 0;
	r = tracker_load(data + head, size - head, &t, &err);
	if (r < 0) {
		MUST(r == -EPROTO && err.code == EPROTO);
		MUST(err.text[0] && !strchr(err.text, '\n'));
		return 0;
	}
	same_bytes(t, data + head, size - head);
	for (i = 0; i < nr; i++)
		event(t, data + 1 + i * EVENT);
	go_on(t, data + head);
	recall(t, data);
	return 0;
}
