/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net.h - sockets by address: TCP over IPv4 and IPv6, and unix.  Every descriptor is CLOEXEC and
 * non-blocking.
 */
#ifndef CRIU_LAZY_OS_NET_H
#define CRIU_LAZY_OS_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/*
 * Listen at a numeric address ("127.0.0.1", "::1", "0.0.0.0", "::"), port 0: the kernel chooses.
 * *ret_port is the port in use.  SO_REUSEADDR.  Returns the descriptor.
 */
int net_listen(const char *address, uint16_t port, uint16_t *ret_port, struct err *err);

/* Is this numeric address a wildcard ("0.0.0.0", "::", or what means the same)? */
bool net_is_wildcard(const char *address);

/* At a path; an old socket file of nobody is replaced, one that somebody listens at is an error. */
int net_listen_unix(const char *path, struct err *err);

/*
 * -EAGAIN: nobody waits.  -EPERM: at a unix socket, the peer is neither root nor our own user; it
 * was closed, err tells who.  ret_peer: who it is, for logs ("127.0.0.1:4711", "[::1]:4711",
 * "pid 12, uid 0").
 */
int net_accept(int listen_fd, char *ret_peer, size_t size, struct err *err);

/*
 * Connect to a host name or address: every address that the name has is tried once, each for at
 * most timeout ns; the error is the last one's.  A port of this host at which nobody listens can be
 * given by the kernel to the connecting socket itself, which is then connected to itself:
 * -ECONNREFUSED.
 */
int net_connect(const char *host, uint16_t port, int64_t timeout, struct err *err);
int net_connect_unix(const char *path, struct err *err);

/*
 * For a connection that carries pages: TCP_NODELAY, SO_KEEPALIVE (first probe after idle_s
 * seconds, then each second, dead after five), TCP_USER_TIMEOUT: what was sent is not acknowledged,
 * or the peer has not read so that nothing can be sent, for idle_s + 5 seconds: ETIMEDOUT.  Does
 * nothing for sockets that have no such options.
 */
void net_tune(int fd, int idle_s);

#endif
