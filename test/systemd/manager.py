# SPDX-License-Identifier: GPL-2.0-or-later
"""The service manager's part, over the protocol that systemd speaks.

A Manager is a process of its own that starts a service with $NOTIFY_SOCKET, keeps the descriptors
that it is sent (sd_notify(3): FDSTORE, FDNAME, FDPOLL, FDSTOREREMOVE, BARRIER, READY), kills the
service as it is told to, and starts it again with what was kept ($LISTEN_FDS), when none of its
processes is left: as systemd does it, that waits for the control group to be empty.

Like systemd it hears only who can still be identified when it reads: a message of a process that
has been reaped is thrown away; and a file that is in the store is not stored twice.
"""

import array
import collections
import ctypes
import json
import os
import random
import select
import signal
import socket
import struct
import time

PR_SET_CHILD_SUBREAPER, SYS_KCMP, KCMP_FILE = 36, 312, 0
LISTEN_FIRST, FDS_MAX = 3, 253

libc = ctypes.CDLL(None, use_errno=True)


def same_file(a, b):
    me = os.getpid()
    return libc.syscall(SYS_KCMP, me, me, KCMP_FILE, a, b) == 0


def state_of(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def children(pid):
    found = []
    try:
        for tid in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{tid}/children", encoding="ascii") as f:
                found += [int(p) for p in f.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


class Plan:
    """What the manager does to the service.

    kills: how often; pause: seconds between two, at random up to that; everybody: with the
    sentinel.  limit: FileDescriptorStoreMax=.  deaf: (from, for) seconds after READY in which it
    does not read.  after_handoff: nothing is killed before.  before_start: called with the number of starts so far.
    """

    def __init__(self, kills=0, pause=0.1, everybody=False, limit=4096, deaf=None, term=None,
                 before_start=None, after_handoff=False, lazy_reading=0.0, say_limit=True, notify=True):
        self.__dict__.update({k: v for k, v in locals().items() if k != "self"})


class Service:
    """Runs in the manager's process."""

    def __init__(self, argv, folder, plan, seed):
        self.argv, self.plan, self.random = argv, plan, random.Random(seed)
        self.log = os.path.join(folder, "service.log")
        self.store = []  # (name, fd), as they came
        self.count = collections.Counter()
        self.complaints = []
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.path = os.path.join(folder, "notify")
        self.sock.bind(self.path)
        self.main = self.ready_at = None

    def start(self):
        if self.plan.before_start:
            self.plan.before_start(self.count["starts"])
        self.count["starts"] += 1
        self.since = time.monotonic()
        fds = [fd for _, fd in self.store]
        names = ":".join(name for name, _ in self.store)
        self.main = os.fork()
        if self.main:
            return
        try:
            env = dict(os.environ)
            if self.plan.notify:
                env["NOTIFY_SOCKET"] = self.path
            if self.plan.say_limit:
                env["FDSTORE"] = str(self.plan.limit)
            if fds:
                env.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)),
                           LISTEN_FDNAMES=names)
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            null = os.open("/dev/null", os.O_RDONLY)
            # Out of the way of where they have to be.
            room = LISTEN_FIRST + len(fds)
            high = [os.dup(fd) for fd in fds + [null, log]]
            while any(fd < room for fd in high):
                high = [os.dup(fd) if fd < room else fd for fd in high]
            os.dup2(high[-2], 0)
            os.dup2(high[-1], 1)
            os.dup2(high[-1], 2)
            for i, fd in enumerate(high[:-2]):
                os.dup2(fd, LISTEN_FIRST + i, inheritable=True)
            os.closerange(room, 4096)
            os.execve(self.argv[0], self.argv, env)
        finally:
            os._exit(127)

    def members(self):
        """Its processes that live: guardian, worker, sentinel."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
                if self.is_member(pid)]

    def is_member(self, pid):
        """The program is a copy of its own: lists of children miss some when others end."""
        try:
            return os.readlink(f"/proc/{pid}/exe") == self.argv[0]
        except OSError:
            return False

    # --- messages

    def read(self):
        space = socket.CMSG_SPACE(struct.calcsize("3i")) + socket.CMSG_SPACE(4 * FDS_MAX)
        while True:
            try:
                text, more, _, _ = self.sock.recvmsg(4096, space, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            fds, pid = [], 0
            for level, kind, data in more:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    got = array.array("i")
                    got.frombytes(data[:len(data) // 4 * 4])
                    fds += got
                elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                    pid = struct.unpack("3i", data)[0]
            self.count["messages"] += 1
            if state_of(pid) is None:
                self.count["unheard"] += 1
            else:
                self.hear(pid, text.decode(), fds)
            for fd in fds:
                os.close(fd)

    def hear(self, pid, text, fds):
        said = dict(line.split("=", 1) for line in text.splitlines())
        name = said.get("FDNAME", "stored")
        if said.get("READY") == "1":
            self.count["ready"] += 1
            self.ready_at = self.ready_at or time.monotonic()
            with open(self.path + ".ready", "w", encoding="ascii"):
                pass
            if pid != self.main:
                self.complaints.append(f"READY=1 is from {pid}, not from the main process")
        if said.get("FDSTOREREMOVE") == "1":
            for entry in [e for e in self.store if e[0] == name]:
                self.store.remove(entry)
                os.close(entry[1])
            self.count["removed"] += 1
        elif said.get("FDSTORE") == "1":
            if said.get("FDPOLL") != "0" or len(fds) != 1 or ":" in name:
                self.complaints.append(f"a bad FDSTORE: {text!r} with {len(fds)} descriptors")
            for fd in fds:
                self.keep(name, fd)

    def keep(self, name, fd):
        if any(same_file(fd, other) for _, other in self.store):
            self.count["again"] += 1
        elif len(self.store) >= self.plan.limit:
            self.count["full"] += 1
        else:
            self.count["stored"] += 1
            self.store.append((name, os.dup(fd)))

    # --- life

    def kill(self):
        """Guardian and worker, or everybody; in any order.  The sentinel ends by itself."""
        worker = children(self.main)
        victims = self.members() if self.plan.everybody else [self.main, *worker]
        self.random.shuffle(victims)
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.count["kills"] += 1

    def reap(self):
        """The main process's status, when it has ended."""
        status = None
        while True:
            try:
                pid, got = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return status
            if not pid:
                return status
            if pid == self.main:
                status = os.waitstatus_to_exitcode(got)

    def end(self):
        """Until nobody is left; then everything that was sent has been read, too."""
        until = time.monotonic() + 10
        while self.members():
            if time.monotonic() > until:
                self.complaints.append(f"processes are left: {self.members()}")
                for pid in self.members():
                    os.kill(pid, signal.SIGKILL)
            self.wait(0.002)
            self.reap()
        self.read()

    def wait(self, seconds):
        """Messages are read before anybody is reaped, as in systemd; or not at all (deaf)."""
        age = time.monotonic() - (self.ready_at or time.monotonic())
        if self.plan.deaf and self.plan.deaf[0] <= age < sum(self.plan.deaf):
            time.sleep(min(seconds, 0.01))
            return
        if select.select([self.sock], [], [], seconds)[0]:
            time.sleep(self.random.uniform(0, self.plan.lazy_reading))
            self.read()

    def run(self):
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.start()
        next_kill = time.monotonic() + self.random.uniform(0, self.plan.pause)
        termed = False
        while True:
            self.wait(0.001)
            status = self.reap()
            now = time.monotonic()
            if status is not None:
                self.end()
                if status < 0 and self.ready_at and not self.store:
                    # It had said that all is over, and was on its way out.
                    self.count["killed at the end"] += 1
                    status = 0
                if status >= 0:
                    break
                self.start()
                next_kill = time.monotonic() + self.random.uniform(0, self.plan.pause)
            elif self.plan.after_handoff and not os.path.exists(self.path + ".go"):
                next_kill = now + self.random.uniform(0, self.plan.pause)
            elif self.count["kills"] < self.plan.kills and now >= next_kill:
                self.kill()
                next_kill = float("inf")
            elif self.plan.term and not termed and now - self.since >= self.plan.term:
                os.kill(self.main, signal.SIGTERM)
                termed = True
        return {"status": status, "count": self.count, "complaints": self.complaints,
                "left": [name for name, _ in self.store]}


class Manager:
    """Its process, seen from the test."""

    def __init__(self, argv, folder, plan, seed):
        self.log_path = os.path.join(folder, "service.log")
        self.pipe, theirs = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.pipe)
                signal.alarm(0)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(50)
                result = Service(argv, folder, plan, seed).run()
                os.write(theirs, json.dumps(result).encode())
            finally:
                os._exit(0)
        os.close(theirs)
        self.result = None

    def log(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def ends(self, seconds=40):
        """What happened; None: it goes on and on."""
        if self.result is None and select.select([self.pipe], [], [], seconds)[0]:
            text = b""
            while more := os.read(self.pipe, 65536):
                text += more
            self.result = json.loads(text) if text else None
            if self.result:
                self.result["count"] = collections.Counter(self.result["count"])
        return self.result

    def stop(self):
        for pid in [self.pid, *children(self.pid)]:
            for p in [*children(pid), pid]:
                try:
                    os.kill(p, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        os.waitpid(self.pid, 0)
        os.close(self.pipe)
