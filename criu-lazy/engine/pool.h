/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pool.h - engines in threads (--jobs): each address space belongs to one of them for its life.
 *
 * The first engine runs in the caller's thread, which also watches the lazy-pages socket; the
 * others have threads of their own and are given work through a small inbox.  One job is the normal
 * case and has no threads.
 */
#ifndef CRIU_LAZY_ENGINE_POOL_H
#define CRIU_LAZY_ENGINE_POOL_H

#include "criu-lazy/engine/engine.h"

struct pool;

enum { POOL_MAX_JOBS = 64 };

/*
 * journals: one for each job (that of the options is not looked at), NULL: none.  resume: go on
 * with what they tell, see engine_resume(); NULL: they are new.
 */
int pool_new(const struct engine_options *options, unsigned jobs, struct journal *const *journals,
             const struct engine_resume *resume, struct pool **ret, struct err *err);

/* Ends the threads.  Sessions that are left are closed, see engine_free(). */
void pool_free(struct pool *pool);

/* The caller's own engine. */
struct engine *pool_first(struct pool *pool);

/* As of engine.h; to the engine with the fewest sessions. */
int pool_adopt(struct pool *pool, const struct engine_process *process, struct err *err);
void pool_begin_background(struct pool *pool);
void pool_hurry(struct pool *pool);
void pool_abandon(struct pool *pool);

/* Start the threads: when it is known whose every descriptor is. */
int pool_start(struct pool *pool, struct err *err);

/* As engine_descriptors(), of all; before pool_start() only. */
int pool_descriptors(const struct pool *pool, int (*add)(void *cookie, int fd), void *cookie);

/* As engine_expect(). */
bool pool_expect(struct pool *pool, const struct tracker *tracker, struct source *source);
size_t pool_nr_sessions(struct pool *pool);
void pool_stats(struct pool *pool, struct engine_stats *ret);

/* One turn of the first engine.  Reports a failure of any of the others, too. */
int pool_turn(struct pool *pool, int64_t until, struct err *err);

#endif
