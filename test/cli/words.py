# SPDX-License-Identifier: GPL-2.0-or-later
"""A restorer that says what it should not: who says it, and what must come of it."""

import contextlib
import os
import signal
import socket


@contextlib.contextmanager
def process(f):
    """f() in a process of its own, which stays until the end of the block, where it is killed."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)
            f()
            signal.pause()
        finally:
            os._exit(99)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def say(sock, words):
    """bytes, (bytes, descriptors), or what makes either."""
    for said in words:
        said = said() if callable(said) else said
        try:
            if isinstance(said, tuple):
                socket.send_fds(sock, [said[0]], said[1])
            else:
                sock.sendall(said)
        except OSError:
            return  # it has hung up already: what it says about that is what counts


def says(t, like, *words, processes=()):
    """A peer says these words and stays; the helper must end like that, and soon.

    The peer is a process of its own: who has sent a userfaultfd is killed when the restore fails.
    """
    t.images(*processes)
    helper = t.helper()
    sock = t.connect()
    with process(lambda: say(sock, words)):
        sock.close()
        helper.ends(1, like)
    t.check(not os.path.exists(t.socket), "the socket is left behind")
