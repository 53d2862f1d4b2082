# SPDX-License-Identifier: GPL-2.0-or-later
"""What is run of test/zdtm/run and test/real/run: who serves, who fetches, over what.

A cell is a name, a runner's options, and its tests.  Versions of CRIU are told by the Debian suite
that they are from: 4.1.1 has headers of 24 bytes, 4.2.1 of 32; what has different headers cannot
talk.  Restores are by the CRIU of the cell.
"""

import os
import subprocess

SUITES = {"4.1.1": "trixie", "4.2.1": "sid"}
# CRIU's own helper is known to fail on events (see the tests' criu-helper=): what it passes.
FOR_CRIU = ["basic/full", "fork/full", "data-bss/full"]
FOR_OURS = ["basic/full", "basic/off", "fork/full", "mremap-move/full", "storm-all/full"]
CHAINS = ["basic/chain2", "basic/plain2", "cow-tree/chain3"]


class Cell:
    def __init__(self, name, runner, options, tests):
        self.name, self.runner, self.options, self.tests = name, runner, options, tests
        self.skip = None


class Cells:
    def __init__(self, top, build, criu_dir, tmp):
        self.top, self.build, self.criu_dir, self.tmp = top, build, criu_dir, tmp

    def criu(self, version):
        return os.path.join(self.criu_dir, SUITES[version], "criu")

    def base(self, version):
        return ["--build", self.build, "--criu", self.criu(version)]

    def zdtm(self, name, version, options, tests):
        return Cell(name, "test/zdtm/run", self.base(version) + options, tests)

    def real(self, name, version, options, tests):
        return Cell(name, "test/real/run", self.base(version) + options, tests)

    def certificates(self):
        """Options for a server and for a client."""
        folder = os.path.join(self.tmp, "certs")
        if not os.path.isdir(folder):
            subprocess.run([os.path.join(self.build, "test/certs/make"), folder], check=True,
                           stdout=subprocess.DEVNULL)
        return [f"--tls --tls-cacert {folder}/cacert.pem --tls-cert {folder}/{who}-cert.pem "
                f"--tls-key {folder}/{who}-key.pem" for who in ("server", "client")]

    # --- who talks with whom

    def matrix(self):
        for version in SUITES:
            for server in ("criu", "dump", "ours"):
                for helper in ("criu", "ours"):
                    yield from self.cell(version, server, helper)
        for server, helper in (("4.1.1", "4.2.1"), ("4.2.1", "4.1.1")):
            cell = Cell(f"matrix/{server}/{helper}", None, [], [])
            cell.skip = "headers of 24 and 32 bytes, they cannot talk"
            yield cell

    @staticmethod
    def words(version, server, helper):
        names = {"criu": f"criu-{version}", "dump": f"criu-{version}-dump", "ours": "ours"}
        who = names[server], names[helper]
        return "/".join(who) + (f"/images-{version}" if who == ("ours", "ours") else "")

    def cell(self, version, server, helper):
        name = self.words(version, server, helper)
        options = ["--remote", server, "--helper", helper]
        tests = list(FOR_OURS if helper == "ours" else FOR_CRIU)
        if (server, helper) == ("ours", "ours"):
            tests += CHAINS
        yield self.zdtm(f"matrix/{name}", version, options, tests)
        modes = ["redis/full"] + ["redis/off"] * (helper == "ours")
        yield self.real(f"real/{name}", version, options, modes)
        theirs, mine = self.certificates()
        yield self.zdtm(f"tls/{name}", version,
                        options + ["--server-opts", theirs, "--helper-opts", mine], tests[:1])

    # --- dumps into a page server

    def storing(self):
        theirs, mine = self.certificates()
        for version in SUITES:
            for server in ("ours", "criu"):
                options = ["--store", server]
                name = f"store/criu-{version}-into-{server}"
                yield self.zdtm(name, version, options + ["--helper", "ours"],
                                ["basic/full", "basic/eager", "fork/eager", "tree-threads/full"])
                yield self.zdtm(f"{name}/restored-by-criu", version, options + ["--helper", "criu"],
                                ["basic/full"])
                yield self.zdtm(f"{name}/chain", version, options,
                                ["basic/plain2", "cow-tree/plain3"])
                yield self.zdtm(f"{name}/pre-dump", version, options + ["--pre"], ["basic/full"])
                yield self.zdtm(f"{name}/tls", version, options + [
                    "--server-opts", theirs, "--store-opts", mine], ["basic/eager"])

    # --- bad networks

    def proxied(self):
        ours = ["--remote", "ours", "--helper", "ours"]
        all_ours = ["basic/full", "fork/full", "storm-all/full", "storm-all/off"]

        def through(name, proxy, expect, tests, who=None):
            who = who or ours
            return self.zdtm(f"proxy/{name}", "4.2.1",
                             who + ["--proxy", proxy, "--expect", expect], tests)

        yield through("delay", "--delay 500", "connections=1", all_ours)
        yield through("long-delay", "--delay 25000", "connections=1", ["basic/full", "fork/full"])
        yield through("rate", "--rate 20M --delay 500", "connections=1", all_ours)
        yield through("byte-by-byte", "--split 1", "connections=1", ["brk/full"])
        yield through("pieces", "--split 1000", "connections=1", all_ours)
        yield through("cut", "--cut-every 700K", "cuts=3", all_ours)
        yield through("cut-often", "--cut-every 50K --delay 200", "cuts=20", ["basic/full"])
        yield through("end", "--cut-every 700K --fin", "cuts=3", ["basic/full", "storm-all/full"])
        yield through("cut-all", "--cut-after 1M,2M,500K,300K,100K --cut-all", "cuts=1", all_ours)
        yield through("cut-handshake", "--cut-after 1M,1M,1M,1M --cut-all --cut-handshake 5",
                      "cuts=1 handshakes=5", all_ours)
        yield through("refuse", "--cut-after 1M,1M --cut-all --refuse-for 700", "cuts=1",
                      ["basic/full", "fork/full"])
        yield through("black-hole", "--black-hole-after 500K,1M", "holes=1", ["basic/full"])
        yield through("flip", "--flip-every 300K --seed 11", "flips=5", all_ours)
        yield through("flip-and-cut", "--flip-every 500K --cut-every 900K --seed 12",
                      "flips=3 cuts=3", ["basic/full", "fork/full"])
        for server in ("criu", "dump"):
            who = ["--remote", server, "--helper", "ours"]
            yield through(f"delay/criu-4.2.1-{server}/ours", "--delay 500", "connections=1",
                          ["basic/full", "fork/full"], who)
            yield through(f"pieces/criu-4.2.1-{server}/ours", "--split 777", "connections=1",
                          ["basic/full", "fork/full"], who)
        who = ["--remote", "ours", "--helper", "criu"]
        yield through("delay/ours/criu-4.2.1", "--delay 500", "connections=1", ["basic/full"], who)
        yield through("pieces/ours/criu-4.2.1", "--split 777", "connections=1", ["basic/full"], who)

    def all(self):
        yield from self.matrix()
        yield from self.storing()
        yield from self.proxied()
