/* SPDX-License-Identifier: GPL-2.0-or-later */
/* send-fds.h - the sending side of unixsock_recv(), for tests: bytes with some descriptors. */
#ifndef TEST_UNIT_SEND_FDS_H
#define TEST_UNIT_SEND_FDS_H

#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

enum { SEND_FDS_MAX = 32 };

/* As send(2).  The descriptors stay the caller's. */
static inline ssize_t send_fds(int sock, const void *bytes, size_t nr, const int *fds,
                               size_t nr_fds)
{
	union {
		char bytes[CMSG_SPACE(SEND_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {.iov_base = (void *)bytes, .iov_len = nr};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nr_fds) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
		CMSG_FIRSTHDR(&msg)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&msg)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&msg)->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fds, nr_fds * sizeof(int));
	}
	return sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

#endif
