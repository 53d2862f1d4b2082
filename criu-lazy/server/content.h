/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * content.h - what a serving server has: the memory of every process of an image directory, opened
 * once for all clients.  Never written after content_open(), so any number of threads may look.
 */
#ifndef CRIU_LAZY_SERVER_CONTENT_H
#define CRIU_LAZY_SERVER_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct content;
struct err;
struct pages;
struct pages_piece;

/*
 * Errors: no process tree, images of a newer kind (unless trust_newer), a process whose pages
 * cannot be opened, lazy pages that have no content here.  A process without a pagemap is a zombie.
 */
int content_open(int dirfd, bool trust_newer, struct content **ret, struct err *err);

size_t content_nr_processes(const struct content *content);
uint64_t content_nr_pages(const struct content *content); /* parents' included */
uint64_t content_identity(const struct content *content); /* images/identity.h */

/*
 * Where the bytes at vaddr are, as far as they lie in one stretch of one file: piece->kind is
 * PAGES_HERE.  -ENOENT: no such process, or it has no such page; -EPROTO: the images contradict
 * each other, or the file was changed since it was opened.
 */
int content_find(const struct content *content, uint64_t pid, uint64_t vaddr, uint64_t nr_pages,
                 struct pages_piece *ret, struct err *err);

/*
 * Read up to nr_pages whole pages at vaddr into buf, from as many pieces as needed.  Returns how
 * many (> 0), or an error as above about the first; -EIO: it cannot be read.  What is returned is
 * what the file held when it was opened: it is looked at again after reading.
 */
int64_t content_read(const struct content *content, uint64_t pid, uint64_t vaddr, uint64_t nr_pages,
                     void *buf, struct err *err);

/* NULL is fine. */
void content_close(struct content *content);

#endif
