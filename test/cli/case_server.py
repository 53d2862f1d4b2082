# SPDX-License-Identifier: GPL-2.0-or-later
"""The page server that serves (--lazy-pages), and clients of all kinds."""

import os
import random
import resource
import signal
import socket
import ssl
import subprocess
import time

import images
from harness import case
from images import BASE, LAZY, PAGE, PARENT, PRESENT, Process, content
from page_peer import (ADD, ADD_F, FORCE_CLOSE, GET, HOLE, LAYOUTS, OPEN, OPEN2, PARENT_Q, Server,
                       header, private)

PID = 1000


def server(t, *args, **more):
    return Server(t, "-D", t.img, "--lazy-pages", *args, **more)


def pages(first, nr, pid=PID):
    return b"".join(content(pid, i) for i in range(first, first + nr))


def good_client(t, s, layout=32, nr=16):
    """Everything is there for a new client."""
    c = s.connect()
    t.check(c.fetch(layout, PID, BASE, nr) == pages(0, nr), "wrong pages")
    c.bye(layout)


@case
def server_serves(t):
    "both layouts: pages are right one by one and all at once, headers echo the request"
    t.images()
    for layout in LAYOUTS:
        s = server(t)
        c = s.connect()
        for i in (3, 0, 15, 3):
            t.check(c.fetch(layout, PID, BASE + i * PAGE) == content(PID, i), f"page {i}")
        t.check(c.fetch(layout, PID, BASE, 16) == pages(0, 16), "all pages")
        t.check(c.fetch(layout, PID, BASE + PAGE, 9) == pages(1, 9), "nine pages")
        c.bye(layout)
        s.ends_after(0)


@case
def server_clamps(t):
    "a request that goes on behind a run is answered as far as the run reaches"
    t.images(Process(PID, 40, runs=[(BASE, 12, 6), (BASE + 20 * PAGE, 20, 6)]))
    for layout in LAYOUTS:
        s = server(t)
        c = s.connect()
        for first, asked, granted in ((0, 1000, 12), (8, 8, 4), (8, 100, 4), (20, 1 << 20, 20)):
            c.get(layout, PID, BASE + first * PAGE, asked)
            got = c.reply(layout, PID, BASE + first * PAGE, granted)
            t.check(got == pages(first, granted), f"{asked} pages at {first}")
        c.bye(layout)
        s.ends_after(0)


@case
def server_parents(t):
    "pages of parents, over three levels, and in requests that cross from one to the other"
    for level, runs in enumerate((
            [(BASE, 4, PARENT), (BASE + 4 * PAGE, 4, 6), (BASE + 8 * PAGE, 8, PARENT)],
            [(BASE, 2, 6), (BASE + 2 * PAGE, 6, PARENT), (BASE + 8 * PAGE, 4, 6),
             (BASE + 12 * PAGE, 4, PARENT)],
            [(BASE, 16, PRESENT)])):
        folder = t.img if level == 0 else t.path(f"level{level}")
        images.write(folder, Process(PID, 16, runs=runs))
        if level:
            os.symlink(folder, os.path.join(above, "parent"))
        above = folder
    s = server(t)
    c = s.connect()
    at = 0
    while at < 16:
        c.get(32, PID, BASE + at * PAGE, 16 - at)
        head = c.recv(32)
        nr = int.from_bytes(head[8:16], "little")
        t.check(0 < nr <= 16 - at, f"{nr} pages at {at}")
        t.check(c.recv(nr * PAGE) == pages(at, nr), f"pages at {at}")
        at += nr
    for i in range(16):
        t.check(c.fetch(32, PID, BASE + i * PAGE) == content(PID, i), f"page {i}")
    c.bye(32)
    s.ends_after(0)


@case
def server_pipelined(t):
    "hundreds of requests at once are answered in order, also when they come in odd portions"
    t.images()
    order = [random.randrange(16) for _ in range(400)]
    for layout in LAYOUTS:
        s = server(t)
        c = s.connect()
        data = b"".join(header(layout, GET, 1, BASE + i * PAGE, PID) for i in order)
        while data:
            n = random.choice((1, 7, 31, 33, 1000, 5000))
            c.send(data[:n])
            data = data[n:]
        for i in order:
            t.check(c.reply(layout, PID, BASE + i * PAGE) == content(PID, i), f"page {i}")
        c.bye(layout, FORCE_CLOSE)
        s.ends_after(0)


@case
def server_byte_at_a_time(t):
    "a request in single bytes, while another client is served"
    t.images()
    s = server(t, "--keep")
    for layout in LAYOUTS:
        slow = s.connect()
        for byte in header(layout, GET, 2, BASE, PID):
            good_client(t, s, layout)
            slow.send(bytes([byte]))
        t.check(slow.reply(layout, PID, BASE, 2) == pages(0, 2), "wrong pages")
        slow.bye(layout)
    s.term().ends_after(0)


@case
def server_ends_as_criu(t):
    "without --keep: it ends after the first client, with 0 unless that one broke"
    t.images()
    for layout in LAYOUTS:
        s = server(t)
        s.connect().bye(layout)
        s.ends_after(0)
        s = server(t, "--once")
        s.connect().close()
        s.ends_after(0)
        s = server(t)
        c = s.connect()
        c.fetch(layout, PID, BASE)
        c.close()
        s.ends_after(0)
        s = server(t)
        c = s.connect()
        c.fetch(layout, PID, BASE)
        c.send(header(layout, GET, 1, BASE, PID)[:13]).close()
        s.ends_after(1, "hung up after 13 bytes")
        s = server(t)
        c = s.connect()
        c.get(layout, PID, BASE - PAGE).gone()
        s.ends_after(1, r"page 0xffffffff000 of process 1000 is not in these images")


@case
def server_nobody_ends_it(t):
    "without --keep: who says nothing sensible is dropped, and is not the first client"
    t.images()
    s = server(t)
    idle = s.connect()
    for bad in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff" * 24, bytes(32),
                header(32, OPEN2, 0, 0, private(5)), header(24, GET, 0, BASE, PID),
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x5a" * 64):
        c = s.connect()
        c.send(bad)
        s.drops(c, "^[^ ]* criu-lazy: Error: client 127.0.0.1:[0-9]* dropped: ")
    c = s.connect()
    c.send(b"\7\0\0").close()
    t.until(lambda: s.lines("Error")[s.seen:], "a line about half a header")
    s.seen = len(s.lines("Error"))
    good_client(t, s)
    s.ends_after(0)
    idle.gone()


@case
def server_wrong_requests(t):
    "fields that cannot be true: that client is dropped with one clear line, the others go on"
    t.images(Process(PID), Process(1001, ppid=PID), Process(1002, ppid=PID, zombie=True))
    s = server(t, "--keep")
    other = s.connect()
    for layout in LAYOUTS:
        other = s.connect()
        other.fetch(layout, PID, BASE)
        wrong = [
            (GET, 1, BASE, 77, "process 77 is not in these images"),
            (GET, 1, BASE, 1002, "process 1002 is not in these images"),
            (GET, 1, BASE, 1 << 63, "pid"),
            (GET, 1, BASE, PID | 1 << 32, "pid"),
            (GET, 1, BASE - PAGE, PID, "page 0xffffffff000 of process 1000 is not in these"),
            (GET, 1, BASE + 16 * PAGE, PID, "page 0x100000010000 .* is not in these"),
            (GET, 20, BASE + 16 * PAGE, PID, "page 0x100000010000 .* is not in these"),
            (GET, 1, BASE + 1, PID, "aligned"),
            (GET, 0, BASE, PID, "no pages"),
            (GET, (1 << 20) + 1, BASE, PID, "limit"),
            (GET, 1, 1 << 56, PID, "above"),
            (GET, 1, (1 << 64) - PAGE, PID, "above"),
            (GET | 4 << 16, 1, BASE, PID, "flags"),
            (ADD_F | 4 << 16, 1, BASE, private(PID), "for storing"),
            (ADD, 1, BASE, private(PID), "for storing"),
            (HOLE, 1, BASE, private(PID), "for storing"),
            (OPEN, 0, 0, private(PID), "for storing"),
            (OPEN2, 0, 0, private(PID), "for storing"),
            (PARENT_Q, 0, 0, private(PID), "for storing"),
            (8, 0, 0, 0, "unknown command"),
            (0x1025, 0, 0, 0, "unknown command"),
            (0, 0, 0, 0, "unknown command"),
        ]
        if layout == 32:
            wrong += [(GET, 1 << 63, BASE, PID, "limit"), (GET, (1 << 64) - 1, BASE, PID, "limit")]
        before = sorted(os.listdir(t.img))
        for cmd, nr, vaddr, dst, pattern in wrong:
            c = s.connect()
            c.fetch(layout, PID, BASE)  # the layout is known
            c.send(header(layout, cmd, nr, vaddr, dst))
            s.drops(c, pattern)
        t.check(sorted(os.listdir(t.img)) == before, "something was created")
        t.check(other.fetch(layout, 1001, BASE, 16) == pages(0, 16, 1001), "another client")
        other.bye(layout)
    good_client(t, s)
    s.term().ends_after(0)


@case
def server_garbage(t):
    "random bytes, as a beginning and behind good requests: nobody else notices"
    t.images()
    s = server(t, "--keep")
    for layout in LAYOUTS:
        for i in range(40):
            c = s.connect()
            if i % 2:
                c.fetch(layout, PID, BASE)
            try:
                c.send(random.randbytes(random.choice((1, 5, 24, 32, 100, 5000))))
                c.sock.shutdown(socket.SHUT_WR)
                while c.sock.recv(1 << 16):
                    pass
            except OSError:  # it was dropped meanwhile
                pass
            c.close()
        good_client(t, s, layout)
    s.seen = len(s.lines("Error"))
    s.term().ends_after(0)


@case
def server_many_clients(t):
    "sixty clients at once, each gets what it asks for"
    t.images(Process(PID, 64), Process(1001, 64, ppid=PID))
    s = server(t, "--keep")
    clients = [(s.connect(), LAYOUTS[i % 2], PID + i // 2 % 2) for i in range(60)]
    for _ in range(5):
        asked = []
        for c, layout, pid in clients:
            first = random.randrange(64)
            nr = random.randrange(1, 65 - first)
            c.get(layout, pid, BASE + first * PAGE, nr)
            asked.append((first, nr))
        for (c, layout, pid), (first, nr) in zip(clients, asked):
            got = c.reply(layout, pid, BASE + first * PAGE, nr)
            t.check(got == pages(first, nr, pid), f"{nr} pages at {first} of {pid}")
    for c, layout, _ in clients:
        c.bye(layout)
    s.term().ends_after(0)


@case
def server_slow_reader(t):
    "a client that takes nothing of its answers does not hold up others, and memory stays small"
    t.images(Process(PID, 4096))
    s = server(t, "--keep")
    good_client(t, s, 24)
    before = s.anonymous_kib()
    slow = [s.connect() for _ in range(8)]
    for c in slow:
        c.send(header(32, GET, 4096, BASE, PID) * 20)
    time.sleep(0.1)
    good_client(t, s, 24)
    good_client(t, s, 32)
    more = s.anonymous_kib() - before
    t.check(more < 8 << 10, f"{more} KiB more of memory")
    t.check(slow[0].reply(32, PID, BASE, 4096) == pages(0, 4096), "the slow one's pages")
    s.term().ends_after(0)
    t.check("8 clients are cut off" in s.log(), s.log())


def room_for_sockets(nr):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, nr)), hard))


@case
def server_flood_of_silent_ones(t):
    "more connections than there are places, which say nothing: one who has something to say is served"
    t.images()
    room_for_sockets(3000)
    s = server(t, "--keep")
    old = s.connect()
    old.fetch(32, PID, BASE)
    silent = [s.connect() for _ in range(1200)]
    good_client(t, s)
    t.check(old.fetch(32, PID, BASE, 16) == pages(0, 16), "an older client")
    for c in silent:
        c.close()
    good_client(t, s)
    old.bye(32)
    s.seen = len(s.lines("Error"))
    s.term().ends_after(0)


@case
def server_full(t):
    "all places taken by clients: the next is sent away with a line, until one leaves"
    t.images()
    room_for_sockets(3000)
    s = server(t, "--keep")
    clients = [s.connect() for _ in range(1024)]
    for c in clients:
        c.get(24, PID, BASE)
    for c in clients:
        t.check(c.reply(24, PID, BASE) == content(PID, 0), "page 0")
    c = s.connect()
    s.drops(c, "sent away: 1024 are being served already")
    for c in clients[::50]:
        t.check(c.fetch(24, PID, BASE + PAGE) == content(PID, 1), "page 1")
    clients.pop().bye(24)
    t.until(lambda: served(s), "a place")
    s.seen = len(s.lines("Error"))
    s.term().ends_after(0)


def served(s):
    c = s.connect()
    try:
        c.get(24, PID, BASE)
        return bool(c.sock.recv(24))
    except (ConnectionResetError, BrokenPipeError):
        return False


@case
def server_truncated(t):
    "a pages file that is cut while it is served: no half answers, and nothing of it any more"
    t.images()
    pages_file = os.path.join(t.img, "pages-1.img")
    for layout in LAYOUTS:
        os.truncate(pages_file, 0)
        with open(pages_file, "wb") as f:
            f.write(pages(0, 16))
        s = server(t, "--keep")
        early = s.connect()
        early.fetch(layout, PID, BASE)
        os.truncate(pages_file, 10 * PAGE + 100)
        for first, nr in ((0, 16), (8, 4), (8, 1), (10, 1), (10, 6)):
            c = s.connect()
            c.get(layout, PID, BASE + first * PAGE, nr)
            s.drops(c, "pages-1.img was changed while it was in use .*: it was cut short")
        early.bye(layout)
        s.term().ends_after(0)


@case
def server_removed_images(t):
    "images that are removed or replaced after the start are served as they were"
    t.images()
    s = server(t, "--keep")
    for name in os.listdir(t.img):
        os.unlink(os.path.join(t.img, name))
    good_client(t, s, 24)
    good_client(t, s, 32)
    s.term().ends_after(0)


@case
def server_bad_images(t):
    "what cannot be served is an error at the start, by name"
    t.images(Process(PID, 16, runs=[(BASE, 4, 6), (BASE + 4 * PAGE, 4, LAZY)]))
    t.refuses("page-server", "--lazy-pages", "-D", t.img,
              like="Error: .*page 0x100000004000 has no content here: .*dump --lazy-pages")
    images.write(t.img)
    os.truncate(os.path.join(t.img, "pages-1.img"), PAGE)
    t.refuses("page-server", "--lazy-pages", "-D", t.img, like="Error: .*pages-1.img: 4096 bytes")
    os.unlink(os.path.join(t.img, "pstree.img"))
    t.refuses("page-server", "--lazy-pages", "-D", t.img, like="Error: .*pstree.img: No such file")
    os.unlink(os.path.join(t.img, "inventory.img"))
    t.refuses("page-server", "--lazy-pages", "-D", t.img, like="Error: .*inventory.img: No such")
    t.refuses("page-server", "--lazy-pages", "-D", t.path("none"), like="Error: .*none: No such")


@case
def server_port(t):
    "the port: told on standard output and the status descriptor when the kernel chose it"
    t.images()
    for args in ([], ["--port", "0"], ["--port=0", "--address", "127.0.0.1"]):
        s = server(t, *args)
        t.check(s.out() == f"port {s.port}\n" and s.said == f"\0port {s.port}\n".encode(),
                f"{s.out()!r}, {s.said!r}")
        good_client(t, s)
        s.ends_after(0)
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    t.refuses("page-server", "--lazy-pages", "-D", t.img, "--port", str(port),
              like=rf"Error: .*{port}.*Address already in use")
    free.close()
    s = server(t, "--port", str(port))
    t.check(s.out() == "" and s.said == b"\0", f"{s.out()!r}, {s.said!r}")
    s.port = port
    good_client(t, s)
    s.ends_after(0)
    s = server(t, "--port", str(port))
    s.port = port
    good_client(t, s)
    s.ends_after(0)


@case
def server_addresses(t):
    "loopback only, unless told otherwise; a wildcard is warned about; IPv6; names are refused"
    t.images()
    s = server(t, "--keep")
    try:
        socket.create_connection(("127.0.0.2", s.port), timeout=5)
        t.check(False, "listens at 127.0.0.2 too")
    except ConnectionRefusedError:
        pass
    t.check(not s.lines("Warn"), s.log())
    s.term().ends_after(0)
    s = server(t, "--address", "0.0.0.0")
    t.check(len(s.lines("Warn")) == 1 and "every address" in s.lines("Warn")[0], s.log())
    c = s.connect("127.0.0.2")
    t.check(c.fetch(32, PID, BASE) == content(PID, 0), "page 0")
    c.bye(32)
    s.ends_after(0)
    for address in ("localhost", "example.org", "300.1.1.1", "127.0.0.1:80"):
        t.refuses("page-server", "--lazy-pages", "-D", t.img, "--address", address,
                  like="Error: .*" + address)
    s = server(t, "--address", "::1")
    c = s.connect("::1")
    t.check(c.fetch(24, PID, BASE) == content(PID, 0), "page 0")
    c.bye(24)
    s.ends_after(0)


@case
def server_unix(t):
    "--unix: an old socket is replaced, a live one is not; gone at the end"
    t.images()
    path = t.path("sock")
    for last in (False, True):
        s = server(t, "--unix", path, "--keep")
        t.check(s.out() == "" and s.said == b"\0", f"{s.out()!r} {s.said!r}")
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        c = s.client(sock)
        t.check(c.fetch(32, PID, BASE, 16) == pages(0, 16), "pages")
        t.refuses("page-server", "--lazy-pages", "-D", t.img, "--unix", path, like="Error: .*sock")
        t.check(c.fetch(32, PID, BASE) == pages(0, 1), "after that")
        c.bye(32)
        if last:
            s.term().ends_after(0)
            t.check(not os.path.exists(path), "the socket is left behind")
        else:
            s.kill()
            t.check(os.path.exists(path), "who removed it?")
    t.refuses("page-server", "-D", t.img, "--unix", path, "--port", "5", like="Error: .*--unix")
    t.refuses("page-server", "-D", t.img, "--unix", path, "--address", "::1", like="--unix")


@case
def server_ps_socket(t):
    "--ps-socket: the one client; its end is the end"
    t.images()
    for how, status in (("close", 0), ("eof", 0), ("wrong", 1), ("garbage", 1)):
        ours, theirs = socket.socketpair()
        s = server(t, "--ps-socket", str(theirs.fileno()), pass_fds=[theirs.fileno()])
        theirs.close()
        c = s.client(ours)
        t.check(s.out() == "" and s.said == b"\0", f"{s.out()!r} {s.said!r}")
        patterns = []
        if how != "garbage":
            t.check(c.fetch(32, PID, BASE, 16) == pages(0, 16), "pages")
        if how == "close":
            c.bye(32, FORCE_CLOSE)
        elif how == "eof":
            c.close()
        elif how == "wrong":
            c.get(32, 5, BASE)
            patterns = ["process 5 is not"]
        else:
            c.send(b"x" * 24)
            patterns = ["does not speak"]
        s.ends_after(status, *patterns)
    t.refuses("page-server", "-D", t.img, "--ps-socket", "99", like="Error: .*--ps-socket 99")
    t.refuses("page-server", "-D", t.img, "--ps-socket", "0", like="Error: .*--ps-socket 0")
    t.refuses("page-server", "-D", t.img, "--ps-socket", "0", "-d", like="Error: .*--daemon")
    t.refuses("page-server", "-D", t.img, "--ps-socket", "x", like="Error: .*--ps-socket")


@case
def server_daemon(t):
    "-d: the command ends once the server listens; pidfile, port, and the end by SIGTERM"
    t.images()
    os.mkdir(t.path("work"))
    r = t.run("page-server", "--lazy-pages", "-D", t.img, "-W", t.path("work"), "-d", "--keep",
              "--pidfile", "pid", "-o", "log", "-v3")
    t.check(r.returncode == 0 and r.stderr == "" and r.stdout.startswith("port "), f"{r}")
    port = int(r.stdout.split()[1])
    with open(t.path("work", "pid"), encoding="ascii") as f:
        pid = int(f.read())
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            sock.sendall(header(32, GET, 1, BASE, PID))
            t.check(len(sock.recv(32)) == 32, "no answer")
        t.check(os.getsid(pid) == pid, "no session of its own")
        t.check(os.readlink(f"/proc/{pid}/fd/0") == "/dev/null", "descriptor 0")
    finally:
        os.kill(pid, signal.SIGTERM)
    t.until(lambda: not os.path.exists(f"/proc/{pid}") or
            open(f"/proc/{pid}/stat").read().split(") ")[1][0] == "Z", "the daemon's end")


@case
def server_signals(t):
    "SIGTERM and SIGINT: 0 with --keep, also with clients; else 1, as nobody was served"
    t.images()
    for sig in (signal.SIGTERM, signal.SIGINT):
        s = server(t, "--keep")
        c = s.connect()
        c.fetch(32, PID, BASE)
        s.p.send_signal(sig)
        s.ends_after(0)
        c.gone()
        s = server(t)
        s.p.send_signal(sig)
        s.ends_after(1, "told to end before a client")


@case
def server_serve(t):
    "serve: page-server --lazy-pages --keep"
    t.images()
    s = Server(t, "-D", t.img, command="serve")
    good_client(t, s, 24)
    good_client(t, s, 32)
    s.term().ends_after(0)
    s = Server(t, "-D", t.img, "--once", command="serve")
    good_client(t, s, 24)
    s.ends_after(0)


@case
def server_options(t):
    "options: CRIU's are accepted, with one warning; wrong ones refused"
    for command in ("page-server", "serve"):
        r = t.run(command, "--help")
        t.check(r.returncode == 0 and "--lazy-pages" in r.stdout and not r.stderr, f"{r}")
    t.images()
    s = server(t, "--no-default-config", "--track-mem", "--auto-dedup", "--timeout", "5", "-j")
    warnings = s.lines("Warn")
    t.check(len(warnings) == 1 and "--track-mem, --auto-dedup, --timeout, -j" in warnings[0],
            f"{warnings}")
    good_client(t, s)
    s.ends_after(0)
    s = server(t, "--tls-cert", "nonsense")
    t.check("in the clear" in s.log(), s.log())
    s.term().ends_after(1, "told to end")
    for args, like in ((["--nonsense"], "--nonsense"), (["x"], '"x"'), (["--port"], "--port"),
                       (["--port", "65536"], "--port"), (["--port", "-1"], "--port"),
                       (["--port", "http"], "--port"), (["--address", ""], "--address"),
                       (["--keep", "--once"], "--keep and --once"),
                       (["--lazy-pages", "--prev-images-dir", "x"], "--prev-images-dir"),
                       (["--stream"], "--stream"), (["--tls", "--tls-cacert", "/none"], "/none"),
                       (["--action-script", "/none"], "/none"),
                       (["--action-script", "/bin/false"], "/bin/false ended with status 1")):
        r = t.run("page-server", "-D", t.img, *args)
        t.check(r.returncode == 1 and like in r.stderr and r.stderr.count("\n") == 1 and
                r.stderr.startswith("criu-lazy: Error: "), f"{args}: {r}")


@case
def server_action_script(t):
    "--action-script: run when the server listens, with CRIU's environment"
    t.images()
    script = t.path("script")
    with open(script, "w", encoding="ascii") as f:
        f.write('#!/bin/sh\necho "$CRTOOLS_SCRIPT_ACTION $(ls "$CRTOOLS_IMAGE_DIR/" | wc -l)" '
                f'>{t.path("said")}\n')
    os.chmod(script, 0o755)
    s = server(t, "--action-script", script)
    with open(t.path("said"), encoding="ascii") as f:
        said = f.read()
    t.check(said == f"status-ready {len(os.listdir(t.img))}\n", said)
    good_client(t, s)
    s.ends_after(0)


@case
def server_gives_up_privileges(t):
    "no capability is left while it serves"
    t.images()
    s = server(t)
    with open(f"/proc/{s.p.pid}/status", encoding="ascii") as f:
        caps = dict(line.split(":\t") for line in f.read().splitlines() if line.startswith("Cap"))
    t.check(caps["CapEff"] == caps["CapPrm"] == "0" * 16, f"{caps}")
    good_client(t, s)
    s.ends_after(0)


@case
def server_tls(t):
    "--tls: a good certificate is served; none, a stranger's, an expired one, no TLS: dropped"
    t.images()
    certs = t.path("certs")
    subprocess.run([os.path.join(os.path.dirname(t.program), "test/certs/make"), certs], check=True)

    def file(name):
        return os.path.join(certs, name + ".pem")

    s = server(t, "--keep", "--tls", "--tls-cacert", file("cacert"), "--tls-cacrl", file("cacrl"),
               "--tls-cert", file("server-cert"), "--tls-key", file("server-key"),
               "--address", "127.0.0.1")

    def connect(who):
        context = ssl.create_default_context(cafile=file("cacert"))
        if who:
            context.load_cert_chain(file(who + "-cert"), file(who + "-key"))
        raw = socket.create_connection(("127.0.0.1", s.port), timeout=20)
        return s.client(context.wrap_socket(raw, server_hostname="127.0.0.1"))

    good = connect("client")
    t.check(good.fetch(32, PID, BASE) == content(PID, 0), "page 0")
    for who, pattern in ((None, "certificate"), ("stranger", "127.0.0.1"), ("expired", "expired"),
                         ("revoked", "revoked"), ("other", "certificate")):
        try:
            c = connect(who)
            c.get(32, PID, BASE)
            t.check(not c.sock.recv(1), f"{who} was served")
        except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
            pass
        t.until(lambda: s.lines("Error")[s.seen:], f"a line about {who}")
        line = s.lines("Error")[s.seen]
        t.check("dropped" in line and pattern in line, f"{who}: {line}")
        s.seen += 1
    plain = s.connect()
    plain.get(32, PID, BASE)
    t.until(lambda: s.lines("Error")[s.seen:], "a line about one without TLS")
    s.seen += 1
    for layout in LAYOUTS:
        c = connect("client")
        t.check(c.fetch(layout, PID, BASE, 16) == pages(0, 16), "all pages")
        c.bye(layout)
    t.check(good.fetch(32, PID, BASE + PAGE) == content(PID, 1), "page 1")
    good.bye(32)
    s.term().ends_after(0)
