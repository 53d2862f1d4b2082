/* SPDX-License-Identifier: GPL-2.0-or-later */
/* must.h - what every fuzz target has: its entry, and what is said when a promise does not hold. */
#ifndef TEST_FUZZ_MUST_H
#define TEST_FUZZ_MUST_H

#include "criu-lazy/base/err.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)                                                                 \
	do {                                                                       \
		if (!(cond)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                   \
		}                                                                  \
	} while (0)

/* A story is one line of text, whatever is quoted in it. */
static inline void must_be_line(const struct err *err)
{
	MUST(err->code > 0 && err->text[0]);
	for (const char *c = err->text; *c; c++)
		MUST((unsigned char)*c >= 32 && *c != 0x7f);
}

/* From a descriptor that is open: the same before and after, where none was left open. */
static inline int lowest_free(int any)
{
	int fd = dup(any);

	close(fd);
	return fd;
}

#endif
