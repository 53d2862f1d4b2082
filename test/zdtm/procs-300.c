/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: modes=soon,off; events=FAULT; timeout=90 */
/* A tree of 300 processes; see procs.h. */
#include "test/zdtm/procs.h"

int main(int argc, char **argv)
{
	procs_main(argc, argv, 300, 64, 256);
}
