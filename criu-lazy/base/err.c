/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What is quoted (a file's bytes, a name, an option) may hold anything: it is shown as '?'. */
static void keep_one_line(struct err *err)
{
	for (char *c = err->text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
}

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
	keep_one_line(err);
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
	keep_one_line(err);
	return err->code ? -err->code : -EIO;
}
