#!/usr/bin/env python3
"""Reports as docs/report.schema.json describes them, made without fp8cast.

    reports.py small OUT.json   a miniature: every number is measured here, in
                                binary64, on weights that numpy drew
    reports.py full OUT.json    the tensors of Qwen3.6-35B-A3B by name, shape
                                and count; the numbers are made up

Each takes --card FILE, the front matter of a source. What `report` draws from
them the tests look for on the page. Needs numpy.
"""

import argparse
import json
import math

import numpy as np

import reference

BLOCK = reference.BLOCK
# As fine as a page can show, and far beyond: 6.25 % is half a step of e4m3.
EDGES = [i / 2048 for i in range(0, 257)]
PREFIX = "model.language_model.layers"
RULES = "qwen3_5_moe.rules"


def matrices(hidden, inter, heads, experts, layer):
    """Kinds and shapes of one layer's quantised matrices."""
    if layer % 4 == 3:
        yield "self_attn.q_proj", heads * 4, hidden
        yield "self_attn.k_proj", heads // 4, hidden
        yield "self_attn.v_proj", heads // 4, hidden
        yield "self_attn.o_proj", hidden, heads * 2
    else:
        yield "linear_attn.in_proj_qkv", heads * 4, hidden
        yield "linear_attn.in_proj_z", heads * 2, hidden
        yield "linear_attn.out_proj", hidden, heads * 2
    for name in ("gate_proj", "up_proj", "down_proj"):
        shape = (hidden, inter) if name == "down_proj" else (inter, hidden)
        yield ("mlp.shared_expert." + name, *shape)
    for expert in range(experts):
        for name in ("gate_proj", "up_proj", "down_proj"):
            shape = (hidden, inter) if name == "down_proj" else (inter, hidden)
            yield (f"mlp.experts.{expert}.{name}", *shape)


def kind_of(module):
    words = module.split(".")
    if words[1] == "experts":
        return f"mlp.experts.{words[3]}"
    return module


def model(layers, **sizes):
    """(layer, module, rows, cols) of every matrix, the draft's last."""
    for layer in range(layers):
        for module, rows, cols in matrices(layer=layer, **sizes):
            yield f"{PREFIX}.{layer}", module, rows, cols
    for module, rows, cols in matrices(layer=3, **sizes):
        if ".experts." in module:
            yield "mtp.layers.0", module, rows, cols


# ---- measuring ---------------------------------------------------------------

class Sums:
    """What is added up over the weights of one or many matrices."""

    def __init__(self):
        self.tensors = self.elements = self.blocks = self.zeros = 0
        self.ww = self.vv = self.wv = self.ee = self.largest = 0.0
        self.saturated = self.became_zero = 0
        self.codes = np.zeros(256, bool)
        self.relative = []

    def add(self, other):
        for field, value in vars(other).items():
            if field == "largest":
                self.largest = max(self.largest, value)
            elif field == "codes":
                self.codes = self.codes | value
            else:
                setattr(self, field, getattr(self, field) + value)

    def measures(self):
        relative = np.sort(np.concatenate(self.relative or [np.zeros(0)]))
        some = len(relative) > 0
        finite = np.r_[0:127, 128:255]
        return {
            "elements": self.elements, "blocks": self.blocks,
            "zeros": self.zeros,
            "median_relative_error":
                float(np.median(relative)) if some else None,
            "p999_relative_error":
                float(np.quantile(relative, 0.999)) if some else None,
            "relative_rms": math.sqrt(self.ee / self.ww) if self.ww else 0.0,
            "sqnr_db": 10 * math.log10(self.ww / self.ee) if self.ee else None,
            "cosine": self.wv / math.sqrt(self.ww * self.vv)
                if self.ww else 1.0,
            "max_abs_error": self.largest, "saturated": self.saturated,
            "became_zero": self.became_zero,
            "codes_unused": int((~self.codes[finite]).sum()),
        }


def measure(weights):
    """Sums of one float32 matrix, and where its errors are largest."""
    codes, stored = reference.quantize_matrix(weights, "bf16")
    scales = (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    rows, cols = weights.shape
    w = weights.astype(np.float64)
    v = reference.dequantize_matrix(codes, scales).astype(np.float64)
    e = v - w
    sums = Sums()
    sums.tensors, sums.elements, sums.blocks = 1, w.size, scales.size
    sums.zeros = int((w == 0).sum())
    sums.ww, sums.vv, sums.wv = (w * w).sum(), (v * v).sum(), (w * v).sum()
    sums.ee, sums.largest = (e * e).sum(), float(np.abs(e).max())
    scaled = np.abs(w) / reference.spread(scales, rows, cols)
    sums.saturated = int((scaled > 448).sum())
    sums.became_zero = int(((w != 0) & (v == 0)).sum())
    sums.codes[np.unique(codes)] = True
    sums.relative = [np.abs(e[w != 0] / w[w != 0])]
    if not sums.ee:
        return sums, {"max_abs_error_at": None, "worst_block": None}
    at = np.unravel_index(np.abs(e).argmax(), e.shape)
    worst, where = -1.0, None
    for i in range(0, rows, BLOCK):
        for j in range(0, cols, BLOCK):
            part = np.s_[i:i + BLOCK, j:j + BLOCK]
            if (w[part] != 0).any():
                rms = math.sqrt((e[part] ** 2).sum() / (w[part] ** 2).sum())
                if rms > worst:
                    worst, where = rms, [i // BLOCK, j // BLOCK]
    return sums, {"max_abs_error_at": [int(x) for x in at],
                  "worst_block": {"at": where, "relative_rms": worst}}


def draw(generator, kind, rows, cols):
    """Weights of bfloat16; some kinds have heavier tails than others."""
    w = generator.normal(0, 0.02, (rows, cols))
    if kind.endswith("o_proj"):
        w = 0.02 * generator.standard_t(3, (rows, cols))
    if kind.endswith("k_proj"):
        w[generator.random(w.shape) < 0.2] = 0
    if kind.endswith("shared_expert.up_proj"):
        w[:, 7] *= 60
    bits = w.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return bits.view(np.float32)


# ---- the document ------------------------------------------------------------

def index_of(names, name):
    if name not in names:
        names.append(name)
    return names.index(name)


def rule(line, pattern, action, tensors, results, before, after):
    return {"rule": f"{RULES}:{line}: {action} {pattern}", "action": action,
            "source_tensors": tensors, "results": results,
            "source_bytes": before, "result_bytes": after}


def document(card, tensors, layers, kinds, groups, cells, overall, histogram):
    quantised = sum(entry["elements"] for entry in tensors)
    blocks = sum(entry["blocks"] for entry in tensors)
    kept, kept_bytes = 29 * len(layers) + 3, 2 * 90_000 * len(layers)
    experts = [entry for entry in tensors if "experts" in entry["name"]]
    inside = sum(entry["elements"] for entry in experts)
    after = quantised + 2 * blocks
    rules = [
        rule(26, "model.language_model.embed_tokens.weight", "keep", 1, 1,
             kept_bytes // 2, kept_bytes // 2),
        rule(34, f"{PREFIX}.{{n}}.input_layernorm.weight", "keep",
             kept - 1, kept - 1, kept_bytes - kept_bytes // 2,
             kept_bytes - kept_bytes // 2),
        rule(38, f"{PREFIX}.{{n}}.linear_attn.in_proj_qkv.weight", "quantize",
             len(tensors) - len(experts), len(tensors) - len(experts),
             2 * (quantised - inside), quantised - inside),
        rule(71, f"{PREFIX}.{{n}}.mlp.experts.gate_up_proj", "quantize",
             2 * len(layers), len(experts), 2 * inside,
             after - (quantised - inside)),
    ]
    order = sorted(range(len(tensors)),
                   key=lambda i: (-(tensors[i]["relative_rms"] or 0), i))
    return {
        "fp8cast_report": 1, "fp8cast": "0.1.0", "command": "quantize",
        "source": {"name": "Qwen3.6-35B-A3B", "model_type": "qwen3_5_moe",
                   "family": "qwen3_5_moe",
                   "tensors": len(tensors) - len(experts) + 2 * len(layers) +
                       kept,
                   "bytes": 2 * quantised + kept_bytes, "shards": 16,
                   "card": card},
        "result": {"name": "Qwen3.6-35B-A3B-FP8",
                   "tensors": 2 * len(tensors) + kept,
                   "bytes": after + kept_bytes, "shards": 8,
                   "fp8_weights": len(tensors), "scales": len(tensors),
                   "kept": kept, "kept_bytes": kept_bytes,
                   "parameters": quantised + kept_bytes // 2},
        "options": {"scales": "amax", "scale_dtype": "bf16", "layout": "card",
                    "rules": None, "shard_size": None, "overrides": []},
        "rules": rules, "overall": overall,
        "kinds": [{"name": name, "tensors": count, **measures}
                  for (name, count, measures) in groups["kinds"]],
        "layers": [{"name": name, "tensors": count, **measures}
                   for (name, count, measures) in groups["layers"]],
        "cells": cells, "distribution": histogram, "worst": order[:20],
        "tensors": tensors,
    }


def small(card):
    generator = np.random.default_rng(1)
    layers, kinds, tensors = [], [], []
    by_kind, by_layer, by_cell, overall = {}, {}, {}, Sums()
    for layer, module, rows, cols in model(
            4, hidden=384, inter=256, heads=128, experts=3):
        kind = kind_of(module)
        sums, places = measure(draw(generator, kind, rows, cols))
        l, k = index_of(layers, layer), index_of(kinds, kind)
        tensors.append({"name": f"{layer}.{module}.weight", "layer": l,
                        "kind": k, "shape": [rows, cols], **sums.measures(),
                        **places})
        for group in (by_kind.setdefault(k, Sums()),
                      by_layer.setdefault(l, Sums()),
                      by_cell.setdefault((l, k), Sums()), overall):
            group.add(sums)
    groups = {
        "kinds": [(kinds[k], s.tensors, s.measures())
                  for k, s in sorted(by_kind.items())],
        "layers": [(layers[l], s.tensors, s.measures())
                   for l, s in sorted(by_layer.items())]}
    cells = [{"layer": l, "kind": k, "tensors": s.tensors,
              "relative_rms": s.measures()["relative_rms"]}
             for (l, k), s in sorted(by_cell.items())]
    relative = np.concatenate(overall.relative)
    counts, _ = np.histogram(relative[relative > 0], EDGES + [np.inf])
    # numpy's last finite bin ends before the next one, as all of them do.
    histogram = {"exact": int((relative == 0).sum()), "edges": EDGES,
                 "counts": [int(c) for c in counts[:-1]],
                 "above": int(counts[-1])}
    return document(card, tensors, layers, kinds, groups, cells,
                    {"name": "overall", "tensors": overall.tensors,
                     **overall.measures()}, histogram)


def made_up(generator, elements, rms):
    return {
        "elements": elements, "blocks": max(1, elements // BLOCK // BLOCK),
        "zeros": 0, "median_relative_error": rms * 0.819,
        "p999_relative_error": rms * 4.1, "relative_rms": rms,
        "sqnr_db": -20 * math.log10(rms), "cosine": 1 - rms * rms / 2,
        "max_abs_error": float(generator.uniform(0.002, 0.011)),
        "saturated": 0, "became_zero": int(elements * 2e-4),
        "codes_unused": int(generator.integers(0, 12)),
    }


def full(card):
    generator = np.random.default_rng(2)
    layers, kinds, tensors, members = [], [], [], {}
    for layer, module, rows, cols in model(
            40, hidden=2048, inter=512, heads=2048, experts=256):
        kind = kind_of(module)
        l, k = index_of(layers, layer), index_of(kinds, kind)
        rms = (0.02645 + 0.00002 * (k % 5) + 0.0000015 * l * (k % 3) +
               abs(float(generator.normal(0, 0.00003))))
        if kind == "self_attn.o_proj":
            rms += 0.0006 * math.exp(-l / 9)
        if module.endswith("experts.17.down_proj") and l == 39:
            rms = 0.0312
        members.setdefault((l, k), []).append(len(tensors))
        tensors.append({
            "name": f"{layer}.{module}.weight", "layer": l, "kind": k,
            "shape": [rows, cols],
            **made_up(generator, rows * cols, rms),
            "max_abs_error_at": [int(generator.integers(rows)),
                                 int(generator.integers(cols))],
            "worst_block": {"at": [int(generator.integers(rows // BLOCK)),
                                   int(generator.integers(cols // BLOCK))],
                            "relative_rms": rms * 1.07}})

    def pooled(indices):
        elements = sum(tensors[i]["elements"] for i in indices)
        return len(indices), made_up(generator, elements, math.sqrt(sum(
            tensors[i]["relative_rms"] ** 2 for i in indices) / len(indices)))

    def gather(position):
        found = {}
        for key, indices in members.items():
            found.setdefault(key[position], []).extend(indices)
        return found

    groups = {"kinds": [(kinds[k], *pooled(i))
                        for k, i in sorted(gather(1).items())],
              "layers": [(layers[l], *pooled(i))
                         for l, i in sorted(gather(0).items())]}
    cells = [{"layer": l, "kind": k, "tensors": len(i),
              "relative_rms": pooled(i)[1]["relative_rms"]}
             for (l, k), i in sorted(members.items())]
    count, overall = pooled(range(len(tensors)))
    # The errors of a Gaussian: drawn once, scaled to the number of weights.
    sums, _ = measure(draw(generator, "", 1024, 1024))
    relative = np.concatenate(sums.relative)
    counts, _ = np.histogram(relative[relative > 0], EDGES + [np.inf])
    times = overall["elements"] // len(relative)
    histogram = {"exact": int((relative == 0).sum()) * times, "edges": EDGES,
                 "counts": [int(c) * times for c in counts[:-1]],
                 "above": int(counts[-1]) * times}
    return document(card, tensors, layers, kinds, groups, cells,
                    {"name": "overall", "tensors": count, **overall},
                    histogram)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("size", choices=["small", "full"])
    parser.add_argument("out")
    parser.add_argument("--card")
    given = parser.parse_args()
    card = None
    if given.card:
        with open(given.card, encoding="utf-8") as file:
            card = file.read()
    made = {"small": small, "full": full}[given.size](card)
    with open(given.out, "w", encoding="utf-8") as file:
        json.dump(made, file)


if __name__ == "__main__":
    main()
