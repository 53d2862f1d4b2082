/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saving and loading a tracker; see save.h.
 *
 *	head | extents by address | limbo | buried | doubts | heard, oldest first
 *
 * All fields are 64-bit words, so there is no padding.  What is refused when it is loaded is what
 * the code of this folder relies on: extents in order and apart, no bit in two of them, event
 * numbers not in the future, ranges whole pages below USER_ADDRESS_END.  Nothing is said about
 * whether such a tracker can have come about.
 */
#include "criu-lazy/track/save.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/track/extents.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t magic = UINT64_C(0x32206b6361727463); /* "ctrack 2" */

struct saved_head {
	uint64_t magic;
	uint64_t nr_bits;
	uint64_t now, window;
	uint64_t nr_extents, nr_limbo, nr_buried, nr_doubts;
	uint64_t nr_heard; /* since ever; saved are the last HEARD_MAX */
};

struct saved_extent {
	uint64_t start, nr_pages, img, bit, born, gone, wiped_by_fork;
};

struct saved_doubt {
	uint64_t start, end, event;
};

struct saved_heard {
	uint64_t event, made, what, start, end, to, first, matched;
};

static uint64_t kept(uint64_t nr_heard)
{
	return min_u64(nr_heard, HEARD_MAX);
}

/* --- saving ----------------------------------------------------------------------------------- */

static uint64_t list_length(const struct extent_list *list)
{
	const struct extent *e;
	uint64_t nr = 0;

	TAILQ_FOREACH(e, list, link)
		nr++;
	return nr;
}

static struct saved_head head_of(const struct tracker *t)
{
	struct saved_head head = {
		.magic = magic,
		.nr_bits = t->missing.nr,
		.now = t->now,
		.window = t->window,
		.nr_limbo = list_length(&t->limbo),
		.nr_buried = list_length(&t->buried),
		.nr_doubts = t->nr_doubts,
		.nr_heard = t->nr_heard,
	};
	struct extent *e;

	for (e = extent_after(t, 0); e; e = extent_following(e))
		head.nr_extents++;
	return head;
}

/* The counts are not absurd: see head_check(). */
static uint64_t size_of(const struct saved_head *head)
{
	return sizeof(*head) +
	       (head->nr_extents + head->nr_limbo + head->nr_buried) * sizeof(struct saved_extent) +
	       head->nr_doubts * sizeof(struct saved_doubt) +
	       kept(head->nr_heard) * sizeof(struct saved_heard);
}

size_t tracker_save_size(const struct tracker *t)
{
	struct saved_head head = head_of(t);

	return size_of(&head);
}

static void put(uint8_t **at, const void *what, size_t size)
{
	memcpy(*at, what, size);
	*at += size;
}

static void put_extent(uint8_t **at, const struct extent *e)
{
	struct saved_extent saved = {e->start, e->nr_pages, e->img,          e->bit,
	                             e->born,  e->gone,     e->wiped_by_fork};

	put(at, &saved, sizeof(saved));
}

static void put_heard(uint8_t **at, const struct heard *h)
{
	struct saved_heard saved = {h->event,     h->made, h->what,  h->place.start,
	                            h->place.end, h->to,   h->first, h->matched};

	put(at, &saved, sizeof(saved));
}

void tracker_save(const struct tracker *t, void *ret)
{
	struct saved_head head = head_of(t);
	uint8_t *at = ret;
	struct extent *e;
	uint64_t i;

	put(&at, &head, sizeof(head));
	for (e = extent_after(t, 0); e; e = extent_following(e))
		put_extent(&at, e);
	TAILQ_FOREACH(e, &t->limbo, link)
		put_extent(&at, e);
	TAILQ_FOREACH(e, &t->buried, link)
		put_extent(&at, e);
	for (i = 0; i < t->nr_doubts; i++) {
		const struct doubt *d = &t->doubts[i];
		struct saved_doubt saved = {d->range.start, d->range.end, d->event};

		put(&at, &saved, sizeof(saved));
	}
	for (i = t->nr_heard - kept(t->nr_heard); i < t->nr_heard; i++)
		put_heard(&at, &t->heard[i % HEARD_MAX]);
}

/* --- loading ---------------------------------------------------------------------------------- */

struct loader {
	struct tracker *t;
	struct saved_head head;
	const uint8_t *at; /* head_check() has seen that all is there */
	struct err *err;
};

static int refuse(struct loader *l, const char *what, uint64_t nr, const char *why)
{
	return err_set(l->err, EPROTO, "saved tracker: %s %" PRIu64 ": %s", what, nr, why);
}

static int no_memory(struct loader *l)
{
	return err_set(l->err, ENOMEM, "saved tracker");
}

static void get(struct loader *l, void *ret, size_t size)
{
	memcpy(ret, l->at, size);
	l->at += size;
}

static int head_check(struct loader *l, size_t size)
{
	const struct saved_head *h = &l->head;
	const uint64_t most = size / sizeof(struct saved_doubt); /* the smallest */

	if (h->magic != magic)
		return err_set(l->err, EPROTO, "saved tracker: not one of this program");
	if (h->nr_bits > TRACKER_SAVE_PAGES_MAX)
		return refuse(l, "number of pages", h->nr_bits, "too many");
	if (h->now > UINT64_MAX / 2)
		return refuse(l, "event", h->now, "too many events");
	if (h->window > h->now || h->nr_heard > h->now)
		return refuse(l, "event", h->now, "window or heard later than it");
	if (h->nr_extents > most || h->nr_limbo > most || h->nr_buried > most ||
	    h->nr_doubts > most || size_of(h) != size)
		return refuse(l, "length", size, "not what its counts need");
	return 0;
}

/* As far as it can be said of one alone. */
static int extent_check(struct loader *l, const struct saved_extent *s, const char *what,
                        uint64_t nr)
{
	if (!page_aligned(s->start | s->img))
		return refuse(l, what, nr, "not at a page");
	if (!s->nr_pages || s->start >= USER_ADDRESS_END ||
	    s->nr_pages > (USER_ADDRESS_END - s->start) >> PAGE_SHIFT)
		return refuse(l, what, nr, "empty or beyond the end of memory");
	if (s->bit >= l->head.nr_bits || s->nr_pages > l->head.nr_bits - s->bit)
		return refuse(l, what, nr, "pages that the image does not have");
	if (s->born > l->head.now || s->gone > l->head.now || s->wiped_by_fork > 1)
		return refuse(l, what, nr, "of the future");
	/* No bit twice: the loader takes away what it has seen. */
	if (bits_clear(&l->t->missing, s->bit, s->nr_pages) != s->nr_pages)
		return refuse(l, what, nr, "a page that another one has");
	return 0;
}

static int load_extent(struct loader *l, const char *what, uint64_t nr, struct extent **ret)
{
	struct saved_extent s;
	struct extent *e;
	int r;

	get(l, &s, sizeof(s));
	r = extent_check(l, &s, what, nr);
	if (r < 0)
		return r;
	e = malloc(sizeof(*e));
	if (!e)
		return no_memory(l);
	*e = (struct extent){
		.start = s.start,
		.nr_pages = s.nr_pages,
		.img = s.img,
		.bit = s.bit,
		.nr_missing = s.nr_pages,
		.born = s.born,
		.gone = s.gone,
		.wiped_by_fork = s.wiped_by_fork,
	};
	*ret = e;
	return 0;
}

static int load_extents(struct loader *l)
{
	uint64_t i, end = 0;
	struct extent *e;
	int r;

	for (i = 0; i < l->head.nr_extents; i++) {
		r = load_extent(l, "extent", i, &e);
		if (r < 0)
			return r;
		if (e->start < end) {
			free(e);
			return refuse(l, "extent", i, "out of order or overlapping");
		}
		end = extent_end(e);
		extent_link(l->t, e);
	}
	return 0;
}

static int load_list(struct loader *l, const char *what, uint64_t nr, struct extent_list *list)
{
	struct extent *e;
	uint64_t i;
	int r;

	for (i = 0; i < nr; i++) {
		r = load_extent(l, what, i, &e);
		if (r < 0)
			return r;
		TAILQ_INSERT_TAIL(list, e, link);
		if (!e->gone)
			return refuse(l, what, i, "gone by no event");
	}
	return 0;
}

static int load_doubts(struct loader *l)
{
	struct saved_doubt s;
	uint64_t i;

	if (!l->head.nr_doubts)
		return 0;
	l->t->doubts = malloc(l->head.nr_doubts * sizeof(*l->t->doubts));
	if (!l->t->doubts)
		return no_memory(l);
	for (i = 0; i < l->head.nr_doubts; i++) {
		get(l, &s, sizeof(s));
		if (!page_aligned(s.start | s.end) || s.start > USER_ADDRESS_END ||
		    s.end > USER_ADDRESS_END)
			return refuse(l, "doubt", i, "not a range of pages");
		if (s.event > l->head.now)
			return refuse(l, "doubt", i, "of the future");
		l->t->doubts[i] = (struct doubt){{s.start, s.end}, s.event};
	}
	l->t->nr_doubts = l->t->room_doubts = l->head.nr_doubts;
	return 0;
}

static int heard_check(struct loader *l, const struct saved_heard *s, uint64_t last, uint64_t nr)
{
	if (s->event <= last || s->event > l->head.now || s->made > s->event || s->first > s->event)
		return refuse(l, "heard event", nr, "out of order or of the future");
	if (s->what > HEARD_REMAP || s->matched > 1)
		return refuse(l, "heard event", nr, "of no kind");
	if (!page_aligned(s->start | s->end | s->to) || s->start >= s->end ||
	    s->end > USER_ADDRESS_END || s->to > USER_ADDRESS_END - (s->end - s->start))
		return refuse(l, "heard event", nr, "not a range of pages");
	return 0;
}

static int load_heard(struct loader *l)
{
	uint64_t i, last = 0, nr = l->head.nr_heard;
	struct saved_heard s;
	int r;

	for (i = nr - kept(nr); i < nr; i++) {
		get(l, &s, sizeof(s));
		r = heard_check(l, &s, last, i);
		if (r < 0)
			return r;
		last = s.event;
		l->t->heard[i % HEARD_MAX] = (struct heard){
			.event = s.event,
			.made = s.made,
			.what = (enum heard_what)s.what,
			.place = {s.start, s.end},
			.to = s.to,
			.first = s.first,
			.matched = s.matched,
		};
	}
	l->t->nr_heard = nr;
	return 0;
}

static int load_all(struct loader *l)
{
	struct tracker *t = l->t;
	int r;

	t->now = l->head.now;
	t->window = l->head.window;
	if (bits_append(&t->missing, l->head.nr_bits) < 0)
		return no_memory(l);
	if ((r = load_extents(l)) < 0 ||
	    (r = load_list(l, "extent in limbo", l->head.nr_limbo, &t->limbo)) < 0 ||
	    (r = load_list(l, "buried extent", l->head.nr_buried, &t->buried)) < 0 ||
	    (r = load_doubts(l)) < 0 || (r = load_heard(l)) < 0)
		return r;
	bits_release(&t->missing);
	return bits_append(&t->missing, l->head.nr_bits) < 0 ? no_memory(l) : 0;
}

int tracker_load(const void *bytes, size_t size, struct tracker **ret, struct err *err)
{
	struct loader l = {.at = bytes, .err = err};
	int r;

	if (size < sizeof(l.head))
		return refuse(&l, "length", size, "too short");
	get(&l, &l.head, sizeof(l.head));
	r = head_check(&l, size);
	if (r < 0)
		return r;
	l.t = tracker_new();
	if (!l.t)
		return no_memory(&l);
	r = load_all(&l);
	if (r < 0) {
		tracker_free(l.t);
		return r;
	}
	*ret = l.t;
	return 0;
}
