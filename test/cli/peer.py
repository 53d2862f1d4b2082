# SPDX-License-Identifier: GPL-2.0-or-later
"""The other side of the helper: a restorer that speaks the socket's protocol, and its tasks.

A Task is a process of its own with missing memory at BASE, as a restored one would be: it makes a
userfaultfd, registers, reports to the helper itself, and then touches pages when it is told to.
"""

import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import time

from images import BASE, PAGE, content

SYS_USERFAULTFD = 323
# Orders of a task, added to a page's number.
UNMAP, DISCARD, FORK, BEAR = 1 << 20, 2 << 20, 3 << 20, 4 << 20
MADV_DONTNEED = 4
UFFDIO_API, UFFDIO_REGISTER = 0xC018AA3F, 0xC020AA00
EVENTS = 0x4E  # fork, remap, remove, unmap: what CRIU asks for
FINISHED = b"FTSR"

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]


def make_uffd(features=EVENTS):
    fd = libc.syscall(SYS_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "userfaultfd")
    fcntl.ioctl(fd, UFFDIO_API, struct.pack("QQQ", 0xAA, features, 0))
    return fd


def missing_memory(nr):
    """nr pages at BASE that the returned userfaultfd is asked for."""
    got = libc.mmap(BASE, nr * PAGE, 3, 0x22 | 0x100000, -1, 0)
    if got != BASE:
        raise OSError(ctypes.get_errno(), "mmap")
    fd = make_uffd()
    fcntl.ioctl(fd, UFFDIO_REGISTER, struct.pack("QQQQ", BASE, nr * PAGE, 1, 0))
    return fd


def connect(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(path)
    return sock


def word(pid):
    return struct.pack("<i", pid)


def send_task(sock, pid, fd):
    sock.sendall(word(pid))
    socket.send_fds(sock, [b"\0"], [fd])


class Task:
    """Process number pid of the image: reports over sock when it is made."""

    def __init__(self, sock, pid=1000, nr=16, between=None):
        """between: called by the task after it has said its pid, before it sends its descriptor."""
        self.pid, self.nr, self.between, self.pipe = pid, nr, between, None
        self.child_real = None
        self.ours, theirs = socket.socketpair()
        self.child_ours, self.child_theirs = socket.socketpair()
        self.real = os.fork()
        if self.real == 0:
            try:
                self.ours.close()
                self.live(sock, theirs)
            finally:
                os._exit(99)
        theirs.close()
        self.child_theirs.close()
        self.status = None
        self.ours.settimeout(10)
        # A helper that refuses it may have killed it already.
        if self.ours.recv(1) != b"r" and self.ended() != -signal.SIGKILL:
            raise AssertionError("a task did not get ready")

    def live(self, sock, pipe):
        signal.alarm(60)
        fd = missing_memory(self.nr)
        sock.sendall(word(self.pid))
        if self.between:
            self.between()
        socket.send_fds(sock, [b"\0"], [fd])
        os.close(fd)
        sock.close()
        pipe.sendall(b"r")
        self.obey(pipe)

    def obey(self, pipe):
        self.pipe = pipe
        while True:
            order = pipe.recv(4)
            if len(order) < 4:
                os._exit(0)
            index = struct.unpack("<i", order)[0]
            if index < 0:
                os._exit(-1 - index)
            if index >= UNMAP:
                self.change(index & ~(UNMAP - 1), BASE + index % UNMAP * PAGE)
                pipe.sendall(b"+")
                continue
            right = ctypes.string_at(BASE + index * PAGE, PAGE) == content(self.pid, index)
            pipe.sendall(b"+" if right else b"-")

    def change(self, what, addr):
        """Calls that end only when the helper has read what the kernel tells it about them."""
        if what == UNMAP:
            libc.munmap(ctypes.c_void_p(addr), ctypes.c_size_t(PAGE))
        elif what == DISCARD:
            libc.madvise(ctypes.c_void_p(addr), ctypes.c_size_t(PAGE), MADV_DONTNEED)
            if ctypes.string_at(addr, PAGE) != bytes(PAGE):
                os._exit(98)
        elif what == FORK:
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
        elif what == BEAR:
            if os.fork() == 0:
                signal.alarm(60)
                try:
                    self.pipe.close()
                    self.child_theirs.sendall(word(os.getpid()))
                    self.obey(self.child_theirs)
                finally:
                    os._exit(99)
            self.child_theirs.close()

    def touch(self, index):
        """True: right; False: wrong; None: the task died of it, or was dead."""
        try:
            self.ours.sendall(struct.pack("<i", index))
        except BrokenPipeError:
            return None
        return self.answer()

    def answer(self):
        try:
            return {b"+": True, b"-": False, b"": None}[self.ours.recv(1)]
        except ConnectionResetError:
            return None

    def start_touching(self, index):
        self.ours.sendall(struct.pack("<i", index))

    def waits(self, seconds=0.3):
        """Is there no answer for so long?"""
        return not select.select([self.ours], [], [], seconds)[0]

    def all_right(self):
        return self.trouble() is None

    def trouble(self):
        """None when every page is right, or what is the matter: wrong content is not a death."""
        for index in range(self.nr):
            try:
                right = self.touch(index)
            except TimeoutError:
                return f"process {self.pid}: page {index} does not come"
            if right is False:
                return f"process {self.pid}: page {index} is wrong"
            if right is None:
                status = self.ended()
                return f"process {self.pid} is gone before page {index}, with status {status}"
        return None

    def ended(self, seconds=10):
        """Its exit status, -N for signal N; None when it lives on."""
        until = time.monotonic() + seconds
        while self.status is None:
            pid, status = os.waitpid(self.real, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > until:
                return None
            else:
                time.sleep(0.005)
        return self.status

    def exit(self):
        self.ours.sendall(struct.pack("<i", -1))
        return self.ended()

    def kill(self):
        if self.status is None:
            try:
                os.kill(self.real, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.ended()
        if self.child_real:
            try:
                os.kill(self.child_real, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.ours.close()
        self.child_ours.close()

    def child(self):
        """Who was born by BEAR: it can be told to touch."""
        child = Child.__new__(Child)
        child.pid, child.nr, child.ours = self.pid, self.nr, self.child_ours
        child.ours.settimeout(10)
        self.child_real = struct.unpack("<i", child.ours.recv(4))[0]
        return child


class Child(Task):
    """A task's child, forked while memory was missing; it ends with its parent's kill()."""
