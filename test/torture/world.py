# SPDX-License-Identifier: GPL-2.0-or-later
"""Images, variants of the helper's command line, and one run of them: restorer.c does the work."""

import os
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../cli"))
sys.dont_write_bytecode = True

import images  # noqa: E402

FIRST_PID = 1000
LIMIT_MS = 10000
HEADER = struct.Struct("<iiQIIII32Q")
NAME_SIZE, MAX_FUNCTIONS = 32, 128


def content(pid, page):
    """As in task.c."""
    first = pid << 40 | page << 12
    mask = (1 << 64) - 1
    return b"".join(struct.pack("<Q", (first + w) * 0x9E3779B97F4A7C15 & mask | 1)
                    for w in range(images.PAGE // 8))


class Process(images.Process):
    def pages(self):
        return b"".join(content(self.pid, i) for i in range(self.nr))


def write_images(folder, tasks=3, pages=24):
    return images.write(folder, *(Process(FIRST_PID + i, pages) for i in range(tasks)))


class Torture:
    """The file by which fail.so is told what to do; see functions.h."""

    def __init__(self, path):
        self.path = path
        self.ask(-1, 0, 0)

    def ask(self, function, nth, error):
        head = HEADER.pack(function, error, nth, 0, 0, 0, 0, *[0] * 32)
        with open(self.path, "wb") as f:
            f.write(head.ljust(HEADER.size + MAX_FUNCTIONS * (8 + NAME_SIZE), b"\0"))

    def answer(self):
        with open(self.path, "rb") as f:
            data = f.read()
        head = HEADER.unpack_from(data)
        self.hits, self.frames = head[4], list(head[7:7 + head[6]])
        counts = struct.unpack_from(f"<{MAX_FUNCTIONS}Q", data, HEADER.size)
        at = HEADER.size + 8 * MAX_FUNCTIONS
        self.names = [data[at + i * NAME_SIZE:at + (i + 1) * NAME_SIZE].split(b"\0")[0].decode()
                      for i in range(head[3])]
        self.counts = list(counts[:head[3]])
        return self


class World:
    """A folder for the runs of one thread."""

    def __init__(self, folder, build, tools, image_dir):
        self.folder, self.program = folder, os.path.join(build, "criu-lazy")
        self.restorer = os.path.join(tools, "test/torture/restorer")
        self.fail_so = os.path.join(tools, "test/torture/fail.so")
        self.images = image_dir
        os.makedirs(folder, exist_ok=True)
        self.socket = os.path.join(folder, "s")
        self.log_path = os.path.join(folder, "log")
        self.torture = Torture(os.path.join(folder, "torture"))

    def run(self, *helper_options, options=(), preload=True, program=None):
        """Returns what the restorer says, as a dictionary; the log is in self.log."""
        command = [self.restorer, "--limit-ms", str(LIMIT_MS), *map(str, options), self.socket,
                   self.fail_so if preload else "-",
                   program or self.program, "lazy-pages", "--no-default-config",
                   "-D", self.images, "-W", self.folder, "--socket", self.socket,
                   "--status-fd", "STATUS_FD",
                   *(o.replace("FOLDER", self.folder) for o in helper_options)]
        env = dict(os.environ, TORTURE_FILE=self.torture.path)
        env.setdefault("ASAN_OPTIONS", "exitcode=99:detect_leaks=1")
        env["ASAN_OPTIONS"] += ":verify_asan_link_order=0:allocator_may_return_null=1"
        for name in ("log.o", "pid"):
            if os.path.exists(os.path.join(self.folder, name)):
                os.unlink(os.path.join(self.folder, name))
        with open(self.log_path, "wb") as log:
            out = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=log, env=env, timeout=LIMIT_MS / 1000 + 20, check=True)
        self.log = self.read("log") + self.read("log.o")
        said = dict(word.split("=", 1) for word in out.stdout.decode().split())
        return {k: [f for f in v.split(",") if f] if k == "fates" else int(v)
                for k, v in said.items()}

    def read(self, name):
        try:
            with open(os.path.join(self.folder, name), encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""
