/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Wrappers that make a source slow, short, lossy or deadly.  They are ordinary sources: tests are
 * built from them, and `--filter` puts them in front of real images.
 *
 * delay: a request waits here, in order of arrival (all wait equally long, so the list is sorted by
 * time), and is passed on when it is due.
 */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/source/source.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t MAX_DELAY = UINT64_C(3600) * 1000000; /* an hour, in us */

struct filter {
	struct source source;
	uint64_t value; /* delay: ns; short: pages */
	uint64_t start, end; /* lose, crash */
	struct source_request *first, *last; /* delay */
};

static struct filter *filter_of(struct source *s)
{
	return (struct filter *)s;
}

/* --- delay ----------------------------------------------------------------------------------- */

static enum source_answer delay_fetch(struct source *s, struct source_request *request,
                                      struct source_bytes *ret, struct err *err)
{
	struct filter *f = filter_of(s);

	(void)ret;
	(void)err;
	request->due = clock_now() + (int64_t)f->value;
	request->link = NULL;
	if (f->last)
		f->last->link = request;
	else
		f->first = request;
	f->last = request;
	return SOURCE_LATER;
}

/* false: it is not here. */
static bool unlink_request(struct filter *f, struct source_request *request)
{
	struct source_request *prev = NULL, *r;

	for (r = f->first; r && r != request; r = r->link)
		prev = r;
	if (!r)
		return false;
	if (prev)
		prev->link = r->link;
	else
		f->first = r->link;
	if (f->last == r)
		f->last = prev;
	return true;
}

static void delay_cancel(struct source *s, struct source_request *request)
{
	/* What was passed on, another delay further down holds. */
	if (!unlink_request(filter_of(s), request))
		source_cancel(s->next, request);
}

static void delay_hurry(struct source *s, struct source_request *request)
{
	const struct source_request *r;

	for (r = filter_of(s)->first; r; r = r->link)
		if (r == request)
			return; /* what waits here waits equally long */
	source_hurry(s->next, request);
}

static int64_t delay_deadline(const struct source *s)
{
	const struct filter *f = (const struct filter *)s;

	return f->first ? f->first->due : CLOCK_NEVER;
}

static void delay_run(struct source *s, int64_t now)
{
	struct filter *f = filter_of(s);

	while (f->first && f->first->due <= now) {
		struct source_request *request = f->first;
		struct source_bytes bytes;
		struct err err = {0};

		unlink_request(f, request);
		switch (source_fetch(s->next, request, &bytes, &err)) {
		case SOURCE_HERE:
			request->done(request, &bytes, NULL);
			break;
		case SOURCE_LOST:
			request->done(request, NULL, &err);
			break;
		case SOURCE_LATER:
			break; /* the next one calls done() */
		}
	}
}

/* --- short ----------------------------------------------------------------------------------- */

static enum source_answer short_fetch(struct source *s, struct source_request *request,
                                      struct source_bytes *ret, struct err *err)
{
	request->nr_pages = min_u64(request->nr_pages, filter_of(s)->value);
	return source_fetch(s->next, request, ret, err);
}

/* --- lose ------------------------------------------------------------------------------------ */

static enum source_answer lose_fetch(struct source *s, struct source_request *request,
                                     struct source_bytes *ret, struct err *err)
{
	struct filter *f = filter_of(s);
	uint64_t img = request->img, end = img + (request->nr_pages << PAGE_SHIFT);

	if (f->start <= img && img < f->end) {
		err_set(err, EIO, "page 0x%llx is lost by --filter", (unsigned long long)img);
		return SOURCE_LOST;
	}
	if (img < f->start && end > f->start)
		request->nr_pages = (f->start - img) >> PAGE_SHIFT;
	return source_fetch(s->next, request, ret, err);
}

/* --- crash ----------------------------------------------------------------------------------- */

static enum source_answer crash_fetch(struct source *s, struct source_request *request,
                                      struct source_bytes *ret, struct err *err)
{
	const struct filter *f = filter_of(s);

	if (request->img == f->start)
		abort();
	if (request->img < f->start)
		request->nr_pages =
			min_u64(request->nr_pages, (f->start - request->img) >> PAGE_SHIFT);
	return source_fetch(s->next, request, ret, err);
}

/* --- what all but delay pass on --------------------------------------------------------------- */

static void pass_cancel(struct source *s, struct source_request *request)
{
	source_cancel(s->next, request);
}

static void pass_hurry(struct source *s, struct source_request *request)
{
	source_hurry(s->next, request);
}

static void filter_close(struct source *s)
{
	assert(!filter_of(s)->first);
	free(s);
}

static const struct source_ops delay_ops = {
	.name = "delay",
	.dear = true,
	.fetch = delay_fetch,
	.hurry = delay_hurry,
	.cancel = delay_cancel,
	.deadline = delay_deadline,
	.run = delay_run,
	.close = filter_close,
};

static const struct source_ops short_ops = {
	.name = "short",
	.fetch = short_fetch,
	.hurry = pass_hurry,
	.cancel = pass_cancel,
	.close = filter_close,
};

static const struct source_ops lose_ops = {
	.name = "lose",
	.fetch = lose_fetch,
	.hurry = pass_hurry,
	.cancel = pass_cancel,
	.close = filter_close,
};

static const struct source_ops crash_ops = {
	.name = "crash",
	.fetch = crash_fetch,
	.hurry = pass_hurry,
	.cancel = pass_cancel,
	.close = filter_close,
};

static bool parse(const char *text, struct filter *f)
{
	const char *value = strchr(text, '=');
	char *rest;

	if (!value || !isxdigit((unsigned char)value[1])) /* strtoull() takes blanks and signs */
		return false;
	if (!strncmp(text, "delay=", 6)) {
		f->source.ops = &delay_ops;
		f->value = strtoull(text + 6, &rest, 10);
		if (rest == text + 6 || *rest || f->value > MAX_DELAY)
			return false;
		f->value *= (uint64_t)NSEC_PER_USEC;
		return true;
	}
	if (!strncmp(text, "short=", 6)) {
		f->source.ops = &short_ops;
		f->value = strtoull(text + 6, &rest, 10);
		return f->value && !*rest;
	}
	if (!strncmp(text, "lose=", 5)) {
		f->source.ops = &lose_ops;
		f->start = page_down(strtoull(text + 5, &rest, 16));
		if (*rest != '-' || !isxdigit((unsigned char)rest[1]))
			return false;
		f->end = strtoull(rest + 1, &rest, 16);
		return f->end > f->start && !*rest;
	}
	if (!strncmp(text, "crash=", 6)) {
		f->source.ops = &crash_ops;
		f->start = page_down(strtoull(text + 6, &rest, 16));
		return rest != text + 6 && !*rest;
	}
	return false;
}

struct source *source_filter(const char *text, struct source *next, struct err *err)
{
	struct filter *f = calloc(1, sizeof(*f));

	if (!f) {
		source_close(next);
		err_set(err, ENOMEM, "filter");
		return NULL;
	}
	f->source.next = next;
	f->source.nr_owners = 1;
	if (!parse(text, f)) {
		free(f);
		source_close(next);
		err_set(err, EINVAL,
		        "filter \"%s\": none of delay=USEC, short=PAGES, lose=HEX-HEX, crash=HEX",
		        text);
		return NULL;
	}
	return &f->source;
}
