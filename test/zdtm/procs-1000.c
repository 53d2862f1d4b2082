/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: modes=soon; timeout=120 */
/* A tree of 1000 processes; see procs.h. */
#include "test/zdtm/procs.h"

int main(int argc, char **argv)
{
	procs_main(argc, argv, 1000, 8, 16);
}
