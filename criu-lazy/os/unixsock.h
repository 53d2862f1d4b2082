/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * unixsock.h - the listening unix socket of a helper, and receiving descriptors with the identity
 * of who sent them.
 */
#ifndef CRIU_LAZY_OS_UNIXSOCK_H
#define CRIU_LAZY_OS_UNIXSOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct err;

/* A listening socket in the filesystem that this process owns by a lock. */
struct unixsock {
	int fd; /* non-blocking, SO_PASSCRED */
	int lock_fd; /* a bound abstract socket: goes with the process, however it ends */
	char path[108];
	uint64_t dev, ino; /* of the socket file, to unlink only our own */
};

/*
 * Listen at path (relative to the working directory, at most 107 bytes), mode 0600.  A file left
 * behind there is replaced; a live helper of this program on the same path is an error
 * (-EADDRINUSE).
 */
int unixsock_listen(const char *path, struct unixsock *ret, struct err *err);

/*
 * One that unixsock_listen() made at this path, from its two descriptors, which were kept when its
 * process died.  -EPROTO: they are something else.
 */
int unixsock_adopt(const char *path, int fd, int lock_fd, struct unixsock *ret, struct err *err);

/* Unlink the file if it is still ours, close. */
void unixsock_close(struct unixsock *sock);

/* The same, but the descriptors are somebody else's by now. */
void unixsock_forget(struct unixsock *sock);

/*
 * Accept one connection.  -EAGAIN: none.  -EPERM: the peer is neither root nor our own user; it was
 * closed, err tells who.
 */
int unixsock_accept(const struct unixsock *sock, struct err *err);

/* Is who is at the other end of fd root or our own user?  0, -EPERM, or another negative errno. */
int unixsock_check_peer(int fd, const char *path, struct err *err);

struct unixsock_msg {
	size_t nr; /* bytes; 0: end of file */
	int fd; /* -1: none came; else the caller's */
	int nr_fds; /* how many came; more than one are closed, and fd is -1 */
	pid_t pid; /* of the sender in our pid namespace; 0: unknown */
};

/*
 * What recvmsg(2) leaves behind, for who keeps it where it survives: all zero before, and until
 * something has come.
 */
struct unixsock_raw {
	struct msghdr msg;
	struct iovec iov;
	union {
		/* Room for a few descriptors too many, so that they can be counted and closed. */
		char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} control;
	uint8_t bytes[8];
	int32_t got; /* -1: it was not noted that they came; iov tells how many */
};

/*
 * Who sent what comes next (pid), and does a descriptor come with it (nr_fds: 1)?  Takes nothing.
 * 0 or negative errno; nr 0: end of file.
 */
int unixsock_peek(int fd, struct unixsock_msg *ret);

/*
 * Receive at most size (<= 8) bytes.  0, -EAGAIN, or another negative errno; then, with -EMFILE
 * too, nothing has been taken from the socket.  The caller is the only reader.
 */
int unixsock_receive(int fd, size_t size, struct unixsock_raw *raw);

/* false: nothing had come when whoever received was stopped. */
bool unixsock_has_come(const struct unixsock_raw *raw);

/* close_surplus: the descriptors are ours, and what is refused is closed.  As unixsock_recv(). */
int unixsock_parse(const struct unixsock_raw *raw, bool close_surplus, struct unixsock_msg *ret);

/* Is fd a connection that was accepted from this socket? */
bool unixsock_is_connection(const struct unixsock *sock, int fd);

/*
 * One recvmsg(2) of at most size bytes.  0, -EAGAIN, or another negative errno (no text), among
 * them -EMFILE: a descriptor was sent that this process has no room for, and is lost with its
 * bytes.
 */
int unixsock_recv(int fd, void *buf, size_t size, struct unixsock_msg *ret);

#endif
