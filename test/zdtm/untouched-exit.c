/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: modes=soon,off */
/* The program ends at once, and none of its memory was ever needed. */
#include "test/zdtm/zdtm.h"

int main(int argc, char **argv)
{
	test_init(argc, argv);
	ballast(256);
	test_daemon();
	test_waitsig();
	pass();
}
