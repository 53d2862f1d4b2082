/* SPDX-License-Identifier: GPL-2.0-or-later */
/* image.c - reading image files into memory and walking their records. */
#include "images/image.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <protobuf-c/protobuf-c.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIND_ROW(id, name, magic, frame) [IMAGE_##id] = {name, UINT32_C(magic), frame},
static const struct image_kind kinds[] = {IMAGE_KINDS(KIND_ROW)};
#undef KIND_ROW

const struct image_kind *image_kind(enum image_type type)
{
	return &kinds[type];
}

/*
 * The whole of fd.  st_size is only a first guess: the file may grow or shrink while we read.  One
 * byte more than the guess is asked for, so that the usual case sees the end without growing.
 */
static int read_all(int fd, size_t guess, const char *name, uint8_t **ret, size_t *ret_size,
                    struct err *err)
{
	size_t room = guess + 1, used = 0;
	cleanup_free uint8_t *data = malloc(room);

	if (!data)
		return err_set(err, ENOMEM, "%s: %zu bytes", name, room);
	for (;;) {
		ssize_t got = read(fd, data + used, room - used);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_set(err, errno, "read %s", name);
		if (got == 0)
			break;
		used += (size_t)got;
		if (used == room) {
			size_t more = room + room / 2 + 4096;
			uint8_t *grown = realloc(data, more);

			if (!grown)
				return err_set(err, ENOMEM, "%s: %zu bytes", name, more);
			data = grown;
			room = more;
		}
	}
	*ret = steal_ptr(&data);
	*ret_size = used;
	return 0;
}

/*
 * Could a file that starts with this word be an image?  What is not is not read to its end:
 * somebody may well name a pages file of many gigabytes here.
 */
static bool plausible(uint32_t word)
{
	if (word == IMAGE_MAGIC_COMMON || word == IMAGE_MAGIC_SERVICE)
		return true;
	for (int i = 0; i < IMAGE_NR_TYPES; i++)
		if (kinds[i].magic == word)
			return true;
	return false;
}

/* O_NONBLOCK: opening a FIFO that stands in the place of an image must not wait for a writer. */
static int load(int dirfd, const char *name, struct image *img, struct err *err)
{
	cleanup_close int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	uint32_t word = 0;
	struct stat st;
	ssize_t got;

	if (fd < 0)
		return err_set(err, errno, "%s", name);
	if (fstat(fd, &st) < 0)
		return err_set(err, errno, "stat %s", name);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "%s: not a regular file", name);
	got = pread(fd, &word, sizeof(word), 0);
	if (got < 0)
		return err_set(err, errno, "read %s", name);
	if (got == sizeof(word) && !plausible(word))
		return image_bad(img, err, "not an image: starts with 0x%08x", word);
	return read_all(fd, (size_t)st.st_size, name, &img->data, &img->size, err);
}

static bool take_u32(struct image *img, uint32_t *ret)
{
	if (img->size - img->pos < sizeof(*ret))
		return false;
	memcpy(ret, img->data + img->pos, sizeof(*ret));
	img->pos += sizeof(*ret);
	return true;
}

/*
 * Read the magic numbers.  The first word is one of the two frame magics, with the type in the
 * second word, or the type itself.
 */
static int take_magics(struct image *img, uint32_t *ret_frame, uint32_t *ret_type, struct err *err)
{
	uint32_t frame, type;

	if (!take_u32(img, &frame))
		return image_bad(img, err, "%zu bytes, too short for an image", img->size);
	if (frame != IMAGE_MAGIC_COMMON && frame != IMAGE_MAGIC_SERVICE) {
		type = frame;
		frame = 0;
	} else if (!take_u32(img, &type)) {
		return image_bad(img, err, "%zu bytes, too short for an image", img->size);
	}
	*ret_frame = frame;
	*ret_type = type;
	return 0;
}

static bool frame_fits(const struct image_kind *kind, uint32_t frame)
{
	switch (kind->frame) {
	case FRAME_SINGLE:
		return frame == 0;
	case FRAME_SERVICE:
		return frame == IMAGE_MAGIC_SERVICE;
	case FRAME_PLAIN:
	case FRAME_RAW:
		return frame == 0 || frame == IMAGE_MAGIC_COMMON;
	}
	return false;
}

static void set_type(struct image *img, enum image_type type, uint32_t frame)
{
	bool plain = kinds[type].frame == FRAME_PLAIN || kinds[type].frame == FRAME_RAW;

	img->type = type;
	img->version = !plain ? 0 : frame ? 2 : 1;
}

static int start(int dirfd, const char *name, struct image *img, uint32_t *ret_frame,
                 uint32_t *ret_type, struct err *err)
{
	int r;

	img->name = strdup(name);
	if (!img->name)
		return err_set(err, ENOMEM, "%s", name);
	r = load(dirfd, name, img, err);
	if (r < 0)
		return r;
	return take_magics(img, ret_frame, ret_type, err);
}

int image_open(int dirfd, const char *name, enum image_type type, struct image *ret,
               struct err *err)
{
	const struct image_kind *kind = &kinds[type];
	struct image img = {0};
	uint32_t frame = 0, magic = 0;
	int r;

	r = start(dirfd, name, &img, &frame, &magic, err);
	if (r < 0)
		goto out;
	if (magic != kind->magic) {
		r = image_bad(&img, err, "not a %s image (magic 0x%08x, not 0x%08x)", kind->name,
		              magic, kind->magic);
		goto out;
	}
	if (!frame_fits(kind, frame)) {
		r = image_bad(&img, err, "an image of type %s cannot start with 0x%08x", kind->name,
		              frame ? frame : magic);
		goto out;
	}
	set_type(&img, type, frame);
	*ret = img;
	return 0;
out:
	image_close(&img);
	return r;
}

int image_open_any(int dirfd, const char *name, struct image *ret, struct err *err)
{
	struct image img = {0};
	uint32_t frame = 0, magic = 0;
	int r;

	r = start(dirfd, name, &img, &frame, &magic, err);
	if (r < 0)
		goto out;
	for (int i = 0; i < IMAGE_NR_TYPES; i++) {
		if (kinds[i].magic != magic || !frame_fits(&kinds[i], frame))
			continue;
		set_type(&img, (enum image_type)i, frame);
		*ret = img;
		return 0;
	}
	r = image_bad(&img, err, "not an image: starts with 0x%08x", frame ? frame : magic);
out:
	image_close(&img);
	return r;
}

int image_next(struct image *img, const void **ret_data, size_t *ret_len, struct err *err)
{
	size_t at = img->pos;
	uint32_t len;

	if (at == img->size)
		return 0;
	img->record++;
	if (!take_u32(img, &len)) {
		return image_bad(img, err, "the file ends at offset %zu in the record's length",
		                 img->size);
	}
	if (img->size - img->pos < len) {
		img->pos = at;
		return image_bad(img, err, "at offset %zu: %u bytes wanted, the file has %zu", at,
		                 len, img->size - at - sizeof(len));
	}
	*ret_data = img->data + img->pos;
	*ret_len = len;
	img->pos += len;
	return 1;
}

int image_next_message(struct image *img, const struct ProtobufCMessageDescriptor *descriptor,
                       struct ProtobufCMessage **ret, struct err *err)
{
	const void *data = NULL;
	size_t len = 0, at = img->pos;
	ProtobufCMessage *msg;
	int r;

	r = image_next(img, &data, &len, err);
	if (r <= 0)
		return r;
	msg = protobuf_c_message_unpack(descriptor, NULL, len, data);
	if (!msg)
		return image_bad(img, err, "at offset %zu: not a valid %s of %zu bytes", at,
		                 descriptor->name, len);
	*ret = msg;
	return 1;
}

int image_bad(const struct image *img, struct err *err, const char *fmt, ...)
{
	char text[ERR_TEXT_SIZE];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (img->record)
		return err_set(err, EPROTO, "%s: record %llu: %s", img->name,
		               (unsigned long long)img->record, text);
	return err_set(err, EPROTO, "%s: %s", img->name, text);
}

void image_close(struct image *img)
{
	free(img->data);
	free(img->name);
	*img = (struct image){0};
}
