# SPDX-License-Identifier: GPL-2.0-or-later
"""What a test of the command line has: a folder, helpers, peers, and checks that say what was seen.

A test is a function with one argument, a Case, in a file case_*.py:

    @case
    def second_helper(t):
        "the first line of its comment is what it is about"
        ...

It fails by any exception; t.check() makes good ones.  Everything it started is ended after it.
"""

import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time

import images
import peer

CASES = []


def case(f):
    CASES.append(f)
    return f


def pitfall(known):
    """A case that CRIU's own helper can be put to as well; known: why that does not pass, or None."""
    def mark(f):
        f.criu_helper = known
        return case(f)
    return mark


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


class Helper:
    """A running `criu-lazy lazy-pages` whose log is read."""

    def __init__(self, t, args, ready=True, script=None):
        """script: a line of shell that starts it: $0 the program, $1 the images, $2 status fd."""
        self.t = t
        self.log_path = os.path.join(t.folder, f"helper.{len(t.helpers)}")
        self.status_fd, theirs = os.pipe()
        command = [t.program, "lazy-pages", "--status-fd", str(theirs), *t.options, *args]
        if script:
            command = ["/bin/sh", "-c", script, t.program, t.img, str(theirs)]
        with open(self.log_path, "wb") as log:
            self.p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                      pass_fds=[theirs])
        os.close(theirs)
        t.helpers.append(self)
        if ready:
            got = self.read_status()
            t.check(got == b"\0", f"the helper is not ready: {got!r} {self.log()}")

    def read_status(self):
        """One byte, or b"" when it closed the descriptor."""
        if not select.select([self.status_fd], [], [], 10)[0]:
            raise Failed("the helper says nothing on its status descriptor")
        return os.read(self.status_fd, 1)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def lines(self, word):
        return [line for line in self.log().splitlines() if f" {word}: " in line]

    def term(self):
        self.p.send_signal(signal.SIGTERM)
        return self

    def alive(self):
        return self.p.poll() is None

    def worker(self):
        """The guardian's only child: the pid, or None when there is none at present."""
        path = f"/proc/{self.p.pid}/task/{self.p.pid}/children"
        with open(path, encoding="ascii") as f:
            children = f.read().split()
        return int(children[0]) if children else None

    def ends(self, status, pattern=None):
        """Ends with this status, and, if there is a pattern, exactly one error line like it."""
        try:
            got = self.p.wait(10)
        except subprocess.TimeoutExpired:
            raise Failed(f"the helper does not end: {self.log()}") from None
        self.t.check(got == status, f"exit status {got}, not {status}: {self.log()}")
        errors = self.lines("Error")
        if pattern is None:
            self.t.check(not errors, f"errors: {errors}")
        else:
            self.t.check(len(errors) == 1, f"{len(errors)} error lines: {self.log()}")
            self.t.check(re.search(pattern, errors[0]), f"{errors[0]!r} is not like {pattern!r}")
        return self

    def kill(self):
        """All of it: who was started, and who would go on in its place."""
        self.t.kill_members()
        if self.alive():
            self.p.kill()
        self.p.wait()
        if self.status_fd >= 0:
            os.close(self.status_fd)
            self.status_fd = -1


class Case:
    def __init__(self, program, tmp, options=()):
        self.program, self.options = program, options
        self.folder = tempfile.mkdtemp(dir=tmp)
        self.img = os.path.join(self.folder, "img")
        self.socket = os.path.join(self.img, "lazy-pages.socket")
        self.helpers, self.tasks, self.sockets = [], [], []

    def end(self):
        for task in self.tasks:
            task.kill()
        for sock in self.sockets:
            sock.close()
        for helper in self.helpers:
            helper.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def members(self):
        """{pid: parent} of what runs of this test's helpers: guardians, workers, sentinels."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    argv = f.read().split(b"\0")
                with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
                    stat = f.read().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if argv[1:2] == [b"lazy-pages"] and os.fsencode(self.img) in argv:
                found[int(pid)] = int(stat[1])
        return found

    def kill_members(self):
        """Stopped first, so that none of them notices another's death."""
        while self.members():
            for sig in (signal.SIGSTOP, signal.SIGKILL):
                for pid in self.members():
                    try:
                        os.kill(pid, sig)
                    except ProcessLookupError:
                        pass
            time.sleep(0.001)

    @staticmethod
    def check(right, what):
        if not right:
            raise Failed(what)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def images(self, *processes):
        return images.write(self.img, *processes)

    # --- commands that end by themselves

    def run(self, *args, **more):
        try:
            return subprocess.run([self.program, *args], stdin=subprocess.DEVNULL, timeout=10,
                                  capture_output=True, text=True, check=False, **more)
        except subprocess.TimeoutExpired:
            raise Failed(f"{' '.join(args)}: does not end") from None

    def shell(self, script):
        """A line of shell, with the program and the images as $0 and $1."""
        return subprocess.run(["/bin/sh", "-c", script, self.program, self.img], timeout=10,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    def refuses(self, *args, like):
        """Exit status 1, nothing on stdout, and exactly one line on stderr like the pattern."""
        r = self.run(*args)
        what = f"{' '.join(args)}: status {r.returncode}, {r.stderr!r}"
        self.check(r.returncode == 1, what)
        self.check(r.stdout == "", f"{what}, stdout {r.stdout!r}")
        self.check(r.stderr.count("\n") == 1 and r.stderr.endswith("\n"), what)
        self.check(re.search(like, r.stderr), f"{what} is not like {like!r}")

    def refuses_images(self, like):
        self.refuses("lazy-pages", "-D", self.img, like=r"^criu-lazy: Error: .*" + like)

    # --- a restore

    def helper(self, *args, **more):
        return Helper(self, ["-D", self.img, *args], **more)

    def shell_helper(self, script):
        return Helper(self, [], script=script)

    def connect(self, path=None):
        sock = peer.connect(path or self.socket)
        self.sockets.append(sock)
        return sock

    def task(self, sock, *args):
        task = peer.Task(sock, *args)
        self.tasks.append(task)
        return task

    def hand_over(self, *pids, nr=16, hang_up=False):
        """A restorer that does all right: a task for each pid (1000), all of them let go."""
        sock = self.connect()
        tasks = [self.task(sock, pid, nr) for pid in pids or (1000,)]
        sock.sendall(peer.FINISHED)
        if hang_up:
            sock.close()
        return tasks

    def uffd(self):
        return peer.make_uffd()

    def whole_restore(self, helper, path=None):
        """A good restore of the usual image must work with this helper, now."""
        sock = self.connect(path)
        task = self.task(sock)
        sock.sendall(peer.FINISHED)
        sock.close()
        self.check(task.all_right(), "a page is wrong")
        helper.ends(0)
        self.check(task.exit() == 0, "the task did not end well")

    def until(self, true, what, seconds=10):
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                raise Failed(f"time is over: {what}")
            time.sleep(0.005)
