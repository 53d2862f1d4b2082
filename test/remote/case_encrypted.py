# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS between our two ends: who is let in, and what a loss does."""

import os
import subprocess

import images
from ends import Proxy, ends_well, helper, remote, restore, serve, write_images
from harness import Helper, case

NR = 64


def certificates(t):
    folder = t.path("certs")
    subprocess.run([os.environ["REMOTE_CERTS"], folder], check=True, stdout=subprocess.DEVNULL)
    return folder


def tls(folder, who, authority="cacert.pem"):
    return ["--tls", "--tls-cacert", f"{folder}/{authority}", "--tls-cert",
            f"{folder}/{who}-cert.pem", "--tls-key", f"{folder}/{who}-key.pem"]


def serve_tls(t, folder, who="server"):
    return serve(t, write_images(t, images.Process(1000, NR)), 0, *tls(folder, who))


def is_refused(t, port, options):
    """One error line, before any restore."""
    h = Helper(t, ["-D", t.img, *remote(port), *options], ready=False)
    t.check(h.read_status() != b"\0", f"the helper with {options} says that it is ready")
    t.check(h.p.wait(30) == 1, f"status {h.p.returncode}: {h.log()}")
    t.check(len(h.lines("Error")) == 1, f"not one error line: {h.log()}")
    t.check(not os.path.exists(t.socket), "a socket is left")


@case
def loss(t):
    "cut again and again: each new connection shakes hands anew"
    certs = certificates(t)
    p = Proxy(t, serve_tls(t, certs).port, "--cut-handshake", 3)
    h = helper(t, p.port, "--background", "off", *tls(certs, "client"))
    task = restore(t, NR)
    for i in range(5):
        t.check(task.touch(i), f"page {i} is wrong: {h.log()}")
        p.cut()
    h.term()
    ends_well(t, h, task)
    p.did(cuts=5, handshakes=3)


@case
def flips(t):
    "a flipped bit breaks the connection, not a page"
    certs = certificates(t)
    p = Proxy(t, serve_tls(t, certs).port, "--flip-at", 9000, "--flip-max", 5)
    h = helper(t, p.port, *tls(certs, "client"), "--protocol", "criu")
    ends_well(t, h, restore(t, NR))
    p.did(flips=1)


@case
def wrong_client(t):
    "a client by another authority, or without TLS, is refused; the next one is served"
    certs = certificates(t)
    server = serve_tls(t, certs)
    is_refused(t, server.port, tls(certs, "other"))
    is_refused(t, server.port, [])
    h = helper(t, server.port, *tls(certs, "client"))
    ends_well(t, h, restore(t, NR))
    server.ends()


@case
def wrong_server(t):
    "a server for another name, out of date, or by another authority is refused"
    certs = certificates(t)
    for who in ("stranger", "expired", "other"):
        server = serve(t, write_images(t, images.Process(1000, NR)), 0, *tls(certs, who))
        is_refused(t, server.port, tls(certs, "client"))
        server.kill()
        subprocess.run(["rm", "-r", t.path("full"), t.img], check=True)


@case
def revoked_server(t):
    "a server whose certificate is in --tls-cacrl is refused, and served without that list"
    certs = certificates(t)
    server = serve_tls(t, certs, "revoked")
    is_refused(t, server.port, tls(certs, "client") + ["--tls-cacrl", f"{certs}/cacrl.pem"])
    h = helper(t, server.port, *tls(certs, "client"))
    ends_well(t, h, restore(t, NR))


@case
def no_name_check(t):
    "with --tls-no-cn-verify a server for another name will do"
    certs = certificates(t)
    server = serve_tls(t, certs, "stranger")
    h = helper(t, server.port, *tls(certs, "client"), "--tls-no-cn-verify")
    ends_well(t, h, restore(t, NR))
