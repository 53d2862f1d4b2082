/* SPDX-License-Identifier: GPL-2.0-or-later */
/* page-options.h - the command line of `criu-lazy page-server`: CRIU's, and what we have beyond it.
 */
#ifndef CRIU_LAZY_CMD_PAGE_OPTIONS_H
#define CRIU_LAZY_CMD_PAGE_OPTIONS_H

#include "criu-lazy/cmd/common-options.h"
#include "criu-lazy/cmd/net-options.h"
#include "criu-lazy/cmd/scripts.h"

#include <stdbool.h>

struct err;

struct page_options {
	struct common_options common;
	struct net_options net;
	bool lazy_pages; /* serve; else store */
	bool keep; /* stay after the first client */
	bool once;
	bool trust_newer;
	const char *prev_images_dir; /* NULL: none */
	struct scripts scripts;
};

/* argv[0] is the command's name, page-server or serve.  0, or -EINVAL with the story. */
int page_options_parse(int argc, char **argv, struct page_options *ret, struct err *err);

void page_options_help(void);

#endif
