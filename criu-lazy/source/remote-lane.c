/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection to a page server: its life, and what goes out, through a small buffer.  What comes
 * in: remote-answer.c.
 */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/os/stream.h"
#include "criu-lazy/source/remote-parts.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* --- life ------------------------------------------------------------------------------------ */

static void *map(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void lane_free(struct lane *lane)
{
	if (lane->in)
		munmap(lane->in, REMOTE_IN);
	if (lane->unpacked)
		munmap(lane->unpacked, REMOTE_PIECE * PAGE_SIZE);
	free(lane);
}

static struct file_id file_id(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return (struct file_id){0};
	return (struct file_id){.dev = st.st_dev, .ino = st.st_ino};
}

bool lane_has_its_file(const struct lane *lane)
{
	struct file_id now = file_id(stream_fd(lane->stream));

	return now.ino && now.dev == lane->file.dev && now.ino == lane->file.ino;
}

void lane_forget(struct lane *lane)
{
	lane->remote->lane[lane->index] = NULL;
	stream_forget(lane->stream);
	lane_free(lane);
}

static void lane_ready(struct watch *w, uint32_t events)
{
	struct lane *lane = (struct lane *)w;
	struct remote *r = lane->remote;

	if (!r->ring)
		return; /* after remote_end() */
	r->depth++;
	lane_receive(lane, events);
	r->depth--;
	remote_pump(r);
	if (lane->failed)
		remote_lane_lost(lane);
}

static void lane_gone(struct watch *w)
{
	struct lane *lane = (struct lane *)w;

	TAILQ_REMOVE(&lane->remote->leaving, lane, leaving);
	lane_free(lane);
}

int lane_new(struct remote *r, const struct dialled *dialled, struct err *err)
{
	struct lane *lane = calloc(1, sizeof(*lane));
	bool packed = dialled->ours && dialled->index && r->options.compress;

	if (lane) {
		lane->in = map(REMOTE_IN);
		if (packed)
			lane->unpacked = map(REMOTE_PIECE * PAGE_SIZE);
	}
	if (!lane || !lane->in || (packed && !lane->unpacked)) {
		stream_free(dialled->stream);
		if (lane)
			lane_free(lane);
		return err_set(err, ENOMEM, "a connection to %s", r->name);
	}
	lane->watch = (struct watch){.ready = lane_ready, .gone = lane_gone};
	lane->remote = r;
	lane->index = dialled->index;
	lane->ours = dialled->ours;
	lane->stream = dialled->stream;
	lane->file = file_id(stream_fd(lane->stream));
	lane->plain = stream_is_plain(lane->stream);
	lane->up_since = lane->quiet_since = clock_now();
	TAILQ_INIT(&lane->sent);
	lane->at = REMOTE_FRONT - lane_header_size(lane);
	pace_round_trip(&r->pace[lane->index], dialled->rtt);
	r->lane[lane->index] = lane;
	return 0;
}

void lane_close(struct lane *lane)
{
	struct remote *r = lane->remote;

	if (r->lane[lane->index] == lane)
		r->lane[lane->index] = NULL;
	/* The ring may hold the socket for a while longer. */
	shutdown(stream_fd(lane->stream), SHUT_RDWR);
	stream_free(lane->stream);
	lane->stream = NULL;
	TAILQ_INSERT_TAIL(&r->leaving, lane, leaving);
	if (r->ring)
		ring_unwatch(r->ring, &lane->watch); /* lane_gone() */
	else
		lane_gone(&lane->watch);
}

void lane_fail(struct lane *lane, int code, const char *fmt, ...)
{
	char text[ERR_TEXT_SIZE];
	va_list ap;

	if (lane->failed)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (lane->stream && stream_why(lane->stream))
		err_set(&lane->err, EPROTO, "%s: %s", text, stream_why(lane->stream));
	else
		err_set(&lane->err, code, "%s", text);
	lane->err.code = code;
	lane->failed = true;
	if (lane->remote->ring)
		ring_again(lane->remote->ring, &lane->watch);
}

/* --- out ------------------------------------------------------------------------------------- */

/* false: the rest is for later. */
static bool flush(struct lane *lane)
{
	while (lane->out_at < lane->out_len) {
		size_t len = lane->out_len - lane->out_at;
		ssize_t n;

		/* To CRIU each header goes in a record of its own. */
		if (lane->out_stuck)
			len = lane->out_stuck;
		else if (!lane->plain && !lane->ours)
			len = lane_header_size(lane);
		n = stream_write(lane->stream, lane->out + lane->out_at, len);
		if (n == -EAGAIN) {
			lane->out_stuck = lane->plain ? 0 : len;
			return false;
		}
		if (n < 0) {
			lane_fail(lane, (int)-n, "sending a request");
			return false;
		}
		lane->out_stuck = 0;
		lane->out_at += (size_t)n;
	}
	lane->out_at = lane->out_len = 0;
	return true;
}

static void encode(struct lane *lane, const struct ask *ask)
{
	uint8_t *out = lane->out + lane->out_len;

	if (lane->ours) {
		struct lanes_header h = {.cmd = LANES_FETCH,
		                         .tag = ask->tag,
		                         .nr_pages = ask->nr_pages,
		                         .vaddr = ask->img,
		                         .pid = ask->pid};

		lanes_encode(&h, NULL, 0, out);
		lane->out_len += LANES_HEADER;
	} else {
		struct ps_header h = {.cmd = PS_GET,
		                      .nr_pages = ask->nr_pages,
		                      .vaddr = ask->img,
		                      .dst_id = ask->pid};

		lane->out_len += ps_encode(remote_layout(lane->remote), &h, out);
	}
}

static void put(struct lane *lane, struct ask *ask, int64_t now)
{
	bool idle = TAILQ_EMPTY(&lane->sent);

	encode(lane, ask);
	ask->lane = lane;
	ask->alone = idle;
	ask->sent_at = now;
	ask->asked_before = lane->asked;
	ask->answered_before = lane->answered;
	lane->asked += ask->nr_pages << PAGE_SHIFT;
	lane->remote->stats.requests++;
	TAILQ_INSERT_TAIL(&lane->sent, ask, link);
	if (idle) {
		lane->quiet_since = now;
		remote_timer(lane->remote, now + lane->remote->options.answer_timeout);
	}
}

void lane_send(struct lane *lane, int64_t now)
{
	struct ask *ask;

	if (lane->failed || !flush(lane))
		return;
	do {
		while (lane->out_len + PS_HEADER_MAX <= REMOTE_OUT &&
		       (ask = ask_next(lane->remote, lane, now)))
			put(lane, ask, now);
	} while (lane->out_len && flush(lane));
}

void lane_ping(struct lane *lane)
{
	struct lanes_header h = {.cmd = LANES_PING};

	if (!lane->ours || lane->out_len + LANES_HEADER > REMOTE_OUT)
		return;
	lanes_encode(&h, NULL, 0, lane->out + lane->out_len);
	lane->out_len += LANES_HEADER;
	lane->pinged = true;
	flush(lane);
}
