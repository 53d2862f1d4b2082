# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes small image directories, right ones and wrong ones, byte by byte.

Deliberately not the program's own writer: what both sides get wrong in the same way would not be
seen.  A directory is described by Image and written by Image.write(); a test damages the files
afterwards, or gives odd runs to begin with.
"""

import hashlib
import os
import struct

PAGE = 4096
PARENT, LAZY, PRESENT = 1, 2, 4
BASE = 0x100000000000  # where the memory of a test process lies
COMMON, SERVICE = 0x54564319, 0x55105940
MAGIC = {"inventory": 0x58313116, "pstree": 0x50273030, "mm": 0x57492820, "pagemap": 0x56084025}


def content(pid, index):
    """What page number index of process pid holds: never zeros, no two alike."""
    return hashlib.sha256(f"{pid}:{index}".encode()).digest() * (PAGE // 32)


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(*fields):
    """A protobuf message: (number, integer or bytes)..., None is left out."""
    out = b""
    for number, value in fields:
        if value is None:
            continue
        if isinstance(value, bytes):
            out += varint(number << 3 | 2) + varint(len(value)) + value
        else:
            out += varint(number << 3) + varint(value)
    return out


def image(kind, *records):
    head = struct.pack("<I", MAGIC[kind])
    if kind != "inventory":
        head = struct.pack("<I", COMMON) + head
    return head + b"".join(struct.pack("<I", len(r)) + r for r in records)


def vma(start, end, flags=0x22, status=0x201, prot=3):
    return message((1, start), (2, end), (3, 0), (4, 0), (5, prot), (6, flags), (7, status), (8, 1))


def mm(*vmas):
    return image("mm", message(*((n, 0) for n in range(1, 13)), *((14, v) for v in vmas)))


def pagemap(pages_id, *runs):
    """runs: (address, number of pages, flags)."""
    entries = (message((1, a), (2, nr), (4, flags), (5, nr)) for a, nr, flags in runs)
    return image("pagemap", message((1, pages_id)), *entries)


class Process:
    """One process of an image: nr pages at BASE, all lazy, unless told otherwise."""

    def __init__(self, pid, nr=16, runs=None, vmas=None, zombie=False, ppid=0):
        self.pid, self.nr, self.ppid, self.zombie = pid, nr, ppid, zombie
        self.runs = [(BASE, nr, LAZY | PRESENT)] if runs is None else runs
        self.vmas = [vma(BASE, BASE + nr * PAGE)] if vmas is None else vmas

    def pages(self):
        out = b""
        for addr, nr, flags in self.runs:
            if flags & PRESENT:
                first = (addr - BASE) // PAGE
                out += b"".join(content(self.pid, first + i) for i in range(nr))
        return out


def put(folder, name, data):
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def write(folder, *processes):
    """An image directory of these processes (one of 16 pages); returns folder."""
    processes = processes or (Process(1000),)
    os.makedirs(folder, exist_ok=True)
    ids = message((1, 1), (2, 1), (3, 1), (4, 1))
    put(folder, "inventory.img", image("inventory", message((1, 2), (2, 1), (3, ids), (5, 1))))
    put(folder, "pstree.img", image("pstree", *(
        message((1, p.pid), (2, p.ppid), (3, p.pid), (4, p.pid), (5, p.pid)) for p in processes)))
    for n, p in enumerate(processes, 1):
        if p.zombie:
            continue
        put(folder, f"mm-{p.pid}.img", mm(*p.vmas))
        put(folder, f"pagemap-{p.pid}.img", pagemap(n, *p.runs))
        put(folder, f"pages-{n}.img", p.pages())
    return folder
