/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tls.h - TLS as CRIU has it: GnuTLS, default priorities, X.509 on both sides, the same options and
 * default paths.  The only user of GnuTLS.
 *
 * Facts (CRIU 4.2, seen): the server asks for and requires a client certificate and does not send
 * its list of CAs; without --tls-cacert the system's trust store is loaded as well as the default
 * file; with it only that file; a missing default CRL is ignored, a missing given one is an error;
 * unless --tls-no-cn-verify the peer's certificate is checked against the value of --address, on
 * both sides; a header travels in a record of its own, pages in others.
 */
#ifndef CRIU_LAZY_OS_TLS_H
#define CRIU_LAZY_OS_TLS_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct stream;
struct tls;

/* NULL paths: the defaults, /etc/pki/CA/{cacert,cacrl}.pem, /etc/pki/criu/{cert,private/key}.pem.
 */
struct tls_options {
	const char *cacert;
	const char *cacrl;
	const char *cert;
	const char *key;
	bool no_cn_verify;
};

/* Read certificates and keys; every error names the file.  May be shared by threads. */
int tls_new(const struct tls_options *options, struct tls **ret, struct err *err);

/*
 * In a child that was made by a bare clone(2): GnuTLS learns of fork(3) only, and without this two
 * such children draw the same random numbers, and so the same keys (seen with 3.7.9).
 */
void tls_after_clone(void);

/* NULL is fine.  No stream of it may be left. */
void tls_free(struct tls *tls);

/*
 * The handshake, over fd, which it takes over, also on failure.  peer_name: what the certificate
 * must be for (the value of --address), a host name or an address; NULL: not checked.  Waits, at
 * most timeout ns in all, and a second more for a peer whose certificate is refused to take notice.
 *
 * By TLS 1.3 a client has finished before the server judges its certificate: the refusal comes at
 * the first read, as -EPROTO with stream_why() from one of ours, as a plain end of stream from CRIU
 * (seen with 4.1.1 and 4.2.1), which completes the handshake, looks, and hangs up.
 *
 * Once a stream has failed it returns the same error for ever.
 */
int tls_connect(struct tls *tls, int fd, const char *peer_name, int64_t timeout,
                struct stream **ret, struct err *err);
int tls_accept(struct tls *tls, int fd, const char *peer_name, int64_t timeout, struct stream **ret,
               struct err *err);

#endif
