"""What the fault tests share: a very small checkpoint, the program under the
library of inject.c, and what must be true of a result folder at any moment.

    FP8CAST   the program under test (default: build/fp8cast)
    CC        compiler for inject.c (default: cc)
    TMPDIR    where scratch folders go (default: memory, if there is any)
"""

import contextlib
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = os.path.abspath(os.environ.get(
    "FP8CAST", HERE.parent.parent / "build" / "fp8cast"))
SECONDS = 60  # a run takes hundredths of one; this one hangs
WORK = ".fp8cast"
CONFIG, INDEX = "config.json", "model.safetensors.index.json"

RULES = "family test\nquantize  *.weight\nkeep      *.norm\n"
TENSORS = {
    "model-00001-of-00002.safetensors": [
        ("a.weight", "BF16", (20, 300)), ("a.norm", "BF16", (300,)),
        ("b.weight", "F32", (40, 140))],
    "model-00002-of-00002.safetensors": [
        ("c.weight", "BF16", (256, 130)), ("d.weight", "BF16", (64, 64)),
        ("e.norm", "BF16", (10,))],
}
# Three result shards.
OPTIONS = ("--shard-size", "20000", "--threads", "1")
# With the least memory the first two matrices are cut into panels, whose rows
# lie apart in source and result.


# ---- source ------------------------------------------------------------------

def numbers(dtype, count, seed):
    draw = random.Random(seed)
    bits = struct.pack(f"<{count}f", *(draw.gauss(0, 0.02)
                                       for _ in range(count)))
    if dtype == "F32":
        return bits
    return b"".join(bits[i + 2:i + 4] for i in range(0, len(bits), 4))


def make_source(folder):
    """A checkpoint of six tensors in two files, and two side files."""
    os.makedirs(folder / "sub")
    weight_map, total = {}, 0
    for file, tensors in TENSORS.items():
        header, data = {}, b""
        for name, dtype, shape in tensors:
            count = 1
            for dim in shape:
                count *= dim
            more = numbers(dtype, count, name)
            header[name] = {"dtype": dtype, "shape": shape,
                            "data_offsets": [len(data), len(data + more)]}
            data += more
            weight_map[name] = file
        text = json.dumps(header).encode()
        (folder / file).write_bytes(struct.pack("<Q", len(text)) + text + data)
        total += len(data)
    (folder / INDEX).write_text(json.dumps(
        {"metadata": {"total_size": total}, "weight_map": weight_map}))
    (folder / CONFIG).write_text('{"model_type": "test"}\n')
    (folder / "LICENSE").write_text("none\n")
    (folder / "sub" / "notes.txt").write_text("a side file in a folder\n")


# ---- runs --------------------------------------------------------------------

class Run:
    """What came of one run: status, out, err, trace (lines), fired (the
    path of the call that a fault hit; None: there were fewer calls)."""

    def __init__(self, done, trace):
        self.status = done.returncode
        self.out, self.err = done.stdout, done.stderr
        self.trace = [line for line in trace if not line.startswith("fired")]
        fired = [line for line in trace if line.startswith("fired")]
        self.fired = fired[0].split(" ", 2)[2] if fired else None

    def counted(self):
        return int(next(line.split()[1] for line in self.trace
                        if line.startswith("counted")))

    def left_open(self):
        """Files, and the source's folder; but for the command line's own part
        and jansson, which end the process where it stands when memory runs
        out."""
        ended = self.err == "fp8cast: memory ran out\n"
        return [line for line in self.trace if line.startswith("left open")
                and not ended]

    def created(self, end=""):
        """Names of files that were created, without folder and .part."""
        return [os.path.basename(words[1]).removesuffix(".part")
                for words in map(str.split, self.trace)
                if words[0] == "create" and int(words[-1]) >= 0
                and words[1].removesuffix(".part").endswith(end)]


def scratch():
    """In memory where there is no wish: thousands of runs sync everything."""
    memory = "/dev/shm"
    if "TMPDIR" in os.environ or not os.access(memory, os.W_OK):
        return None
    return memory


class Bench:
    """A scratch folder with a source; close() removes it."""

    def __init__(self, program=PROGRAM):
        self.program = program
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="fp8cast-faults.",
                                                 dir=scratch()))
        self.src = self.dir / "src"
        self.rules = self.dir / "my.rules"
        self.rules.write_text(RULES)
        self.library = self.dir / "inject.so"
        make_source(self.src)
        self.memory = self.least_memory()
        subprocess.run(
            [os.environ.get("CC", "cc"), "-std=c11", "-D_GNU_SOURCE", "-O1",
             "-shared", "-fPIC", "-o", self.library, HERE / "inject.c",
             "-ldl"], check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir)

    @contextlib.contextmanager
    def room(self):
        """A new folder inside the scratch folder."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.dir))
        yield folder
        shutil.rmtree(folder)

    def least_memory(self):
        refusal = subprocess.run(
            [self.program, "plan", self.src, "--rules", self.rules,
             "--threads", "1", "--memory", "1"],
            capture_output=True, text=True, check=False).stderr
        return refusal.split()[-1]

    def quantize(self, dst, *more):
        return ["quantize", self.src, dst, "--rules", self.rules, "--quiet",
                "--memory", self.memory, *OPTIONS, *more]

    def dequantize(self, src, dst):
        """The way back, into three shards too."""
        return ["dequantize", src, dst, "--quiet", "--memory", self.memory,
                "--shard-size", "40000", "--threads", "1"]

    def variables(self, room, fault):
        found = dict(os.environ, LC_ALL="C.UTF-8", TERM="xterm",
                     LD_PRELOAD=str(self.library),
                     FAULT_TRACE=str(room / "trace"))
        if fault.get("do") in ("shrink", "touch"):
            # These write to the source, from inside.
            found["FP8CAST_CONFINE"] = "no"
        fault.setdefault("under", f"{self.src}:{room}")
        for key, value in fault.items():
            found["FAULT_" + key.upper()] = str(value)
        return found

    def run(self, room, arguments, **fault):
        """The program, with a fault if there is one: call, at, do, times."""
        trace = room / "trace"
        with contextlib.suppress(FileNotFoundError):
            trace.unlink()
        done = subprocess.run(
            [self.program, *arguments], capture_output=True, text=True,
            check=False, timeout=SECONDS, env=self.variables(room, fault))
        return Run(done, trace.read_text().splitlines())


def heed_signals():
    """What started the tests may have had them ignored: a shell's background,
    nohup."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


class Standing:
    """A run that stands still before its at-th call of a class. go() lets it
    go on and returns what came of it."""

    def __init__(self, b, room, arguments, popen=(), **fault):
        room.mkdir(exist_ok=True)
        self.trace = room / "trace"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
                 "preexec_fn": heed_signals}
        self.process = subprocess.Popen(
            [b.program, *arguments], text=True,
            env=b.variables(room, dict(fault, do="stop")),
            **{**pipes, **dict(popen)})
        self.pid = self.process.pid
        self.wait()

    def wait(self):
        """Until it stands still, or is at its end."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        self.stands = os.WIFSTOPPED(status)
        if not self.stands:
            self.process.returncode = os.waitstatus_to_exitcode(status)

    def step(self):
        """On to the next stand or the end."""
        os.kill(self.pid, signal.SIGCONT)
        self.wait()

    def send(self, number):
        """A signal that comes when it goes on."""
        os.kill(self.pid, number)

    def lines(self):
        return self.trace.read_text().splitlines()

    def go(self):
        while self.stands:
            self.step()
        out, err = self.process.communicate(timeout=SECONDS)
        done = subprocess.CompletedProcess([], self.process.returncode, out,
                                           err)
        return Run(done, self.lines())

    def kill(self):
        self.process.kill()
        self.process.communicate()


# ---- result folders ----------------------------------------------------------

def contents(folder):
    """{name: digest} of all files but those of .fp8cast."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_file() and not name.startswith(WORK):
            found[name] = hashlib.sha256(path.read_bytes()).digest()
    return found


def work_names(folder):
    """Names in .fp8cast. A killed run leaves its name in `lock`, and so does
    one that finds all finished."""
    work = folder / WORK
    return sorted(set(os.listdir(work)) - {"lock"}) if work.is_dir() else []


def wrongs(folder, whole, *others):
    """What is wrong in a folder that is to become `whole` and may still hold
    files of `others`, all as contents() gives them: '' if nothing. A folder
    with a config.json must be one of them, and have nothing else; the index
    is only there with all that it lists."""
    found = contents(folder) if folder.is_dir() else {}
    allowed = (whole, *others)
    for name, digest in found.items():
        if not any(one.get(name) == digest for one in allowed):
            return f"{name} has wrong bytes"
    for last in (CONFIG, INDEX):
        if last in found and not any(one[last] == found[last] and
                                     holds_all(found, one, last)
                                     for one in allowed):
            return f"{last} is there, but not all that goes with it"
    return ""


def holds_all(found, one, last):
    """Whether all is there that is written before `last`."""
    return all(found.get(name) == digest for name, digest in one.items()
               if last == CONFIG or name not in (CONFIG, INDEX))


# ---- TAP ---------------------------------------------------------------------

class Tap:
    def __init__(self):
        self.count = self.failures = 0

    def case(self, name, problems):
        """One test; problems: what went wrong, in lines."""
        self.count += 1
        self.failures += bool(problems)
        print(f"{'not ok' if problems else 'ok'} {self.count} {name}")
        for line in problems[:12]:
            print("# " + line.replace("\n", "\n#    "))
        if len(problems) > 12:
            print(f"# and {len(problems) - 12} more")
        sys.stdout.flush()

    def finish(self):
        print(f"1..{self.count}")
        return 1 if self.failures else 0
