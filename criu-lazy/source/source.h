/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * source.h - where the pages of one process come from.
 *
 * A source is asked for a piece of the image and has the bytes at once (SOURCE_HERE), promises
 * them (SOURCE_LATER: request->done is called later, from source_run() or, when the source watches
 * descriptors, from ring_wait()), or has lost them (SOURCE_LOST).  Sources stack: a wrapper holds
 * the next one and keeps this contract, which source.c asserts once for all of them:
 *
 *	- requests are for pages that the image has: whole pages, at least one
 *	- an answer holds 1..nr_pages pages, from the first on; the asker asks again for the rest
 *	- after SOURCE_LATER exactly one of done() and a return from source_cancel() ends it
 *	- done() is never called from within source_fetch(), source_hurry() or source_cancel();
 *	  it may call all three, for any request but the one it is called for
 *
 * The bytes of an answer are valid until the next call to the source (or, when it says so, as long
 * as the source is open), and may be readable by system calls only: a mapped file that somebody
 * truncates answers EFAULT there, SIGBUS elsewhere.
 *
 * One thread at a time, except that source_expect() may run beside the others; source_share() gives
 * a further owner within the source's thread.
 */
#ifndef CRIU_LAZY_SOURCE_SOURCE_H
#define CRIU_LAZY_SOURCE_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct ring;
struct source;

struct source_bytes {
	const void *bytes;
	uint64_t nr_pages;
	bool lasting; /* as long as the source is open */
};

struct source_request {
	uint64_t img; /* image address of the first page */
	uint64_t nr_pages;
	bool urgent; /* a thread waits for it */
	/* bytes NULL: lost, err tells why. */
	void (*done)(struct source_request *request, const struct source_bytes *bytes,
	             const struct err *err);
	void *owner;
	/* for the source that holds it */
	void *link;
	int64_t due;
};

enum source_answer { SOURCE_HERE, SOURCE_LATER, SOURCE_LOST };

struct source_ops {
	const char *name;
	bool dear; /* better ask once for all who need it, and for much at a time */
	enum source_answer (*fetch)(struct source *s, struct source_request *request,
	                            struct source_bytes *ret, struct err *err);
	/* Optional. */
	void (*hurry)(struct source *s, struct source_request *request);
	void (*cancel)(struct source *s, struct source_request *request);
	void (*expect)(struct source *s, uint64_t img, uint64_t nr_pages);
	int64_t (*deadline)(const struct source *s);
	void (*run)(struct source *s, int64_t now);
	void (*lend)(struct source *s);
	void (*attach)(struct source *s, struct ring *ring);
	/* Required. */
	void (*close)(struct source *s);
};

/* The head of every source. */
struct source {
	const struct source_ops *ops;
	struct source *next; /* owned; NULL for the last */
	unsigned nr_owners;
};

enum source_answer source_fetch(struct source *s, struct source_request *request,
                                struct source_bytes *ret, struct err *err);

/* A thread has begun to wait for a request that was not urgent. */
void source_hurry(struct source *s, struct source_request *request);

/* The request will not be answered any more. */
void source_cancel(struct source *s, struct source_request *request);

/* These pages will be asked for soon: a chance to read ahead.  Costs little, promises nothing. */
void source_expect(struct source *s, uint64_t img, uint64_t nr_pages);

/* When source_run() wants to be called (CLOCK_MONOTONIC, ns; CLOCK_NEVER: no need). */
int64_t source_deadline(const struct source *s);
void source_run(struct source *s, int64_t now);

/* Is it, or one behind it, dear? */
bool source_is_dear(const struct source *s);

/*
 * From now on the descriptors of the source, and of those behind it, belong to somebody else:
 * source_close() closes none.  For a process that shares its table of descriptors with one that
 * goes on using them.  (Those of a remote belong to the remote: remote_resume().)
 */
void source_lend(struct source *s);

/*
 * Who asks from now on waits in this ring, which lives longer than the source.  An image that was
 * not told so makes its asker wait for the disk.
 */
void source_attach(struct source *s, struct ring *ring);

struct source *source_share(struct source *s);

/* One owner fewer; the last one closes.  No request may be open.  NULL is fine. */
void source_close(struct source *s);

/* --- the sources there are ------------------------------------------------------------------- */

struct pages;

/* Pages of an image directory; takes over pages.  NULL: out of memory. */
struct source *source_image(struct pages *pages);

/*
 * Wrappers for tests, and for seeing what a slow or broken image does (`--filter`), by a text:
 *	delay=USEC	every answer comes that much later
 *	short=N		no answer is longer than N pages
 *	lose=START-END	pages of [START, END) (hexadecimal image addresses) are lost
 *	crash=ADDR	whoever asks for the page at ADDR (hexadecimal) dies of SIGABRT
 * Takes over next, also on failure.
 */
struct source *source_filter(const char *text, struct source *next, struct err *err);

#endif
