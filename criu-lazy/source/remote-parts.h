/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * remote-parts.h - the parts of remote.h among themselves.
 *
 *	remote.c	life, sources, the end
 *	remote-queue.c	asks: what is wanted, in which order it is sent, how it ends
 *	remote-pace.c	how much may be on its way
 *	remote-lane.c	one connection: its life, bytes out
 *	remote-answer.c	bytes in
 *	remote-link.c	losses, being connected again, times, giving up
 *	remote-dial.c	how a connection comes about
 *	remote-dialer.c	the thread that does it while the engine goes on
 *
 * An ask is one request of the engine on its way, or what is left of it: when the request was
 * cancelled or answered otherwise, the reply still has to be read (drained).
 *
 *	remote_fetch -> queue[urgent or not] -> lane->sent -> done()
 *	                     ^------ lane lost, page wrong --'
 *
 * Nothing but the handlers of the ring (lanes, timer, dialer) calls done(), so fetch, hurry and
 * cancel may be called from within it.  They send at once, except within such a handler (depth),
 * which sends when it is through.  A lane that fails is only marked; its own handler takes it down.
 */
#ifndef CRIU_LAZY_SOURCE_REMOTE_PARTS_H
#define CRIU_LAZY_SOURCE_REMOTE_PARTS_H

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/os/ring.h"
#include "criu-lazy/source/remote-pace.h"
#include "criu-lazy/source/remote.h"
#include "criu-lazy/source/source.h"
#include "proto/lanes.h"
#include "proto/ps.h"

#include <bsd/sys/queue.h>
#include <stddef.h>
#include <sys/types.h>

struct stream;

/* Named limits. */
enum {
	REMOTE_PIECE = 64, /* pages of one request */
	REMOTE_LANES_BULK = 1,
	REMOTE_MAX_LANES = 1 + REMOTE_LANES_BULK,
	REMOTE_OUT = 4096, /* bytes of requests that are handed to the kernel at once */
	REMOTE_FRONT = 4096, /* of the receive buffer: a header and its tail, before the pages */
	REMOTE_BACK = 4096, /* the next header */
	REMOTE_IN = REMOTE_FRONT + REMOTE_PIECE * 4096 + REMOTE_BACK,
	REMOTE_BUDGET = REMOTE_PIECE * 4096, /* bytes that a lane reads before others get a turn */
	REMOTE_HURRY_BEHIND = 128 << 10, /* bytes before it in its lane: worth asking twice */
	REMOTE_HURRY_PIECE = 16, /* pages of the second request */
	REMOTE_WRONG_TRIES = 3, /* wrong sums of the same page */
	REMOTE_BLAME_TRIES = 3, /* answers to the same request that break the protocol */
};

/* --- asks ------------------------------------------------------------------------------------ */

struct ask {
	TAILQ_ENTRY(ask) link; /* of a queue, of lane->sent, or of the free list */
	struct source_request *request; /* its link points here (or to the twin); NULL: to be
	                                   drained */
	struct ask *twin; /* the same request was asked for on another lane, too */
	struct lane *lane; /* it was sent there; NULL: queued */
	uint32_t pid, tag;
	uint64_t img, nr_pages;
	bool urgent;
	bool alone; /* nothing was on its way when it was sent */
	unsigned nr_wrong, nr_blamed;
	int64_t sent_at;
	uint64_t asked_before, answered_before; /* of the lane, when it was sent */
};

TAILQ_HEAD(ask_list, ask);

/* --- a lane: one connection ------------------------------------------------------------------ */

/* Which file a descriptor stands for, as numbers are used again. */
struct file_id {
	dev_t dev;
	ino_t ino; /* 0: not known */
};

enum lane_state { LANE_HEADER, LANE_TAIL, LANE_BODY };

struct lane {
	struct watch watch; /* the first member */
	struct remote *remote;
	TAILQ_ENTRY(lane) leaving;
	unsigned index; /* 0: urgent; 1...: bulk */
	bool ours; /* the server speaks lanes */
	bool plain; /* no TLS */
	struct stream *stream;
	struct file_id file; /* of the stream's descriptor */
	struct ask_list sent;
	uint64_t asked, answered; /* bytes of pages, ever */
	int64_t up_since, quiet_since; /* quiet: no byte came, though something was asked for */
	bool pinged, progress;
	bool failed;
	bool blame; /* it failed because of the answer to the first ask in sent */
	struct err err;
	/* out */
	size_t out_at, out_len, out_stuck; /* stuck: as many were refused, and are to be offered
	                                      again as they were (TLS) */
	/* in: have bytes from in + at on, the first of a message; pages begin at in + FRONT */
	enum lane_state state;
	size_t at, have, tail_len;
	size_t total; /* bytes of this message, when known */
	uint64_t granted; /* pages of this message */
	struct lanes_data data;
	uint8_t *in;
	uint8_t *unpacked;
	uint8_t out[REMOTE_OUT];
};

TAILQ_HEAD(lane_list, lane);

/* --- dialling -------------------------------------------------------------------------------- */

enum dial_how {
	DIAL_NOT,
	DIAL_FIRST, /* find out who the server is */
	DIAL_AGAIN, /* the same, after it has answered earlier */
	DIAL_FURTHER, /* it is known to be ours */
};

struct dialled {
	unsigned index;
	struct stream *stream; /* NULL: failed, err tells why */
	bool ours;
	int64_t rtt; /* of the first question and its answer; 0: none was asked */
	struct err err;
};

struct dialer;

/* --- the remote ------------------------------------------------------------------------------ */

struct remote {
	struct remote_options options; /* strings are owned */
	char name[160]; /* of the server, for texts */
	struct ring *ring;
	struct lane *lane[REMOTE_MAX_LANES]; /* NULL: down */
	struct lane_list leaving; /* the ring has not let go of them yet */
	bool ours;
	unsigned depth;
	struct ask_list queue[2]; /* [urgent] */
	uint64_t queued; /* bytes that those not urgent are about */
	struct ask_list free;
	struct pace pace[REMOTE_MAX_LANES];
	int64_t last_urgent;
	uint32_t next_tag;
	struct remote_stats stats;
	/* losses */
	struct dialer *dialer;
	struct watch dialer_watch;
	int64_t lost_since; /* CLOCK_NEVER: not lost, or it has worked since */
	int64_t down_since; /* no lane is up; CLOCK_NEVER: one is */
	struct err last_loss;
	bool gave_up;
	struct err why; /* gave_up */
	/* times */
	int timer_fd;
	struct watch timer_watch;
	int64_t timer_at;
};

static inline enum ps_layout remote_layout(const struct remote *r)
{
	return r->options.old_header ? PS_24 : PS_32;
}

static inline size_t lane_header_size(const struct lane *lane)
{
	return lane->ours ? LANES_HEADER : ps_header_size(remote_layout(lane->remote));
}

void remote_tell(const struct remote *r, bool trouble, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* remote-queue.c */

/* NULL: out of memory. */
struct ask *ask_new(struct remote *r, struct source_request *request, uint32_t pid);
/* Queue it, behind the others; send what can be sent. */
void ask_put(struct remote *r, struct ask *ask);
void ask_hurry(struct remote *r, struct ask *ask);
void ask_cancel(struct remote *r, struct ask *ask);
/* It is in no list.  Calls done(); bytes NULL: lost. */
void ask_end(struct remote *r, struct ask *ask, const void *bytes, uint64_t nr_pages,
             const struct err *err);
/* It is in no list.  The head of its queue. */
void ask_again(struct remote *r, struct ask *ask);
/* Everything that a lane has not answered, in its order. */
void asks_again(struct remote *r, struct lane *lane);
void asks_lost(struct remote *r, const struct err *err);
void asks_free(struct remote *r);
/* What this lane is to send next; it is taken from its queue. */
struct ask *ask_next(struct remote *r, const struct lane *lane, int64_t now);
/* Send whatever can be sent on all lanes. */
void remote_pump(struct remote *r);

/* remote-lane.c */

/* Takes over the stream, also on failure. */
int lane_new(struct remote *r, const struct dialled *dialled, struct err *err);
void lane_send(struct lane *lane, int64_t now);
void lane_ping(struct lane *lane);
void lane_fail(struct lane *lane, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Disconnect; the struct goes when the ring has let go of it. */
void lane_close(struct lane *lane);
void lane_free(struct lane *lane);
/* Before the ring knows it: free it, and leave its descriptor open. */
void lane_forget(struct lane *lane);
/* Is its descriptor still the one that it was made of? */
bool lane_has_its_file(const struct lane *lane);

/* remote-answer.c */

/* events: of the ring; 0: none in particular. */
void lane_receive(struct lane *lane, uint32_t events);
/* Whole pages that have come of the answer to the first ask; 0: none, or their sums are wrong. */
uint64_t lane_prefix(struct lane *lane, const void **ret_bytes);

/* remote-link.c */

int remote_link_start(struct remote *r, struct err *err);
int remote_link_watch(struct remote *r, struct lane *lane, struct err *err);
/* Take down a lane that has failed. */
void remote_lane_lost(struct lane *lane);
/* Make sure that the timer goes off at that time, or before. */
void remote_timer(struct remote *r, int64_t at);

/* remote-dial.c */

/*
 * Connect, and shake hands; waits, step ns at most for each step.  ret->index says for which lane;
 * the rest of *ret is filled in on success.  stop_fd: becomes readable when it shall end early; -1:
 * none.
 */
int remote_dial(const struct remote_options *options, const char *name, enum dial_how how,
                int64_t step, int stop_fd, struct dialled *ret, struct err *err);

/* Half a header: then a dumper of CRIU does not take our leaving for success, and kills nobody. */
void remote_break_off(struct stream *stream);
/* The same past the stream, whose state is not known, and then the end. */
void remote_break_off_socket(int fd);

/* remote-dialer.c */

int dialer_new(const struct remote_options *options, const char *name, struct dialer **ret,
               struct err *err);
/* Readable when there is something to be taken. */
int dialer_fd(const struct dialer *d);
/* fresh: the connection had worked, so begin without back-off.  DIAL_NOT: leave it. */
void dialer_want(struct dialer *d, unsigned index, enum dial_how how, bool fresh);
/* One result; false: none. */
bool dialer_take(struct dialer *d, struct dialled *ret);
/* Ends the thread, and waits for that.  NULL is fine. */
void dialer_free(struct dialer *d);

#endif
