/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * uffd.h - what one does with somebody else's userfaultfd.
 *
 * Each call is one system call; what the kernel's errno values mean for a caller is decided here,
 * once (fs/userfaultfd.c and mm/userfaultfd.c as observed on 6.1-6.18).  No call blocks, except
 * that a copy may wait for the source's page to be read from disk.
 */
#ifndef CRIU_LAZY_OS_UFFD_H
#define CRIU_LAZY_OS_UFFD_H

#include "criu-lazy/os/uffd-abi.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum uffd_outcome {
	UFFD_DONE,
	UFFD_CHANGING, /* an mmap-like call is unfinished: read events, ask again (EAGAIN) */
	UFFD_EXISTS, /* the page is there already; whoever waits for it still has to be woken */
	UFFD_NOWHERE, /* not inside one registered mapping (ENOENT); see uffd_registered() */
	UFFD_EXITED, /* the address space is gone (ESRCH; ENOSPC on old kernels) */
	UFFD_NO_SOURCE, /* the source bytes cannot be read (EFAULT) */
	UFFD_NO_MEMORY,
	UFFD_REFUSED, /* anything else; errno tells */
};

const char *uffd_outcome_name(enum uffd_outcome outcome);

/*
 * Copy len bytes (whole pages) to dst and wake who waits there.  *ret_done (always set): bytes that
 * were done before the outcome applied to the rest.  UFFD_DONE: all of them.
 */
enum uffd_outcome uffd_copy(int fd, uint64_t dst, const void *src, uint64_t len,
                            uint64_t *ret_done);

/* Map the zero page at addr and wake. */
enum uffd_outcome uffd_zero(int fd, uint64_t addr);

/* Make the page at addr raise SIGBUS on every touch (Linux 6.6) and wake. */
enum uffd_outcome uffd_poison(int fd, uint64_t addr);

/* Let threads that wait in [addr, addr + len) look again. */
void uffd_wake(int fd, uint64_t addr, uint64_t len);

/* Everybody who waits for anything: they fault again. */
void uffd_wake_all(int fd);

/*
 * Is [addr, addr + len) inside one registered mapping?  UFFD_DONE: yes; UFFD_NOWHERE: no, and that
 * is final, since no change is unfinished; UFFD_CHANGING, UFFD_EXITED.  Changes nothing (it is a
 * UFFDIO_CONTINUE that anonymous memory refuses).
 */
enum uffd_outcome uffd_registered(int fd, uint64_t addr, uint64_t len);

/* Is the address space alive and no change unfinished?  UFFD_DONE, UFFD_CHANGING or UFFD_EXITED. */
enum uffd_outcome uffd_quiet(int fd);

/*
 * Reading does not wait from now on.  A descriptor from a FORK event has the flags that its
 * parent's was created with, whatever was made of that since.
 */
void uffd_no_wait(int fd);

/*
 * Read messages without blocking.  Returns how many; fewer than max means that there were no more.
 * 0: none.  Negative errno: the descriptor is unusable.  Faults come before events that are older
 * than they are.
 */
int uffd_read(int fd, struct uffd_msg *msgs, size_t max);

/*
 * Is this descriptor a userfaultfd that has been set up (UFFDIO_API), and is non-blocking as the
 * protocol demands?  *ret_fixed: it was blocking and has been changed.
 */
bool uffd_is_one(int fd, bool *ret_fixed);

#endif
