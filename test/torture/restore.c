/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The restorer of the torture test.  Like CRIU's it lets its tasks go only when the last word of
 * the protocol was sent; if it cannot be sent, it kills them.
 */
#include "test/torture/restorer.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int connect_to(const char *path)
{
	struct timeval patience = {.tv_sec = options.limit_ms / 1000};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static bool make_task(int index, int sock, const int go[2], int *ret_pid)
{
	struct fate *fate = new_fate();
	int ready[2];
	char c;
	bool well;

	if (pipe2(ready, O_CLOEXEC) < 0)
		die("pipe");
	*ret_pid = fork();
	if (*ret_pid == 0) {
		close(go[1]);
		live(index, fate, sock, ready[1], go[0]);
	}
	fate->pid = *ret_pid;
	close(ready[1]);
	well = read(ready[0], &c, 1) == 1;
	close(ready[0]);
	return well;
}

void restore(const char *path)
{
	int go[2], pids[MAX_FATES], nr = 0, sock = connect_to(path), i, pid, status;
	bool well = sock >= 0;
	struct fate *fate;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (pipe2(go, O_CLOEXEC) < 0)
		die("pipe");
	for (; well && nr < options.tasks; nr++)
		well = make_task(nr, sock, go, &pids[nr]);
	if (well && send(sock, "FTSR", 4, MSG_NOSIGNAL) != 4)
		well = false;
	shared->finished = well;
	close(sock);
	for (i = 0; i < nr && !well; i++)
		kill(pids[i], SIGKILL);
	for (i = 0; i < nr && well; i++)
		if (write(go[1], "", 1) != 1)
			die("go");
	close(go[1]);
	close(go[0]);
	for (;;) {
		pid = waitpid(-1, &status, WNOHANG);
		if (pid < 0)
			_exit(0);
		if (pid > 0 && (fate = fate_of(pid)))
			set_end(fate, status);
		if (pid > 0)
			continue;
		if (!ms_left())
			break;
		usleep(300);
	}
	for (i = 0; i < MAX_FATES; i++)
		if (shared->fates[i].state == LIVES)
			shared->fates[i].state = STUCK;
	/* All descendants, for who forks is this process's child when its parent is gone. */
	while (signal_children(-1, SIGKILL))
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	_exit(0);
}
