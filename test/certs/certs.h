/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * certs.h - certificates for tests, made on the spot: an authority, and certificates by it, written
 * as PEM files into a directory.
 *
 *	struct authority ca;
 *	certs_authority(&ca, dir, "cacert.pem");
 *	certs_write(&ca, dir, "server", "localhost,127.0.0.1,::1", CERTS_VALID);
 *			makes dir/server-cert.pem and dir/server-key.pem
 *	certs_write(&ca, dir, "gone", "localhost", CERTS_REVOKED);
 *	certs_write_crl(&ca, dir, "cacrl.pem");
 *	certs_release(&ca);
 *
 * names is a list: the first is the common name, each is an alternative name, of an address if it
 * is one.  What cannot be done ends the program.
 */
#ifndef TEST_CERTS_CERTS_H
#define TEST_CERTS_CERTS_H

#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

struct authority {
	gnutls_x509_crt_t crt;
	gnutls_x509_privkey_t key;
	gnutls_x509_crl_t crl;
	unsigned char serial; /* of the next certificate */
};

enum certs_state { CERTS_VALID, CERTS_EXPIRED, CERTS_REVOKED };

static inline void certs_must(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "certs: %s: %s\n", what, gnutls_strerror(r));
	exit(1);
}

#define CERTS_MUST(call) certs_must(call, #call)

static inline void certs_put(const char *dir, const char *name, gnutls_datum_t *pem)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "we");
	if (!file || fwrite(pem->data, 1, pem->size, file) != pem->size || fclose(file) != 0) {
		perror(path);
		exit(1);
	}
	gnutls_free(pem->data);
}

/* A certificate with its key, not signed yet. */
static inline gnutls_x509_crt_t certs_new(gnutls_x509_privkey_t *ret_key, unsigned char serial,
                                          const char *common_name, time_t from, time_t until)
{
	unsigned bits = GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1);
	gnutls_x509_crt_t crt;

	CERTS_MUST(gnutls_x509_privkey_init(ret_key));
	CERTS_MUST(gnutls_x509_privkey_generate(*ret_key, GNUTLS_PK_ECDSA, bits, 0));
	CERTS_MUST(gnutls_x509_crt_init(&crt));
	CERTS_MUST(gnutls_x509_crt_set_version(crt, 3));
	CERTS_MUST(gnutls_x509_crt_set_serial(crt, &serial, 1));
	CERTS_MUST(gnutls_x509_crt_set_activation_time(crt, from));
	CERTS_MUST(gnutls_x509_crt_set_expiration_time(crt, until));
	CERTS_MUST(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, common_name,
	                                         (unsigned)strlen(common_name)));
	CERTS_MUST(gnutls_x509_crt_set_key(crt, *ret_key));
	return crt;
}

static inline void certs_authority(struct authority *ret, const char *dir, const char *name)
{
	time_t now = time(NULL), day = 24 * 3600;
	char common_name[64];
	gnutls_datum_t pem;

	*ret = (struct authority){.serial = 2};
	snprintf(common_name, sizeof(common_name), "a test's authority, %s", name);
	ret->crt = certs_new(&ret->key, 1, common_name, now - day, now + day);
	CERTS_MUST(gnutls_x509_crt_set_basic_constraints(ret->crt, 1, -1));
	CERTS_MUST(gnutls_x509_crt_set_key_usage(ret->crt,
	                                         GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN));
	CERTS_MUST(gnutls_x509_crt_sign2(ret->crt, ret->crt, ret->key, GNUTLS_DIG_SHA256, 0));
	CERTS_MUST(gnutls_x509_crl_init(&ret->crl));
	CERTS_MUST(gnutls_x509_crl_set_version(ret->crl, 2));
	CERTS_MUST(gnutls_x509_crl_set_this_update(ret->crl, now - day));
	CERTS_MUST(gnutls_x509_crl_set_next_update(ret->crl, now + day));
	CERTS_MUST(gnutls_x509_crt_export2(ret->crt, GNUTLS_X509_FMT_PEM, &pem));
	certs_put(dir, name, &pem);
}

static inline void certs_add_name(gnutls_x509_crt_t crt, const char *name)
{
	unsigned char address[16];
	unsigned len = 0;

	if (inet_pton(AF_INET, name, address) == 1)
		len = 4;
	else if (inet_pton(AF_INET6, name, address) == 1)
		len = 16;
	if (len)
		CERTS_MUST(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, address,
		                                                len, GNUTLS_FSAN_APPEND));
	else
		CERTS_MUST(gnutls_x509_crt_set_subject_alt_name(
			crt, GNUTLS_SAN_DNSNAME, name, (unsigned)strlen(name), GNUTLS_FSAN_APPEND));
}

static inline void certs_write(struct authority *ca, const char *dir, const char *name,
                               const char *names, enum certs_state state)
{
	time_t now = time(NULL), day = 24 * 3600;
	char list[1024], file[256], *rest = list, *one;
	gnutls_x509_privkey_t key;
	gnutls_x509_crt_t crt;
	gnutls_datum_t pem;

	snprintf(list, sizeof(list), "%s", names);
	list[strcspn(list, ",")] = '\0';
	crt = certs_new(&key, ca->serial++, list, now - 2 * day,
	                state == CERTS_EXPIRED ? now - day : now + day);
	snprintf(list, sizeof(list), "%s", names);
	while ((one = strsep(&rest, ",")) != NULL)
		certs_add_name(crt, one);
	CERTS_MUST(gnutls_x509_crt_set_basic_constraints(crt, 0, -1));
	CERTS_MUST(gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE));
	CERTS_MUST(gnutls_x509_crt_sign2(crt, ca->crt, ca->key, GNUTLS_DIG_SHA256, 0));
	if (state == CERTS_REVOKED)
		CERTS_MUST(gnutls_x509_crl_set_crt(ca->crl, crt, now - day));
	CERTS_MUST(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem));
	snprintf(file, sizeof(file), "%s-cert.pem", name);
	certs_put(dir, file, &pem);
	CERTS_MUST(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem));
	snprintf(file, sizeof(file), "%s-key.pem", name);
	certs_put(dir, file, &pem);
	gnutls_x509_crt_deinit(crt);
	gnutls_x509_privkey_deinit(key);
}

/* Those that were made CERTS_REVOKED. */
static inline void certs_write_crl(struct authority *ca, const char *dir, const char *name)
{
	gnutls_datum_t pem;

	CERTS_MUST(gnutls_x509_crl_sign2(ca->crl, ca->crt, ca->key, GNUTLS_DIG_SHA256, 0));
	CERTS_MUST(gnutls_x509_crl_export2(ca->crl, GNUTLS_X509_FMT_PEM, &pem));
	certs_put(dir, name, &pem);
}

static inline void certs_release(struct authority *ca)
{
	gnutls_x509_crl_deinit(ca->crl);
	gnutls_x509_crt_deinit(ca->crt);
	gnutls_x509_privkey_deinit(ca->key);
}

#endif
