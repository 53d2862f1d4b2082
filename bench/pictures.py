# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures of a benchmark's data, drawn by gnuplot as PNG and SVG.

In OUT/data are, for each case and helper, the latency of every first touch (64-bit ns, native order,
latency-CASE-HELPER.bin) and the pages present over time ("ms pages" lines, pages-CASE-HELPER.txt).
What gnuplot reads is written beside them, so that a picture can be drawn again by hand.
"""

import array
import os
import shutil
import subprocess

STYLE = {"criu": ("CRIU's helper", "#c04020"), "ours": ("criu-lazy", "#2060c0")}
HEAD = """set grid lc rgb '#dddddd'
set key bottom right
set border 3
set tics nomirror
"""


def tail_points(latencies, points=600):
    """(us, share of touches that took longer), evenly spread over the logarithm of the share."""
    n = len(latencies)
    last, out = -1, []
    for i in range(points + 1):
        at = min(n - 1, n - int(n ** (1 - i / points)))
        if at != last:
            out.append((latencies[at] / 1000, (n - at) / n))
            last = at
    return out


def share_points(latencies, points=1000):
    """(us, share of touches that took at most that)."""
    n = len(latencies)
    steps = sorted({min(n - 1, i * n // points) for i in range(points)} | {n - 1})
    return [(latencies[i] / 1000, (i + 1) / n) for i in steps]


def write_points(path, points):
    with open(path, "w") as f:
        f.writelines(f"{x:.4f} {y:.8f}\n" for x, y in points)


def load(path):
    a = array.array("Q")
    with open(path, "rb") as f:
        a.frombytes(f.read())
    return sorted(a)


def plot(out, name, commands):
    """Draws OUT/NAME.png and OUT/NAME.svg; returns their names."""
    with open(f"{out}/data/{name}.gp", "w") as f:
        f.write(commands)
    for suffix, terminal in (("png", "png size 900,560"), ("svg", "svg size 900,560 dynamic")):
        script = f"set terminal {terminal}\nset output '{out}/{name}.{suffix}'\n" + commands
        subprocess.run(["gnuplot"], input=script, text=True, check=True)
    return [f"{name}.png", f"{name}.svg"]


def curves(files, using, with_):
    return "plot " + ", \\\n  ".join(
        f"'{path}' using {using} with {with_} lw 2 lc rgb '{STYLE[h][1]}' title \"{STYLE[h][0]}\""
        for h, path in files) + "\n"


def latency_pictures(out, case, words, helpers):
    shares, tails, names = [], [], []
    for helper in helpers:
        path = f"{out}/data/latency-{case}-{helper}.bin"
        if not os.path.exists(path):
            continue
        latencies = load(path)
        shares.append((helper, path.replace(".bin", "-share.txt")))
        tails.append((helper, path.replace(".bin", "-tail.txt")))
        write_points(shares[-1][1], share_points(latencies))
        write_points(tails[-1][1], tail_points(latencies))
    if not shares:
        return []
    head = HEAD + "set logscale x\nset xlabel 'latency of a first touch (us)'\n"
    names += plot(out, f"latency-{case}", head + f"set title 'First touches of pages: {words}'\n"
                  "set ylabel 'share of touches that took at most that'\nset yrange [0:1]\n"
                  + curves(shares, "1:2", "lines"))
    names += plot(out, f"latency-tail-{case}", head + "set key top right\nset logscale y\n"
                  f"set title 'First touches of pages, the slow ones: {words}'\n"
                  "set ylabel 'share of touches that took longer'\nset format y '10^{%L}'\n"
                  + curves(tails, "1:2", "lines"))
    return names


def time_of_last_page(path):
    """When the curve became flat (ms)."""
    with open(path) as f:
        points = [tuple(map(float, line.split())) for line in f]
    full = max(y for _, y in points) * 0.999
    return max(1.0, next(x for x, y in points if y >= full))


def pages_picture(out, case, words, helpers):
    files = [(h, f"{out}/data/pages-{case}-{h}.txt") for h in helpers]
    files = [(h, p) for h, p in files if os.path.exists(p) and os.path.getsize(p)]
    if not files:
        return []
    ends = [time_of_last_page(p) for _, p in files]
    long = max(ends) > 20 * min(ends)
    return plot(out, f"pages-{case}", HEAD + ("set logscale x\n" if long else "")
                + f"set title 'Memory that has come back: {words}'\n"
                "set xlabel 'ms since the first instruction'\nset ylabel 'MiB present'\n"
                f"set yrange [0:*]\nset xrange [{1 if long else 0}:{max(ends) * 1.1}]\n"
                + curves(files, "($1 > 0 ? $1 : 1/0):($2/256.)", "lines"))


def draw(out, cases, helpers):
    """cases: name -> words.  Returns the names of the files, or [] when there is no gnuplot."""
    if not shutil.which("gnuplot"):
        return []
    names = []
    for case, words in cases.items():
        names += latency_pictures(out, case, words, helpers)
        names += pages_picture(out, case, words, helpers)
    return names
