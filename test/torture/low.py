# SPDX-License-Identifier: GPL-2.0-or-later
"""Low resources: progress or a clear end, no wrong page, no busy loop.

Nothing is made to fail here: the kernel really has no more of it.
"""

import contextlib
import os
import subprocess
import traceback

import verdict
import world

CASES = []
MIB = 1 << 20


class Skip(Exception):
    pass


def case(f):
    CASES.append(f)
    return f


def check(run, w, log_failed=False, all_right=False, cpu_limit=verdict.CPU_LIMIT_MS):
    wrong = verdict.judge(run, w.log, log_failed, cpu_limit)
    if all_right and (run["status"] or set(run["fates"]) != {"right"}):
        wrong.append("not everything is right")
    assert not wrong, f"{wrong} {run}\n{w.log[:2000]}"


# --- descriptors

@case
def descriptors(make):
    "RLIMIT_NOFILE at the handoff: from none at all to enough"
    w = make(tasks=6, pages=16)
    ready = done = 0
    for limit in range(6, 60):
        run = w.run(options=["--tasks", 6, "--pages", 16, "--nofile", limit], preload=False)
        check(run, w)
        ready += run["ready"]
        done += run["status"] == 0
    assert 0 < done < ready < 54, f"{ready} got ready, {done} went well: the limits are not at it"


@case
def descriptors_forks(make):
    "RLIMIT_NOFILE in a storm of forks: a child waits until another one has ended"
    w = make(tasks=1, pages=512)
    for limit in 24, 32:
        run = w.run("--background", "off", preload=False,
                    options=["--tasks", 1, "--pages", 512, "--forks", 100, "--nofile", limit,
                             "--linger-us", 0])
        check(run, w)


# --- the log

def tiny_tmpfs(folder, size):
    os.makedirs(folder, exist_ok=True)
    got = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder],
                         capture_output=True, text=True, check=False)
    if got.returncode:
        raise Skip(f"no tmpfs can be mounted: {got.stderr.strip()}")


@case
def full_disk(make):
    "the log is on a disk that gets full"
    # Of one task so much is told, at times, that it just fits.
    w = make(tasks=3, pages=1024)
    tiny = os.path.join(w.folder, "tiny")
    tiny_tmpfs(tiny, 4096)
    try:
        run = w.run("-v4", "-o", os.path.join(tiny, "log"), preload=False,
                    options=["--tasks", 3, "--pages", 1024])
        size = os.path.getsize(os.path.join(tiny, "log"))
        check(run, w, all_right=True)
        assert size == 4096, f"{size} bytes of log: the disk was not full"
    finally:
        subprocess.run(["umount", "-l", tiny], check=True)


@case
def dev_full(make):
    "the log is /dev/full, and so is the pidfile: the log does not matter, the pidfile does"
    w = make()
    check(w.run("-v4", "-o", "/dev/full", preload=False), w, all_right=True)
    run = w.run("--pidfile", "/dev/full", preload=False)
    check(run, w)
    assert run["status"] == 1 and not run["ready"], run


# --- address space

@case
def address_space(make):
    "RLIMIT_AS: from too little to load the program to enough"
    limits(make, "--address-space", [m * MIB for m in (8, 12, 13, 14, 15, 16, 18, 20, 24, 28, 32,
                                                       40, 48, 64, 96, 128, 256, 512, 1 << 10,
                                                       1 << 11, 1 << 12, 1 << 14, 1 << 16)])


@case
def data_limit(make):
    "RLIMIT_DATA, too"
    limits(make, "--data", [64 * 1024 * n for n in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 64,
                                                    128, 160, 256, 512, 1024)])


def limits(make, option, values):
    w = make(tasks=3, pages=1024)
    done = 0
    for value in values:
        run = w.run(preload=False, options=["--tasks", 3, "--pages", 1024, option, value])
        # What the dynamic linker says when it has no memory is not for us to judge.
        if run["status"] == 127 and not run["ready"]:
            continue
        check(run, w)
        done += run["status"] == 0
    assert 0 < done < len(values), f"{done} of {len(values)} went well: the limits are not at it"


# --- cgroups

def controller():
    """(where groups are made, the file of the limit, where a task is put)"""
    v1 = "/sys/fs/cgroup/memory"
    if os.path.exists(os.path.join(v1, "memory.limit_in_bytes")):
        return v1, "memory.limit_in_bytes", "memory.failcnt"
    for v2 in "/sys/fs/cgroup", "/sys/fs/cgroup/unified":
        try:
            with open(os.path.join(v2, "cgroup.controllers"), encoding="ascii") as f:
                if "memory" not in f.read().split():
                    continue
            with open(os.path.join(v2, "cgroup.subtree_control"), "w", encoding="ascii") as f:
                f.write("+memory")
            return v2, "memory.max", None
        except OSError:
            continue
    raise Skip("no memory controller of cgroups here")


@contextlib.contextmanager
def group(name, limit):
    root, limit_file, fail_file = controller()
    path = os.path.join(root, f"criu-lazy-torture-{os.getpid()}-{name}")
    try:
        os.mkdir(path)
    except OSError as e:
        raise Skip(f"{path}: {e.strerror}") from None
    try:
        try:
            with open(os.path.join(path, limit_file), "w", encoding="ascii") as f:
                f.write(str(limit))
        except OSError as e:
            raise Skip(f"{limit_file}: {e.strerror}") from None
        yield os.path.join(path, "cgroup.procs"), lambda: failures(path, fail_file)
    finally:
        os.rmdir(path)


def failures(path, fail_file):
    """How often the limit was met."""
    if fail_file:
        with open(os.path.join(path, fail_file), encoding="ascii") as f:
            return int(f.read())
    with open(os.path.join(path, "memory.events"), encoding="ascii") as f:
        return int(dict(line.split() for line in f)["max"])


@case
def cgroup_tasks(make):
    "the restored processes have less memory than their images: the kernel kills, or all is right"
    w = make(tasks=3, pages=2048)  # 24 MiB, and twice that with the children
    for limit in 4, 16, 200:
        with group("tasks", limit * MIB) as (procs, met):
            run = w.run(preload=False, options=["--tasks", 3, "--pages", 2048,
                                                "--task-cgroup", procs])
            # Who is killed for memory is not the helper's doing: its status may well be 0.
            fates = set(run["fates"])
            wrong = [] if run["status"] == 0 and fates <= {"right", "killed"} else verdict.judge(
                run, w.log)
            assert not wrong, f"{limit} MiB: {wrong} {run}\n{w.log[:2000]}"
            if limit == 200:
                assert fates == {"right"}, run
            else:
                assert met(), f"{limit} MiB: the limit was not met"


@case
def cgroup_helper(make):
    "the helper has little memory: it starts or says why not, and who it serves gets no zeros"
    w = make(tasks=3, pages=2048)
    for limit in 3, 4, 6, 64:
        with group("helper", limit * MIB) as (procs, _):
            run = w.run(preload=False, options=["--tasks", 3, "--pages", 2048,
                                                "--helper-cgroup", procs])
            if not run["ready"] and run["signal"] == 9:
                continue  # killed by the kernel before anybody depended on it
            wrong = verdict.judge(run, w.log, heals=True)
            assert not wrong, f"{limit} MiB: {wrong} {run}\n{w.log[:2000]}"


def run(args, tmp, results):
    def maker(name):
        def make(tasks=3, pages=24):
            folder = os.path.join(tmp, name)
            images = world.write_images(os.path.join(folder, "img"), tasks, pages)
            return world.World(folder, args.build, args.build, images)
        return make

    wanted = args.variants if args.low else []
    for f in CASES:
        if wanted and f.__name__ not in wanted:
            continue
        try:
            f(maker(f.__name__))
            print(f"PASS low {f.__name__}: {f.__doc__}", flush=True)
            results.passed += 1
        except Skip as e:
            print(f"SKIP low {f.__name__}: {e}", flush=True)
            results.skipped += 1
        except AssertionError as e:
            print(f"FAIL low {f.__name__}: {e}", flush=True)
            results.failed += 1
        except Exception:  # whatever a test runs into is its failure
            print(f"FAIL low {f.__name__}: {traceback.format_exc()}", flush=True)
            results.failed += 1
