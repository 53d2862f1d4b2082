# SPDX-License-Identifier: GPL-2.0-or-later
"""CRIU's configuration files: which are read, in which order, and what is wrong with them."""

import os
import re

from harness import case


def write(path, *lines):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write("".join(line + "\n" for line in lines))
    return path


def home(t, *lines):
    """An environment whose HOME has a default.conf."""
    write(t.path("home", ".criu", "default.conf"), *lines)
    return {**os.environ, "HOME": t.path("home")}


@case
def config_order(t):
    "default.conf < CRIU_CONFIG_FILE < --config < command line: the log that appears tells"
    t.images()
    os.remove(os.path.join(t.img, "inventory.img"))  # it ends at once, its reason in the log
    env = home(t, "log-file home", 'work-dir "' + t.path("home") + '"')
    more = {**env, "CRIU_CONFIG_FILE": write(t.path("env.conf"), "log-file env")}
    conf = write(t.path("x.conf"), "log-file conf # the last", f"work-dir {t.path('home')}")

    def logs_to(name, environment, *args):
        r = t.run("lazy-pages", "-D", t.img, *args, env=environment)
        t.check(r.returncode == 1 and not r.stderr and not r.stdout, f"{name}: {r}")
        path = t.path("home", name)
        t.check(os.path.exists(path), f"no {name}, but {os.listdir(t.path('home'))}")
        os.remove(path)

    logs_to("home", env)
    logs_to("env", more)
    logs_to("conf", more, "--config", conf)
    logs_to("conf", more, f"--config={conf}", "--no-default-config")
    logs_to("cmd", more, "--config", conf, "-o", "cmd")
    logs_to("cmd", more, "-o", "cmd", "--config", conf)
    r = t.run("lazy-pages", "-D", t.img, "--no-default-config", env=env)
    t.check(r.returncode == 1 and "inventory.img" in r.stderr, f"{r}")


@case
def config_restore(t):
    "a whole restore with everything out of a file that is shared with dump and restore"
    t.images()
    conf = write(t.path("x.conf"), "# for all commands", "tcp-established", "ghost-limit 10M",
                 'external mnt[/a b]:c "d', "manage-cgroups=soft", "", "timeout 10",
                 f'images-dir "{t.img}"  # ours', "verbosity=3", "background off", "log-file log")
    script = f'exec "$0" lazy-pages --status-fd "$2" --config "{conf}"'
    helper = t.shell_helper(script)
    t.whole_restore(helper)
    with open(os.path.join(t.img, "log"), encoding="utf-8") as f:
        log = f.read()
    t.check("without effect" not in log, f"a warning about options of other commands: {log}")
    t.check(re.search(r"\(\d+\.\d+\)", log), f"no time stamps of verbosity 3: {log}")
    t.check(", 0 by background" in log, f"background was not off: {log}")


@case
def config_bad_lines(t):
    "a line that is wrong: refused with file and line"
    t.images()
    path = t.path("x.conf")
    bad = {
        "nonsense": 'unknown option "nonsense"',
        "nonsense 1": 'unknown option "nonsense"',
        "--daemon": 'unknown option "--daemon"',
        "daemon yes": "no value may follow",
        "log-file": "value is missing",
        "log-file a b": "something follows",
        'log-file "a': "closing quote",
        "jobs 0": "--jobs",
        "jobs=many": "--jobs",
        "status-fd x": "--status-fd",
        "verbosity x": "-v",
        "config y": "command line",
        "stream": "--stream",
    }
    for line, like in bad.items():
        write(path, "# one", "verbosity 2", line, "log-file never")
        t.refuses("lazy-pages", "-D", t.img, "--config", path,
                  like=rf"^criu-lazy: Error: {re.escape(path)}:3: .*{re.escape(like)}")
    t.check(not os.path.exists(os.path.join(t.img, "never")), "it went on")


@case
def config_bad_files(t):
    "a file that was asked for and cannot be read; a default one that is not there is fine"
    t.images()
    gone = t.path("gone")
    for args in (["--config", gone], [f"--config={gone}"]):
        t.refuses("lazy-pages", "-D", t.img, *args, like=re.escape(gone) + ": No such file")
    t.refuses("lazy-pages", "-D", t.img, "--config", t.img, like="Is a directory")
    t.refuses("lazy-pages", "-D", t.img, "--config", "/dev/zero", like="larger than")
    t.refuses("lazy-pages", "--config", like="--config.*argument")
    env = {**os.environ, "CRIU_CONFIG_FILE": gone, "HOME": gone}
    r = t.run("lazy-pages", "-D", t.img, env=env)
    t.check(r.returncode == 1 and gone + ": No such file" in r.stderr, f"{r}")
    os.remove(os.path.join(t.img, "inventory.img"))
    r = t.run("lazy-pages", "-D", t.img, env={**os.environ, "HOME": gone})
    t.check(r.returncode == 1 and "inventory.img" in r.stderr, f"{r}")


@case
def negated_options(t):
    "--no-NAME takes back what a file or an option before it said"
    t.images()
    conf = write(t.path("x.conf"), "daemon", "auto-dedup")
    helper = t.helper("--config", conf, "--no-daemon")  # else status 0 at once
    t.check(helper.alive(), f"it went to the background: {helper.log()}")
    helper.term().ends(0)
    helper = t.helper("-d", "--no-restore-detached", "--no-tcp-established")
    t.check(helper.alive(), f"it went to the background: {helper.log()}")
    warnings = helper.lines("Warn")
    t.check(len(warnings) == 1 and "--no-tcp-established" in warnings[0], f"{warnings}")
    helper.term().ends(0)
    t.refuses("lazy-pages", "--no-log-file", like="unknown option --no-log-file")


@case
def negated_tls(t):
    "--no-tls takes back --tls: no certificate is looked for"
    t.images()
    cert = t.path("no-cert")
    server = ("page-server", "--lazy-pages", "-D", t.img, "--address", "203.0.113.1", "--port",
              "77", "--tls-cert", cert, "-v1")  # not an address of this host
    t.refuses(*server, "--tls", like=r"cert.*No such file")
    t.refuses(*server, "--tls", "--no-tls", like=r"203\.0\.113\.1.*assign")
    conf = write(t.path("x.conf"), "tls")
    t.refuses(*server, "--config", conf, "--no-tls", like=r"203\.0\.113\.1.*assign")


@case
def config_shared(t):
    "an option of one daemon's --help is no error in a file that the other one reads"
    options = {}
    for command in ("lazy-pages", "page-server"):
        text = t.run(command, "--help").stdout
        found = re.findall(r"^ {2,8}(?:-\S+, )?--([a-z-]+)( [A-Z]+)?", text, re.M)
        t.check(len(found) > 8, f"{command}: {found}")
        options.update(dict(found))
    for command in ("lazy-pages", "page-server"):
        for name, value in options.items():
            if name in ("help", "config", "no-default-config"):
                continue
            path = write(t.path("x.conf"), name + value.lower())
            r = t.run(command, "-D", t.path("nowhere"), "--config", path)
            t.check(r.returncode == 1 and "unknown" not in r.stderr
                    and re.search(r"nowhere|wanted|wants|not supported|one of them|filter|descriptor",
                                  r.stderr), f"{command}: {name}: {r.stderr}")
