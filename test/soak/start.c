/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starts what a round consists of; see soak.h for who is who. */
#include "test/soak/round.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { MAX_ARGS = 40, START_MS = 10000 };

struct args {
	char *argv[MAX_ARGS + 1];
	char text[MAX_ARGS][PATH_MAX / 2 + 32];
	size_t nr;
};

static void arg(struct args *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void arg(struct args *a, const char *fmt, ...)
{
	va_list ap;

	if (a->nr == MAX_ARGS)
		abort();
	va_start(ap, fmt);
	vsnprintf(a->text[a->nr], sizeof(a->text[0]), fmt, ap);
	va_end(ap);
	a->argv[a->nr] = a->text[a->nr];
	a->nr++;
}

bool proc_ended(struct proc *p)
{
	if (p->pid && !p->ended && waitpid(p->pid, &p->status, WNOHANG) == p->pid) {
		p->ended = true;
		close(p->pidfd);
	}
	return !p->pid || p->ended;
}

bool proc_end(struct proc *p, int sig)
{
	int64_t until = soak_now() + INT64_C(5000000000);

	if (proc_ended(p))
		return true;
	kill(p->pid, sig);
	while (!proc_ended(p)) {
		if (soak_now() > until) {
			kill(p->pid, SIGKILL);
			while (!proc_ended(p))
				soak_sleep_us(1000);
			return false;
		}
		soak_sleep_us(500);
	}
	return true;
}

/* Starts it and waits for the one byte that says that it listens. */
static bool start_listener(struct round *rd, struct args *a, const char *out, struct proc *ret)
{
	struct pollfd p = {.events = POLLIN};
	int status[2];
	char byte = 1;
	ssize_t n = 0;

	if (pipe2(status, O_CLOEXEC) < 0)
		die("pipe");
	arg(a, "--status-fd");
	arg(a, "%d", SPAWN_STATUS_FD);
	*ret = spawn(a->argv, rd->dir, out, status[1]);
	close(status[1]);
	p.fd = status[0];
	if (poll(&p, 1, START_MS) > 0)
		n = read(status[0], &byte, 1);
	close(status[0]);
	if (n == 1 && byte == 0)
		return true;
	round_fails(rd, "%s %s does not start: see %s/%s", a->argv[0], a->argv[1], rd->dir, out);
	return false;
}

bool start_helper(struct round *rd)
{
	static struct args a;
	const struct settings *s = rd->s;

	memset(&a, 0, sizeof(a));
	arg(&a, "%s", rd->runner->helper);
	arg(&a, "lazy-pages");
	arg(&a, "--no-default-config");
	arg(&a, "--images-dir");
	arg(&a, "%s/%s", rd->dir, s->remote ? "lean" : "img");
	arg(&a, "--work-dir");
	arg(&a, "%s", rd->dir);
	arg(&a, "--log-file");
	arg(&a, "helper.log");
	arg(&a, "-v%d", rd->runner->log_level);
	arg(&a, "--background");
	arg(&a, "%s", s->background);
	if (s->jobs > 1) {
		arg(&a, "--jobs");
		arg(&a, "%u", s->jobs);
	}
	if (s->delay_us) {
		arg(&a, "--filter");
		arg(&a, "delay=%u", s->delay_us);
	}
	if (s->short_pages) {
		arg(&a, "--filter");
		arg(&a, "short=%u", s->short_pages);
	}
	if (s->remote) {
		arg(&a, "--page-server");
		arg(&a, "--address");
		arg(&a, "127.0.0.1");
		arg(&a, "--port");
		arg(&a, "%d", rd->port);
		arg(&a, "--protocol");
		arg(&a, s->plain ? "criu" : "auto");
	}
	return start_listener(rd, &a, "helper.err", &rd->helper);
}

/* "port N" in what it has printed. */
static bool learn_port(struct round *rd, const char *out)
{
	int64_t until = soak_now() + START_MS * INT64_C(1000000);
	char path[PATH_MAX], line[256];
	int port;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", rd->dir, out);
	while (soak_now() < until) {
		f = fopen(path, "re");
		while (f && fgets(line, sizeof(line), f))
			if (strchr(line, '\n') && sscanf(line, "port %d", &port) == 1) {
				rd->port = port;
				fclose(f);
				return true;
			}
		if (f)
			fclose(f);
		soak_sleep_us(500);
	}
	round_fails(rd, "no port in %s", path);
	return false;
}

static void option(struct args *a, const char *name, unsigned int value)
{
	if (!value)
		return;
	arg(a, "%s", name);
	arg(a, "%u", value);
}

bool start_network(struct round *rd)
{
	static struct args a;
	const struct settings *s = rd->s;

	memset(&a, 0, sizeof(a));
	arg(&a, "%s", rd->runner->helper);
	arg(&a, "page-server");
	arg(&a, "--no-default-config");
	arg(&a, "--lazy-pages");
	arg(&a, "--keep");
	arg(&a, "--images-dir");
	arg(&a, "%s/img", rd->dir);
	arg(&a, "--work-dir");
	arg(&a, "%s", rd->dir);
	arg(&a, "--log-file");
	arg(&a, "server.log");
	arg(&a, "--address");
	arg(&a, "127.0.0.1");
	if (!start_listener(rd, &a, "server.out", &rd->server) || !learn_port(rd, "server.out"))
		return false;
	memset(&a, 0, sizeof(a));
	arg(&a, "%s", rd->runner->proxy);
	arg(&a, "--to");
	arg(&a, "127.0.0.1:%d", rd->port);
	option(&a, "--delay", s->net_delay_us);
	option(&a, "--split", s->split);
	option(&a, "--cut-every", s->cut_every);
	option(&a, "--seed", (unsigned int)(s->seed % 1000000) + 1);
	rd->proxy = spawn(a.argv, rd->dir, "proxy.out", -1);
	return learn_port(rd, "proxy.out");
}

static pid_t fork_part(const char *what)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		die(what);
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

void start_tree(struct round *rd)
{
	rd->tree = fork_part("the restorer");
	if (!rd->tree) {
		setpgid(0, 0);
		tree_restore(rd->s, rd->shared, rd->dir);
	}
	setpgid(rd->tree, rd->tree);
}

void start_killer(struct round *rd)
{
	struct killer k = {.helper = rd->helper.pid,
	                   .proxy = rd->proxy.pid,
	                   .seed = rd->s->seed,
	                   .kill_ms = rd->runner->kills ? rd->s->kill_ms : 0,
	                   .cut_ms = rd->s->cut_ms,
	                   .settings = rd->s,
	                   .shared = rd->shared};

	rd->killer = fork_part("the killer");
	if (!rd->killer) {
		killer_live(&k);
		_exit(0);
	}
}
