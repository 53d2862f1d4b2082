/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GnuTLS moves its bytes by the two functions pull() and push() below, so that the errno behind a
 * failure is known, and no SIGPIPE is raised.
 *
 * A record that the socket does not take at once is kept by GnuTLS, encrypted; `pending` is how
 * much of the caller's data it stands for.  The caller is told -EAGAIN, as if nothing had been
 * taken, so that it comes back until the record is out.
 */
#include "criu-lazy/os/tls.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/os/stream.h"
#include "criu-lazy/os/tls-credentials.h"

#include <assert.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum {
	MAX_RECORD = 16384,
	MAX_DRAIN = 65536, /* of what a refused peer says still */
};

/* How long a refused peer has to take notice. */
#define FAREWELL NSEC_PER_SEC

struct tls {
	gnutls_certificate_credentials_t credentials;
	bool no_cn_verify;
};

struct tls_stream {
	struct stream stream;
	gnutls_session_t session;
	size_t pending;
	int code; /* errno of the last pull() or push() that failed */
	bool ended; /* the socket's end came; to tell it from close_notify */
	int failed; /* what read or write returned once is what they return from then on */
	char why[160];
};

int tls_new(const struct tls_options *options, struct tls **ret, struct err *err)
{
	struct tls *tls = calloc(1, sizeof(*tls));
	int r;

	if (!tls)
		return err_set(err, ENOMEM, "TLS");
	tls->no_cn_verify = options->no_cn_verify;
	r = tls_credentials(options, &tls->credentials, err);
	if (r < 0) {
		free(tls);
		return r;
	}
	*ret = tls;
	return 0;
}

void tls_after_clone(void)
{
	gnutls_rnd_refresh();
}

void tls_free(struct tls *tls)
{
	if (!tls)
		return;
	gnutls_certificate_free_credentials(tls->credentials);
	free(tls);
}

/* --- the stream ------------------------------------------------------------------------------- */

static ssize_t pull(gnutls_transport_ptr_t ptr, void *buf, size_t len)
{
	struct tls_stream *t = ptr;
	ssize_t got;

	do {
		got = recv(t->stream.fd, buf, len, 0);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		t->code = errno;
	else if (got == 0 && len > 0)
		t->ended = true;
	return got;
}

static ssize_t push(gnutls_transport_ptr_t ptr, const void *buf, size_t len)
{
	struct tls_stream *t = ptr;
	ssize_t sent;

	do {
		sent = send(t->stream.fd, buf, len, MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0)
		t->code = errno;
	return sent;
}

static struct tls_stream *of(struct stream *s)
{
	return (struct tls_stream *)s;
}

/* What an error of GnuTLS is to the callers of a stream; fills in why. */
static int translate(struct tls_stream *t, int r)
{
	t->why[0] = '\0';
	if (r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED) {
		t->stream.want = gnutls_record_get_direction(t->session) ? POLLOUT : POLLIN;
		return -EAGAIN;
	}
	/* A warning, a wish to start over: read and forgotten.  Records are read one at a time, so
	 * if more has arrived poll(2) says so. */
	if (!gnutls_error_is_fatal(r)) {
		t->stream.want = POLLIN;
		return -EAGAIN;
	}
	if (r == GNUTLS_E_PUSH_ERROR || r == GNUTLS_E_PULL_ERROR)
		return t->code ? -t->code : -EIO;
	if (r == GNUTLS_E_PREMATURE_TERMINATION ||
	    (t->ended && r == GNUTLS_E_UNEXPECTED_PACKET_LENGTH)) {
		snprintf(t->why, sizeof(t->why), "TLS: the peer hung up without a word");
		return -ECONNRESET;
	}
	if (r == GNUTLS_E_FATAL_ALERT_RECEIVED)
		snprintf(t->why, sizeof(t->why), "TLS: the peer refuses: %s",
		         gnutls_alert_get_name(gnutls_alert_get(t->session)));
	else
		snprintf(t->why, sizeof(t->why), "TLS: %s", gnutls_strerror(r));
	return r == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EPROTO;
}

static int fail(struct tls_stream *t, int r)
{
	r = translate(t, r);
	if (r != -EAGAIN)
		t->failed = r;
	return r;
}

static ssize_t tls_read(struct stream *s, void *buf, size_t len)
{
	struct tls_stream *t = of(s);
	ssize_t got;

	if (t->failed)
		return t->failed;
	got = gnutls_record_recv(t->session, buf, len);
	return got >= 0 ? got : fail(t, (int)got);
}

static ssize_t tls_write(struct stream *s, const void *buf, size_t len)
{
	struct tls_stream *t = of(s);
	ssize_t sent;
	int r;

	if (t->failed)
		return t->failed;
	if (len > MAX_RECORD)
		len = MAX_RECORD;
	if (t->pending) {
		assert(len >= t->pending);
		sent = gnutls_record_send(t->session, NULL, 0);
	} else {
		sent = gnutls_record_send(t->session, buf, len);
	}
	if (sent >= 0) {
		t->pending = 0;
		return sent;
	}
	r = fail(t, (int)sent);
	if (r == -EAGAIN && !t->pending)
		t->pending = len;
	return r;
}

static int tls_bye(struct stream *s)
{
	struct tls_stream *t = of(s);
	int r;

	if (t->failed)
		return t->failed;
	if (t->pending)
		return -EAGAIN; /* in the middle of a record there is no place for it */
	r = gnutls_bye(t->session, GNUTLS_SHUT_WR);
	return r < 0 ? fail(t, r) : 0;
}

static void tls_stream_free(struct stream *s)
{
	gnutls_deinit(of(s)->session);
	if (s->fd >= 0)
		close(s->fd);
	free(of(s));
}

static const char *tls_why(const struct stream *s)
{
	const struct tls_stream *t = (const struct tls_stream *)s;

	return t->why[0] ? t->why : NULL;
}

static const struct stream_ops tls_ops = {
	.read = tls_read,
	.write = tls_write,
	.bye = tls_bye,
	.free = tls_stream_free,
	.why = tls_why,
};

/* --- the handshake ---------------------------------------------------------------------------- */

/* "The peer's certificate is not trusted: its issuer is unknown. " in one line. */
static int bad_certificate(struct tls_stream *t, const char *peer_name, struct err *err)
{
	unsigned status = gnutls_session_get_verify_cert_status(t->session);
	gnutls_datum_t text = {0};
	char why[256] = "it cannot be verified";
	size_t len;

	if (status & GNUTLS_CERT_UNEXPECTED_OWNER && peer_name) {
		snprintf(why, sizeof(why), "it is not for \"%s\"", peer_name);
	} else if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text,
	                                                        0) == 0) {
		snprintf(why, sizeof(why), "%s", (const char *)text.data);
		for (len = strlen(why); len && strchr(" .\n", why[len - 1]); len--)
			why[len - 1] = '\0';
	}
	gnutls_free(text.data);
	return err_set(err, EPROTO, "TLS: the peer's certificate: %s", why);
}

/*
 * Tell the peer by an alert why it is refused.  Were the socket closed while what it has sent is
 * unread, the kernel would reset the connection, and the alert be lost with it.
 */
static void refuse(struct tls_stream *t, int r)
{
	int64_t deadline = clock_now() + FAREWELL;
	size_t drained = 0;
	char buf[4096];

	if (gnutls_alert_send_appropriate(t->session, r) < 0)
		return;
	shutdown(t->stream.fd, SHUT_WR);
	while (drained < MAX_DRAIN) {
		struct pollfd pfd = {.fd = t->stream.fd, .events = POLLIN};
		int64_t left = (deadline - clock_now()) / NSEC_PER_MSEC;
		ssize_t got;

		if (left <= 0 || poll(&pfd, 1, (int)left) <= 0)
			return;
		got = recv(t->stream.fd, buf, sizeof(buf), 0);
		if (got <= 0)
			return;
		drained += (size_t)got;
	}
}

static int handshake_failed(struct tls_stream *t, int r, const char *peer_name, struct err *err)
{
	int code;

	if (r == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR) {
		refuse(t, r);
		return bad_certificate(t, peer_name, err);
	}
	if (r == GNUTLS_E_NO_CERTIFICATE_FOUND || r == GNUTLS_E_CERTIFICATE_REQUIRED) {
		refuse(t, r);
		return err_set(err, EPROTO, "TLS: the peer has no certificate");
	}
	if (r == GNUTLS_E_UNEXPECTED_PACKET_LENGTH || r == GNUTLS_E_UNSUPPORTED_VERSION_PACKET ||
	    r == GNUTLS_E_UNEXPECTED_PACKET) {
		if (!t->ended)
			return err_set(err, EPROTO, "TLS: the peer does not speak TLS (%s)",
			               gnutls_strerror(r));
	}
	code = translate(t, r);
	if (code == -ECONNRESET)
		return err_set(err, ECONNRESET, "TLS: the peer hung up in the handshake");
	if (t->why[0])
		return err_set(err, EPROTO, "%s", t->why);
	return err_set(err, -code, "TLS handshake");
}

static int shake_hands(struct tls_stream *t, const char *peer_name, int64_t timeout,
                       struct err *err)
{
	int64_t now = clock_now();
	int64_t deadline = timeout > CLOCK_NEVER - now ? CLOCK_NEVER : now + timeout;

	for (;;) {
		struct pollfd pfd = {.fd = t->stream.fd};
		int r = gnutls_handshake(t->session);
		int64_t left = deadline - clock_now();

		if (r == 0)
			return 0;
		if (gnutls_error_is_fatal(r))
			return handshake_failed(t, r, peer_name, err);
		if (left <= 0)
			return err_set(err, ETIMEDOUT, "TLS handshake");
		if (r != GNUTLS_E_AGAIN)
			continue;
		left = (left - 1) / NSEC_PER_MSEC + 1;
		pfd.events = gnutls_record_get_direction(t->session) ? POLLOUT : POLLIN;
		if (poll(&pfd, 1, left > INT_MAX ? INT_MAX : (int)left) < 0 && errno != EINTR)
			return err_set(err, errno, "TLS handshake");
	}
}

static int start(struct tls *tls, struct tls_stream *t, unsigned side, const char *peer_name,
                 struct err *err)
{
	int r = gnutls_init(&t->session, side | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);

	if (r < 0)
		return err_set(err, ENOMEM, "TLS");
	r = gnutls_set_default_priority(t->session);
	if (r == 0)
		r = gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, tls->credentials);
	if (r < 0)
		return err_set(err, EPROTO, "TLS: %s", gnutls_strerror(r));
	if (side == GNUTLS_SERVER) {
		gnutls_certificate_server_set_request(t->session, GNUTLS_CERT_REQUIRE);
		gnutls_certificate_send_x509_rdn_sequence(t->session, 1); /* 1: do not */
	}
	gnutls_session_set_verify_cert(t->session, peer_name, 0);
	gnutls_transport_set_ptr(t->session, t);
	gnutls_transport_set_pull_function(t->session, pull);
	gnutls_transport_set_push_function(t->session, push);
	return 0;
}

static int shake(struct tls *tls, unsigned side, int fd, const char *peer_name, int64_t timeout,
                 struct stream **ret, struct err *err)
{
	struct tls_stream *t = calloc(1, sizeof(*t));
	int flags = fcntl(fd, F_GETFL), r;

	if (!t) {
		close(fd);
		return err_set(err, ENOMEM, "TLS");
	}
	t->stream = (struct stream){.ops = &tls_ops, .fd = fd};
	if (flags >= 0)
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	if (tls->no_cn_verify)
		peer_name = NULL;
	r = start(tls, t, side, peer_name, err);
	if (r == 0)
		r = shake_hands(t, peer_name, timeout, err);
	if (r < 0) {
		stream_free(&t->stream);
		return r;
	}
	*ret = &t->stream;
	return 0;
}

int tls_connect(struct tls *tls, int fd, const char *peer_name, int64_t timeout,
                struct stream **ret, struct err *err)
{
	return shake(tls, GNUTLS_CLIENT, fd, peer_name, timeout, ret, err);
}

int tls_accept(struct tls *tls, int fd, const char *peer_name, int64_t timeout, struct stream **ret,
               struct err *err)
{
	return shake(tls, GNUTLS_SERVER, fd, peer_name, timeout, ret, err);
}
