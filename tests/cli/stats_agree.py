#!/usr/bin/env python3
"""Do the program's error statistics agree with the reference's?

    stats_agree.py SRC DST PROGRAM.json...

The files are outputs of `fp8cast quantize --json` or `fp8cast verify --json`
for SRC and DST. The reference computes
the exact median, the program one from a histogram in steps of 2^-12 and from
counts by groups (src/kernel/groups.h). bfloat16 weights beside one scale have
but 128 relative errors, and a median jumps from one to the next, so what must
agree is its rank: within a step of the errors of ranks 0.496 to 0.504.
"""

import json
import math
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "reference"))
import reference  # noqa: E402  (needs the path)

STEP = 2.0 ** -12
OTHERS = 1e-4


def close(a, b, tolerance):
    if a is None or b is None:  # infinite or no number: null in the program's
        return all(x is None or not math.isfinite(x) for x in (a, b))
    if not math.isfinite(a) or not math.isfinite(b):
        return False
    return abs(a - b) <= tolerance * max(abs(a), abs(b))


def compare(name, wanted, found, faults):
    for ours, theirs in (("tensors", "tensors"), ("elems", "elements"),
                         ("blocks", "blocks"), ("zeros", "zeros")):
        if wanted[ours] != found[theirs]:
            faults.append(f"{name}: {theirs}: expected {wanted[ours]}, "
                          f"found {found[theirs]}")
    low, high = wanted["median_between"]
    median = found["median_relative_error"]
    if median is None or not low - STEP <= median <= high + STEP:
        faults.append(f"{name}: median_relative_error: expected {low} to "
                      f"{high}, found {median}")
    for key in ("relative_rms", "sqnr_db", "cosine", "max_abs_error"):
        if not close(wanted[key], found[key], OTHERS):
            faults.append(f"{name}: {key}: expected {wanted[key]}, "
                          f"found {found[key]}")


def compare_files(wanted, path, faults):
    with open(path, encoding="utf-8") as file:
        found = json.load(file)["error"]
    compare(f"{path}: overall", wanted["overall"], found["overall"], faults)
    kinds = {kind["name"]: kind for kind in found["kinds"]}
    if set(kinds) != set(wanted["kinds"]):
        faults.append(f"{path}: kinds: expected {sorted(wanted['kinds'])}, "
                      f"found {sorted(kinds)}")
    else:
        for kind, stats in wanted["kinds"].items():
            compare(f"{path}: {kind}", stats, kinds[kind], faults)
    worst = [entry["relative_rms"] for entry in found["worst"]]
    if worst != sorted(worst, reverse=True) or not worst:
        faults.append(f"{path}: worst tensors are not in order: {worst}")


def main():
    wanted = reference.stats(sys.argv[1], sys.argv[2])
    faults = []
    for path in sys.argv[3:]:
        compare_files(wanted, path, faults)
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
