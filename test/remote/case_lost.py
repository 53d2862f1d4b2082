# SPDX-License-Identifier: GPL-2.0-or-later
"""The connection to the server is lost: programs wait, the helper finds its way back, or gives up
without ever handing out zeros.  QEMU's cases of postcopy recovery, and a few more."""

import os
import random
import shutil
import signal

import images
from ends import Process, Proxy, ends_well, helper, remote, restore, serve, write_images
from harness import Helper, case

NR = 64
LARGE = 20000  # pages; some seconds at --background 20M


def one(nr=NR):
    return images.Process(1000, nr)


def start(t, nr=NR, proxy=(), helper_options=("--background", "off")):
    server = serve(t, write_images(t, one(nr)))
    p = Proxy(t, server.port, *proxy)
    h = helper(t, p.port, *helper_options)
    return server, p, h, restore(t, nr)


@case
def loss(t):
    "all connections are cut while nothing is in flight"
    _, p, h, task = start(t)
    t.check(task.touch(3), "page 3 is wrong")
    p.cut()
    t.check(task.touch(4), f"page 4 is wrong: {h.log()}")
    t.check(all(task.touch(i) for i in range(30)), "pages are wrong")
    h.term()
    ends_well(t, h, task)
    p.did(cuts=1, connections=2)


@case
def loss_in_flight(t):
    "cut while a thread waits: the answers are on their way, 50 ms long"
    _, p, h, task = start(t, proxy=["--delay", "50000"])
    for i in range(5):
        task.start_touching(i)
        p.cut()
        t.check(task.answer(), f"page {i} is wrong: {h.log()}")
    h.term()
    ends_well(t, h, task)
    p.did(cuts=5)


@case
def loss_in_handshake(t):
    "the connections after the loss are cut too, in their first bytes, seven times"
    _, p, h, task = start(t, proxy=["--cut-handshake", "7"])
    t.check(task.touch(0), "page 0 is wrong")
    p.cut()
    t.check(task.touch(1), f"page 1 is wrong: {h.log()}")
    h.term()
    ends_well(t, h, task)
    p.did(cuts=1, handshakes=7)


@case
def double_loss(t):
    "lost, refused for a while, and lost again at once when it is back"
    _, p, h, task = start(t, proxy=["--refuse-for", "300", "--cut-handshake", "2"])
    t.check(task.touch(0), "page 0 is wrong")
    p.cut()
    task.start_touching(1)
    t.check(task.waits(), "an answer, though nobody could be asked")
    p.cut()
    t.check(task.answer(), f"page 1 is wrong: {h.log()}")
    p.cut()
    t.check(task.touch(2), f"page 2 is wrong: {h.log()}")
    h.term()
    ends_well(t, h, task)
    p.did(cuts=3)


@case
def silence(t):
    "the server is stopped for a second, with a thread waiting, and goes on"
    server, p, h, task = start(t)
    t.check(task.touch(0), "page 0 is wrong")
    server.signal(signal.SIGSTOP)
    task.start_touching(1)
    t.check(task.waits(1), "an answer from a server that is stopped")
    server.signal(signal.SIGCONT)
    t.check(task.answer(), "page 1 is wrong")
    h.term()
    ends_well(t, h, task)
    p.did(connections=1)


def serve_again(t, server, folder=None):
    """A new server at the same port; the old one is killed."""
    server.kill()
    return lambda: serve(t, folder or t.path("full"), server.port)


@case
def server_restarted(t):
    "the server is killed and started again on the same directory while a thread waits"
    server = serve(t, write_images(t, one()))
    h = helper(t, server.port, "--background", "off")
    task = restore(t, NR)
    for i in range(3):
        t.check(task.touch(2 * i), f"page {2 * i} is wrong")
        again = serve_again(t, server)
        task.start_touching(2 * i + 1)
        t.check(task.waits(0.2), "an answer, though there is no server")
        server = again()
        t.check(task.answer(), f"page {2 * i + 1} is wrong: {h.log()}")
    h.term()
    ends_well(t, h, task)
    server.ends()


@case
def server_restarted_under_load(t):
    "78 MiB in the background, and the server is killed again and again in the middle"
    server = serve(t, write_images(t, one(LARGE)))
    h = helper(t, server.port, "--background", "30M")
    task = restore(t, LARGE)
    rnd = random.Random(1)
    for _ in range(5):
        t.check(task.touch(rnd.randrange(LARGE)), "a page is wrong")
        t.check(h.alive(), f"the helper has ended too early: {h.log()}")
        server = serve_again(t, server)()
    ends_well(t, h, task)
    server.ends()


@case
def cuts_under_load(t):
    "78 MiB in the background, and ten cuts, some while it connects again"
    _, p, h, task = start(t, LARGE, helper_options=["--background", "30M"])
    rnd = random.Random(2)
    for _ in range(10):
        t.check(task.touch(rnd.randrange(LARGE)), "a page is wrong")
        t.check(h.alive(), f"the helper has ended too early: {h.log()}")
        p.cut()
    ends_well(t, h, task)
    p.did(cuts=5)


@case
def gone_for_good(t):
    "the server does not come back: who touches what is missing is killed, and sees no zeros"
    server = serve(t, write_images(t, one()))
    h = helper(t, server.port, "--background", "off", "--reconnect-timeout", "1")
    task = restore(t, NR)
    t.check(task.touch(0), "page 0 is wrong")
    server.kill()
    task.start_touching(1)
    t.check(task.answer() is None, "an answer, though nobody can know it")
    t.check(task.ended(30) == -signal.SIGKILL, f"the task's end: {task.status}")
    t.check(h.p.wait(30) != 0, f"the helper's status is 0: {h.log()}")


@case
def gone_for_good_poisoned(t):
    "the same with --on-lost poison: SIGBUS for the page, what was there stays right"
    server = serve(t, write_images(t, one()))
    h = helper(t, server.port, "--background", "off", "--reconnect-timeout", "1", "--on-lost",
               "poison")
    task = restore(t, NR)
    t.check(task.touch(0), "page 0 is wrong")
    server.kill()
    task.start_touching(1)
    t.check(task.answer() is None, "an answer, though nobody can know it")
    t.check(task.ended(30) == -signal.SIGBUS, f"the task's end: {task.status}")
    t.check(h.p.wait(30) != 0, f"the helper's status is 0: {h.log()}")


def write_other(t):
    """Images of the same process with other pages: its mappings differ, so do the images' names."""
    folder = t.path("other")
    images.write(folder, images.Process(1000, NR, runs=[(images.BASE, NR - 1, 6)]))
    with open(os.path.join(folder, "pages-1.img"), "r+b") as f:
        f.write(b"wrong" * 1000)
    return folder


@case
def other_directory(t):
    "the server has another checkpoint: the helper says so before the restore"
    write_images(t, one())
    server = serve(t, write_other(t))
    h = Helper(t, ["-D", t.img, *remote(server.port)], ready=False)
    t.check(h.p.wait(30) == 1, f"status {h.p.returncode}: {h.log()}")
    t.check(len(h.lines("Error")) == 1, f"not one error line: {h.log()}")


@case
def other_directory_later(t):
    "restarted on another checkpoint: nothing of it reaches the program; back on the right one, it does"
    server = serve(t, write_images(t, one()))
    h = helper(t, server.port, "--background", "off")
    task = restore(t, NR)
    t.check(task.touch(0), "page 0 is wrong")
    server = serve_again(t, server, write_other(t))()
    task.start_touching(1)
    t.check(task.waits(1.5), f"an answer from a wrong directory: {h.log()}")
    server = serve_again(t, server)()
    t.check(task.answer(), f"page 1 is wrong: {h.log()}")
    h.term()
    ends_well(t, h, task)


@case
def nobody_there(t):
    "no server: an error before the restore, no socket left"
    server = serve(t, write_images(t, one()))
    server.kill()
    h = Helper(t, ["-D", t.img, *remote(server.port)], ready=False)
    t.check(h.p.wait(30) == 1, f"status {h.p.returncode}: {h.log()}")
    t.check(len(h.lines("Error")) == 1, f"not one error line: {h.log()}")
    t.check(not os.path.exists(t.socket), "a socket is left")


@case
def damaged_pages(t):
    "bits flip on the way, in the very first answers and everywhere: every page is right"
    for seed in range(3):
        t.img = t.path(f"img{seed}")
        t.socket = os.path.join(t.img, "lazy-pages.socket")
        shutil.rmtree(t.path("full"), ignore_errors=True)
        server = serve(t, write_images(t, one(2000)))
        p = Proxy(t, server.port, "--flip-every", "30K", "--seed", seed)
        h = helper(t, p.port, "--protocol", "lanes", ready=False)
        if h.read_status() != b"\0":  # a bit in the handshake: an error, while nothing is lost
            t.check(h.p.wait(30) == 1, f"status {h.p.returncode}: {h.log()}")
            continue
        ends_well(t, h, restore(t, 2000))
        p.did(flips=1)
        server.ends()


@case
def first_answer_damaged(t):
    "the first page comes before both ends know each other: a bit flipped in it is not believed"
    server = serve(t, write_images(t, one()))
    for at in (100, 2000, 4000):
        p = Proxy(t, server.port, "--flip-at", at, "--flip-max", 1)
        h = helper(t, p.port, "--background", "off")
        task = restore(t, NR)
        h.term()
        ends_well(t, h, task)
        p.did(flips=1)


@case
def unix_socket(t):
    "over a unix socket, and the server restarted"
    path = t.path("server.socket")
    write_images(t, one())

    def start_server():
        return Process(t, "server", [t.program, "page-server", "--lazy-pages", "--keep", "-D",
                                     t.path("full"), "-W", t.folder, "--unix", path], port=True)

    server = start_server()
    h = Helper(t, ["-D", t.img, "--page-server", "--unix", path, "--background", "off"])
    task = restore(t, NR)
    t.check(task.touch(0), "page 0 is wrong")
    server.kill()
    task.start_touching(1)
    t.check(task.waits(0.2), "an answer, though there is no server")
    start_server()
    t.check(task.answer(), f"page 1 is wrong: {h.log()}")
    h.term()
    ends_well(t, h, task)
