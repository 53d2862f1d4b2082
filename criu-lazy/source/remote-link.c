/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections that are lost and come back.
 *
 *	lane fails -> its asks return to the queues -> the dialer brings a new one -> they are sent
 *
 * With several lanes each is brought back by itself while the others go on.  When none is up the
 * first one that comes finds out anew who the server is; the others follow.  When none was up
 * and no page came for reconnect_timeout, the remote gives up for good.
 *
 * A connection that is lost again before it has brought anything, within a few seconds, counts as
 * the same loss: neither the time-out nor the back-off begin anew.
 */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/os/stream.h"
#include "criu-lazy/source/remote-parts.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* A lane that was up for so long has worked, also when nothing was asked of it. */
static const int64_t WORKED = 5 * NSEC_PER_SEC;
/* An idle lane of ours is asked whether it is still there. */
static const int64_t PING_AFTER = 15 * NSEC_PER_SEC; /* or answer_timeout, if that is less */

static int64_t ping_after(const struct remote *r)
{
	return r->options.answer_timeout < PING_AFTER ? r->options.answer_timeout : PING_AFTER;
}

static bool any_up(const struct remote *r)
{
	for (unsigned i = 0; i < REMOTE_MAX_LANES; i++)
		if (r->lane[i])
			return true;
	return false;
}

static bool can_dial(const struct remote *r)
{
	return r->options.ps_socket < 0;
}

/* Have the dialer bring what is missing, and nothing else. */
static void dial_missing(struct remote *r, bool fresh)
{
	bool up = any_up(r);

	if (!can_dial(r) || !r->dialer)
		return;
	for (unsigned i = 0; i < REMOTE_MAX_LANES; i++) {
		enum dial_how how = DIAL_NOT;

		if (!up && i == 0)
			how = DIAL_AGAIN;
		else if (up && r->ours && !r->lane[i])
			how = DIAL_FURTHER;
		dialer_want(r->dialer, i, how, fresh);
	}
}

static void give_up(struct remote *r, int64_t since)
{
	double seconds = (double)(clock_now() - since) / (double)NSEC_PER_SEC;

	if (can_dial(r))
		err_set(&r->why, EPROTO, "%s is lost, for %.1f seconds now: %s", r->name, seconds,
		        r->last_loss.text);
	else
		err_set(&r->why, EPROTO, "%s is lost, and cannot be connected to again: %s",
		        r->name, r->last_loss.text);
	r->why.code = EIO;
	r->gave_up = true;
	for (unsigned i = 0; r->dialer && i < REMOTE_MAX_LANES; i++)
		dialer_want(r->dialer, i, DIAL_NOT, false);
	remote_tell(r, true, "%s; giving up", r->why.text);
	r->depth++;
	asks_lost(r, &r->why);
	r->depth--;
}

/* The server has answered this request by something that it must not, time and again. */
static bool blame(struct remote *r, struct lane *lane)
{
	struct ask *ask = TAILQ_FIRST(&lane->sent);

	if (!lane->blame || !ask || ++ask->nr_blamed < REMOTE_BLAME_TRIES)
		return false;
	TAILQ_REMOVE(&lane->sent, ask, link);
	ask_end(r, ask, NULL, 0, &lane->err);
	return true;
}

/* What has come of the answer that was being received is good, and may be all that ever comes
 * when the connection breaks again and again. */
static void keep_prefix(struct remote *r, struct lane *lane)
{
	struct ask *ask = TAILQ_FIRST(&lane->sent);
	const void *bytes;
	uint64_t nr = lane_prefix(lane, &bytes);

	if (nr) {
		TAILQ_REMOVE(&lane->sent, ask, link);
		lane->progress = true;
		ask_end(r, ask, bytes, nr, NULL);
	} else if (ask && ask->nr_pages > 1) {
		ask->nr_pages /= 2; /* perhaps fewer can be had */
	}
}

void remote_lane_lost(struct lane *lane)
{
	struct remote *r = lane->remote;
	int64_t now = clock_now(), since;
	bool fresh;

	r->lane[lane->index] = NULL;
	r->last_loss = lane->err;
	r->depth++;
	if (!blame(r, lane))
		keep_prefix(r, lane);
	asks_again(r, lane);
	r->depth--;
	fresh = lane->progress || now - lane->up_since > WORKED;
	lane_close(lane); /* it may be gone now */
	if (any_up(r)) {
		remote_tell(r, true, "%s: one connection is lost: %s", r->name, r->last_loss.text);
		dial_missing(r, fresh);
		remote_pump(r);
		return;
	}
	r->down_since = now;
	if (fresh || r->lost_since == CLOCK_NEVER)
		r->lost_since = now;
	since = r->lost_since;
	if (!can_dial(r) || !r->dialer || now - since >= r->options.reconnect_timeout) {
		give_up(r, since);
		return;
	}
	remote_tell(r, true, "%s: the connection is lost: %s; trying again for %.1f seconds",
	            r->name, r->last_loss.text,
	            (double)(r->options.reconnect_timeout - (now - since)) / (double)NSEC_PER_SEC);
	remote_timer(r, since + r->options.reconnect_timeout);
	dial_missing(r, fresh);
}

int remote_link_watch(struct remote *r, struct lane *lane, struct err *err)
{
	int fd = stream_fd(lane->stream);

	return ring_watch(r->ring, &lane->watch, fd, POLLIN | POLLOUT | POLLRDHUP, err);
}

/* --- what the dialer brings ------------------------------------------------------------------ */

static void lane_back(struct remote *r, struct dialled *d)
{
	bool was_down = !any_up(r);
	int64_t now = clock_now();
	struct err err = {0};

	if (lane_new(r, d, &err) < 0)
		goto fail;
	if (remote_link_watch(r, r->lane[d->index], &err) < 0) {
		lane_close(r->lane[d->index]);
		goto fail;
	}
	if (d->index == 0 && was_down)
		r->ours = d->ours;
	r->stats.lanes = r->ours;
	r->stats.reconnects++;
	if (was_down)
		remote_tell(r, false, "%s: connected again, after %.2f seconds", r->name,
		            (double)(now - r->down_since) / (double)NSEC_PER_SEC);
	else
		remote_tell(r, false, "%s: a further connection", r->name);
	r->down_since = CLOCK_NEVER;
	dial_missing(r, true);
	remote_timer(r, now + ping_after(r));
	remote_pump(r);
	return;
fail:
	r->last_loss = err;
	remote_tell(r, true, "%s", err.text);
	dial_missing(r, false);
}

static void dial_failed(struct remote *r, const struct dialled *d)
{
	if (strcmp(r->last_loss.text, d->err.text))
		remote_tell(r, false, "%s", d->err.text); /* the same is not said twice */
	r->last_loss = d->err;
}

static void dialer_ready(struct watch *w, uint32_t events)
{
	struct remote *r = (struct remote *)((char *)w - offsetof(struct remote, dialer_watch));
	struct dialled d;

	(void)events;
	if (!r->ring)
		return; /* after remote_end() */
	while (dialer_take(r->dialer, &d)) {
		if (!d.stream)
			dial_failed(r, &d);
		else if (r->gave_up || r->lane[d.index])
			stream_free(d.stream);
		else
			lane_back(r, &d);
	}
}

/* --- times ----------------------------------------------------------------------------------- */

void remote_timer(struct remote *r, int64_t at)
{
	struct itimerspec spec = {
		.it_value = {.tv_sec = at / NSEC_PER_SEC, .tv_nsec = at % NSEC_PER_SEC}};

	if (!r->ring || at >= r->timer_at)
		return;
	r->timer_at = at;
	timerfd_settime(r->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

static bool has_bytes(const struct lane *lane)
{
	struct pollfd pfd = {.fd = stream_fd(lane->stream), .events = POLLIN};

	return poll(&pfd, 1, 0) == 1 && pfd.revents & POLLIN;
}

/* Look after one lane; returns when to look again. */
static int64_t check_lane(struct remote *r, struct lane *lane, int64_t now)
{
	bool asked = !TAILQ_EMPTY(&lane->sent) || lane->pinged;
	int64_t at = lane->quiet_since + r->options.answer_timeout;

	if (asked) {
		if (now < at)
			return at;
		if (has_bytes(lane)) { /* it is we who were away */
			lane->quiet_since = now;
			return now + r->options.answer_timeout;
		}
		lane_fail(lane, ETIMEDOUT, "not a byte came for %.1f seconds",
		          (double)(now - lane->quiet_since) / (double)NSEC_PER_SEC);
		return CLOCK_NEVER;
	}
	if (!lane->ours)
		return CLOCK_NEVER;
	if (now < lane->quiet_since + ping_after(r))
		return lane->quiet_since + ping_after(r);
	lane->quiet_since = now;
	lane_ping(lane);
	return now + r->options.answer_timeout;
}

static void timer_ready(struct watch *w, uint32_t events)
{
	struct remote *r = (struct remote *)((char *)w - offsetof(struct remote, timer_watch));
	int64_t now = clock_now(), at;
	uint64_t fired;

	(void)events;
	while (read(r->timer_fd, &fired, sizeof(fired)) > 0)
		;
	if (r->gave_up || !r->ring)
		return;
	r->timer_at = CLOCK_NEVER;
	for (unsigned i = 0; i < REMOTE_MAX_LANES; i++)
		if (r->lane[i] && (at = check_lane(r, r->lane[i], now)) != CLOCK_NEVER)
			remote_timer(r, at);
	if (any_up(r))
		return;
	at = r->lost_since + r->options.reconnect_timeout;
	if (now >= at)
		give_up(r, r->lost_since);
	else
		remote_timer(r, at);
}

static void no_more(struct remote *r, const char *why)
{
	err_set(&r->why, EPROTO, "%s: %s", r->name, why);
	r->why.code = EIO;
	r->gave_up = true;
	remote_tell(r, true, "%s", r->why.text);
}

void remote_resume(struct remote *r)
{
	struct lane *lane;

	assert(!r->ring && !r->dialer);
	for (unsigned i = 0; i < REMOTE_MAX_LANES; i++) {
		lane = r->lane[i];
		if (!lane)
			continue;
		if (!r->ours && lane_has_its_file(lane))
			remote_break_off_socket(stream_fd(lane->stream));
		lane_forget(lane);
	}
	if (r->gave_up)
		return;
	err_set(&r->last_loss, EPROTO, "the process that used the connection has died");
	r->lost_since = r->down_since = clock_now();
	if (!r->ours)
		no_more(r, "the process that used the connection has died, and CRIU's servers "
		           "accept no second one");
	else if (!can_dial(r))
		no_more(r, "the process that used the connection has died, and it cannot be "
		           "connected to again");
	else
		remote_tell(r, true,
		            "%s: the process that used the connection has died; trying "
		            "again for %.1f seconds",
		            r->name, (double)r->options.reconnect_timeout / (double)NSEC_PER_SEC);
}

int remote_link_start(struct remote *r, struct err *err)
{
	int result;

	if (r->gave_up) /* by remote_resume(): nothing is asked of anybody any more */
		return 0;
	r->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (r->timer_fd < 0)
		return err_set(err, errno, "a timer");
	r->timer_watch = (struct watch){.ready = timer_ready};
	result = ring_watch(r->ring, &r->timer_watch, r->timer_fd, POLLIN, err);
	if (result < 0 || !can_dial(r))
		return result;
	result = dialer_new(&r->options, r->name, &r->dialer, err);
	if (result < 0)
		return result;
	r->dialer_watch = (struct watch){.ready = dialer_ready};
	dial_missing(r, true); /* a lane that could not be had at first */
	remote_timer(r, clock_now() + ping_after(r));
	if (!any_up(r))
		remote_timer(r, r->lost_since + r->options.reconnect_timeout);
	return ring_watch(r->ring, &r->dialer_watch, dialer_fd(r->dialer), POLLIN, err);
}
