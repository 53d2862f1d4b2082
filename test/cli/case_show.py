# SPDX-License-Identifier: GPL-2.0-or-later
"""criu-lazy show: good and bad files, as text and as JSON."""

import json
import os
import random

import images
from harness import case
from images import BASE, Process

FILES = ("inventory.img", "pstree.img", "mm-1000.img", "pagemap-1000.img")


@case
def show_files(t):
    "files and the directory, as text and as JSON; one, and several"
    t.images(Process(1000), Process(1001, ppid=1000), Process(1002, zombie=True, ppid=1000))
    for name in (*FILES, "."):
        path = t.path("img", name)
        text = t.run("show", path)
        t.check(text.returncode == 0 and text.stdout and not text.stderr, f"{text}")
        made = t.run("show", "--json", path)
        t.check(made.returncode == 0 and isinstance(json.loads(made.stdout), dict), f"{made}")
    several = json.loads(t.run("show", "-j", *(t.path("img", n) for n in FILES)).stdout)
    t.check(isinstance(several, list) and len(several) == len(FILES), f"{several}")


@case
def show_content(t):
    "what it says is what is there"
    t.images(Process(1000, runs=[(BASE, 5, 6), (BASE + 5 * 4096, 11, 6)]))
    for args in ((), ("--json",)):
        out = t.run("show", *args, t.path("img", "pagemap-1000.img")).stdout
        t.check(f"0x{BASE:x}" in out and f"0x{BASE + 5 * 4096:x}" in out and "11" in out, out)
    t.check("1000" in t.run("show", t.path("img", "pstree.img")).stdout, "no pid 1000")


@case
def show_nothing(t):
    "nothing named, something that is not there, an unknown option"
    t.refuses("show", like="show: which directory or file")
    t.refuses("show", t.path("none"), like=r"/none: No such file")
    t.refuses("show", "--nonsense", like="nonsense")
    os.mkdir(t.img)
    t.refuses("show", t.img, like=r"img.*No such file")


@case
def show_bad(t):
    "bad files: one line, status 1, nothing half shown; JSON too"
    for name in FILES:
        t.images()
        path = t.path("img", name)
        with open(path, "rb") as f:
            whole = f.read()
        for data in (b"", whole[:3], whole[:-1], b"\xff" * 50, whole + b"\1"):
            images.put(t.img, name, data)
            for args in ([], ["--json"]):
                t.refuses("show", *args, path, like=rf"^criu-lazy: Error: .*{name}")
                t.refuses("show", *args, t.img, like=rf"^criu-lazy: Error: .*{name}")


@case
def show_odd_files(t):
    "a FIFO, a device, a socket: refused, not waited for"
    os.mkdir(t.img)
    os.mkfifo(t.path("img", "inventory.img"))
    t.refuses("show", t.path("img", "inventory.img"), like=r"inventory\.img")
    t.refuses("show", "/dev/zero", like="/dev/zero")
    t.refuses("show", "/proc/self/mem", like="/proc/self/mem")


@case
def show_flipped_bits(t):
    "bits flipped at random (seed 1): status 0 or 1, never a crash; one line or valid JSON"
    rnd = random.Random(1)
    for name in FILES:
        t.images()
        path = t.path("img", name)
        with open(path, "rb") as f:
            whole = f.read()
        for _ in range(100):
            data = bytearray(whole)
            for _ in range(rnd.randint(1, 4)):
                data[rnd.randrange(len(data))] ^= 1 << rnd.randrange(8)
            images.put(t.img, name, data)
            r = t.run("show", "--json", path)
            what = f"{name} {data.hex()}: {r}"
            t.check(r.returncode in (0, 1), what)
            if r.returncode == 0:
                json.loads(r.stdout)
            else:
                t.check(not r.stdout and r.stderr.count("\n") == 1, what)


@case
def show_full(t):
    "standard output cannot be written: says so, status 1"
    t.images()
    r = t.shell('"$0" show "$1" >/dev/full')
    t.check(r.returncode == 1 and "No space left" in r.stderr, f"{r}")
