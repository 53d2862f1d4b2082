/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * images-dir.h - what the tests of the image library share: a scratch directory, files of given
 * bytes, and the check "failed like this, and said that".
 */
#ifndef TEST_UNIT_IMAGES_DIR_H
#define TEST_UNIT_IMAGES_DIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "criu-lazy/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct dir {
	char path[64];
	int fd;
};

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static inline int dir_setup(void **state)
{
	struct dir *dir = calloc(1, sizeof(*dir));

	if (!dir)
		return -1;
	strcpy(dir->path, "/tmp/criu-lazy-images-XXXXXX");
	if (!mkdtemp(dir->path))
		return -1;
	dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = dir;
	return dir->fd < 0 ? -1 : 0;
}

static inline int dir_teardown(void **state)
{
	struct dir *dir = *state;

	close(dir->fd);
	nftw(dir->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(dir);
	return 0;
}

/* Create or replace a file. */
static inline void put_file(int dirfd, const char *name, const void *data, size_t len)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	close(fd);
}

#define PUT(dirfd, name, ...)                                  \
	do {                                                   \
		static const uint8_t bytes_[] = {__VA_ARGS__}; \
		put_file(dirfd, name, bytes_, sizeof(bytes_)); \
	} while (0)

/* r is -code, and the error's text has all of "said" in it. */
static inline void assert_failed_at(int r, int code, const struct err *err, const char *said,
                                    const char *file, int line)
{
	if (r != -code || !strstr(err->text, said))
		print_error("got %d \"%s\", wanted %d \"%s\"\n", r, err->text, -code, said);
	_assert_true(r == -code, "error code", file, line);
	_assert_true(strstr(err->text, said) != NULL, said, file, line);
	_assert_true(strchr(err->text, '\n') == NULL, "one line", file, line);
}

#define assert_failed(r, code, err, said) assert_failed_at(r, code, err, said, __FILE__, __LINE__)

#define TEST(name) cmocka_unit_test_setup_teardown(name, dir_setup, dir_teardown)

#endif
