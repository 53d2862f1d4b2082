# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run may look like.  The one place that says which ends are accepted, and why.

  status 0       only if every participant is "right"; or the restorer could not finish (its connection
                 was closed, so it says so itself), nobody was let go, and the helper, still
                 listening, ended on SIGTERM (or by it).
  status 1       with at least one line "Error: ..." in the log (unless writing the log is what
                 failed), and not more than a hundred lines.  Participants may be
                   right    nothing of theirs was lost
                   killed   a page of theirs could not be had, or the restore failed
                   bus      the same, where nobody can be named (a forked child), or poisoned
                   unborn   the restorer never let them go: the helper was not ready, or the last
                            word of the protocol could not be sent
  never          "wrong", "zero": a wrong page
                 "stuck": nobody answers, and nobody said so by killing
                 "died": in another way
                 a helper (or anything it left behind) that lives on after the time
                 an end by a signal; a worker that ended by one, even if the guardian healed it
                 a report of a sanitizer
                 more processor time than CPU_LIMIT: a busy loop
"""

import re

CPU_LIMIT_MS = 2000
LOG_LIMIT = 100
WORKER_DIED = re.compile(r"worker was killed by signal (?!9\b)")
SANITIZER = re.compile(r"Sanitizer|runtime error:|Assertion .* failed")


def judge(run, log, log_failed=False, cpu_limit=CPU_LIMIT_MS, heals=False):
    """A list of what is wrong with a run: [] if it is fine.

    log_failed: the log could not be written.  heals: workers are killed on purpose.
    """
    wrong = []
    fates = [f.split(":")[0] for f in run["fates"]]
    lines = log.splitlines()
    for bad in "wrong", "zero", "stuck", "died":
        if bad in fates:
            wrong.append(f"{fates.count(bad)} {bad}")
    if run["hung"]:
        wrong.append("the helper, or what it left behind, does not end")
    elif run["told"] and run["signal"] == 15 and all(f == "unborn" for f in fates):
        pass
    elif run["signal"]:
        wrong.append(f"the helper ended by signal {run['signal']}")
    elif run["others"] & 0x7F:
        wrong.append(f"a process of the helper ended by signal {run['others'] & 0x7F}")
    elif run["status"] not in (0, 1) or run["others"] >> 8 not in (0, 1):
        wrong.append(f"exit status {run['status']}, {run['others'] >> 8}")
    elif run["status"] == 0 and run["others"] == 0:
        if run["told"] and all(f == "unborn" for f in fates):
            return wrong
        if not run["finished"]:
            wrong.append("status 0, but the restore was not finished")
        if any(f != "right" for f in fates):
            wrong.append("status 0, but not every participant is right")
    elif not log_failed and not any("Error: " in line for line in lines):
        wrong.append("no error line")
    if not run["hung"] and run["status"] == 0 and run["others"] and not run["ready"]:
        wrong.append("the command's status is 0, but the start has failed")
    if len(lines) > LOG_LIMIT:
        wrong.append(f"{len(lines)} lines of log")
    if SANITIZER.search(log):
        wrong.append("a sanitizer's report")
    if not heals and WORKER_DIED.search(log):
        wrong.append("the worker died")
    if run["cpu_ms"] > cpu_limit:
        wrong.append(f"{run['cpu_ms']} ms of processor time")
    return wrong
