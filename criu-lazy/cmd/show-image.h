/* SPDX-License-Identifier: GPL-2.0-or-later */
/* show-image.h - one image file or one image directory, put into words. */
#ifndef CRIU_LAZY_CMD_SHOW_IMAGE_H
#define CRIU_LAZY_CMD_SHOW_IMAGE_H

struct err;
struct out;

/*
 * An object that tells what is in the file.  On failure (negative errno) out holds half of it and
 * must be thrown away.
 */
int show_file(struct out *out, const char *path, struct err *err);

/* An object that sums up the images in the directory: the process tree and its memory. */
int show_dir(struct out *out, const char *path, struct err *err);

#endif
