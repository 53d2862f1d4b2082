/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * server.c - see server.h.
 *
 * One thread accepts and joins, each connection has one.  A connection's thread ends by itself, or
 * because the server shuts its socket down; for that the server has a duplicate of the descriptor,
 * so that it never touches a number that has been given to another file meanwhile.
 *
 *	listening --SIGTERM--> stopping (all are shut down)  --last one joined--> over
 *	    |                     ^
 *	    +--once, one ended--> ending (who has spoken may finish) --last one joined--> over
 */
#include "criu-lazy/server/server.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/clock.h"
#include "criu-lazy/base/err.h"
#include "criu-lazy/base/log.h"
#include "criu-lazy/os/net.h"
#include "criu-lazy/server/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

/* No descriptors, no memory: leave the listening socket alone for so long. */
enum { PAUSE_MS = 100 };

struct client {
	TAILQ_ENTRY(client) link;
	struct server *server;
	struct conn conn;
	pthread_t thread;
	int guard; /* duplicate of the socket, to shut it down */
	atomic_bool ended;
};

struct server {
	const struct server_options *options;
	TAILQ_HEAD(, client)
	clients; /* in the order of their coming; this thread's only */
	size_t nr;
	int signal_fd, ended_fd;
	bool listening;
	bool pausing; /* until the next turn */
	int waiting_fd; /* accepted, one makes room for it; -1: none */
	char waiting_peer[64];
	bool over; /* a client has ended it, or a signal */
	int result;
	int64_t return_by; /* a helper was lost and must be back by then; CLOCK_NEVER: none was */
	uint64_t sent_away; /* since the last one who found a place */
};

static void *serve(void *arg)
{
	struct client *client = arg;
	uint64_t one = 1;
	int ended_fd = client->server->ended_fd;
	ssize_t put;

	conn_serve(&client->conn);
	atomic_store(&client->ended, true);
	put = write(ended_fd, &one, sizeof(one));
	(void)put; /* cannot fail: the counter is read all the time */
	return NULL;
}

static int start_thread(struct client *client)
{
	pthread_attr_t attr;
	int r = pthread_attr_init(&attr);

	if (r)
		return r;
	r = pthread_attr_setstacksize(&attr, SERVER_STACK);
	if (r == 0)
		r = pthread_create(&client->thread, &attr, serve, client);
	pthread_attr_destroy(&attr);
	return r;
}

/* Takes over fd. */
static int add_client(struct server *server, int fd, const char *peer, struct err *err)
{
	cleanup_close int own = fd;
	struct client *client = calloc(1, sizeof(*client));
	int r;

	if (!client)
		return err_set(err, ENOMEM, "client %s", peer);
	client->server = server;
	client->conn.options = server->options;
	client->conn.fd = fd;
	snprintf(client->conn.peer, sizeof(client->conn.peer), "%s", peer);
	client->guard = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	r = client->guard < 0 ? errno : start_thread(client);
	if (r) {
		cleanup_close_fd(&client->guard);
		free(client);
		return err_set(err, r, "client %s", peer);
	}
	steal_fd(&own);
	TAILQ_INSERT_TAIL(&server->clients, client, link);
	server->nr++;
	log_info("client %s came, %zu are here", peer, server->nr);
	return 0;
}

static void shut_down(struct client *client)
{
	if (!atomic_exchange(&client->conn.told, true))
		shutdown(client->guard, SHUT_RDWR);
}

/* Make room: the first that has not said anything sensible.  It is gone a moment later. */
static bool evict(struct server *server)
{
	struct client *client;

	TAILQ_FOREACH(client, &server->clients, link) {
		if (atomic_load(&client->conn.told) || atomic_load(&client->conn.spoke))
			continue;
		log_warn("client %s has said nothing and makes room for another",
		         client->conn.peer);
		shut_down(client);
		return true;
	}
	return false;
}

static void send_away(struct server *server, const char *peer)
{
	if (!server->sent_away++)
		log_error("client %s sent away: %d are being served already, which is the limit",
		          peer, SERVER_MAX_CLIENTS);
}

static void welcome(struct server *server, int fd, const char *peer)
{
	struct err err = {0};

	if (server->sent_away)
		log_error("%llu clients were sent away", (unsigned long long)server->sent_away);
	server->sent_away = 0;
	if (add_client(server, fd, peer, &err) < 0) {
		log_error("%s", err.text);
		server->pausing = true;
	}
}

/* Who waits for one that makes room. */
static void welcome_waiting(struct server *server)
{
	if (server->waiting_fd >= 0 && server->nr < SERVER_MAX_CLIENTS)
		welcome(server, steal_fd(&server->waiting_fd), server->waiting_peer);
}

static bool may_accept(const struct server *server)
{
	return server->listening && !server->pausing && server->waiting_fd < 0;
}

/* Everybody who has come. */
static void accept_all(struct server *server)
{
	while (may_accept(server)) {
		char peer[64];
		struct err err = {0};
		int fd = net_accept(server->options->listen_fd, peer, sizeof(peer), &err);

		if (fd == -EAGAIN)
			return;
		if (fd == -EPERM) {
			log_warn("connection refused: %s", err.text);
		} else if (fd < 0) {
			log_error("accept: %s", err.text);
			server->pausing = true;
		} else if (server->nr < SERVER_MAX_CLIENTS) {
			welcome(server, fd, peer);
		} else if (evict(server)) {
			server->waiting_fd = fd;
			strcpy(server->waiting_peer, peer);
		} else {
			send_away(server, peer);
			close(fd);
		}
	}
}

/* No more of them; who has not begun will not. */
static void stop(struct server *server, bool all)
{
	struct client *client;

	server->over = true;
	server->listening = false;
	TAILQ_FOREACH(client, &server->clients, link)
		if (all || !atomic_load(&client->conn.spoke))
			shut_down(client);
}

static void await_return(struct server *server)
{
	int64_t ns = server->options->return_ns ? server->options->return_ns : SERVER_RETURN_NS;

	server->return_by = clock_now() + ns;
}

/* It cannot be told whether who comes is the one who is waited for: anybody who speaks will do. */
static void check_return(struct server *server)
{
	struct client *client;

	if (server->return_by == CLOCK_NEVER || server->over)
		return;
	TAILQ_FOREACH(client, &server->clients, link)
		if (atomic_load(&client->conn.spoke))
			return;
	if (clock_now() < server->return_by)
		return;
	log_error("a helper was lost and has not come back");
	server->result = -EIO;
	stop(server, true);
}

static void judge_end(struct server *server, const struct client *client)
{
	enum conn_end end = client->conn.end;
	bool only = server->options->ps_socket >= 0;

	if (server->over || atomic_load(&client->conn.told))
		return;
	if (end == CONN_LANE_LOST && server->options->once && !only)
		await_return(server);
	if (!only && (!server->options->once || end == CONN_LANE_LOST || end == CONN_NOBODY))
		return;
	server->result = end == CONN_DONE ? 0 : -EIO;
	stop(server, false);
}

static void reap(struct server *server)
{
	struct client *client = TAILQ_FIRST(&server->clients), *next;
	uint64_t nr;
	ssize_t got = read(server->ended_fd, &nr, sizeof(nr));

	(void)got; /* only to make it quiet */
	for (; client; client = next) {
		next = TAILQ_NEXT(client, link);
		if (!atomic_load(&client->ended))
			continue;
		pthread_join(client->thread, NULL);
		TAILQ_REMOVE(&server->clients, client, link);
		server->nr--;
		judge_end(server, client);
		close(client->guard);
		free(client);
	}
}

static void on_signal(struct server *server)
{
	struct signalfd_siginfo info;
	bool done = server->over && server->result == 0;

	while (read(server->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (server->nr)
			log_warn("signal %u: %zu clients are cut off", info.ssi_signo, server->nr);
		if (!done)
			server->result = server->options->once ? -EINTR : 0;
		stop(server, true);
	}
}

static int turn(struct server *server, struct err *err)
{
	struct pollfd fds[] = {
		{.fd = server->signal_fd, .events = POLLIN},
		{.fd = server->ended_fd, .events = POLLIN},
		{.fd = may_accept(server) ? server->options->listen_fd : -1, .events = POLLIN},
	};
	int wait = -1;

	if (server->pausing || server->return_by != CLOCK_NEVER)
		wait = PAUSE_MS;
	if (poll(fds, 3, wait) < 0 && errno != EINTR)
		return err_set(err, errno, "poll");
	server->pausing = false;
	on_signal(server);
	reap(server);
	check_return(server);
	welcome_waiting(server);
	if (fds[2].revents)
		accept_all(server);
	return 0;
}

static int watch(struct server *server, struct err *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	server->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	server->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (server->signal_fd < 0 || server->ended_fd < 0)
		return err_set(err, errno, "signalfd or eventfd");
	return 0;
}

int server_run(const struct server_options *options, struct err *err)
{
	struct server server = {
		.options = options,
		.signal_fd = -1,
		.ended_fd = -1,
		.waiting_fd = -1,
		.listening = options->ps_socket < 0,
		.result = -EIO,
		.return_by = CLOCK_NEVER,
	};
	char peer[32];
	int r;

	TAILQ_INIT(&server.clients);
	r = watch(&server, err);
	if (r == 0 && options->ps_socket >= 0) {
		snprintf(peer, sizeof(peer), "descriptor %d", options->ps_socket);
		r = add_client(&server, options->ps_socket, peer, err);
	}
	while (r == 0 && !(server.over && !server.nr))
		r = turn(&server, err);
	stop(&server, true);
	while (server.nr && turn(&server, NULL) == 0)
		;
	cleanup_close_fd(&server.waiting_fd);
	cleanup_close_fd(&server.signal_fd);
	cleanup_close_fd(&server.ended_fd);
	return r < 0 ? r : server.result;
}
