# SPDX-License-Identifier: GPL-2.0-or-later
"""Deaths: of the worker, of its guardian, of both, of all three; and who is told to end.

Each case that ends well is looked at afterwards (over()): nothing runs any more, nothing is left
behind, and the next helper can be started at the same place at once.
"""

import ctypes
import os
import re
import signal
import struct
import time

import peer
from harness import Failed, case
from images import BASE, PAGE, Process
from page_peer import Server

SIGNALS = (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV)
TWO = (Process(1000), Process(1001))
DEATH = "the worker .*; the next one goes on where it was"
OFF = ("--background", "off")
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Who loses its parent becomes ours, so that zombies are seen."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def worker(t, guardian):
    """The guardian's only child, once there is one."""
    found = []

    def is_there():
        found[:] = [pid for pid, parent in t.members().items() if parent == guardian]
        return len(found) == 1

    try:
        t.until(is_there, "no worker")
    except Failed as e:
        raise Failed(f"{e}: {t.members()} {found} {[h.log() for h in t.helpers]}") from None
    return found[0]


def strike(t, helper, sig=signal.SIGKILL):
    """The worker dies, and there is another one."""
    guardian = helper.p.pid
    old = worker(t, guardian)
    os.kill(old, sig)
    t.until(lambda: old not in t.members(), "the worker does not die")
    return worker(t, guardian)


def sentinel(t, helper):
    guardian = helper.p.pid
    found = [pid for pid, parent in t.members().items()
             if pid != guardian and parent != guardian]
    t.check(len(found) == 1, f"sentinels: {found}")
    return found[0]


def over(t):
    """Nothing is left, no zombie either, and the place is free."""
    t.until(lambda: not t.members(), f"still there: {t.members()}")
    t.check(not os.path.exists(t.socket), "the socket is left behind")
    for task in t.tasks:
        task.kill()
    t.tasks.clear()
    t.images()
    t.whole_restore(t.helper())
    for task in t.tasks:
        task.kill()
    t.until(lambda: not t.members(), f"still there: {t.members()}")

    def nobody():
        try:
            while True:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    return False
        except ChildProcessError:
            return True

    t.until(nobody, "a child is left")


def ends_well(t, helper, deaths):
    helper.ends(0)
    told = len(re.findall(DEATH, helper.log()))
    t.check(told == deaths, f"{told} lines for {deaths} deaths: {helper.log()}")
    over(t)


def restore(t, *args, processes=TWO, nr=16, helper=None):
    """As in case_lost.py, with two processes."""
    if not helper:
        adopt_orphans()
        t.images(*processes)
        helper = t.helper(*args)
    return helper, t.hand_over(*(p.pid for p in processes), nr=nr, hang_up=True)


def half(t, tasks):
    for task in tasks:
        t.check(all(task.touch(i) for i in range(0, task.nr, 2)), "a page is wrong")


def all_right(t, *tasks):
    for task in tasks:
        trouble = task.trouble()
        t.check(not trouble, f"{trouble}: {[h.log() for h in t.helpers]}")


# --- the worker dies ------------------------------------------------------------------------------


@case
def guardian_before(t):
    "the worker dies three times before a restore: the socket stays, ready is said once"
    adopt_orphans()
    for sig in SIGNALS:
        t.images()
        helper = t.helper()
        for _ in range(3):
            strike(t, helper, sig)
            t.check(os.path.exists(t.socket), "the socket is gone")
        t.check(helper.read_status() == b"", "more was said than ready")
        (task,) = t.hand_over(hang_up=True)
        all_right(t, task)
        ends_well(t, helper, 3)


@case
def guardian_before_ready(t):
    "the worker dies at its first moments: ready is said exactly once, by whom it may be"
    adopt_orphans()
    for delay in range(12):
        t.images()
        helper = t.helper(ready=False)
        # The first child that is seen may be the one that makes the sentinel and ends.
        while True:
            old = worker(t, helper.p.pid)
            time.sleep(delay * 0.0005)
            try:
                os.kill(old, signal.SIGKILL)
                break
            except ProcessLookupError:
                pass
        t.check(helper.read_status() == b"\0", "not ready")
        t.check(helper.read_status() == b"", "ready was said twice")
        t.until(lambda old=old: old not in t.members(), "the worker does not die")
        (task,) = t.hand_over(hang_up=True)
        all_right(t, task)
        ends_well(t, helper, 1)


@case
def guardian_in_handoff(t):
    "it dies after a connect, a pid, a descriptor, between two tasks, before and after \"finished\""
    adopt_orphans()
    for point in range(6):
        for sig in SIGNALS:
            t.images(*TWO)
            helper = t.helper(*OFF)

            def here(n, helper=helper, sig=sig, point=point):
                if n == point:
                    strike(t, helper, sig)

            sock = t.connect()
            here(0)
            first = t.task(sock, 1000, 16, lambda here=here: here(1))
            here(2)
            second = t.task(sock, 1001, 16, lambda here=here: here(3))
            here(4)
            sock.sendall(peer.FINISHED)
            here(5)
            sock.close()
            all_right(t, first, second)
            ends_well(t, helper, 1)


@case
def guardian_all_the_way(t):
    "it dies at each of these points of one handoff"
    adopt_orphans()
    t.images(*TWO)
    helper = t.helper(*OFF)
    sock = t.connect()
    strike(t, helper)
    tasks = []
    for p in TWO:
        tasks.append(t.task(sock, p.pid, 16, lambda: strike(t, helper)))
        strike(t, helper)
    sock.sendall(peer.FINISHED)
    strike(t, helper)
    sock.close()
    strike(t, helper)
    all_right(t, *tasks)
    ends_well(t, helper, 7)


@case
def guardian_half(t):
    "it dies with half of the pages there: what is there stays, the rest comes"
    for sig in SIGNALS:
        helper, tasks = restore(t, *OFF)
        half(t, tasks)
        strike(t, helper, sig)
        all_right(t, *tasks)
        ends_well(t, helper, 1)


@case
def guardian_waiting(t):
    "it dies while threads wait, several times: they wait a little longer, and get what is right"
    for sig in SIGNALS:
        helper, tasks = restore(t, *OFF, "--filter", "delay=200000")
        for index in (3, 7, 11):
            for task in tasks:
                task.start_touching(index)
            strike(t, helper, sig)
            strike(t, helper, sig)
            t.check(all(task.answer() for task in tasks), "a page is wrong")
        helper.term()
        all_right(t, *tasks)
        ends_well(t, helper, 6)


@case
def guardian_fork(t):
    "it dies while a program forks, and right after: parent and child have what is right"
    for sig in SIGNALS:
        for during in (True, False):
            helper, (task, other) = restore(t, *OFF)
            t.check(task.touch(1), "a page is wrong")
            task.start_touching(peer.BEAR)
            if during:
                strike(t, helper, sig)
            t.check(task.answer(), "the fork did not end")
            child = task.child()
            if not during:
                strike(t, helper, sig)
            t.check(all(child.touch(i) for i in range(0, 16, 3)), "a page of the child is wrong")
            strike(t, helper, sig)
            all_right(t, child, task, other)
            ends_well(t, helper, 2)


@case
def guardian_discards(t):
    "it dies after what was unmapped or discarded: that is zeros, and stays zeros"
    helper, (task, other) = restore(t, *OFF)
    for order in (peer.UNMAP + 3, peer.DISCARD + 4, peer.DISCARD + 5):
        task.start_touching(order)
        strike(t, helper)
        t.check(task.answer(), f"order {order:#x} was not carried out")
    strike(t, helper)
    t.check(task.touch(5) is False, "what was discarded has come back")
    t.check(all(task.touch(i) for i in range(16) if i not in (3, 4, 5)), "a page is wrong")
    all_right(t, other)
    ends_well(t, helper, 4)


@case
def guardian_many_deaths(t):
    "it dies again and again while memory arrives: every page is right"
    nr = 8192
    for args in (("--background", "256K"), ("--background", "256K", "--jobs", "3")):
        helper, tasks = restore(t, *args, processes=(Process(1000, nr), Process(1001, nr)), nr=nr)
        for n in range(30):
            strike(t, helper, SIGNALS[n % 3])
            t.check(all(task.touch(n * 61 % nr) for task in tasks), "a page is wrong")
        helper.term()
        all_right(t, *tasks)
        ends_well(t, helper, 30)


@case
def guardian_pidfile(t):
    "the pidfile names the guardian, with --daemon too; signals to it reach the worker"
    adopt_orphans()
    pidfile, log_file = t.path("pid"), t.path("log")
    for more in ((), ("--daemon", "-o", log_file)):
        t.images()
        helper = t.helper("--pidfile", pidfile, *OFF, *more)
        if more:
            t.check(helper.p.wait(10) == 0, "the start of the daemon")
        with open(pidfile, encoding="ascii") as f:
            guardian = int(f.read())
        t.check(more or guardian == helper.p.pid, "the pidfile names another process")
        old = worker(t, guardian)
        os.kill(old, signal.SIGKILL)
        t.until(lambda old=old: old not in t.members(), "the worker does not die")
        (task,) = t.hand_over(hang_up=True)
        t.check(task.touch(3), "a page is wrong")
        t.check(guardian in t.members() and worker(t, guardian) != old, "not the guardian")
        os.kill(guardian, signal.SIGTERM)
        t.until(lambda: not t.members(), "it does not end")
        all_right(t, task)
        if more:
            helper.log_path = log_file
        t.check(len(re.findall(DEATH, helper.log())) == 1, helper.log())
        task.kill()
        os.unlink(pidfile)
        over(t)


# --- told to end ----------------------------------------------------------------------------------


def who(t, helper, whom):
    return helper.p.pid if whom == "guardian" else worker(t, helper.p.pid)


@case
def guardian_told_before(t):
    "SIGTERM and SIGINT at guardian or worker before a restore: status 0"
    adopt_orphans()
    for whom in ("guardian", "worker"):
        for sig in (signal.SIGTERM, signal.SIGINT):
            t.images()
            helper = t.helper()
            os.kill(who(t, helper, whom), sig)
            helper.ends(0)
            t.check(not helper.lines("Warn"), helper.log())
            over(t)


@case
def guardian_told_late(t):
    "the same with pages missing: refused, with a line; the rest comes, status 0"
    for whom in ("guardian", "worker"):
        for sig in (signal.SIGTERM, signal.SIGINT):
            helper, tasks = restore(t, *OFF)
            half(t, tasks)
            os.kill(who(t, helper, whom), sig)
            helper.ends(0)
            t.check(len(helper.lines("Warn")) == 1 and "bringing the rest" in helper.log(),
                    helper.log())
            all_right(t, *tasks)
            over(t)


@case
def guardian_told_and_dies(t):
    "told to end, and the worker dies of it: the next one goes on, and ends when all is there"
    helper, tasks = restore(t, *OFF, "--filter", "delay=100000")
    half(t, tasks[:1])
    helper.term()
    t.until(lambda: "bringing the rest" in helper.log(), "no word")
    strike(t, helper)
    helper.ends(0)
    t.check(len(re.findall(DEATH, helper.log())) == 1, helper.log())
    all_right(t, *tasks)
    over(t)


def bear(t, task):
    t.check(task.touch(peer.BEAR), "the fork did not end")
    return task.child()


@case
def guardian_force_kill(t):
    "--force, --on-lost kill: killed, with a line, status 1; a child that cannot be named: SIGBUS"
    for whom in ("guardian", "worker"):
        helper, tasks = restore(t, *OFF, "--force")
        half(t, tasks)
        child = bear(t, tasks[0])
        os.kill(who(t, helper, whom), signal.SIGTERM)
        for task in tasks:
            t.check(task.ended() == -signal.SIGKILL, f"a task's status is {task.status}")
        t.check(helper.p.wait(10) == 1, f"exit status: {helper.log()}")
        t.check("--force: giving up" in helper.log(), helper.log())
        t.check(child.touch(2), "a page that the child had is wrong")
        t.check(child.touch(3) is None, "the child was given what was missing")
        over(t)


@case
def guardian_force_poison(t):
    "--force, --on-lost poison: SIGBUS at what is missing, never zeros; what is there stays"
    helper, tasks = restore(t, *OFF, "--force", "--on-lost", "poison")
    half(t, tasks)
    child = bear(t, tasks[0])
    tasks[1].start_touching(9)
    t.check(tasks[1].answer(), "a page is wrong")
    helper.term()
    t.check(helper.p.wait(10) == 1, f"exit status: {helper.log()}")
    for who_touches in (tasks[0], child):
        t.check(all(who_touches.touch(i) for i in range(0, 16, 2)), "a page has changed")
        t.check(who_touches.touch(5) is None, "what was missing was given")
    t.check(tasks[0].ended() == -signal.SIGBUS, f"a task's status is {tasks[0].status}")
    t.check(tasks[1].touch(9) and tasks[1].touch(11) is None, "the other: not as it should be")
    over(t)


# --- it always dies ---------------------------------------------------------------------------------


CRASH = ("--filter", f"crash={BASE + 9 * PAGE:x}")


def always(t, on_lost, sig, *args):
    helper, (task,) = restore(t, *CRASH, "--on-lost", on_lost, *args, processes=(Process(1000),))
    task.start_touching(9)
    t.check(task.answer() is None, "the page was given, or its thread waits for ever")
    t.check(task.ended() == -sig, f"the task's status is {task.status}")
    t.check(helper.p.wait(20) == 1, f"exit status: {helper.log()}")
    deaths = len(re.findall(r"the worker .*; ", helper.log()))
    t.check(20 <= deaths <= 40, f"{deaths} deaths: {helper.log()}")
    t.check(len(re.findall("20 workers have failed: giving up", helper.log())) == 1, helper.log())
    over(t)


@case
def guardian_always_kill(t):
    "a page at which every worker dies: after 20 of them the process is killed"
    always(t, "kill", signal.SIGKILL, *OFF)


@case
def guardian_always_poison(t):
    "the same with --on-lost poison, found by the background, too: SIGBUS"
    always(t, "poison", signal.SIGBUS)


def flip_journal(t, helper):
    """One byte of the first record of the engine's journal."""
    folder = f"/proc/{helper.p.pid}/fd"
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if "memfd:criu-lazy journal" not in os.readlink(path):
            continue
        with open(path, "r+b", buffering=0) as f:
            for at in range(2 * PAGE, 256 * PAGE, PAGE):
                f.seek(at)
                kind, who, length = struct.unpack("<IIQ", f.read(16))
                if kind == 1 and who == 0 and 72 < length < 1 << 20:
                    f.seek(at + 64)
                    byte = f.read(1)[0]
                    f.seek(at + 64)
                    f.write(bytes([byte ^ 0x10]))
                    return
    raise Failed("no journal, or nothing in it")


@case
def guardian_journal_damaged(t):
    "a byte of the journal is flipped, the worker dies: all are killed, one line says why"
    helper, tasks = restore(t, *OFF)
    half(t, tasks)
    flip_journal(t, helper)
    os.kill(worker(t, helper.p.pid), signal.SIGKILL)
    for task in tasks:
        t.check(task.ended() == -signal.SIGKILL, f"a task's status is {task.status}")
    t.check(helper.p.wait(20) == 1, f"exit status: {helper.log()}")
    for line in ("the checksum of a record is wrong", "no worker can go on"):
        t.check(helper.log().count(line) == 1, helper.log())
    over(t)


@case
def guardian_20_killed(t):
    "a worker that is killed (-9) more than 20 times without bringing a page is not to blame"
    helper, tasks = restore(t, *OFF)
    for _ in range(22):
        strike(t, helper)
    all_right(t, *tasks)
    ends_well(t, helper, 22)


# --- the guardian dies --------------------------------------------------------------------------------


def both(t, helper):
    return helper.p.pid, worker(t, helper.p.pid)


def kill_guardian(t, helper):
    os.kill(helper.p.pid, signal.SIGKILL)


def kill_guardian_first(t, helper):
    for pid in both(t, helper):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has noticed


def kill_worker_first(t, helper):
    for pid in reversed(both(t, helper)):
        os.kill(pid, signal.SIGKILL)


def kill_group(t, helper):
    os.killpg(helper.p.pid, signal.SIGKILL)


KILLERS = (kill_guardian, kill_guardian_first, kill_worker_first, kill_group)


def own_group(t, *args, write=True):
    """The helper as a shell with job control would start it."""
    if write:
        t.images(*TWO)
    helper = t.shell_helper('exec setsid "$0" lazy-pages -D "$1" --status-fd "$2" '
                            + " ".join(args))
    t.check(os.getpgid(helper.p.pid) == helper.p.pid, "it has no group of its own")
    return helper


@case
def guardian_killed(t):
    "the guardian is killed, alone or with the worker: every process is killed, none reads a zero"
    adopt_orphans()
    for killer in KILLERS:
        helper, tasks = restore(t, helper=own_group(t, *OFF))
        half(t, tasks)
        child = bear(t, tasks[0])
        killer(t, helper)
        # The worker may have had the time to bring it.
        t.check(tasks[0].touch(3) is not False, f"{killer.__name__}: a wrong page was given")
        for task in tasks:
            t.check(task.ended() == -signal.SIGKILL,
                    f"{killer.__name__}: a task's status is {task.status}")
        t.check(child.touch(2), "a page that the child had is wrong")
        t.check(child.touch(5) is None, f"{killer.__name__}: a missing page was given to a child")
        helper.p.wait()
        t.check("the guardian was killed" in helper.log(), helper.log())
        over(t)


@case
def guardian_killed_waiting(t):
    "the same while a thread waits for a page"
    adopt_orphans()
    for killer in KILLERS:
        helper, tasks = restore(t, helper=own_group(t, *OFF, "--filter delay=3600000000"))
        tasks[0].start_touching(3)
        t.check(tasks[0].waits(0.05), "a page that has not come was answered")
        killer(t, helper)
        t.check(tasks[0].answer() is None, f"{killer.__name__}: a missing page was given")
        for task in tasks:
            t.check(task.ended() == -signal.SIGKILL, f"a task's status is {task.status}")
        helper.p.wait()
        over(t)


@case
def guardian_killed_early(t):
    "the same in the middle of a handoff: who has reported is killed"
    adopt_orphans()
    for killer in KILLERS:
        helper = own_group(t, *OFF)
        sock = t.connect()
        task = t.task(sock)
        killer(t, helper)
        t.check(task.ended() == -signal.SIGKILL, f"{killer.__name__}: status {task.status}")
        helper.p.wait()
        over(t)


@case
def guardian_killed_idle(t):
    "the guardian is killed before a restore: nothing goes on, and the next one can be started"
    adopt_orphans()
    for killer in KILLERS:
        helper = own_group(t, *OFF)
        killer(t, helper)
        helper.p.wait()
        over(t)


@case
def guardian_continue(t):
    "--on-guardian-death continue: everything arrives, whoever was killed, also twice"
    adopt_orphans()
    for killer in KILLERS:
        helper, tasks = restore(t, helper=own_group(t, *OFF, "--on-guardian-death continue"))
        half(t, tasks)
        child = bear(t, tasks[0])
        tasks[1].start_touching(3)
        killer(t, helper)
        t.check(tasks[1].answer(), "a page is wrong")
        helper.p.wait()
        all_right(t, *tasks[:1])
        # Who was the sentinel is the guardian now, with a worker and a sentinel of its own.
        t.until(lambda: len(t.members()) == 3, f"not three: {t.members()}")
        parents = t.members().values()
        guardian = [pid for pid in t.members() if pid in parents]
        t.check(len(guardian) == 1, f"guardians: {t.members()}")
        os.kill(guardian[0], signal.SIGKILL)
        all_right(t, tasks[1], child)
        t.until(lambda: not t.members(), "the successor does not end")
        t.until(lambda: not t.members(), "it does not end")
        t.check(helper.log().count("going on in its place") == 2, helper.log())
        t.check(not helper.lines("Error"), helper.log())
        over(t)


@case
def guardian_continue_handoff(t):
    "continue, in the middle of a handoff: the restore is not disturbed"
    adopt_orphans()
    for killer in KILLERS:
        helper = own_group(t, *OFF, "--on-guardian-death continue")
        sock = t.connect()
        first = t.task(sock, 1000, 16, lambda k=killer, h=helper: k(t, h))
        second = t.task(sock, 1001)
        sock.sendall(peer.FINISHED)
        sock.close()
        all_right(t, first, second)
        helper.p.wait()
        t.until(lambda: not t.members(), "the successor does not end")
        over(t)


def zeros_when_all_die(t, order):
    """order: of the three.  Is a missing page then given as something wrong?"""
    helper, (task, other) = restore(t, *OFF)
    half(t, (task,))
    three = {"guardian": helper.p.pid, "worker": worker(t, helper.p.pid),
             "sentinel": sentinel(t, helper)}
    for name in order:
        os.kill(three[name], signal.SIGSTOP)
    for name in order:
        os.kill(three[name], signal.SIGKILL)
    helper.p.wait()
    t.until(lambda: not t.members(), "they do not die")
    t.check(all(task.touch(i) for i in range(0, 16, 2)), "a page that was there has changed")
    t.check(task.touch(3) is False and other.touch(0) is False,
            "a missing page is not zeros: Documentation/RELIABILITY.md says it is")
    over(t)


@case
def guardian_all_three(t):
    "guardian, worker and sentinel are killed: zeros, as documented; no program can help that"
    zeros_when_all_die(t, ("guardian", "worker", "sentinel"))
    zeros_when_all_die(t, ("sentinel", "worker", "guardian"))


@case
def guardian_sentinel_only(t):
    "the sentinel alone is killed: nothing changes, and the worker may die all the same"
    helper, tasks = restore(t, *OFF)
    half(t, tasks)
    os.kill(sentinel(t, helper), signal.SIGKILL)
    strike(t, helper)
    all_right(t, *tasks)
    ends_well(t, helper, 1)


# --- stopped --------------------------------------------------------------------------------------


@case
def guardian_stopped(t):
    "a stopped guardian: the worker works; its death is noticed when the guardian goes on"
    helper, tasks = restore(t, *OFF)
    os.kill(helper.p.pid, signal.SIGSTOP)
    half(t, tasks)
    os.kill(worker(t, helper.p.pid), signal.SIGKILL)
    tasks[0].start_touching(3)
    t.check(tasks[0].waits(0.2), "a page came from nowhere")
    os.kill(helper.p.pid, signal.SIGCONT)
    t.check(tasks[0].answer(), "a page is wrong")
    all_right(t, *tasks)
    ends_well(t, helper, 1)


@case
def guardian_worker_stopped(t):
    "a stopped worker: threads wait, and go on with it; killed while stopped: with the next one"
    helper, tasks = restore(t, *OFF)
    for n, sig in enumerate((signal.SIGCONT, signal.SIGKILL)):
        pid = worker(t, helper.p.pid)
        os.kill(pid, signal.SIGSTOP)
        tasks[0].start_touching(3 + n)
        t.check(tasks[0].waits(0.2), "a page came from nowhere")
        os.kill(pid, sig)
        t.check(tasks[0].answer(), "a page is wrong")
    all_right(t, *tasks)
    ends_well(t, helper, 1)


# --- other ways to work -----------------------------------------------------------------------------


@case
def guardian_jobs(t):
    "--jobs 3: deaths in the handoff, with half there, and while threads wait"
    adopt_orphans()
    many = tuple(Process(1000 + i) for i in range(6))
    for sig in SIGNALS:
        t.images(*many)
        helper = t.helper(*OFF, "--jobs", "3")
        sock = t.connect()
        tasks = [t.task(sock, p.pid, 16, (lambda: strike(t, helper, sig)) if p.pid == 1003 else None)
                 for p in many]
        sock.sendall(peer.FINISHED)
        sock.close()
        half(t, tasks)
        strike(t, helper, sig)
        for task in tasks:
            task.start_touching(5)
        strike(t, helper, sig)
        t.check(all(task.answer() for task in tasks), "a page is wrong")
        all_right(t, *tasks)
        ends_well(t, helper, 3)


@case
def guardian_page_server(t):
    "pages from a page server: the next worker connects anew"
    adopt_orphans()
    for protocol in ("auto", "lanes"):
        for sig in SIGNALS:
            t.images(*TWO)
            s = Server(t, "-D", t.img, "--lazy-pages", "--keep")
            helper = t.helper(*OFF, "--page-server", "--address", "127.0.0.1", "--port",
                              str(s.port), "--protocol", protocol)
            strike(t, helper, sig)
            tasks = t.hand_over(1000, 1001, hang_up=True)
            half(t, tasks)
            for task in tasks:
                task.start_touching(5)
            strike(t, helper, sig)
            t.check(all(task.answer() for task in tasks), "a page is wrong")
            all_right(t, *tasks)
            helper.ends(0)
            t.check(len(re.findall(DEATH, helper.log())) == 2, helper.log())
            s.term()
            s.p.wait(10)
            over(t)


@case
def guardian_page_server_criu(t):
    "a server of CRIU's kind accepts no second connection: the processes are killed, never wrong"
    adopt_orphans()
    t.images(*TWO)
    s = Server(t, "-D", t.img, "--lazy-pages", "--keep")
    helper, tasks = restore(t, helper=t.helper(
        *OFF, "--page-server", "--address", "127.0.0.1", "--port", str(s.port),
        "--protocol", "criu"))
    half(t, tasks)
    strike(t, helper)
    t.check(tasks[0].touch(3) is None and tasks[1].touch(5) is None, "a missing page was given")
    for task in tasks:
        t.check(task.ended() == -signal.SIGKILL, f"a task's status is {task.status}")
    t.check(helper.p.wait(10) == 1, f"exit status: {helper.log()}")
    t.check(len(helper.lines("Error")) == 2 and "accept no second one" in helper.log(),
            helper.log())
    s.term()
    s.p.wait(10)
    over(t)


@case
def guardian_page_server_killed(t):
    "pages from a page server, guardian and worker killed: killed, or all arrives"
    adopt_orphans()
    for killer in KILLERS:
        for how in ("kill", "continue"):
            t.images(*TWO)
            s = Server(t, "-D", t.img, "--lazy-pages", "--keep")
            helper, tasks = restore(t, helper=own_group(
                t, *OFF, "--page-server --address 127.0.0.1 --port", str(s.port),
                "--on-guardian-death", how, write=False))
            half(t, tasks)
            killer(t, helper)
            helper.p.wait()
            for task in tasks:
                if how == "continue":
                    all_right(t, task)
                else:
                    t.check(task.ended() == -signal.SIGKILL, f"a task's status is {task.status}")
            t.until(lambda: not t.members(), "the successor does not end")
            s.term()
            s.p.wait(10)
            over(t)
