# SPDX-License-Identifier: GPL-2.0-or-later
"""Options, values, files named by options, and the commands that only print."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess

from harness import case


@case
def no_command(t):
    "without a command: says so, and the usage"
    for args in ([], ["nonsense"], ["-D", "lazy-pages"]):
        r = t.run(*args)
        t.check(r.returncode == 1 and "Usage: criu-lazy COMMAND" in r.stderr and not r.stdout,
                f"{args}: {r}")


@case
def help_and_version(t):
    "--help and --version: status 0, on standard output"
    for args in (["--help"], ["-h"], ["--version"], ["-V"], ["lazy-pages", "--help"],
                 ["lazy-pages", "-h"], ["show", "--help"], ["check", "--help"]):
        r = t.run(*args)
        t.check(r.returncode == 0 and r.stdout and not r.stderr, f"{args}: {r}")


@case
def unknown_option(t):
    "an unknown option is refused by name"
    t.refuses("lazy-pages", "--nonsense", like=r"^criu-lazy: Error: .*--nonsense")
    t.refuses("lazy-pages", "-q", like=r"^criu-lazy: Error: .*-q\b")
    t.refuses("lazy-pages", "-dq", like=r"^criu-lazy: Error: unknown option -(d?q)\b")
    t.refuses("lazy-pages", "--daemon=1", like=r"^criu-lazy: Error: .*--daemon")


@case
def missing_value(t):
    "an option without its value"
    for option in ("-D", "-W", "-o", "--socket", "--jobs", "--background", "--pidfile"):
        t.refuses("lazy-pages", option, like=rf"^criu-lazy: Error: .*{option}.*argument")


@case
def bad_values(t):
    "a bad value is refused, with the option and what is wanted"
    t.images()
    bad = {
        "--background": ("", "fast", "0", "-1", "5X", "1KK", "K", "99999999999G", " 5", "+5"),
        "--low-latency": ("", "yes"),
        "--on-lost": ("", "zero", "KILL"),
        "--jobs": ("", "0", "65", "-1", "two", "1x", "99999999999999999999"),
        "--status-fd": ("", "-1", "x", "2147483648"),
        "--verbosity": ("x", "-1", "4x"),
        "--filter": ("", "nonsense", "delay=", "delay=x", "short=0", "lose=1000", "lose=5-",
                     "lose=9000-1000", "lose=x-y", "delay=-1", "short=-1"),
    }
    for option, values in bad.items():
        for value in values:
            t.refuses("lazy-pages", "-D", t.img, f"{option}={value}",
                      like=rf"^criu-lazy: Error: .*({option}|-v|filter) ?:? ?\"")


@case
def too_many_filters(t):
    "nine filters"
    t.images()
    t.refuses("lazy-pages", "-D", t.img, *["--filter", "short=1"] * 9, like="more than 8 filters")


@case
def excess_argument(t):
    "an argument that is no option"
    t.refuses("lazy-pages", "-D", ".", "foo", like=r"^criu-lazy: Error: .*\"foo\"")


@case
def criu_options(t):
    "options of CRIU that mean nothing here: accepted, with exactly one warning that names them"
    t.images()
    helper = t.helper("--shell-job", "--tcp-established", "-j", "--root", "/", "--manage-cgroups",
                      "--file-locks", "--timeout", "10",
                      "--no-default-config", "-v2")
    warnings = helper.lines("Warn")
    t.check(len(warnings) == 1, f"warnings: {warnings}")
    for name in ("--shell-job", "--tcp-established", "-j", "--root", "--manage-cgroups",
                 "--file-locks", "--timeout"):
        t.check(name in warnings[0], f"{name} is not in {warnings[0]!r}")
    helper.term().ends(0)


@case
def many_criu_options(t):
    "so many of them that the warning cannot name them all"
    t.images()
    helper = t.helper(*["--skip-file-rwx-check", "--mntns-compat-mode"] * 40)
    warnings = helper.lines("Warn")
    t.check(len(warnings) == 1 and len(warnings[0]) > 100, f"warnings: {warnings}")
    helper.term().ends(0)


@case
def refused_options(t):
    "an option of CRIU that would change where pages come from is refused by name"
    t.refuses("lazy-pages", "--stream", like=r"^criu-lazy: Error: .*--stream\b.*not supported")


@case
def page_server_needs(t):
    "--page-server without knowing where it is; where it is without --page-server is CRIU's habit"
    for args in ([], ["--address", "127.0.0.1"], ["--port", "77"], ["--tls"]):
        t.refuses("lazy-pages", "--page-server", *args, like=r"^criu-lazy: Error: --page-server wants")
    t.images()
    helper = t.helper("--address", "10.0.0.1", "--port", "77")
    t.check(any("without --page-server" in line for line in helper.lines("Warn")), helper.log())
    helper.term()
    helper.ends(0)


@case
def quiet_when_fine(t):
    "nothing to say at the default level but the summary"
    t.images()
    helper = t.helper()
    t.whole_restore(helper)
    log = helper.log().splitlines()
    t.check(len(log) == 1 and " pages by fault, " in log[0], f"log: {log}")
    t.check("16 " not in log[0].split(",")[2] and "0 pages lost" in log[0], f"log: {log}")


@case
def log_file(t):
    "-o: relative to the work directory, replaced, nothing on standard error"
    t.images()
    os.mkdir(t.path("work"))
    with open(t.path("work", "log"), "w", encoding="ascii") as f:
        f.write("old\n")
    helper = t.helper("-W", t.path("work"), "-o", "log", "-v4", "--background", "off")
    t.whole_restore(helper, t.path("work", "lazy-pages.socket"))
    t.check(helper.log() == "", f"standard error: {helper.log()}")
    with open(t.path("work", "log"), encoding="ascii") as f:
        log = f.read()
    t.check("old" not in log and "fault 0x" in log and " pages by fault, " in log, f"log: {log}")


@case
def bad_files(t):
    "log file, pidfile, work directory, socket where they cannot be"
    t.images()
    for args, like in (
            (["-o", t.path("no", "log")], "log file .*/no/log.*No such file"),
            (["--pidfile", t.path("no", "pid")], "pidfile .*/no/pid.*No such file"),
            (["-W", t.path("no")], "work directory .*/no: No such file"),
            (["-W", t.path("img", "pstree.img")], "work directory .*: Not a directory"),
            (["--socket", t.path("no", "s")], "socket .*/no/s.*No such file"),
            (["--socket", ""], "socket"),
            (["--socket", "x" * 108], "socket x*"),
            (["--status-fd", "77"], "status descriptor 77: Bad file")):
        t.refuses("lazy-pages", "-D", t.img, *args, like="^criu-lazy: Error: .*" + like)
        t.check(not os.path.exists(t.socket), f"{args}: the socket is left behind")
    t.refuses("lazy-pages", "-D", t.img, "-d", "--pidfile", t.path("no", "pid"),
              like="^criu-lazy: Error: .*pidfile .*No such file")


@case
def status_fd(t):
    "--status-fd gets exactly one zero byte, when the socket is there, and is closed"
    t.images()
    helper = t.helper()
    t.check(os.path.exists(t.socket), "ready, but no socket")
    t.check(helper.read_status() == b"", "more than one byte on the status descriptor")
    t.whole_restore(helper)


@case
def status_fd_of_a_failure(t):
    "nothing on --status-fd when it cannot start"
    helper = t.helper(ready=False)
    t.check(helper.read_status() == b"", "said ready without images")
    helper.ends(1, "No such file")


@case
def daemon(t):
    "--daemon and --pidfile: in the background when it is ready; ends as it should"
    t.images()
    # A daemon is a child of somebody else: that it ends is seen by /proc.
    r = t.run("lazy-pages", "-D", t.img, "-d", "--pidfile", "pid", "-o", "log")
    t.check(r.returncode == 0 and not r.stderr and not r.stdout, f"{r}")
    with open(t.path("img", "pid"), encoding="ascii") as f:
        pid = int(f.read())
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            t.check(b"lazy-pages" in f.read(), "the pid is not the helper's")
        t.check(os.getsid(pid) == pid, "it is no session of its own")
        t.check(os.path.exists(t.socket), "no socket when the command returned")
        t.check(os.readlink(f"/proc/{pid}/fd/0") == "/dev/null", "it keeps its standard input")
        t.check(os.readlink(f"/proc/{pid}/fd/2") == "/dev/null", "it keeps its standard error")
        sock = t.connect()
        task = t.task(sock)
        sock.sendall(b"FTSR")
        t.check(task.all_right(), "a page is wrong")
        t.until(lambda: ended(pid), "the daemon does not end")
        t.check(not os.path.exists(t.socket), "it left its socket behind")
    finally:
        if not ended(pid):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def daemon_of(t, command, status_fd, **more):
    """The parent of a daemon that is being started; afterwards both are ended."""
    argv = [t.program, *command, "-D", t.img, "-d", "--pidfile", t.path("pid"),
            "--status-fd", str(status_fd)]
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **more)
    try:
        yield p
        end_daemon(t, signal.SIGTERM)
    finally:
        p.kill()
        p.wait()
        t.kill_members()
        end_daemon(t, signal.SIGKILL)


def end_daemon(t, number):
    if not os.path.exists(t.path("pid")):
        return
    with open(t.path("pid"), encoding="ascii") as f:
        pid = int(f.read())
    if not ended(pid):
        os.kill(pid, number)
    t.until(lambda: ended(pid), "the daemon does not end")
    os.remove(t.path("pid"))


DAEMONS = (("lazy-pages",), ("page-server", "--lazy-pages", "--keep", "--unix", "pages"))


@case
def daemon_status(t):
    "--daemon: who has waited for the command finds the readiness byte, without waiting for that"
    t.images()
    for command in DAEMONS:
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        # A full pipe takes nothing more: the command may not end before the byte is in it.
        size = fcntl.fcntl(theirs, fcntl.F_GETPIPE_SZ)
        t.check(os.write(theirs, b"x" * size) == size, "the pipe is larger than it says")
        with daemon_of(t, command, theirs, pass_fds=[theirs]) as p:
            os.close(theirs)
            try:
                p.wait(1)
                t.check(False, f"{command}: ended with {p.returncode} before the byte was written")
            except subprocess.TimeoutExpired:
                pass
            t.check(os.read(ours, size) == b"x" * size, "what was in the pipe")
            t.check(p.wait(10) == 0, f"{command}: {p.stderr.read()}")
            said = os.read(ours, 10)
            t.check(said == b"\0", f"{command}: {said} on the status descriptor")
        os.close(ours)


@case
def daemon_status_is_stdout(t):
    "--daemon: the status descriptor may be standard output"
    t.images()
    for command in DAEMONS:
        with daemon_of(t, command, 1, stdout=subprocess.PIPE) as p:
            said = p.stdout.read()
            t.check(p.wait(10) == 0 and said == b"\0", f"{command}: {p.returncode} {said}")


@case
def daemon_status_fails(t):
    "--daemon: nobody can be told that it is ready: the command fails, and says why"
    t.images()
    for command in DAEMONS:
        ours, theirs = os.pipe()
        os.close(ours)
        with daemon_of(t, command, theirs, pass_fds=[theirs]) as p:
            os.close(theirs)
            errors = p.stderr.read().decode()
            t.check(p.wait(10) == 1, f"{command}: status {p.returncode}, {errors!r}")
            t.check(errors.count("\n") == 1 and "status descriptor" in errors and
                    "Broken pipe" in errors, f"{command}: {errors!r}")


def ended(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return ") Z " in f.read()
    except (FileNotFoundError, ProcessLookupError):
        return True


@case
def pidfile_in_front(t):
    "--pidfile without --daemon"
    t.images()
    helper = t.helper("--pidfile", "pid")
    with open(t.path("img", "pid"), encoding="ascii") as f:
        t.check(int(f.read()) == helper.p.pid, "not its pid")
    helper.term().ends(0)


@case
def closed_descriptors(t):
    "started without standard input, output and error: they are not taken for something else"
    t.images()
    script = 'exec "$0" lazy-pages -D "$1" --status-fd "$2" -o log -v3 0<&- 1>&- 2>&-'
    helper = t.shell_helper(script)
    t.whole_restore(helper)
    with open(t.path("img", "log"), encoding="ascii") as f:
        t.check(" pages by fault, " in f.read(), "no summary in the log")


@case
def check(t):
    "check, check --feature, check --json"
    r = t.run("check")
    t.check(r.returncode == 0 and "uffd-noncoop" in r.stdout and not r.stderr, f"{r}")
    for name in ("uffd", "uffd-noncoop", "io-uring"):
        r = t.run("check", "--feature", name)
        t.check(r.returncode == 0 and r.stdout == f"{name} is supported\n", f"{r}")
    t.refuses("check", "--feature", "nonsense", like="nonsense")
    t.refuses("check", "foo", like="foo")
    listed = json.loads(t.run("check", "--json").stdout)
    t.check(len(listed) > 10 and all(set(e) == {"name", "verdict", "required", "detail", "remedy"}
                                     for e in listed), f"{listed}")
    one = json.loads(t.run("check", "--json", "--feature", "uffd").stdout)
    t.check([e["name"] for e in one] == ["uffd"], f"{one}")
