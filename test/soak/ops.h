/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ops.h - between the model (world.c), what is done to it (ops.c) and children (kids.c). */
#ifndef TEST_SOAK_OPS_H
#define TEST_SOAK_OPS_H

#include "test/soak/soak.h"

/* A range of an area: mostly short, sometimes all of it. */
struct pick {
	unsigned int area, from, n;
};

struct pick pick(struct world *w);

static inline uint8_t *at(const struct world *w, unsigned int area, unsigned int page)
{
	return w->area[area] + page * PAGE;
}

static inline bool is_content(uint32_t id)
{
	return id != ID_ZERO && id != ID_NONE;
}

/* Begins a step: it is what the report shows if it never ends.  to may be NULL. */
void trace_step(struct world *w, const char *op, const struct pick *p, const struct pick *to);

/* Fails the round unless the page holds what it must. */
void check_one(struct world *w, unsigned int area, unsigned int page);
void check_world(struct world *w);
/* The same for bytes that came from there by way of the kernel. */
void check_bytes(struct world *w, unsigned int area, unsigned int page, const void *bytes);
/* A new content for a page: its id is set, its bytes are written to where. */
void write_one(struct world *w, unsigned int area, unsigned int page, void *where);

bool all_mapped(const struct world *w, const struct pick *p);
void set_ids(struct world *w, const struct pick *p, uint32_t id);

/* One random step; in a child no places are changed. */
void op_random(struct world *w);

/* Children: kids.c. */
void op_fork(struct world *w);
void op_spawn(struct world *w);
void op_reap(struct world *w);
void reap_all(struct world *w);

/* The task's spare places: world.c. */
uint8_t *place_take(void);
void place_give(uint8_t *place);

#endif
