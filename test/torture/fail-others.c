/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fail.so: sockets, what one waits for, tasks, privileges, and libraries. */
#include "test/torture/fail.h"

#include <liburing.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- sockets --------------------------------------------------------------------------------- */

WRAP(int, socket, -1, (int domain, int type, int protocol), (domain, type, protocol))
WRAP(int, socketpair, -1, (int domain, int type, int protocol, int fds[2]),
     (domain, type, protocol, fds))
WRAP(int, bind, -1, (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len))
WRAP(int, listen, -1, (int fd, int backlog), (fd, backlog))
WRAP(int, accept4, -1, (int fd, struct sockaddr *addr, socklen_t *len, int flags),
     (fd, addr, len, flags))
WRAP(int, connect, -1, (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len))
WRAP(ssize_t, recv, -1, (int fd, void *buf, size_t len, int flags), (fd, buf, len, flags))
WRAP_SHORT(send, (int fd, const void *buf, size_t len, int flags), (fd, buf, len, flags),
           (fd, buf, (len + 1) / 2, flags))
WRAP(ssize_t, sendmsg, -1, (int fd, const struct msghdr *msg, int flags), (fd, msg, flags))

/* Who the peer is was noted when it connected: that does not fail. */
int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	if (name != SO_PEERCRED && fails(FN_getsockopt))
		return -1;
	return REAL(getsockopt)(fd, level, name, value, len);
}

WRAP(int, setsockopt, -1, (int fd, int level, int name, const void *value, socklen_t len),
     (fd, level, name, value, len))
WRAP(int, getsockname, -1, (int fd, struct sockaddr *addr, socklen_t *len), (fd, addr, len))
WRAP(int, getpeername, -1, (int fd, struct sockaddr *addr, socklen_t *len), (fd, addr, len))
WRAP(int, getaddrinfo, EAI_MEMORY,
     (const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **ret),
     (node, service, hints, ret))

/*
 * EMFILE is not an error of recvmsg(): the message comes, and what was sent with it is lost
 * (MSG_CTRUNC).  Room for the sender's credentials alone has the same effect.
 */
ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	if (!fails(FN_recvmsg))
		return REAL(recvmsg)(fd, msg, flags);
	if (torture->error != EMFILE)
		return -1;
	if (msg->msg_controllen > CMSG_SPACE(sizeof(struct ucred)))
		msg->msg_controllen = CMSG_SPACE(sizeof(struct ucred));
	return REAL(recvmsg)(fd, msg, flags);
}

/* --- what one waits for, tasks, privileges --------------------------------------------------- */

WRAP(int, poll, -1, (struct pollfd * fds, nfds_t nr, int timeout), (fds, nr, timeout))
WRAP(int, eventfd, -1, (unsigned value, int flags), (value, flags))
WRAP(int, signalfd, -1, (int fd, const sigset_t *set, int flags), (fd, set, flags))
WRAP(int, timerfd_create, -1, (clockid_t clock, int flags), (clock, flags))
WRAP(int, timerfd_settime, -1,
     (int fd, int flags, const struct itimerspec *new, struct itimerspec *old),
     (fd, flags, new, old))
WRAP(int, memfd_create, -1, (const char *name, unsigned flags), (name, flags))
WRAP(int, pthread_create, errno,
     (pthread_t * thread, const pthread_attr_t *attr, void *(*start_routine)(void *), void *arg),
     (thread, attr, start_routine, arg))
WRAP(int, sched_getaffinity, -1, (pid_t pid, size_t size, cpu_set_t *set), (pid, size, set))
WRAP(int, sched_setscheduler, -1, (pid_t pid, int policy, const struct sched_param *param),
     (pid, policy, param))
WRAP(long, sysconf, -1, (int name), (name))
WRAP(pid_t, fork, -1, (void), ())
WRAP(pid_t, setsid, -1, (void), ())
WRAP(int, kill, -1, (pid_t pid, int number), (pid, number))

/* Who does not wait is not interrupted. */
pid_t waitpid(pid_t pid, int *status, int options)
{
	if (!(options & WNOHANG) && fails(FN_waitpid))
		return -1;
	return REAL(waitpid)(pid, status, options);
}

WRAP(int, waitid, -1, (idtype_t type, id_t id, siginfo_t *info, int options),
     (type, id, info, options))

int prctl(int option, ...)
{
	unsigned long a[4];
	va_list ap;
	int i;

	va_start(ap, option);
	for (i = 0; i < 4; i++)
		a[i] = va_arg(ap, unsigned long);
	va_end(ap);
	return fails(FN_prctl) ? -1 : REAL(prctl)(option, a[0], a[1], a[2], a[3]);
}

WRAP(int, setrlimit, -1, (__rlimit_resource_t resource, const struct rlimit *limit),
     (resource, limit))

long syscall(long number, ...)
{
	enum function function = number == SYS_pidfd_open          ? FN_pidfd_open
	                         : number == SYS_pidfd_send_signal ? FN_pidfd_send_signal
	                         : number == SYS_clone || number == SYS_clone3 ? FN_clone
	                                                                       : FN_syscall;
	long a[6];
	va_list ap;
	int i;

	va_start(ap, number);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (number != SYS_rt_sigprocmask && fails(function))
		return -1;
	return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

typedef void *cap;
cap cap_get_proc(void);
cap cap_init(void);
cap cap_dup(cap from);
int cap_set_proc(cap caps);
int cap_set_flag(cap caps, int set, int nr, const int *list, int value);
int cap_drop_bound(int value);
int cap_reset_ambient(void);
WRAP(cap, cap_get_proc, NULL, (void), ())
WRAP(cap, cap_init, NULL, (void), ())
WRAP(cap, cap_dup, NULL, (cap from), (from))
WRAP(int, cap_set_proc, -1, (cap caps), (caps))
WRAP(int, cap_set_flag, -1, (cap caps, int set, int nr, const int *list, int value),
     (caps, set, nr, list, value))
WRAP(int, cap_drop_bound, -1, (int value), (value))
WRAP(int, cap_reset_ambient, -1, (void), ())

/* --- libraries ------------------------------------------------------------------------------- */

WRAP(int, io_uring_queue_init_params, -errno,
     (unsigned nr, struct io_uring *ring, struct io_uring_params *params), (nr, ring, params))
WRAP(int, io_uring_wait_cqe_timeout, -errno,
     (struct io_uring * ring, struct io_uring_cqe **cqe, struct __kernel_timespec *ts),
     (ring, cqe, ts))

/* A poll that is taken, and fails later: its completion has an error. */
static void spoil_polls(struct io_uring *ring)
{
	unsigned at;

	for (at = ring->sq.sqe_head; at != ring->sq.sqe_tail; at++) {
		struct io_uring_sqe *sqe = &ring->sq.sqes[at & ring->sq.ring_mask];

		if (sqe->opcode == IORING_OP_POLL_ADD && fails(FN_poll_add))
			sqe->buf_index = 1; /* EINVAL, which a poll is refused with later */
	}
}

int io_uring_submit(struct io_uring *ring)
{
	if (fails(FN_io_uring_submit))
		return -errno;
	if (torture && !busy)
		spoil_polls(ring);
	return REAL(io_uring_submit)(ring);
}

int LZ4_decompress_safe(const char *from, char *to, int size, int room);
WRAP(int, LZ4_decompress_safe, -1, (const char *from, char *to, int size, int room),
     (from, to, size, room))
