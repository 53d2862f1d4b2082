/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/server/conn.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/os/net.h"
#include "criu-lazy/os/stream.h"
#include "criu-lazy/os/tls.h"
#include "criu-lazy/server/server.h"
#include "proto/lanes.h"

#include <errno.h>
#include <string.h>

/*
 * Seconds of silence after which the kernel asks whether the peer is still there; and a peer that
 * has not acknowledged or taken anything for about as long is given up by it.  A stock helper does
 * not come back, so this must outlast what a network or a stopped process can be forgiven for.
 */
enum { KEEPALIVE_S = 300 };

int conn_send(struct conn *conn, const void *buf, size_t len, struct err *err)
{
	return stream_write_full(conn->stream, buf, len, CONN_SEND_NS, err);
}

static bool is_hello(const uint8_t *first)
{
	uint32_t cmd;

	memcpy(&cmd, first, sizeof(cmd));
	return cmd == LANES_HELLO;
}

/* Returns 1, conn->layout or *ret_hello tells; 0: hung up; negative errno. */
static int detect(struct conn *conn, bool *ret_hello, struct err *err)
{
	const uint8_t *first;
	int r = input_peek(&conn->in, sizeof(uint32_t), CLOCK_NEVER, &first, err);

	if (r <= 0)
		return r;
	*ret_hello = is_hello(first);
	if (*ret_hello)
		return 1;
	r = input_peek(&conn->in, PS_HEADER_MIN, CLOCK_NEVER, &first, err);
	if (r <= 0)
		return r;
	conn->layout = ps_detect(first);
	if (conn->layout == PS_UNKNOWN)
		return err_set(err, EPROTO,
		               "it does not speak the page-server protocol (its first bytes are "
		               "%02x %02x %02x %02x)",
		               first[0], first[1], first[2], first[3]);
	return 1;
}

int conn_header(struct conn *conn, struct ps_header *ret, bool *ret_hello, struct err *err)
{
	const uint8_t *bytes;
	size_t size;
	int r = 1;

	*ret_hello = false;
	if (conn->layout == PS_UNKNOWN) {
		r = detect(conn, ret_hello, err);
	} else if (conn->options->role == PS_SERVING && conn->layout == PS_32) {
		r = input_peek(&conn->in, sizeof(uint32_t), CLOCK_NEVER, &bytes, err);
		*ret_hello = r > 0 && is_hello(bytes);
	}
	if (r <= 0 || *ret_hello)
		return r;
	size = ps_header_size(conn->layout);
	r = input_peek(&conn->in, size, CLOCK_NEVER, &bytes, err);
	if (r <= 0)
		return r;
	ps_decode(conn->layout, bytes, ret);
	r = ps_check_request(ret, conn->options->role, err);
	if (r < 0)
		return r;
	input_take(&conn->in, size);
	atomic_store(&conn->spoke, true);
	conn->nr_requests++;
	return 1;
}

void conn_goodbye(struct conn *conn)
{
	static const uint8_t status[4];
	struct err err = {0};
	const uint8_t *rest;

	if (conn_send(conn, status, sizeof(status), &err) < 0) {
		log_info("%s: the answer to its CLOSE: %s", conn->peer, err.text);
		return;
	}
	stream_bye(conn->stream);
	/* A CLOSE as the first message does not tell the layout: 8 bytes of it may be left. */
	if (conn->nr_requests == 1 && conn->layout == PS_24 &&
	    input_peek(&conn->in, PS_HEADER_MAX - PS_HEADER_MIN, CONN_GOODBYE_NS, &rest, NULL) > 0)
		input_take(&conn->in, PS_HEADER_MAX - PS_HEADER_MIN);
	if (conn->options->ps_socket < 0 && input_end(&conn->in, CONN_GOODBYE_NS, &err) < 0)
		log_info("%s: after its CLOSE: %s", conn->peer, err.text);
}

static int greet(struct conn *conn, struct err *err)
{
	const struct server_options *o = conn->options;

	net_tune(conn->fd, KEEPALIVE_S);
	if (o->tls)
		return tls_accept(o->tls, conn->fd, o->peer_name, CONN_HANDSHAKE_NS, &conn->stream,
		                  err);
	conn->stream = stream_new(conn->fd);
	return conn->stream ? 0 : err_set(err, ENOMEM, "a connection");
}

static enum conn_end lane(struct conn *conn, struct err *err)
{
	int r = serve_lanes(conn, err);

	if (r == 0)
		return CONN_DONE;
	if (r > 0)
		log_info("%s: a lane was closed", conn->peer);
	return atomic_load(&conn->spoke) ? CONN_LANE_LOST : CONN_NOBODY;
}

static enum conn_end talk(struct conn *conn, struct err *err)
{
	int r = conn->options->role == PS_SERVING ? serve_pages(conn, err) : receive(conn, err);

	if (r > 0)
		return lane(conn, err);
	if (conn->ours)
		return CONN_LANE_LOST;
	if (r == 0)
		return CONN_DONE;
	/* One that comes while another is storing is refused, and was no client. */
	return atomic_load(&conn->spoke) && r != -EBUSY ? CONN_BROKEN : CONN_NOBODY;
}

void conn_serve(struct conn *conn)
{
	struct err err = {0};

	conn->end = CONN_NOBODY;
	if (greet(conn, &err) == 0) {
		conn->in.stream = conn->stream;
		conn->end = talk(conn, &err);
	}
	if (err.code && !atomic_load(&conn->told))
		log_error("client %s dropped: %s", conn->peer, err.text);
	else
		log_info("client %s: %llu requests, %llu pages", conn->peer,
		         (unsigned long long)conn->nr_requests, (unsigned long long)conn->nr_pages);
	stream_free(conn->stream);
}
