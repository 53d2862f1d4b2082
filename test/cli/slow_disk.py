# SPDX-License-Identifier: GPL-2.0-or-later
"""A file whose disk does not answer: a file system of one file (FUSE, linux/fuse.h) is mounted, and
the file laid over another one with the same content.  Each READ waits until the test lets go, or
makes it fail.  Nothing is cached before, so who wants a page of it has to wait."""

import contextlib
import ctypes
import errno
import os
import signal
import struct
import threading

from harness import Failed, Skipped

MS_BIND, MNT_DETACH, PR_SET_PDEATHSIG = 4096, 2, 1
LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT, BATCH_FORGET = 1, 2, 3, 14, 15, 18, 25, 26, 42
ROOT, FILE, LONG = 1, 2, 1000  # node numbers; seconds for which what is said stays true
IN = struct.Struct("IIQQIIII")  # struct fuse_in_header
libc = ctypes.CDLL(None, use_errno=True)


class Server:
    """In a process of its own; one thread for each READ, since they wait."""

    def __init__(self, fd, name, data):
        self.fd, self.name, self.data = fd, name.encode(), data
        self.gate, self.error = threading.Event(), 0

    def attr(self, node):
        mode, size = (0o40755, 0) if node == ROOT else (0o100600, len(self.data))
        return struct.pack("6Q10I", node, size, (size + 511) // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0,
                           0, 4096, 0)

    def reply(self, unique, body=b"", error=0):
        with contextlib.suppress(OSError):  # who asked may be dead
            os.write(self.fd, struct.pack("IiQ", 16 + len(body), -error, unique) + body)

    def read(self, unique, offset, size):
        self.gate.wait()
        self.reply(unique, b"" if self.error else self.data[offset:offset + size], self.error)

    def one(self, op, unique, node, body):
        if op == INIT:
            self.reply(unique, struct.pack("4I2H2I2H8I", 7, 31, 131072, 0, 0, 0, 131072, 1, 0, 0,
                                           *[0] * 8))
        elif op == LOOKUP and body.rstrip(b"\0") == self.name:
            self.reply(unique, struct.pack("4Q2I", FILE, 0, LONG, LONG, 0, 0) + self.attr(FILE))
        elif op == LOOKUP:
            self.reply(unique, error=errno.ENOENT)
        elif op == GETATTR:
            self.reply(unique, struct.pack("Q2I", LONG, 0, 0) + self.attr(node))
        elif op == OPEN:
            self.reply(unique, struct.pack("Q2I", 1, 0, 0))
        elif op == READ:
            _, offset, size = struct.unpack_from("QQI", body)
            threading.Thread(target=self.read, args=(unique, offset, size), daemon=True).start()
        elif op in (RELEASE, FLUSH):
            self.reply(unique)
        elif op not in (FORGET, BATCH_FORGET):
            self.reply(unique, error=errno.ENOSYS)

    def obey(self, orders):
        order = os.read(orders, 1)
        self.error = errno.EIO if order == b"e" else 0
        self.gate.set()

    def serve(self, orders):
        threading.Thread(target=self.obey, args=(orders,), daemon=True).start()
        while True:
            message = os.read(self.fd, 1 << 18)
            length, op, unique, node, *_ = IN.unpack_from(message)
            self.one(op, unique, node, message[IN.size:length])


class SlowDisk:
    def __init__(self, orders):
        self.orders = orders

    def let_go(self):
        os.write(self.orders, b"g")

    def fail(self):
        os.write(self.orders, b"e")


def mount(*args):
    if libc.mount(*args) < 0:
        raise Failed(f"mount {args}: {os.strerror(ctypes.get_errno())}")


def start_server(fd, name, data):
    orders, ours = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            Server(fd, name, data).serve(orders)
        finally:
            os._exit(0)
    os.close(orders)
    return pid, ours


@contextlib.contextmanager
def slow_disk(t, path):
    """The disk under path does not answer from now on."""
    place, name = os.path.join(t.folder, "slow"), os.path.basename(path)
    with open(path, "rb") as f:
        data = f.read()
    try:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        raise Skipped(f"/dev/fuse: {e.strerror}") from e
    os.mkdir(place)
    mount(b"slow", place.encode(), b"fuse", 6, f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode())
    pid, orders = start_server(fd, name, data)
    os.close(fd)
    try:
        mount(os.path.join(place, name).encode(), path.encode(), None, MS_BIND, None)
        yield SlowDisk(orders)
    finally:
        os.kill(pid, signal.SIGKILL)  # all that waits is told of an error
        os.waitpid(pid, 0)
        os.close(orders)
        libc.umount2(path.encode(), MNT_DETACH)
        libc.umount2(place.encode(), MNT_DETACH)
