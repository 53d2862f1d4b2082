# SPDX-License-Identifier: GPL-2.0-or-later
"""A python3 program with a large heap, that knows whether its memory is right.

python-heap.py DIR: builds, writes DIR/ready, waits for DIR/ask, answers with a little in
DIR/answer, waits for DIR/go, computes all hashes again and writes PASS or what is wrong to
DIR/verdict.  "python-heap.py child" is its subprocess: answers questions on stdin.
"""

import gc
import hashlib
import os
import random
import subprocess
import sys
import threading
import time
import traceback


class Node:
    """Objects that point at each other, so that the collector has something to follow."""

    def __init__(self, n):
        self.n = n
        self.name = f"node-{n}"
        self.other = None


def build(seed, scale):
    rnd = random.Random(seed)
    heap = {
        "dict": {f"key-{i}": i * 7 for i in range(300_000 * scale)},
        "list": [rnd.random() for _ in range(500_000 * scale)],
        "bytes": [rnd.randbytes(1000) for _ in range(100_000 * scale)],
        "array": bytearray(rnd.randbytes(50_000_000 * scale)),
        "nodes": [Node(i) for i in range(200_000 * scale)],
    }
    for i, node in enumerate(heap["nodes"]):
        node.other = heap["nodes"][(i * 17 + 1) % len(heap["nodes"])]
    return heap


def digest(heap):
    """One hash for each of the structures, over everything in it."""
    total = {}
    for name, part in heap.items():
        h = hashlib.sha256()
        if name == "dict":
            for key, value in part.items():
                h.update(f"{key}={value};".encode())
        elif name == "list":
            h.update(repr(part).encode())
        elif name == "bytes":
            for piece in part:
                h.update(piece)
        elif name == "array":
            h.update(part)
        else:
            for node in part:
                h.update(f"{node.n}{node.name}->{node.other.n};".encode())
        total[name] = h.hexdigest()
    return total


class Worker(threading.Thread):
    """Keeps counting in a table of its own; the sum of the table must be what it counted."""

    def __init__(self, seed):
        super().__init__(daemon=True)
        self.rnd = random.Random(seed)
        self.table = [0] * 500_000
        self.counted = 0
        self.stop = False
        self.failed = None

    def run(self):
        while not self.stop:
            for _ in range(200):
                at = self.rnd.randrange(len(self.table))
                self.table[at] += 1
                self.counted += 1
            time.sleep(0.001)

    def check(self):
        self.stop = True
        self.join()
        if sum(self.table) != self.counted:
            return f"a thread counted {self.counted}, its table says {sum(self.table)}"
        return None


def child():
    heap = build(2, 1)
    before = digest(heap)
    print("ready", flush=True)
    for line in sys.stdin:
        if line == "ask\n":
            print(heap["dict"]["key-77777"], flush=True)
        elif line == "check\n":
            print("same" if digest(heap) == before else "different", flush=True)
        else:
            break


class Sub:
    def __init__(self):
        self.p = subprocess.Popen(
            [sys.executable, __file__, "child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.expect(None, "ready")

    def expect(self, question, answer):
        if question:
            self.p.stdin.write(question + "\n")
            self.p.stdin.flush()
        got = self.p.stdout.readline().strip()
        if got != answer:
            raise AssertionError(f"the subprocess says {got!r} to {question}, not {answer!r}")

    def end(self):
        self.p.stdin.close()
        if self.p.wait() != 0:
            raise AssertionError(f"the subprocess ended with {self.p.returncode}")


def main(folder):
    def wait_for(name):
        while not os.path.exists(os.path.join(folder, name)):
            time.sleep(0.005)

    def write(name, text):
        path = os.path.join(folder, name)
        with open(path + ".new", "w", encoding="ascii") as f:
            f.write(text)
        os.rename(path + ".new", path)

    sub = Sub()
    heap = build(1, 2)
    before = digest(heap)
    workers = [Worker(seed) for seed in range(4)]
    for worker in workers:
        worker.start()
    write("ready", "")
    try:
        wait_for("ask")
        if heap["dict"]["key-123456"] != 123456 * 7 or heap["nodes"][17].other.n != 290:
            raise AssertionError("a wrong value")
        sub.expect("ask", str(77777 * 7))
        write("answer", "PASS")
        wait_for("go")
        after = digest(heap)
        for name in before:
            if before[name] != after[name]:
                raise AssertionError(f"{name}: the hash differs")
        for worker in workers:
            wrong = worker.check()
            if wrong:
                raise AssertionError(wrong)
        sub.expect("check", "same")
        for node in heap["nodes"]:
            node.other = None
        del heap
        gc.collect()
        sub.end()
        write("verdict", "PASS")
    except BaseException:
        text = traceback.format_exc()
        write("answer", text)
        write("verdict", text)


if __name__ == "__main__":
    if sys.argv[1] == "child":
        child()
    else:
        main(sys.argv[1])
