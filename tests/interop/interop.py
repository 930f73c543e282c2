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
import sys

import divided
import page
import sabotage
import tensors
from families import FAMILIES
from programs import LOADERS, ROOT, fp8cast, python, run_loader, version

# The checks of each, as their programs call them.
CHECKS = {"transformers": ("keys", "values", "logits", "set"),
          "vllm": ("builds", "consumed", "filled", "cast", "values"),
          "sglang": ("builds", "consumed", "filled", "cast", "values")}


class Count:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, good, text, details=()):
        self.passed += bool(good)
        self.failed += not good
        print(f"{'ok' if good else 'not ok'} - {text}")
        for line in () if good else details:
            print(f"    {line}")


# ---- checkpoints ------------------------------------------------------------

def is_across(variant, family):
    return family.across or variant == "transposed"


def label_of(name, variant, layout):
    return f"{name} {variant}" + (f", --layout {layout}"
                                  if layout != "card" else "")


def judge_plan(count, job, family):
    """`plan --for` fails for the loaders that cannot, and for no other."""
    for loader in LOADERS:
        told = fp8cast("plan", job["source"], "--layout", job["layout"],
                       "--for", loader, "--quiet")
        count.check((told.returncode == 1) == (loader in family.defects),
                    f"{job['label']}: plan --for {loader}",
                    told.stdout.splitlines())


def prepare(count, work, name, family, variant, layout):
    """Quantises and verifies one source; returns its job, if it can be."""
    folder = os.path.join(work, name, variant)
    job = {"family": name, "variant": variant, "layout": layout,
           "kind": "good", "why": "",
           "label": label_of(name, variant, layout),
           "source": os.path.join(folder, "source"),
           "result": os.path.join(folder, layout),
           "reference": os.path.join(folder, layout + "-reference")}
    made = fp8cast("quantize", job["source"], job["result"], "--layout",
                   layout, "--quiet")
    count.check(made.returncode == 0, f"{job['label']}: fp8cast quantize",
                made.stdout.splitlines())
    if made.returncode:
        return None
    judge_plan(count, job, family)
    found = fp8cast("verify", job["source"], job["result"], "--quiet")
    count.check(found.returncode == 0, f"{job['label']}: fp8cast verify",
                found.stdout.splitlines())
    told = os.path.join(folder, "published")
    source = tensors.read(told if os.path.isdir(told) else job["source"])
    reference, faults = tensors.rounded(source, tensors.read(job["result"]),
                                        is_across(variant, family))
    count.check(not faults, f"{job['label']}: every byte is PyTorch's "
                "rounding", faults[:8])
    tensors.write(job["reference"],
                  tensors.published(reference, variant, family),
                  tensors.read_config(job["source"]), like=job["source"])
    return job


def spoil(job, kinds):
    """Jobs of `job`'s result broken in each of some ways."""
    jobs = []
    for number, (kind, why, spoiled, its_config) in enumerate(kinds(
            tensors.read(job["source"]), tensors.read(job["result"]),
            tensors.read_config(job["result"]))):
        folder = f"{job['result']}-{number}-{kind}"
        tensors.write(folder, spoiled, its_config, like=job["result"])
        found = fp8cast("verify", job["source"], folder, "--quiet")
        jobs.append({**job, "result": folder, "kind": kind, "why": why,
                     "verify": found.returncode})
    return jobs


def jobs_of(count, work, name):
    """The family's good checkpoints, and broken ones of each layout."""
    jobs, family = [], FAMILIES[name]
    for variant in family.variants:
        for layout in family.layouts:
            job = prepare(count, work, name, family, variant, layout)
            jobs += [job] if job else []
            if job and variant == family.variants[0]:
                jobs += spoil(job, sabotage.spoil if layout == "card"
                              else sabotage.spoil_draft)
    return jobs


def divided_jobs_of(count, work, name):
    """The model on each number of devices; the first, broken ones too."""
    jobs, family = [], divided.DIVIDED[name]
    for layout in family.layouts:
        job = prepare(count, work, name, family, family.variants[0], layout)
        jobs += divided.jobs_of(count, job) if job else []
        if job and layout == "card" and name == divided.SPOILED:
            jobs += divided.spoiled_jobs(spoil(job, sabotage.spoil))
    return jobs


# ---- judging ----------------------------------------------------------------

def judge_good(count, job, loader, faults):
    known = FAMILIES[job["family"]].defects.get(loader)
    if known:
        text = json.dumps(faults)
        count.check(known[0] in text, f"{job['label']}: {loader} fails as "
                    f"known: {known[1]}", [text])
        return
    count.check(not faults, f"{job['label']}: {loader} loads it",
                [f"{check}: {text}" for check, texts in faults.items()
                 for text in texts])


def judge_spoiled(count, job, seen):
    """`seen` is {loader: faults}. Whatever trips a loader must trip verify,
    and every fault must trip both."""
    trips = [loader for loader, faults in seen.items() if faults]
    label = f"{job['label']}: {job['kind']} ({job['why']})"
    caught = job["verify"] == 3
    if job["kind"] == "probe":
        count.check(caught or not trips, f"{label}: verify sees it, "
                    f"{' and '.join(trips) or 'no loader'} would mind",
                    [json.dumps(seen)])
        return
    count.check(caught, f"{label}: verify fails",
                [f"exit status {job['verify']}"])
    # Only engines' checks mind a tensor too much.
    if job["kind"] != "stray" or set(seen) != {"transformers"}:
        count.check(trips, f"{label}: a loader or its check trips")


def judge_checks(count, jobs, results, where=""):
    """A check that no sabotage trips is not a check."""
    for loader in LOADERS:
        seen = [faults for job, faults in zip(jobs, results[loader])
                if job["kind"] != "good" and faults is not None]
        tripped = {check for faults in seen for check in faults}
        for check in CHECKS[loader] if seen else ():
            count.check(check in tripped, f"{loader}: check '{check}' is "
                        f"tripped by a broken checkpoint{where}")


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


# ---- all --------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", default="build-interop/work")
    parser.add_argument("--docs")
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    options = parser.parse_args()
    work, count = os.path.abspath(options.work), Count()
    jobs, parts = [], []
    models = [name for name in divided.DIVIDED
              if divided.model_type_of(name) in options.families]
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    made = python("transformers", "sources.py", work, *options.families,
                  *models)
    if made.returncode:
        sys.exit(made.stdout)
    for name in options.families:
        jobs += jobs_of(count, work, name)
    for name in models:
        parts += divided_jobs_of(count, work, name)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = dict(zip(LOADERS, pool.map(
            lambda loader: run_loader(work, loader, jobs + parts), LOADERS)))
    parts_results = {loader: found[len(jobs):] for loader, found
                     in results.items()}
    for i, job in enumerate(jobs):
        if job["kind"] == "good":
            for loader in LOADERS:
                judge_good(count, job, loader, results[loader][i])
            if job["layout"] == "card":
                judge_golden(count, job)
        else:
            judge_spoiled(count, job, {
                loader: results[loader][i] for loader in LOADERS
                if loader not in FAMILIES[job["family"]].defects})
    judge_checks(count, jobs, results)
    divided.judge(count, parts, parts_results)
    judge_checks(count, parts, parts_results, " on two devices")
    if options.docs:
        page.write(options.docs, jobs, results, parts, parts_results,
                   {loader: version(loader) for loader in LOADERS})
    print(f"\n{count.passed} passed, {count.failed} failed")
    return count.failed > 0


if __name__ == "__main__":
    sys.exit(main())
