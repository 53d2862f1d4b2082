/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * input.h - what a client says, message by message, through a small buffer.
 *
 * Between two messages a client may be silent for as long as it likes: a helper has nothing to ask
 * for until a program touches something.  A message that has begun has to be complete after
 * INPUT_MESSAGE_NS, however slowly its bytes drip in; content that has been announced may take
 * longer, as long as something comes every INPUT_CONTENT_NS.
 */
#ifndef CRIU_LAZY_SERVER_INPUT_H
#define CRIU_LAZY_SERVER_INPUT_H

#include "criu-lazy/base/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct err;
struct stream;

/* Named limits. */
#define INPUT_MESSAGE_NS (30 * NSEC_PER_SEC)
#define INPUT_CONTENT_NS (120 * NSEC_PER_SEC)
enum { INPUT_SIZE = 4096 };

/* Zero-initialise and set stream. */
struct input {
	struct stream *stream;
	int64_t message_ns, content_ns; /* other limits, for tests; 0: the named ones */
	bool begun; /* a message has, and must be complete by the deadline */
	int64_t deadline;
	size_t from, to; /* what is in buf and was not taken yet */
	uint8_t buf[INPUT_SIZE];
};

/*
 * Have the first len bytes (at most INPUT_SIZE) of the next message.  They stay in the buffer until
 * they are taken, so a caller may look at the first 4 and then ask for more.  idle: how long the
 * first byte may take (CLOCK_NEVER: for ever).  Returns 1 and *ret; 0: the client has hung up
 * between two messages; negative errno.
 */
int input_peek(struct input *in, size_t len, int64_t idle, const uint8_t **ret, struct err *err);

/* What was looked at is done with. */
void input_take(struct input *in, size_t len);

/* Content: at least 1, at most len bytes into buf.  Negative errno, also when the client hangs up.
 */
ssize_t input_content(struct input *in, void *buf, size_t len, struct err *err);

/* The client has nothing more to say: wait for it to hang up.  0: it has; negative errno. */
int input_end(struct input *in, int64_t timeout, struct err *err);

#endif
