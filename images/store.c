/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * store.c - see store.h.
 *
 * The life of a file:
 *
 *	STORE_PLACE/pages-N.img    --fsync--+-- rename ---> pages-N.img     never over another one
 *	STORE_PLACE/pagemap-X.img  --fsync--+-- rename ---> pagemap-X.img   over one that was there
 *
 * An object's files are closed when the next one begins, with write-back started, so that the fsync
 * at the end finds most on disk and no number of objects runs out of descriptors.
 */
#include "images/store.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/page.h"
#include "images/pagemap.h"
#include "images/pages.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OBJECT_NAME = 24 };

struct store {
	int dirfd; /* the images directory */
	int place; /* STORE_PLACE in it, locked */
	pthread_mutex_t mutex;
	bool busy; /* a set is open; under mutex */
	uint32_t next_id; /* of a pages file; belongs to the set */
};

struct object {
	char name[OBJECT_NAME];
	uint32_t pages_id;
	bool has_pages; /* moved up: nothing; for undoing */
	bool has_map;
};

struct store_set {
	struct store *store;
	enum pages_count count;
	struct object *objects; /* the last one is being written while writer is there */
	size_t nr, room;
	struct pages_writer *writer;
	struct pagemap parent; /* of the object being written; empty: it has none */
	uint64_t next; /* lowest address that may come */
	uint64_t missing; /* bytes of the last entry that have not come yet */
	struct store_count counted;
};

static void map_name(const char *object, char name[64])
{
	snprintf(name, 64, "pagemap-%s.img", object);
}

static void pages_name(uint32_t id, char name[64])
{
	snprintf(name, 64, "pages-%u.img", id);
}

/* --- the place -------------------------------------------------------------------------------- */

static int sync_dir(int dirfd, struct err *err)
{
	cleanup_close int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return err_set(err, errno, "fsync of the images directory");
	return 0;
}

/* Remove all files there; they are a set's that was never completed. */
static int empty_place(int place, size_t *ret_nr, struct err *err)
{
	int fd = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int r = 0;

	if (!dir) {
		r = err_set(err, errno, "read %s", STORE_PLACE);
		cleanup_close_fd(&fd);
		return r;
	}
	*ret_nr = 0;
	while (r == 0 && (entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (unlinkat(place, entry->d_name, 0) < 0)
			r = err_set(err, errno, "remove %s/%s, left by an earlier run", STORE_PLACE,
			            entry->d_name);
		else
			++*ret_nr;
	}
	closedir(dir);
	return r;
}

/*
 * The lock belongs to the directory itself; its owner removes it when it is done, so what was
 * locked must still be what the name stands for.
 */
static int lock_place(int dirfd, int *ret, struct err *err)
{
	cleanup_close int fd = -1;
	struct stat ours, named;

	if (mkdirat(dirfd, STORE_PLACE, 0700) < 0 && errno != EEXIST)
		return err_set(err, errno, "create %s in the images directory", STORE_PLACE);
	fd = openat(dirfd, STORE_PLACE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return err_set(err, errno, "open %s in the images directory", STORE_PLACE);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return err_set(err, EBUSY,
			               "another page server stores into this directory (%s is "
			               "locked)",
			               STORE_PLACE);
		return err_set(err, errno, "lock %s", STORE_PLACE);
	}
	if (fstat(fd, &ours) < 0 || fstatat(dirfd, STORE_PLACE, &named, AT_SYMLINK_NOFOLLOW) < 0 ||
	    ours.st_ino != named.st_ino || ours.st_dev != named.st_dev)
		return 0;
	*ret = steal_fd(&fd);
	return 1;
}

static int open_place(int dirfd, int *ret, struct err *err)
{
	int tries, r = 0;

	for (tries = 0; tries < 100 && r == 0; tries++)
		r = lock_place(dirfd, ret, err);
	return r == 0 ? err_set(err, EBUSY, "%s comes and goes", STORE_PLACE) : r;
}

int store_open(int dirfd, struct store **ret, size_t *ret_leftovers, struct err *err)
{
	struct store *store = calloc(1, sizeof(*store));
	int r;

	if (!store)
		return err_set(err, ENOMEM, "store");
	*store = (struct store){.place = -1, .next_id = STORE_FIRST_ID};
	pthread_mutex_init(&store->mutex, NULL);
	store->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
	r = store->dirfd < 0 ? err_set(err, errno, "images directory")
	                     : open_place(dirfd, &store->place, err);
	if (r >= 0)
		r = empty_place(store->place, ret_leftovers, err);
	if (r < 0) {
		store_close(store);
		return r;
	}
	*ret = store;
	return 0;
}

void store_close(struct store *store)
{
	if (!store)
		return;
	if (store->place >= 0)
		unlinkat(store->dirfd, STORE_PLACE, AT_REMOVEDIR);
	cleanup_close_fd(&store->place);
	cleanup_close_fd(&store->dirfd);
	pthread_mutex_destroy(&store->mutex);
	free(store);
}

/* --- the parent ------------------------------------------------------------------------------- */

/* Returns 1 and the object's pagemap in the parent image; 0: there is none. */
static int read_parent(struct store *store, const char *object, struct pagemap *ret,
                       struct err *err)
{
	cleanup_close int parent = -1;
	struct err quiet = {0};
	char name[64];
	int r = pages_open_parent(store->dirfd, &parent, err);

	if (r <= 0)
		return r;
	map_name(object, name);
	r = pagemap_read_file(parent, name, ret, &quiet);
	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		*err = quiet;
		return err_wrap(err, "parent image");
	}
	return 1;
}

int store_has_parent(struct store *store, const char *object, struct err *err)
{
	struct pagemap map = {0};
	int r = read_parent(store, object, &map, err);

	pagemap_release(&map);
	return r;
}

/* Are all these pages in the parent image, or in a parent of its own? */
static int check_parent(const struct pagemap *map, uint64_t vaddr, uint64_t nr_pages,
                        struct err *err)
{
	uint64_t end = vaddr + (nr_pages << PAGE_SHIFT);
	size_t i = pagemap_lower(map, vaddr);

	for (; vaddr < end; i++) {
		const struct pagemap_run *run = i < map->nr ? &map->runs[i] : NULL;

		if (!run || run->vaddr > vaddr || !(run->flags & (PE_PRESENT | PE_PARENT)))
			return err_set(err, EPROTO,
			               "page 0x%llx is said to be in the parent image, which does "
			               "not have it",
			               (unsigned long long)vaddr);
		vaddr = pagemap_run_end(run);
	}
	return 0;
}

/* --- a set ------------------------------------------------------------------------------------ */

int store_begin(struct store *store, enum pages_count count, struct store_set **ret,
                struct err *err)
{
	struct store_set *set = calloc(1, sizeof(*set));
	bool busy;

	if (!set)
		return err_set(err, ENOMEM, "a set of images");
	pthread_mutex_lock(&store->mutex);
	busy = store->busy;
	store->busy = true;
	pthread_mutex_unlock(&store->mutex);
	if (busy) {
		free(set);
		return err_set(err, EBUSY, "another client is storing into this directory");
	}
	set->store = store;
	set->count = count;
	*ret = set;
	return 0;
}

static int close_object(struct store_set *set, struct err *err)
{
	struct pages_writer *writer = steal_ptr(&set->writer);

	pagemap_release(&set->parent);
	if (set->missing) {
		pages_writer_close(writer, NULL);
		return err_set(err, EPROTO, "%llu bytes of the last pages are missing",
		               (unsigned long long)set->missing);
	}
	return pages_writer_close(writer, err);
}

/* Have it on its way to disk, so that the fsync at the end has less to wait for.  Best effort. */
static void start_writing(struct store_set *set)
{
	cleanup_close int fd = -1;
	char name[64];

	pages_name(set->objects[set->nr - 1].pages_id, name);
	fd = openat(set->store->place, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0)
		sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static int end_object(struct store_set *set, struct err *err)
{
	int r;

	if (!set->writer)
		return 0;
	r = close_object(set, err);
	if (r == 0)
		start_writing(set);
	return r;
}

/* A number that no pages file there has. */
static int choose_id(struct store *store, uint32_t *ret, struct err *err)
{
	char name[64];

	for (; store->next_id >= STORE_FIRST_ID; store->next_id++) {
		pages_name(store->next_id, name);
		if (faccessat(store->dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		if (errno != ENOENT)
			return err_set(err, errno, "%s", name);
		*ret = store->next_id++;
		return 0;
	}
	return err_set(err, EMFILE, "no number is left for a pages file");
}

static struct object *new_object(struct store_set *set)
{
	struct object *grown;

	if (set->nr == set->room) {
		set->room = set->room ? set->room * 2 : 16;
		grown = reallocarray(set->objects, set->room, sizeof(*grown));
		if (!grown)
			return NULL;
		set->objects = grown;
	}
	set->objects[set->nr] = (struct object){0};
	return &set->objects[set->nr++];
}

int store_object(struct store_set *set, const char *object, struct err *err)
{
	struct store *store = set->store;
	struct object *o;
	char name[64];
	uint32_t id = 0;
	int r = end_object(set, err), has_parent;

	if (r < 0)
		return r;
	map_name(object, name);
	if (faccessat(store->place, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return err_set(err, EPROTO, "%s was stored already in this session", name);
	if (set->nr == STORE_MAX_OBJECTS)
		return err_set(err, EPROTO, "more than %d processes and segments",
		               STORE_MAX_OBJECTS);
	has_parent = read_parent(store, object, &set->parent, err);
	if (has_parent < 0)
		return has_parent;
	r = choose_id(store, &id, err);
	if (r < 0)
		return r;
	o = new_object(set);
	if (!o)
		return err_set(err, ENOMEM, "%s", name);
	snprintf(o->name, sizeof(o->name), "%s", object);
	o->pages_id = id;
	r = pages_writer_open_file(store->place, name, id, set->count, &set->writer, err);
	if (r < 0)
		return r;
	set->next = 0;
	set->counted.nr_objects++;
	return has_parent;
}

int store_entry(struct store_set *set, uint64_t vaddr, uint64_t nr_pages, uint32_t flags,
                struct err *err)
{
	int r = 0;

	if (!set->writer)
		return err_set(err, EPROTO, "pages of no process");
	if (set->missing)
		return err_set(err, EPROTO, "%llu bytes of the pages before are missing",
		               (unsigned long long)set->missing);
	if (vaddr < set->next)
		return err_set(err, EPROTO, "page 0x%llx after pages up to 0x%llx",
		               (unsigned long long)vaddr, (unsigned long long)set->next);
	if (flags & PE_PARENT)
		r = check_parent(&set->parent, vaddr, nr_pages, err);
	if (r == 0)
		r = pages_writer_entry(set->writer, vaddr, nr_pages, flags, err);
	if (r < 0)
		return r;
	set->next = vaddr + (nr_pages << PAGE_SHIFT);
	if (flags & PE_PRESENT) {
		set->missing = nr_pages << PAGE_SHIFT;
		set->counted.nr_present += nr_pages;
	} else if (flags & PE_PARENT) {
		set->counted.nr_parent += nr_pages;
	}
	return 0;
}

int store_bytes(struct store_set *set, const void *bytes, uint64_t len, struct err *err)
{
	if (len > set->missing)
		return err_set(err, EPROTO, "%llu bytes too many",
		               (unsigned long long)(len - set->missing));
	set->missing -= len;
	return pages_writer_bytes(set->writer, bytes, len, err);
}

struct store_count store_count(const struct store_set *set)
{
	return set->counted;
}

/* --- its end ---------------------------------------------------------------------------------- */

static int sync_file(int dirfd, const char *name, struct err *err)
{
	cleanup_close int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || fsync(fd) < 0)
		return err_set(err, errno, "write %s", name);
	return 0;
}

static int sync_all(struct store_set *set, struct err *err)
{
	char name[64];
	int r = 0;

	for (size_t i = 0; i < set->nr && r == 0; i++) {
		pages_name(set->objects[i].pages_id, name);
		r = sync_file(set->store->place, name, err);
		map_name(set->objects[i].name, name);
		if (r == 0)
			r = sync_file(set->store->place, name, err);
	}
	return r;
}

static int move_up(struct store *store, const char *name, unsigned flags, struct err *err)
{
	if (renameat2(store->place, name, store->dirfd, name, flags) < 0)
		return err_set(err, errno, "%s: move it to its place", name);
	return 0;
}

static int move_all(struct store_set *set, struct err *err)
{
	char name[64];
	int r;

	for (size_t i = 0; i < set->nr; i++) {
		pages_name(set->objects[i].pages_id, name);
		r = move_up(set->store, name, RENAME_NOREPLACE, err);
		if (r < 0)
			return r;
		set->objects[i].has_pages = true;
	}
	r = sync_dir(set->store->dirfd, err);
	for (size_t i = 0; i < set->nr && r == 0; i++) {
		map_name(set->objects[i].name, name);
		r = move_up(set->store, name, 0, err);
		set->objects[i].has_map = r == 0;
	}
	return r < 0 ? r : sync_dir(set->store->dirfd, err);
}

static void remove_all(struct store_set *set)
{
	char name[64];

	if (set->nr)
		set->store->next_id = set->objects[0].pages_id;
	/* First the pagemaps: none may stand there without its content. */
	for (size_t i = 0; i < set->nr; i++) {
		const struct object *o = &set->objects[i];

		map_name(o->name, name);
		unlinkat(o->has_map ? set->store->dirfd : set->store->place, name, 0);
	}
	for (size_t i = 0; i < set->nr; i++) {
		const struct object *o = &set->objects[i];

		pages_name(o->pages_id, name);
		unlinkat(o->has_pages ? set->store->dirfd : set->store->place, name, 0);
	}
}

static void free_set(struct store_set *set)
{
	struct store *store = set->store;

	pagemap_release(&set->parent);
	free(set->objects);
	free(set);
	pthread_mutex_lock(&store->mutex);
	store->busy = false;
	pthread_mutex_unlock(&store->mutex);
}

int store_commit(struct store_set *set, struct err *err)
{
	int r = end_object(set, err);

	if (r == 0)
		r = sync_all(set, err);
	if (r == 0)
		r = move_all(set, err);
	if (r < 0)
		remove_all(set);
	free_set(set);
	return r;
}

void store_abort(struct store_set *set)
{
	if (!set)
		return;
	pages_writer_close(set->writer, NULL);
	set->writer = NULL;
	remove_all(set);
	free_set(set);
}
