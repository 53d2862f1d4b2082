/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a connection to a page server comes about.
 *
 *	connect, TLS
 *	DIAL_FIRST	ask for one page, with LANES_ASK in the padding where that is possible.
 *			An answer with LANES_ANSWER: the server is ours, say HELLO.
 *			Without: CRIU's.
 *	DIAL_FURTHER	say HELLO at once
 *
 * So a connection that was dialled has answered at least once (unless there is no page to ask for).
 * The page is thrown away.
 */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/os/net.h"
#include "criu-lazy/os/stream.h"
#include "criu-lazy/os/tls.h"
#include "criu-lazy/source/remote-parts.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum { KEEPALIVE_IDLE = 15 /* seconds */ };

static const int64_t BREAK_OFF_TIME = 1 * NSEC_PER_SEC;

static const uint8_t half_a_header[8];

struct dial {
	const struct remote_options *options;
	const char *name;
	int64_t step; /* ns a step may take */
	int stop_fd;
	struct stream *stream;
	struct dialled *ret;
};

/* --- waiting that can be ended --------------------------------------------------------------- */

static int wait_for(struct dial *d, short events, int64_t until, struct err *err)
{
	struct pollfd fds[2] = {
		{.fd = stream_fd(d->stream), .events = events},
		{.fd = d->stop_fd, .events = POLLIN},
	};
	int64_t left = until - clock_now();
	int r;

	if (d->stream->want)
		fds[0].events = d->stream->want;
	if (left <= 0)
		return err_set(err, ETIMEDOUT, "%s: no answer", d->name);
	r = poll(fds, 2, (int)(left / NSEC_PER_MSEC) + 1);
	if (r < 0 && errno != EINTR)
		return err_set(err, errno, "poll");
	if (r > 0 && fds[1].revents)
		return err_set(err, ECANCELED, "connecting to %s", d->name);
	return 0;
}

static int send_all(struct dial *d, const void *buf, size_t len, struct err *err)
{
	int64_t until = clock_now() + d->step;
	int r = 0;

	while (len && r == 0) {
		ssize_t n = stream_write(d->stream, buf, len);

		if (n == -EAGAIN) {
			r = wait_for(d, POLLOUT, until, err);
		} else if (n < 0) {
			r = err_set(err, (int)-n, "%s: sending", d->name);
		} else {
			buf = (const char *)buf + n;
			len -= (size_t)n;
		}
	}
	return r;
}

static int receive_all(struct dial *d, void *buf, size_t len, struct err *err)
{
	int64_t until = clock_now() + d->step;
	int r = 0;

	while (len && r == 0) {
		ssize_t n = stream_read(d->stream, buf, len);

		if (n == -EAGAIN) {
			r = wait_for(d, POLLIN, until, err);
		} else if (n < 0) {
			r = err_set(err, (int)-n, "%s: receiving", d->name);
		} else if (n == 0) {
			r = err_set(err, ECONNRESET, "%s: closed by the server", d->name);
		} else {
			buf = (char *)buf + n;
			len -= (size_t)n;
			until = clock_now() + d->step;
		}
	}
	return r;
}

/* --- the steps ------------------------------------------------------------------------------- */

static int connect_stream(struct dial *d, struct err *err)
{
	const struct remote_options *o = d->options;
	int fd = o->ps_socket;

	if (fd < 0)
		fd = o->unix_path ? net_connect_unix(o->unix_path, err)
		                  : net_connect(o->address, o->port, d->step, err);
	if (fd < 0)
		return err_wrap(err, "page server");
	net_tune(fd, KEEPALIVE_IDLE);
	if (o->tls) {
		int r = tls_connect(o->tls, fd, o->no_cn_verify ? NULL : o->address, d->step,
		                    &d->stream, err);

		return r < 0 ? err_wrap(err, "%s", d->name) : 0;
	}
	d->stream = stream_new(fd);
	return d->stream ? 0 : err_set(err, ENOMEM, "%s: a stream", d->name);
}

static int judge_hello(struct dial *d, const struct lanes_header *h, const uint8_t *tail,
                       struct err *err)
{
	struct lanes_hello hello;
	int r = 0;

	if (h->cmd != LANES_HELLO)
		r = err_set(err, EPROTO, "message 0x%x where HELLO was expected", h->cmd);
	else
		r = lanes_decode_hello(tail, &hello, err);
	if (r < 0)
		return err_wrap(err, "%s", d->name);
	if (hello.images && d->options->images && hello.images != d->options->images)
		return err_set(err, EPROTO,
		               "%s has other images: their identity is %016llx, that of the images "
		               "here %016llx",
		               d->name, (unsigned long long)hello.images,
		               (unsigned long long)d->options->images);
	return 0;
}

static int say_hello(struct dial *d, struct err *err)
{
	struct lanes_hello hello = {
		.version = LANES_VERSION,
		.features = d->options->compress && d->ret->index ? LANES_LZ4 : 0,
		.images = d->options->images,
		.kind = d->ret->index ? LANE_BULK : LANE_URGENT,
	};
	struct lanes_header h = {.cmd = LANES_HELLO};
	uint8_t buf[LANES_HEADER + LANES_HELLO_TAIL], *tail = buf + LANES_HEADER;
	int64_t since = clock_now();
	int len, r;

	lanes_encode_hello(&hello, tail);
	lanes_encode(&h, tail, LANES_HELLO_TAIL, buf);
	r = send_all(d, buf, sizeof(buf), err);
	if (r == 0)
		r = receive_all(d, buf, LANES_HEADER, err);
	if (r < 0)
		return err_wrap(err, "HELLO");
	lanes_decode(buf, &h);
	len = lanes_tail(&h, err);
	if (len > LANES_HELLO_TAIL)
		len = err_set(err, EPROTO, "message 0x%x where HELLO was expected", h.cmd);
	if (len < 0)
		return err_wrap(err, "%s", d->name);
	r = receive_all(d, tail, (size_t)len, err);
	if (r == 0)
		r = lanes_verify(buf, tail, (size_t)len, err);
	if (r < 0)
		return r;
	d->ret->rtt = clock_now() - since;
	d->ret->ours = true;
	return judge_hello(d, &h, tail, err);
}

/* What CRIU does when its version is not the one that the images are of. */
static int other_layout(const struct dial *d, struct err *err)
{
	bool old = d->options->old_header;

	return err_wrap(err,
	                "no answer to a request as CRIU %s makes it; a server of CRIU %s does not "
	                "understand those",
	                old ? "up to 4.1.1" : "from 4.2 on", old ? "from 4.2 on" : "up to 4.1.1");
}

/* The first request.  *ret_ours: the server says that it is ours. */
static int ask_first(struct dial *d, enum dial_how how, bool *ret_ours, struct err *err)
{
	const struct remote_options *o = d->options;
	enum ps_layout layout = o->old_header ? PS_24 : PS_32;
	bool mark = o->protocol == REMOTE_AUTO && !o->old_header;
	struct ps_header get = {.cmd = PS_GET,
	                        .mark = mark ? LANES_ASK : 0,
	                        .nr_pages = 1,
	                        .vaddr = o->first_vaddr,
	                        .dst_id = o->first_pid};
	int64_t since = clock_now();
	uint8_t page[PAGE_SIZE];
	struct ps_header reply;
	size_t len = ps_encode(layout, &get, page);
	int r = send_all(d, page, len, err);

	if (r == 0)
		r = receive_all(d, page, len, err);
	if (r < 0)
		return how == DIAL_FIRST ? other_layout(d, err) : r;
	d->ret->rtt = clock_now() - since;
	ps_decode(layout, page, &reply);
	r = ps_check_reply(&reply, &get, err);
	if (r < 0)
		return err_wrap(err, "%s", d->name);
	*ret_ours = mark && reply.mark == LANES_ANSWER;
	return receive_all(d, page, sizeof(page), err);
}

static int speak(struct dial *d, enum dial_how how, struct err *err)
{
	bool ours = how == DIAL_FURTHER || d->options->protocol == REMOTE_LANES;
	int r = 0;

	if (!ours && d->options->first_pid)
		r = ask_first(d, how, &ours, err);
	if (r == 0 && ours)
		r = say_hello(d, err);
	return r;
}

void remote_break_off(struct stream *stream)
{
	stream_write_full(stream, half_a_header, sizeof(half_a_header), BREAK_OFF_TIME, NULL);
}

/*
 * With TLS these bytes are no record: the peer takes the connection for broken, which is what we
 * want.  To encrypt by a state that another process has gone on with would be worse than useless,
 * as it would use the same nonces again.
 */
void remote_break_off_socket(int fd)
{
	int64_t until = clock_now() + BREAK_OFF_TIME;
	size_t done = 0;

	while (done < sizeof(half_a_header)) {
		struct pollfd pfd = {.fd = fd, .events = POLLOUT};
		int64_t left = (until - clock_now()) / NSEC_PER_MSEC;
		ssize_t n = send(fd, half_a_header + done, sizeof(half_a_header) - done,
		                 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0)
			done += (size_t)n;
		else if (n < 0 && errno == EINTR)
			continue;
		else if (n < 0 && errno != EAGAIN)
			break;
		else if (left <= 0 || poll(&pfd, 1, (int)left) == 0)
			break;
	}
	shutdown(fd, SHUT_WR);
}

int remote_dial(const struct remote_options *options, const char *name, enum dial_how how,
                int64_t step, int stop_fd, struct dialled *ret, struct err *err)
{
	struct dial d = {
		.options = options, .name = name, .step = step, .stop_fd = stop_fd, .ret = ret};
	int r = connect_stream(&d, err);

	if (r == 0)
		r = speak(&d, how, err);
	if (r < 0 && d.stream && how == DIAL_FIRST)
		remote_break_off(d.stream);
	if (r < 0)
		stream_free(d.stream);
	else
		ret->stream = d.stream;
	return r;
}
