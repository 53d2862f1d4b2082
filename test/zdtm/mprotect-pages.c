/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FAULT; criu-helper=P-2: a boundary inside a chunk is ENOENT for ever */
/*
 * mprotect() of single pages inside a large lazy area, to read-only, to nothing and back: the area
 * is cut into many mappings although no event says so.
 */
#include "test/zdtm/zdtm.h"

#include <setjmp.h>
#include <signal.h>

#define PAGES 65536

static sigjmp_buf env;

static void on_segv(int sig)
{
	(void)sig;
	siglongjmp(env, 1);
}

/* Whether touching p raises SIGSEGV. */
static bool faults(volatile uint64_t *p, bool write)
{
	if (sigsetjmp(env, 1))
		return true;
	if (write)
		*p = 1;
	else
		(void)*p;
	return false;
}

int main(int argc, char **argv)
{
	struct area a;
	size_t i;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	CHECK(signal(SIGSEGV, on_segv) != SIG_ERR);
	test_daemon();
	test_waitsig();

	/* From the end, which the background reaches last. */
	for (i = PAGES - 5; i > 512; i -= 512) {
		CHECK(mprotect(area_page(&a, i), PAGE, PROT_READ) == 0);
		CHECK(mprotect(area_page(&a, i - 64), PAGE, PROT_NONE) == 0);
	}
	area_wait(&a, 0, PAGES);
	for (i = PAGES - 5; i > 512; i -= 512) {
		CHECK(faults((uint64_t *)area_page(&a, i), true));
		CHECK(faults((uint64_t *)area_page(&a, i - 64), false));
		check_page(area_page(&a, i), 1, i);
		check_page(area_page(&a, i - 63), 1, i - 63);
		if (i % 1024 == 0)
			CHECK(mprotect(area_page(&a, i - 64), PAGE, PROT_READ | PROT_WRITE) == 0);
	}
	CHECK(mprotect(a.p, PAGES * PAGE, PROT_READ) == 0);
	area_check_all(&a);
	CHECK(mprotect(a.p, PAGES * PAGE, PROT_READ | PROT_WRITE) == 0);
	for (i = 0; i < PAGES; i++)
		fill_page(area_page(&a, i), 2, i);
	pass();
}
