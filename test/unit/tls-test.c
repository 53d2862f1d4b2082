/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TLS: whom it trusts, and what it says of those that it does not. */
#include "test/unit/tls-world.h"

#include <sys/stat.h>

static void assert_said(const struct end *end, int code, const char *said)
{
	assert_failed(end->r, code, &end->err, said);
}

/* Bytes pass in both directions. */
static void assert_talk(struct ends *e)
{
	char buf[5];

	assert_int_equal(stream_write_full(e->client.s, "hello", 5, CLOCK_NEVER, NULL), 0);
	assert_int_equal(stream_read_full(e->server.s, buf, 5, CLOCK_NEVER, NULL), 1);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(stream_write_full(e->server.s, "world", 5, CLOCK_NEVER, NULL), 0);
	assert_int_equal(stream_read_full(e->client.s, buf, 5, CLOCK_NEVER, NULL), 1);
	assert_memory_equal(buf, "world", 5);
}

static void good(struct end client, struct end server)
{
	struct ends e = {.client = client, .server = server};

	shake(&e);
	assert_both(&e);
	assert_talk(&e);
	part(&e);
}

/*
 * The client refuses the server, and the server is told why.
 */
static void client_refuses(struct end client, struct end server, const char *said)
{
	struct ends e = {.client = client, .server = server};

	shake(&e);
	assert_said(&e.client, EPROTO, said);
	assert_said(&e.server, EPROTO, "TLS: the peer refuses: ");
	part(&e);
}

/*
 * The server refuses the client, which by TLS 1.3 has finished its handshake by then, and learns of
 * it as it reads.
 */
static void server_refuses(struct end client, struct end server, const char *said)
{
	struct ends e = {.client = client, .server = server};
	struct err err = {0};
	char buf[5];

	shake_start(&e);
	assert_int_equal(e.client.r, 0);
	assert_failed(stream_read_full(e.client.s, buf, 5, CLOCK_NEVER, &err), EPROTO, &err,
	              "receive: TLS: the peer refuses: ");
	assert_non_null(strstr(stream_why(e.client.s), "the peer refuses"));
	stream_free(e.client.s);
	e.client.s = NULL;
	shake_join(&e);
	assert_said(&e.server, EPROTO, said);
	part(&e);
}

/* --- names ------------------------------------------------------------------------------------ */

static void test_names(void **state)
{
	static const char *const names[] = {NULL,  "localhost",      "127.0.0.1",
	                                    "::1", "server.example", "LOCALHOST"};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(names) / sizeof(*names); i++)
		good((struct end){.name = names[i]}, (struct end){0});
	good((struct end){0}, (struct end){.name = "client.example"});
	good((struct end){0}, (struct end){.name = "192.0.2.7"});
	good((struct end){.name = "wrong", .no_cn_verify = true},
	     (struct end){.name = "wrong", .no_cn_verify = true});
}

static void test_wrong_names(void **state)
{
	static const char *const names[] = {"other.example", "127.0.0.2", "::2",
	                                    "local",         "example",   "client.example"};
	char said[128];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
		snprintf(said, sizeof(said), "TLS: the peer's certificate: it is not for \"%s\"",
		         names[i]);
		client_refuses((struct end){.name = names[i]}, (struct end){0}, said);
	}
	server_refuses((struct end){0}, (struct end){.name = "127.0.0.1"},
	               "TLS: the peer's certificate: it is not for \"127.0.0.1\"");
}

/* --- trust ------------------------------------------------------------------------------------ */

static void test_wrong_ca(void **state)
{
	(void)state;
	client_refuses((struct end){.ca = "other-ca.pem", .crl = "crl.pem"}, (struct end){0},
	               "TLS: the peer's certificate: The certificate is NOT trusted. The "
	               "certificate issuer is unknown");
	client_refuses((struct end){0}, (struct end){.cert = "other"}, "issuer is unknown");
	server_refuses((struct end){.cert = "other"}, (struct end){0}, "issuer is unknown");
	/* a name that need not be checked does not make it trusted */
	client_refuses((struct end){.no_cn_verify = true},
	               (struct end){.cert = "other", .no_cn_verify = true}, "issuer is unknown");
}

static void test_expired(void **state)
{
	(void)state;
	client_refuses((struct end){0}, (struct end){.cert = "expired"}, "expired");
	server_refuses((struct end){.cert = "expired"}, (struct end){0}, "expired");
}

static void test_revoked(void **state)
{
	(void)state;
	client_refuses((struct end){0}, (struct end){.cert = "revoked"}, "revoked");
	server_refuses((struct end){.cert = "revoked"}, (struct end){0}, "revoked");
}

/* A client of another make, without a certificate. */
static void *bare_client(void *arg)
{
	gnutls_certificate_credentials_t credentials;
	gnutls_session_t session;
	char buf[1];
	int r;

	CERTS_MUST(gnutls_certificate_allocate_credentials(&credentials));
	CERTS_MUST(gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL));
	CERTS_MUST(gnutls_set_default_priority(session));
	CERTS_MUST(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials));
	gnutls_transport_set_int(session, *(int *)arg);
	do {
		r = gnutls_handshake(session);
	} while (r < 0 && !gnutls_error_is_fatal(r));
	while (r >= 0 || !gnutls_error_is_fatal(r)) {
		r = (int)gnutls_record_recv(session, buf, 1);
		if (r == 0)
			break;
	}
	shutdown(*(int *)arg, SHUT_RDWR);
	if (r != GNUTLS_E_FATAL_ALERT_RECEIVED)
		*(int *)arg = -1;
	gnutls_deinit(session);
	gnutls_certificate_free_credentials(credentials);
	return NULL;
}

static void test_no_certificate(void **state)
{
	struct end server = {0};
	pthread_t thread;
	int fds[2], fd;

	(void)state;
	prepare(&server, "server");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	fd = fds[0];
	assert_int_equal(pthread_create(&thread, NULL, bare_client, &fd), 0);
	server.r = tls_accept(server.tls, fds[1], NULL, CLOCK_NEVER, &server.s, &server.err);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_said(&server, EPROTO, "TLS: the peer has no certificate");
	assert_true(fd >= 0); /* the client was told by an alert */
	close(fds[0]);
	tls_free(server.tls);
}

/* --- peers that are none ---------------------------------------------------------------------- */

static const char http[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
static const uint8_t get[] = {7, 0,    0, 0, 0x55, 0x55, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
                              0, 0x10, 0, 0, 0,    0x7f, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0};
static const uint8_t half[] = {22, 3, 1, 2, 0, 1, 0, 1}; /* a ClientHello that stops */
static const uint8_t huge[] = {22, 3, 3, 0xff, 0xff, 2, 0xff, 0xff, 0xff};

/* Said to each side by a peer that then hangs up, or does not. */
static const struct {
	const void *bytes;
	size_t len;
	bool hang_up;
	int code;
	const char *said;
} strange[] = {
	{http, sizeof(http) - 1, true, EPROTO, "TLS: the peer does not speak TLS"},
	{http, sizeof(http) - 1, false, EPROTO, "TLS: the peer does not speak TLS"},
	{get, sizeof(get), false, EPROTO, "TLS: the peer does not speak TLS"},
	{huge, sizeof(huge), false, EPROTO, "TLS: "},
	{half, sizeof(half), true, ECONNRESET, "TLS: the peer hung up in the handshake"},
	{half, 3, true, ECONNRESET, "TLS: the peer hung up in the handshake"},
	{NULL, 0, true, ECONNRESET, "TLS: the peer hung up in the handshake"},
	{half, sizeof(half), false, ETIMEDOUT, "TLS handshake: Connection timed out"},
	{NULL, 0, false, ETIMEDOUT, "TLS handshake: Connection timed out"},
};

static void test_strange_peers(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < 2 * sizeof(strange) / sizeof(*strange); i++) {
		const int64_t timeout =
			strange[i / 2].code == ETIMEDOUT ? 20 * NSEC_PER_MSEC : CLOCK_NEVER;
		struct end end = {0};
		int fds[2];

		prepare(&end, i & 1 ? "client" : "server");
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
		if (strange[i / 2].len)
			assert_int_equal(write(fds[0], strange[i / 2].bytes, strange[i / 2].len),
			                 strange[i / 2].len);
		if (strange[i / 2].hang_up)
			shutdown(fds[0], SHUT_WR);
		end.r = (i & 1 ? tls_connect : tls_accept)(end.tls, fds[1], "localhost", timeout,
		                                           &end.s, &end.err);
		print_message("%d %s\n", end.r, end.err.text);
		assert_said(&end, strange[i / 2].code, strange[i / 2].said);
		assert_null(end.s);
		assert_int_equal(fcntl(fds[1], F_GETFD), -1); /* it was taken over, and closed */
		close(fds[0]);
		tls_free(end.tls);
	}
}

/* The peer is gone before anything can be sent to it. */
static void test_gone(void **state)
{
	struct end end = {0};
	int fds[2];

	(void)state;
	prepare(&end, "client");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	close(fds[0]);
	end.r = tls_connect(end.tls, fds[1], NULL, CLOCK_NEVER, &end.s, &end.err);
	assert_said(&end, EPIPE, "TLS handshake: Broken pipe");
	tls_free(end.tls);
}

/* --- files ------------------------------------------------------------------------------------ */

static void refuse_files(struct tls_options options, int code, const char *said)
{
	struct tls *tls = NULL;
	struct err err = {0};

	if (!options.cacert)
		options.cacert = "ca.pem";
	if (!options.cacrl)
		options.cacrl = "crl.pem";
	if (!options.cert)
		options.cert = "client-cert.pem";
	if (!options.key)
		options.key = "client-key.pem";
	assert_failed(tls_new(&options, &tls, &err), code, &err, said);
	assert_int_equal(tls_new(&options, &tls, NULL), -code);
	assert_null(tls);
}

static void test_files(void **state)
{
	struct world *w = *state;

	put_file(w->dir->fd, "empty.pem", "", 0);
	put_file(w->dir->fd, "text.pem", "not a certificate\n", 18);
	assert_int_equal(mkfifo("fifo.pem", 0600), 0);
	refuse_files((struct tls_options){.cacert = "no.pem"}, ENOENT,
	             "TLS: CA certificates no.pem: No such file");
	refuse_files((struct tls_options){.cacert = "empty.pem"}, EINVAL,
	             "CA certificates empty.pem: ");
	refuse_files((struct tls_options){.cacert = "text.pem"}, EINVAL,
	             "CA certificates text.pem: ");
	refuse_files((struct tls_options){.cacert = "fifo.pem"}, EINVAL, "fifo.pem: no file");
	refuse_files((struct tls_options){.cacert = "."}, EINVAL, "CA certificates .: no file");
	refuse_files((struct tls_options){.cacrl = "no.pem"}, ENOENT,
	             "revoked certificates no.pem");
	refuse_files((struct tls_options){.cacrl = "empty.pem"}, EINVAL,
	             "certificates empty.pem: ");
	refuse_files((struct tls_options){.cacrl = "ca.pem"}, EINVAL, "certificates ca.pem: ");
	refuse_files((struct tls_options){.cert = "no.pem"}, ENOENT, "TLS: certificate no.pem");
	refuse_files((struct tls_options){.cert = "text.pem"}, EINVAL,
	             "certificate text.pem with key");
	refuse_files((struct tls_options){.key = "no.pem"}, ENOENT, "TLS: key no.pem");
	refuse_files((struct tls_options){.key = "client-cert.pem"}, EINVAL,
	             "with key client-cert.pem");
	refuse_files((struct tls_options){.key = "server-key.pem"}, EINVAL, "server-key.pem: ");
	tls_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_WORLD(test_names),         IN_WORLD(test_wrong_names),
		IN_WORLD(test_wrong_ca),      IN_WORLD(test_expired),
		IN_WORLD(test_revoked),       IN_WORLD(test_no_certificate),
		IN_WORLD(test_strange_peers), IN_WORLD(test_gone),
		IN_WORLD(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
