# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket: who may have it, and what a peer may say there."""

import os
import select
import signal
import socket

import peer
from harness import case
from images import Process
from words import says


# --- the file ---------------------------------------------------------------------------------


@case
def second_helper(t):
    "a second helper in the same directory is refused; the first is unharmed"
    t.images()
    first = t.helper()
    t.refuses_images("another helper listens at lazy-pages.socket")
    t.check(os.path.exists(t.socket), "the first helper's socket is gone")
    t.whole_restore(first)


@case
def second_socket(t):
    "two helpers in one directory with sockets of their own"
    t.images()
    first, second = t.helper(), t.helper("--socket", t.path("other"))
    t.whole_restore(second, t.path("other"))
    t.whole_restore(first)
    t.check(not os.path.exists(t.path("other")), "the second left its socket behind")


@case
def stale_socket(t):
    "a socket that a killed helper left behind is replaced"
    t.images()
    first = t.helper()
    first.kill()
    t.check(os.path.exists(t.socket), "there is nothing stale")
    t.whole_restore(t.helper())


@case
def socket_in_the_way(t):
    "a file or folder in the socket's place is refused, and kept"
    t.images()
    with open(t.socket, "w", encoding="ascii") as f:
        f.write("precious")
    t.refuses_images("lazy-pages.socket is in the way")
    with open(t.socket, encoding="ascii") as f:
        t.check(f.read() == "precious", "the file was overwritten")
    os.unlink(t.socket)
    os.symlink("pstree.img", t.socket)
    t.refuses_images("lazy-pages.socket is in the way")
    os.unlink(t.socket)
    os.mkdir(t.socket)
    t.refuses_images("lazy-pages.socket is in the way")


@case
def socket_removed(t):
    "the socket is removed at the end, not when another stands in its place"
    t.images()
    t.helper().term().ends(0)
    t.check(not os.path.exists(t.socket), "the socket is left behind")
    helper = t.helper()
    mode = os.stat(t.socket).st_mode & 0o777
    t.check(mode == 0o600, f"the socket's mode is {mode:o}")
    os.unlink(t.socket)
    with open(t.socket, "w", encoding="ascii") as f:
        f.write("not yours")
    helper.term().ends(0)
    t.check(os.path.exists(t.socket), "it removed what was not its own")


# --- signals before a restore ---------------------------------------------------------------------


@case
def signal_before(t):
    "SIGTERM and SIGINT before a restore end it with status 0; SIGHUP and SIGPIPE do not"
    t.images()
    for number in (signal.SIGTERM, signal.SIGINT):
        helper = t.helper()
        helper.p.send_signal(signal.SIGHUP)
        helper.p.send_signal(signal.SIGPIPE)
        t.whole_restore(helper)
        helper = t.helper()
        helper.p.send_signal(number)
        helper.ends(0)
        t.check(not os.path.exists(t.socket), "the socket is left behind")


# --- what a peer says -----------------------------------------------------------------------------


@case
def without_a_word(t):
    "peers that connect and leave: it keeps waiting, says so, and a later restore works"
    t.images()
    helper = t.helper()
    for n in range(1, 4):
        t.connect().close()
        t.until(lambda n=n: len(helper.lines("Warn")) == n, "no warning")
    t.check("left without a word" in helper.lines("Warn")[0], helper.log())
    t.whole_restore(helper)


@case
def leaves_in_the_middle(t):
    "half a pid, a pid without its descriptor, and then nothing more"
    t.images(Process(1000), Process(1001, ppid=1000))
    for said in (b"\xe8\x03", peer.word(1000), peer.word(1000)[:3]):
        helper = t.helper()
        sock = t.connect()
        sock.sendall(said)
        sock.close()
        helper.ends(1, "restorer")
        t.check(not os.path.exists(t.socket), "the socket is left behind")


@case
def slow_words(t):
    "bytes that come one by one are put together"
    t.images()
    helper = t.helper()
    sock = t.connect()
    first, second = socket.socketpair(socket.AF_UNIX)
    t.sockets += [first, second]
    task = t.task(second)
    said = first.recv(4)
    _, fds, _, _ = socket.recv_fds(first, 1, 1)
    for n in range(4):
        sock.sendall(said[n:n + 1])
        select.select([], [], [], 0.02)
    socket.send_fds(sock, [b"\0"], fds)
    os.close(fds[0])
    for n in range(4):
        sock.sendall(peer.FINISHED[n:n + 1])
        select.select([], [], [], 0.02)
    t.check(task.all_right(), "a page is wrong")
    helper.ends(0)


@case
def garbage_pid(t):
    "words that are no pid"
    says(t, "0x00000000 as a pid", peer.word(0))
    says(t, "0x80000000 as a pid", peer.word(-0x80000000))
    says(t, "process 1196312649 is not in pstree.img", b"IHNG", (b"\0", [t.uffd()]))
    says(t, "zombie 1000000 is not in pstree.img", peer.word(-1000000))


@case
def unknown_pid(t):
    "a pid that is not in the image: perhaps the wrong directory"
    says(t, r"process 1001 is not in pstree.img.*directory", peer.word(1001), (b"\0", [t.uffd()]))


@case
def pid_twice(t):
    "a pid that reports twice"
    two = (Process(1000), Process(1001, ppid=1000))
    says(t, r"process 1000 .*twice", peer.word(1000), (b"\0", [t.uffd()]), peer.word(1000),
         (b"\0", [t.uffd()]), processes=two)


@case
def too_many_pids(t):
    "a process more than the image has"
    says(t, r"where \"finished\" was expected", peer.word(1000), (b"\0", [t.uffd()]),
         peer.word(1001))


@case
def without_descriptor(t):
    "a byte without a descriptor where one is due"
    says(t, "process 1000: .*byte without a userfaultfd", peer.word(1000), b"\0")


@case
def wrong_byte(t):
    "another byte than zero with the descriptor"
    says(t, "process 1000: 0x78 came", peer.word(1000), (b"x", [t.uffd()]))


@case
def descriptor_with_pid(t):
    "a descriptor where a pid belongs"
    says(t, "descriptor where a pid belongs", (peer.word(1000), [t.uffd()]))


@case
def many_descriptors(t):
    "several descriptors at once"
    says(t, "2 descriptors at once", peer.word(1000), (b"\0", [t.uffd(), t.uffd()]))
    says(t, r"\d+ descriptors at once", peer.word(1000), (b"\0", [0] * 200))


@case
def no_userfaultfd(t):
    "descriptors that are no userfaultfd: a device, a pipe, an eventfd"
    for fd in (os.open("/dev/zero", os.O_RDWR), os.pipe()[0], os.eventfd(0),
               os.memfd_create("x")):
        says(t, "process 1000: .*no userfaultfd", peer.word(1000), (b"\0", [fd]))


@case
def finished_too_early(t):
    "\"finished\" before every process has reported"
    says(t, "0 of 1 processes", peer.FINISHED)
    says(t, "1 of 2 processes", peer.word(1000), (b"\0", [t.uffd()]), peer.FINISHED,
         processes=(Process(1000), Process(1001, ppid=1000)))


@case
def talks_on(t):
    "more words after \"finished\": a warning, and the restore goes on"
    t.images()
    helper = t.helper("--background", "off")
    sock = t.connect()
    task = t.task(sock)
    sock.sendall(peer.FINISHED + b"and another thing")
    t.check(task.all_right(), "a page is wrong")
    helper.ends(0)
    t.check("goes on talking" in helper.log(), helper.log())


@case
def restorer_fails(t):
    "the restorer goes away before \"finished\": what it left is killed, none reads zeros"
    t.images(Process(1000), Process(1001, ppid=1000))
    helper = t.helper()
    sock = t.connect()
    task = t.task(sock)
    t.check(task.touch(3) is True, "a page is wrong before the end")
    sock.close()
    helper.ends(1, "1 of 2 processes|restorer")
    t.check(task.ended() == -signal.SIGKILL, f"the task's status is {task.status}")


@case
def two_peers(t):
    "two at once: the second is sent away, the restore of the first works"
    t.images()
    helper = t.helper()
    first = t.connect()
    task = t.task(first)
    second = t.connect()
    try:
        t.check(second.recv(1) == b"", "the second was not sent away")
    except ConnectionResetError:
        pass
    t.check("sent away" in helper.log(), helper.log())
    first.sendall(peer.FINISHED)
    t.check(task.all_right(), "a page is wrong")
    helper.ends(0)


@case
def zombies(t):
    "a zombie reports its negated pid, without a descriptor"
    t.images(Process(1000), Process(1001, zombie=True, ppid=1000))
    helper = t.helper()
    sock = t.connect()
    sock.sendall(peer.word(-1001))
    task = t.task(sock)
    sock.sendall(peer.FINISHED)
    t.check(task.all_right(), "a page is wrong")
    helper.ends(0)


@case
def only_zombies(t):
    "nothing but a zombie: ends at \"finished\""
    t.images(Process(1000, zombie=True))
    helper = t.helper()
    t.connect().sendall(peer.word(-1000) + peer.FINISHED)
    helper.ends(0)
