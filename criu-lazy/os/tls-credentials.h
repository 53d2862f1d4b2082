/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tls-credentials.h - the files behind the options of TLS, for tls.c alone. */
#ifndef CRIU_LAZY_OS_TLS_CREDENTIALS_H
#define CRIU_LAZY_OS_TLS_CREDENTIALS_H

#include <gnutls/gnutls.h>

struct err;
struct tls_options;

/* Whom to trust, who is revoked, who we are.  Errors name the file.  Freed by
 * gnutls_certificate_free_credentials(). */
int tls_credentials(const struct tls_options *options, gnutls_certificate_credentials_t *ret,
                    struct err *err);

#endif
