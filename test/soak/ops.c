/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The operations.  Each does one thing to a random range of a world and to its model.
 *
 * What the kernel must answer is known, too: an operation that fails, or does not fail, against the
 * expectation fails the round.
 */
#include "test/soak/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* --- touch and write --- */

static void op_read(struct world *w)
{
	struct pick p = pick(w);
	bool down = rnd_below(&w->rng, 3) == 0;
	unsigned int i;

	trace_step(w, "read", &p, NULL);
	for (i = 0; i < p.n; i++)
		check_one(w, p.area, p.from + (down ? p.n - 1 - i : i));
}

static void op_write(struct world *w)
{
	struct pick p = pick(w);
	unsigned int i;

	trace_step(w, "write", &p, NULL);
	for (i = 0; i < p.n && i < 16; i++)
		if (w->id[p.area][p.from + i] != ID_NONE)
			write_one(w, p.area, p.from + i, at(w, p.area, p.from + i));
}

/* One byte first, as a program would: the rest of the page must be the old one. */
static void op_write_byte(struct world *w)
{
	struct pick p = pick(w);
	volatile uint8_t *byte = at(w, p.area, p.from) + rnd_below(&w->rng, PAGE);
	uint8_t was;

	if (w->id[p.area][p.from] == ID_NONE || (w->id[p.area][p.from] & ID_FREED))
		return;
	trace_step(w, "write a byte", &p, NULL);
	was = *byte;
	*byte = (uint8_t)~was;
	*byte = was;
	check_one(w, p.area, p.from);
}

/* The kernel touches: a page goes into a pipe, and one comes out of it into missing memory. */
static void op_pipe(struct world *w)
{
	struct pick p = pick(w), to = pick(w);
	uint8_t bytes[PAGE];
	size_t got = 0;
	ssize_t r;
	int fd[2];

	if (w->id[p.area][p.from] == ID_NONE || w->id[to.area][to.from] == ID_NONE)
		return;
	trace_step(w, "pipe", &p, &to);
	CHECK(pipe2(fd, O_CLOEXEC) == 0);
	CHECK(write(fd[1], at(w, p.area, p.from), PAGE) == (ssize_t)PAGE);
	CHECK(read(fd[0], bytes, PAGE) == (ssize_t)PAGE);
	check_bytes(w, p.area, p.from, bytes);
	write_one(w, to.area, to.from, bytes);
	CHECK(write(fd[1], bytes, PAGE) == (ssize_t)PAGE);
	for (; got < PAGE; got += (size_t)r) {
		r = read(fd[0], at(w, to.area, to.from) + got, PAGE - got);
		CHECK(r > 0);
	}
	close(fd[0]);
	close(fd[1]);
}

/*
 * And one that does it as another process would: a debugger, a monitor.
 *
 * What is read is made dirty at once: process_vm_readv() pins the page, and of a page that a child
 * has, too, Linux (6.18) then makes a clean copy, which MADV_FREE of a later child throws away for
 * the parent as well.  No helper is needed for that (Documentation/LIMITS.md).
 */
static void op_vm(struct world *w)
{
	struct pick p = pick(w);
	volatile uint8_t *there = at(w, p.area, p.from);
	uint8_t bytes[PAGE];
	struct iovec to = {bytes, PAGE}, from = {at(w, p.area, p.from), PAGE};
	ssize_t r;

	trace_step(w, "process_vm", &p, NULL);
	if (w->id[p.area][p.from] == ID_NONE) {
		r = process_vm_readv(getpid(), &to, 1, &from, 1, 0);
		CHECK(r < 0 && errno == EFAULT);
		return;
	}
	if (rnd_below(&w->rng, 2)) {
		write_one(w, p.area, p.from, bytes);
		CHECK(process_vm_writev(getpid(), &to, 1, &from, 1, 0) == (ssize_t)PAGE);
		return;
	}
	CHECK(process_vm_readv(getpid(), &to, 1, &from, 1, 0) == (ssize_t)PAGE);
	check_bytes(w, p.area, p.from, bytes);
	*there = *there;
	check_one(w, p.area, p.from);
}

/* --- discard, unmap, map over --- */

/* madvise() does what it can and says ENOMEM when there was a hole. */
static void advise(struct world *w, const struct pick *p, int advice)
{
	int r = madvise(at(w, p->area, p->from), p->n * PAGE, advice);

	if (all_mapped(w, p))
		CHECK(r == 0);
	else
		CHECK(r < 0 && errno == ENOMEM);
}

static void op_discard(struct world *w)
{
	struct pick p = pick(w);

	trace_step(w, "DONTNEED", &p, NULL);
	advise(w, &p, MADV_DONTNEED);
	set_ids(w, &p, ID_ZERO);
}

static void op_free(struct world *w)
{
	struct pick p = pick(w);
	uint32_t *id;
	unsigned int i;

	trace_step(w, "FREE", &p, NULL);
	advise(w, &p, MADV_FREE);
	for (i = 0; i < p.n; i++) {
		id = &w->id[p.area][p.from + i];
		if (is_content(*id))
			*id |= ID_FREED;
	}
	/* Without need for memory the kernel would keep them all. */
	if (rnd_below(&w->rng, 2))
		madvise(at(w, p.area, p.from), p.n * PAGE, MADV_PAGEOUT);
}

/* Private anonymous memory cannot be punched: nothing may happen to it. */
static void op_remove(struct world *w)
{
	struct pick p = pick(w);

	if (!all_mapped(w, &p))
		return;
	trace_step(w, "REMOVE", &p, NULL);
	CHECK(madvise(at(w, p.area, p.from), p.n * PAGE, MADV_REMOVE) < 0 && errno == EINVAL);
	check_one(w, p.area, p.from);
}

static void op_unmap(struct world *w)
{
	struct pick p = pick(w);

	trace_step(w, "munmap", &p, NULL);
	CHECK(munmap(at(w, p.area, p.from), p.n * PAGE) == 0);
	set_ids(w, &p, ID_NONE);
}

static void op_map_over(struct world *w)
{
	struct pick p = pick(w);
	unsigned int i;

	trace_step(w, "map over", &p, NULL);
	CHECK(mmap(at(w, p.area, p.from), p.n * PAGE, PROT_READ | PROT_WRITE,
	           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at(w, p.area, p.from));
	for (i = 0; i < p.n; i++)
		w->id[p.area][p.from + i] = ID_ZERO;
}

/* --- move, grow, shrink --- */

/*
 * How many of the n pages from p on belong to one mapping.  mremap() of several is refused, or done
 * in part: newer kernels move several if none of them has a userfaultfd.
 */
static unsigned int one_mapping(const uint8_t *p, unsigned int n)
{
	uintptr_t start, end, from = (uintptr_t)p;
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	size_t got = 0;

	CHECK(f);
	while (!got && fgets(line, sizeof(line), f))
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &start, &end) == 2 && from >= start &&
		    from < end)
			got = (end - from) / PAGE;
	fclose(f);
	CHECK(got);
	return got < n ? (unsigned int)got : n;
}

static void copy_ids(struct world *w, const struct pick *from, const struct pick *to,
                     unsigned int n)
{
	memcpy(&w->id[to->area][to->from], &w->id[from->area][from->from], n * sizeof(uint32_t));
}

/* A range of one area onto another area; at times it leaves zeros, grows or shrinks on its way. */
static void op_move(struct world *w)
{
	struct pick p = pick(w), to = pick(w);
	unsigned int n, new_n, how = (unsigned int)rnd_below(&w->rng, 8);
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (how < 2 ? MREMAP_DONTUNMAP : 0);
	uint8_t *src = at(w, p.area, p.from), *dst = at(w, to.area, to.from);

	if (p.area == to.area || w->id[p.area][p.from] == ID_NONE)
		return;
	p.n = one_mapping(src, p.n);
	n = new_n = p.n < to.n ? p.n : to.n;
	if (how == 2)
		new_n = to.n;
	if (how == 3)
		n = p.n;
	p.n = n;
	to.n = new_n;
	trace_step(w, how < 2 ? "DONTUNMAP" : n < new_n ? "move+grow" : "move", &p, &to);
	CHECK(mremap(src, n * PAGE, new_n * PAGE, flags, dst) == dst);
	/* First everything at the new place, then what the old one is now. */
	copy_ids(w, &p, &to, n < new_n ? n : new_n);
	if (new_n > n) {
		to.from += n;
		to.n = new_n - n;
		memset(&w->id[to.area][to.from], 0, to.n * sizeof(uint32_t));
	}
	set_ids(w, &p, how < 2 ? ID_ZERO : ID_NONE);
}

/* The whole area goes to another place, which another thread may just have left. */
static void op_relocate(struct world *w)
{
	struct pick p = {.area = (unsigned int)rnd_below(&w->rng, w->areas), .n = w->pages};
	uint8_t *to, *from = w->area[p.area];
	unsigned int i, n;

	if (w->depth)
		return;
	to = place_take();
	if (!to)
		return;
	trace_step(w, "relocate", &p, NULL);
	for (i = 0; i < w->pages; i += n) {
		n = 1;
		if (w->id[p.area][i] == ID_NONE)
			continue;
		n = one_mapping(from + i * PAGE, w->pages - i);
		CHECK(mremap(from + i * PAGE, n * PAGE, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		             to + i * PAGE) == to + i * PAGE);
	}
	w->area[p.area] = to;
	place_give(from);
}

/* Where the area's last mapping ends with room behind it: bigger in place.  Else: smaller. */
static void op_resize(struct world *w)
{
	struct pick p = pick(w);
	unsigned int last = w->pages, more;
	uint8_t *old;

	while (last && w->id[p.area][last - 1] == ID_NONE)
		last--;
	if (last && last < w->pages) {
		more = 1 + (unsigned int)rnd_below(&w->rng, w->pages - last);
		p.from = last;
		p.n = more;
		old = at(w, p.area, last - 1);
		trace_step(w, "grow", &p, NULL);
		CHECK(mremap(old, PAGE, (1 + more) * PAGE, 0) == old);
		memset(&w->id[p.area][p.from], 0, more * sizeof(uint32_t));
		return;
	}
	if (w->id[p.area][p.from] == ID_NONE)
		return;
	p.n = one_mapping(at(w, p.area, p.from), p.n);
	if (p.n < 2)
		return;
	trace_step(w, "shrink", &p, NULL);
	old = at(w, p.area, p.from);
	CHECK(mremap(old, p.n * PAGE, PAGE, 0) == old);
	p.from++;
	p.n--;
	set_ids(w, &p, ID_NONE);
}

/* --- flags --- */

static void op_advise(struct world *w)
{
	static const int advice[] = {
		MADV_NOHUGEPAGE, MADV_HUGEPAGE,      MADV_RANDOM,         MADV_NORMAL,
		MADV_DONTDUMP,   MADV_DODUMP,        MADV_WILLNEED,       MADV_COLD,
		MADV_PAGEOUT,    MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_COLLAPSE,
	};
	struct pick p = pick(w);

	trace_step(w, "madvise", &p, NULL);
	/* Whether the kernel wants to does not matter, the content does. */
	madvise(at(w, p.area, p.from), p.n * PAGE,
	        advice[rnd_below(&w->rng, sizeof(advice) / sizeof(advice[0]))]);
}

static void op_protect(struct world *w)
{
	struct pick p = pick(w);
	bool none = rnd_below(&w->rng, 2);

	if (!all_mapped(w, &p))
		return;
	trace_step(w, "mprotect", &p, NULL);
	CHECK(mprotect(at(w, p.area, p.from), p.n * PAGE, none ? PROT_NONE : PROT_READ) == 0);
	if (none)
		soak_sleep_us(rnd_below(&w->rng, 500));
	else
		check_one(w, p.area, p.from);
	CHECK(mprotect(at(w, p.area, p.from), p.n * PAGE, PROT_READ | PROT_WRITE) == 0);
}

static void op_lock(struct world *w)
{
	struct pick p = pick(w);
	size_t how = rnd_below(&w->rng, 4);
	uint8_t *addr = at(w, p.area, p.from);

	if (!all_mapped(w, &p))
		return;
	trace_step(w, how ? "mlock" : "mlock+DONTNEED", &p, NULL);
	if (how == 1)
		CHECK(mlock2(addr, p.n * PAGE, MLOCK_ONFAULT) == 0);
	else
		CHECK(mlock(addr, p.n * PAGE) == 0);
	/* Discarding and locking again would need each other's end. */
	if (how == 0 && madvise(addr, p.n * PAGE, MADV_DONTNEED_LOCKED) == 0)
		set_ids(w, &p, ID_ZERO);
	check_one(w, p.area, p.from);
	CHECK(munlock(addr, p.n * PAGE) == 0);
}

/* --- which one --- */

static const struct {
	const char *name;
	void (*fn)(struct world *w);
	unsigned int weight;
} op[] = {
	{"read", op_read, 16},        {"write", op_write, 6},    {"byte", op_write_byte, 4},
	{"pipe", op_pipe, 3},         {"vm", op_vm, 3},          {"dontneed", op_discard, 6},
	{"free", op_free, 4},         {"remove", op_remove, 1},  {"unmap", op_unmap, 3},
	{"map-over", op_map_over, 4}, {"move", op_move, 12},     {"relocate", op_relocate, 4},
	{"resize", op_resize, 4},     {"madvise", op_advise, 4}, {"protect", op_protect, 3},
	{"lock", op_lock, 3},         {"fork", op_fork, 3},      {"vfork", op_spawn, 1},
	{"reap", op_reap, 2},
};

enum { NR_OPS = sizeof(op) / sizeof(op[0]) };

_Static_assert(NR_OPS <= MAX_OPS, "more operations than counters");

const char *op_name(unsigned int i)
{
	return i < NR_OPS ? op[i].name : NULL;
}

void op_random(struct world *w)
{
	unsigned int i, sum = 0;
	size_t die;

	for (i = 0; i < NR_OPS; i++)
		sum += op[i].weight;
	die = rnd_below(&w->rng, sum);
	for (i = 0; die >= op[i].weight; i++)
		die -= op[i].weight;
	if (w->shared->without & (UINT32_C(1) << i))
		return;
	op[i].fn(w);
	w->shared->ops[i]++;
	w->shared->progress++;
}
