#!/usr/bin/env python3
"""Stops or disturbs a conversion at every call in turn and looks at what it
leaves; prints TAP.

    sweep.py [--full] [--jobs N] [--only SCENARIO] [PART...]

PART is crash, errors, memory or reading; all by default. Without --full a
sample of the calls is taken where there are many.
"""

import argparse
import concurrent.futures
import errno
import json
import os
import shutil
import sys

import bench

# Of calls without end, this many are taken: the first and the last ones, and
# others evenly between.
SAMPLE = 8


# ---- folders that a run may find ---------------------------------------------

class Scenario:
    """A result folder as it is before the run (None: there is none), the
    command, and the contents the folder may have afterwards. With `back`, an
    FP8 checkpoint, the command is to dequantize that."""

    def __init__(self, name, before, arguments, whole, old=(), noflock=0,
                 back=None):
        self.name, self.before, self.arguments = name, before, arguments
        self.whole, self.old, self.noflock = whole, old, noflock
        self.back = back

    def prepare(self, room):
        if self.before:
            shutil.copytree(self.before, room / "dst")

    def run(self, b, room, **fault):
        if self.back:
            return b.run(room, b.dequantize(self.back, room / "dst"),
                         under=f"{self.back}:{room}", **fault)
        return b.run(room, b.quantize(room / "dst", *self.arguments),
                     noflock=self.noflock, **fault)


def scenarios(b):
    """fresh; resume: one shard is finished, another in flight, and the lock of
    a dead run is there; overwrite: a finished conversion with other options,
    whose shards have the names of the new ones; no flock: as resume, on a
    file system that refuses it; back: what was quantized, dequantized."""
    def kept(name, *arguments, **fault):
        with b.room() as room:
            run = b.run(room, b.quantize(room / "dst", *arguments), **fault)
            assert run.status in (0, -9), run.err
            return shutil.copytree(room / "dst", b.dir / name)

    whole_dir = kept("whole")
    whole = bench.contents(whole_dir)
    old_dir = kept("old", "--scale-dtype", "f32")
    old = bench.contents(old_dir)
    assert [n for n in old if n in whole and old[n] != whole[n]
            and n.endswith(".safetensors")]
    # Six renames: the lock, the journal, at most three shards' measurements,
    # so at least one shard and at most two.
    begun = kept("begun", call="rename", at=7, do="before")
    assert not bench.wrongs(begun, whole) and bench.contents(begun)
    with b.room() as room:
        run = b.run(room, b.dequantize(whole_dir, room / "dst"))
        assert run.status == 0, run.err
        back = bench.contents(room / "dst")
        assert bench.work_names(room / "dst") == bench.work_names(whole_dir)
    return whole_dir, [
        Scenario("fresh", None, (), whole),
        Scenario("resume", begun, (), whole),
        Scenario("overwrite", old_dir, ("--overwrite",), whole, (old,)),
        Scenario("no flock", begun, (), whole, noflock=errno.ENOLCK),
        Scenario("back", None, (), back, back=whole_dir),
    ]


# ---- one disturbed run -------------------------------------------------------

def shards_of(folder):
    return {n for n in bench.contents(folder) if n.endswith(".safetensors")}


def completes(b, room, scenario, work_names):
    """The same command, undisturbed: the same bytes, nothing left over, no
    finished shard written again."""
    dst = room / "dst"
    finished = shards_of(dst) if dst.is_dir() else set()
    run = scenario.run(b, room)
    if run.status != 0:
        return f"afterwards: status {run.status}: {run.err}"
    if bench.contents(dst) != scenario.whole:
        return "afterwards: other bytes than an undisturbed run"
    if bench.work_names(dst) != work_names:
        return f"afterwards: {bench.WORK} holds {bench.work_names(dst)}"
    if not scenario.old:
        again = finished & set(run.created(".safetensors"))
        if again:
            return f"afterwards: finished shards were redone: {again}"
    return ""


def complains(run, words):
    """What is wrong with the error message of a failed run."""
    lines = run.err.splitlines()
    if len(lines) != 1 or not lines[0].startswith("fp8cast: "):
        return f"expected one line, found {run.err!r}"
    for word in words:
        if word not in lines[0]:
            return f"expected {word!r} in {lines[0]!r}"
    return ""


def judge(run, words, must):
    """What is wrong with the outcome of a run that lived on. must: succeed,
    fail, or either (what is then checked elsewhere: the bytes)."""
    if run.status not in (0, 1):
        return f"status {run.status}: {run.err}"
    if must == "succeed" and run.status != 0:
        return f"expected success, found {run.err!r}"
    if must == "fail" and run.status != 1:
        return "expected a failure"
    if run.left_open():
        return " ".join(run.left_open())
    return complains(run, words) if run.status else ""


def named(run, words, fault):
    """What the message must hold: the file, and why. After the first of many
    faults another thread may be faster to tell of its own."""
    if fault.get("times") == 0:
        return words
    return words + [os.path.basename(run.fired)]


def disturb(b, scenario, work_names, must, words, **fault):
    """None when there was no such call; else what went wrong, or ''."""
    with b.room() as room:
        scenario.prepare(room)
        dst = room / "dst"
        run = scenario.run(b, room, **fault)
        if run.fired is None:
            return None
        if fault["do"] in ("before", "half", "after"):
            wrong = "" if run.status == -9 else f"status {run.status}"
        else:
            wrong = judge(run, named(run, words, fault), must)
        if not wrong and run.status == 0 and \
                bench.contents(dst) != scenario.whole:
            wrong = "status 0, but other bytes than an undisturbed run"
        wrong = wrong or bench.wrongs(dst, scenario.whole, *scenario.old) or \
            completes(b, room, scenario, work_names)
        return f"at {run.fired}: {wrong}" if wrong else ""


# ---- sweeps ------------------------------------------------------------------

class Sweep:
    def __init__(self, b, full, jobs):
        self.bench, self.full = b, full
        self.pool = concurrent.futures.ThreadPoolExecutor(jobs)
        self.tap = bench.Tap()
        self.runs = 0

    def places(self, count, sample=SAMPLE):
        """Which calls of `count`; a few more, should a run make more."""
        last = count + 2
        if self.full or last <= sample:
            return list(range(1, last + 1))
        edge = sample // 4
        middle = sample - 2 * edge
        step = (last - 2 * edge) / middle
        return sorted({*range(1, edge + 1), *range(last - edge + 1, last + 1),
                       *(edge + 1 + int(i * step) for i in range(middle))})

    def over(self, name, places, function):
        """One TAP line: function(at) for each place. It must have happened
        at most of them, else nothing was tested."""
        found = list(self.pool.map(function, places))
        hits = [(at, wrong) for at, wrong in zip(places, found)
                if wrong is not None]
        self.runs += len(hits)
        problems = [f"call {at}: {wrong}" for at, wrong in hits if wrong]
        if len(hits) < min(len(places) - 2, 1):
            problems.append(f"only {len(hits)} of {len(places)} calls came")
        self.tap.case(f"{name} ({len(hits)} runs)", problems)

    def count(self, scenario, call):
        with self.bench.room() as room:
            scenario.prepare(room)
            run = scenario.run(self.bench, room, call=call, at=0)
            assert run.status == 0, run.err
            return run.counted()


def sweep_crash(s, work_names, found):
    for scenario in found:
        places = s.places(s.count(scenario, "change"), 4 * SAMPLE)
        for do in ("before", "half", "after"):
            s.over(f"killed {do} a change: {scenario.name}", places,
                   lambda at, do=do, scenario=scenario: disturb(
                       s.bench, scenario, work_names, "", [], call="change",
                       at=at, do=do))


# What must come of an error: `succeed` where it says to try again, `fail`
# where bytes or names may be lost. Where it does not matter (an unneeded
# file not removed, a file that was only read not closed) or there is another
# way (from the page cache what cannot be written past it) either will do,
# with the right bytes. EINTR of a rename or mkdir does not tell whether it
# happened.
ERRORS = {
    "open": {"EIO": "either", "ENOSPC": "either", "EDQUOT": "either",
             "EINTR": "succeed", "EAGAIN": "either", "ENFILE": "either"},
    "list": {"EIO": "either"},
    "read": {"EIO": "either", "EINTR": "succeed", "EAGAIN": "either",
             "short": "succeed", "none": "either"},
    "write": {"EIO": "either", "ENOSPC": "either", "EDQUOT": "either",
              "EINTR": "succeed", "EAGAIN": "either", "short": "succeed",
              "none": "either"},
    "fallocate": {"EIO": "fail", "ENOSPC": "fail", "EDQUOT": "fail",
                  "EINTR": "succeed", "EOPNOTSUPP": "succeed",
                  "EAGAIN": "either"},
    "fsync": {"EIO": "fail", "ENOSPC": "fail", "EDQUOT": "fail",
              "EINTR": "succeed", "EAGAIN": "fail"},
    "rename": {"EIO": "fail", "ENOSPC": "fail", "EDQUOT": "fail",
               "EINTR": "fail", "EAGAIN": "fail"},
    "close": {"EIO": "either", "ENOSPC": "either", "EDQUOT": "either",
              "EINTR": "succeed", "EAGAIN": "either"},
    "unlink": {"EIO": "either", "ENOSPC": "either", "EDQUOT": "either",
               "EINTR": "either", "EAGAIN": "either"},
    "mkdir": {"EIO": "fail", "ENOSPC": "fail", "EDQUOT": "fail"},
    "flock": {"EIO": "either", "ENOLCK": "either"},
    "stat": {"EIO": "either"},
}
# With these for good no result can come about.
FOR_GOOD = {"open": ["EIO", "EMFILE"], "read": ["EIO", "EAGAIN", "none"],
            "write": ["EIO", "ENOSPC", "EDQUOT", "EAGAIN", "none"]}


def sweep_errors(s, work_names, found):
    for scenario in found:
        for call, errors in ERRORS.items():
            places = s.places(s.count(scenario, call))
            for name, must in errors.items():
                one_error(s, scenario, work_names, call, places, name, must, 1)
            for name in FOR_GOOD.get(call, []):
                one_error(s, scenario, work_names, call, places[:-2], name,
                          "either", 0)


def one_error(s, scenario, work_names, call, places, name, must, times):
    number = getattr(errno, name, None)
    words = [os.strerror(number)] if number else []
    s.over(f"{call}: {name}{'' if times else ' from there on'}: "
           f"{scenario.name}", places,
           lambda at: disturb(s.bench, scenario, work_names, must, words,
                              call=call, at=at, do=number or name,
                              times=times))


# ---- memory ------------------------------------------------------------------

def sweep_memory(s, work_names, found):
    for scenario in found:
        places = s.places(s.count(scenario, "memory"), 8 * SAMPLE)
        s.over(f"memory: quantize: {scenario.name}", places,
               lambda at, scenario=scenario: starve(s.bench, scenario,
                                                    work_names, at))


def starve(b, scenario, work_names, at):
    with b.room() as room:
        scenario.prepare(room)
        run = scenario.run(b, room, call="memory", at=at, do=errno.ENOMEM)
        if run.fired is None:
            return None
        return judge_starved(run) or \
            bench.wrongs(room / "dst", scenario.whole, *scenario.old) or \
            completes(b, room, scenario, work_names)


def judge_starved(run):
    wrong = judge(run, [], "either")
    if not wrong and run.status and not any(text in run.err
                                            for text in STARVED):
        wrong = f"does not say that memory ran out: {run.err!r}"
    return wrong


# glibc has other words for it where it makes a thread or resolves a path.
STARVED = ("memory", "cannot start a thread", "cannot resolve")


# ---- commands that only read, and synth --------------------------------------

def same_document(a, b):
    """Two answers, but for what no two runs have in common."""
    def cleaned(value):
        if isinstance(value, dict):
            return {k: cleaned(v) for k, v in value.items()
                    if k not in ("seconds", "bytes_per_second", "free_bytes",
                                 "disk")}
        return value
    if not b.startswith("{"):  # a model card, which has no such thing
        return a == b
    return cleaned(json.loads(a)) == cleaned(json.loads(b))


def is_warned(run, answer, words):
    """Whether verify's answer is that of an undisturbed run but for a warning
    of the file that could not be read, which is none of the weights'."""
    told, usual = json.loads(run.out), json.loads(answer)
    warnings = told.pop("warning_list", [])
    usual.pop("warning_list", None)
    counts = [one.pop("warnings", 0) for one in (told, usual)]
    return len(warnings) == counts[0] == counts[1] + 1 and \
        all(word in warnings[0] for word in words) and \
        same_document(json.dumps(told), json.dumps(usual))


def readers(b, whole):
    rules = ["--rules", b.rules]
    report = b.dir / "report.json"
    if not report.exists():
        with b.room() as room:
            run = b.run(room, ["verify", b.src, whole, *rules, "--quiet",
                               "--report", report])
            assert run.status == 0, run.err
    return {
        "report": ["report", report, "--format", "md", "--base-model", "a/b"],
        "verify": ["verify", b.src, whole, *rules, "--threads", "1", "--json"],
        "plan": ["plan", b.src, *rules, "--json", "--tensors"],
        "inspect": ["inspect", whole, "--json", "--tensors"],
    }


def read_disturbed(b, arguments, answer, must, words, **fault):
    with b.room() as room:
        run = b.run(room, arguments, under=b.dir, **fault)
        if run.fired is None:
            return None
        if run.status == 0 and not same_document(run.out, answer) and \
                not is_warned(run, answer, named(run, words, fault)):
            return f"status 0, but another answer: {run.out}"
        if fault["call"] == "memory":
            return judge_starved(run)
        return judge(run, named(run, words, fault), must)


def sweep_reading(s, whole, part):
    for name, arguments in readers(s.bench, whole).items():
        def count(call, arguments=arguments):
            with s.bench.room() as room:
                run = s.bench.run(room, arguments, under=s.bench.dir,
                                  call=call, at=0)
                assert run.status == 0, run.err
                return run.out, run.counted()

        def over(call, error, must, places, times, answer,
                 arguments=arguments, name=name):
            number = getattr(errno, error, None)
            words = [os.strerror(number)] if number else []
            s.over(f"{call}: {error}{'' if times else ' from there on'}: "
                   f"{name}", places,
                   lambda at: read_disturbed(
                       s.bench, arguments, answer, must, words, call=call,
                       at=at, do=number or error, times=times))

        if part == "memory":
            answer, calls = count("memory")
            over("memory", "ENOMEM", "either", s.places(calls, 8 * SAMPLE), 1,
                 answer)
            continue
        for call in ("open", "read", "close", "list", "stat"):
            answer, calls = count(call)
            places = s.places(calls)
            for error, must in ERRORS[call].items():
                if (call, error) == ("open", "EAGAIN") and name != "report":
                    must = "succeed"  # a lease, which is waited for
                over(call, error, must, places, 1, answer)
            for error in FOR_GOOD.get(call, []):
                over(call, error, "either", places[:-2], 0, answer)


SYNTH = ("--layers", "4", "--experts", "1", "--hidden", "64", "--inter", "64",
         "--vocab", "300", "--shards", "2", "--quiet")


def sweep_synth(s, part):
    b = s.bench
    with b.room() as room:
        b.run(room, ["synth", room / "dst", *SYNTH])
        whole = bench.contents(room / "dst")

    def disturbed(call, at, do, times, must, words):
        with b.room() as room:
            command = ["synth", room / "dst", *SYNTH]
            run = b.run(room, command, call=call, at=at, do=do, times=times)
            if run.fired is None:
                return None
            wrong = judge_starved(run) if call == "memory" else \
                judge(run, words, must)
            found = bench.contents(room / "dst")
            # All is there when only the summary at the end has failed.
            if not wrong and found != whole and (found or not run.status):
                wrong = f"status {run.status}, and there are {list(found)}"
            if not wrong and run.status:
                shutil.rmtree(room / "dst", ignore_errors=True)
                again = b.run(room, command)
                if again.status or bench.contents(room / "dst") != whole:
                    wrong = f"afterwards: {again.err}"
            return wrong

    for call in ["memory"] if part == "memory" else \
            ["open", "write", "fsync", "rename", "close", "mkdir"]:
        with b.room() as room:
            calls = b.run(room, ["synth", room / "dst", *SYNTH], call=call,
                          at=0).counted()
        places = s.places(calls, 8 * SAMPLE if call == "memory" else SAMPLE)
        for error, must in ({"ENOMEM": "either"} if call == "memory"
                            else ERRORS[call]).items():
            number = getattr(errno, error, None)
            words = [os.strerror(number)] if number else []
            s.over(f"{call}: {error}: synth", places,
                   lambda at, call=call, number=number, error=error,
                   must=must, words=words: disturbed(
                       call, at, number or error, 1, must, words))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", metavar="SCENARIO")
    parser.add_argument("part", nargs="*",
                        default=["crash", "errors", "memory", "reading"])
    given = parser.parse_args()
    with bench.Bench() as b:
        s = Sweep(b, given.full, given.jobs)
        whole, found = scenarios(b)
        found = [one for one in found if given.only in (None, one.name)]
        work_names = bench.work_names(whole)
        if "crash" in given.part:
            sweep_crash(s, work_names, found)
        if "errors" in given.part:
            sweep_errors(s, work_names, found)
        if "memory" in given.part:
            sweep_memory(s, work_names, found)
            sweep_reading(s, whole, "memory")
            sweep_synth(s, "memory")
        if "reading" in given.part:
            sweep_reading(s, whole, "reading")
            sweep_synth(s, "reading")
        print(f"# {s.runs} disturbed runs")
        return s.tap.finish()


if __name__ == "__main__":
    sys.exit(main())
