/* SPDX-License-Identifier: GPL-2.0-or-later */
/* show-out.c - text and JSON from the same calls. */
#include "criu-lazy/cmd/show-out.h"

#include <inttypes.h>
#include <string.h>

/* A deep tree must not run off the screen. */
enum { MAX_DEEPER = 30 };

static bool in_row(const struct out *out)
{
	return out->depth > 0 && out->open[out->depth - 1].row;
}

/* Text has no brackets, so what is inside the outermost object stands at the margin. */
static void indent(const struct out *out)
{
	int levels = out->json ? out->depth : out->depth - 1;

	for (int i = 0; i < levels; i++)
		fputs("  ", out->file);
}

static void put_string(const struct out *out, const char *s)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' && out->json)
			fputs("\\\"", out->file);
		else if (c == '\\')
			fputs("\\\\", out->file);
		else if (c < 0x20 || c >= 0x7f)
			fprintf(out->file, out->json ? "\\u%04x" : "\\x%02x", c);
		else
			fputc(c, out->file);
	}
}

/* Everything in front of a value: comma, line break, indentation, name. */
static void begin(struct out *out, const char *name)
{
	bool some = false;

	if (out->depth > 0) {
		some = out->open[out->depth - 1].some;
		out->open[out->depth - 1].some = true;
	}
	if (out->json) {
		if (some)
			fputs(in_row(out) ? ", " : ",", out->file);
		if (out->depth > 0 && !in_row(out))
			fputc('\n', out->file);
		if (!in_row(out))
			indent(out);
		if (name)
			fprintf(out->file, "\"%s\": ", name);
		return;
	}
	if (in_row(out)) {
		fprintf(out->file, "%s%s=", some ? "  " : "", name);
		return;
	}
	indent(out);
	if (name)
		fprintf(out->file, "%s: ", name);
}

/* A value is complete: in text, its line too. */
static void finish(struct out *out)
{
	if (!out->json && !in_row(out))
		fputc('\n', out->file);
}

static void push(struct out *out, char close, bool row)
{
	out->open[out->depth].close = close;
	out->open[out->depth].row = row;
	out->open[out->depth].some = false;
	out->depth++;
}

void out_object(struct out *out, const char *name)
{
	if (out->json) {
		begin(out, name);
		fputc('{', out->file);
	} else if (name) {
		begin(out, name);
		fputc('\n', out->file);
	} else if (out->depth > 0 && out->open[out->depth - 1].some) {
		fputc('\n', out->file);
	} else if (out->depth > 0) {
		out->open[out->depth - 1].some = true;
	}
	push(out, '}', false);
}

void out_list(struct out *out, const char *name)
{
	if (out->json) {
		begin(out, name);
		fputc('[', out->file);
	} else if (name) {
		begin(out, name);
		fputc('\n', out->file);
	}
	push(out, ']', false);
}

void out_row(struct out *out, unsigned int deeper)
{
	if (out->json) {
		begin(out, NULL);
		fputc('{', out->file);
	} else {
		indent(out);
		for (unsigned int i = 0; i < deeper && i < MAX_DEEPER; i++)
			fputs("  ", out->file);
		out->open[out->depth - 1].some = true;
	}
	push(out, '}', true);
}

void out_end(struct out *out)
{
	bool some = out->open[out->depth - 1].some, row = in_row(out);
	char close = out->open[out->depth - 1].close;

	out->depth--;
	if (!out->json) {
		if (row)
			fputc('\n', out->file);
		return;
	}
	if (some && !row) {
		fputc('\n', out->file);
		indent(out);
	}
	fputc(close, out->file);
	if (out->depth == 0)
		fputc('\n', out->file);
}

void out_u64(struct out *out, const char *name, uint64_t value)
{
	begin(out, name);
	fprintf(out->file, "%" PRIu64, value);
	finish(out);
}

void out_i64(struct out *out, const char *name, int64_t value)
{
	begin(out, name);
	fprintf(out->file, "%" PRId64, value);
	finish(out);
}

void out_hex(struct out *out, const char *name, uint64_t value)
{
	begin(out, name);
	fprintf(out->file, out->json ? "\"0x%" PRIx64 "\"" : "0x%" PRIx64, value);
	finish(out);
}

void out_bool(struct out *out, const char *name, bool value)
{
	begin(out, name);
	fputs(value ? "true" : "false", out->file);
	finish(out);
}

void out_str(struct out *out, const char *name, const char *value)
{
	begin(out, name);
	if (out->json)
		fputc('"', out->file);
	put_string(out, value);
	if (out->json)
		fputc('"', out->file);
	finish(out);
}

void out_pages(struct out *out, const char *name, uint64_t nr_pages)
{
	begin(out, name);
	fprintf(out->file, "%" PRIu64, nr_pages);
	if (!out->json)
		fprintf(out->file, " (%.1f MiB)", (double)nr_pages / 256);
	finish(out);
}

void out_bytes(struct out *out, const char *name, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	begin(out, name);
	if (out->json)
		fputc('"', out->file);
	for (size_t i = 0; i < len; i++)
		fprintf(out->file, "%02x", bytes[i]);
	if (out->json)
		fputc('"', out->file);
	finish(out);
}

void out_bits(struct out *out, const char *name, uint64_t value, const struct out_bit *bits,
              size_t nr)
{
	const char *sep = "";

	begin(out, name);
	if (out->json)
		fputc('"', out->file);
	for (size_t i = 0; i < nr; i++) {
		if (!(value & bits[i].bit))
			continue;
		fprintf(out->file, "%s%s", sep, bits[i].name);
		value &= ~bits[i].bit;
		sep = "|";
	}
	if (value)
		fprintf(out->file, "%s0x%" PRIx64, sep, value);
	else if (!*sep)
		fputc('0', out->file);
	if (out->json)
		fputc('"', out->file);
	finish(out);
}
