/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * identity.h - do two image directories hold the same checkpoint?
 *
 * The identity is XXH3-64 over inventory.img and over pagemap-PID.img of each process of
 * pstree.img, names and lengths included: what both ends of a lazy migration have, also when the
 * pages are on one side only.  Never 0.
 */
#ifndef CRIU_LAZY_IMAGES_IDENTITY_H
#define CRIU_LAZY_IMAGES_IDENTITY_H

#include <stdint.h>

struct err;

int images_identity(int dirfd, uint64_t *ret, struct err *err);

#endif
