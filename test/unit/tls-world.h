/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tls-world.h - what the tests of TLS share: certificates of every kind in a directory, and the two
 * ends of a connection, which shake hands in two threads.
 *
 *	struct world *w = *state;			by IN_WORLD(test)
 *	struct ends e = {.server.name = "...", ...};	what differs from the defaults
 *	shake(w, &e);
 *	assert_both(&e);				or look at e.client.r, e.server.err, ...
 *	...
 *	part(&e);
 */
#ifndef TEST_UNIT_TLS_WORLD_H
#define TEST_UNIT_TLS_WORLD_H

#include "criu-lazy/os/stream.h"
#include "criu-lazy/os/tls.h"
#include "test/certs/certs.h"
#include "test/unit/images-dir.h"
#include "test/unit/patience.h"

#include <pthread.h>
#include <sys/socket.h>

struct world {
	struct dir *dir;
	char *old_dir; /* the working directory is dir meanwhile: certificates by plain names */
};

static inline int world_setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct authority ca, other;
	void *dir = NULL;

	alarm(PATIENCE);
	if (!w || dir_setup(&dir) < 0)
		return -1;
	w->dir = dir;
	w->old_dir = getcwd(NULL, 0);
	if (!w->old_dir || chdir(w->dir->path) < 0)
		return -1;
	certs_authority(&ca, ".", "ca.pem");
	certs_write(&ca, ".", "server", "localhost,127.0.0.1,::1,server.example", CERTS_VALID);
	certs_write(&ca, ".", "client", "client.example,192.0.2.7", CERTS_VALID);
	certs_write(&ca, ".", "expired", "localhost", CERTS_EXPIRED);
	certs_write(&ca, ".", "revoked", "localhost", CERTS_REVOKED);
	certs_write_crl(&ca, ".", "crl.pem");
	certs_release(&ca);
	certs_authority(&other, ".", "other-ca.pem");
	certs_write(&other, ".", "other", "localhost", CERTS_VALID);
	certs_release(&other);
	*state = w;
	return 0;
}

static inline int world_teardown(void **state)
{
	struct world *w = *state;
	void *dir = w->dir;
	int r = chdir(w->old_dir);

	free(w->old_dir);
	free(w);
	dir_teardown(&dir);
	return r;
}

#define IN_WORLD(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

/* One end: what it is to be, then what became of it. */
struct end {
	const char *cert; /* of the files NAME-cert.pem and NAME-key.pem */
	const char *ca, *crl; /* files */
	const char *name; /* that the peer must have; NULL: any */
	bool no_cn_verify;
	int fd; /* 0: of a new socketpair */

	struct tls *tls;
	struct stream *s;
	struct err err;
	int r;
};

struct ends {
	struct end client, server;
	pthread_t thread; /* the server's, until joined */
};

static inline void prepare(struct end *end, const char *cert)
{
	char cert_file[64], key_file[64];
	const struct tls_options options = {.cacert = end->ca ? end->ca : "ca.pem",
	                                    .cacrl = end->crl ? end->crl : "crl.pem",
	                                    .cert = cert_file,
	                                    .key = key_file,
	                                    .no_cn_verify = end->no_cn_verify};
	struct err err = {0};

	if (end->cert)
		cert = end->cert;
	snprintf(cert_file, sizeof(cert_file), "%s-cert.pem", cert);
	snprintf(key_file, sizeof(key_file), "%s-key.pem", cert);
	if (tls_new(&options, &end->tls, &err) < 0)
		fail_msg("%s", err.text);
}

static inline void *accept_thread(void *arg)
{
	struct end *end = arg;

	end->r = tls_accept(end->tls, end->fd, end->name, CLOCK_NEVER, &end->s, &end->err);
	return NULL;
}

/* The client's end; the server may be at it still, until shake_join(). */
static inline void shake_start(struct ends *e)
{
	int fds[2];

	prepare(&e->client, "client");
	prepare(&e->server, "server");
	if (!e->client.fd) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
		e->client.fd = fds[0];
		e->server.fd = fds[1];
	}
	assert_int_equal(pthread_create(&e->thread, NULL, accept_thread, &e->server), 0);
	e->client.r = tls_connect(e->client.tls, e->client.fd, e->client.name, CLOCK_NEVER,
	                          &e->client.s, &e->client.err);
}

static inline void shake_join(struct ends *e)
{
	assert_int_equal(pthread_join(e->thread, NULL), 0);
}

static inline void shake(struct ends *e)
{
	shake_start(e);
	shake_join(e);
}

static inline void assert_both(const struct ends *e)
{
	if (e->client.r < 0 || e->server.r < 0)
		fail_msg("client: %d %s; server: %d %s", e->client.r, e->client.err.text,
		         e->server.r, e->server.err.text);
	assert_false(stream_is_plain(e->client.s));
}

static inline void part(struct ends *e)
{
	stream_free(e->client.s);
	stream_free(e->server.s);
	tls_free(e->client.tls);
	tls_free(e->server.tls);
}

#endif
