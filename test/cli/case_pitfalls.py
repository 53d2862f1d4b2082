# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes wrong with CRIU's own helper: Documentation/LIMITS.md has the table.

These run with that helper as well (test/cli/run --helper criu): nothing here looks at a log, or at
options that only ours has.
"""

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import threading
import time

import peer
from case_security import EACCES, as_nobody, cut_off, open_folders
from harness import Failed, pitfall
from images import BASE, PAGE, Process, content
from slow_disk import slow_disk

UFFDIO_COPY, DONTWAKE = 0xC028AA03, 1
WAITED_FOR = 3  # the page that a thread of the task is waiting for when it reports
UNMAPPED = 9
JOIN = 5 << 20  # the order to tell what that thread got


def waits_for_userfaultfd(thread):
    path = f"/proc/self/task/{thread.native_id}/wchan"
    for _ in range(2000):
        with open(path, encoding="ascii") as f:
            if "userfault" in f.read():
                return
        time.sleep(0.005)
    os._exit(97)


def fill(fd, pid, index):
    """The page as the helper would bring it, but nobody who waits for it is woken."""
    data = ctypes.create_string_buffer(content(pid, index), PAGE)
    fcntl.ioctl(fd, UFFDIO_COPY, struct.pack("QQQQq", BASE + index * PAGE, ctypes.addressof(data),
                                             PAGE, DONTWAKE, 0))


class Busy(peer.Task):
    """A task to which something has happened when it reports: prepare() is called before that."""

    def __init__(self, sock, prepare):
        self.prepare, self.thread, self.got = prepare, None, ctypes.create_string_buffer(PAGE)
        super().__init__(sock)

    def live(self, sock, pipe):
        signal.alarm(60)
        fd = peer.missing_memory(self.nr)
        self.prepare(self, fd)
        sock.sendall(peer.word(self.pid))
        socket.send_fds(sock, [b"\0"], [fd])
        os.close(fd)
        sock.close()
        pipe.sendall(b"r")
        self.obey(pipe)

    @staticmethod
    def aside(f, *args):
        """f in a thread, which waits for the helper when this returns; ctypes lets others run."""
        thread = threading.Thread(target=f, args=args, daemon=True)
        thread.start()
        waits_for_userfaultfd(thread)
        return thread

    def fault(self):
        self.thread = self.aside(peer.libc.memcpy, self.got,
                                 ctypes.c_void_p(BASE + WAITED_FOR * PAGE), ctypes.c_size_t(PAGE))

    def change(self, what, addr):
        if what != JOIN:
            super().change(what, addr)
            return
        self.thread.join()
        if self.got.raw != content(self.pid, WAITED_FOR):
            os._exit(96)

    def thread_goes_on(self):
        self.start_touching(JOIN)
        try:
            return self.answer() is True
        except TimeoutError:
            return False


def busy(t, sock, prepare):
    task = Busy(sock, prepare)
    t.tasks.append(task)
    return task


@pitfall(None)
def pitfall_none(t):
    "the same without a pitfall, as a control: CRIU's own helper passes this one"
    t.images()
    helper = t.helper()
    sock = t.connect()
    task = busy(t, sock, lambda task, _fd: task.fault())
    t.check(task.thread_goes_on(), "the fault is not answered")
    sock.sendall(peer.FINISHED)
    t.check(task.all_right(), "a page is wrong")
    helper.ends(0)


# --- P-25: EEXIST ---------------------------------------------------------------------------------


@pitfall("P-25")
def pitfall_present(t):
    "a page that is there already: the helper leaves it, and comes to an end"
    t.images()
    helper = t.helper()
    sock = t.connect()
    task = busy(t, sock, lambda task, fd: fill(fd, 1000, WAITED_FOR))
    sock.sendall(peer.FINISHED)
    t.check(task.all_right(), "a page is wrong")
    helper.ends(0)


@pitfall("P-25")
def pitfall_present_waiter(t):
    "a page that is there already, and a thread that nobody has woken: it is"
    t.images()
    helper = t.helper()
    sock = t.connect()

    def prepare(task, fd):
        task.fault()
        fill(fd, 1000, WAITED_FOR)

    task = busy(t, sock, prepare)
    sock.sendall(peer.FINISHED)
    t.check(task.thread_goes_on(), "the thread is not woken")
    t.check(task.all_right(), "a page is wrong")
    helper.ends(0)


# --- P-26: a fault that cannot be answered at once ------------------------------------------------


@pitfall("P-26")
def pitfall_fault_again(t):
    "a fault in the middle of a munmap() (EAGAIN): answered, though \"finished\" has not been said"
    t.images()
    helper = t.helper()
    sock = t.connect()

    def prepare(task, _fd):
        task.fault()
        task.aside(peer.libc.munmap, ctypes.c_void_p(BASE + UNMAPPED * PAGE), ctypes.c_size_t(PAGE))

    task = busy(t, sock, prepare)
    t.check(task.thread_goes_on(), "the fault is not answered")
    sock.sendall(peer.FINISHED)
    t.check(all(task.touch(i) for i in range(16) if i != UNMAPPED), "a page is wrong")
    helper.ends(0)


# --- P-1: the helper's death ----------------------------------------------------------------------


def death(t, number):
    t.images()
    helper = t.helper()
    sock = t.connect()
    task = t.task(sock)
    t.check(task.touch(3) is True, "a page is wrong before that")
    helper.p.send_signal(number)
    try:
        helper.p.wait(1)
    except subprocess.TimeoutExpired:
        pass  # it goes on, which is as good
    t.check(task.touch(5) is not False, "the program reads zeros")


@pitfall("P-1")
def pitfall_killed(t):
    "SIGKILL for the helper while pages are missing: the program does not read zeros"
    death(t, signal.SIGKILL)


@pitfall("P-1")
def pitfall_terminated(t):
    "SIGTERM for the helper while pages are missing: the program does not read zeros"
    death(t, signal.SIGTERM)


# --- P-29, P-33: images that cannot be right ------------------------------------------------------


def refused(t, helper):
    """The helper ends by itself and says so; no process reads what is not in the image."""
    if helper.read_status() == b"\0":
        sock = t.connect()
        task = t.task(sock)
        try:
            sock.sendall(peer.FINISHED)
        except BrokenPipeError:
            pass
        sock.close()
        t.check(task.touch(3) is not False, "the program reads zeros")
    try:
        status = helper.p.wait(10)
    except subprocess.TimeoutExpired:
        raise Failed("the helper goes on, and does not end") from None
    t.check(status > 0, f"it is not refused: exit status {status}")


@pitfall("P-33")
def pitfall_outside(t):
    "a lazy page of the image that lies outside every mapping is an error"
    t.images(Process(1000, runs=[(BASE, 16, 6), (BASE + 64 * PAGE, 1, 6)]))
    refused(t, t.helper(ready=False))


@pitfall("P-33")
def pitfall_over_the_end(t):
    "lazy pages that go on behind the end of their mapping are an error"
    t.images(Process(1000, runs=[(BASE, 17, 6)]))
    refused(t, t.helper(ready=False))


@pitfall("P-29")
def pitfall_no_mappings(t):
    "an image without mappings is an error"
    t.images(Process(1000, vmas=[]))
    refused(t, t.helper(ready=False))


@pitfall("P-29")
def pitfall_no_mm(t):
    "an image without mm is an error"
    t.images()
    os.unlink(t.path("img", "mm-1000.img"))
    refused(t, t.helper(ready=False))


# --- P-36: the socket -----------------------------------------------------------------------------


@pitfall("P-36")
def pitfall_socket_left(t):
    "the socket is removed at the end"
    t.images()
    helper = t.helper()
    t.whole_restore(helper)
    t.check(not os.path.exists(t.socket), "the socket is left behind")


@pitfall("P-36")
def pitfall_second(t):
    "a second helper does not take the first one's socket away"
    t.images()
    first = t.helper()
    second = t.helper(ready=False)
    t.check(second.read_status() != b"\0", "the second took the socket")
    t.whole_restore(first)


@pitfall("P-36")
def pitfall_other_user(t):
    "another user gets nothing, whatever the umask, and does not stand in the way of a restore"
    t.images()
    umask = os.umask(0)
    helper = t.helper()
    os.umask(umask)
    open_folders(t)
    got = as_nobody(lambda: cut_off(t.socket))
    t.check(got in (0, EACCES), f"another user may connect, and stays: {got}")
    t.whole_restore(helper)


# --- P-38: a disk that does not answer ---------------------------------------------------------------


@pitfall("P-38")
def pitfall_slow_disk(t):
    "a page is read from a disk that does not answer: munmap(), madvise() and fork() do not wait for it"
    t.images()
    with slow_disk(t, os.path.join(t.img, "pages-1.img")) as disk:
        helper = t.helper()
        sock = t.connect()
        task = busy(t, sock, lambda task, _fd: task.fault())
        for what in (peer.UNMAP + UNMAPPED, peer.FORK):
            try:
                t.check(task.touch(what), "the task is gone")
            except TimeoutError as e:
                raise Failed(f"the program waits in call {what >> 20}") from e
        disk.let_go()
        t.check(task.thread_goes_on(), "the fault is not answered")
        sock.sendall(peer.FINISHED)
        t.check(all(task.touch(i) for i in range(task.nr) if i != UNMAPPED), "a page is wrong")
        helper.ends(0)
