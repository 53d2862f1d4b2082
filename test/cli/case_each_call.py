# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker is killed at the beginning and at the end of each system call of a whole restore."""

import os
import re
from unittest import mock

import peer
from case_guardian import DEATH, OFF, adopt_orphans, worker
from harness import case
from images import Process
from stepper import Stepper

NR = 1  # pages of each process
PARTS = 3  # cases, for the time limit of each: every third point


def restore_with_death(t, point, paced):
    """True when the worker was killed before it ended.  paced: it has nothing to do at each word."""
    processes = (Process(1000, NR), Process(1001, NR))
    t.images(*processes)
    # LeakSanitizer gives up, and with it the worker, where somebody else traces it to its end.
    with mock.patch.dict(os.environ, LSAN_OPTIONS="detect_leaks=0"):
        helper = t.helper(*OFF)
    stepper = Stepper(worker(t, helper.p.pid), point)
    t.check(stepper.is_held, "the worker cannot be traced")
    where = f"stop {point}, {'paced' if paced else 'at once'}"

    def pace():
        if paced:
            t.until(stepper.rests, f"{where}: no rest")

    pace()
    sock = t.connect()
    tasks = []
    for p in processes:
        pace()
        tasks.append(t.task(sock, p.pid, NR, pace))
        pace()
    sock.sendall(peer.FINISHED)
    pace()
    sock.close()
    pace()
    for task in tasks:
        trouble = task.trouble()
        t.check(not trouble, f"{where}: {trouble}: {helper.log()}")
        pace()
    killed = stepper.end()
    t.check(killed is not None, "the tracer has failed")
    helper.ends(0)
    told = len(re.findall(DEATH, helper.log()))
    t.check(told == killed, f"{where}: {told} lines for {int(killed)} deaths: {helper.log()}")
    for task in tasks:
        task.kill()
    t.tasks.clear()
    t.helpers.clear()
    return killed


def each_call(t, first, paced):
    adopt_orphans()
    point = first
    while restore_with_death(t, point, paced):
        point += PARTS
    t.check(point > 50, f"only {point} points: was all of it traced?")


@case
def guardian_each_call_0(t):
    "the worker is killed at each beginning and end of a system call of a restore: all arrives"
    each_call(t, 0, False)


@case
def guardian_each_call_1(t):
    "the points in between"
    each_call(t, 1, False)


@case
def guardian_each_call_2(t):
    "the rest of them"
    each_call(t, 2, False)


@case
def guardian_each_call_paced_0(t):
    "the same when the worker rests before each word: it looks for more, and nothing is there"
    each_call(t, 0, True)


@case
def guardian_each_call_paced_1(t):
    "the points in between"
    each_call(t, 1, True)


@case
def guardian_each_call_paced_2(t):
    "the rest of them"
    each_call(t, 2, True)
