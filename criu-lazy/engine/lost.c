/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A page that cannot be had is never zero: whoever needs it is stopped (--on-lost kill), or gets
 * SIGBUS where it touches the page (--on-lost poison).  The others go on.
 *
 * Only processes that sent their own userfaultfd can be named and killed; of a child that was
 * forked later we hold nothing but the descriptor, so its page is poisoned in any case.
 */
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/engine/session.h"
#include "criu-lazy/os/uffd.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool kill_session(struct session *s)
{
	if (s->pidfd < 0 || s->poisons)
		return false;
	if (syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH) {
		log_error("%s: cannot be killed: %s", s->name, strerror(errno));
		return false;
	}
	return true;
}

/* true: done, or never needed again. */
static bool poison_page(struct session *s, uint64_t addr)
{
	enum uffd_outcome outcome = uffd_poison(s->uffd, addr);

	switch (outcome) {
	case UFFD_DONE:
	case UFFD_EXISTS:
		tracker_delivered(s->tracker, addr, 1);
		session_account(s);
		uffd_wake(s->uffd, addr, PAGE_SIZE);
		session_ready(s);
		return true;
	case UFFD_NOWHERE:
		if (uffd_registered(s->uffd, addr, PAGE_SIZE) != UFFD_NOWHERE) {
			session_retry(s);
			return false;
		}
		tracker_delivered(s->tracker, addr, 1); /* it is unmapped: nobody will miss it */
		session_account(s);
		uffd_wake(s->uffd, addr, PAGE_SIZE);
		session_ready(s);
		return true;
	case UFFD_CHANGING:
	case UFFD_NO_MEMORY:
		session_retry(s);
		return false;
	case UFFD_EXITED:
		session_end(s, true);
		return true;
	default:
		/* Before 6.6: nothing better is left than to let its threads wait. */
		log_error("%s: this kernel cannot poison pages: threads that touch 0x%llx wait for "
		          "ever",
		          s->name, (unsigned long long)addr);
		s->state = SESSION_DOOMED;
		return true;
	}
}

static bool poison(struct session *s, const struct tracker_run *run)
{
	bool done;

	flight_begin(s, run);
	done = poison_page(s, run->start);
	flight_end(s);
	return done;
}

bool lost_page(struct session *s, uint64_t addr, uint64_t img, const struct err *why)
{
	enum { LOG_PAGES = 16 }; /* a whole image may be gone: each process names the first few */
	const struct tracker_run run = {.start = addr, .img = img, .nr_pages = 1};
	bool killed;

	if (s->state != SESSION_SERVING)
		return true;
	killed = s->engine->options.on_lost == ON_LOST_KILL && kill_session(s);
	if (!killed && !poison(s, &run))
		return false;
	s->engine->stats->pages_lost++;
	if (!s->nr_lost++)
		s->engine->stats->sessions_lost++;
	if (s->nr_lost <= LOG_PAGES && !s->engine->abandoning)
		log_error("%s: page 0x%llx (image 0x%llx) is lost: %s; %s%s", s->name,
		          (unsigned long long)addr, (unsigned long long)img, why->text,
		          killed ? "the process is killed" : "touching it raises SIGBUS",
		          s->nr_lost == LOG_PAGES ? "; further pages are not named" : "");
	if (killed) {
		s->state = SESSION_DOOMED;
		session_settle(s); /* what the copier has is no source's to cancel */
		session_cancel_fetches(s);
	}
	return true;
}

void session_abandon(struct session *s)
{
	struct err why = {0};
	struct tracker_run run;

	if (s->state != SESSION_SERVING)
		return;
	session_settle(s);
	session_cancel_fetches(s);
	if (!tracker_next(s->tracker, 0, 1, &run))
		return;
	given_up(&why);
	log_warn("%s: %llu pages of it are missing and given up", s->name,
	         (unsigned long long)tracker_nr_missing(s->tracker));
	lost_page(s, run.start, run.img, &why);
	if (s->state == SESSION_DOOMED)
		log_warn("%s: killed", s->name);
	session_ready(s);
}
