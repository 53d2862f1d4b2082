/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fail.so, for LD_PRELOAD: counts the calls of each function in functions.h, and makes one of them
 * fail, once, in one of the helper's processes.
 *
 * Calls that are made before the last constructor (this one) are nobody's: they belong to the
 * libraries' start.  A wrapper asks the next library for the real function, so that a sanitizer's
 * wrappers go on working behind it.
 */
#include "criu-lazy/os/uffd-abi.h"
#include "test/torture/functions.h"

#include <dirent.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <liburing.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

static struct torture *torture;
static uint64_t base, base_end;
static __thread bool busy;

#define REAL(name)                                                 \
	({                                                         \
		static __typeof__(&name) real_;                    \
		if (!real_)                                        \
			real_ = (__typeof__(&name))real_of(#name); \
		real_;                                             \
	})

static void *real_of(const char *name)
{
	bool before = busy;
	void *real;

	busy = true; /* dlsym() may allocate */
	real = dlsym(RTLD_NEXT, name);
	busy = before;
	if (!real)
		abort();
	return real;
}

static void note_place(void)
{
	void *frames[MAX_FRAMES];
	int nr = backtrace(frames, MAX_FRAMES), i;
	uint32_t used = 0;

	for (i = 0; i < nr; i++) {
		uint64_t at = (uint64_t)(uintptr_t)frames[i];

		if (at >= base && at < base_end)
			torture->frame[used++] = at - base;
	}
	torture->nr_frames = used;
	torture->pid = (uint32_t)getpid();
}

/* Is this the call?  Then errno is set. */
static bool fails(enum function function)
{
	uint64_t n;

	if (!torture || busy)
		return false;
	n = __atomic_add_fetch(&torture->count[function], 1, __ATOMIC_RELAXED);
	if (torture->function != (int32_t)function || torture->nth != n)
		return false;
	busy = true;
	note_place();
	busy = false;
	if (!torture->nr_frames) /* a sanitizer's own, which may not fail */
		return false;
	__atomic_add_fetch(&torture->hits, 1, __ATOMIC_SEQ_CST);
	errno = torture->error;
	return true;
}

static void find_program(void)
{
	const Elf64_Phdr *phdr = (const Elf64_Phdr *)getauxval(AT_PHDR);
	unsigned long nr = getauxval(AT_PHNUM), i;

	base = ((uint64_t)(uintptr_t)phdr) &
	       ~UINT64_C(4095); /* the headers are in its first page */
	for (i = 0; i < nr; i++)
		if (phdr[i].p_type == PT_LOAD &&
		    base + phdr[i].p_vaddr + phdr[i].p_memsz > base_end)
			base_end = base + phdr[i].p_vaddr + phdr[i].p_memsz;
}

static void __attribute__((constructor)) start(void)
{
	static const char *const names[] = {
#define FUNCTION_NAME(name, text) text,
		FUNCTIONS(FUNCTION_NAME)};
	const char *path = getenv("TORTURE_FILE");
	struct torture *map = MAP_FAILED;
	void *frames[4];
	int fd = -1, i;

	busy = true;
	if (path)
		fd = REAL(open)(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		map = REAL(mmap)(NULL, sizeof(*map), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		fprintf(stderr, "fail.so: TORTURE_FILE: %m\n");
		abort();
	}
	REAL(close)(fd);
	for (i = 0; i < NR_FUNCTIONS; i++)
		snprintf(map->name[i], NAME_SIZE, "%s", names[i]);
	map->nr_functions = NR_FUNCTIONS;
	find_program();
	backtrace(frames, 4); /* loads what it needs */
	torture = map;
	busy = false;
}

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

/* --- memory ---------------------------------------------------------------------------------- */

WRAP(void *, malloc, NULL, (size_t size), (size))
WRAP(void *, calloc, NULL, (size_t nr, size_t size), (nr, size))
WRAP(void *, realloc, NULL, (void *p, size_t size), (p, size))
WRAP(void *, reallocarray, NULL, (void *p, size_t nr, size_t size), (p, nr, size))
WRAP(int, posix_memalign, errno, (void **p, size_t align, size_t size), (p, align, size))
WRAP(char *, strdup, NULL, (const char *s), (s))
WRAP(char *, strndup, NULL, (const char *s, size_t n), (s, n))
WRAP(void *, mmap, MAP_FAILED, (void *at, size_t len, int prot, int flags, int fd, off_t offset),
     (at, len, prot, flags, fd, offset))
WRAP(int, munmap, -1, (void *at, size_t len), (at, len))
WRAP(int, madvise, -1, (void *at, size_t len, int advice), (at, len, advice))

int asprintf(char **ret, const char *fmt, ...)
{
	va_list ap;
	int r;

	if (fails(FN_asprintf))
		return -1;
	va_start(ap, fmt);
	r = vasprintf(ret, fmt, ap);
	va_end(ap);
	return r;
}

/* --- files ----------------------------------------------------------------------------------- */

#define MODE(last)                           \
	({                                   \
		va_list ap_;                 \
		mode_t mode_;                \
		va_start(ap_, last);         \
		mode_ = va_arg(ap_, mode_t); \
		va_end(ap_);                 \
		mode_;                       \
	})

int open(const char *path, int flags, ...)
{
	return fails(FN_open) ? -1 : REAL(open)(path, flags, MODE(flags));
}

int openat(int dir, const char *path, int flags, ...)
{
	return fails(FN_openat) ? -1 : REAL(openat)(dir, path, flags, MODE(flags));
}

WRAP(FILE *, fopen, NULL, (const char *path, const char *mode), (path, mode))
WRAP(FILE *, fdopen, NULL, (int fd, const char *mode), (fd, mode))
WRAP(DIR *, fdopendir, NULL, (int fd), (fd))
WRAP(struct dirent *, readdir, NULL, (DIR * dir), (dir))
WRAP(ssize_t, readlink, -1, (const char *path, char *buf, size_t size), (path, buf, size))
WRAP(ssize_t, readlinkat, -1, (int dir, const char *path, char *buf, size_t size),
     (dir, path, buf, size))
WRAP(int, stat, -1, (const char *path, struct stat *st), (path, st))
WRAP(int, fstat, -1, (int fd, struct stat *st), (fd, st))
WRAP(int, lstat, -1, (const char *path, struct stat *st), (path, st))
WRAP(int, fstatat, -1, (int dir, const char *path, struct stat *st, int flags),
     (dir, path, st, flags))
WRAP(int, faccessat, -1, (int dir, const char *path, int mode, int flags), (dir, path, mode, flags))
WRAP_SHORT(pread, (int fd, void *buf, size_t len, off_t at), (fd, buf, len, at),
           (fd, buf, len / 2, at))
WRAP(int, flock, -1, (int fd, int what), (fd, what))
WRAP(int, ftruncate, -1, (int fd, off_t len), (fd, len))
WRAP(int, fallocate, -1, (int fd, int mode, off_t at, off_t len), (fd, mode, at, len))
WRAP(int, unlink, -1, (const char *path), (path))
WRAP(int, fchdir, -1, (int fd), (fd))
WRAP(int, chdir, -1, (const char *path), (path))
WRAP(int, dup2, -1, (int from, int to), (from, to))
WRAP(int, pipe2, -1, (int fds[2], int flags), (fds, flags))

/* The descriptor is gone in any case. */
int close(int fd)
{
	bool fail = fails(FN_close);
	int r = REAL(close)(fd);

	if (!fail)
		return r;
	errno = torture->error;
	return -1;
}

static bool is_anonymous(int fd, const char *what)
{
	char path[40], name[40] = "";
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	len = REAL(readlink)(path, name, sizeof(name) - 1);
	return len > 0 && !strcmp(name, what);
}

/* An eventfd takes each 1 that our threads write: it has room for 2^64 of them. */
ssize_t write(int fd, const void *buf, size_t len)
{
	if (!torture || busy || is_anonymous(fd, "anon_inode:[eventfd]") || !fails(FN_write))
		return REAL(write)(fd, buf, len);
	return torture->error == SHORT ? REAL(write)(fd, buf, len / 2) : -1;
}

/*
 * Of a userfaultfd too little room makes EINVAL: there a short read is one message.  A socket that
 * gives less than it was asked for has no more, so there is no short read of what it has.
 */
ssize_t read(int fd, void *buf, size_t len)
{
	bool uffd;
	struct stat st;

	if (!torture || busy)
		return REAL(read)(fd, buf, len);
	uffd = is_anonymous(fd, "anon_inode:[userfaultfd]");
	if (!fails(uffd ? FN_uffd_read : FN_read))
		return REAL(read)(fd, buf, len);
	if (torture->error != SHORT)
		return -1;
	if (uffd)
		return REAL(read)(fd, buf, sizeof(struct uffd_msg));
	if (REAL(fstat)(fd, &st) == 0 && S_ISSOCK(st.st_mode))
		return REAL(read)(fd, buf, len);
	return REAL(read)(fd, buf, len / 2);
}

/* --- control --------------------------------------------------------------------------------- */

/* As the kernel: the first page is copied, then something comes in between. */
static int copy_short(int fd, unsigned long request, struct uffdio_copy *copy)
{
	struct uffdio_copy first = *copy;

	first.len = 4096;
	if (copy->len == first.len || REAL(ioctl)(fd, request, &first) < 0) {
		copy->copy = -EAGAIN;
	} else {
		copy->copy = first.copy;
	}
	errno = EAGAIN;
	return -1;
}

int ioctl(int fd, unsigned long request, ...)
{
	enum function function = FN_ioctl;
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	switch (request) {
	case UFFDIO_WAKE:
		return REAL(ioctl)(fd, request, arg);
	case UFFDIO_COPY:
		function = FN_uffd_copy;
		break;
	case UFFDIO_ZEROPAGE:
		function = FN_uffd_zeropage;
		break;
	case UFFDIO_CONTINUE:
		function = FN_uffd_continue;
		break;
	case UFFDIO_WRITEPROTECT:
		function = FN_uffd_writeprotect;
		break;
	case UFFDIO_POISON:
		function = FN_uffd_poison;
		break;
	}
	if (!fails(function))
		return REAL(ioctl)(fd, request, arg);
	if (function == FN_uffd_copy) {
		if (torture->error == SHORT)
			return copy_short(fd, request, arg);
		((struct uffdio_copy *)arg)->copy = -torture->error;
	}
	return -1;
}

int fcntl(int fd, int what, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, what);
	arg = va_arg(ap, void *);
	va_end(ap);
	return fails(FN_fcntl) ? -1 : REAL(fcntl)(fd, what, arg);
}

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
