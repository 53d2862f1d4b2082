/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The contract of source.h, asserted once for every source. */
#include "criu-lazy/source/source.h"

#include "criu-lazy/base/clock.h"

#include <assert.h>
#include <stddef.h>

enum source_answer source_fetch(struct source *s, struct source_request *request,
                                struct source_bytes *ret, struct err *err)
{
	enum source_answer answer;

	assert(request->nr_pages && request->done);
	ret->lasting = false;
	answer = s->ops->fetch(s, request, ret, err);
	if (answer == SOURCE_HERE)
		assert(ret->bytes && ret->nr_pages && ret->nr_pages <= request->nr_pages);
	return answer;
}

void source_hurry(struct source *s, struct source_request *request)
{
	request->urgent = true;
	if (s->ops->hurry)
		s->ops->hurry(s, request);
}

void source_cancel(struct source *s, struct source_request *request)
{
	assert(s->ops->cancel);
	s->ops->cancel(s, request);
}

void source_expect(struct source *s, uint64_t img, uint64_t nr_pages)
{
	for (; s; s = s->next)
		if (s->ops->expect)
			s->ops->expect(s, img, nr_pages);
}

int64_t source_deadline(const struct source *s)
{
	int64_t first = CLOCK_NEVER;

	for (; s; s = s->next) {
		int64_t due = s->ops->deadline ? s->ops->deadline(s) : CLOCK_NEVER;

		if (due < first)
			first = due;
	}
	return first;
}

void source_run(struct source *s, int64_t now)
{
	for (; s; s = s->next)
		if (s->ops->run)
			s->ops->run(s, now);
}

bool source_is_dear(const struct source *s)
{
	for (; s; s = s->next)
		if (s->ops->dear)
			return true;
	return false;
}

void source_lend(struct source *s)
{
	for (; s; s = s->next)
		if (s->ops->lend)
			s->ops->lend(s);
}

void source_attach(struct source *s, struct ring *ring)
{
	for (; s; s = s->next)
		if (s->ops->attach)
			s->ops->attach(s, ring);
}

struct source *source_share(struct source *s)
{
	s->nr_owners++;
	return s;
}

void source_close(struct source *s)
{
	struct source *next;

	if (!s || --s->nr_owners)
		return;
	next = s->next;
	s->ops->close(s);
	source_close(next);
}
