/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small in-memory store for the demo, where redis-server is not installed.
 *
 *	store SOCKET serve MIB		fills MIB of memory, listens at SOCKET, answers
 *	store SOCKET get N		what is at place N (8 bytes each), in hex
 *	store SOCKET digest		a hash over all of it
 *	store SOCKET count		how many places there are
 *
 * A question is one line, an answer is one line, a connection carries one question.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct store {
	uint64_t *words;
	uint64_t nr;
};

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static void fill(struct store *s)
{
	for (uint64_t i = 0; i < s->nr; i++)
		s->words[i] = mix(i + 1);
}

static uint64_t digest(const struct store *s)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < s->nr; i++)
		sum = (sum << 5 | sum >> 59) ^ (s->words[i] * 0x9e3779b97f4a7c15);
	return sum;
}

static void answer(const struct store *s, const char *question, char *text, size_t size)
{
	uint64_t n;

	if (!strcmp(question, "digest"))
		snprintf(text, size, "%016" PRIx64 "\n", digest(s));
	else if (!strcmp(question, "count"))
		snprintf(text, size, "%" PRIu64 "\n", s->nr);
	else if (sscanf(question, "get %" SCNu64, &n) == 1 && n < s->nr)
		snprintf(text, size, "%016" PRIx64 "\n", s->words[n]);
	else
		snprintf(text, size, "?\n");
}

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static int serve(int fd, const struct sockaddr_un *addr, const char *mib)
{
	struct store s = {.nr = strtoull(mib, NULL, 10) << 17};
	char question[64], text[64];
	ssize_t got;
	int conn;

	s.words = mmap(NULL, s.nr * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s.words == MAP_FAILED)
		return fail("mmap");
	fill(&s);
	signal(SIGPIPE, SIG_IGN);
	if (bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 || listen(fd, 10) < 0)
		return fail(addr->sun_path);
	while ((conn = accept(fd, NULL, NULL)) >= 0) {
		got = read(conn, question, sizeof(question) - 1);
		question[got > 0 ? got : 0] = '\0';
		question[strcspn(question, "\n")] = '\0';
		answer(&s, question, text, sizeof(text));
		if (write(conn, text, strlen(text)) < 0)
			perror("write");
		close(conn);
	}
	return fail("accept");
}

static int ask(int fd, const struct sockaddr_un *addr, const char *verb, const char *arg)
{
	char text[64];
	ssize_t got;

	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0)
		return fail(addr->sun_path);
	if (dprintf(fd, "%s%s%s\n", verb, *arg ? " " : "", arg) < 0)
		return fail("write");
	got = read(fd, text, sizeof(text));
	if (got <= 0)
		return fail("no answer");
	return write(STDOUT_FILENO, text, (size_t)got) == got ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (argc < 3 || strlen(argv[1]) >= sizeof(addr.sun_path)) {
		fprintf(stderr, "usage: store SOCKET serve MIB|get N|digest|count\n");
		return 1;
	}
	if (fd < 0)
		return fail("socket");
	strcpy(addr.sun_path, argv[1]);
	if (!strcmp(argv[2], "serve") && argc == 4)
		return serve(fd, &addr, argv[3]);
	return ask(fd, &addr, argv[2], argc > 3 ? argv[3] : "");
}
