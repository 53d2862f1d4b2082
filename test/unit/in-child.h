/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * in-child.h - for tests whose children judge, too: there cmocka's assertions would go on with the
 * parent's tests, so a child ends with CHECK_FAILED instead.
 */
#ifndef TEST_UNIT_IN_CHILD_H
#define TEST_UNIT_IN_CHILD_H

#include "test/unit/patience.h"

#include <sys/mman.h>

enum { CHECK_FAILED = 99 };

#define check(condition)                                                                       \
	do {                                                                                   \
		if (!(condition)) {                                                            \
			fprintf(stderr, "%s:%d: %s: false in the child\n", __FILE__, __LINE__, \
			        #condition);                                                   \
			_exit(CHECK_FAILED);                                                   \
		}                                                                              \
	} while (0)

#define assert_exit(pid, code)                                  \
	do {                                                    \
		int status_ = reap(pid);                        \
		assert_true(WIFEXITED(status_));                \
		assert_int_equal(WEXITSTATUS(status_), (code)); \
	} while (0)

/* Zeroed memory that parent and children share, for munmap(2). */
static inline void *shared(size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(mem != MAP_FAILED);
	return mem;
}

#endif
