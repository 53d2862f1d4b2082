/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Certificates for the tests that are scripts:
 *
 *	build/test/certs/make DIR [SERVER-NAMES [CLIENT-NAMES]]
 *
 * Names are lists with commas, of host names and addresses; default "localhost,127.0.0.1,::1".
 * DIR is made if need be.  In it are then
 *
 *	cacert.pem				the authority of all below but the last
 *	server-cert.pem server-key.pem
 *	client-cert.pem client-key.pem
 *	stranger-cert.pem stranger-key.pem	for nobody that a test is: stranger.example
 *	expired-cert.pem expired-key.pem	was the server's until yesterday
 *	revoked-cert.pem revoked-key.pem	for the server's names, and in the next
 *	cacrl.pem
 *	other-cacert.pem			another authority, and a certificate by it for the
 *	other-cert.pem other-key.pem		server's names
 */
#include "test/certs/certs.h"

#include <errno.h>

int main(int argc, char **argv)
{
	const char *server = argc > 2 ? argv[2] : "localhost,127.0.0.1,::1";
	const char *client = argc > 3 ? argv[3] : "localhost,127.0.0.1,::1";
	const char *dir = argc > 1 ? argv[1] : NULL;
	struct authority ca, other;

	if (!dir || argc > 4) {
		fprintf(stderr, "usage: %s DIR [SERVER-NAMES [CLIENT-NAMES]]\n", argv[0]);
		return 2;
	}
	if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
		perror(dir);
		return 1;
	}
	certs_authority(&ca, dir, "cacert.pem");
	certs_write(&ca, dir, "server", server, CERTS_VALID);
	certs_write(&ca, dir, "client", client, CERTS_VALID);
	certs_write(&ca, dir, "stranger", "stranger.example", CERTS_VALID);
	certs_write(&ca, dir, "expired", server, CERTS_EXPIRED);
	certs_write(&ca, dir, "revoked", server, CERTS_REVOKED);
	certs_write_crl(&ca, dir, "cacrl.pem");
	certs_release(&ca);
	certs_authority(&other, dir, "other-cacert.pem");
	certs_write(&other, dir, "other", server, CERTS_VALID);
	certs_release(&other);
	return 0;
}
