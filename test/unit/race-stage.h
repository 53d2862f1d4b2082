/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * race-stage.h - an engine that serves a program (lazy-program.h), a source that the test plays,
 * and workers that are killed.
 *
 * Nothing happens by itself: the engine takes a turn when the test says so, the source answers when
 * the test says so, and the program's threads do what they are told and are waited for.
 *
 * A worker (live()) is a process as the helper's: it shares the table of descriptors with the test,
 * has its own memory, and dies by SIGKILL where its script ends.  The test itself is the last one.
 */
#ifndef TEST_UNIT_RACE_STAGE_H
#define TEST_UNIT_RACE_STAGE_H

#include "test/unit/lazy-program.h"

#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/engine/engine.h"
#include "criu-lazy/engine/journal.h"
#include "criu-lazy/os/family.h"
#include "criu-lazy/os/fdset.h"
#include "criu-lazy/source/source.h"
#include "criu-lazy/track/tracker.h"

/* For workers, too, where cmocka's assertions would go on with the test's tests. */
#define must(condition)                                                                        \
	do {                                                                                   \
		if (!(condition)) {                                                            \
			fprintf(stderr, "%s:%d: %s: false\n", __FILE__, __LINE__, #condition); \
			abort();                                                               \
		}                                                                              \
	} while (0)

enum { MAX_REQUESTS = 32 };

struct stage {
	struct source source;
	struct program *p;
	struct engine_options options;
	struct engine *engine;
	struct journal *journal;
	struct fdset before; /* a worker: what was open */
	uint8_t *content;
	bool later; /* requests wait until the test answers them */
	struct source_request *request[MAX_REQUESTS];
	unsigned nr_requests, nr_fetches; /* ever */
	void (*on_fetch)(struct stage *s); /* once, before the next fetch is answered */
	char log[64];
};

/* --- a source --------------------------------------------------------------------------------- */

static inline enum source_answer stage_fetch(struct source *source, struct source_request *request,
                                             struct source_bytes *ret, struct err *err)
{
	struct stage *s = (struct stage *)source;
	void (*on_fetch)(struct stage * stage) = s->on_fetch;

	(void)err;
	s->nr_fetches++;
	s->on_fetch = NULL;
	if (on_fetch)
		on_fetch(s);
	if (s->later) {
		must(s->nr_requests < MAX_REQUESTS);
		s->request[s->nr_requests++] = request;
		return SOURCE_LATER;
	}
	*ret = (struct source_bytes){s->content + request->img, request->nr_pages, true};
	return SOURCE_HERE;
}

static inline void stage_cancel(struct source *source, struct source_request *request)
{
	struct stage *s = (struct stage *)source;

	for (unsigned i = 0; i < s->nr_requests; i++)
		if (s->request[i] == request)
			s->request[i] = NULL;
}

static inline void stage_close(struct source *source)
{
	(void)source; /* the test's */
}

static inline void answer(struct stage *s, unsigned nr)
{
	struct source_request *request = s->request[nr];
	struct source_bytes bytes = {s->content + request->img, request->nr_pages, false};

	s->request[nr] = NULL;
	request->done(request, &bytes, NULL);
}

/* --- an engine -------------------------------------------------------------------------------- */

static inline void turn(struct stage *s)
{
	struct err err = {0};

	if (engine_turn(s->engine, clock_now() + NSEC_PER_MSEC, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

#define turn_until(s, condition)     \
	do {                         \
		while (!(condition)) \
			turn(s);     \
	} while (0)

static inline struct engine_stats stats_of(const struct stage *s)
{
	struct engine_stats stats;

	engine_stats(s->engine, &stats);
	return stats;
}

static inline void engine_begin(struct stage *s)
{
	struct engine_process process = {.pid = 1,
	                                 .uffd = s->p->uffd,
	                                 .pidfd = dup(s->p->pidfd), /* the engine closes it */
	                                 .tracker = tracker_new(),
	                                 .source = &s->source};
	struct err err = {0};

	must(process.tracker);
	must(tracker_add(process.tracker, page_at(s->p, 0), 0, PAGES) == 0);
	must(engine_new(&s->options, &s->engine, &err) == 0);
	must(engine_adopt(s->engine, &process, &err) == 0);
}

static inline struct source *stage_source(void *cookie, uint32_t index)
{
	struct stage *s = cookie;

	return index ? NULL : source_share(&s->source);
}

static inline int keep_fd(void *set, int fd)
{
	return fdset_add(set, fd);
}

/* After the death of a worker: its journal, its descriptors.  0, or what engine_resume() said. */
static inline int engine_go_on(struct stage *s)
{
	uint8_t taken[1] = {0};
	const struct engine_resume how = {stage_source, s, taken, 1};
	struct fdset left = {0}, needed = {0};
	struct err err = {0};
	int r;

	memset(s->request, 0, sizeof(s->request));
	s->nr_requests = s->nr_fetches = 0;
	s->later = false;
	s->on_fetch = NULL;
	must(fdset_open(&left, &err) == 0);
	must(engine_new(&s->options, &s->engine, &err) == 0);
	r = engine_resume(s->engine, &how, &err);
	if (r < 0)
		fprintf(stderr, "%s\n", err.text);
	else
		must(engine_descriptors(s->engine, keep_fd, &needed) == 0);
	for (size_t i = 0; r == 0 && i < left.nr; i++)
		if (!fdset_has(&s->before, left.fds[i]) && !fdset_has(&needed, left.fds[i]))
			close(left.fds[i]);
	fdset_release(&left);
	fdset_release(&needed);
	return r;
}

/* A worker that does this, and dies. */
static inline void live(struct stage *s, void (*script)(struct stage *s))
{
	pid_t pid = family_clone();
	int status = 0;

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		script(s);
		kill(getpid(), SIGKILL);
	}
	status = reap(pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

static inline void die(struct stage *s)
{
	(void)s;
	kill(getpid(), SIGKILL);
}

/* --- all of it -------------------------------------------------------------------------------- */

static const struct source_ops stage_cheap = {
	.name = "stage", .fetch = stage_fetch, .cancel = stage_cancel, .close = stage_close};
static const struct source_ops stage_dear = {.name = "stage",
                                             .dear = true,
                                             .fetch = stage_fetch,
                                             .cancel = stage_cancel,
                                             .close = stage_close};

static inline void stage_open(struct stage *s, const struct engine_options *options, bool dear,
                              bool journal)
{
	const struct journal_options j = {
		.name = "race", .limit = 8 << 20, .state_size = sizeof(struct engine_state)};
	struct err err = {0};
	int fd;

	*s = (struct stage){.source = {.ops = dear ? &stage_dear : &stage_cheap, .nr_owners = 100},
	                    .options = *options};
	s->p = program_start(); /* may skip */
	snprintf(s->log, sizeof(s->log), "/tmp/race-test.XXXXXX");
	fd = mkstemp(s->log);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(log_open(s->log, LOG_DEBUG, &err), 0);
	s->content = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(s->content != MAP_FAILED);
	for (size_t i = 0; i < PAGES; i++)
		memset(s->content + i * PAGE_SIZE, content_of(i), PAGE_SIZE);
	if (journal)
		assert_int_equal(journal_new(&j, &s->journal, &err), 0);
	s->options.journal = s->journal;
	assert_int_equal(fdset_open(&s->before, &err), 0);
}

static inline void stage_close_all(struct stage *s)
{
	struct err err = {0};

	engine_free(s->engine);
	journal_free(s->journal);
	program_end(s->p);
	munmap(s->content, LEN);
	fdset_release(&s->before);
	log_open(NULL, LOG_WARN, &err);
	unlink(s->log);
}

/* How often does the log say that? */
static inline unsigned said(const struct stage *s, const char *what)
{
	FILE *f = fopen(s->log, "re");
	char line[1024];
	unsigned nr = 0;

	must(f);
	while (fgets(line, sizeof(line), f))
		nr += strstr(line, what) != NULL;
	fclose(f);
	return nr;
}

#endif
