/* SPDX-License-Identifier: GPL-2.0-or-later */
/* no-source.h - a source for tests in which nobody asks one: its owner's, and never closed. */
#ifndef TEST_UNIT_NO_SOURCE_H
#define TEST_UNIT_NO_SOURCE_H

#include "criu-lazy/base/err.h"
#include "criu-lazy/source/source.h"

#include <errno.h>

static inline enum source_answer no_fetch(struct source *s, struct source_request *request,
                                          struct source_bytes *ret, struct err *err)
{
	(void)s;
	(void)request;
	(void)ret;
	err_set(err, EIO, "nothing here");
	return SOURCE_LOST;
}

static inline void no_close(struct source *s)
{
	(void)s;
}

static const struct source_ops no_source_ops = {
	.name = "none", .fetch = no_fetch, .close = no_close};

#endif
