/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A remote's life, its sources, and its end.  What the parts are: remote-parts.h. */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/os/stream.h"
#include "criu-lazy/os/tls.h"
#include "criu-lazy/source/remote-parts.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* For each step of the first connection; and for all of the end. */
static const int64_t CONNECT_STEP = 10 * NSEC_PER_SEC, END_TIME = 5 * NSEC_PER_SEC;

void remote_tell(const struct remote *r, bool trouble, const char *fmt, ...)
{
	char text[ERR_TEXT_SIZE];
	va_list ap;

	if (!r->options.tell)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	r->options.tell(r->options.cookie, trouble, text);
}

/* --- the source of one process --------------------------------------------------------------- */

struct remote_process {
	struct source source; /* the first member */
	struct remote *remote;
	uint32_t pid;
};

static enum source_answer process_fetch(struct source *s, struct source_request *request,
                                        struct source_bytes *ret, struct err *err)
{
	struct remote_process *p = (struct remote_process *)s;
	struct remote *r = p->remote;
	struct ask *ask;

	(void)ret;
	if (r->gave_up) {
		if (err)
			*err = r->why;
		return SOURCE_LOST;
	}
	request->nr_pages = min_u64(request->nr_pages, REMOTE_PIECE);
	ask = ask_new(r, request, p->pid);
	if (!ask) {
		err_set(err, ENOMEM, "asking %s", r->name);
		return SOURCE_LOST;
	}
	ask_put(r, ask);
	return SOURCE_LATER;
}

static void process_hurry(struct source *s, struct source_request *request)
{
	ask_hurry(((struct remote_process *)s)->remote, request->link);
}

static void process_cancel(struct source *s, struct source_request *request)
{
	ask_cancel(((struct remote_process *)s)->remote, request->link);
	request->link = NULL;
}

static void process_close(struct source *s)
{
	free(s);
}

static const struct source_ops process_ops = {
	.name = "remote",
	.dear = true,
	.fetch = process_fetch,
	.hurry = process_hurry,
	.cancel = process_cancel,
	.close = process_close,
};

struct source *remote_source(struct remote *r, uint32_t pid)
{
	struct remote_process *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	*p = (struct remote_process){
		.source = {.ops = &process_ops, .nr_owners = 1}, .remote = r, .pid = pid};
	return &p->source;
}

/* --- life ------------------------------------------------------------------------------------ */

static int copy_options(struct remote *r, const struct remote_options *o, struct err *err)
{
	r->options = *o;
	r->options.address = o->address ? strdup(o->address) : NULL;
	r->options.unix_path = o->unix_path ? strdup(o->unix_path) : NULL;
	if ((o->address && !r->options.address) || (o->unix_path && !r->options.unix_path))
		return err_set(err, ENOMEM, "a page server's address");
	if (o->ps_socket >= 0)
		snprintf(r->name, sizeof(r->name), "page server behind descriptor %d",
		         o->ps_socket);
	else if (o->unix_path)
		snprintf(r->name, sizeof(r->name), "page server at %s", o->unix_path);
	else if (o->address)
		snprintf(r->name, sizeof(r->name),
		         strchr(o->address, ':') ? "page server at [%s]:%u"
		                                 : "page server at %s:%u",
		         o->address, o->port);
	else
		return err_set(err, EINVAL, "no address of a page server");
	return 0;
}

/* Dial one lane, and wait for it. */
static int connect_lane(struct remote *r, unsigned index, enum dial_how how, struct err *err)
{
	struct dialled d = {.index = index};
	int result = remote_dial(&r->options, r->name, how, CONNECT_STEP, -1, &d, err);

	if (result == 0)
		result = lane_new(r, &d, err);
	if (result == 0 && index == 0)
		r->ours = r->stats.lanes = d.ours;
	return result;
}

int remote_connect(const struct remote_options *options, struct remote **ret, struct err *err)
{
	struct remote *r = calloc(1, sizeof(*r));
	unsigned nr = 1;
	int result;

	if (!r)
		return err_set(err, ENOMEM, "a page server");
	TAILQ_INIT(&r->leaving);
	TAILQ_INIT(&r->queue[false]);
	TAILQ_INIT(&r->queue[true]);
	TAILQ_INIT(&r->free);
	r->timer_fd = -1;
	r->timer_at = r->lost_since = r->down_since = CLOCK_NEVER;
	r->last_urgent = clock_now() - NSEC_PER_SEC;
	result = copy_options(r, options, err);
	if (result == 0)
		result = connect_lane(r, 0, DIAL_FIRST, err);
	if (result < 0) {
		remote_free(r);
		return result;
	}
	for (; r->ours && options->ps_socket < 0 && nr < REMOTE_MAX_LANES; nr++) {
		struct err further = {0};

		if (connect_lane(r, nr, DIAL_FURTHER, &further) < 0)
			remote_tell(r, true, "a further connection: %s", further.text);
	}
	remote_tell(r, false, "%s: connected, %s", r->name,
	            r->ours ? "with lanes" : "CRIU's protocol");
	*ret = r;
	return 0;
}

int remote_start(struct remote *r, struct ring *ring, struct err *err)
{
	int result;

	if (r->options.tls)
		tls_after_clone(); /* perhaps */
	r->ring = ring;
	result = remote_link_start(r, err);
	for (unsigned i = 0; i < REMOTE_MAX_LANES && result == 0; i++)
		if (r->lane[i])
			result = remote_link_watch(r, r->lane[i], err);
	return result;
}

void remote_stats(const struct remote *r, struct remote_stats *ret)
{
	*ret = r->stats;
}

void remote_free(struct remote *r)
{
	struct lane *lane, *next;

	if (!r)
		return;
	dialer_free(r->dialer);
	r->ring = NULL;
	for (unsigned i = 0; i < REMOTE_MAX_LANES; i++)
		if ((lane = r->lane[i])) {
			asks_again(r, lane);
			lane_close(lane);
		}
	TAILQ_FOREACH_SAFE(lane, &r->leaving, leaving, next)
		lane_free(lane);
	asks_free(r);
	if (r->timer_fd >= 0)
		close(r->timer_fd);
	free((char *)r->options.address);
	free((char *)r->options.unix_path);
	free(r);
}

/* --- the end --------------------------------------------------------------------------------- */

/* Read what was asked for and is not needed any more: a server of CRIU that cannot get rid of an
 * answer takes the session for failed. */
static int drain(struct remote *r, struct lane *lane, int64_t until, struct err *err)
{
	r->depth++;
	while (!lane->failed && (!TAILQ_EMPTY(&lane->sent) || lane->out_len)) {
		struct pollfd pfd = {.fd = stream_fd(lane->stream), .events = POLLIN};
		int64_t now = clock_now();

		if (now >= until)
			lane_fail(lane, ETIMEDOUT, "waiting for what was asked for");
		lane_send(lane, now);
		if (lane->out_len)
			pfd.events |= POLLOUT;
		lane_receive(lane, 0);
		if (!lane->failed && !TAILQ_EMPTY(&lane->sent))
			poll(&pfd, 1, 100);
	}
	r->depth--;
	if (!lane->failed)
		return 0;
	if (err)
		*err = lane->err;
	return err_wrap(err, "%s", r->name);
}

static int say_close(struct remote *r, struct lane *lane, int64_t until, struct err *err)
{
	struct ps_header h = {.cmd = r->options.ps_socket >= 0 ? PS_FORCE_CLOSE : PS_CLOSE};
	uint8_t buf[PS_HEADER_MAX];
	int result = drain(r, lane, until, err);
	size_t len = ps_encode(remote_layout(r), &h, buf);

	if (result == 0)
		result = stream_write_full(lane->stream, buf, len, END_TIME, err);
	/*
	 * Its answer is flushed at once when it sees our end of the stream, which it waits for
	 * anyway, and 200 ms later otherwise.  With TLS our end has to come after its answer, or
	 * it complains about unexpected data.  (Seen with 4.1.1 and 4.2.1.)
	 */
	if (result == 0 && lane->plain)
		stream_bye(lane->stream);
	if (result == 0)
		result = stream_read_full(lane->stream, buf, 4, END_TIME, err);
	if (result == 0)
		result = err_set(err, ECONNRESET, "no answer to CLOSE");
	return result < 0 ? err_wrap(err, "%s", r->name) : 0;
}

/* A server of ours needs no more than the word; what it still sends may be lost. */
static int say_bye(struct lane *lane, struct err *err)
{
	struct lanes_header h = {.cmd = LANES_BYE};
	uint8_t buf[LANES_HEADER];

	lanes_encode(&h, NULL, 0, buf);
	return lane->out_len ? 0 : stream_write_full(lane->stream, buf, sizeof(buf), END_TIME, err);
}

void remote_abort(struct remote *r)
{
	r->ring = NULL;
	if (!r->ours && r->lane[0] && !r->lane[0]->failed)
		remote_break_off(r->lane[0]->stream);
}

int remote_end(struct remote *r, struct err *err)
{
	int64_t until = clock_now() + END_TIME;
	int result = 0;

	r->ring = NULL; /* perhaps it is gone; in any case it does not call us any more */
	if (r->gave_up) {
		if (err)
			*err = r->why;
		return -r->why.code;
	}
	if (!r->ours && !r->lane[0])
		result = err_set(err, ENOTCONN, "%s: it cannot be told that all is done", r->name);
	for (unsigned i = 0; i < REMOTE_MAX_LANES && result == 0; i++) {
		struct lane *lane = r->lane[i];

		if (!lane)
			continue;
		result = lane->ours ? say_bye(lane, err) : say_close(r, lane, until, err);
		if (result == 0)
			stream_bye(lane->stream);
	}
	err_set(&r->why, EIO, "%s: the end was said", r->name);
	r->gave_up = true;
	return result;
}
