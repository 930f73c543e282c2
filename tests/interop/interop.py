#!/usr/bin/env python3
"""Loads what fp8cast makes with the loaders' own code: `make interop`.

    interop.py [--work FOLDER] [--docs FILE] [FAMILY...]

For every family a tiny random model is built, quantised and verified; then
transformers, vLLM and SGLang load it, and a set of checkpoints broken on
purpose. Ends with a line "N passed, N failed". With --docs FILE what was seen
is written there. Run by scripts/interop, which knows the environments.
"""

import argparse
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys

import sabotage
import tensors
from families import FAMILIES

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LOADERS = ("transformers", "vllm", "sglang")
# The checks of each, as their programs call them.
CHECKS = {"transformers": ("keys", "values", "logits", "set"),
          "vllm": ("builds", "consumed", "filled", "cast", "values"),
          "sglang": ("builds", "consumed", "filled", "cast", "values")}
# What a user would see without this test.
LOUD = ("builds", "keys")


class Count:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, good, text, details=()):
        self.passed += bool(good)
        self.failed += not good
        print(f"{'ok' if good else 'not ok'} - {text}")
        for line in () if good else details:
            print(f"    {line}")


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


# ---- checkpoints ------------------------------------------------------------

def is_across(variant, family):
    return FAMILIES[family].across or variant == "transposed"


def prepare(count, work, family, variant):
    """Quantises and verifies one source; returns its jobs."""
    folder = os.path.join(work, family, variant)
    paths = {name: os.path.join(folder, name)
             for name in ("source", "result", "reference")}
    made = fp8cast("quantize", paths["source"], paths["result"], "--quiet")
    label = f"{family} {variant}"
    count.check(made.returncode == 0, f"{label}: fp8cast quantize",
                made.stdout.splitlines())
    if made.returncode:
        return []
    found = fp8cast("verify", paths["source"], paths["result"], "--quiet")
    count.check(found.returncode == 0, f"{label}: fp8cast verify",
                found.stdout.splitlines())
    told = os.path.join(folder, "published")
    source, result = tensors.read(told if os.path.isdir(told)
                                  else paths["source"]), tensors.read(
                                      paths["result"])
    reference, faults = tensors.rounded(source, result, is_across(variant,
                                                                  family))
    count.check(not faults, f"{label}: every byte is PyTorch's rounding",
                faults[:8])
    usual = FAMILIES[family].variants[0]
    tensors.write(paths["reference"],
                  tensors.published(reference, variant, usual),
                  tensors.read_config(paths["source"]), like=paths["source"])
    job = {"family": family, "variant": variant, **paths, "kind": "good",
           "why": ""}
    jobs = [job]
    if variant == FAMILIES[family].variants[0]:
        jobs += spoil(job, source, result)
    return jobs


def spoil(job, source, result):
    config = tensors.read_config(job["result"])
    jobs = []
    for number, (kind, why, spoiled, its_config) in enumerate(
            sabotage.spoil(source, result, config)):
        folder = f"{job['result']}-{number}-{kind}"
        tensors.write(folder, spoiled, its_config, like=job["result"])
        found = fp8cast("verify", job["source"], folder, "--quiet")
        jobs.append({**job, "result": folder, "kind": kind, "why": why,
                     "verify": found.returncode})
    return jobs


# ---- loaders ----------------------------------------------------------------

def run_loader(work, loader, jobs):
    path = os.path.join(work, f"{loader}.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(jobs, file)
    ran = python(loader, f"load_{loader}.py", path)
    with open(path + ".log", "w", encoding="utf-8") as file:
        file.write(ran.stdout)
    done = []
    if os.path.exists(path + ".out"):
        with open(path + ".out", encoding="utf-8") as file:
            done = [json.loads(line) for line in file]
    last = ran.stdout.strip().splitlines()[-1:] or ["no output"]
    lost = {"ended": [f"exit status {ran.returncode}: {last[0]}"]}
    return [one["faults"] for one in done] + [lost] * (len(jobs) - len(done))


def version(loader):
    names = {"transformers": "transformers", "vllm": "vllm",
             "sglang": "sglang"}
    ran = subprocess.run(
        [sys.executable, "-c", "import importlib.metadata, sys; "
         "print(importlib.metadata.version(sys.argv[1]))", names[loader]],
        env=environment(loader), stdout=subprocess.PIPE, text=True)
    return ran.stdout.strip()


# ---- judging ----------------------------------------------------------------

def judge_good(count, job, loader, faults):
    known = FAMILIES[job["family"]].defects.get(loader)
    label = f"{job['family']} {job['variant']}: {loader} loads it"
    if known:
        text = json.dumps(faults)
        count.check(known[0] in text,
                    f"{job['family']} {job['variant']}: {loader} fails as "
                    f"known: {known[1]}", [text])
        return
    count.check(not faults, label, [f"{check}: {text}" for check, texts
                                    in faults.items() for text in texts])


def judge_spoiled(count, job, seen):
    """`seen` is {loader: faults}. Whatever trips a loader must trip verify,
    and every fault must trip both."""
    trips = [loader for loader, faults in seen.items() if faults]
    label = f"{job['family']}: {job['kind']} ({job['why']})"
    caught = job["verify"] == 3
    if job["kind"] == "probe":
        count.check(caught or not trips, f"{label}: verify sees it, "
                    f"{' and '.join(trips) or 'no loader'} would mind",
                    [json.dumps(seen)])
        return
    count.check(caught, f"{label}: verify fails",
                [f"exit status {job['verify']}"])
    count.check(trips, f"{label}: a loader or its check trips")


def judge_checks(count, jobs, results):
    """A check that no sabotage trips is not a check."""
    for loader in LOADERS:
        tripped = {check for job, faults in zip(jobs, results[loader])
                   if job["kind"] != "good" for check in faults}
        for check in CHECKS[loader]:
            count.check(check in tripped, f"{loader}: check '{check}' is "
                        "tripped by a broken checkpoint")


# ---- golden -----------------------------------------------------------------

DTYPES = {"torch.bfloat16": "BF16", "torch.float32": "F32"}


def golden_lines(job):
    """For `make check`, which has no loaders: what they were seen to take."""
    source, result = tensors.read(job["source"]), tensors.read(job["result"])
    lines = []
    for name, tensor in sorted(source.items()):
        first, _ = next(tensors.parts_of(name, tensor))
        # One of memory has another name: experts, or what is kept.
        fp8 = (result[first].dtype == tensors.FP8 if first in result
               else tensor.ndim == 3)
        lines.append(f"{name}\t{DTYPES[str(tensor.dtype)]}\t"
                     f"{list(tensor.shape)}\t{'fp8' if fp8 else 'keep'}")
    config = tensors.read_config(job["source"])
    config = config.get("text_config", config)
    if job["variant"] != "plain" or FAMILIES[job["family"]].across:
        lines += [f"config\t{key}\t{config[key]}" for key
                  in FAMILIES[job["family"]].sizes]
    lines += [f"listed\t{entry}" for entry in sorted(sabotage.listed(
        tensors.read_config(job["result"])))]
    return "\n".join(lines) + "\n"


def judge_golden(count, job):
    name = job["family"]
    if job["variant"] != "plain":
        name += "." + job["variant"]
    path = os.path.join(ROOT, "tests/golden/families", name + ".tsv")
    if os.environ.get("UPDATE_GOLDEN"):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(golden_lines(job))
    found = None
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            found = file.read()
    count.check(found == golden_lines(job),
                f"{job['family']} {job['variant']}: as in {path[len(ROOT):]}")


# ---- docs -------------------------------------------------------------------

def outcome(faults):
    """One cell: what a user would see, and what only this test sees."""
    if not faults:
        return "fine"
    if any(check in faults for check in LOUD):
        return "raises" if "builds" in faults else "tells of keys"
    if set(faults) == {"set"}:
        return "converts (GPU)"
    if set(faults) == {"consumed"}:
        return "leaves it, silently"
    if "cast" in faults:
        return "**casts silently**"
    return f"**silent** ({', '.join(sorted(faults))})"


def table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rows = [rows[0], ["-" * width for width in widths]] + rows[1:]
    return ["| " + " | ".join(cell.ljust(width) for cell, width
                              in zip(row, widths)) + " |" for row in rows]


def family_lines(family, jobs, results):
    of = [(i, job) for i, job in enumerate(jobs) if job["family"] == family]
    defects = FAMILIES[family].defects
    lines = [f"### {family}", ""]
    for loader, (_, why) in defects.items():
        lines += [f"{loader} cannot: {why}.", ""]
    rows = [["", *LOADERS]]
    for i, job in of:
        name = {"good": f"as fp8cast writes it ({job['variant']} source)",
                "probe": f"not listed: `{job['why']}`"}.get(
                    job["kind"], job["why"])
        rows.append([name] + [
            "-" if loader in defects
            else outcome(results[loader][i]).replace("fine", "right", 1)
            if job["kind"] == "good" else outcome(results[loader][i])
            for loader in LOADERS])
    return lines + table(rows) + [""]


def write_docs(path, jobs, results, versions):
    with open(os.path.join(HERE, "loaders.md.in"), encoding="utf-8") as file:
        text = file.read()
    names = list(dict.fromkeys(job["family"] for job in jobs))
    summary = [["model_type", *(f"{one} {versions[one]}"
                                for one in LOADERS)]]
    details = []
    for family in names:
        row = [family]
        for loader in LOADERS:
            good = [not results[loader][i] for i, job in enumerate(jobs)
                    if job["family"] == family and job["kind"] == "good"]
            row.append("cannot" if loader in FAMILIES[family].defects
                       else "right" if all(good) else "**wrong**")
        summary.append(row)
        details += family_lines(family, jobs, results)
    text = text.replace("@SUMMARY@", "\n".join(table(summary)))
    text = text.replace("@DETAILS@", "\n".join(details).rstrip())
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


# ---- all --------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", default="build-interop/work")
    parser.add_argument("--docs")
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    options = parser.parse_args()
    work, count, jobs = os.path.abspath(options.work), Count(), []
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    made = python("transformers", "sources.py", work, *options.families)
    if made.returncode:
        sys.exit(made.stdout)
    for family in options.families:
        for variant in FAMILIES[family].variants:
            jobs += prepare(count, work, family, variant)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = dict(zip(LOADERS, pool.map(
            lambda loader: run_loader(work, loader, jobs), LOADERS)))
    for i, job in enumerate(jobs):
        if job["kind"] == "good":
            for loader in LOADERS:
                judge_good(count, job, loader, results[loader][i])
            judge_golden(count, job)
        else:
            judge_spoiled(count, job, {
                loader: results[loader][i] for loader in LOADERS
                if loader not in FAMILIES[job["family"]].defects})
    judge_checks(count, jobs, results)
    if options.docs:
        write_docs(options.docs, jobs, results,
                   {loader: version(loader) for loader in LOADERS})
    print(f"\n{count.passed} passed, {count.failed} failed")
    return count.failed > 0


if __name__ == "__main__":
    sys.exit(main())
