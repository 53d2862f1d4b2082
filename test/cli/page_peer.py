# SPDX-License-Identifier: GPL-2.0-or-later
"""The other side of the page server: clients that fetch or store pages, well-behaved or not.

Both layouts of the header, named by their size: 24 (CRIU up to 4.1.1) and 32.
"""

import os
import re
import select
import socket
import struct
import subprocess

import harness
from images import PAGE, PARENT, PRESENT

ADD, HOLE, OPEN, OPEN2, PARENT_Q, ADD_F, GET = 1, 2, 3, 4, 5, 6, 7
CLOSE, FORCE_CLOSE = 0x1023, 0x1024
LAYOUTS = (24, 32)
GARBAGE = 0x7FFC  # what a stock client has in the padding


def header(layout, cmd, nr=0, vaddr=0, dst=0, pad=GARBAGE):
    if layout == 24:
        return struct.pack("<IIQQ", cmd, nr, vaddr, dst)
    return struct.pack("<IIQQQ", cmd, pad, nr, vaddr, dst)


def private(pid):
    return pid << 8 | 1


def shmem(number):
    return number << 8 | 2


class Server(harness.Helper):
    """A running `criu-lazy page-server`; its port is known when it is made."""

    def __init__(self, t, *args, ready=True, stdin=subprocess.DEVNULL, pass_fds=(), command=None):
        self.t = t
        self.log_path = os.path.join(t.folder, f"server.{len(t.helpers)}")
        self.out_path = self.log_path + ".out"
        self.status_fd, theirs = os.pipe()
        argv = [t.program, command or "page-server", "--status-fd", str(theirs), "-v3", *args]
        with open(self.log_path, "wb") as log, open(self.out_path, "wb") as out:
            self.p = subprocess.Popen(argv, stdin=stdin, stdout=out, stderr=log,
                                      pass_fds=[theirs, *pass_fds])
        os.close(theirs)
        t.helpers.append(self)
        self.port = None
        if ready:
            self.wait_ready()

    def wait_ready(self):
        said = b""
        while True:
            if not select.select([self.status_fd], [], [], 10)[0]:
                raise harness.Failed("the server says nothing on its status descriptor")
            more = os.read(self.status_fd, 100)
            if not more:
                break
            said += more
        got = re.fullmatch(rb"\0(?:port (\d+)\n)?", said)
        self.t.check(got, f"the server is not ready: {said!r} {self.log()}")
        self.said = said
        if got.group(1):
            self.port = int(got.group(1))

    def out(self):
        with open(self.out_path, encoding="ascii") as f:
            return f.read()

    def anonymous_kib(self):
        """How much memory of its own it has now."""
        with open(f"/proc/{self.p.pid}/status", encoding="ascii") as f:
            return [int(line.split()[1]) for line in f if line.startswith("RssAnon")][0]

    def connect(self, address="127.0.0.1", port=None):
        sock = socket.create_connection((address, port or self.port), timeout=20)
        return self.client(sock)

    def client(self, sock):
        sock.settimeout(20)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.t.sockets.append(sock)
        return Client(self.t, sock)

    def drops(self, client, pattern):
        """This client has been dropped without a word, and one error line like this tells why."""
        before = len(self.lines("Error"))
        client.gone()
        self.t.until(lambda: self.lines("Error")[self.seen:], f"a line like {pattern!r}")
        errors = self.lines("Error")[self.seen:]
        self.seen = len(self.lines("Error"))
        self.t.check(len(errors) == 1 and re.search(pattern, errors[0]) and
                     before <= self.seen, f"{errors} are not one like {pattern!r}")

    seen = 0  # error lines that a test has looked at

    def ends_after(self, status, *patterns):
        """Ends with this status; its error lines not looked at before are like these."""
        try:
            got = self.p.wait(20)
        except subprocess.TimeoutExpired:
            raise harness.Failed(f"the server does not end: {self.log()}") from None
        errors = self.lines("Error")[self.seen:]
        self.t.check(got == status, f"exit status {got}, not {status}: {self.log()}")
        self.t.check(len(errors) == len(patterns), f"errors: {errors}")
        for line, pattern in zip(errors, patterns):
            self.t.check(re.search(pattern, line), f"{line!r} is not like {pattern!r}")


class Client:
    """A connection, and what is said on it."""

    def __init__(self, t, sock):
        self.t, self.sock = t, sock

    def send(self, data):
        self.sock.sendall(data)
        return self

    def recv(self, n):
        got = bytearray()
        while len(got) < n:
            more = self.sock.recv(min(n - len(got), 1 << 20))
            if not more:
                raise harness.Failed(f"the server hung up after {len(got)} of {n} bytes")
            got += more
        return bytes(got)

    def gone(self):
        """The server has hung up, and has said nothing more."""
        try:
            got = self.sock.recv(1)
        except ConnectionResetError:
            got = b""
        except socket.timeout:
            raise harness.Failed("the server does not hang up") from None
        self.t.check(got == b"", f"the server says {got!r}")

    def close(self):
        self.sock.close()

    # --- fetching

    def get(self, layout, pid, vaddr, nr=1):
        return self.send(header(layout, GET, nr, vaddr, pid))

    def reply(self, layout, pid, vaddr, nr=1):
        """The pages of a reply that is as it should be."""
        got = self.recv(layout)
        want = header(layout, ADD_F | PRESENT << 16, nr, vaddr, pid, 0)
        self.t.check(got == want, f"header {got.hex(' ')}, not {want.hex(' ')}")
        return self.recv(nr * PAGE)

    def fetch(self, layout, pid, vaddr, nr=1):
        return self.get(layout, pid, vaddr, nr).reply(layout, pid, vaddr, nr)

    def bye(self, layout, cmd=CLOSE):
        """Say that this is all: the answer is 0, and then the connection ends."""
        self.send(header(layout, cmd))
        got = self.recv(4)
        self.t.check(got == bytes(4), f"CLOSE is answered by {got!r}")
        self.gone()
        self.close()

    # --- storing

    def open(self, layout, dst, parent=False):
        got = self.send(header(layout, OPEN2, 0, 0, dst)).recv(1)
        self.t.check(got == bytes([parent]), f"OPEN2 is answered by {got!r}")

    def ask_parent(self, layout, dst, parent):
        got = self.send(header(layout, PARENT_Q, 0, 0, dst)).recv(4)
        self.t.check(got == struct.pack("<i", parent), f"PARENT is answered by {got!r}")

    def add(self, layout, dst, vaddr, data, flags=PRESENT):
        return self.send(header(layout, ADD_F | flags << 16, len(data) // PAGE, vaddr, dst) + data)

    def hole(self, layout, dst, vaddr, nr, cmd=ADD_F | PARENT << 16):
        return self.send(header(layout, cmd, nr, vaddr, dst))
