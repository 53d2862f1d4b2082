/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fail.h - the parts of fail.so: fail.c counts and decides; the others are wrappers, each by one of
 * the macros here or by hand where a plain failure would not be what the kernel does.
 */
#ifndef TEST_TORTURE_FAIL_H
#define TEST_TORTURE_FAIL_H

#include "test/torture/functions.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The program that this is loaded into is not to see them. */
#pragma GCC visibility push(hidden)

extern struct torture *torture; /* NULL: nothing is counted yet */
extern __thread bool busy; /* with the calls of this library's own */

void *real_of(const char *name);

/* Is this the call?  Then errno is set. */
bool fails(enum function function);

#pragma GCC visibility pop

#define REAL(name)                                                 \
	({                                                         \
		static __typeof__(&name) real_;                    \
		if (!real_)                                        \
			real_ = (__typeof__(&name))real_of(#name); \
		real_;                                             \
	})

/* type name(parameters): calls the real one with arguments unless it is to return failure */
#define WRAP(type, name, failure, parameters, arguments)                    \
	type name parameters                                                \
	{                                                                   \
		return fails(FN_##name) ? (failure) : REAL(name) arguments; \
	}

/* The same, and what a short one is. */
#define WRAP_SHORT(name, parameters, arguments, half)                  \
	ssize_t name parameters                                        \
	{                                                              \
		if (!fails(FN_##name))                                 \
			return REAL(name) arguments;                   \
		return torture->error == SHORT ? REAL(name) half : -1; \
	}

#endif
