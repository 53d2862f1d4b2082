/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/os/latency.h"

#include "criu-lazy/base/cleanup.h"

#include <fcntl.h>
#include <stdint.h>

int latency_hold(void)
{
	cleanup_close int fd = open("/dev/cpu_dma_latency", O_WRONLY | O_CLOEXEC);
	int32_t zero = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, &zero, sizeof(zero)) != (ssize_t)sizeof(zero))
		return -EIO;
	return steal_fd(&fd);
}
