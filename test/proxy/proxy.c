/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A TCP proxy that behaves like a network: it delays, limits, splits, cuts, goes silent, and flips
 * bits.  For tests of what speaks over a network, and for benchmarks at a round trip that loopback
 * does not have.
 *
 *	port 40913		on stdout: where it listens (127.0.0.1)
 *	...			on stderr, with -v: a line for each event
 *	proxy: connections ...	on stderr, at SIGTERM: how often what happened; exit status 0
 *
 * SIGUSR1: cut all connections now.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "test/proxy/proxy.h"

enum { MAX_EVENTS = 64, BACKLOG = 512 };

static bool is_verbose;

uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void tell(const char *fmt, ...)
{
	va_list args;

	if (!is_verbose)
		return;
	fprintf(stderr, "proxy: %.6f ", (double)clock_ns(CLOCK_MONOTONIC) / 1e9);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
}

static void add(const struct proxy *p, int fd, unsigned events, void *what)
{
	struct epoll_event ev = {.events = events, .data.ptr = what};

	if (epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &ev))
		err(1, "epoll_ctl");
}

static int bind_at(struct sockaddr_in *at)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*at);
	const int one = 1;

	if (fd < 0)
		err(1, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)at, sizeof(*at)) ||
	    getsockname(fd, (struct sockaddr *)at, &len))
		err(1, "bind to 127.0.0.1:%u", ntohs(at->sin_port));
	return fd;
}

static void start_listening(struct proxy *p, uint16_t port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
	int chosen;

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	/* Only a port that was asked for by number stays bound while we refuse connections. */
	chosen = bind_at(&at);
	p->listen_fd = bind_at(&at);
	close(chosen);
	if (listen(p->listen_fd, BACKLOG))
		err(1, "listen at 127.0.0.1:%u", ntohs(at.sin_port));
	add(p, p->listen_fd, EPOLLIN | EPOLLET, &p->listen_fd);
	printf("port %u\n", ntohs(at.sin_port));
	fflush(stdout);
}

static void accept_all(struct proxy *p)
{
	int fd;

	while ((fd = accept4(p->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		link_new(p, fd);
}

/* Nobody listens at our port for a while, but it stays ours. */
void proxy_refuse(struct proxy *p)
{
	if (!p->faults.refuse_ns)
		return;
	if (!p->listen_again)
		shutdown(p->listen_fd, SHUT_RD);
	p->listen_again = clock_ns(CLOCK_MONOTONIC) + p->faults.refuse_ns;
	tell("refusing connections");
}

static void listen_again(struct proxy *p)
{
	if (listen(p->listen_fd, BACKLOG))
		err(1, "listen again");
	p->listen_again = 0;
	tell("accepting connections");
}

static void cut_all(struct proxy *p)
{
	struct link *l, *next;

	TAILQ_FOREACH_SAFE(l, &p->links, link, next)
		link_close(l, !p->faults.fin);
	p->cut_all_now = false;
}

static void summary(struct proxy *p)
{
	const struct totals *t = &p->totals;
	struct rusage u;

	p->faults.cut_all = false;
	cut_all(p);
	getrusage(RUSAGE_SELF, &u);
	fprintf(stderr,
	        "proxy: connections %llu, up %llu, down %llu, cuts %llu, handshakes %llu, "
	        "holes %llu, flips %llu, refused %llu, cpu_ms %.1f\n",
	        (unsigned long long)t->connections, (unsigned long long)t->up,
	        (unsigned long long)t->down, (unsigned long long)t->cuts,
	        (unsigned long long)t->handshakes, (unsigned long long)t->holes,
	        (unsigned long long)p->faults.nr_flips, (unsigned long long)t->refused,
	        (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e3 +
	                (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e3);
}

/* False: it is time to end. */
static bool signalled(struct proxy *p, int fd)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return true;
	if (info.ssi_signo != SIGUSR1)
		return false;
	tell("told to cut all");
	p->totals.cuts++;
	faults_cut(&p->faults);
	proxy_refuse(p);
	p->cut_all_now = true;
	return true;
}

/*
 * Until something happens or bytes are due.  A sleeping processor wakes tens of microseconds late,
 * so the timer is set that much earlier, and the rest of the time is spent looking.
 */
static int wait_events(const struct proxy *p, struct epoll_event *ev, uint64_t next)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC), ns;
	struct timespec ts;
	int n;

	if (next == NEVER)
		return epoll_wait(p->epoll, ev, MAX_EVENTS, -1);
	ns = next > now + p->set.spin_ns ? next - now - p->set.spin_ns : 0;
	ts = (struct timespec){.tv_sec = (time_t)(ns / 1000000000u),
	                       .tv_nsec = (long)(ns % 1000000000u)};
	n = epoll_pwait2(p->epoll, ev, MAX_EVENTS, &ts, NULL);
	while (!n && clock_ns(CLOCK_MONOTONIC) < next)
		n = epoll_wait(p->epoll, ev, MAX_EVENTS, 0);
	return n;
}

static void run(struct proxy *p, int signal_fd)
{
	struct epoll_event ev[MAX_EVENTS];
	uint64_t next = NEVER, now;
	struct link *l, *following;

	for (;;) {
		int n = wait_events(p, ev, next);

		for (int i = 0; i < n; i++) {
			struct end *e = ev[i].data.ptr;

			if (ev[i].data.ptr == &p->listen_fd) {
				if (!p->listen_again)
					accept_all(p);
			} else if (!ev[i].data.ptr) {
				if (!signalled(p, signal_fd))
					return;
			} else {
				e->can_read |= (ev[i].events & ~(unsigned)EPOLLOUT) != 0;
				e->can_write |= (ev[i].events & ~(unsigned)EPOLLIN) != 0;
			}
		}
		now = clock_ns(CLOCK_MONOTONIC);
		next = NEVER;
		TAILQ_FOREACH_SAFE(l, &p->links, link, following) {
			uint64_t again = link_work(l, now);

			if (again < next)
				next = again;
		}
		if (p->cut_all_now)
			cut_all(p);
		if (p->listen_again && now >= p->listen_again)
			listen_again(p);
		if (p->listen_again && p->listen_again < next)
			next = p->listen_again;
	}
}

/* --- the command line ------------------------------------------------------------------------- */

static void usage(void)
{
	fputs("usage: proxy --to HOST:PORT [OPTION...]\n"
	      "  --port N               listen there (0: the kernel chooses)\n"
	      "  --delay USEC           each way\n"
	      "  --spin USEC            before bytes are due, look instead of sleeping (50)\n"
	      "  --rate BYTES           a second, each way, all connections together\n"
	      "  --split N              send at most N bytes at a time\n"
	      "  --buffer BYTES         on their way, each way of each connection (64M)\n"
	      "  --cut-after N[,N...]   reset the 1st, 2nd... connection after N bytes from the "
	      "server\n"
	      "  --cut-every N          and every other one after N bytes\n"
	      "  --cut-all              a cut resets all connections\n"
	      "  --cut-handshake N      after a cut, reset the next N in their first bytes\n"
	      "  --fin                  orderly ends in place of resets\n"
	      "  --refuse-for MS        after a cut, refuse connections so long\n"
	      "  --black-hole-after N[,N...]  silence after N bytes from the server\n"
	      "  --flip-every N         flip a random bit in each N bytes from the server\n"
	      "  --flip-at N[,N...]     and in these bytes of each connection\n"
	      "  --flip-max N           bits at most\n"
	      "  --seed N               of the random numbers\n"
	      "  -v                     a line for each event\n"
	      "Numbers may end in K, M or G.\n",
	      stderr);
	exit(2);
}

static uint64_t number(const char *text, char **end)
{
	uint64_t n = strtoull(text, end, 10);

	if (*end == text)
		usage();
	switch (**end) {
	case 'G':
		n <<= 10;
		/* fall through */
	case 'M':
		n <<= 10;
		/* fall through */
	case 'K':
		n <<= 10;
		(*end)++;
	}
	return n;
}

static uint64_t single(const char *text)
{
	char *end;
	uint64_t n = number(text, &end);

	if (*end)
		usage();
	return n;
}

static struct offsets list(const char *text)
{
	struct offsets o = {.nr = 0};
	char *end = NULL;

	for (;; text = end + 1) {
		if (o.nr == FAULTS_MAX_LIST)
			errx(2, "at most %d numbers in a list", FAULTS_MAX_LIST);
		o.at[o.nr++] = number(text, &end);
		if (!*end)
			return o;
		if (*end != ',')
			usage();
	}
}

static void resolve(struct settings *s, char *text)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	char *port = strrchr(text, ':');
	struct addrinfo *found;
	int rc;

	if (!port)
		usage();
	*port++ = '\0';
	rc = getaddrinfo(text, port, &hints, &found);
	if (rc)
		errx(1, "%s: %s", text, gai_strerror(rc));
	memcpy(&s->target, found->ai_addr, found->ai_addrlen);
	s->target_len = found->ai_addrlen;
	freeaddrinfo(found);
}

static bool parse(int opt, struct proxy *p, uint16_t *port)
{
	struct faults *f = &p->faults;
	struct settings *s = &p->set;

	switch (opt) {
	case 't':
		resolve(s, optarg);
		break;
	case 'p':
		*port = (uint16_t)single(optarg);
		break;
	case 'd':
		s->delay_ns = single(optarg) * 1000;
		break;
	case 'w':
		s->spin_ns = single(optarg) * 1000;
		break;
	case 'r':
		s->rate = single(optarg);
		break;
	case 's':
		s->split = single(optarg);
		break;
	case 'b':
		s->buffer = single(optarg);
		break;
	case 'c':
		f->cut_after = list(optarg);
		break;
	case 'e':
		f->cut_every = single(optarg);
		break;
	case 'a':
		f->cut_all = true;
		break;
	case 'h':
		f->cut_handshake = (unsigned)single(optarg);
		break;
	case 'f':
		f->fin = true;
		break;
	case 'R':
		f->refuse_ns = single(optarg) * 1000000;
		break;
	case 'o':
		f->hole_after = list(optarg);
		break;
	case 'F':
		f->flip_every = single(optarg);
		break;
	case 'A':
		f->flip_at = list(optarg);
		break;
	case 'M':
		f->flip_max = single(optarg);
		break;
	case 'S':
		f->seed = single(optarg);
		break;
	case 'v':
		is_verbose = true;
		break;
	default:
		return false;
	}
	return true;
}

static const struct option options[] = {
	{"to", required_argument, NULL, 't'},
	{"port", required_argument, NULL, 'p'},
	{"delay", required_argument, NULL, 'd'},
	{"spin", required_argument, NULL, 'w'},
	{"rate", required_argument, NULL, 'r'},
	{"split", required_argument, NULL, 's'},
	{"buffer", required_argument, NULL, 'b'},
	{"cut-after", required_argument, NULL, 'c'},
	{"cut-every", required_argument, NULL, 'e'},
	{"cut-all", no_argument, NULL, 'a'},
	{"cut-handshake", required_argument, NULL, 'h'},
	{"fin", no_argument, NULL, 'f'},
	{"refuse-for", required_argument, NULL, 'R'},
	{"black-hole-after", required_argument, NULL, 'o'},
	{"flip-every", required_argument, NULL, 'F'},
	{"flip-at", required_argument, NULL, 'A'},
	{"flip-max", required_argument, NULL, 'M'},
	{"seed", required_argument, NULL, 'S'},
	{NULL, 0, NULL, 0},
};

int main(int argc, char **argv)
{
	struct proxy p = {
		.set.buffer = 64 << 20, .set.spin_ns = 50000, .faults.flip_max = UINT64_MAX};
	int opt, signal_fd;
	uint16_t port = 0;
	sigset_t signals;

	if (getrandom(&p.faults.seed, sizeof(p.faults.seed), 0) < 0)
		err(1, "getrandom");
	p.faults.seed %= 1000000;
	while ((opt = getopt_long(argc, argv, "v", options, NULL)) != -1)
		if (!parse(opt, &p, &port))
			usage();
	if (!p.set.target_len || optind != argc || !p.set.buffer)
		usage();
	p.faults.random = p.faults.seed;
	TAILQ_INIT(&p.links);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGUSR1);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	p.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (signal_fd < 0 || p.epoll < 0)
		err(1, "epoll, signalfd");
	prctl(PR_SET_TIMERSLACK, 1);
	add(&p, signal_fd, EPOLLIN, NULL);
	if (p.faults.flip_every || p.faults.flip_at.nr)
		fprintf(stderr, "proxy: seed %llu\n", (unsigned long long)p.faults.seed);
	start_listening(&p, port);
	run(&p, signal_fd);
	summary(&p);
	pool_free(&p.pool);
	return 0;
}
