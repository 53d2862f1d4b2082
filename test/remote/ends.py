# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers, proxies and helpers of one case: everything that test/cli/harness.py does not have.

The server has the images; the helper has a folder with the same but no pages files, so it can have
the pages only from the server.
"""

import glob
import os
import re
import select
import shutil
import signal
import subprocess

import images
import peer
from harness import Failed, Helper

PATIENCE = 30  # seconds, against hangs


class Process:
    """A program that says when it listens, and where; ended with the case.

    The proxy prints "port N"; a server, told its status descriptor, writes a zero byte there and
    then, if it has chosen the port itself, the same line.
    """

    def __init__(self, t, name, argv, port=None):
        """port: what a server was told, 0 to choose; None: this is not a server."""
        self.t, self.argv = t, argv
        self.log_path = t.path(f"{name}.{len(t.helpers)}.log")
        ours, theirs = os.pipe()
        with open(self.log_path, "wb") as log:
            self.p = subprocess.Popen(
                argv + (["--status-fd", str(theirs)] if port is not None else []),
                stdin=subprocess.DEVNULL, stdout=theirs if port is None else log, stderr=log,
                pass_fds=[theirs])
        os.close(theirs)
        t.helpers.append(self)
        with os.fdopen(ours, "rb") as f:
            if not select.select([f], [], [], PATIENCE)[0]:
                raise Failed(f"{argv[0]} does not say that it listens")
            said = f.readline()
        right = rb"\0" if port else rb"\0port (\d+)\n" if port == 0 else rb"port (\d+)\n"
        m = re.fullmatch(right, said)
        if not m:
            raise Failed(f"{' '.join(argv)}: says {said!r}: {self.log()}")
        self.port = port or int(m[1])

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def alive(self):
        return self.p.poll() is None

    def kill(self):
        if self.alive():
            self.p.kill()
            self.p.send_signal(signal.SIGCONT)
        self.p.wait()

    def signal(self, number):
        self.p.send_signal(number)

    def ends(self):
        """With status 0, after SIGTERM."""
        self.p.terminate()
        try:
            status = self.p.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.argv[0]} does not end: {self.log()}") from None
        self.t.check(status == 0, f"{self.argv[0]}: status {status}: {self.log()}")
        return self


class Proxy(Process):
    def __init__(self, t, to, *options):
        super().__init__(t, "proxy", [os.environ["REMOTE_PROXY"], "--to", f"127.0.0.1:{to}",
                                      *map(str, options)])

    def cut(self):
        self.signal(signal.SIGUSR1)

    def did(self, **least):
        """Ends it, and looks at what it has done."""
        total = dict(re.findall(r"(\w+) (\d+)", self.ends().log().splitlines()[-1]))
        for word, number in least.items():
            self.t.check(int(total[word]) >= number, f"the proxy: {total}")


def write_images(t, *processes):
    """The full images for the server, and the helper's, t.img, without pages."""
    full = t.path("full")
    images.write(full, *processes)
    lean(full, t.img)
    return full


def lean(full, to):
    shutil.copytree(full, to)
    for path in glob.glob(os.path.join(to, "pages-*.img")):
        os.unlink(path)


def serve(t, folder, port=0, *options):
    return Process(t, "server", [t.program, "page-server", "--lazy-pages", "--keep", "-D", folder,
                                 "-W", t.folder, "-v3", "--address", "127.0.0.1", "--port",
                                 str(port), *options], port)


def remote(port):
    return ["--page-server", "--address", "127.0.0.1", "--port", str(port)]


def helper(t, port, *options, **more):
    return Helper(t, ["-D", t.img, *remote(port), *options], **more)


def restore(t, nr=16, pid=1000):
    """A restored task of the images in t.img, let go."""
    sock = t.connect()
    task = t.task(sock, pid, nr)
    sock.sendall(peer.FINISHED)
    sock.close()
    task.ours.settimeout(PATIENCE)
    return task


def ends_well(t, h, task):
    """Everything comes; what has come is right; the helper ends with status 0."""
    t.check(task.all_right(), f"a page is wrong: {h.log()}")
    try:
        status = h.p.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        raise Failed(f"the helper does not end: {h.log()}") from None
    t.check(status == 0, f"the helper's status is {status}: {h.log()}")
    t.check(task.all_right(), "a page is wrong afterwards")
    t.check(task.exit() == 0, "the task did not end well")
