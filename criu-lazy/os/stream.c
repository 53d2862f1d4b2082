/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/os/stream.h"

#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- plain ------------------------------------------------------------------------------------ */

static ssize_t plain_read(struct stream *s, void *buf, size_t len)
{
	ssize_t got;

	do {
		got = read(s->fd, buf, len);
	} while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

static ssize_t plain_write(struct stream *s, const void *buf, size_t len)
{
	ssize_t sent;

	do {
		sent = send(s->fd, buf, len, MSG_NOSIGNAL);
		if (sent < 0 && errno == ENOTSOCK)
			sent = write(s->fd, buf, len);
	} while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

static int plain_bye(struct stream *s)
{
	return shutdown(s->fd, SHUT_WR) < 0 ? -errno : 0;
}

static void plain_free(struct stream *s)
{
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}

static const char *plain_why(const struct stream *s)
{
	(void)s;
	return NULL;
}

static const struct stream_ops plain_ops = {
	.read = plain_read,
	.write = plain_write,
	.bye = plain_bye,
	.free = plain_free,
	.why = plain_why,
};

struct stream *stream_new(int fd)
{
	struct stream *s = calloc(1, sizeof(*s));
	int flags = fcntl(fd, F_GETFL);

	if (!s) {
		close(fd);
		return NULL;
	}
	if (flags >= 0)
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	s->ops = &plain_ops;
	s->fd = fd;
	return s;
}

/* --- what can be done now --------------------------------------------------------------------- */

int stream_fd(const struct stream *s)
{
	return s->fd;
}

bool stream_is_plain(const struct stream *s)
{
	return s->ops == &plain_ops;
}

ssize_t stream_read(struct stream *s, void *buf, size_t len)
{
	assert(len > 0); /* 0 bytes read mean the end */
	s->want = 0;
	return s->ops->read(s, buf, len);
}

ssize_t stream_write(struct stream *s, const void *buf, size_t len)
{
	assert(len > 0);
	s->want = 0;
	return s->ops->write(s, buf, len);
}

const char *stream_why(const struct stream *s)
{
	return s->ops->why(s);
}

void stream_bye(struct stream *s)
{
	s->ops->bye(s);
}

void stream_free(struct stream *s)
{
	if (s)
		s->ops->free(s);
}

void stream_forget(struct stream *s)
{
	s->fd = -1;
	s->ops->free(s);
}

/* --- waiting ---------------------------------------------------------------------------------- */

/* Until the descriptor is ready, or deadline: -ETIMEDOUT. */
static int wait_ready(struct stream *s, short events, int64_t deadline)
{
	struct pollfd pfd = {.fd = s->fd, .events = s->want ? s->want : events};
	int r;

	for (;;) {
		int64_t left = deadline == CLOCK_NEVER ? 0 : deadline - clock_now();
		int ms = -1;

		if (deadline != CLOCK_NEVER) {
			if (left < 0)
				left = 0;
			left = (left + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;
			ms = left > INT_MAX ? INT_MAX : (int)left;
		}
		r = poll(&pfd, 1, ms);
		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r == 0 && ms < INT_MAX)
			return -ETIMEDOUT;
	}
}

static int64_t deadline_after(int64_t timeout)
{
	int64_t now = clock_now();

	return timeout > CLOCK_NEVER - now ? CLOCK_NEVER : now + timeout;
}

/* The story of a failed read or write. */
static int failed(const struct stream *s, int r, const char *what, struct err *err)
{
	const char *why = r == -ETIMEDOUT ? NULL : stream_why(s);

	if (why && r == -EPROTO)
		return err_set(err, -r, "%s: %s", what, why);
	if (why)
		return err_set(err, -r, "%s (%s)", what, why);
	if (r == -EPROTO || r == -EINVAL)
		return err_set(err, -r, "%s failed", what);
	return err_set(err, -r, "%s", what);
}

int stream_read_full(struct stream *s, void *buf, size_t len, int64_t timeout, struct err *err)
{
	int64_t deadline = deadline_after(timeout);
	uint8_t *at = buf;
	size_t done = 0;

	while (done < len) {
		ssize_t got = stream_read(s, at + done, len - done);
		int r;

		if (got > 0) {
			done += (size_t)got;
			deadline = deadline_after(timeout);
			continue;
		}
		if (got == 0 && done == 0)
			return 0;
		if (got == 0)
			return err_set(err, ECONNRESET, "the peer hung up after %zu of %zu bytes",
			               done, len);
		r = got == -EAGAIN ? wait_ready(s, POLLIN, deadline) : (int)got;
		if (r < 0)
			return failed(s, r, "receive", err);
	}
	return 1;
}

int stream_write_full(struct stream *s, const void *buf, size_t len, int64_t timeout,
                      struct err *err)
{
	int64_t deadline = deadline_after(timeout);
	const uint8_t *at = buf;
	size_t done = 0;

	while (done < len) {
		ssize_t sent = stream_write(s, at + done, len - done);
		int r;

		if (sent > 0) {
			done += (size_t)sent;
			deadline = deadline_after(timeout);
			continue;
		}
		r = sent == -EAGAIN ? wait_ready(s, POLLOUT, deadline) : (int)sent;
		if (r < 0)
			return failed(s, r, "send", err);
	}
	return 0;
}
