/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * remote.h - pages from a page server: CRIU's, or ours with lanes (proto/lanes.h).
 *
 *	remote_connect(&options, &remote, err);		while nothing is lost yet: waits for the
 *							connection, TLS, and the first answer
 *	remote_start(remote, ring, err);		from now on within the engine's loop
 *	remote_source(remote, pid);			for each process; NULL: out of memory
 *	...
 *	remote_end(remote, err);			everything has arrived: say so, and wait for
 *							the answer.  The ring may be gone by now.
 *	ring_free(ring);
 *	remote_free(remote);
 *
 * One remote serves all sources of one engine, and runs in its thread: it watches its
 * connections by the engine's ring, and its times by a timerfd there, so requests are answered
 * (request->done()) from within ring_wait().
 *
 * A lost connection is dialled anew, with back-off, by a thread of its own, so that events are
 * read meanwhile; what was in flight is asked for again.  After reconnect_timeout without a
 * connection every request is answered by "lost", and so is each later one.
 *
 * Before remote_start() a remote is its sockets and memory, nothing else: threads, the timer and
 * the descriptors that wake them are made by remote_start(), in the process that calls it.  So a
 * process may connect, and leave it to a child that shares its descriptors to start; and when that
 * one has died, to another one, which says remote_resume() first.
 */
#ifndef CRIU_LAZY_SOURCE_REMOTE_H
#define CRIU_LAZY_SOURCE_REMOTE_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct remote;
struct ring;
struct source;
struct tls;

enum remote_protocol {
	REMOTE_AUTO, /* ask by the first GET whether the server is ours, where the layout allows it
	              */
	REMOTE_CRIU, /* CRIU's only */
	REMOTE_LANES, /* the user says that it is ours */
};

struct remote_options {
	const char *address; /* host name or address; NULL with unix_path or ps_socket */
	uint16_t port;
	const char *unix_path;
	int ps_socket; /* a connected stream; -1: none.  Cannot be dialled anew. */
	struct tls *tls; /* NULL: none.  Outlives the remote. */
	bool no_cn_verify;
	enum remote_protocol protocol;
	bool old_header; /* the images are of CRIU <= 4.1.1: headers of 24 bytes */
	bool compress; /* bulk lanes may be compressed */
	uint64_t images; /* identity, images/identity.h */
	int64_t reconnect_timeout; /* ns */
	int64_t answer_timeout; /* ns without any byte while something is asked for: the connection
	                           is broken */
	/* A page that the server surely has, for the first GET; first_pid 0: none. */
	uint32_t first_pid;
	uint64_t first_vaddr;
	/* What happens to connections is told here, for the log; any level of detail. */
	void (*tell)(void *cookie, bool trouble, const char *text);
	void *cookie;
};

struct remote_stats {
	uint64_t bytes; /* received */
	uint64_t requests;
	uint64_t reconnects;
	uint64_t bad_pages; /* wrong checksum, asked for again */
	bool lanes; /* the server is ours */
};

/* Each step (connecting, TLS, the first answer) may take 10 s. */
int remote_connect(const struct remote_options *options, struct remote **ret, struct err *err);
int remote_start(struct remote *remote, struct ring *ring, struct err *err);

/*
 * Go on where another process has died that had inherited the remote as this one has it: connected,
 * not started (by a clone with a shared table of descriptors and a memory of its own).  Called
 * instead of remote_connect(), before remote_start().
 *
 * What that one has asked for, how far it has read, and the state of TLS have died with it, so its
 * connections are of no use.  They are forgotten, without a word, and without closing them: their
 * numbers may be something else's by now (it may have lost one and closed it).  Whoever owns the
 * table closes what nobody knows, after this.
 *
 *	server of ours (lanes)	remote_start() dials anew, as after a lost connection: at once,
 *				with back-off, for reconnect_timeout
 *	ours, by --ps-socket	cannot be dialled: every request is answered "lost"
 *	server of CRIU		half a header on the old connection, if it is still the same one,
 *				so that a dumper fails and lets its processes go on, instead of
 *				taking our leaving for success; every request is answered "lost".
 *				A second connection is not tried: CRIU's servers accept one for all
 *				their life, and should a new one stand there, nothing tells whether
 *				it has the same images
 *
 * Not after the other one has begun with remote_end(): then all has arrived, and a dumper must not
 * be told that it failed.  The caller has to know.
 */
void remote_resume(struct remote *remote);

/* More requests than are on their way wait in the remote, where their order does not change any
 * more: about so many bytes have room before that.  0: none has. */
uint64_t remote_room(const struct remote *remote);

struct source *remote_source(struct remote *remote, uint32_t pid);
void remote_stats(const struct remote *remote, struct remote_stats *ret);
int remote_end(struct remote *remote, struct err *err);

/*
 * Instead of remote_end(), when no restore came of it: a dumper of CRIU shall let its processes go
 * on, which it does when a session breaks off in the middle of a header.
 */
void remote_abort(struct remote *remote);

/*
 * Disconnect, without CLOSE or BYE (a dumper of CRIU takes both CLOSE and a mere disconnect for
 * success, and kills its processes).  Sources must be closed before, and the ring freed.  May have
 * to wait for a step of a connection that is being made, at most 5 s.  NULL is fine.
 */
void remote_free(struct remote *remote);

#endif
