/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net-options.h - where pages come from or go to over a network: CRIU's --address, --port,
 * --ps-socket and --tls options, and --unix, for both ends.
 */
#ifndef CRIU_LAZY_CMD_NET_OPTIONS_H
#define CRIU_LAZY_CMD_NET_OPTIONS_H

#include "criu-lazy/cmd/common-options.h"
#include "criu-lazy/os/tls.h"

#include <stdbool.h>
#include <stdint.h>

struct err;

enum {
	OPT_ADDRESS = OPT_NET,
	OPT_PORT,
	OPT_UNIX,
	OPT_PS_SOCKET,
	OPT_TLS,
	OPT_NO_TLS,
	OPT_TLS_CACERT,
	OPT_TLS_CACRL,
	OPT_TLS_CERT,
	OPT_TLS_KEY,
	OPT_TLS_NO_CN_VERIFY,
};

/* clang-format off */
#define NET_LONG_OPTIONS                                        \
	{"address", required_argument, NULL, OPT_ADDRESS},      \
	{"port", required_argument, NULL, OPT_PORT},            \
	{"unix", required_argument, NULL, OPT_UNIX},            \
	{"ps-socket", required_argument, NULL, OPT_PS_SOCKET},  \
	{"tls", no_argument, NULL, OPT_TLS},                    \
	{"no-tls", no_argument, NULL, OPT_NO_TLS},              \
	{"tls-cacert", required_argument, NULL, OPT_TLS_CACERT}, \
	{"tls-cacrl", required_argument, NULL, OPT_TLS_CACRL},  \
	{"tls-cert", required_argument, NULL, OPT_TLS_CERT},    \
	{"tls-key", required_argument, NULL, OPT_TLS_KEY},      \
	{"tls-no-cn-verify", no_argument, NULL, OPT_TLS_NO_CN_VERIFY}
/* clang-format on */

struct net_options {
	const char *address; /* as given, NULL: not given */
	uint16_t port; /* 0: not given, or 0 was given */
	bool has_port;
	const char *unix_path; /* NULL: none */
	int ps_socket; /* -1: none */
	bool tls;
	struct tls_options tls_files; /* its fields NULL: not given */
	bool any; /* any of these options was given */
};

#define NET_OPTIONS_DEFAULT      \
	{                        \
		.ps_socket = -1, \
	}

/* Returns 1: it was one of these; 0: it was not; -EINVAL with the story. */
int net_apply(int c, const char *value, struct net_options *o, struct err *err);

/* After the last option: combinations that cannot be. */
int net_check(const struct net_options *o, const struct common_options *common, struct err *err);

/* Log what was given without effect. */
void net_warn(const struct net_options *o);

/* Certificates and keys, if --tls was given; else *ret is NULL. */
int net_tls(const struct net_options *o, struct tls **ret, struct err *err);

/* What the peer's certificate must be for; NULL: any name. */
const char *net_peer_name(const struct net_options *o);

/* The lines of --help about TLS. */
void net_help_tls(void);

#endif
