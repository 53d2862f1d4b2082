# SPDX-License-Identifier: GPL-2.0-or-later
"""While a disk does not answer; pitfall_slow_disk (case_pitfalls.py) is about the same."""

import os
import signal

import peer
from case_guardian import OFF, worker
from harness import case
from images import Process
from slow_disk import slow_disk

NR = 16


def waiting(t, *options):
    """A helper, and two tasks: the first one waits for its page 3, whose disk does not answer."""
    helper = t.helper(*options)
    sock = t.connect()
    tasks = [t.task(sock, pid, NR) for pid in (1000, 1001)]
    sock.sendall(peer.FINISHED)
    tasks[0].start_touching(3)
    t.check(tasks[0].waits(), "its page is there")
    return helper, *tasks


def slow(t):
    t.images(Process(1000, NR), Process(1001, NR))
    return slow_disk(t, os.path.join(t.img, "pages-1.img"))


@case
def slow_disk_others(t):
    "who needs nothing of a disk that does not answer gets all of its pages"
    with slow(t) as disk:
        helper, one, other = waiting(t)
        t.check(other.all_right(), "a page of the other one is wrong")
        disk.let_go()
        t.check(one.answer() and one.all_right(), "a page is wrong")
        helper.ends(0)


@case
def slow_disk_worker_dies(t):
    "the worker is killed while the disk does not answer"
    with slow(t) as disk:
        helper, one, other = waiting(t, *OFF)
        for _ in range(3):
            os.kill(worker(t, helper.p.pid), signal.SIGKILL)
        t.check(one.waits(), "its page is there")
        disk.let_go()
        t.check(one.answer() and one.all_right() and other.all_right(), "a page is wrong")
        helper.ends(0)


@case
def slow_disk_task_dies(t):
    "a task is killed while the disk does not answer"
    with slow(t) as disk:
        helper, one, other = waiting(t)
        one.kill()
        t.check(other.all_right(), "a page of the other one is wrong")
        disk.let_go()
        helper.ends(0)


@case
def slow_disk_fails(t):
    "the disk answers with an error: its process is killed, the other one goes on"
    with slow(t) as disk:
        helper, one, other = waiting(t)
        disk.fail()
        t.check(one.ended() == -signal.SIGKILL, f"its status is {one.status}: {helper.log()}")
        t.check(other.all_right(), "a page of the other one is wrong")
        helper.ends(1, r"pid 1000: page 0x\w+ .* is lost: .*Input/output error; the process is killed")
