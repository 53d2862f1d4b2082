/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A restorer that says anything at all, to the real handoff: a listening socket, unixsock_recv(),
 * the decoder, a plan made from real images, and an engine that copies into this process's own
 * memory through real userfaultfds.
 *
 * The input is a list of steps, each one byte and what it calls for:
 *
 *	bits 0-2	what goes along: 0-2 nothing, 3 a pipe, 4 the next task's userfaultfd, 5 the
 *			same but blocking, 6 two descriptors, 7 ten of them
 *	bits 3-4	how many bytes of the input are sent in one message: 1 to 4
 *	bit 5		let the helper work before the next step
 *	bits 6-7	3: hang up and connect again instead of all this; 2: a second connection
 *
 * What must hold: it comes to an end, with a reason of one line where it failed and a plan with
 * nobody left out where it did not; no descriptor is left open; whatever the engine copied is the
 * image's.
 */
#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/engine/handoff.h"
#include "criu-lazy/engine/plan.h"
#include "criu-lazy/engine/pool.h"
#include "criu-lazy/os/uffd-abi.h"
#include "test/fuzz/helper-socket.h"
#include "test/fuzz/image-tree.h"
#include "test/unit/send-fds.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

enum { NR_TASKS = TREE_IMAGES, NR_PAGES = 4, MAX_TURNS = 5000, MAX_STEPS = 64 };

static const uint64_t base = UINT64_C(0x200000000000); /* not the sanitizer's */
static const uint64_t spacing = UINT64_C(1) << 30;

struct helper {
	struct plan plan;
	struct pool *pool;
	struct handoff *handoff;
	struct unixsock sock;
	unsigned nr_turns;
};

static uint8_t *memory(size_t task)
{
	return (uint8_t *)(uintptr_t)(base + task * spacing); // NOLINT: a fixed place
}

/* --- once: images of tasks 1-3 and of a zombie 4, memory, a listener ------------------------- */

static void prepare(void)
{
	static uint8_t bytes[NR_PAGES * PAGE_SIZE];
	int dir = tree_begin();

	log_open(NULL, LOG_MSG, NULL);
	for (uint32_t i = 0; i < NR_TASKS; i++) {
		memset(bytes, (int)i + 1, sizeof(bytes));
		tree_write_memory(dir, i + 1, base + i * spacing, NR_PAGES, bytes);
		MUST(mmap(memory(i), NR_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
		          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == memory(i));
	}
	/* Without credentials: the helper must not know whom to kill, for it is this process. */
	listener_open(false);
}

/* --- the restorer ---------------------------------------------------------------------------- */

/* The userfaultfd of task n, as a restorer registers it; another one may have its memory. */
static int task_uffd(size_t n, bool blocking)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | (blocking ? 0 : O_NONBLOCK));
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {
		.range = {(uint64_t)(uintptr_t)memory(n), NR_PAGES * PAGE_SIZE},
		.mode = UFFDIO_REGISTER_MODE_MISSING};

	if (fd < 0) {
		perror("userfaultfd");
		abort();
	}
	MUST(ioctl(fd, UFFDIO_API, &api) == 0);
	ioctl(fd, UFFDIO_REGISTER, &reg);
	return fd;
}

static size_t attach(unsigned kind, int *fds, size_t *nr_uffds)
{
	size_t nr = kind == 6 ? 2 : kind == 7 ? 10 : 1;

	if (kind < 3)
		return 0;
	if (kind == 4 || kind == 5) {
		fds[0] = task_uffd((*nr_uffds)++ % NR_TASKS, kind == 5);
		return 1;
	}
	for (size_t i = 0; i < nr; i++) {
		int ends[2];

		MUST(pipe2(ends, O_CLOEXEC) == 0);
		close(ends[1]);
		fds[i] = ends[0];
	}
	return nr;
}

/* --- the helper ------------------------------------------------------------------------------ */

static bool turn(struct helper *h, int64_t patience)
{
	struct err err = {0};
	enum handoff_state state = handoff_state(h->handoff, &err);

	if (state == HANDOFF_FAILED) {
		MUST(err.code && err.text[0] && !strchr(err.text, '\n'));
		return false;
	}
	if (state == HANDOFF_DONE && !pool_nr_sessions(h->pool))
		return false;
	MUST(++h->nr_turns < MAX_TURNS); /* no end in sight */
	MUST(pool_turn(h->pool, clock_now() + patience, &err) == 0);
	return true;
}

static void steps(struct helper *h, const uint8_t *data, size_t size)
{
	size_t nr_uffds = 0, at = 0;
	int conn = call(), second = -1;

	for (int nr = 0; at < size && nr < MAX_STEPS; nr++) {
		unsigned step = data[at++];
		size_t n = (step >> 3 & 3) + 1, nr_fds;
		int fds[10];

		if (step >> 6 == 3) {
			close(conn);
			conn = call();
		} else if (step >> 6 == 2) {
			if (second >= 0)
				close(second);
			second = call();
		} else {
			n = n < size - at ? n : size - at;
			nr_fds = attach(step & 7, fds, &nr_uffds);
			if (n && conn >= 0)
				send_fds(conn, data + at, n, fds, nr_fds);
			at += n;
			while (nr_fds)
				close(fds[--nr_fds]);
		}
		if (step & 32 && !turn(h, 0))
			break;
	}
	if (second >= 0)
		close(second);
	if (conn >= 0)
		close(conn);
}

/* Until it has an opinion; one that nobody talks to keeps listening. */
static void finish(struct helper *h)
{
	for (int idle = 0; idle < 3; idle++) {
		while (turn(h, 0) &&
		       handoff_state(h->handoff, &(struct err){0}) != HANDOFF_LISTENING)
			;
		turn(h, 200 * NSEC_PER_USEC);
	}
}

static void check(struct helper *h)
{
	struct engine_stats stats;
	struct err err = {0};

	pool_stats(h->pool, &stats);
	MUST(stats.pages_lost == 0 && stats.sessions <= NR_TASKS);
	if (handoff_state(h->handoff, &err) == HANDOFF_DONE) {
		for (size_t i = 0; i < h->plan.nr; i++)
			MUST(h->plan.processes[i].claimed);
		MUST(stats.pages_missing == 0);
	}
}

/* What the engine put there, and nothing else. */
static void check_memory(void)
{
	for (size_t n = 0; n < NR_TASKS; n++) {
		uint8_t *mem = memory(n);

		for (size_t i = 0; i < NR_PAGES * PAGE_SIZE; i += 512)
			MUST(mem[i] == n + 1 || mem[i] == 0);
		madvise(mem, NR_PAGES * PAGE_SIZE, MADV_DONTNEED);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct engine_options options = {.low_latency = LOW_LATENCY_OFF};
	const struct plan_options plain = {0};
	struct helper h = {0};
	struct err err = {0};
	int before;

	if (listener < 0)
		prepare();
	before = lowest_free(listener);
	h.sock = (struct unixsock){.fd = listener, .lock_fd = -1, .path = "fuzz"};
	if (plan_read(fuzz_dir, &plain, &h.plan, &err) < 0 ||
	    pool_new(&options, 1, NULL, NULL, &h.pool, &err) < 0 ||
	    handoff_new(h.pool, &h.plan, &h.sock, NULL, &h.handoff, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	steps(&h, data, size);
	finish(&h);
	check(&h);
	pool_free(h.pool);
	handoff_free(h.handoff);
	plan_release(&h.plan);
	drain_backlog();
	MUST(lowest_free(listener) == before);
	check_memory();
	return 0;
}
