/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image.h - the frame round every image file of CRIU: magic numbers, then records.
 *
 *	struct image img;
 *	int r = image_open(dirfd, "pagemap-5.img", IMAGE_PAGEMAP, &img, err);
 *	if (r < 0)
 *		return r;
 *	while ((r = image_next(&img, &data, &len, err)) > 0)
 *		...
 *	image_close(&img);
 *
 * On disk (all numbers little-endian, as in memory here):
 *
 *	u32 0x54564319   "this is an image": absent in images of CRIU < 1.6 ("version 1") and in
 *	                 inventory.img of all versions; service files have 0x55105940 instead
 *	u32 type         one for each kind of file, see IMAGE_KINDS
 *	{ u32 length; u8 message[length]; }...    until the end of the file
 *
 * A file is read into memory as a whole at image_open(), so it may be truncated, rewritten or
 * removed afterwards without any effect.  Only regular files are opened (a FIFO of that name is an
 * error and not a wait).  There is no limit on sizes but memory.
 *
 * Errors are one line that starts with the file's name; those about a record go on with
 * ": record N", N counted from 1 in file order (the head of a pagemap is record 1).
 */
#ifndef CRIU_LAZY_IMAGES_IMAGE_H
#define CRIU_LAZY_IMAGES_IMAGE_H

#include <stddef.h>
#include <stdint.h>

struct err;
struct ProtobufCMessage;
struct ProtobufCMessageDescriptor;

/* How a kind of file begins and what its records look like. */
enum image_frame {
	FRAME_PLAIN, /* common magic, type magic, records */
	FRAME_SINGLE, /* type magic, records, in every version */
	FRAME_SERVICE, /* service magic, type magic, records */
	FRAME_RAW, /* as FRAME_PLAIN, but raw bytes follow some records: image_next() must not
	              be used on them without knowing how many */
};

#define IMAGE_MAGIC_COMMON  UINT32_C(0x54564319)
#define IMAGE_MAGIC_SERVICE UINT32_C(0x55105940)

/* X(identifier, name as in "NAME-5.img", type magic, frame) */
#define IMAGE_KINDS(X)                                             \
	X(INVENTORY, "inventory", 0x58313116, FRAME_SINGLE)        \
	X(PSTREE, "pstree", 0x50273030, FRAME_PLAIN)               \
	X(MM, "mm", 0x57492820, FRAME_PLAIN)                       \
	X(PAGEMAP, "pagemap", 0x56084025, FRAME_PLAIN)             \
	X(STATS, "stats", 0x57093306, FRAME_SERVICE)               \
	X(CORE, "core", 0x55053847, FRAME_PLAIN)                   \
	X(IDS, "ids", 0x54432030, FRAME_PLAIN)                     \
	X(FDINFO, "fdinfo", 0x56213732, FRAME_PLAIN)               \
	X(FILES, "files", 0x56303138, FRAME_PLAIN)                 \
	X(REG_FILES, "reg-files", 0x50363636, FRAME_PLAIN)         \
	X(EXT_FILES, "ext-files", 0x59255641, FRAME_PLAIN)         \
	X(NS_FILES, "ns-files", 0x61394011, FRAME_PLAIN)           \
	X(EVENTFD, "eventfd", 0x44523722, FRAME_PLAIN)             \
	X(EVENTPOLL, "eventpoll", 0x45023858, FRAME_PLAIN)         \
	X(EVENTPOLL_TFD, "eventpoll-tfd", 0x44433746, FRAME_PLAIN) \
	X(SIGNALFD, "signalfd", 0x57323820, FRAME_PLAIN)           \
	X(INOTIFY, "inotify", 0x48424431, FRAME_PLAIN)             \
	X(INOTIFY_WD, "inotify-wd", 0x54562009, FRAME_PLAIN)       \
	X(FANOTIFY, "fanotify", 0x55096122, FRAME_PLAIN)           \
	X(FANOTIFY_MARK, "fanotify-mark", 0x56506035, FRAME_PLAIN) \
	X(VMAS, "vmas", 0x54123737, FRAME_PLAIN)                   \
	X(PIPES, "pipes", 0x56513555, FRAME_PLAIN)                 \
	X(PIPES_DATA, "pipes-data", 0x56453709, FRAME_RAW)         \
	X(FIFO, "fifo", 0x58364939, FRAME_PLAIN)                   \
	X(FIFO_DATA, "fifo-data", 0x59333054, FRAME_RAW)           \
	X(SIGACTS, "sigacts", 0x55344201, FRAME_PLAIN)             \
	X(UNIXSK, "unixsk", 0x54373943, FRAME_PLAIN)               \
	X(INETSK, "inetsk", 0x56443851, FRAME_PLAIN)               \
	X(PACKETSK, "packetsk", 0x60454618, FRAME_PLAIN)           \
	X(NETLINKSK, "netlinksk", 0x58005614, FRAME_PLAIN)         \
	X(SK_QUEUES, "sk-queues", 0x56264026, FRAME_RAW)           \
	X(ITIMERS, "itimers", 0x57464056, FRAME_PLAIN)             \
	X(POSIX_TIMERS, "posix-timers", 0x52603957, FRAME_PLAIN)   \
	X(CREDS, "creds", 0x54023547, FRAME_PLAIN)                 \
	X(UTSNS, "utsns", 0x54473203, FRAME_PLAIN)                 \
	X(IPCNS_VAR, "ipcns-var", 0x53115007, FRAME_PLAIN)         \
	X(IPCNS_SHM, "ipcns-shm", 0x46283044, FRAME_PLAIN)         \
	X(IPCNS_MSG, "ipcns-msg", 0x55453737, FRAME_RAW)           \
	X(IPCNS_SEM, "ipcns-sem", 0x59573019, FRAME_RAW)           \
	X(FS, "fs", 0x51403912, FRAME_PLAIN)                       \
	X(REMAP_FPATH, "remap-fpath", 0x59133954, FRAME_PLAIN)     \
	X(GHOST_FILE, "ghost-file", 0x52583605, FRAME_RAW)         \
	X(MEMFD, "memfd", 0x48453499, FRAME_PLAIN)                 \
	X(TCP_STREAM, "tcp-stream", 0x51465506, FRAME_RAW)         \
	X(MOUNTPOINTS, "mountpoints", 0x55563928, FRAME_PLAIN)     \
	X(NETDEV, "netdev", 0x57373951, FRAME_PLAIN)               \
	X(NETNS, "netns", 0x55933752, FRAME_PLAIN)                 \
	X(AUTOFS, "autofs", 0x49353943, FRAME_PLAIN)               \
	X(BINFMT_MISC, "binfmt-misc", 0x67343323, FRAME_PLAIN)     \
	X(TTY, "tty", 0x59433025, FRAME_PLAIN)                     \
	X(TTY_INFO, "tty-info", 0x59453036, FRAME_PLAIN)           \
	X(TTY_DATA, "tty-data", 0x59413026, FRAME_PLAIN)           \
	X(FILELOCKS, "filelocks", 0x54323616, FRAME_PLAIN)         \
	X(RLIMIT, "rlimit", 0x57113925, FRAME_PLAIN)               \
	X(SIGNAL, "signal", 0x59255647, FRAME_PLAIN)               \
	X(TUNFILE, "tunfile", 0x57143751, FRAME_PLAIN)             \
	X(CGROUP, "cgroup", 0x59383330, FRAME_PLAIN)               \
	X(TIMERFD, "timerfd", 0x50493712, FRAME_PLAIN)             \
	X(CPUINFO, "cpuinfo", 0x61404013, FRAME_PLAIN)             \
	X(SECCOMP, "seccomp", 0x64413049, FRAME_PLAIN)             \
	X(USERNS, "userns", 0x55474906, FRAME_PLAIN)               \
	X(TIMENS, "timens", 0x43114433, FRAME_PLAIN)               \
	X(PIDNS, "pidns", 0x61157326, FRAME_PLAIN)                 \
	X(BPFMAP_FILE, "bpfmap-file", 0x57506142, FRAME_PLAIN)     \
	X(BPFMAP_DATA, "bpfmap-data", 0x64324033, FRAME_RAW)       \
	X(APPARMOR, "apparmor", 0x59423047, FRAME_PLAIN)           \
	X(PIDFD, "pidfd", 0x54435556, FRAME_PLAIN)                 \
	X(IRMAP_CACHE, "irmap-cache", 0x57004059, FRAME_SERVICE)

#define IMAGE_ENUM_(id, name, magic, frame) IMAGE_##id,
enum image_type { IMAGE_KINDS(IMAGE_ENUM_) IMAGE_NR_TYPES };
#undef IMAGE_ENUM_

/* What the table says about a type.  Never NULL for a value of the enum below IMAGE_NR_TYPES. */
struct image_kind {
	const char *name;
	uint32_t magic;
	enum image_frame frame;
};

const struct image_kind *image_kind(enum image_type type);

/* An open image file.  The fields are for reading only. */
struct image {
	char *name; /* as given to image_open(), for errors */
	enum image_type type;
	uint32_t version; /* 1: without the common magic, 2: with it; 0 for FRAME_SINGLE/SERVICE */
	uint64_t record; /* number of the record that image_next() returned last, 0 at first */
	uint8_t *data; /* the whole file */
	size_t size;
	size_t pos; /* where the next record begins */
};

/*
 * Open and read the file "name" in the directory dirfd (AT_FDCWD and paths work as in openat) and
 * check that it is an image of this type.
 *
 * Returns 0; -ENOENT when there is no such file (told in *err as any error; a caller for whom
 * that is no error passes a scratch struct err); another negative errno.  On failure *ret is
 * not touched.
 */
int image_open(int dirfd, const char *name, enum image_type type, struct image *ret,
               struct err *err);

/* The same for a file of any known type: ret->type tells which.  -EPROTO: no magic we know. */
int image_open_any(int dirfd, const char *name, struct image *ret, struct err *err);

/*
 * The next record.  Returns 1 and the record's bytes, which live until image_close(); 0 at the
 * end; a negative errno when the file ends inside a record.
 */
int image_next(struct image *img, const void **ret_data, size_t *ret_len, struct err *err);

/*
 * The next record, unpacked as the message that descriptor describes.  Returns 1 and a message to
 * be freed with protobuf_c_message_free_unpacked(msg, NULL); 0 at the end; a negative errno.
 */
int image_next_message(struct image *img, const struct ProtobufCMessageDescriptor *descriptor,
                       struct ProtobufCMessage **ret, struct err *err);

/*
 * Record "NAME: record N: ..." (or "NAME: ..." before the first record) as the error.
 * Returns -EPROTO.
 */
int image_bad(const struct image *img, struct err *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Free what image_open() took.  A zeroed or closed struct is fine. */
void image_close(struct image *img);

#endif
