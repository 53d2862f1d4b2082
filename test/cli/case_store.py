# SPDX-License-Identifier: GPL-2.0-or-later
"""The page server that stores what a dump sends: whole sets of images, or nothing."""

import json
import os
import signal
import socket
import struct
import subprocess

import images
from harness import case
from images import BASE, LAZY, PAGE, PARENT, PRESENT, Process, content
from page_peer import (ADD, ADD_F, CLOSE, FORCE_CLOSE, GET, HOLE, LAYOUTS, OPEN, PARENT_Q, Server,
                       header, private, shmem)

PLACE = ".criu-lazy-store"


def storing(t, *args, **more):
    os.makedirs(t.img, exist_ok=True)
    return Server(t, "-D", t.img, *args, **more)


def data(pid, first, nr):
    return b"".join(content(pid, first + i) for i in range(nr))


def read(t, name):
    with open(os.path.join(t.img, name), "rb") as f:
        return f.read()


def old_pagemap(pages_id, *runs):
    """As CRIU up to 4.1.1 writes it: the count in field 2 only."""
    entries = (images.message((1, a), (2, nr), (4, flags)) for a, nr, flags in runs)
    return images.image("pagemap", images.message((1, pages_id)), *entries)


def new_pagemap(pages_id, *runs):
    """As CRIU 4.2 writes it: in field 5, and 0 in field 2."""
    entries = (images.message((1, a), (2, 0), (4, flags), (5, nr)) for a, nr, flags in runs)
    return images.image("pagemap", images.message((1, pages_id)), *entries)


def files(t, but=()):
    return sorted(set(os.listdir(t.img)) - {PLACE} - set(but))


def nothing_left(t, but=()):
    left = sorted(set(os.listdir(t.img)) - set(but))
    t.check(not left, f"left behind: {left}")


@case
def store_session(t):
    "both layouts: two processes and a segment, as CRIU writes them"
    for layout in LAYOUTS:
        t.img = t.path(f"img{layout}")
        pagemap = old_pagemap if layout == 24 else new_pagemap
        s = storing(t)
        c = s.connect()
        c.open(layout, private(5))
        c.add(layout, private(5), BASE, data(5, 0, 3), PRESENT | LAZY)
        c.add(layout, private(5), BASE + 8 * PAGE, data(5, 8, 300), PRESENT)
        c.open(layout, private(6))
        c.open(layout, shmem(7))
        c.add(layout, shmem(7), 0, data(7, 0, 2))
        t.check(not files(t), f"too early: {files(t)}")
        c.bye(layout)
        s.ends_after(0)
        t.check(files(t) == ["pagemap-5.img", "pagemap-6.img", "pagemap-shmem-7.img",
                             "pages-65537.img", "pages-65538.img", "pages-65539.img"], f"{files(t)}")
        t.check(read(t, "pagemap-5.img") == pagemap(
            65537, (BASE, 3, 6), (BASE + 8 * PAGE, 300, 4)), "pagemap-5.img")
        t.check(read(t, "pages-65537.img") == data(5, 0, 3) + data(5, 8, 300), "pages-65537.img")
        t.check(read(t, "pagemap-6.img") == pagemap(65538), "pagemap-6.img")
        t.check(read(t, "pages-65538.img") == b"", "pages-65538.img")
        t.check(read(t, "pagemap-shmem-7.img") == pagemap(65539, (0, 2, 4)), "shmem")
        t.check(read(t, "pages-65539.img") == data(7, 0, 2), "pages-65539.img")
        t.check(PLACE not in os.listdir(t.img), "its place is left behind")
        for name in files(t):
            t.check(os.stat(os.path.join(t.img, name)).st_mode & 0o777 == 0o644, f"mode of {name}")


@case
def store_old_commands(t):
    "ADD, HOLE, OPEN, an object that is not opened first, old type numbers, FORCE_CLOSE"
    images.write(t.path("parent"), Process(5))
    for layout in LAYOUTS:
        t.img = t.path(f"img{layout}")
        os.mkdir(t.img)
        os.symlink("../parent", os.path.join(t.img, "parent"))
        s = storing(t)
        c = s.connect()
        dst = 5 << 8 | 10
        c.send(header(layout, ADD, 2, BASE, dst) + data(5, 0, 2))
        c.hole(layout, dst, BASE + 2 * PAGE, 3, HOLE)
        c.send(header(layout, OPEN, 0, 0, shmem(9)))
        c.send(header(layout, ADD, 1, PAGE, 9 << 8 | 2) + data(9, 0, 1))
        c.bye(layout, FORCE_CLOSE)
        s.ends_after(0)
        pagemap = old_pagemap if layout == 24 else new_pagemap
        t.check(read(t, "pagemap-5.img") == pagemap(
            65537, (BASE, 2, 4), (BASE + 2 * PAGE, 3, 1)), "pagemap-5.img")
        t.check(read(t, "pagemap-shmem-9.img") == pagemap(65538, (PAGE, 1, 4)), "shmem")


@case
def store_byte_at_a_time(t):
    "a whole session in single bytes"
    for layout in LAYOUTS:
        t.img = t.path(f"img{layout}")
        s = storing(t)
        c = s.connect()
        for byte in header(layout, ADD_F | 6 << 16, 1, BASE, private(5)):
            c.send(bytes([byte]))
        page = data(5, 0, 1)
        for i in range(0, PAGE, 64):
            c.send(page[i:i + 64])
        for byte in header(layout, CLOSE):
            c.send(bytes([byte]))
        t.check(c.recv(4) == bytes(4), "CLOSE")
        s.ends_after(0)
        t.check(read(t, "pages-65537.img") == page, "the page")


@case
def store_incremental(t):
    "a chain of three: holes are checked against the parent, and all pages come back"
    layout, folders = 32, [t.path(f"level{i}") for i in range(3)]
    sets = [[(0, 16, PRESENT)],
            [(0, 4, PARENT), (4, 4, PRESENT | LAZY), (8, 8, PARENT)],
            [(0, 6, PARENT), (6, 1, PRESENT | LAZY), (7, 9, PARENT)]]
    for level, runs in enumerate(sets):
        t.img = folders[level]
        os.mkdir(t.img)
        args = ["--prev-images-dir", f"../level{level - 1}"] if level else []
        s = storing(t, *args)
        c = s.connect()
        c.ask_parent(layout, private(5), level > 0)
        c.ask_parent(layout, private(6), False)
        c.open(layout, private(5), level > 0)
        for first, nr, flags in runs:
            if flags & PRESENT:
                c.add(layout, private(5), BASE + first * PAGE, data(5, first, nr), flags)
            else:
                c.hole(layout, private(5), BASE + first * PAGE, nr)
        c.bye(layout)
        s.ends_after(0)
    t.check(os.readlink(os.path.join(t.img, "parent")) == "../level1", "the link")
    whole = images.write(t.path("other"), Process(5))  # lends inventory and process tree
    for name in ("inventory.img", "pstree.img"):
        os.link(os.path.join(whole, name), os.path.join(t.img, name))
    s = Server(t, "-D", t.img, "--lazy-pages")
    c = s.connect()
    for i in range(16):
        t.check(c.fetch(32, 5, BASE + i * PAGE) == content(5, i), f"page {i}")
    c.bye(32)
    s.ends_after(0)


@case
def store_wrong_holes(t):
    "a hole that the parent does not have: dropped, and nothing is left"
    images.write(t.path("parent"), Process(5, runs=[(BASE, 4, 6), (BASE + 4 * PAGE, 2, 2),
                                                    (BASE + 8 * PAGE, 4, 6)]))
    os.mkdir(t.img)
    os.symlink(t.path("parent"), os.path.join(t.img, "parent"))
    s = storing(t, "--keep")
    for first, nr, bad in ((0, 5, 4), (3, 6, 4), (4, 1, 4), (6, 1, 6), (8, 5, 12), (12, 1, 12)):
        c = s.connect()
        c.open(32, private(5), True)
        c.hole(32, private(5), BASE + first * PAGE, nr)
        s.drops(c, f"page 0x{BASE + bad * PAGE:x} is said to be in the parent image, which does not")
        nothing_left(t, [PLACE, "parent"])
    c = s.connect()
    c.open(32, private(77))
    c.hole(32, private(77), BASE, 1)
    s.drops(c, "said to be in the parent image")
    c = s.connect()
    c.open(32, private(5), True)
    c.hole(32, private(5), BASE, 4)
    c.hole(32, private(5), BASE + 8 * PAGE, 4)
    c.bye(32)
    s.term().ends_after(0)
    t.check(files(t, ["parent"]) == ["pagemap-5.img", "pages-65537.img"], f"{files(t)}")


@case
def store_dangling_parent(t):
    "a link parent that leads nowhere is not the same as none"
    os.mkdir(t.img)
    os.symlink("nowhere", os.path.join(t.img, "parent"))
    for cmd in (PARENT_Q, 4):
        s = storing(t)
        c = s.connect()
        c.send(header(32, cmd, 0, 0, private(5)))
        s.drops(c, "the link parent leads nowhere")
        s.ends_after(1)
        nothing_left(t, ["parent"])
    t.refuses("page-server", "-D", t.path(), "--prev-images-dir", "none", like="Error: .*none")


@case
def store_cut(t):
    "a session that is cut anywhere leaves nothing, and the server says so"
    session = (header(24, 4, 0, 0, private(5)) +
               header(24, ADD_F | 6 << 16, 2, BASE, private(5)) + data(5, 0, 2) +
               header(24, 4, 0, 0, shmem(6)) +
               header(24, ADD_F | 4 << 16, 1, 0, shmem(6)) + data(6, 0, 1))
    cuts = [24, 40, 48, 49, 48 + PAGE, 48 + 2 * PAGE, 48 + 2 * PAGE + 5, 72 + 2 * PAGE,
            96 + 2 * PAGE, len(session) - 1, len(session)]
    for cut in cuts:
        s = storing(t)
        c = s.connect()
        c.send(session[:cut])
        c.close()
        s.ends_after(1, "hung up|reset|Broken pipe")
        nothing_left(t)


@case
def store_refused(t):
    "what a client may not say: dropped with one line, nothing is left"
    s = storing(t, "--keep")
    for layout in LAYOUTS:
        first = header(layout, ADD_F | 4 << 16, 1, BASE, private(5)) + data(5, 0, 1)
        wrong = [
            (header(layout, ADD_F | 4 << 16, 1, BASE, private(5)), "after pages up to"),
            (header(layout, ADD_F | 4 << 16, 1, BASE - PAGE, private(5)), "after pages up to"),
            (header(layout, ADD_F | 4 << 16, 1, BASE + PAGE + 1, private(5)), "aligned"),
            (header(layout, ADD_F | 4 << 16, 0, BASE + PAGE, private(5)), "no pages"),
            (header(layout, ADD_F | 5 << 16, 1, BASE + PAGE, private(5)), "both present and in"),
            (header(layout, ADD_F | 8 << 16, 1, BASE + PAGE, private(5)), "unknown flags"),
            (header(layout, ADD_F, 1, BASE + PAGE, private(5)), "without flags"),
            (header(layout, ADD_F | 4 << 16, 1, BASE + PAGE, 5 << 8 | 3), "unknown type"),
            (header(layout, ADD_F | 4 << 16, 1, 1 << 60, private(5)), "above"),
            (header(layout, ADD_F | 1 << 16, 1, BASE + PAGE, private(5)), "in the parent image"),
            (header(layout, 4, 0, 0, private(5)), "stored already in this session"),
            (header(layout, 4, 0, 0, 1 << 60 | 1), "pid"),
            (header(layout, GET, 1, BASE, 5), "GET asks for pages"),
            (header(layout, 99, 1, BASE, private(5)), "unknown command"),
        ]
        for bad, pattern in wrong:
            c = s.connect()
            c.send(first + bad)
            s.drops(c, pattern)
            nothing_left(t, [PLACE])
    c = s.connect()
    c.get(32, 5, BASE)
    s.drops(c, "GET asks for pages")
    c = s.connect()
    c.open(32, private(5))
    c.add(32, private(5), BASE, data(5, 0, 1))
    c.bye(32)
    s.term().ends_after(0)


@case
def store_huge_promise(t):
    "a promise of petabytes takes no memory and no disk"
    s = storing(t)
    c = s.connect()
    c.open(32, private(5))
    before = s.anonymous_kib()
    c.send(header(32, ADD_F | 4 << 16, 1 << 43, PAGE, private(5)) + data(5, 0, 100))
    t.until(lambda: os.path.getsize(os.path.join(t.img, PLACE, "pages-65537.img")) == 100 * PAGE,
            "100 pages")
    more = s.anonymous_kib() - before
    t.check(more < 4 << 10, f"{more} KiB more of memory")
    c.close()
    s.ends_after(1, "hung up")
    nothing_left(t)


@case
def store_two_at_once(t):
    "one session at a time: another one is refused, and the first goes on"
    s = storing(t)
    first = s.connect()
    first.open(24, private(5))
    for dst in (private(5), private(6)):
        second = s.connect()
        second.send(header(32, 4, 0, 0, dst))
        s.drops(second, "another client is storing")
    first.add(24, private(5), BASE, data(5, 0, 1))
    first.bye(24)
    s.ends_after(0)
    t.check(files(t) == ["pagemap-5.img", "pages-65537.img"], f"{files(t)}")


@case
def store_two_servers(t):
    "one server for a directory: a second one is an error at its start"
    s = storing(t, "--keep")
    t.refuses("page-server", "-D", t.img, like="Error: .*another page server stores into this")
    s.kill()
    s = storing(t, "--keep")
    s.term().ends_after(0)
    nothing_left(t)


@case
def store_again(t):
    "--keep: one set after the other into the same directory, the second over the first"
    s = storing(t, "--keep")
    for nr in (3, 5):
        c = s.connect()
        for pid in (5, nr + 10):
            c.open(32, private(pid))
            c.add(32, private(pid), BASE, data(pid + nr, 0, nr))
        c.bye(32)
    s.term().ends_after(0)
    for pid, nr in ((5, 5), (13, 3), (15, 5)):
        r = t.run("show", "--json", os.path.join(t.img, f"pagemap-{pid}.img"))
        got = json.loads(r.stdout)
        t.check(read(t, f"pages-{got['pages_id']}.img") == data(pid + nr, 0, nr), f"pages of {pid}")


@case
def store_beside_a_dumper(t):
    "pages files that are there already keep their names and content"
    os.mkdir(t.img)
    images.put(t.img, "pages-1.img", b"dumper's")
    images.put(t.img, "pages-65537.img", b"another's")
    s = storing(t)
    c = s.connect()
    c.open(32, private(5))
    c.add(32, private(5), BASE, data(5, 0, 1))
    images.put(t.img, "inventory.img", b"comes meanwhile")
    c.bye(32)
    s.ends_after(0)
    t.check(read(t, "pages-1.img") == b"dumper's" and read(t, "pages-65537.img") == b"another's",
            "overwritten")
    t.check(read(t, "pages-65538.img") == data(5, 0, 1), "the page")


@case
def store_killed(t):
    "kill -9 in the middle: no image is there, and the next start removes what is left, aloud"
    s = storing(t)
    c = s.connect()
    c.open(32, private(5))
    c.add(32, private(5), BASE, data(5, 0, 8))
    c.ask_parent(32, private(5), False)
    s.kill()
    t.check(not files(t) and len(os.listdir(os.path.join(t.img, PLACE))) == 2, f"{files(t)}")
    s = storing(t)
    warnings = s.lines("Warn")
    t.check(len(warnings) == 1 and "removed 2 files" in warnings[0], f"{warnings}")
    s.connect().bye(32)
    s.ends_after(0)
    nothing_left(t)


@case
def store_signal(t):
    "SIGTERM in the middle: nothing is left, status 1"
    s = storing(t)
    c = s.connect()
    c.open(32, private(5))
    c.add(32, private(5), BASE, data(5, 0, 8))
    c.ask_parent(32, private(5), False)
    s.p.send_signal(signal.SIGTERM)
    s.ends_after(1, "told to end")
    nothing_left(t)


@case
def store_disk_full(t):
    "no space: a clear line, no answer to CLOSE, nothing is left"
    os.mkdir(t.img)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", t.img], check=True)
    try:
        s = storing(t, "-W", t.folder)
        c = s.connect()
        c.open(32, private(5))
        try:
            c.add(32, private(5), BASE, data(5, 0, 300))
            c.send(header(32, CLOSE))
        except OSError:
            pass
        s.drops(c, "No space left on device")
        s.ends_after(1)
        nothing_left(t)
    finally:
        subprocess.run(["umount", t.img], check=True)


@case
def store_name_in_the_way(t):
    "a directory where a pagemap must go: the set does not appear by half"
    os.makedirs(os.path.join(t.img, "pagemap-6.img"))
    s = storing(t)
    c = s.connect()
    for pid in (5, 6):
        c.open(32, private(pid))
        c.add(32, private(pid), BASE, data(pid, 0, 1))
    c.send(header(32, CLOSE))
    s.drops(c, "pagemap-6.img: move it to its place")
    s.ends_after(1)
    nothing_left(t, ["pagemap-6.img"])


@case
def store_after_close(t):
    "bytes behind CLOSE change nothing about what is stored"
    s = storing(t)
    c = s.connect()
    c.open(32, private(5))
    c.send(header(32, CLOSE) + struct.pack("<I", 7))
    t.check(c.recv(4) == bytes(4), "CLOSE")
    c.gone()
    s.ends_after(0)
    t.check(files(t) == ["pagemap-5.img", "pages-65537.img"], f"{files(t)}")


@case
def store_unix_and_ps_socket(t):
    "over a unix socket, and over a descriptor"
    s = storing(t, "--unix", t.path("sock"))
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(t.path("sock"))
    c = s.client(sock)
    c.open(32, private(5))
    c.bye(32)
    s.ends_after(0)
    ours, theirs = socket.socketpair()
    s = storing(t, "--ps-socket", str(theirs.fileno()), pass_fds=[theirs.fileno()])
    theirs.close()
    c = s.client(ours)
    c.open(24, private(6))
    c.bye(24, FORCE_CLOSE)
    s.ends_after(0)
    t.check(files(t) == ["pagemap-5.img", "pagemap-6.img", "pages-65537.img", "pages-65538.img"],
            f"{files(t)}")
