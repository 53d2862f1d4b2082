/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FAULT */
/* A signal handler runs on an alternate stack whose pages are missing, and nests. */
#include "test/zdtm/zdtm.h"

#include <signal.h>

static struct area area, stack;
static volatile int depth;

static void handler(int sig, siginfo_t *info, void *context)
{
	volatile uint8_t local[PAGE * 3];
	size_t at = (size_t)depth++, i;

	(void)info;
	(void)context;
	for (i = 0; i < sizeof(local); i++)
		local[i] = (uint8_t)(at + i);
	CHECK((uint8_t *)&local[0] > stack.p &&
	      (uint8_t *)&local[0] < area_page(&stack, stack.pages));
	check_page(area_page(&area, 10 + at), 1, 10 + at);
	if (at < 8)
		raise(sig);
	for (i = 0; i < sizeof(local); i++)
		CHECK(local[i] == (uint8_t)(at + i));
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_sigaction = handler,
	                       .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
	stack_t ss = {0};

	test_init(argc, argv);
	area = area_new(64, 1);
	stack = area_new(64, 2);
	ss.ss_sp = stack.p;
	ss.ss_size = stack.pages * PAGE;
	CHECK(sigaltstack(&ss, NULL) == 0 && sigaction(SIGUSR1, &sa, NULL) == 0);
	test_daemon();
	test_waitsig();

	raise(SIGUSR1);
	CHECK(depth == 9);
	/* Far below what the handlers used, the old content is still there. */
	area_check(&stack, 0, 8);
	area_check_all(&area);
	pass();
}
