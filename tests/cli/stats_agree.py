#!/usr/bin/env python3
"""Do the program's error statistics agree with the reference's?

    stats_agree.py SRC DST PROGRAM.json...

The files are outputs of `fp8cast quantize --json` or `fp8cast verify --json`
for SRC and DST. The reference computes
the exact median, the program one from a histogram with 64 bins an octave: the
widest spans 1/64 of its lower edge. Smooth distributions do much better than
one bin, those of few values cannot.
"""

import json
import math
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "reference"))
import reference  # noqa: E402  (needs the path)

MEDIAN = 1 / 64
MEDIAN_OVERALL = 0.01
OTHERS = 1e-4


def close(a, b, tolerance):
    if a is None or b is None:  # infinite or no number: null in the program's
        return all(x is None or not math.isfinite(x) for x in (a, b))
    if not math.isfinite(a) or not math.isfinite(b):
        return False
    return abs(a - b) <= tolerance * max(abs(a), abs(b))


def compare(name, wanted, found, median, faults):
    for ours, theirs in (("tensors", "tensors"), ("elems", "elements"),
                         ("blocks", "blocks"), ("zeros", "zeros")):
        if wanted[ours] != found[theirs]:
            faults.append(f"{name}: {theirs}: expected {wanted[ours]}, "
                          f"found {found[theirs]}")
    for key, tolerance in (("median_relative_error", median),
                           ("relative_rms", OTHERS), ("sqnr_db", OTHERS),
                           ("cosine", OTHERS), ("max_abs_error", OTHERS)):
        if not close(wanted[key], found[key], tolerance):
            faults.append(f"{name}: {key}: expected {wanted[key]}, "
                          f"found {found[key]}")


def compare_files(wanted, path, faults):
    with open(path, encoding="utf-8") as file:
        found = json.load(file)["error"]
    compare(f"{path}: overall", wanted["overall"], found["overall"],
            MEDIAN_OVERALL, faults)
    kinds = {kind["name"]: kind for kind in found["kinds"]}
    if set(kinds) != set(wanted["kinds"]):
        faults.append(f"{path}: kinds: expected {sorted(wanted['kinds'])}, "
                      f"found {sorted(kinds)}")
    else:
        for kind, stats in wanted["kinds"].items():
            compare(f"{path}: {kind}", stats, kinds[kind], MEDIAN, faults)
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
