/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * uffd-abi.h - userfaultfd's numbers that are newer than the headers of Debian 12 (Linux 6.1).
 *
 * The program is built on one machine and runs on another, so what the kernel offers is asked at
 * run time; here are only the names.  Include this instead of <linux/userfaultfd.h>.
 */
#ifndef CRIU_LAZY_OS_UFFD_ABI_H
#define CRIU_LAZY_OS_UFFD_ABI_H

#include <linux/ioctl.h>
#include <linux/types.h>
#include <linux/userfaultfd.h>

/* The device that gives userfaultfds to those who may open it: 6.1. */
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

/* Write protection of pages that are not there: 6.4. */
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif

/* A page that answers every touch with SIGBUS: 6.6. */
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)
#define _UFFDIO_POISON      0x08

struct uffdio_poison {
	struct uffdio_range range;
	__u64 mode;
	__s64 updated; /* written by the kernel: bytes done, or a negative errno */
};

#define UFFDIO_POISON_MODE_DONTWAKE ((__u64)1 << 0)
#define UFFDIO_POISON               _IOWR(UFFDIO, _UFFDIO_POISON, struct uffdio_poison)
#endif

/* Write tracking without a message for each fault: 6.7. */
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

/* Moving pages instead of copying them: 6.8. */
#ifndef UFFD_FEATURE_MOVE
#define UFFD_FEATURE_MOVE (1 << 16)
#define _UFFDIO_MOVE      0x05

struct uffdio_move {
	__u64 dst;
	__u64 src;
	__u64 len;
	__u64 mode;
	__s64 move; /* written by the kernel: bytes done, or a negative errno */
};

#define UFFDIO_MOVE_MODE_DONTWAKE        ((__u64)1 << 0)
#define UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES ((__u64)1 << 1)
#define UFFDIO_MOVE                      _IOWR(UFFDIO, _UFFDIO_MOVE, struct uffdio_move)
#endif

#endif
