/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What --filter takes.  The input: an image address and a length of one byte each, then the texts
 * of filters, one a line, the innermost first, in front of a source that has every page.
 *
 * What must hold: a text is refused with a reason of one line, and everything behind it closed; or
 * the stack answers a request as source.h says, once, no more than was asked for, from where it
 * was asked for; it hurries, cancels and closes.  Who asks for the page of crash= dies: that one is
 * not asked.
 */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/source/source.h"
#include "test/fuzz/must.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum { MAX_FILTERS = 16 };

static const int64_t HOUR = 3600 * NSEC_PER_SEC;

/* --- the last source -------------------------------------------------------------------------- */

struct last {
	struct source source;
	uint64_t img, nr_pages; /* it was asked for */
	unsigned nr_asked, nr_closed;
};

static enum source_answer fetch(struct source *s, struct source_request *request,
                                struct source_bytes *ret, struct err *err)
{
	static const uint8_t bytes[256 * PAGE_SIZE];
	struct last *last = (struct last *)s;

	(void)err;
	last->img = request->img;
	last->nr_pages = request->nr_pages;
	last->nr_asked++;
	*ret = (struct source_bytes){bytes, request->nr_pages, true};
	return SOURCE_HERE;
}

static void last_hurry(struct source *s, struct source_request *request)
{
	(void)s;
	(void)request;
	MUST(!"it has nothing to hurry for");
}

static void last_cancel(struct source *s, struct source_request *request)
{
	(void)s;
	(void)request;
	MUST(!"it has nothing to cancel");
}

static void close_last(struct source *s)
{
	((struct last *)s)->nr_closed++;
}

static const struct source_ops last_ops = {.name = "last",
                                           .fetch = fetch,
                                           .hurry = last_hurry,
                                           .cancel = last_cancel,
                                           .close = close_last};

/* --- a request -------------------------------------------------------------------------------- */

struct asked {
	struct source_request request;
	uint64_t img, nr_pages;
	unsigned nr_answers;
};

static void must_be_answer(const struct asked *a, const struct source_bytes *bytes,
                           const struct err *err)
{
	MUST(a->request.img == a->img);
	if (!bytes) {
		must_be_line(err);
		return;
	}
	MUST(bytes->nr_pages >= 1 && bytes->nr_pages <= a->nr_pages);
}

static void done(struct source_request *request, const struct source_bytes *bytes,
                 const struct err *err)
{
	struct asked *a = request->owner;

	must_be_answer(a, bytes, err);
	a->nr_answers++;
}

static void ask(struct source *s, struct asked *a, bool cancel)
{
	struct source_bytes bytes;
	struct err err = {0};
	int64_t due;

	a->request = (struct source_request){
		.img = a->img, .nr_pages = a->nr_pages, .done = done, .owner = a};
	switch (source_fetch(s, &a->request, &bytes, &err)) {
	case SOURCE_HERE:
		must_be_answer(a, &bytes, NULL);
		MUST(!a->nr_answers);
		return;
	case SOURCE_LOST:
		must_be_answer(a, NULL, &err);
		MUST(!a->nr_answers);
		return;
	case SOURCE_LATER:
		break;
	}
	MUST(!a->nr_answers);
	source_hurry(s, &a->request);
	if (cancel) {
		source_cancel(s, &a->request);
		MUST(source_deadline(s) == CLOCK_NEVER);
		return;
	}
	/* What one delay passes on another one may hold. */
	for (int i = 0; i < MAX_FILTERS && !a->nr_answers; i++) {
		due = source_deadline(s);
		MUST(due <= clock_now() + HOUR);
		source_run(s, due > clock_now() ? due : clock_now());
	}
	MUST(a->nr_answers == 1 && source_deadline(s) == CLOCK_NEVER);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct last last = {.source = {.ops = &last_ops, .nr_owners = 1}};
	struct source *s = &last.source;
	struct asked a = {0}, b;
	char *text, *line, *rest;
	bool deadly = false;
	struct err err = {0};

	if (size < 2)
		return 0;
	a.img = (uint64_t)data[0] << PAGE_SHIFT;
	a.nr_pages = data[1] ? data[1] : 1;
	b = a;
	text = rest = strndup((const char *)data + 2, size - 2);
	MUST(text);
	for (int i = 0; i < MAX_FILTERS && s && (line = strsep(&rest, "\n")); i++) {
		deadly |= !strncmp(line, "crash=", 6);
		s = source_filter(line, s, &err);
		MUST(!s || !strpbrk(line, " \t\r\v\f+")); /* numbers are numbers */
	}
	free(text);
	if (!s) {
		MUST(err.code == EINVAL && last.nr_closed == 1);
		must_be_line(&err);
		return 0;
	}
	MUST(!last.nr_closed);
	if (!deadly) {
		ask(s, &a, false);
		MUST(last.nr_asked <= 1);
		MUST(!last.nr_asked || (last.img == a.img && last.nr_pages <= a.nr_pages));
		ask(s, &b, true);
	}
	source_close(s);
	MUST(last.nr_closed == 1);
	return 0;
}
