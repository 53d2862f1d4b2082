/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/server/input.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/os/stream.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>

/* Some bytes, at least one.  0: end of stream; -ETIMEDOUT after the deadline. */
static ssize_t read_some(struct stream *s, void *buf, size_t len, int64_t deadline)
{
	for (;;) {
		ssize_t got = stream_read(s, buf, len);
		struct pollfd pfd = {.fd = stream_fd(s), .events = s->want ? s->want : POLLIN};
		int64_t left;
		int ms = -1;

		if (got != -EAGAIN)
			return got;
		if (deadline != CLOCK_NEVER) {
			left = (max_i64(deadline - clock_now(), 0) + NSEC_PER_MSEC - 1) /
			       NSEC_PER_MSEC;
			if (!left)
				return -ETIMEDOUT;
			ms = left > INT_MAX ? INT_MAX : (int)left;
		}
		if (poll(&pfd, 1, ms) < 0 && errno != EINTR)
			return -errno;
	}
}

static int64_t deadline_after(int64_t ns)
{
	return ns == CLOCK_NEVER ? CLOCK_NEVER : clock_now() + ns;
}

static int failed(const struct stream *s, ssize_t r, const char *what, struct err *err)
{
	const char *why = stream_why(s);

	if (r == -EPROTO)
		return err_set(err, EPROTO, "%s: %s", what, why ? why : "broken");
	return err_set(err, (int)-r, "%s", what);
}

static void begin(struct input *in)
{
	in->deadline = deadline_after(in->message_ns ? in->message_ns : INPUT_MESSAGE_NS);
	in->begun = true;
}

/* One more read, into the buffer. */
static ssize_t fill(struct input *in, int64_t idle)
{
	int64_t deadline = in->begun ? in->deadline : deadline_after(idle);
	ssize_t got;

	if (in->from) {
		memmove(in->buf, in->buf + in->from, in->to - in->from);
		in->to -= in->from;
		in->from = 0;
	}
	got = read_some(in->stream, in->buf + in->to, INPUT_SIZE - in->to, deadline);
	if (got > 0)
		in->to += (size_t)got;
	return got;
}

int input_peek(struct input *in, size_t len, int64_t idle, const uint8_t **ret, struct err *err)
{
	size_t here;

	while ((here = in->to - in->from) < len) {
		ssize_t got;

		if (here && !in->begun)
			begin(in);
		got = fill(in, idle);
		if (got == 0 && !here)
			return 0;
		if (got == 0)
			return err_set(err, EPROTO, "it hung up after %zu bytes of a message",
			               here);
		if (got == -ETIMEDOUT)
			return err_set(err, ETIMEDOUT, "%zu bytes of a message in too long a time",
			               here);
		if (got < 0)
			return failed(in->stream, got, "receive", err);
	}
	*ret = in->buf + in->from;
	return 1;
}

void input_take(struct input *in, size_t len)
{
	in->begun = false;
	in->from += len;
	if (in->from == in->to)
		in->from = in->to = 0;
}

ssize_t input_content(struct input *in, void *buf, size_t len, struct err *err)
{
	size_t here = in->to - in->from;
	ssize_t got;

	if (here) {
		if (here > len)
			here = len;
		memcpy(buf, in->buf + in->from, here);
		input_take(in, here);
		return (ssize_t)here;
	}
	got = read_some(in->stream, buf, len,
	                deadline_after(in->content_ns ? in->content_ns : INPUT_CONTENT_NS));
	if (got == 0)
		return err_set(err, EPROTO, "it hung up in the middle of pages");
	return got < 0 ? failed(in->stream, got, "receive pages", err) : got;
}

int input_end(struct input *in, int64_t timeout, struct err *err)
{
	int64_t deadline = deadline_after(timeout);
	ssize_t got;
	uint8_t byte;

	if (in->to > in->from)
		return err_set(err, EPROTO, "it goes on after its last message");
	got = read_some(in->stream, &byte, 1, deadline);
	if (got > 0)
		return err_set(err, EPROTO, "it goes on after its last message");
	return got < 0 ? failed(in->stream, got, "wait for it to hang up", err) : 0;
}
