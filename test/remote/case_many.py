# SPDX-License-Identifier: GPL-2.0-or-later
"""Many helpers on one server."""

import os
import socket
import struct
import threading

import images
from ends import PATIENCE, ends_well, helper, lean, restore, serve, write_images
from harness import case

GET, CLOSE, PAGE = 7, 0x1023, 4096


def fetch_all(port, nr, layout, pipelined, wrong):
    """Plays CRIU's helper: asks for every page, compares each, says that it has everything."""
    form = "<IIQQ" if layout == 24 else "<IIQQQ"

    def head(cmd, count, vaddr, dst):
        return struct.pack(form, cmd, *([] if layout == 24 else [0]), count, vaddr, dst)

    def want(sock, n):
        got = bytearray()
        while len(got) < n:
            piece = sock.recv(n - len(got))
            if not piece:
                raise ConnectionError(f"{len(got)} of {n} bytes")
            got += piece
        return bytes(got)

    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
            todo = [(at, min(pipelined, nr - at)) for at in range(0, nr, pipelined)]
            sock.sendall(b"".join(head(GET, n, images.BASE + at * PAGE, 1000) for at, n in todo))
            for at, n in todo:
                answer = struct.unpack(form, want(sock, layout))
                if (answer[0], answer[-3]) != (0x40006, n):
                    raise ConnectionError(f"an answer {answer} to {n} pages at {at}")
                pages = want(sock, n * PAGE)
                for i in range(n):
                    if pages[i * PAGE:(i + 1) * PAGE] != images.content(1000, at + i):
                        raise ValueError(f"page {at + i} is wrong")
            sock.sendall(head(CLOSE, 0, 0, 0))
            if want(sock, 4) != bytes(4):
                raise ValueError("a wrong answer to CLOSE")
    except Exception as e:  # in a thread: whatever it is, it is told
        wrong.append(repr(e))


@case
def hundred_clients(t):
    "100 clients that speak CRIU's protocol at once, both layouts, each page compared"
    nr, wrong = 600, []
    server = serve(t, write_images(t, images.Process(1000, nr)))
    threads = [threading.Thread(target=fetch_all, args=(server.port, nr, (24, 32)[i % 2],
                                                        1 + i % 40, wrong))
               for i in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    t.check(not wrong, f"{len(wrong)} clients failed: {wrong[:3]} {server.log()[-500:]}")
    server.ends()


@case
def hundred_helpers(t):
    "100 helpers, each with a restored program, on one server at once"
    nr = 64
    full = write_images(t, images.Process(1000, nr))
    server = serve(t, full)
    helpers = []
    for i in range(100):
        t.img = t.path(f"img{i}")
        lean(full, t.img)
        helpers.append((t.img, helper(t, server.port, ready=False)))
    tasks = []
    for folder, h in helpers:
        t.check(h.read_status() == b"\0", f"a helper is not ready: {h.log()}")
        t.socket = os.path.join(folder, "lazy-pages.socket")
        tasks.append((h, restore(t, nr)))
    for h, task in tasks:
        ends_well(t, h, task)
    server.ends()


@case
def one_after_another(t):
    "the same server for 10 restores in a row, and for a client that goes away in the middle"
    server = serve(t, write_images(t, images.Process(1000, 64)))
    for i in range(10):
        h = helper(t, server.port)
        ends_well(t, h, restore(t, 64))
        h.kill()
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(struct.pack("<IIQQQ", GET, 0, 64, images.BASE, 1000)[:10 + i])
    t.check(server.alive(), f"the server has ended: {server.log()}")
    server.ends()
