/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * err.h - how a failure travels to the top.
 *
 * A function that can fail takes "struct err *err" as its last argument and returns 0 or a
 * negative errno.  Success leaves *err alone.  Failure fills it: the function that noticed says
 * what and where with err_set(); each level above may add its own half sentence in front with
 * err_wrap().  Only cmd/ and the engine's top level print it.
 *
 *	if (fd < 0)
 *		return err_set(err, errno, "open %s", path);
 *	...
 *	r = pagemap_read(dir, pid, &map, err);
 *	if (r < 0)
 *		return err_wrap(err, "process %u", pid);
 *
 * err may be NULL for a caller that only wants the number.
 */
#ifndef CRIU_LAZY_BASE_ERR_H
#define CRIU_LAZY_BASE_ERR_H

enum { ERR_TEXT_SIZE = 512 };

/* Zero-initialise (struct err err = {0}); needs no release. */
struct err {
	int code; /* positive errno, 0: no error */
	char text[ERR_TEXT_SIZE]; /* one line, no control characters; cut, never overrun */
};

/*
 * Record a new error; code is a positive errno.  The text gets ": strerror(code)" appended, except
 * for EPROTO and EINVAL, which stand for "the input is wrong" and are told in full by the text.
 * Returns -code.
 */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Put "prefix: " in front of the story.  Returns -err->code, or -EIO without a recorded error. */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
