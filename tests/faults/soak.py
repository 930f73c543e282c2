#!/usr/bin/env python3
"""Kills a conversion of some gigabytes at random moments, again and again, and
continues it each time. What has a final name must be right at any moment and
is never written again; the end is what an undisturbed run writes.

    soak.py

    FP8CAST   the program under test (default: build/fp8cast)
    ROUNDS    how many kills (default: 50)
    SEED      of the moments (default: a new one, which is printed)
    LAYERS, EXPERTS, VOCAB   of the checkpoint (default: 8, 80, 32768, 6.3 GB)
    TMPDIR    where it goes (default: /tmp); room for twice the checkpoint
"""

import filecmp
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

import bench

ROUNDS = int(os.environ.get("ROUNDS", "50"))
SEED = int(os.environ.get("SEED", time.time_ns() % 10**6))
MODEL = ["--model", "qwen3.6-35b-a3b", "--shards", "4",
         "--layers", os.environ.get("LAYERS", "8"),
         "--experts", os.environ.get("EXPERTS", "80"),
         "--vocab", os.environ.get("VOCAB", "32768")]
# Some twenty result shards, so that a run that is killed has finished some.
OPTIONS = ["--shard-size", "150MB", "--quiet"]


def call(*arguments):
    done = subprocess.run([bench.PROGRAM, *arguments], check=False)
    if done.returncode:
        sys.exit(f"soak: {arguments[0]} failed")


def final_files(folder):
    return {str(path.relative_to(folder)): path
            for path in folder.rglob("*") if path.is_file() and
            bench.WORK not in path.relative_to(folder).parts}


class Soak:
    def __init__(self, folder):
        self.src, self.whole, self.dst = (folder / name for name in
                                          ("src", "whole", "dst"))
        self.known = {}  # name to (inode, time of change), compared already
        self.kills = self.finishes = self.compared = self.kept = 0

    def prepare(self):
        call("synth", self.src, *MODEL, "--quiet")
        begun = time.monotonic()
        call("quantize", self.src, self.whole, *OPTIONS)
        self.seconds = time.monotonic() - begun

    def look(self):
        """All that has a final name is right, and stays as it is."""
        for name, path in final_files(self.dst).items():
            st = path.stat()
            mark = (st.st_ino, st.st_mtime_ns)
            if name in self.known:
                self.kept += 1
                if self.known[name] != mark:
                    sys.exit(f"soak: {name} was written again")
                continue
            if not filecmp.cmp(path, self.whole / name, shallow=False):
                sys.exit(f"soak: {name} has wrong bytes")
            self.compared += 1
            if name.endswith(".safetensors"):
                self.known[name] = mark
        if (self.dst / bench.CONFIG).exists():
            missing = set(final_files(self.whole)) - set(final_files(self.dst))
            if missing:
                sys.exit(f"soak: a config.json, but no {missing}")

    def round(self, moment):
        """One run, killed after so many seconds or at its end. True: killed."""
        run = subprocess.Popen([bench.PROGRAM, "quantize", self.src, self.dst,
                                *OPTIONS], stderr=subprocess.PIPE, text=True)
        try:
            _, err = run.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            run.kill()
            run.communicate()
            return True
        if run.returncode:
            sys.exit(f"soak: status {run.returncode}: {err}")
        return False

    def finish(self):
        if set(final_files(self.dst)) != set(final_files(self.whole)):
            sys.exit("soak: other files than an undisturbed run")
        if list((self.dst / bench.WORK).glob("*.part")):
            sys.exit("soak: unfinished files were left")
        self.finishes += 1

    def run(self, draw):
        while self.kills < ROUNDS:
            killed = self.round(draw.uniform(0, self.seconds / 3))
            self.kills += killed
            self.look()
            if not killed:
                self.finish()
                shutil.rmtree(self.dst)
                self.known = {}
        self.round(None)
        self.look()
        self.finish()
        call("verify", self.src, self.dst, "--quiet")


def main():
    draw = random.Random(SEED)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="fp8cast-soak."))
    try:
        soak = Soak(folder)
        soak.prepare()
        size = sum(path.stat().st_size for path in soak.src.iterdir())
        print(f"soak: {size / 1e9:.1f} GB, an undisturbed run takes "
              f"{soak.seconds:.1f} s; seed {SEED}", flush=True)
        soak.run(draw)
    finally:
        shutil.rmtree(folder)
    print(f"soak: {soak.kills} kills, {soak.finishes} conversions came to "
          f"their end; {soak.compared} files were compared, finished shards "
          f"were met {soak.kept} times and none was written again; verified")
    return 0


if __name__ == "__main__":
    sys.exit(main())
