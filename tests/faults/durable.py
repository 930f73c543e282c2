#!/usr/bin/env python3
"""What is promised of a run that is not disturbed, or whose files are: the
order of syncs and renames, read off a trace; a source that changes while it
is read; a bit that flips in a finished result. Prints TAP."""

import fcntl
import json
import os
import shutil
import signal
import struct
import sys

import bench


# ---- order -------------------------------------------------------------------

class Events:
    """A trace as a list of (what, path, to); only what succeeded."""

    def __init__(self, trace):
        self.list = []
        for line in trace:
            words = line.split()
            if words[-2:-1] != ["="] or int(words[-1]) < 0:
                continue
            to = words[3] if words[2:3] == ["->"] else None
            self.list.append((words[0], words[1], to))

    def at(self, what, path=None):
        """Places of such events."""
        return [i for i, event in enumerate(self.list)
                if event[0] == what and path in (None, event[1])]

    def first_after(self, place, what, path):
        return next((i for i in self.at(what, path) if i > place), None)


def order_problems(events, dst):
    """Each file is synced after its last byte and before it gets its name;
    the folder is synced before anything is begun that relies on the name."""
    problems = []
    names = []  # (place of the rename, place of the folder's sync, name)
    for i in events.at("rename"):
        _, path, to = events.list[i]
        changes = [j for what in ("create", "write", "fallocate", "truncate")
                   for j in events.at(what, path) if j < i]
        syncs = [j for j in events.at("fsync", path) if j < i]
        if not syncs or max(syncs) < max(changes):
            problems.append(f"{to}: not synced when it gets its name")
        durable = events.first_after(i, "fsync", os.path.dirname(to))
        if durable is None:
            problems.append(f"{to}: its folder is not synced")
        names.append((i, durable or len(events.list), os.path.relpath(to, dst)))
    for i in events.at("mkdir"):
        parent = os.path.dirname(events.list[i][1])
        if events.first_after(i, "fsync", parent) is None:
            problems.append(f"{events.list[i][1]}: {parent} is not synced")
    return problems + relied_on(names)


def relied_on(names):
    """The journal is durable before all but the lock, a shard's measurements
    before its name; all before the index, and the index before the config."""
    problems = []
    place = {name: (begun, durable) for begun, durable, name in names}
    finals = [name for name in place if not name.startswith(bench.WORK)]

    def before(first, then):
        if first in place and then in place and \
                place[first][1] > place[then][0]:
            problems.append(f"{first} is not durable before {then}")

    for name in finals:
        before(f"{bench.WORK}/journal.json", name)
        if name.endswith(".safetensors"):
            number = name.split("-")[1]
            if f"{bench.WORK}/shard-{number}.json" not in place:
                problems.append(f"{name}: no measurements were written")
            before(f"{bench.WORK}/shard-{number}.json", name)
        if name not in (bench.INDEX, bench.CONFIG):
            before(name, bench.INDEX)
        if name != bench.CONFIG:
            before(name, bench.CONFIG)
    return problems


def removal_problems(events, dst):
    """Of an old conversion config and index go first, durably; the new journal
    comes when all of it is gone, durably."""
    problems = []
    gone = {events.list[i][1]: i for i in events.at("unlink")
            if not os.path.basename(events.list[i][1]).startswith("lock")}
    config, index = (str(dst / name) for name in (bench.CONFIG, bench.INDEX))
    marked = events.first_after(max(gone[config], gone[index]), "fsync",
                                str(dst))
    others = [i for path, i in gone.items() if path not in (config, index)]
    if not others:
        problems.append("nothing but config and index was removed")
    if any(i < marked for i in others):
        problems.append("files go before it is durable that config is gone")
    journal = next(i for i in events.at("rename")
                   if events.list[i][2].endswith("journal.json"))
    for path, i in gone.items():
        folder = os.path.dirname(path)
        synced = events.first_after(i, "fsync", folder)
        removed = events.first_after(i, "rmdir", folder)
        if not (synced and synced < journal) and \
                not (removed and removed < journal):
            problems.append(f"{path}: not durably gone before the journal")
    return problems


def test_order(b, tap):
    with b.room() as room:
        dst = room / "dst"
        run = b.run(room, b.quantize(dst))
        events = Events(run.trace)
        tap.case("order: a run",
                 order_problems(events, dst) if run.status == 0 else [run.err])
        names = [os.path.relpath(event[2], dst) for event in events.list
                 if event[0] == "rename"]
        whole = bench.contents(dst)
        tap.case("order: index and config.json come last",
                 [] if names[-2:] == [bench.INDEX, bench.CONFIG] and
                 set(whole) <= set(names) else [str(names)])
        run = b.run(room, b.quantize(dst, "--overwrite", "--scale-dtype",
                                     "f32"))
        events = Events(run.trace)
        tap.case("order: --overwrite",
                 order_problems(events, dst) + removal_problems(events, dst)
                 if run.status == 0 else [run.err])


def test_resume_redoes_nothing(b, tap):
    """However far it came: what has its name is not written again, and no more
    than what was begun is written twice."""
    problems, resumed = [], 0
    for at in range(3, 14):
        with b.room() as room:
            dst = room / "dst"
            first = b.run(room, b.quantize(dst), call="rename", at=at,
                          do="before")
            finished = {name for name in bench.contents(dst)
                        if name.endswith(".safetensors")}
            begun = set(first.created(".safetensors"))
            second = b.run(room, b.quantize(dst))
            written = set(second.created(".safetensors"))
            resumed += len(finished)
            if second.status or finished & written:
                problems.append(f"{at}: {finished & written} {second.err}")
            if begun & written != begun - finished:
                problems.append(f"{at}: begun {begun}, finished {finished}, "
                                f"but written again {written}")
    if not resumed:
        problems.append("no run had a finished shard")
    tap.case("a run that goes on writes no finished shard again", problems)


# ---- a source that changes ---------------------------------------------------

def test_changes(b, tap, command):
    """command: quantize or verify."""
    keep = shutil.copytree(b.src, b.dir / "kept", copy_function=shutil.copy2)
    with b.room() as room:
        whole = room / "whole"
        assert b.run(room, b.quantize(whole)).status == 0
        for do in ("shrink", "touch"):
            problems, noticed = [], 0
            # A matrix that is read row by row is the same call many times.
            for at in [*range(1, 30), *range(30, 10**6, 19)]:
                shutil.rmtree(b.src)
                shutil.copytree(keep, b.src, copy_function=shutil.copy2)
                with b.room() as inner:
                    dst = inner / "dst"
                    arguments = b.quantize(dst)
                    if command == "verify":
                        dst = shutil.copytree(whole, dst,
                                              copy_function=shutil.copy2)
                        arguments = ["verify", b.src, dst, "--rules", b.rules,
                                     "--threads", "1"]
                    run = b.run(inner, arguments, call="read", at=at, do=do,
                                under=f"{b.src}:{dst}" if command == "verify"
                                else b.src)
                    if run.fired is None:
                        break
                    wrong = change_unnoticed(run, dst, command)
                noticed += run.status == 1
                problems += [f"{at}: {wrong}"] if wrong else []
            if not noticed:
                problems.append("nothing was noticed")
            tap.case(f"{command}: a file that is read: {do} (up to call {at})",
                     problems)
    shutil.rmtree(b.src)
    keep.rename(b.src)


def change_unnoticed(run, dst, command):
    is_shard = run.fired.endswith(".safetensors")
    if run.status not in (0, 1, 3):
        return f"status {run.status}: {run.err}"
    # The time of a small file does not matter: it is read at once.
    if run.status == 0 and is_shard:
        return f"{run.fired}: not noticed"
    if run.status == 1 and (run.err.count("\n") != 1 or
                            os.path.basename(run.fired) not in run.err):
        return f"{run.fired}: {run.err!r}"
    if command == "quantize" and run.status and (dst / bench.CONFIG).exists():
        return f"{run.fired}: a config.json all the same"
    return ""


def test_lease(b, tap):
    """A file server has a lease on a shard, as Samba takes them: opening it
    waits until that is given back."""
    path = b.src / "model-00001-of-00002.safetensors"
    breaks = []
    lease = os.open(path, os.O_RDWR)

    def give_back(*_):
        breaks.append(1)
        fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    before = signal.signal(signal.SIGIO, give_back)
    try:
        fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as error:
        tap.case(f"a lease on a shard # SKIP {error}", [])
    else:
        with b.room() as room:
            run = b.run(room, b.quantize(room / "dst"))
        tap.case("a lease on a shard is waited for",
                 [] if run.status == 0 and breaks else
                 [f"{len(breaks)} breaks, {run.status}: {run.err}"])
    finally:
        signal.signal(signal.SIGIO, before)
        os.close(lease)


# ---- a result that rots ------------------------------------------------------

def tensors_of(path):
    data = path.read_bytes()
    size = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + size])
    for name, entry in header.items():
        if name != "__metadata__":
            yield name, entry, 8 + size + entry["data_offsets"][0]


def flipped(path, at, bit):
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def test_flips(b, tap):
    with b.room() as room:
        dst = room / "dst"
        assert b.run(room, b.quantize(dst)).status == 0
        for path in sorted(dst.glob("*.safetensors")):
            problems, count = [], 0
            for name, entry, begin in list(tensors_of(path)):
                sizes = {"F8_E4M3": 1, "BF16": 2, "F32": 4}
                step = sizes[entry["dtype"]]
                total = entry["data_offsets"][1] - entry["data_offsets"][0]
                for element in {0, total // step // 2, total // step - 1}:
                    # The highest bit below the sign, which nothing rounds to.
                    at = begin + element * step + step - 1
                    flipped(path, at, 6)
                    run = b.run(room, ["verify", b.src, dst, "--rules",
                                       b.rules, "--json"])
                    flipped(path, at, 6)
                    wrong = flip_missed(run, name, entry, element, step)
                    problems += [wrong] if wrong else []
                    count += 1
            tap.case(f"flipped bits in {path.name} ({count} runs)", problems)
        run = b.run(room, ["verify", b.src, dst, "--rules", b.rules])
        tap.case("flipped back", [run.out] if run.status else [])


def flip_missed(run, name, entry, element, step):
    if run.status != 3:
        return f"{name}, element {element}: status {run.status}: {run.err}"
    faults = json.loads(run.out)["fault_list"]
    if entry["dtype"] == "F8_E4M3":
        columns = entry["shape"][1]
        where = f"block [{element // columns // 128}, {element % columns // 128}]"
    elif name.endswith("_scale_inv"):
        columns = entry["shape"][1]
        where = f"block [{element // columns}, {element % columns}]"
    else:
        where = f"byte {element * step + step - 1} of"
    words = name.removesuffix("_scale_inv")
    if any(f"tensor {words}" in line and where in line for line in faults):
        return ""
    return f"{name}, element {element}: expected {where}, found {faults}"


def main():
    tap = bench.Tap()
    with bench.Bench() as b:
        test_order(b, tap)
        test_resume_redoes_nothing(b, tap)
        test_changes(b, tap, "quantize")
        test_changes(b, tap, "verify")
        test_lease(b, tap)
        test_flips(b, tap)
    return tap.finish()


if __name__ == "__main__":
    sys.exit(main())
