/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream.h - a connected byte stream: a socket, or TLS over one (tls.h); the rest of the program
 * does not know which.
 *
 * Two ways to use one.  Non-blocking: stream_read() and stream_write() do what can be done now and
 * answer -EAGAIN otherwise; poll stream_fd() for POLLIN (after stream_read() said -EAGAIN: what TLS
 * has buffered poll cannot see) or POLLOUT.  Waiting: the _full() functions wait by poll(2)
 * until all of it is done, or until the timeout, which counts from the last progress.
 *
 * Errors are negative errno: -EPIPE, -ECONNRESET, -ETIMEDOUT, -EPROTO (TLS), ...; stream_why() may
 * know more.  SIGPIPE is to be ignored by the program: a pipe's end has no MSG_NOSIGNAL.  One
 * thread at a time.
 */
#ifndef CRIU_LAZY_OS_STREAM_H
#define CRIU_LAZY_OS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct err;
struct stream;

/* Private to stream.c and tls.c. */
struct stream_ops {
	ssize_t (*read)(struct stream *s, void *buf, size_t len);
	ssize_t (*write)(struct stream *s, const void *buf, size_t len);
	int (*bye)(struct stream *s); /* close_notify */
	void (*free)(struct stream *s);
	const char *(*why)(const struct stream *s);
};

struct stream {
	const struct stream_ops *ops;
	int fd;
	short want; /* what an -EAGAIN waits for, when it is not what the call suggests (TLS) */
};

/* Takes over fd, a socket or a pipe's end, and makes it non-blocking.  NULL: out of memory, fd is
 * closed. */
struct stream *stream_new(int fd);

int stream_fd(const struct stream *s);

/* Do the bytes go out as they are, without TLS? */
bool stream_is_plain(const struct stream *s);

/* > 0: bytes; 0: end of stream; negative errno. */
ssize_t stream_read(struct stream *s, void *buf, size_t len);

/*
 * > 0: bytes taken; negative errno.  With TLS one call makes one record of at most 16 KiB, and
 * after -EAGAIN the next call must begin with the same bytes and at least as many: they may
 * already be encrypted.
 */
ssize_t stream_write(struct stream *s, const void *buf, size_t len);

/*
 * All len bytes, or an error.  timeout in ns without any progress, CLOCK_NEVER: none.  End of
 * stream: 0 bytes read so far: returns 0; in the middle: -ECONNRESET with a story.  Else returns 1.
 */
int stream_read_full(struct stream *s, void *buf, size_t len, int64_t timeout, struct err *err);

/* 0 or negative errno. */
int stream_write_full(struct stream *s, const void *buf, size_t len, int64_t timeout,
                      struct err *err);

/* What is known beyond the errno of the last error ("the peer's alert: ..."), or NULL. */
const char *stream_why(const struct stream *s);

/* Say that nothing more will be sent (TLS: close_notify; else shutdown(SHUT_WR)).  Best effort. */
void stream_bye(struct stream *s);

/* NULL is fine. */
void stream_free(struct stream *s);

/* Free the stream without a word to the peer, and leave its descriptor open. */
void stream_forget(struct stream *s);

#endif
