/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * functions.h - what can be made to fail, and the file by which fail.so and test/torture/run talk.
 *
 * Left out, since the kernel or the library has no way to refuse them in the way that they are used
 * here: UFFDIO_WAKE (EINVAL only, for a range that is none), a 1 for an eventfd, SO_PEERCRED,
 * sigprocmask, signal, clock_gettime, umask, pthread_mutex_*, pthread_cond_*, pthread_join.  What
 * GnuTLS and protobuf-c do inside fails where they allocate, receive and send; what the C library
 * does inside (of fwrite(), say) is out of reach.
 */
#ifndef TEST_TORTURE_FUNCTIONS_H
#define TEST_TORTURE_FUNCTIONS_H

#include <stdint.h>

/* X(C name, name for people) */
#define FUNCTIONS(X)                                                \
	X(malloc, "malloc")                                         \
	X(calloc, "calloc")                                         \
	X(realloc, "realloc")                                       \
	X(reallocarray, "reallocarray")                             \
	X(posix_memalign, "posix_memalign")                         \
	X(strdup, "strdup")                                         \
	X(strndup, "strndup")                                       \
	X(asprintf, "asprintf")                                     \
	X(open, "open")                                             \
	X(openat, "openat")                                         \
	X(fopen, "fopen")                                           \
	X(fdopen, "fdopen")                                         \
	X(fdopendir, "fdopendir")                                   \
	X(opendir, "opendir")                                       \
	X(readdir, "readdir")                                       \
	X(readlink, "readlink")                                     \
	X(readlinkat, "readlinkat")                                 \
	X(stat, "stat")                                             \
	X(fstat, "fstat")                                           \
	X(lstat, "lstat")                                           \
	X(fstatat, "fstatat")                                       \
	X(faccessat, "faccessat")                                   \
	X(read, "read")                                             \
	X(pread, "pread")                                           \
	X(write, "write")                                           \
	X(close, "close")                                           \
	X(mmap, "mmap")                                             \
	X(munmap, "munmap")                                         \
	X(madvise, "madvise")                                       \
	X(uffd_copy, "UFFDIO_COPY")                                 \
	X(uffd_zeropage, "UFFDIO_ZEROPAGE")                         \
	X(uffd_continue, "UFFDIO_CONTINUE")                         \
	X(uffd_writeprotect, "UFFDIO_WRITEPROTECT")                 \
	X(uffd_poison, "UFFDIO_POISON")                             \
	X(uffd_read, "read of a userfaultfd")                       \
	X(ioctl, "ioctl")                                           \
	X(fcntl, "fcntl")                                           \
	X(flock, "flock")                                           \
	X(ftruncate, "ftruncate")                                   \
	X(fallocate, "fallocate")                                   \
	X(unlink, "unlink")                                         \
	X(fchdir, "fchdir")                                         \
	X(chdir, "chdir")                                           \
	X(dup2, "dup2")                                             \
	X(dup3, "dup3")                                             \
	X(access, "access")                                         \
	X(fgets, "fgets")                                           \
	X(pipe2, "pipe2")                                           \
	X(socket, "socket")                                         \
	X(socketpair, "socketpair")                                 \
	X(bind, "bind")                                             \
	X(listen, "listen")                                         \
	X(accept4, "accept4")                                       \
	X(connect, "connect")                                       \
	X(recv, "recv")                                             \
	X(recvmsg, "recvmsg")                                       \
	X(send, "send")                                             \
	X(sendmsg, "sendmsg")                                       \
	X(getsockopt, "getsockopt")                                 \
	X(setsockopt, "setsockopt")                                 \
	X(getsockname, "getsockname")                               \
	X(getpeername, "getpeername")                               \
	X(getaddrinfo, "getaddrinfo")                               \
	X(poll, "poll")                                             \
	X(eventfd, "eventfd")                                       \
	X(signalfd, "signalfd")                                     \
	X(timerfd_create, "timerfd_create")                         \
	X(timerfd_settime, "timerfd_settime")                       \
	X(memfd_create, "memfd_create")                             \
	X(pthread_create, "pthread_create")                         \
	X(sched_getaffinity, "sched_getaffinity")                   \
	X(sched_setscheduler, "sched_setscheduler")                 \
	X(sysconf, "sysconf")                                       \
	X(fork, "fork")                                             \
	X(setsid, "setsid")                                         \
	X(kill, "kill")                                             \
	X(waitpid, "waitpid")                                       \
	X(waitid, "waitid")                                         \
	X(prctl, "prctl")                                           \
	X(setrlimit, "setrlimit")                                   \
	X(pidfd_open, "pidfd_open")                                 \
	X(pidfd_send_signal, "pidfd_send_signal")                   \
	X(clone, "clone")                                           \
	X(syscall, "syscall")                                       \
	X(cap_get_proc, "cap_get_proc")                             \
	X(cap_init, "cap_init")                                     \
	X(cap_dup, "cap_dup")                                       \
	X(cap_set_proc, "cap_set_proc")                             \
	X(cap_set_flag, "cap_set_flag")                             \
	X(cap_drop_bound, "cap_drop_bound")                         \
	X(cap_reset_ambient, "cap_reset_ambient")                   \
	X(io_uring_queue_init_params, "io_uring_queue_init_params") \
	X(io_uring_submit, "io_uring_submit")                       \
	X(io_uring_wait_cqe_timeout, "io_uring_wait_cqe_timeout")   \
	X(poll_add, "IORING_OP_POLL_ADD")                           \
	X(LZ4_decompress_safe, "LZ4_decompress_safe")

#define FUNCTION_NUMBER(name, text) FN_##name,
enum function { FUNCTIONS(FUNCTION_NUMBER) NR_FUNCTIONS };

enum { MAX_FUNCTIONS = 128, MAX_FRAMES = 32, NAME_SIZE = 32 };

/* An "error" that is none: the call does half of what it was asked for. */
enum { SHORT = 10000 };

/*
 * The file that $TORTURE_FILE names, mapped shared by every process of the helper, so that a
 * failure happens once, whoever makes the call.
 */
struct torture {
	/* from the test */
	int32_t function; /* -1: only count */
	int32_t error;
	uint64_t nth; /* 1: the first call */
	/* to the test */
	uint32_t nr_functions;
	uint32_t hits;
	uint32_t pid;
	uint32_t nr_frames;
	uint64_t frame[MAX_FRAMES]; /* in the program: less its base; elsewhere 0 */
	uint64_t count[MAX_FUNCTIONS];
	char name[MAX_FUNCTIONS][NAME_SIZE];
};

#endif
