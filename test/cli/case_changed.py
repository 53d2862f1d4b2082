# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages files that somebody changes while they are in use: lost for those concerned, never wrong."""

import mmap
import os
import shutil
import signal
import subprocess

import peer
from harness import case
from images import BASE, PAGE, Process, content
from page_peer import LAYOUTS, Server

TWO = (Process(1000), Process(1001))
HALF = 8
PID = 1000


def pages_file(t):
    return t.path("img", "pages-1.img")


def cut_all(t):
    os.truncate(pages_file(t), 0)


def cut_within_a_page(t):
    os.truncate(pages_file(t), 12 * PAGE + 100)


def overwrite(t):
    """In place, the bytes of all pages, and as many."""
    with open(pages_file(t), "r+b") as f:
        f.write(b"\xAA" * 16 * PAGE)


def overwrite_one(t):
    with open(pages_file(t), "r+b") as f:
        f.seek(13 * PAGE + 77)
        f.write(b"\xAA")


def copy_over(t):
    """cp: the file is cut to nothing and written again, in the end as long as before."""
    other = t.path("other")
    with open(other, "wb") as f:
        f.write(b"".join(content(77, i) for i in range(16)))
    subprocess.run(["cp", other, pages_file(t)], check=True)


def write_mapped(t):
    with open(pages_file(t), "r+b") as f, mmap.mmap(f.fileno(), 16 * PAGE) as m:
        m[9 * PAGE:16 * PAGE] = b"\xAA" * 7 * PAGE


def punch(t):
    subprocess.run(["fallocate", "-p", "-o", str(9 * PAGE), "-l", str(4 * PAGE), pages_file(t)],
                   check=True)


CHANGES = (cut_all, cut_within_a_page, overwrite, overwrite_one, copy_over, write_mapped, punch)


def half_restored(t, on_lost, *more):
    """Two processes that have half of their pages, and nothing comes by itself."""
    shutil.rmtree(t.img, ignore_errors=True)
    t.images(*TWO)
    helper = t.helper("--background", "off", "--on-lost", on_lost, *more)
    sock = t.connect()
    tasks = [t.task(sock, p.pid) for p in TWO]
    sock.sendall(peer.FINISHED)
    sock.close()
    for task in tasks:
        t.check(all(task.touch(i) for i in range(HALF)), "a page is wrong")
    return helper, tasks


def one_is_lost(t, change, on_lost, sig, *more):
    helper, (task, other) = half_restored(t, on_lost, *more)
    change(t)
    what = f"{change.__name__}, {on_lost}"
    t.check(other.touch(HALF), f"{what}: a page of the other is wrong")
    t.check(all(task.touch(i) for i in range(HALF)), f"{what}: a page that was there has changed")
    t.check(task.touch(13) is None, f"{what}: a page that cannot be trusted was given")
    t.check(task.ended() == -sig, f"{what}: the task's status is {task.status}")
    t.check(other.all_right(), f"{what}: a page of the other is wrong")
    t.check(other.exit() == 0, f"{what}: the other did not end well")
    helper.ends(1, rf"pid 1000: page 0x{BASE + 13 * PAGE:x} .* is lost: "
                   r"pages-1.img was changed while it was in use \(.*\): it (was cut short|"
                   r"was written to); ")


@case
def changed_kill(t):
    "cut, written over, copied over, mapped, punched, --on-lost kill: only its process is killed"
    for change in CHANGES:
        one_is_lost(t, change, "kill", signal.SIGKILL)


@case
def changed_poison(t):
    "the same with --on-lost poison: SIGBUS, and the other goes on"
    for change in CHANGES:
        one_is_lost(t, change, "poison", signal.SIGBUS)


@case
def changed_delayed(t):
    "the same while the answer is on its way: what was asked for before is judged when it comes"
    for change in (cut_all, overwrite, copy_over):
        helper, (task, other) = half_restored(t, "kill", "--filter", "delay=300000")
        task.start_touching(13)
        change(t)
        t.check(task.answer() is None, "a page that cannot be trusted was given")
        t.check(task.ended() == -signal.SIGKILL, f"the task's status is {task.status}")
        other.kill()
        helper.ends(1, "pid 1000: page .* is lost: pages-1.img was changed")


@case
def changed_background(t):
    "the background comes upon it: killed without having touched anything"
    for change in CHANGES:
        shutil.rmtree(t.img, ignore_errors=True)
        t.images(*TWO)
        helper = t.helper()
        sock = t.connect()
        tasks = [t.task(sock, p.pid) for p in TWO]
        change(t)
        sock.sendall(peer.FINISHED)
        sock.close()
        t.check(tasks[0].ended() == -signal.SIGKILL, f"the task's status is {tasks[0].status}")
        t.check(tasks[1].all_right(), "a page of the other is wrong")
        helper.ends(1, "pid 1000: page .* is lost: pages-1.img was changed")
        t.check(tasks[1].exit() == 0, "the other did not end well")


@case
def changed_harmlessly(t):
    "renamed over, chmod, read, linked: the file that was opened is as it was"
    helper, tasks = half_restored(t, "kill")
    with open(t.path("new"), "wb") as f:
        f.write(b"\xAA" * 16 * PAGE)
    os.chmod(pages_file(t), 0o400)
    os.link(pages_file(t), t.path("link"))
    with open(pages_file(t), "rb") as f:
        f.read()
    os.rename(t.path("new"), pages_file(t))
    for task in tasks:
        t.check(task.all_right(), "a page is wrong")
    helper.ends(0)


@case
def server_changed(t):
    "a page server whose file is changed sends nothing of it any more; another file it still serves"
    for change in CHANGES:
        for layout in LAYOUTS:
            shutil.rmtree(t.img, ignore_errors=True)
            t.images(*TWO)
            s = Server(t, "-D", t.img, "--lazy-pages", "--keep")
            early = s.connect()
            early.fetch(layout, PID, BASE)
            change(t)
            t.check(early.fetch(layout, 1001, BASE, 16) ==
                    b"".join(content(1001, i) for i in range(16)), "pages of the other")
            for nr in (1, 16):
                c = s.connect()
                c.get(layout, PID, BASE, nr)
                s.drops(c, "pages-1.img was changed while it was in use")
            early.bye(layout)
            s.term().ends_after(0)


@case
def server_changed_for_our_helper(t):
    "our helper is told: lost for that process, the other goes on"
    t.images(*TWO)
    there = t.path("there")
    shutil.copytree(t.img, there)
    for name in ("pages-1.img", "pages-2.img"):
        os.truncate(t.path("img", name), 16 * PAGE)
    s = Server(t, "-D", there, "--lazy-pages")
    helper = t.helper("--background", "off", "--page-server", "--address", "127.0.0.1",
                      "--port", str(s.port))
    sock = t.connect()
    task, other = (t.task(sock, p.pid) for p in TWO)
    sock.sendall(peer.FINISHED)
    sock.close()
    t.check(task.touch(0) and other.touch(0), "a page is wrong")
    with open(os.path.join(there, "pages-1.img"), "r+b") as f:
        f.write(b"\xAA" * 16 * PAGE)
    t.check(task.touch(13) is None, "a page that cannot be trusted was given")
    t.check(task.ended() == -signal.SIGKILL, f"the task's status is {task.status}")
    t.check(other.all_right(), "a page of the other is wrong")
    helper.ends(1, r"pid 1000: page .* is lost: page server at 127\.0\.0\.1:\d+: page ")
    s.ends_after(0)
