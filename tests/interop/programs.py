"""Runs fp8cast, and each loader in the environment that it needs."""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LOADERS = ("transformers", "vllm", "sglang")


def environment(loader):
    """transformers and SGLang lie beside the environment's own packages."""
    env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1",
               TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1",
               CUDA_VISIBLE_DEVICES="")
    overlay = os.path.join(sys.prefix, "overlay", loader)
    if os.path.isdir(overlay):
        env["PYTHONPATH"] = overlay
    return env


def python(loader, program, *arguments):
    return subprocess.run(
        [sys.executable, os.path.join(HERE, program), *arguments],
        env=environment(loader), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace")


def fp8cast(*arguments):
    program = os.environ.get("FP8CAST", os.path.join(ROOT, "build/fp8cast"))
    return subprocess.run([program, *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)


def run_loader(work, loader, jobs):
    """What it found of each job; None of a job that is for others."""
    path = os.path.join(work, f"{loader}.json")
    mine = [i for i, job in enumerate(jobs)
            if loader in job.get("loaders", LOADERS)]
    with open(path, "w", encoding="utf-8") as file:
        json.dump([jobs[i] for i in mine], file)
    ran = python(loader, f"load_{loader}.py", path)
    with open(path + ".log", "w", encoding="utf-8") as file:
        file.write(ran.stdout)
    done = []
    if os.path.exists(path + ".out"):
        with open(path + ".out", encoding="utf-8") as file:
            done = [json.loads(line) for line in file]
    last = ran.stdout.strip().splitlines()[-1:] or ["no output"]
    lost = {"ended": [f"exit status {ran.returncode}: {last[0]}"]}
    found = [None] * len(jobs)
    for place, i in enumerate(mine):
        found[i] = done[place]["faults"] if place < len(done) else lost
    return found


def version(loader):
    names = {"transformers": "transformers", "vllm": "vllm",
             "sglang": "sglang"}
    ran = subprocess.run(
        [sys.executable, "-c", "import importlib.metadata, sys; "
         "print(importlib.metadata.version(sys.argv[1]))", names[loader]],
        env=environment(loader), stdout=subprocess.PIPE, text=True)
    return ran.stdout.strip()
