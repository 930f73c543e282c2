#!/usr/bin/env python3
"""Signals that reach a conversion at moments that the test chooses, and what
they leave: the exit status, the line that is printed, the folder, the
terminal. Prints TAP."""

import os
import pty
import signal
import subprocess
import sys
import termios

import bench

CONTINUE = "fp8cast: stopped; the same command continues\n"
BEGIN = "fp8cast: stopped; the same command begins anew\n"
ERASE = b"\r\x1b[K"
# Lock, journal and headers are five writes; the rows of the first panel, which
# must be retired before the run can stop, are twenty more.
WRITES = {"call": "write", "at": 6}
# While the first shard's measurements get their name: the lock and the journal
# had theirs before. By then progress has been told.
SHARD_DONE = {"call": "rename", "at": 3}


class Cases:
    def __init__(self, b, tap):
        self.bench, self.tap = b, tap
        with b.room() as room:
            assert b.run(room, b.quantize(room / "dst")).status == 0
            self.whole = bench.contents(room / "dst")

    def continues(self, room):
        """Problems with the folder as it is, and with going on from it."""
        dst = room / "dst"
        wrong = bench.wrongs(dst, self.whole)
        run = self.bench.run(room, self.bench.quantize(dst))
        if run.status or bench.contents(dst) != self.whole:
            wrong = wrong or f"afterwards: {run.status}: {run.err}"
        return [wrong] if wrong else []


def is_tidy(dst):
    """No lock is left. (What was begun is: removing it takes long.)"""
    return ["the lock is still there"] if (dst / bench.WORK / "lock").exists() \
        else []


def test_stops(c):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with c.bench.room() as room:
            dst = room / "dst"
            standing = bench.Standing(c.bench, room / "run",
                                      c.bench.quantize(dst), under=dst,
                                      **WRITES)
            standing.send(number)
            run = standing.go()
            problems = is_tidy(dst)
            if (run.status, run.err) != (1, CONTINUE):
                problems.append(f"{run.status}: {run.err!r}")
            if (dst / bench.CONFIG).exists():
                problems.append("it went on to the end")
            problems += c.continues(room)
        c.tap.case(f"{number.name}: one line, and it continues",
                   problems)


def test_others_stop(c):
    """verify, half-way through its reads, and synth, which takes away what it
    has written."""
    with c.bench.room() as room:
        whole = room / "whole"
        c.bench.run(room, c.bench.quantize(whole))
        verify = ["verify", c.bench.src, whole, "--rules", c.bench.rules,
                  "--threads", "1", "--memory", c.bench.memory, "--quiet"]
        reads = c.bench.run(room, verify, call="read", at=0,
                            under=room).counted()
        synth = ["synth", room / "new", "--layers", "4", "--experts", "1",
                 "--hidden", "64", "--inter", "64", "--vocab", "300",
                 "--quiet"]
        for arguments, call, at in ((verify, "read", reads // 2),
                                    (synth, "write", 3)):
            standing = bench.Standing(c.bench, room / arguments[0], arguments,
                                      call=call, at=at, under=room)
            standing.send(signal.SIGINT)
            run = standing.go()
            problems = []
            if (run.status, run.err) != (1, BEGIN):
                problems.append(f"{run.status}: {run.err!r}")
            if (room / "new").exists():
                problems.append("files were left")
            c.tap.case(f"SIGINT stops {arguments[0]}", problems)


def test_second_kills(c):
    for first, second, status in (
            (signal.SIGINT, signal.SIGINT, -2),
            (signal.SIGTERM, signal.SIGINT, -2),
            (signal.SIGINT, signal.SIGTERM, -15),
            (signal.SIGHUP, signal.SIGTERM, -15),
            (signal.SIGHUP, signal.SIGHUP, 1)):
        with c.bench.room() as room:
            dst = room / "dst"
            standing = bench.Standing(c.bench, room / "run",
                                      c.bench.quantize(dst), under=dst,
                                      times=0, **WRITES)
            standing.send(first)
            standing.step()
            problems = [] if standing.stands else ["no second write came"]
            if standing.stands:
                standing.send(second)
            run = standing.go()
            if run.status != status or \
                    run.err != (CONTINUE if status == 1 else ""):
                problems.append(f"{run.status}: {run.err!r}")
            problems += c.continues(room)
        what = "kills" if status < 0 else "does not kill"
        c.tap.case(f"{first.name}, then {second.name}: {what}", problems)


def test_ignored(c):
    """nohup, and a shell's background, ignore them for us: so do we."""
    for number in (signal.SIGHUP, signal.SIGINT):
        with c.bench.room() as room:
            dst = room / "dst"
            standing = bench.Standing(
                c.bench, room / "run", c.bench.quantize(dst), under=dst,
                popen={"preexec_fn": lambda number=number: signal.signal(
                    number, signal.SIG_IGN)}, **WRITES)
            standing.send(number)
            run = standing.go()
            problems = []
            if run.status or bench.contents(dst) != c.whole:
                problems.append(f"{run.status}: {run.err!r}")
        c.tap.case(f"{number.name} ignored by the caller", problems)


# ---- pipes -------------------------------------------------------------------

def broken_pipe():
    read_end, write_end = os.pipe()
    os.close(read_end)
    return write_end


def test_pipes(c):
    loud = [word for word in c.bench.quantize("DST") if word != "--quiet"]
    for name, status in (("stdout", 1), ("stderr", 0)):
        with c.bench.room() as room:
            dst = room / "dst"
            end = broken_pipe()
            done = subprocess.run(
                [c.bench.program, *(dst if w == "DST" else w for w in loud)],
                **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
                   name: end}, text=True, check=False,
                timeout=bench.SECONDS)
            os.close(end)
            problems = []
            told = done.stderr and done.stderr.splitlines()[-1]
            if name == "stdout" and told != \
                    "fp8cast: cannot write the result: Broken pipe":
                problems.append(repr(told))
            if done.returncode != status:
                problems.append(f"status {done.returncode}")
            if bench.contents(dst) != c.whole:
                problems.append("the result is not whole")
        c.tap.case(f"{name} is a broken pipe: the result is whole", problems)


# ---- a terminal --------------------------------------------------------------

def on_terminal(c, room, signals):
    """A loud run that stands still when a shard is finished and then gets
    these signals, one at each stand; what the terminal got, and what is wrong
    with the state it was left in."""
    dst = room / "dst"
    main_end, end = pty.openpty()
    before = termios.tcgetattr(end)
    arguments = [word for word in c.bench.quantize(dst) if word != "--quiet"]
    standing = bench.Standing(
        c.bench, room / "run", arguments, under=dst,
        times=0 if len(signals) > 1 else 1, popen={"stderr": end}, **SHARD_DONE)
    problems = [] if standing.stands else ["it did not come that far"]
    for i, number in enumerate(signals):
        standing.send(number)
        if i + 1 < len(signals):
            standing.step()
            problems += [] if standing.stands else ["no second stand"]
    run = standing.go()
    if termios.tcgetattr(end) != before:
        problems.append("the terminal's attributes were changed")
    os.close(end)
    text = b""
    try:
        while piece := os.read(main_end, 65536):
            text += piece
    except OSError:  # how a terminal says that its other end is closed
        pass
    os.close(main_end)
    return run, text, problems


def test_terminal(c):
    cases = (
        ("a run to its end", [], 0, b""),
        ("SIGINT", [signal.SIGINT], 1, CONTINUE.encode()),
        ("SIGTERM", [signal.SIGTERM], 1, CONTINUE.encode()),
        ("SIGINT twice", [signal.SIGINT] * 2, -2, b""),
    )
    for name, signals, status, line in cases:
        with c.bench.room() as room:
            run, text, problems = on_terminal(c, room, signals)
            if run.status != status:
                problems.append(f"status {run.status}")
            if b"quantize: " not in text:
                problems.append("no progress was shown")
            # Nothing but what erases the line, and then the message.
            head, _, rest = text.rpartition(ERASE)
            if not head or rest.replace(b"\r\n", b"\n") != line:
                problems.append(repr(text[-200:]))
            # No other control sequence: no hidden cursor, no colour.
            if text.count(b"\x1b") != text.count(b"\x1b[K"):
                problems.append(f"other control sequences: {text!r}")
            problems += c.continues(room)
        c.tap.case(f"a terminal after {name}: the line is gone", problems)


def main():
    tap = bench.Tap()
    with bench.Bench() as b:
        c = Cases(b, tap)
        test_stops(c)
        test_others_stop(c)
        test_second_kills(c)
        test_ignored(c)
        test_pipes(c)
        test_terminal(c)
    return tap.finish()


if __name__ == "__main__":
    sys.exit(main())
