/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What somebody finds in a journal, replayed.
 *
 * The input: a byte of flags, then a side of a journal: records, as they lie there.  Flags: 1 the
 * checksums are made right before, so that what is within is looked at; 2 numbers of userfaultfds
 * that are told (in sessions and FORKs) are turned into one that there is.
 *
 * What must hold: it is replayed, or refused with a reason of one line; no descriptor of the
 * harness is closed but the userfaultfd that it gives away, nothing leaks.
 */
#include "criu-lazy/engine/journal.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/engine/engine.h"
#include "criu-lazy/engine/record.h"
#include "criu-lazy/os/uffd.h"
#include "test/fuzz/must.h"
#include "test/unit/no-source.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
	LIMIT = 256 << 10,
	FIX_SUMS = 1,
	FIX_DESCRIPTORS = 2,
	PROCESSES = 2,
	OWNED = 200,
	BITS_AT = 8
};

static struct source *give_source(void *cookie, uint32_t index)
{
	struct source *s = cookie;

	if (index >= PROCESSES)
		return NULL;
	s->nr_owners++;
	return s;
}

/* --- descriptors ------------------------------------------------------------------------------ */

/* One of the harness, and what it is. */
static int owned(void)
{
	static int fd = -1;

	if (fd < 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		MUST(null >= 0);
		fd = dup2(null, OWNED);
		MUST(fd == OWNED);
		close(null);
	}
	return fd;
}

static int open_uffd(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* --- the side --------------------------------------------------------------------------------- */

static uint64_t sum_of(const struct journal_record *r)
{
	const struct journal_record head = {.type = r->type, .id = r->id, .len = r->len};

	return XXH3_64bits_withSeed(r + 1, r->len, XXH3_64bits(&head, sizeof(head)));
}

static void fix_descriptors(const struct journal_record *r, int uffd)
{
	void *payload = (void *)(uintptr_t)(r + 1);
	struct record_session *session = payload;
	struct uffd_msg *msg = payload;

	if (r->type == RECORD_SESSION && r->len >= sizeof(*session)) {
		session->uffd = uffd;
		session->pidfd = session->pidfd & 1 ? owned() : -1;
	}
	for (size_t i = 0; r->type == RECORD_EVENTS && i < r->len / sizeof(*msg); i++)
		if (msg[i].event == UFFD_EVENT_FORK)
			msg[i].arg.fork.ufd = (uint32_t)uffd;
}

/* Pages cost memory and time: fewer are enough.  false: this one is not tried. */
static bool is_modest(const struct journal_record *r)
{
	const uint8_t *tracker = (const uint8_t *)(r + 1) + sizeof(struct record_session);
	uint64_t nr_bits;

	if (r->type == RECORD_SESSION && r->len >= sizeof(struct record_session) + 16) {
		memcpy(&nr_bits, tracker + BITS_AT, sizeof(nr_bits));
		if (nr_bits > 1 << 16)
			return false;
	}
	return true;
}

/* Go through what lies there as far as it can be told. */
static bool prepare(uint8_t *side, size_t len, uint8_t flags, int uffd)
{
	size_t at = 0;

	while (len - at >= sizeof(struct journal_record)) {
		struct journal_record *r = (struct journal_record *)(void *)(side + at);

		if (!r->type || r->len == JOURNAL_OPEN)
			break;
		if (r->len > len - at - sizeof(*r) && flags & FIX_SUMS)
			r->len = len - at - sizeof(*r);
		if (r->len > len - at - sizeof(*r))
			break;
		if (!is_modest(r))
			return false;
		if (flags & FIX_DESCRIPTORS)
			fix_descriptors(r, uffd);
		if (flags & (FIX_SUMS | FIX_DESCRIPTORS))
			r->sum = sum_of(r);
		at += sizeof(*r) + ((r->len + 7) & ~(size_t)7);
		if (at > len)
			break;
	}
	return true;
}

static void replay(struct journal *j, struct source *source)
{
	const struct engine_options options = {.background = BACKGROUND_OFF, .journal = j};
	uint8_t taken[PROCESSES] = {0};
	const struct engine_resume how = {give_source, source, taken, PROCESSES};
	struct engine *engine;
	struct err err = {0};
	int r;

	MUST(engine_new(&options, &engine, &err) == 0);
	r = engine_resume(engine, &how, &err);
	if (r < 0) {
		MUST(err.code == -r && err.text[0] && !strchr(err.text, '\n'));
	} else {
		for (int i = 0; i < 3; i++)
			MUST(engine_turn(engine, 0, &err) == 0);
	}
	engine_free(engine);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct journal_options options = {
		.name = "fuzz", .limit = LIMIT, .state_size = sizeof(struct engine_state)};
	struct source source = {.ops = &no_source_ops, .nr_owners = 1};
	struct err err = {0};
	struct journal *j;
	uint8_t *side;
	int uffd;

	if (!size || size > LIMIT / 2)
		return 0;
	log_open("/dev/null", LOG_ERROR, NULL);
	owned();
	uffd = open_uffd(); /* -1: no permission, say: then there is none */
	MUST(journal_new(&options, &j, &err) == 0);
	side = (uint8_t *)journal_state(j) + page_down(sizeof(struct engine_state) + PAGE_SIZE - 1);
	memcpy(side, data + 1, size - 1);
	if (prepare(side, size - 1, data[0], uffd))
		replay(j, &source);
	MUST(source.nr_owners == 1);
	MUST(fcntl(OWNED, F_GETFD) >= 0 && fcntl(journal_fd(j), F_GETFD) >= 0);
	journal_free(j);
	if (uffd >= 0)
		close(uffd); /* the engine may have */
	return 0;
}
