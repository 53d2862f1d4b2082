# SPDX-License-Identifier: GPL-2.0-or-later
"""Kills a process at a chosen point: at the beginning or the end of its nth system call from now."""

import ctypes
import os
import signal

SYSCALL, SEIZE, INTERRUPT, TRACESYSGOOD = 24, 0x4206, 0x4207, 1
KILLED, ENDED = 0, 1

libc = ctypes.CDLL(None, use_errno=True)


def ptrace(request, pid, data=0):
    args = (ctypes.c_long(x) for x in (request, pid, 0, data))
    if libc.ptrace(*args) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def step(pid, point):
    """In the tracer, which holds pid already."""
    while True:
        _, status = os.waitpid(pid, 0x40000000)  # __WALL
        if not os.WIFSTOPPED(status):
            return ENDED
        sig = os.WSTOPSIG(status)
        if sig == signal.SIGTRAP | 0x80:
            if not point:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0x40000000)
                return KILLED
            point -= 1
        # A stop of the tracer's own has no signal for the process.
        ptrace(SYSCALL, pid, 0 if sig & 0x80 or status >> 16 else sig)


class Stepper:
    """Who is traced is another's child, so a process of its own does it."""

    def __init__(self, pid, point):
        self.pid = pid
        held, tell = os.pipe()
        self.tracer = os.fork()
        if self.tracer == 0:
            try:
                signal.alarm(60)
                ptrace(SEIZE, pid, TRACESYSGOOD)
                ptrace(INTERRUPT, pid)
                os.write(tell, b"h")
                os._exit(step(pid, point))
            finally:
                os._exit(99)
        os.close(tell)
        self.is_held = os.read(held, 1) == b"h"
        os.close(held)

    def rests(self):
        """Does it wait for something, or is it gone?"""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as f:
                return f.read().rpartition(")")[2].split()[0] in "SZX"
        except (FileNotFoundError, ProcessLookupError):
            return True

    def end(self):
        """Has it been killed?  None: the tracer has failed."""
        _, status = os.waitpid(self.tracer, 0)
        return {KILLED: True, ENDED: False}.get(os.waitstatus_to_exitcode(status))
