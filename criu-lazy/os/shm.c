/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/os/shm.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int map(int fd, size_t mapped, struct shm *ret, struct err *err)
{
	void *mem = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);

	if (mem == MAP_FAILED)
		return err_set(err, errno, "mapping %zu bytes of shared memory", mapped);
	madvise(mem, mapped, MADV_DONTDUMP);
	*ret = (struct shm){.fd = fd, .mem = mem, .mapped = mapped};
	return 0;
}

int shm_new(const char *name, uint64_t size, size_t mapped, struct shm *ret, struct err *err)
{
	cleanup_close int fd = memfd_create(name, MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return err_set(err, errno, "shared memory");
	if (ftruncate(fd, (off_t)size) < 0)
		return err_set(err, errno, "%llu bytes of shared memory", (unsigned long long)size);
	r = map(fd, mapped, ret, err);
	if (r == 0)
		steal_fd(&fd);
	return r;
}

int shm_adopt(int fd, uint64_t size, size_t mapped, struct shm *ret, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(err, errno, "shared memory");
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != size)
		return err_set(err, EPROTO, "descriptor %d is not the shared memory it should be",
		               fd);
	return map(fd, mapped, ret, err);
}

void shm_release(struct shm *shm)
{
	if (shm->fd < 0)
		return;
	munmap(shm->mem, shm->mapped);
	close(shm->fd);
	*shm = (struct shm){.fd = -1};
}

int shm_populate(struct shm *shm, size_t at, size_t len)
{
	size_t start = page_down(at);

	if (madvise(shm->mem + start, at + len - start, MADV_POPULATE_WRITE) == 0)
		return 0;
	return errno == EFAULT || errno == EHWPOISON ? -ENOMEM : -errno;
}

int shm_clear(struct shm *shm, uint64_t at, uint64_t len)
{
	return fallocate(shm->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
	                 (off_t)len) < 0
	               ? -errno
	               : 0;
}
