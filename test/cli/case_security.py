# SPDX-License-Identifier: GPL-2.0-or-later
"""What others can do to the helper: SECURITY.md names the test behind each of its statements."""

import fcntl
import os
import re
import signal
import socket
import struct
import time

import peer
from harness import Failed, case
from images import BASE, Process, content
from page_peer import Server
from words import process, says

NOBODY = 65534
EPERM, EACCES = 1, 13
FDS_AT_ONCE = 253  # the kernel's limit for one message


def open_folders(t):
    """Everything but the socket's own mode would let another user in."""
    folder = t.folder
    while folder != "/":
        if os.stat(folder).st_uid == os.geteuid():
            os.chmod(folder, os.stat(folder).st_mode | 0o055)
        folder = os.path.dirname(folder)
    os.chmod(t.img, 0o777)


def as_nobody(f):
    """f() in a process of another user without capabilities: what it returns, a small number."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            status = f()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def errno_of(f, *args):
    try:
        f(*args)
        return 0
    except OSError as e:
        return e.errno


def cut_off(path):
    """0 when the helper hangs up without a word, or errno when it cannot be reached."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(5)
    try:
        sock.connect(path)
        return 0 if sock.recv(1) == b"" else 98
    except ConnectionResetError:
        return 0
    except OSError as e:
        return e.errno or 97


def memory_of_others(pid):
    """A bit for each way into another process that was not barred."""
    ways = 0
    for n, path in enumerate(("mem", "environ", "maps", "map_files", "fd", "fd/0", "fdinfo/0")):
        path = f"/proc/{pid}/{path}"
        try:
            if os.path.isdir(path):
                os.listdir(path)
            else:
                with open(path, "rb") as f:
                    f.read(1)
            ways |= 1 << n
        except OSError:
            pass
    return ways


# --- who may connect ------------------------------------------------------------------------------


@case
def security_other_user(t):
    "another user cannot connect; with a mode that lets it, one line and sent away; a restore works"
    t.images()
    helper = t.helper()
    open_folders(t)
    t.check(os.stat(t.socket).st_mode & 0o777 == 0o600, "the socket's mode")
    got = as_nobody(lambda: cut_off(t.socket))
    t.check(got == EACCES, f"mode 0600: {got}")
    t.check(not helper.lines("Warn"), helper.log())
    os.chmod(t.socket, 0o666)
    for n in range(1, 4):
        got = as_nobody(lambda: cut_off(t.socket))
        t.check(got == 0, f"mode 0666: {got}")
        t.until(lambda n=n: len(helper.lines("Warn")) == n, "no warning")
    t.check("connection refused: process " in helper.lines("Warn")[0] and
            f"of user {NOBODY}" in helper.lines("Warn")[0], helper.log())
    t.whole_restore(helper)


@case
def security_other_user_waits(t):
    "another user's connection that stays open does not keep a restorer waiting"
    t.images()
    helper = t.helper()
    open_folders(t)
    os.chmod(t.socket, 0o666)
    ours, theirs = os.pipe()

    def wait_there():
        os.setresuid(NOBODY, NOBODY, NOBODY)
        sock = [socket.socket(socket.AF_UNIX) for _ in range(5)]
        for s in sock:
            s.connect(t.socket)
        os.write(theirs, b"x")
        signal.pause()

    with process(wait_there):
        os.close(theirs)
        t.check(os.read(ours, 1) == b"x", "the other user did not connect")
        t.whole_restore(helper)
    os.close(ours)


@case
def security_page_server_unix(t):
    "page-server --unix: mode 0600, another user cannot connect"
    t.images()
    path = t.path("pages")
    Server(t, "-D", t.img, "--lazy-pages", "--keep", "--unix", path)
    open_folders(t)
    t.check(os.stat(path).st_mode & 0o777 == 0o600, "the socket's mode")
    got = as_nobody(lambda: cut_off(path))
    t.check(got == EACCES, f"{got}")


@case
def security_page_server_other_user(t):
    "page-server --unix, with a mode that lets another user in: one line, sent away; others are served"
    t.images()
    path = t.path("pages")
    server = Server(t, "-D", t.img, "--lazy-pages", "--once", "--unix", path)
    open_folders(t)
    os.chmod(path, 0o666)
    for n in range(1, 4):
        got = as_nobody(lambda: cut_off(path))
        t.check(got == 0, f"mode 0666: {got}")
        t.until(lambda n=n: len(server.lines("Warn")) == n, "no warning")
    t.check(re.search(rf"connection refused: process \d+ of user {NOBODY} at {path}: ",
                      server.lines("Warn")[0]), server.log())
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    client = server.client(sock)
    t.check(client.fetch(32, 1000, BASE) == content(1000, 0), "a page is wrong")
    client.bye(32)
    server.ends_after(0)


# --- files ----------------------------------------------------------------------------------------


@case
def security_links(t):
    "a link in the place of socket or pidfile is refused, what it points to is kept"
    t.images()
    victim = t.path("victim")
    for option, name in (("--socket", "s"), ("--pidfile", "p")):
        with open(victim, "w", encoding="ascii") as f:
            f.write("precious")
        os.symlink(victim, t.path(name))
        t.refuses("lazy-pages", "-D", t.img, option, t.path(name), like=t.path(name))
        with open(victim, encoding="ascii") as f:
            t.check(f.read() == "precious", f"{option} wrote through the link")
        t.check(os.path.islink(t.path(name)), f"{option} removed the link")


@case
def security_files_modes(t):
    "whatever the umask: log and pidfile cannot be written by others, the socket not be used"
    t.images()
    before = os.umask(0)
    try:
        helper = t.helper("-o", t.path("log"), "--pidfile", t.path("pid"), "-v4")
    finally:
        os.umask(before)
    for path, mode in ((t.path("log"), 0o644), (t.path("pid"), 0o644), (t.socket, 0o600)):
        got = os.stat(path).st_mode & 0o777
        t.check(got == mode, f"{path}: mode {got:o}")
    t.whole_restore(helper)


@case
def security_log_has_no_memory(t):
    "the log, at its most talkative, and the error output hold no content of pages"
    t.images()
    secret = b"a password in the memory of a process"
    pages = os.path.join(t.img, "pages-1.img")
    size = os.path.getsize(pages)
    with open(pages, "wb") as f:
        f.write((secret * (size // len(secret) + 1))[:size])
    helper = t.helper("-o", t.path("log"), "-v4")
    (task,) = t.hand_over()
    t.check(task.touch(0) is False, "it is not the secret that was restored")
    helper.ends(0)
    with open(t.path("log"), "rb") as f:
        log = f.read()
    t.check(b"pid 1000" in log, "the log is empty")
    for n in range(len(secret) - 8):
        t.check(secret[n:n + 8] not in log + helper.log().encode(), "the log has page content")


# --- privileges -----------------------------------------------------------------------------------


def capabilities(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return {line[:6]: int(line.split()[1], 16) for line in f if line.startswith("Cap")}


@case
def security_privileges(t):
    "the helper keeps CAP_KILL and CAP_IPC_LOCK and nothing else, in every thread"
    t.images()
    kept = 1 << 5 | 1 << 14
    helper = t.helper("--jobs", "3")
    for thread in os.listdir(f"/proc/{helper.p.pid}/task"):
        caps = capabilities(f"{helper.p.pid}/task/{thread}")
        for which, want in (("CapPrm", kept), ("CapEff", kept), ("CapInh", 0), ("CapAmb", 0)):
            t.check(caps[which] & ~want == 0, f"thread {thread}: {which} {caps[which]:x}")
        t.check(caps["CapEff"] & 1 << 5, "it cannot kill")
        t.check(caps["CapBnd"] & ~kept == 0, f"thread {thread}: CapBnd {caps['CapBnd']:x}")
    t.whole_restore(helper)


@case
def security_memory_of_the_helper(t):
    "its memory and descriptors are not open to another user"
    t.images()
    helper = t.helper()
    got = as_nobody(lambda: memory_of_others(helper.p.pid))
    t.check(got == 0, f"ways in: {got:b}")
    t.whole_restore(helper)


@case
def security_memory_and_root(t):
    "nor to root with the capabilities that the helper has itself; a page server's as little"
    t.images()
    helper = t.helper()
    server = Server(t, "-D", t.img, "--lazy-pages", "--keep")
    kept = 1 << 5 | 1 << 14

    def as_weak_root(pid):
        child = os.fork()
        if child == 0:
            status = 99
            try:
                head = struct.pack("Ii", 0x20080522, 0)
                sets = struct.pack("6I", kept, kept, 0, 0, 0, 0)
                if peer.libc.capset(head, sets) == 0:
                    status = memory_of_others(pid)
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for pid in (*t.members(), server.p.pid):
        got = as_weak_root(pid) & ~(1 << 4)  # the numbers of its descriptors are no secret
        t.check(got == 0, f"ways in: {got:b}")
    t.whole_restore(helper)


@case
def security_hidden_from_itself(t):
    "a helper that is not root, whose own files in /proc are root's then, survives its worker"
    t.images()
    open_folders(t)
    helper = t.shell_helper(f'HOME=/ exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups '
                            '"$0" lazy-pages -D "$1" --status-fd "$2" --background off')
    t.check(os.stat(f"/proc/{helper.p.pid}/maps").st_uid == 0, "its memory is not closed")
    sock = t.connect()
    task = t.task(sock)
    sock.sendall(peer.FINISHED)
    for index in (3, 7):
        t.check(task.touch(index), "a page is wrong")
        old = helper.worker()
        os.kill(old, signal.SIGKILL)
        t.until(lambda old=old: helper.worker() not in (None, old), "no worker")
    t.check(task.all_right(), "a page is wrong")
    helper.term().ends(0)
    t.check(helper.log().count("the next one goes on where it was") == 2, helper.log())


# --- what a restorer sends ------------------------------------------------------------------------


@case
def security_descriptors_by_hundreds(t):
    "thousands of descriptors, 253 in each message: refused at the first"
    says(t, r"\d+ descriptors at once", *((b"\0", [0] * FDS_AT_ONCE),) * 20)


@case
def security_dead_process(t):
    "a userfaultfd whose process is gone: the helper ends at \"finished\", and blames nobody"
    t.images()
    helper = t.helper()
    sock = t.connect()
    task = t.task(sock)
    task.kill()
    sock.sendall(peer.FINISHED)
    helper.ends(0)


@case
def security_dead_before_it_is_read(t):
    "the same, when it was gone before the helper had read its message"
    t.images()
    helper = t.helper()
    helper.p.send_signal(signal.SIGSTOP)
    sock = t.connect()
    task = t.task(sock)
    task.kill()
    sock.sendall(peer.FINISHED)
    helper.p.send_signal(signal.SIGCONT)
    helper.ends(0)


def good_one_is_served(t, make):
    """A process whose userfaultfd is made like that, beside a good one."""
    t.images(Process(1000), Process(1001, ppid=1000))
    helper = t.helper("-v3")
    sock = t.connect()
    good = t.task(sock)

    def odd():
        fd = make()
        peer.send_task(sock, 1001, fd)
        os.close(fd)

    with process(odd):
        t.until(lambda: helper.log().count("received its userfaultfd") == 2, "it was not received")
        sock.sendall(peer.FINISHED)
        t.check(good.all_right(), "a page of the good process is wrong")
        ticks = cpu_ticks(helper.p.pid) if helper.alive() else 0
        time.sleep(0.5)
        if helper.alive():
            used = cpu_ticks(helper.p.pid) - ticks
            t.check(used < 40, f"it is busy: {used} ticks in half a second")
    try:
        helper.p.wait(10)
    except Exception:
        raise Failed(f"it does not end when the process is gone: {helper.log()}") from None
    t.check(good.exit() == 0, "the good process did not end well")


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


@case
def security_uffd_without_api(t):
    "a userfaultfd that was never set up is refused: nothing could be done with it, or be told by it"
    says(t, "process 1000: .*no userfaultfd", peer.word(1000),
         lambda: (b"\0", [peer.libc.syscall(peer.SYS_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK)]))


@case
def security_uffd_without_events(t):
    "a userfaultfd without events or registered memory: the same"
    good_one_is_served(t, lambda: peer.make_uffd(0))


@case
def security_uffd_sigbus(t):
    "a userfaultfd that was set up for SIGBUS instead of faults: the same"
    good_one_is_served(t, lambda: peer.make_uffd(0x80))


@case
def security_uffd_elsewhere(t):
    "a userfaultfd whose memory is not where the image says: the same"
    def elsewhere():
        fd = peer.make_uffd()
        addr = peer.BASE * 2
        peer.libc.mmap(addr, 1 << 20, 3, 0x22 | 0x100000, -1, 0)
        fcntl.ioctl(fd, peer.UFFDIO_REGISTER, struct.pack("QQQQ", addr, 1 << 20, 1, 0))
        return fd
    good_one_is_served(t, elsewhere)


@case
def security_blocking_uffd(t):
    "a blocking userfaultfd is made non-blocking, with a warning; its pages come"
    t.images()
    helper = t.helper()
    sock = t.connect()
    make = peer.make_uffd

    def blocking(*args):
        fd = make(*args)
        os.set_blocking(fd, True)
        return fd
    peer.make_uffd = blocking
    try:
        task = t.task(sock)
    finally:
        peer.make_uffd = make
    sock.sendall(peer.FINISHED)
    t.check(task.all_right(), "a page is wrong")
    helper.ends(0)
    t.check("was blocking" in helper.log(), helper.log())


@case
def security_endless_zombies(t):
    "zombies without end, and one zombie again and again: refused at the first too many"
    zombies = [Process(1000)] + [Process(1001 + n, zombie=True, ppid=1000) for n in range(3)]
    says(t, "zombie 1001 .*twice", *(peer.word(-1001),) * 100, processes=zombies)
    says(t, "zombie 2000 is not in", *(peer.word(-n) for n in range(2000, 3000)),
         processes=zombies)


# --- what a restorer does not do ------------------------------------------------------------------


@case
def security_slow_restorer(t):
    "a restorer that stops in the middle: what it has handed over is served meanwhile"
    t.images(Process(1000), Process(1001, ppid=1000))
    helper = t.helper()
    sock = t.connect()
    task = t.task(sock)
    sock.sendall(peer.word(1001)[:2])
    t.check(task.all_right(), "a page is wrong")
    time.sleep(0.3)
    t.check(helper.alive(), helper.log())
    sock.sendall(peer.word(1001)[2:])
    t.check(helper.alive(), helper.log())


@case
def security_open_for_ever(t):
    "after \"finished\" a connection that stays open keeps nobody from ending"
    t.images()
    helper = t.helper()
    (task,) = t.hand_over()
    t.check(task.all_right(), "a page is wrong")
    helper.ends(0)


@case
def security_event_storm(t):
    "a program that changes its memory without a pause does not keep another one waiting"
    t.images(Process(1000), Process(1001, ppid=1000))
    helper = t.helper("--background", "off")
    sock = t.connect()
    good = t.task(sock)

    def storm():
        peer.send_task(sock, 1001, peer.missing_memory(16))
        while True:
            peer.libc.madvise(peer.ctypes.c_void_p(peer.BASE), peer.ctypes.c_size_t(peer.PAGE),
                              peer.MADV_DONTNEED)

    with process(storm):
        time.sleep(0.2)
        sock.sendall(peer.FINISHED)
        t.check(good.all_right(), "a page is wrong")
    helper.ends(0)


@case
def security_fork_storm(t):
    "a program that forks while it is lazy, 300 times: each is served, the helper ends"
    t.images()
    helper = t.helper("--background", "off")
    (task,) = t.hand_over()
    for _ in range(300):
        t.check(task.touch(peer.FORK) is True, "fork")
    t.check(task.all_right(), "a page is wrong")
    helper.ends(0)


# --- who is not taken must not go on --------------------------------------------------------------


def stop(helper, number=signal.SIGSTOP):
    """The helper with all of its processes; SIGCONT: it goes on."""
    pids, at = [helper.p.pid], 0
    while at < len(pids):
        with open(f"/proc/{pids[at]}/task/{pids[at]}/children", encoding="ascii") as f:
            pids += map(int, f.read().split())
        at += 1
    for pid in pids:
        os.kill(pid, number)


def is_killed(t, task):
    if task.ended(3) is None:
        t.check(False, f"the process goes on; page 3 is right: {task.touch(3)}")
    t.check(task.ended() == -signal.SIGKILL, f"the task's status is {task.status}")


@case
def security_refused_process(t):
    "a process that the image does not have: killed, it must not read zeros"
    t.images()
    helper = t.helper()
    sock = t.connect()
    task = t.task(sock, 1001)
    helper.ends(1, "process 1001 is not in pstree.img")
    is_killed(t, task)


@case
def security_queued_process(t):
    "one that had reported behind the one that was refused: killed as well"
    t.images(Process(1000), Process(1001, ppid=1000))
    helper = t.helper()
    stop(helper)
    sock = t.connect()
    sock.sendall(peer.word(0))
    task = t.task(sock, 1001)
    stop(helper, signal.SIGCONT)
    helper.ends(1, "0x00000000 as a pid")
    is_killed(t, task)


@case
def security_second_restorer(t):
    "a second restorer is sent away: who has reported to it is killed, the first goes on"
    t.images(Process(1000), Process(1001, ppid=1000))
    helper = t.helper()
    stop(helper)
    first, second = t.connect(), t.connect()
    good, other = t.task(first), t.task(second, 1001)
    stop(helper, signal.SIGCONT)
    is_killed(t, other)
    mate = t.task(first, 1001)
    first.sendall(peer.FINISHED)
    t.check(good.all_right() and mate.all_right(), "a page is wrong")
    helper.ends(0)


# --- who says nothing -----------------------------------------------------------------------------


def is_closed(sock, seconds=10):
    """Has the helper hung up?"""
    sock.settimeout(seconds)
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


@case
def security_silent_peer(t):
    "one who connects, says nothing and stays does not keep a restorer waiting, and is sent away"
    t.images()
    helper = t.helper()
    silent = [t.connect() for _ in range(3)]
    t.whole_restore(helper)
    t.check(all(is_closed(s) for s in silent), "a silent connection was kept")
    lines = [line for line in helper.lines("Warn") if "other connections to" in line]
    t.check(len(lines) == 1 and lines[0].endswith(" closed: 3"), helper.log())


@case
def security_silent_restorer(t):
    "who is silent at first, with others before and behind, is the restorer if he speaks first"
    t.images()
    helper = t.helper()
    before, sock, behind = t.connect(), t.connect(), t.connect()
    behind.close()
    t.until(lambda: "left without a word" in helper.log(), "no warning")
    task = t.task(sock)
    t.check(task.touch(3), "a page is wrong")
    t.check(is_closed(before), "a silent connection was kept")
    sock.sendall(peer.FINISHED)
    t.check(task.all_right(), "a page is wrong")
    helper.ends(0)


def try_connect(t, connected):
    """The queue of those that are not accepted yet may be full."""
    try:
        connected.append(t.connect())
        return True
    except BlockingIOError:
        return False


@case
def security_too_many_silent(t):
    "eight may be silent at a time: for one more the oldest is closed, with a line; nobody waits"
    t.images()
    helper = t.helper()
    silent = [t.connect() for _ in range(8)]
    t.check(not is_closed(silent[0], 0.2), "closed, and there is a place")
    for n in range(3):
        silent.append(t.connect())
        t.check(is_closed(silent[n]), "the oldest was kept")
        lines = [line for line in helper.lines("Warn") if "the oldest is closed" in line]
        t.check(len(lines) == n + 1, helper.log())
    t.check(not any(is_closed(s, 0.01) for s in silent[3:]), "not only the oldest was closed")
    many = []
    for _ in range(200):
        t.until(lambda: try_connect(t, many), "it does not accept")
    t.check(all(is_closed(s) for s in silent + many[:-8]), "the oldest was kept")
    t.whole_restore(helper)


@case
def security_silent_and_deaths(t):
    "the worker dies again and again while connections are silent: all are kept, one is the restorer"
    t.images()
    helper = t.helper()
    for at in (0, 5):
        silent = [t.connect() for _ in range(7)]
        for _ in range(3):
            old = helper.worker()
            os.kill(old, signal.SIGKILL)
            t.until(lambda old=old: helper.worker() not in (None, old), "no worker")
        t.check(not any(is_closed(s, 0.01) for s in silent), "a connection was lost")
        sock = silent.pop(at)
        task = t.task(sock)
        t.check(task.touch(3), "a page is wrong")
        t.check(all(is_closed(s) for s in silent), "a silent connection was kept")
        sock.sendall(peer.FINISHED)
        t.check(task.all_right(), "a page is wrong")
        helper.ends(0)
        helper = t.helper()


def one_report(sock):
    """A process that reports and looks at a page; 3: it is wrong, 5: nobody listens."""
    child = os.fork()
    if child == 0:
        status = 98
        try:
            signal.alarm(30)
            fd = peer.missing_memory(16)
            try:
                peer.send_task(sock, 1000, fd)
            except OSError:
                os._exit(5)
            os.close(fd)
            right = peer.ctypes.string_at(peer.BASE, peer.PAGE) == content(1000, 0)
            status = 0 if right else 3
        finally:
            os._exit(status)
    return child


@case
def security_silent_and_term(t):
    "SIGTERM while connections are silent ends it; who reports at that moment is served or killed"
    t.images()
    helper = t.helper()
    silent = t.connect()
    helper.term().ends(0)
    t.check(is_closed(silent), "it is still open")
    for n in range(20):
        helper = t.helper()
        sock = t.connect()
        child = one_report(sock)
        time.sleep(0.0002 * n)
        helper.term()
        try:
            sock.sendall(peer.FINISHED)
        except OSError:
            pass
        sock.close()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        t.check(status in (0, 5, -signal.SIGKILL), f"try {n}: {status}")
        helper.p.wait(10)
