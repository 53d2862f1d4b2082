/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image-file.h - what the fuzz targets of the image readers share: the bytes become a file in a
 * directory of their own in /dev/shm, and go through the reader that the helper uses.
 */
#ifndef TEST_FUZZ_IMAGE_FILE_H
#define TEST_FUZZ_IMAGE_FILE_H

#include "test/fuzz/must.h"

#include <fcntl.h>
#include <unistd.h>

static char fuzz_path[] = "/dev/shm/criu-lazy-fuzz-XXXXXX";
static int fuzz_dir = -1;

static inline void fuzz_remove(void)
{
	rmdir(fuzz_path);
}

/* The directory with the one file in it; the same directory at each call. */
static inline int fuzz_file(const char *name, const uint8_t *data, size_t size)
{
	int fd;

	if (fuzz_dir < 0) {
		MUST(mkdtemp(fuzz_path));
		atexit(fuzz_remove);
		fuzz_dir = open(fuzz_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		MUST(fuzz_dir >= 0);
	}
	fd = openat(fuzz_dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	MUST(fd >= 0);
	MUST(write(fd, data, size) == (ssize_t)size);
	close(fd);
	return fuzz_dir;
}

#endif
