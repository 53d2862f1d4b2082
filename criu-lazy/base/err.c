/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;
	size_t used;

	if (!err)
		return -code;
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	used = strlen(err->text);
	if (code != EPROTO && code != EINVAL)
		snprintf(err->text + used, sizeof(err->text) - used, ": %s", strerror(code));
	return -code;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
	char told[ERR_TEXT_SIZE];
	va_list ap;
	size_t used;

	if (!err)
		return -EIO;
	memcpy(told, err->text, sizeof(told));
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	used = strlen(err->text);
	snprintf(err->text + used, sizeof(err->text) - used, ": %s", told);
	return err->code ? -err->code : -EIO;
}
