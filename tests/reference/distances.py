#!/usr/bin/env python3
"""How far the weights of one checkpoint are from those of another, in numpy:
what `fp8cast diff` is held against.

    distances.py A B        JSON: name to figures, of weights that differ

Whole checkpoints lie in memory, as binary64. Fused experts are taken apart by
the names that the families here have. Needs Python 3.9 and numpy.
"""

import json
import math
import re
import sys

import numpy as np

import reference

FUSED = re.compile(r"(.*\.experts\.)(gate_up_proj|down_proj)$")
PARTS = {"gate_up_proj": ["gate_proj", "up_proj"], "down_proj": ["down_proj"]}


def values_of(tensor, scale):
    """The weights as binary64, or None for integers."""
    raw, dtype = tensor.read(), tensor.dtype
    if scale is not None:
        rows, cols = tensor.shape[-2:]
        codes = np.frombuffer(raw, np.uint8).reshape(-1, rows, cols)
        scales = reference.decode_scales(scale)
        scales = scales.reshape(len(codes), *scales.shape[-2:])
        values = np.stack([reference.dequantize_matrix(*matrix)
                           for matrix in zip(codes, scales)])
    elif dtype == "F8_E4M3":
        values = reference.E4M3_DECODE[np.frombuffer(raw, np.uint8)]
    elif dtype == "F8_E5M2":  # the upper half of a binary16
        codes = np.frombuffer(raw, np.uint8).astype("<u2") << 8
        values = codes.astype("<u2").view("<f2")
    elif dtype == "F64":
        values = np.frombuffer(raw, "<f8")
    elif dtype in ("BF16", "F16", "F32"):
        values = reference.to_float32(raw, dtype)
    else:
        return None
    return values.astype(np.float64).reshape(tensor.shape)


def weights_of(folder):
    tensors, _ = reference.read_checkpoint(folder)
    by_name = {t.name: t for t in tensors}
    return {name: (t, by_name.get(name + reference.SCALE_SUFFIX))
            for name, t in by_name.items()
            if not name.endswith(reference.SCALE_SUFFIX)}


def apart(weights, other):
    """Name to values; fused tensors that the other lacks become matrices."""
    found = {}
    for name, (tensor, scale) in weights.items():
        values = values_of(tensor, scale)
        match = FUSED.match(name)
        if not match or name in other:
            found[name] = (tensor, values)
            continue
        parts = PARTS[match[2]]
        for expert, matrix in enumerate(values):
            for part, piece in zip(parts, np.split(matrix, len(parts))):
                found[f"{match[1]}{expert}.{part}.weight"] = (tensor, piece)
    return found


def figures(w, v):
    finite = np.isfinite(w) & np.isfinite(v)
    equal = (w == v) | (np.isnan(w) & np.isnan(v))
    result = {"elems": w.size, "differing": int(np.sum(~equal)),
              "not_finite": int(np.sum(~finite & ~equal))}
    w, v = w[finite], v[finite]
    w2, v2 = math.fsum(w * w), math.fsum(v * v)
    e2 = math.fsum((v - w) ** 2)
    result["relative_rms"] = math.sqrt(e2 / w2) if w2 else None
    result["sqnr_db"] = 10 * math.log10(w2 / e2) if e2 and w2 else None
    result["cosine"] = (math.fsum(w * v) / math.sqrt(w2) / math.sqrt(v2)
                        if w2 and v2 else 1.0 if w2 == v2 else 0.0)
    result["max_abs_error"] = float(np.max(np.abs(v - w), initial=0))
    return result


def main():
    a, b = (weights_of(folder) for folder in sys.argv[1:3])
    a, b = apart(a, b), apart(b, a)
    found = {}
    for name in sorted(set(a) & set(b)):
        (_, w), (_, v) = a[name], b[name]
        if w is None or v is None or w.shape != v.shape:
            continue
        one = figures(w, v)
        if one["differing"]:
            found[name] = one
    json.dump({"values": found, "only_a": sorted(set(a) - set(b)),
               "only_b": sorted(set(b) - set(a))}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
