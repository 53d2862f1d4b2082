# SPDX-License-Identifier: GPL-2.0-or-later
"""While pages are missing: signals, ends of processes, pages that cannot be had."""

import os
import re
import resource
import signal
import time

import peer
from harness import case
from images import BASE, PAGE, Process


def restore(t, *args, processes=(Process(1000),), nr=16):
    """A helper, and a task for each of the processes, all of them let go."""
    t.images(*processes)
    helper = t.helper(*args)
    return helper, t.hand_over(*(p.pid for p in processes), nr=nr, hang_up=True)


@case
def background_off(t):
    "--background off: it waits for touches, and ends after the last"
    helper, (task,) = restore(t, "--background", "off")
    t.check(all(task.touch(i) for i in range(15)), "a page is wrong")
    t.check(task.waits(0.3) and helper.alive(), "it ended while a page was missing")
    t.check(task.touch(15), "the last page is wrong")
    helper.ends(0)
    t.check("16 pages by fault, 0 by background" in helper.log(), helper.log())


@case
def background_rate(t):
    "--background RATE: not faster than that"
    nr = 4096
    begin = time.monotonic()
    helper, (task,) = restore(t, "--background", "16M", processes=(Process(1000, nr),), nr=nr)
    helper.ends(0)
    took = time.monotonic() - begin
    t.check(took > 0.7, f"16 MiB at 16 MiB/s took only {took} s")
    t.check(task.all_right(), "a page is wrong")


@case
def slow_source(t):
    "a source that does not answer: munmap, madvise and fork of the program end all the same"
    helper, (task,) = restore(t, "--filter", "delay=3600000000")
    for order in (peer.UNMAP + 3, peer.DISCARD + 4, peer.FORK, peer.DISCARD + 4):
        t.check(task.touch(order), f"order {order:#x} was not carried out")
    task.start_touching(5)
    t.check(task.waits(0.3) and helper.alive(), "a page that has not come was answered")


@case
def no_descriptor_for_a_child(t):
    "no descriptor left when the program forks: the fork waits, and no page turns to zeros"
    helper, (task,) = restore(t, "--background", "off")
    t.check(task.touch(0), "a page is wrong")
    worker = helper.worker()
    before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (3, before[1]))
    task.start_touching(peer.FORK)
    t.check(task.waits(0.5) and helper.alive(), "the fork went on without its helper")
    t.check("reading userfaultfd" in helper.log(), helper.log())
    resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
    t.check(task.answer(), "the fork did not end")
    t.check(task.all_right(), "a page is wrong")
    helper.ends(0)


@case
def sigterm(t):
    "SIGTERM while pages are missing: a warning, the rest comes, status 0"
    for number in (signal.SIGTERM, signal.SIGINT):
        helper, (task,) = restore(t, "--background", "off")
        t.check(task.touch(5), "a page is wrong")
        helper.p.send_signal(number)
        helper.ends(0)
        t.check(len(helper.lines("Warn")) == 1 and "bringing the rest" in helper.log(),
                helper.log())
        t.check("1 pages by fault, 15 by background" in helper.log(), helper.log())
        t.check(task.all_right(), "a page is wrong after the helper's end")
        task.kill()


@case
def sigterm_before_finished(t):
    "SIGTERM after the first process has reported: the restore is carried through"
    t.images()
    helper = t.helper("--background", "off", "-v3")
    sock = t.connect()
    task = t.task(sock)
    t.until(lambda: "received its userfaultfd" in helper.log(), "it does not take the process")
    helper.term()
    t.until(lambda: helper.lines("Warn"), "no warning")
    t.check(helper.alive(), "it ended")
    sock.sendall(peer.FINISHED)
    helper.ends(0)
    t.check(task.all_right(), "a page is wrong")


@case
def sigterm_twice(t):
    "a second SIGTERM does not make it drop what is missing"
    helper, (task,) = restore(t, "--filter", "delay=20000", "--filter", "short=1")
    for _ in range(5):
        helper.term()
    helper.ends(0)
    t.check(task.all_right(), "a page is wrong")


@case
def exits_early(t):
    "a process that exits while pages are missing is normal"
    helper, (task,) = restore(t, "--background", "off")
    t.check(task.touch(1), "a page is wrong")
    t.check(task.exit() == 0, "the task did not end well")
    helper.ends(0)
    t.check("1 exited early" in helper.log(), helper.log())


@case
def one_of_two_exits(t):
    "one of two is killed: the other goes on"
    two = (Process(1000), Process(1001, ppid=1000))
    helper, tasks = restore(t, "--background", "off", processes=two)
    tasks[0].kill()
    t.check(tasks[1].all_right(), "a page of the other is wrong")
    helper.ends(0)


@case
def jobs(t):
    "--jobs 4: several processes, several threads"
    many = tuple(Process(1000 + i, ppid=1000 if i else 0) for i in range(8))
    helper, tasks = restore(t, "--jobs", "4", processes=many)
    t.check(all(task.all_right() for task in tasks), "a page is wrong")
    helper.ends(0)
    t.check("8 address spaces" in helper.log(), helper.log())


@case
def slow_and_short(t):
    "--filter delay and short: slow, in pieces, right"
    helper, (task,) = restore(t, "--filter", "delay=3000", "--filter", "short=2")
    t.check(task.all_right(), "a page is wrong")
    helper.ends(0)


LOST = BASE + 7 * PAGE
LOSE = ("--filter", f"lose={LOST:x}-{LOST + PAGE:x}")
TWO = (Process(1000), Process(1001, ppid=1000))


def check_lost_line(t, helper, pattern=rf"pid 1000: page 0x{LOST:x} \(image 0x{LOST:x}\) is lost: "):
    errors = helper.lines("Error")
    t.check(len(errors) == 1 and re.search(pattern, errors[0]), f"{errors}")


@case
def lost_kill(t):
    "--on-lost kill: who touches a lost page gets SIGKILL, the others go on, exit status 1"
    one = (Process(1000), Process(1001, nr=4, ppid=1000))
    t.images(*one)
    helper = t.helper("--background", "off", *LOSE)
    sock = t.connect()
    task, other = t.task(sock, 1000, 16), t.task(sock, 1001, 4)
    sock.sendall(peer.FINISHED)
    t.check(task.touch(6) and other.touch(0), "a page is wrong")
    t.check(task.touch(7) is None, "the touch of a lost page was answered")
    t.check(task.ended() == -signal.SIGKILL, f"the task's status is {task.status}")
    t.check(other.all_right(), "a page of the other is wrong")
    other.exit()
    helper.ends(1, rf"pid 1000: page 0x{LOST:x} .* is lost: .*the process is killed")
    check_lost_line(t, helper)


@case
def lost_poison(t):
    "--on-lost poison: SIGBUS where it is touched, and nowhere else"
    t.images(*TWO)
    helper = t.helper("--background", "off", "--on-lost", "poison", *LOSE)
    sock = t.connect()
    tasks = [t.task(sock, p.pid) for p in TWO]
    sock.sendall(peer.FINISHED)
    t.check(all(tasks[0].touch(i) for i in range(16) if i != 7), "a page is wrong")
    t.check(tasks[0].touch(7) is None, "the touch of a lost page was answered")
    t.check(tasks[0].ended() == -signal.SIGBUS, f"the task's status is {tasks[0].status}")
    t.check(all(tasks[1].touch(i) for i in range(16) if i != 7), "a page of the other is wrong")
    t.check(tasks[1].exit() == 0, "the other did not end well")
    helper.ends(1, rf"pid 1000: page 0x{LOST:x} .* is lost: .*SIGBUS")


@case
def lost_in_background(t):
    "a lost page that the background finds: kill, though nobody has touched it"
    helper, (task,) = restore(t, *LOSE)
    t.check(task.ended() == -signal.SIGKILL, f"the task's status is {task.status}")
    helper.ends(1, rf"page 0x{LOST:x} .* is lost")


@case
def lost_in_background_poison(t):
    "the same with poison: the process lives until it touches the page"
    helper, (task,) = restore(t, "--on-lost", "poison", *LOSE)
    helper.ends(1, rf"page 0x{LOST:x} .* is lost: .*SIGBUS")
    t.check(all(task.touch(i) for i in range(16) if i != 7), "a page is wrong")
    t.check(task.touch(7) is None, "the touch of a lost page was answered after the helper's end")
    t.check(task.ended() == -signal.SIGBUS, f"the task's status is {task.status}")


@case
def lost_and_delayed(t):
    "a lost page behind a delay: found when the answer comes"
    helper, (task,) = restore(t, *LOSE, "--filter", "delay=20000", "--background", "off")
    t.check(task.touch(7) is None, "the touch of a lost page was answered")
    t.check(task.ended() == -signal.SIGKILL, f"the task's status is {task.status}")
    helper.ends(1, rf"page 0x{LOST:x} .* is lost")


@case
def lost_for_all(t):
    "every page lost, of every process: all are killed"
    helper, tasks = restore(t, "--filter", "lose=0-7fffffffffff", processes=TWO)
    for task in tasks:
        t.check(task.ended() == -signal.SIGKILL, f"a task's status is {task.status}")
    t.check(helper.p.wait(10) == 1, "exit status")
    t.check(len(helper.lines("Error")) == 2, helper.log())


@case
def truncated_in_use(t):
    "the pages file is cut short while it is in use: the process is killed, never given zeros"
    for size in (0, 3 * PAGE, 7 * PAGE + 5):
        helper, (task,) = restore(t, "--background", "off")
        t.check(task.touch(0), "a page is wrong")
        os.truncate(t.path("img", "pages-1.img"), size)
        t.check(task.touch(9) is None, "the touch of a lost page was answered")
        t.check(task.ended() == -signal.SIGKILL, f"the task's status is {task.status}")
        helper.ends(1, rf"pid 1000: page 0x{BASE + 9 * PAGE:x} .* is lost: ")


@case
def truncated_within_a_page(t):
    "cut in the middle of a page: its second half is not zeros"
    helper, (task,) = restore(t, "--background", "off")
    os.truncate(t.path("img", "pages-1.img"), 9 * PAGE + 100)
    t.check(task.touch(9) is None, "the touch of half a page was answered")
    t.check(task.ended() == -signal.SIGKILL, f"the task's status is {task.status}")
    helper.ends(1, rf"pid 1000: page 0x{BASE + 9 * PAGE:x} .* is lost: ")


@case
def truncated_before_background(t):
    "cut short before the background has begun"
    t.images()
    helper = t.helper()
    sock = t.connect()
    task = t.task(sock)
    os.truncate(t.path("img", "pages-1.img"), 5 * PAGE)
    sock.sendall(peer.FINISHED)
    t.check(task.ended() == -signal.SIGKILL, f"the task's status is {task.status}")
    helper.ends(1, r"pid 1000: page .* is lost: pages-1.img was changed while it was in use")


@case
def removed_in_use(t):
    "the images are removed while in use: they are still read"
    helper, (task,) = restore(t, "--background", "off")
    for name in os.listdir(t.img):
        if name.endswith(".img"):  # the socket is the helper's to remove
            os.unlink(t.path("img", name))
    t.check(task.all_right(), "a page is wrong")
    helper.ends(0)
