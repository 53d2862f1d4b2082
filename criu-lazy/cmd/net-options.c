/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/cmd/net-options.h"

#include "criu-lazy/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static int apply_number(int c, const char *value, struct net_options *o, struct err *err)
{
	unsigned long number;

	if (c == OPT_PORT) {
		if (!parse_number(value, 0, UINT16_MAX, &number))
			return bad_value(err, "--port", value, "a port of 0 to 65535");
		o->port = (uint16_t)number;
		o->has_port = true;
		return 1;
	}
	if (!parse_number(value, 0, INT_MAX, &number))
		return bad_value(err, "--ps-socket", value, "a descriptor's number");
	o->ps_socket = (int)number;
	return 1;
}

static int apply_tls(int c, const char *value, struct net_options *o)
{
	switch (c) {
	case OPT_TLS:
		o->tls = true;
		return 1;
	case OPT_NO_TLS:
		o->tls = false;
		return 1;
	case OPT_TLS_CACERT:
		o->tls_files.cacert = value;
		return 1;
	case OPT_TLS_CACRL:
		o->tls_files.cacrl = value;
		return 1;
	case OPT_TLS_CERT:
		o->tls_files.cert = value;
		return 1;
	case OPT_TLS_KEY:
		o->tls_files.key = value;
		return 1;
	case OPT_TLS_NO_CN_VERIFY:
		o->tls_files.no_cn_verify = true;
		return 1;
	default:
		return 0;
	}
}

int net_apply(int c, const char *value, struct net_options *o, struct err *err)
{
	int r;

	switch (c) {
	case OPT_ADDRESS:
	case OPT_UNIX:
		if (!*value)
			return bad_value(err, c == OPT_UNIX ? "--unix" : "--address", value,
			                 c == OPT_UNIX ? "a path" : "an address");
		if (c == OPT_UNIX)
			o->unix_path = value;
		else
			o->address = value;
		r = 1;
		break;
	case OPT_PORT:
	case OPT_PS_SOCKET:
		r = apply_number(c, value, o, err);
		break;
	default:
		r = apply_tls(c, value, o);
		break;
	}
	if (r > 0)
		o->any = true;
	return r;
}

static int check_ps_socket(const struct net_options *o, struct err *err)
{
	int type;
	socklen_t len = sizeof(type);

	if (fcntl(o->ps_socket, F_GETFD) < 0)
		return err_set(err, errno, "option --ps-socket %d", o->ps_socket);
	if (getsockopt(o->ps_socket, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return err_set(err, errno, "option --ps-socket %d", o->ps_socket);
	if (type != SOCK_STREAM)
		return err_set(err, EINVAL, "option --ps-socket %d: not a stream socket",
		               o->ps_socket);
	return 0;
}

int net_check(const struct net_options *o, const struct common_options *common, struct err *err)
{
	if (o->unix_path && (o->address || o->has_port))
		return err_set(err, EINVAL, "--unix and --address or --port: one of them");
	if (o->unix_path && o->ps_socket >= 0)
		return err_set(err, EINVAL, "--unix and --ps-socket: one of them");
	if (o->ps_socket < 0)
		return 0;
	if (common->daemon && o->ps_socket <= 2)
		return err_set(err, EINVAL,
		               "--ps-socket %d: descriptors 0 to 2 are closed by --daemon",
		               o->ps_socket);
	if (o->ps_socket == common->status_fd)
		return err_set(err, EINVAL, "--ps-socket and --status-fd are both %d",
		               o->ps_socket);
	return check_ps_socket(o, err);
}

void net_warn(const struct net_options *o)
{
	const struct tls_options *t = &o->tls_files;

	if (o->ps_socket >= 0 && (o->address || o->has_port))
		log_warn("--address and --port mean nothing with --ps-socket");
	if (!o->tls && (t->cacert || t->cacrl || t->cert || t->key || t->no_cn_verify))
		log_warn("without --tls the other --tls options mean nothing: pages travel in the "
		         "clear");
}

int net_tls(const struct net_options *o, struct tls **ret, struct err *err)
{
	*ret = NULL;
	return o->tls ? tls_new(&o->tls_files, ret, err) : 0;
}

const char *net_peer_name(const struct net_options *o)
{
	return o->tls_files.no_cn_verify || o->unix_path ? NULL : o->address;
}

void net_help_tls(void)
{
	puts("      --tls               encrypt, with X.509 certificates on both sides\n"
	     "      --tls-cacert FILE   who signs them (default: /etc/pki/CA/cacert.pem and the\n"
	     "                          system's)\n"
	     "      --tls-cacrl FILE    revoked ones (default: /etc/pki/CA/cacrl.pem, if it is "
	     "there)\n"
	     "      --tls-cert FILE     our own (default: /etc/pki/criu/cert.pem)\n"
	     "      --tls-key FILE      its key (default: /etc/pki/criu/private/key.pem)\n"
	     "      --tls-no-cn-verify  do not check that the other side's is for --address");
}
