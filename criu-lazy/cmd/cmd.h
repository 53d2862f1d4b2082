/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cmd.h - the subcommands.
 *
 * Each is called with its own name in argv[0] and its arguments after it, parses them, does its
 * work, has said what went wrong on stderr or in the log, and returns the exit status.
 */
#ifndef CRIU_LAZY_CMD_CMD_H
#define CRIU_LAZY_CMD_CMD_H

int cmd_lazy_pages(int argc, char **argv);
int cmd_page_server(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_check(int argc, char **argv);

#endif
