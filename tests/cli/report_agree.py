#!/usr/bin/env python3
"""Is a report true? Holds what --report wrote against its schema, and every
number in it against one computed here from the two checkpoints.

    report_agree.py SRC DST REPORT.json...

The reports are those of `quantize` and `verify` for SRC and DST. Errors are
computed with numpy in binary64, from the formulas of docs/report.md and with
the reference's own reading of checkpoints. Percentiles of the program come
from a histogram, so they may lie a bin beside ours; and where blocks are
counted by groups of mantissas (docs/architecture.md) a little further.
"""

import json
import math
import os
import re
import subprocess
import sys

import numpy as np

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "reference"))
import reference  # noqa: E402  (needs the path)

SCHEMA = os.path.join(HERE, "..", "..", "docs", "report.schema.json")
BLOCK = 128
SUMS = 1e-5     # the program adds plain weights in binary32 lanes
LARGEST = 1e-6  # errors of F32 weights are rounded to binary32


def is_valid(report):
    """Validates in a Python that has the package; numpy's may be another."""
    check = ("import json, sys, jsonschema\n"
             "schema = json.load(open(sys.argv[1]))\n"
             "jsonschema.Draft202012Validator.check_schema(schema)\n"
             "jsonschema.Draft202012Validator(schema).validate(\n"
             "    json.load(open(sys.argv[2])))")
    done = subprocess.run(["/usr/bin/python3", "-c", check, SCHEMA, report],
                          capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stderr


def blocks_of(matrix):
    """(row of blocks, column of blocks, block), in order."""
    for i in range(0, matrix.shape[0], BLOCK):
        for j in range(0, matrix.shape[1], BLOCK):
            yield i // BLOCK, j // BLOCK, matrix[i:i + BLOCK, j:j + BLOCK]


class Tensor:
    """One quantised weight: source w, codes, and v, what an engine reads."""

    def __init__(self, name, w, codes, scales):
        self.name, self.shape = name, list(w.shape)
        spread = np.repeat(np.repeat(scales, BLOCK, 0), BLOCK, 1)
        spread = spread[:w.shape[0], :w.shape[1]].astype(np.float32)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            quotient = np.abs(w / spread)
            self.v = (reference.E4M3_DECODE[codes] * spread).astype(np.float64)
        self.w = w.astype(np.float64)
        # Blocks without an error are in no figure.
        self.mask = np.ones(w.shape, bool)
        self.blocks = self.left_out = 0
        finite = np.isfinite(self.w) & np.isfinite(self.v)
        for i, j, block in blocks_of(finite):
            good = bool(block.all() and np.isfinite(scales[i, j])
                        and scales[i, j] > 0)
            self.mask[i * BLOCK:(i + 1) * BLOCK,
                      j * BLOCK:(j + 1) * BLOCK] = good
            self.blocks += good
            self.left_out += not good
        self.w[~self.mask] = self.v[~self.mask] = 0
        self.error = np.abs(self.v - self.w)
        self.saturated = int(np.count_nonzero((quotient > 448) & self.mask))
        self.codes = set(np.unique(codes[self.mask]).tolist())
        some = self.w != 0
        self.became_zero = int(np.count_nonzero(some & (self.v == 0)))
        self.relative = self.error[some] / np.abs(self.w[some])

    def worst_block(self):
        worst, at = 0.0, None
        squares = self.w * self.w, self.error * self.error
        for (i, j, ww), (_, _, ee) in zip(*map(blocks_of, squares)):
            if ee.sum() > 0:
                rms = float(np.sqrt(ee.sum() / ww.sum()))
                if at is None or rms > worst * (1 + SUMS):
                    worst, at = rms, [i, j]
        return worst, at


class Group:
    """Figures over some tensors."""

    def __init__(self, tensors):
        self.tensors = tensors

    def figures(self):
        total = {key: sum(float(np.sum(f(t))) for t in self.tensors)
                 for key, f in (("ww", lambda t: t.w * t.w),
                                ("vv", lambda t: t.v * t.v),
                                ("wv", lambda t: t.w * t.v),
                                ("ee", lambda t: t.error * t.error))}
        codes = set().union(*(t.codes for t in self.tensors))
        elements = sum(int(t.mask.sum()) for t in self.tensors)
        if elements == 0:
            return {"elements": 0, "blocks": 0, "zeros": 0, "saturated": 0,
                    "became_zero": 0, "codes_unused": 254,
                    **dict.fromkeys(REALS)}, np.zeros(0)
        relative = np.concatenate([t.relative for t in self.tensors])
        norms = math.sqrt(total["ww"]) * math.sqrt(total["vv"])
        exact = total["ee"] == 0
        return {
            "elements": elements,
            "blocks": sum(t.blocks for t in self.tensors),
            "zeros": elements - relative.size,
            "saturated": sum(t.saturated for t in self.tensors),
            "became_zero": sum(t.became_zero for t in self.tensors),
            "codes_unused": 254 - len(codes),
            "relative_rms": 0 if exact else math.sqrt(total["ee"] /
                                                      total["ww"]),
            "sqnr_db": None if exact else 10 * math.log10(total["ww"] /
                                                          total["ee"]),
            "cosine": 1 if norms == 0 else total["wv"] / norms,
            "max_abs_error": max(float(t.error.max()) for t in self.tensors),
        }, np.sort(relative)

    def not_measured(self):
        blocks = sum(t.left_out for t in self.tensors)
        elements = sum(int((~t.mask).sum()) for t in self.tensors)
        return {"elements": elements, "blocks": blocks} if blocks else None


COUNTS = ("elements", "blocks", "zeros", "saturated", "became_zero",
          "codes_unused")
REALS = ("relative_rms", "sqnr_db", "cosine", "max_abs_error")


class Faults(list):
    def equal(self, what, wanted, found, tolerance=0.0):
        if wanted is None or found is None:
            fine = wanted is found
        elif tolerance:
            fine = math.isclose(wanted, found, rel_tol=tolerance)
        else:
            fine = wanted == found
        if not fine:
            self.append(f"{what}: expected {wanted}, found {found}")

    def percentile(self, what, relative, share, slack, found):
        """True when as many errors as that lie below, give or take a bin and
        `slack` of them."""
        if relative.size == 0:
            self.equal(what, None, found)
            return
        n = relative.size
        relative = np.minimum(relative, 2)  # where the histogram ends
        low = relative[max(0, math.floor((share - slack) * n) - 1)]
        high = relative[min(n - 1, math.ceil((share + slack) * n))]

        def width(x):
            return x / 64 if x >= 1 / 16 else 1 / 4096
        if found is None or not (low - width(low) <= found <=
                                 high + width(high)):
            self.append(f"{what}: expected {low} to {high}, found {found}")


def check_figures(faults, what, group, found):
    wanted, relative = group.figures()
    for key in COUNTS:
        faults.equal(f"{what}: {key}", wanted[key], found[key])
    for key in REALS:
        faults.equal(f"{what}: {key}", wanted[key], found[key],
                     LARGEST if key == "max_abs_error" else SUMS)
    faults.equal(f"{what}: not measured", group.not_measured(),
                 found.get("not_measured"))
    faults.percentile(f"{what}: median", relative, 0.5, 0.004,
                      found["median_relative_error"])
    faults.percentile(f"{what}: 99.9th percentile", relative, 0.999, 0.0002,
                      found["p999_relative_error"])


def check_tensor(faults, tensor, found):
    what = tensor.name
    check_figures(faults, what, Group([tensor]), found)
    faults.equal(f"{what}: shape", tensor.shape, found["shape"])
    worst, at = tensor.worst_block()
    place, block = found["max_abs_error_at"], found["worst_block"]
    if at is None:
        faults.equal(f"{what}: place of the largest error", None, place)
        faults.equal(f"{what}: worst block", None, block)
        return
    # The first of several, by block; roundings apart when weights are F32.
    top = tensor.error.max()
    first = next([i * BLOCK + int(r), j * BLOCK + int(c)]
                 for i, j, e in blocks_of(tensor.error)
                 for r, c in zip(*np.nonzero(e >= top * (1 - LARGEST))))
    if first != place and tensor.error[tuple(place)] < top * (1 - LARGEST):
        faults.equal(f"{what}: place of the largest error", first, place)
    faults.equal(f"{what}: worst block's error", worst, block["relative_rms"],
                 SUMS)
    faults.equal(f"{what}: worst block", at, block["at"])


def layer_of(name):
    found = re.match(r"(.*?(?:^|\.)(?:layers|blocks)\.[0-9]+)(?:\.|$)", name)
    return found.group(1) if found else ""


def read_tensors(src, dst):
    """In order of the result's plan."""
    _, config = reference.read_config(src)
    plan = reference.plan_results(reference.read_checkpoint(src)[0],
                                  reference.rules_for(config, None), [],
                                  config)
    made = {tensor.name: tensor for tensor in reference.read_checkpoint(dst)[0]}
    for result in plan:
        scale = made.get(result.name + reference.SCALE_SUFFIX)
        if scale is None:
            continue
        codes = np.frombuffer(made[result.name].read(), np.uint8)
        w = reference.to_float32(result.source_bytes(), result.source.dtype)
        yield Tensor(result.name, w.reshape(result.shape),
                     codes.reshape(result.shape),
                     reference.decode_scales(scale))


def check_cells(faults, by_name, report):
    layers = [entry["name"] for entry in report["layers"]]
    kinds = [entry["name"] for entry in report["kinds"]]
    cells = {}
    for name, tensor in by_name.items():
        key = layer_of(name), reference.kind_of(name)
        cells.setdefault(key, []).append(tensor)
    found = {(layers[c["layer"]], kinds[c["kind"]]): c
             for c in report["cells"]}
    faults.equal("cells", sorted(key for key, tensors in cells.items()
                                 if any(t.blocks for t in tensors)),
                 sorted(found))
    for key, tensors in cells.items():
        if key not in found:
            continue
        faults.equal(f"cell {key}", len(tensors), found[key]["tensors"])
        faults.equal(f"cell {key}", Group(tensors).figures()[0]["relative_rms"],
                     found[key]["relative_rms"], SUMS)


def check_distribution(faults, tensors, report):
    relative = np.concatenate([t.relative for t in tensors])
    found = report["distribution"]
    counts = np.array([found["exact"]] + found["counts"] + [found["above"]])
    faults.equal("distribution: edges", len(found["counts"]) + 1,
                 len(found["edges"]))
    faults.equal("distribution: all", relative.size, int(counts.sum()))
    # Up to 1/17 errors may be counted in groups, and be some bins off; those
    # beyond are each in their own.
    edges = np.array(found["edges"])
    far = int(np.count_nonzero(relative >= 1 / 16))
    faults.equal("distribution: beyond 1/16", far,
                 int(counts[1:-1][edges[:-1] >= 1 / 16].sum()) +
                 found["above"])
    if relative.size == 0:
        return
    # Groups lie beside each other: no more than a few per cent of the weights
    # are ever on the wrong side of an edge.
    below = np.searchsorted(np.sort(relative), edges[1:], side="left")
    apart = np.abs(np.cumsum(counts[:-1])[1:] - below).max() / relative.size
    if apart > 0.03:
        faults.append(f"distribution: {apart:.3f} of all errors misplaced")


def check_report(faults, tensors, path):
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    by_name = {tensor.name: tensor for tensor in tensors}
    check_figures(faults, f"{path}: overall", Group(tensors),
                  report["overall"])
    faults.equal("tensors", sorted(by_name),
                 sorted(t["name"] for t in report["tensors"]))
    for entry in report["tensors"]:
        tensor = by_name[entry["name"]]
        check_tensor(faults, tensor, entry)
        faults.equal(f"{tensor.name}: layer", layer_of(tensor.name),
                     report["layers"][entry["layer"]]["name"])
        faults.equal(f"{tensor.name}: kind", reference.kind_of(tensor.name),
                     report["kinds"][entry["kind"]]["name"])
    for key, name_of in (("kinds", reference.kind_of), ("layers", layer_of)):
        for entry in report[key]:
            some = [t for t in tensors if name_of(t.name) == entry["name"]]
            faults.equal(f"{entry['name']}: tensors", len(some),
                         entry["tensors"])
            check_figures(faults, f"{key}: {entry['name']}", Group(some), entry)
    worst = [report["tensors"][i]["relative_rms"] for i in report["worst"]]
    every = sorted((t["relative_rms"] for t in report["tensors"]
                    if t["blocks"] > 0), reverse=True)
    faults.equal("worst", every[:20], worst)
    check_cells(faults, by_name, report)
    check_distribution(faults, tensors, report)


def main():
    faults = Faults()
    tensors = list(read_tensors(sys.argv[1], sys.argv[2]))
    for path in sys.argv[3:]:
        fine, why = is_valid(path)
        if not fine:
            faults.append(f"{path}: not as its schema says: {why[-2000:]}")
            continue
        check_report(faults, tensors, path)
    print("\n".join(faults[:40]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
