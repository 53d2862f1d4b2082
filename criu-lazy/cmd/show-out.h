/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * show-out.h - one description of what is shown, printed as text or as JSON.
 *
 *	out_object(&out, NULL);
 *	out_str(&out, "file", name);
 *	out_list(&out, "runs");
 *	out_row(&out, 0); out_hex(&out, "vaddr", addr); ... out_end(&out);
 *	out_end(&out);
 *	out_end(&out);
 *
 * JSON: objects and arrays of those names; a row is an object on one line; addresses and bit masks
 * are strings ("0x7f..."), since a JSON number does not hold 64 bits in every reader.  Text: a line
 * "name: value" each, indented; a row is one line "name=value  name=value".
 */
#ifndef CRIU_LAZY_CMD_SHOW_OUT_H
#define CRIU_LAZY_CMD_SHOW_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { OUT_MAX_DEPTH = 8 };

struct out {
	FILE *file;
	bool json;
	int depth;
	struct {
		char close; /* '}' or ']' */
		bool row; /* all on one line */
		bool some; /* something was printed in it */
	} open[OUT_MAX_DEPTH];
};

/* name NULL: an element of a list, or the outermost. */
void out_object(struct out *out, const char *name);
void out_list(struct out *out, const char *name);
void out_row(struct out *out, unsigned int deeper); /* steps to the right, in text */
void out_end(struct out *out); /* closes the innermost of those three */

void out_u64(struct out *out, const char *name, uint64_t value);
void out_i64(struct out *out, const char *name, int64_t value);
void out_hex(struct out *out, const char *name, uint64_t value);
void out_bool(struct out *out, const char *name, bool value);
void out_str(struct out *out, const char *name, const char *value); /* bytes; escaped as needed */

/* A count of pages: JSON says the count, text says it with the MiB. */
void out_pages(struct out *out, const char *name, uint64_t nr_pages);

/* These bytes in hex. */
void out_bytes(struct out *out, const char *name, const void *data, size_t len);

/* Bits by name, "private|anonymous", unknown ones in hex at the end. */
struct out_bit {
	uint64_t bit;
	const char *name;
};
void out_bits(struct out *out, const char *name, uint64_t value, const struct out_bit *bits,
              size_t nr);

#endif
