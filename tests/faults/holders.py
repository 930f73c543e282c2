#!/usr/bin/env python3
"""Two runs on one folder: the second is refused and told who is there; what a
dead run left does not block; with the kernel's lock and without. Prints TAP.

    holders.py [--full]

A run is made to stand still, at a call that the test chooses."""

import errno
import os
import pathlib
import re
import shutil
import socket
import sys

import bench

# How a file system says that it has no locks; 0: it has.
REFUSALS = {"flock": 0, "no flock (ENOLCK)": errno.ENOLCK,
            "no flock (ENOSYS)": errno.ENOSYS,
            "no flock (EOPNOTSUPP)": errno.EOPNOTSUPP}
LOCK = f"{bench.WORK}/lock"


def fault_of(number, dst):
    return {"under": dst, "noflock": number}


def plain(b, room, dst, number, *more):
    return b.run(room, b.quantize(dst, *more), **fault_of(number, dst))


# ---- a holder that lives -----------------------------------------------------

def test_second(b, tap, whole, name, number):
    problems = []
    with b.room() as room:
        dst = room / "dst"
        first = bench.Standing(b, room / "first", b.quantize(dst), call="write",
                         at=8, **fault_of(number, dst))
        expected = (f"fp8cast: {dst}: another fp8cast is writing here: process "
                    f"{first.pid} on {socket.gethostname()}")
        for more in ([], ["--overwrite"],
                     ["--overwrite", "--scale-dtype", "f32"]):
            second = plain(b, room, dst, number, *more)
            if second.status != 1 or second.err != expected + "\n":
                problems.append(f"second: {second.status}: {second.err}")
            changed = [line for line in second.trace
                       if "model-" in line and not line.startswith("open")]
            problems += changed
        if not number:
            # One that the first renames between the second's list and its
            # look. (Only calls on what is watched know no locks.)
            part, = (dst / bench.WORK).glob("model-*.part")
            second = b.run(room, b.quantize(dst), under=part, call="stat",
                           at=1, do=errno.ENOENT)
            if second.fired is None or second.err != expected + "\n":
                problems.append(f"renamed: {second.fired} {second.err}")
        run = first.go()
        if run.status or bench.contents(dst) != whole:
            problems.append(f"first: {run.status}: {run.err}")
        if (dst / LOCK).exists():
            problems.append("the lock is still there")
    tap.case(f"{name}: a second run is refused, the first not disturbed",
             problems)


def test_killed(b, tap, whole, name, number, later):
    """A killed run does not block the next, whatever its file system says."""
    problems = []
    with b.room() as room:
        dst = room / "dst"
        first = bench.Standing(b, room / "first", b.quantize(dst), call="write",
                         at=8, **fault_of(number, dst))
        first.kill()
        if not (dst / LOCK).exists():
            problems.append("no lock was left")
        run = plain(b, room, dst, later)
        if run.status or bench.contents(dst) != whole:
            problems.append(f"{run.status}: {run.err}")
        if bench.work_names(dst) != WORK_NAMES or (dst / LOCK).exists():
            problems.append(str(os.listdir(dst / bench.WORK)))
    tap.case(name, problems)


# ---- locks of others ---------------------------------------------------------

def parts_of(text):
    words = text.split()
    return dict(zip(words[::2], words[1::2]))


def text_of(parts):
    return " ".join(f"{key} {value}" for key, value in parts.items()) + "\n"


def test_forged(b, tap, whole):
    """Locks as other processes, boots and machines would have left them."""
    with b.room() as room:
        first = bench.Standing(b, room / "first", b.quantize(room / "dst"),
                         call="write", at=8,
                         **fault_of(errno.ENOLCK, room / "dst"))
        own = parts_of((room / "dst" / LOCK).read_text())
        first.kill()
    here = os.getpid()
    stat = pathlib.Path(f"/proc/{here}/stat").read_text()
    start = stat.rpartition(")")[2].split()[19]
    alive = dict(own, pid=here, start=start)
    other = dict(alive, boot="0f0e0d0c-0000-4000-8000-000000000000")
    cases = [
        ("its process is there", alive, "held"),
        ("its number was given to another process",
         dict(alive, start=int(start) + 1), "free"),
        ("the machine was started anew", other, "free"),
        ("of another machine", dict(other, machine="-"), "far"),
        ("of another container", dict(alive, space="pid:[1]"), "far"),
        ("made with the kernel's lock, its process is there",
         dict(alive, by="flock"), "held"),
        ("no lock of ours", {"nonsense": "1"}, "odd"),
    ]
    for name, parts, wanted in cases:
        problems = forged(b, whole, parts, wanted, errno.ENOLCK)
        tap.case(f"without flock, a lock that is there: {name}", problems)
    # With the kernel's lock only one who could not take that matters.
    for name, parts, wanted in cases:
        if wanted == "odd" or parts.get("by") == "flock":
            wanted = "free"
        problems = forged(b, whole, parts, wanted, 0)
        tap.case(f"with flock, a lock that is there: {name}", problems)


def forged(b, whole, parts, wanted, number):
    problems = []
    with b.room() as room:
        dst = room / "dst"
        (dst / bench.WORK).mkdir(parents=True)
        (dst / LOCK).write_text(text_of(parts))
        run = plain(b, room, dst, number)
        if wanted == "free":
            if run.status or bench.contents(dst) != whole:
                problems.append(f"{run.status}: {run.err}")
            return problems
        taken = (f"^fp8cast: {dst}: another fp8cast is writing here: process "
                 f"{parts.get('pid')} on [^ ;]+")
        pattern = {
            "held": taken + "\n$",
            "far": taken + f"; if it no longer runs, remove {dst}/{LOCK}\n$",
            "odd": f"^fp8cast: {dst}/{LOCK}: expected a process's name, found "
                   "something else; remove it if no fp8cast is writing here\n$",
        }[wanted]
        if run.status != 1 or not re.match(pattern, run.err):
            problems.append(f"{run.status}: {run.err}")
        if (dst / LOCK).read_text() != text_of(parts):
            problems.append("the other's lock was changed")
        (dst / LOCK).unlink()
        run = plain(b, room, dst, number)
        if run.status or bench.contents(dst) != whole:
            problems.append(f"without it: {run.status}: {run.err}")
    return problems


# ---- at the same moment ------------------------------------------------------

def test_races(b, tap, whole, name, number, steps):
    """Both find the lock of a dead run. The first stands still at each of its
    first steps, then the second at each of its own; the first goes on to its
    end, then the second. Never do both write."""
    problems, both = [], 0
    with b.room() as room:
        stale = bench.Standing(b, room / "stale", b.quantize(room / "dst"),
                         call="write", at=3, **fault_of(number, room / "dst"))
        stale.kill()
        for n in steps:
            for m in steps:
                with b.room() as inner:
                    dst = shutil.copytree(room / "dst", inner / "dst")
                    first = bench.Standing(b, inner / "a", b.quantize(dst),
                                     call="change", at=n,
                                     **fault_of(number, dst))
                    second = bench.Standing(b, inner / "b", b.quantize(dst),
                                      call="change", at=m,
                                      **fault_of(number, dst))
                    both += first.stands and second.stands
                    problems += [f"{n}, {m}: {wrong}" for wrong in
                                 race(first, second, dst, whole)]
    if not both:
        problems.append("never did both stand still")
    tap.case(f"{name}: two that take over a dead run's lock ({both} pairs)",
             problems)


def holds_lock(lines):
    return any(re.search(rf"-> \S*/{LOCK} = 0$", line) for line in lines)


def race(first, second, dst, whole):
    wrong = []
    had = holds_lock(second.lines())
    one = first.go()
    if had and second.stands and one.created(".safetensors"):
        wrong.append("both had the lock")
    two = second.go()
    for run in (one, two):
        if run.status not in (0, 1) or (run.status and
                                        run.err.count("\n") != 1):
            wrong.append(f"status {run.status}: {run.err}")
    if one.status and two.status:
        wrong.append(f"neither did it: {one.err} {two.err}")
    elif bench.contents(dst) != whole:
        wrong.append("other bytes than an undisturbed run")
    return wrong


WORK_NAMES = []


def main():
    tap = bench.Tap()
    with bench.Bench() as b:
        with b.room() as room:
            assert b.run(room, b.quantize(room / "dst")).status == 0
            whole = bench.contents(room / "dst")
            WORK_NAMES.extend(bench.work_names(room / "dst"))
        for name, number in REFUSALS.items():
            test_second(b, tap, whole, name, number)
        for name, number in REFUSALS.items():
            test_killed(b, tap, whole, f"{name}: a killed run does not block",
                        number, number)
        test_killed(b, tap, whole, "killed with flock, continued without", 0,
                    errno.ENOLCK)
        test_killed(b, tap, whole, "killed without flock, continued with it",
                    errno.ENOLCK, 0)
        test_forged(b, tap, whole)
        steps = range(1, 15, 1 if "--full" in sys.argv else 3)
        test_races(b, tap, whole, "flock", 0, steps)
        test_races(b, tap, whole, "no flock", errno.ENOLCK, steps)
    return tap.finish()


if __name__ == "__main__":
    sys.exit(main())
