/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/os/tls-credentials.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/os/tls.h"

#include <fcntl.h>
#include <gnutls/x509.h>
#include <sys/stat.h>

enum { MAX_FILE = 16 << 20 /* of certificates: a system's whole trust store is 200 KiB */ };

static const char default_cacert[] = "/etc/pki/CA/cacert.pem";
static const char default_cacrl[] = "/etc/pki/CA/cacrl.pem";
static const char default_cert[] = "/etc/pki/criu/cert.pem";
static const char default_key[] = "/etc/pki/criu/private/key.pem";

static void cleanup_datum(gnutls_datum_t *datum)
{
	if (datum->data) {
		gnutls_memset(datum->data, 0, datum->size);
		free(datum->data);
	}
}

/* A whole file.  GnuTLS's own reading would not say why it could not. */
static int read_file(const char *path, const char *what, gnutls_datum_t *ret, struct err *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	size_t size, done = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, errno, "TLS: %s %s", what, path);
	if (!S_ISREG(st.st_mode) || st.st_size > MAX_FILE)
		return err_set(err, EINVAL, "TLS: %s %s: no file of at most %d MiB", what, path,
		               MAX_FILE >> 20);
	size = (size_t)st.st_size;
	ret->data = calloc(1, size + 1);
	ret->size = (unsigned)size;
	if (!ret->data)
		return err_set(err, ENOMEM, "TLS: %s %s", what, path);
	while (done < size) {
		ssize_t got = read(fd, ret->data + done, size - done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_set(err, errno, "TLS: %s %s", what, path);
		if (got == 0)
			break;
		done += (size_t)got;
	}
	ret->size = (unsigned)done;
	return 0;
}

static int load_trust(gnutls_certificate_credentials_t credentials,
                      const struct tls_options *options, struct err *err)
{
	__attribute__((cleanup(cleanup_datum))) gnutls_datum_t pem = {0};
	const char *path = options->cacert ? options->cacert : default_cacert;
	struct err scratch = {0};
	int r, nr_system = 0;

	if (!options->cacert)
		nr_system = gnutls_certificate_set_x509_system_trust(credentials);
	r = read_file(path, "CA certificates", &pem, &scratch);
	if (r == -ENOENT && nr_system > 0)
		return 0; /* the system's are enough */
	if (r < 0) {
		if (err)
			*err = scratch;
		return r;
	}
	r = gnutls_certificate_set_x509_trust_mem(credentials, &pem, GNUTLS_X509_FMT_PEM);
	if (r < 0)
		return err_set(err, EINVAL, "TLS: CA certificates %s: %s", path,
		               gnutls_strerror(r));
	if (r == 0)
		return err_set(err, EINVAL, "TLS: CA certificates %s: there is none in it", path);
	return 0;
}

static int load_crl(gnutls_certificate_credentials_t credentials, const struct tls_options *options,
                    struct err *err)
{
	__attribute__((cleanup(cleanup_datum))) gnutls_datum_t pem = {0};
	const char *path = options->cacrl ? options->cacrl : default_cacrl;
	struct err scratch = {0};
	int r = read_file(path, "list of revoked certificates", &pem, &scratch);

	if (r == -ENOENT && !options->cacrl)
		return 0;
	if (r < 0) {
		if (err)
			*err = scratch;
		return r;
	}
	r = gnutls_certificate_set_x509_crl_mem(credentials, &pem, GNUTLS_X509_FMT_PEM);
	if (r < 0)
		return err_set(err, EINVAL, "TLS: list of revoked certificates %s: %s", path,
		               gnutls_strerror(r));
	if (r == 0)
		return err_set(err, EINVAL,
		               "TLS: list of revoked certificates %s: there is none in it", path);
	return 0;
}

static int load_own(gnutls_certificate_credentials_t credentials, const struct tls_options *options,
                    struct err *err)
{
	__attribute__((cleanup(cleanup_datum))) gnutls_datum_t cert = {0}, key = {0};
	const char *cert_path = options->cert ? options->cert : default_cert;
	const char *key_path = options->key ? options->key : default_key;
	int r = read_file(cert_path, "certificate", &cert, err);

	if (r == 0)
		r = read_file(key_path, "key", &key, err);
	if (r < 0)
		return r;
	r = gnutls_certificate_set_x509_key_mem(credentials, &cert, &key, GNUTLS_X509_FMT_PEM);
	if (r < 0)
		return err_set(err, EINVAL, "TLS: certificate %s with key %s: %s", cert_path,
		               key_path, gnutls_strerror(r));
	return 0;
}

int tls_credentials(const struct tls_options *options, gnutls_certificate_credentials_t *ret,
                    struct err *err)
{
	gnutls_certificate_credentials_t credentials;
	int r;

	if (gnutls_certificate_allocate_credentials(&credentials) < 0)
		return err_set(err, ENOMEM, "TLS");
	r = load_trust(credentials, options, err);
	if (r == 0)
		r = load_crl(credentials, options, err);
	if (r == 0)
		r = load_own(credentials, options, err);
	if (r < 0) {
		gnutls_certificate_free_credentials(credentials);
		return r;
	}
	*ret = credentials;
	return 0;
}
