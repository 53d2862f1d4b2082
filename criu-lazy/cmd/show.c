/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * show.c - criu-lazy show: images as text or JSON.
 *
 * Everything is put together in memory first, so that bad input gives one line on stderr and not
 * half a document on stdout.
 */
#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/cmd/cmd.h"
#include "criu-lazy/cmd/show-image.h"
#include "criu-lazy/cmd/show-out.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char help[] =
	"usage: criu-lazy show [--json] DIR|FILE...\n"
	"\n"
	"Show checkpoint images.\n"
	"\n"
	"  DIR     an image directory: the process tree, and for each process its threads,\n"
	"          mappings and pages\n"
	"  FILE    an image file.  inventory, pstree, mm, pagemap, pagemap-shmem, stats-dump and\n"
	"          stats-restore are decoded; of others the type, the number of records and the\n"
	"          records in hex (at most 4096 bytes each) are shown\n"
	"\n"
	"  -j, --json    as JSON: one object, or a list when several are named\n"
	"  -h, --help    this text\n"
	"\n"
	"Words about pages: lazy ones may be brought after the restore; present ones have their\n"
	"content in these images; parent ones have it in the images behind the link 'parent'; "
	"absent\n"
	"ones are lazy and have it elsewhere (a page server).\n"
	"\n"
	"The exit status is 0, or 1 when something cannot be read or is not a valid image.\n";

static int show_one(struct out *out, const char *path, struct err *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_set(err, errno, "%s", path);
	return S_ISDIR(st.st_mode) ? show_dir(out, path, err) : show_file(out, path, err);
}

static int show_all(struct out *out, char **paths, int nr, struct err *err)
{
	int r = 0;

	if (nr > 1)
		out_list(out, NULL);
	for (int i = 0; i < nr && r == 0; i++)
		r = show_one(out, paths[i], err);
	if (nr > 1)
		out_end(out);
	return r;
}

static int show(char **paths, int nr, bool json, struct err *err)
{
	cleanup_free char *text = NULL;
	size_t len = 0;
	FILE *file = open_memstream(&text, &len);
	struct out out = {.file = file, .json = json};
	bool failed;
	int r;

	if (!file)
		return err_set(err, ENOMEM, "show");
	r = show_all(&out, paths, nr, err);
	failed = ferror(file);
	failed |= fclose(file) != 0;
	if (r < 0)
		return r;
	if (failed)
		return err_set(err, ENOMEM, "show");
	if (fwrite(text, 1, len, stdout) != len || fflush(stdout) != 0)
		return err_set(err, errno, "standard output");
	return 0;
}

int cmd_show(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct err err = {0};
	bool json = false;
	int opt;

	while ((opt = getopt_long(argc, argv, "jh", options, NULL)) != -1) {
		switch (opt) {
		case 'j':
			json = true;
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		default:
			return 1; /* getopt has said why */
		}
	}
	if (optind == argc) {
		log_error("show: which directory or file? (--help tells more)");
		return 1;
	}
	if (show(argv + optind, argc - optind, json, &err) < 0) {
		log_error("%s", err.text);
		return 1;
	}
	return 0;
}
