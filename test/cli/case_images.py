# SPDX-License-Identifier: GPL-2.0-or-later
"""Images that are wrong: one line says which file and what, before anybody depends on the helper."""

import os
import shutil
import struct

import images
from harness import case
from images import BASE, LAZY, PAGE, PARENT, PRESENT, Process, vma


def damage(t, name, f):
    """f makes new bytes of the file's old ones."""
    path = t.path("img", name)
    with open(path, "rb") as file:
        data = f(file.read())
    images.put(t.img, name, data)


@case
def good_images(t):
    "the images that the other tests damage are good"
    t.images(Process(1000), Process(1001, ppid=1000), Process(1002, zombie=True, ppid=1000))
    t.helper().term().ends(0)


@case
def no_directory(t):
    "a directory that is not there, is empty, is a file"
    t.refuses_images(r"/img: No such file")
    os.mkdir(t.img)
    t.refuses_images(r"/img: .*inventory\.img: No such file")
    os.rmdir(t.img)
    images.put(t.folder, "img", b"x")
    t.refuses_images(r"/img: Not a directory")


@case
def missing_images(t):
    "each image file missing"
    for name, like in (("inventory.img", "No such file"), ("pstree.img", "No such file"),
                       ("mm-1000.img", "No such file"), ("pagemap-1000.img", "No such file"),
                       ("pages-1.img", r"No such file")):
        t.images()
        os.unlink(t.path("img", name))
        t.refuses_images(rf"{name}.*{like}")


@case
def no_memory_images(t):
    "neither mm nor pagemap: a zombie, perhaps; one that reports alive is refused"
    t.images()
    os.unlink(t.path("img", "mm-1000.img"))
    os.unlink(t.path("img", "pagemap-1000.img"))
    helper = t.helper()
    sock = t.connect()
    t.task(sock)
    helper.ends(1, "process 1000: it is alive, but the image has no memory")


@case
def odd_files(t):
    "an image that is a folder, a FIFO, a link to nothing, a device"
    for name in ("inventory.img", "pstree.img", "mm-1000.img", "pagemap-1000.img", "pages-1.img"):
        for make in (os.mkdir, os.mkfifo, lambda p: os.symlink("/nowhere", p),
                     lambda p: os.symlink("/dev/zero", p)):
            t.images()
            path = t.path("img", name)
            os.unlink(path)
            make(path)
            t.refuses_images(name)
            shutil.rmtree(t.img)


@case
def empty_files(t):
    "each image file empty"
    for name in ("inventory.img", "pstree.img", "mm-1000.img", "pagemap-1000.img", "pages-1.img"):
        t.images()
        damage(t, name, lambda data: b"")
        t.refuses_images(name)


@case
def garbage(t):
    "each image file full of something else"
    for name in ("inventory.img", "pstree.img", "mm-1000.img", "pagemap-1000.img"):
        for junk in (b"\xff" * 100, b"\0" * 100, b"\x7fELF" + b"x" * 4000):
            t.images()
            damage(t, name, lambda data, j=junk: j)
            t.refuses_images(name)
            t.images()
            damage(t, name, lambda data, j=junk: data[:8] + j)
            t.refuses_images(name)


@case
def wrong_kind(t):
    "an image of another kind under that name"
    t.images()
    shutil.copy(t.path("img", "pstree.img"), t.path("img", "pagemap-1000.img"))
    t.refuses_images(r"pagemap-1000\.img: not a pagemap image")


@case
def truncated(t):
    "each image file cut off at each byte: refused, or cut between two records"
    for name in ("inventory.img", "pstree.img", "mm-1000.img", "pagemap-1000.img"):
        t.images(Process(1000, runs=[(BASE, 8, 6), (BASE + 8 * PAGE, 8, 6)]))
        with open(t.path("img", name), "rb") as f:
            whole = f.read()
        ends, at = set(), 4 if name == "inventory.img" else 8
        while at < len(whole):
            at += 4 + struct.unpack_from("<I", whole, at)[0]
            ends.add(at)
        for size in range(len(whole)):
            images.put(t.img, name, whole[:size])
            if size in ends:
                t.helper().term().ends(0)
            else:
                t.refuses_images(name)


@case
def pages_too_short(t):
    "a pages file shorter than the pagemap needs, by a page or by a byte"
    for cut in (1, PAGE, 16 * PAGE - 1):
        t.images()
        os.truncate(t.path("img", "pages-1.img"), 16 * PAGE - cut)
        t.refuses_images(rf"pages-1\.img: {16 * PAGE - cut} bytes, pagemap-1000\.img needs 65536")


@case
def not_mapped(t):
    "a lazy page outside every mapping, at its end, and in one that is not restored lazily"
    outside = BASE + 64 * PAGE
    t.images(Process(1000, runs=[(BASE, 16, 6), (outside, 1, 6)]))
    t.refuses_images(rf"pagemap-1000\.img: lazy page 0x{outside:x} lies in no mapping")
    t.images(Process(1000, runs=[(BASE, 17, 6)]))
    t.refuses_images(rf"pagemap-1000\.img: lazy page 0x{BASE + 16 * PAGE:x} lies in no mapping")
    for flags, status in ((0x21, 0x201), (0x2022, 0x201), (0x40022, 0x201), (0x02, 0x201),
                          (0x22, 0x209)):
        t.images(Process(1000, vmas=[vma(BASE, BASE + 16 * PAGE, flags, status)]))
        t.refuses_images(rf"lazy page 0x{BASE:x} lies in a mapping that is not restored lazily")


@case
def no_content(t):
    "lazy pages without content: left with the dumper, or said to be in a parent that is not there"
    t.images(Process(1000, runs=[(BASE, 8, 6), (BASE + 8 * PAGE, 8, LAZY)]))
    t.refuses_images(rf"lazy page 0x{BASE + 8 * PAGE:x} has no content here.*--lazy-pages")
    t.images(Process(1000, runs=[(BASE, 16, LAZY | PARENT)]))
    t.refuses_images(rf"0x{BASE:x} is said to be in the parent")


@case
def parents(t):
    "a parent that leads nowhere, is a file, is empty, goes round, lacks the page"
    runs = [(BASE, 16, LAZY | PARENT)]
    link = t.path("img", "parent")
    t.images(Process(1000, runs=runs))
    os.symlink("../nowhere", link)
    t.refuses_images("parent leads nowhere")
    os.unlink(link)
    images.put(t.img, "parent", b"")
    t.refuses_images("parent")
    os.unlink(link)
    os.symlink("../below", link)
    os.mkdir(t.path("below"))
    t.refuses_images(rf"0x{BASE:x} is said to be in the parent")
    os.unlink(link)
    os.symlink(".", link)
    t.refuses_images("circle")
    os.unlink(link)
    os.symlink("../below", link)
    images.write(t.path("below"), Process(1000, runs=[(BASE, 15, 6)]))
    t.refuses_images(rf"0x{BASE + 15 * PAGE:x} is said to be in the parent")
    os.truncate(t.path("below", "pages-1.img"), 5)
    t.refuses_images(r"level 1 .*below.*pages-1\.img: 5 bytes")


@case
def good_parent(t):
    "pages from a parent, restored"
    t.images(Process(1000, runs=[(BASE, 4, LAZY | PRESENT), (BASE + 4 * PAGE, 12, LAZY | PARENT)]))
    os.symlink("../below", t.path("img", "parent"))
    images.write(t.path("below"), Process(1000))
    t.whole_restore(t.helper())


@case
def odd_runs(t):
    "runs that no dump writes: unaligned, empty, in each other, too large, with unknown flags"
    for runs, like in (
            ([(BASE + 1, 1, 6)], "not page aligned"),
            ([(BASE, 0, 6)], "0 pages"),
            ([(BASE, 8, 6), (BASE + 7 * PAGE, 2, 6)], "below the end"),
            ([(BASE + PAGE, 1, 6), (BASE, 1, 6)], "below the end"),
            ([(BASE, 1 << 52, 6)], "not in user memory"),
            ([(BASE, (1 << 64) - 1, 6)], "not in user memory"),
            ([(0xFFFF800000000000, 1, 6)], "not in user memory"),
            ([(BASE, 16, 0x106)], "unknown flag"),
            ([(BASE, 16, 0)], "flags 0"),
            ([(BASE, 16, 7)], "flags 0x7")):
        t.images()
        images.put(t.img, "pagemap-1000.img", images.pagemap(1, *runs))
        t.refuses_images(rf"pagemap-1000\.img: record \d+: .*{like}")


@case
def new_features(t):
    "a field of a newer version in a pagemap: refused by its number"
    t.images()
    entry = images.message((1, BASE), (2, 16), (4, 6), (5, 16), (17, 1))
    images.put(t.img, "pagemap-1000.img", images.image("pagemap", images.message((1, 1)), entry))
    t.refuses_images(r"pagemap-1000\.img: .*unknown field 17")
    t.images()
    images.put(t.img, "inventory.img", images.image("inventory", images.message((1, 3), (2, 1))))
    t.refuses_images(r"inventory\.img: .*image version 3")
    newer = images.message((1, 1), (2, 1), (99, 1))
    images.put(t.img, "inventory.img", images.image("inventory", newer))
    t.refuses_images(r"inventory\.img: field 99 is of a newer CRIU")
    t.images()
    images.put(t.img, "inventory.img", images.image("inventory", newer))
    t.whole_restore(t.helper("--trust-newer-images"))


@case
def odd_trees(t):
    "a process twice, pid 0, no process at all"
    t.images(Process(1000), Process(1000))
    t.refuses_images(r"pstree\.img.*1000")
    t.images(Process(0))
    t.refuses_images(r"pstree\.img.*0 is not a pid")
    images.put(t.img, "pstree.img", images.image("pstree"))
    t.refuses_images(r"pstree\.img.*no process")


@case
def odd_mappings(t):
    "mappings that are empty, unaligned, in each other, not in user memory, none"
    for vmas, like in (
            ([vma(BASE, BASE)], "empty"),
            ([vma(BASE + 1, BASE + PAGE)], "aligned"),
            ([vma(BASE, BASE + 16 * PAGE), vma(BASE + PAGE, BASE + 17 * PAGE)], "begins before"),
            ([vma(0xFFFF800000000000, 0xFFFF800000001000)], "not a user address"),
            ([], "no VMAs")):
        t.images(Process(1000, vmas=vmas))
        t.refuses_images(rf"mm-1000\.img: .*{like}")
