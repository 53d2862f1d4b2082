/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * receive.c - the memory of a dump, from `criu dump --page-server` or `criu pre-dump
 * --page-server`.
 *
 * A session makes one set of images (images/store.h): it appears at CLOSE, before the answer, and
 * whatever else ends the session leaves nothing.
 *
 * A stock dump that fails says CLOSE too (seen with 4.1.1 and 4.2.1), so what it had sent by then
 * appears; the protocol has no word for it.  Such a dump has written no inventory.img, without
 * which nothing can be restored.
 */
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/base/page.h"
#include "criu-lazy/server/conn.h"
#include "criu-lazy/server/server.h"
#include "images/pagemap.h"
#include "images/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 256 << 10 }; /* content is received in such portions */

struct session {
	struct conn *conn;
	struct store_set *set; /* NULL: nothing was opened yet */
	uint64_t object; /* dst_id of the object that is being stored, 0: none */
	uint8_t *chunk;
};

static void object_name(uint64_t dst_id, char name[24], struct ps_object *ret)
{
	ps_object(dst_id, ret, NULL); /* has passed the gate */
	snprintf(name, 24, ret->kind == PS_OBJECT_SHMEM ? "shmem-%u" : "%u", ret->id);
}

/* Returns 1: the parent image has it; 0; negative errno. */
static int open_object(struct session *s, uint64_t dst_id, struct err *err)
{
	struct store *store = s->conn->options->store;
	struct ps_object object;
	char name[24];
	int r;

	if (!s->set) {
		r = store_begin(store, s->conn->layout == PS_24 ? COUNT_OLD : COUNT_NEW, &s->set,
		                err);
		if (r < 0)
			return r;
	}
	object_name(dst_id, name, &object);
	r = store_object(s->set, name, err);
	if (r < 0)
		return err_wrap(err, "pagemap-%s.img", name);
	s->object = dst_id;
	log_info("client %s: pagemap-%s.img%s", s->conn->peer, name,
	         r ? ", with a parent image" : "");
	return r;
}

static int has_parent(struct session *s, uint64_t dst_id, struct err *err)
{
	struct ps_object object;
	char name[24];

	object_name(dst_id, name, &object);
	return store_has_parent(s->conn->options->store, name, err);
}

static int take_content(struct session *s, uint64_t len, struct err *err)
{
	while (len) {
		ssize_t got = input_content(&s->conn->in, s->chunk, min_u64(len, CHUNK), err);
		int r;

		if (got < 0)
			return (int)got;
		r = store_bytes(s->set, s->chunk, (uint64_t)got, err);
		if (r < 0)
			return r;
		len -= (uint64_t)got;
	}
	return 0;
}

static uint32_t entry_flags(const struct ps_header *header)
{
	switch (ps_command(header)) {
	case PS_ADD:
		return PE_PRESENT;
	case PS_HOLE:
		return PE_PARENT;
	default:
		return ps_flags(header); /* the same bits */
	}
}

static int add(struct session *s, const struct ps_header *header, struct err *err)
{
	uint32_t flags = entry_flags(header);
	int r = 0;

	if (!s->set || header->dst_id != s->object) {
		log_warn("client %s: pages of object 0x%llx, which it has not opened",
		         s->conn->peer, (unsigned long long)header->dst_id);
		r = open_object(s, header->dst_id, err);
	}
	if (r >= 0)
		r = store_entry(s->set, header->vaddr, header->nr_pages, flags, err);
	if (r == 0 && (flags & PE_PRESENT))
		r = take_content(s, header->nr_pages << PAGE_SHIFT, err);
	if (r < 0)
		return err_wrap(err, "%llu pages at 0x%llx", (unsigned long long)header->nr_pages,
		                (unsigned long long)header->vaddr);
	s->conn->nr_pages += header->nr_pages;
	return 0;
}

static int finish(struct session *s, struct err *err)
{
	struct store_count count = {0};
	int r = 0;

	if (s->set) {
		count = store_count(s->set);
		r = store_commit(s->set, err);
		s->set = NULL;
	}
	if (r < 0)
		return err_wrap(err, "the images could not be completed");
	log_info(
		"client %s: stored %zu pagemaps, %llu pages, and %llu that are in the parent image",
		s->conn->peer, count.nr_objects, (unsigned long long)count.nr_present,
		(unsigned long long)count.nr_parent);
	conn_goodbye(s->conn);
	return 0;
}

/* 1: go on; 0: the session is over; negative errno. */
static int obey(struct session *s, const struct ps_header *header, struct err *err)
{
	uint8_t byte;
	int32_t word;
	int r;

	switch (ps_command(header)) {
	case PS_OPEN:
		r = open_object(s, header->dst_id, err);
		break;
	case PS_OPEN2:
		r = open_object(s, header->dst_id, err);
		byte = r > 0;
		if (r >= 0)
			r = conn_send(s->conn, &byte, sizeof(byte), err);
		break;
	case PS_PARENT:
		word = r = has_parent(s, header->dst_id, err);
		if (r >= 0)
			r = conn_send(s->conn, &word, sizeof(word), err);
		break;
	case PS_CLOSE:
	case PS_FORCE_CLOSE:
		return finish(s, err);
	default:
		r = add(s, header, err);
		break;
	}
	return r < 0 ? r : 1;
}

static int run(struct session *s, struct err *err)
{
	struct ps_header header;
	bool hello;
	int r;

	while ((r = conn_header(s->conn, &header, &hello, err)) > 0) {
		if (hello)
			return err_set(err, EPROTO,
			               "it asks for pages, and this server only stores them");
		r = obey(s, &header, err);
		if (r <= 0)
			return r;
	}
	if (r == 0)
		r = err_set(err, EPROTO, "it hung up before CLOSE: nothing of it is kept");
	return r;
}

int receive(struct conn *conn, struct err *err)
{
	struct session s = {.conn = conn, .chunk = malloc(CHUNK)};
	int r = s.chunk ? run(&s, err) : err_set(err, ENOMEM, "a session");

	store_abort(s.set);
	free(s.chunk);
	return r;
}
