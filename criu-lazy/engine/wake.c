/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * After a replay: who is still there goes on, and whose descriptor was not kept is stopped.
 *
 * Where a worker has died all descriptors are as they were.  Where a service manager has given them
 * back, some may be missing, and their numbers may be something else's.
 */
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/engine/session.h"
#include "criu-lazy/os/proctree.h"
#include "criu-lazy/os/uffd.h"

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * A userfaultfd was closed by everybody's death, before a service manager had it: what who misses
 * are zeros from then on.  It is that of s, or of a child of it.
 */
static void stop(struct session *s, const char *who)
{
	const struct session *m;
	struct err why = {0};
	int pidfd = s->pidfd;

	/* A child is known by where it came from. */
	TAILQ_FOREACH(m, &s->family->members, family_link)
		if (pidfd < 0)
			pidfd = m->pidfd;
	log_error("%s: %sits userfaultfd was not kept: %s", s->name, who,
	          pidfd < 0 ? "it cannot be named, and reads zeros: kill it"
	                    : "killed, with all that came from it, lest it reads zeros");
	if (pidfd >= 0 && proctree_kill(pidfd, &why) < 0)
		log_error("%s: %s", s->name, why.text);
	s->engine->stats->sessions_lost++;
}

static int without_descriptor(struct session *s, struct err *err)
{
	int r = replay_recall(s, err);

	if (r < 0)
		return r;
	if (tracker_nr_missing(s->tracker))
		stop(s, "");
	record_end(s->engine, s->id);
	s->engine->replaying = true; /* nothing is done to its descriptors */
	session_end(s, true);
	s->engine->replaying = false;
	return 0;
}

/*
 * It was held when its worker died, so its children wait to be served, and miss what it misses.
 * Those whose descriptors are there do not wait any more when they are read (uffd_is_one()): the
 * worker may have been killed before it had said so.
 */
static void check_children(struct session *s)
{
	bool fixed;
	size_t i;

	for (i = 0; i < s->nr_pending; i++) {
		int fd = (int)s->pending[i].arg.fork.ufd;

		if (s->pending[i].event != UFFD_EVENT_FORK || fd < 0 || uffd_is_one(fd, &fixed))
			continue;
		stop(s, "a child of it: ");
		/* The number may be another one's when the next worker reads this. */
		record_unkept(s, (uint32_t)i);
		child_unkept(s, i);
	}
}

static bool is_pidfd(int fd)
{
	return syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) == 0 || errno != EBADF;
}

/* Its descriptors are what they were, and what was delivered need not come again. */
int session_wake_up(struct session *s, struct err *err)
{
	bool fixed;
	int r;

	if (s->pidfd >= 0 && !is_pidfd(s->pidfd))
		s->pidfd = -1; /* it was not kept */
	if (!uffd_is_one(s->uffd, &fixed))
		return without_descriptor(s, err);
	uffd_no_wait(s->uffd); /* killed before it had said so */
	r = replay_recall(s, err);
	if (r < 0)
		return r;
	check_children(s);
	if (!s->marks)
		record_marks(s, s); /* of none yet; but named as a child's are */
	return session_resume(s, err);
}
