# SPDX-License-Identifier: GPL-2.0-or-later
"""The helper's command lines that are tortured."""

import os
import select
import subprocess


class Variant:
    sanitized = False

    def __init__(self, name, *options, budget=300, restorer=()):
        self.name, self.given, self.budget, self.restorer = name, options, budget, restorer

    def options(self, _server):
        return self.given

    def prepare(self, world):
        """Before each run."""

    def start_server(self, _build, _image_dir, _tmp):
        return None


class Sanitized(Variant):
    """The same under ASan, UBSan and LSan: nothing is leaked or used after it was freed."""

    sanitized = True


class Daemon(Variant):
    def prepare(self, world):
        with open(os.path.join(world.folder, "config"), "w", encoding="utf-8") as f:
            f.write("# options\nlow-latency off\nverbosity 3 # information\n")


class Remote(Variant):
    """All pages from a page server, which is not tortured."""

    def start_server(self, build, image_dir, tmp):
        ours, theirs = os.pipe()
        with open(os.path.join(tmp, "server.log"), "wb") as log:
            server = subprocess.Popen(
                [os.path.join(build, "criu-lazy"), "page-server", "--lazy-pages", "--keep", "-D",
                 image_dir, "--status-fd", str(theirs)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[theirs])
        os.close(theirs)
        with os.fdopen(ours, "rb") as f:
            said = f.readline() if select.select([f], [], [], 10)[0] else b""
        if not said.startswith(b"\0port "):
            server.kill()
            raise SystemExit(f"the page server says {said!r}")
        server.port = int(said[6:])
        return server

    def options(self, server):
        return ("--page-server", "--address", "127.0.0.1", "--port", str(server.port),
                "--reconnect-timeout", "3", *self.given)


ALL = [
    Variant("local", budget=1500),
    Variant("poison", "--on-lost", "poison", budget=200),
    Variant("slow", "--filter", "delay=500", "--filter", "short=3"),
    Variant("jobs", "--jobs", "2"),
    Daemon("daemon", "--daemon", "--pidfile", "FOLDER/pid", "-o", "FOLDER/log.o", "--config",
           "FOLDER/config"),
    Remote("remote", budget=500),
    Remote("remote-criu", "--protocol", "criu", budget=200),
    # Tasks that end before everything of theirs is there: slow, see restorer.c.
    Variant("hasty", budget=40, restorer=("--linger-us", 0)),
    Sanitized("sanitized", budget=600),
]


def by_name(name):
    return next(v for v in ALL if v.name == name)
