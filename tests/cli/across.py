#!/usr/bin/env python3
"""Fused experts that lie transposed, in sizes that no tiny model has.

    across.py FP8CAST FOLDER

Matrices with ragged edges, so wide that a worker with little memory takes a
band in panels, in three dtypes, quantised and kept; each result must be, byte
for byte, what tests/reference makes of it, verify must find what differs, and
`dequantize --fuse` must bring back the source, of kept ones every byte.
"""

import json
import os
import subprocess
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))), "reference"))
import checkpoints  # noqa: E402
import reference  # noqa: E402

RULES = """family across
split m.experts.gate_up experts=0 parts=gate,up rows=inter columns=hidden
split m.experts.down experts=0 parts=down rows=hidden columns=inter
split o.experts.gate_up experts=0 parts=2:gate,up
split s.experts.up experts=0 parts=2:up
"""
INTER, HIDDEN = 150, 700


def make_source(folder, dtype):
    os.makedirs(folder)
    random = np.random.default_rng(2)
    made = {}
    for name, shape in {"m.experts.gate_up": [2, HIDDEN, 2 * INTER],
                        "m.experts.down": [2, INTER, HIDDEN],
                        "o.experts.gate_up": [1, 129, 2],
                        # As well a matrix that lies the usual way.
                        "s.experts.up": [2, 130, 130]}.items():
        values = checkpoints.plain_values(random, shape)
        made[name] = (dtype, shape, checkpoints.to_bytes(values, dtype))
    checkpoints.write_weights(folder, random, made, 1)
    with open(os.path.join(folder, "config.json"), "w",
              encoding="utf-8") as file:
        json.dump({"model_type": "x", "inter": INTER, "hidden": HIDDEN}, file)


def exchange(folder, one, other):
    """Swaps two weights of a result, with their scales."""
    found = {t.name: t for t in reference.read_checkpoint(folder)[0]}
    for end in ("", "_scale_inv"):
        pair = found[one + end], found[other + end]
        data = [t.read() for t in pair]
        for tensor, bytes_ in zip(pair, reversed(data)):
            with open(tensor.path, "r+b") as file:
                file.seek(tensor.data_start + tensor.begin)
                file.write(bytes_)


def run(program, *arguments, status=0):
    ran = subprocess.run([program, *arguments, "--quiet"], text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert ran.returncode == status, (arguments, ran.stdout)
    return ran.stdout


def spoil(folder, name, column):
    """Changes one element of a result's first row."""
    tensor = next(one for one in reference.read_checkpoint(folder)[0]
                  if one.name == name)
    size = reference.ELEMENT_BYTES[tensor.dtype]
    with open(tensor.path, "r+b") as file:
        file.seek(tensor.data_start + tensor.begin + column * size)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0x40]))


def apart(program, source, result, rules):
    """Bytes of a transposed expert are not compared with a matrix's."""
    ran = subprocess.run([program, "diff", source, result, "--rules", rules,
                          "--json"], text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL)
    assert ran.returncode == 3, ran
    found = json.loads(ran.stdout)
    assert found["values"] == [] and found["identical"] == 0, found
    assert len(found["a"]["only"]) == 4, found
    assert len(found["b"]["only"]) == 2 * 3 + 2 + 2, found


def comes_back(program, folder, result, dtype, options, keep):
    """The source's tensors, transposed as they were: of kept experts the same
    bytes, of quantised ones what each matrix has that is restored alone."""
    back, apart = (os.path.join(folder, name) for name in ("back", "apart"))
    small = ["--dtype", dtype.lower(), "--threads", "1", "--memory", "1MB"]
    run(program, "dequantize", result, back, "--fuse", *small, *options)
    run(program, "dequantize", result, apart, *small)
    source, found, alone = (
        {one.name: one for one in reference.read_checkpoint(path)[0]}
        for path in (os.path.join(folder, "source"), back, apart))
    assert source.keys() == found.keys(), found.keys()
    for name, tensor in found.items():
        assert (tensor.dtype, tensor.shape) == (source[name].dtype,
                                                source[name].shape), name
        if keep:
            assert tensor.read() == source[name].read(), name
        size = reference.ELEMENT_BYTES[dtype]
        values = np.frombuffer(tensor.read(), f"u{size}").reshape(tensor.shape)
        parts = ["gate", "up"] if name.endswith("gate_up") else [
            name.rpartition(".")[2]]
        parent = name.rpartition(".")[0]
        for expert, matrix in enumerate(values):
            for part, columns in zip(parts, np.split(matrix, len(parts), 1)):
                one = alone[f"{parent}.{expert}.{part}.weight"]
                assert columns.T.tobytes() == one.read(), one.name


def check(program, folder, dtype, keep):
    os.makedirs(folder)
    rules = os.path.join(folder, "my.rules")
    source, result, theirs = (os.path.join(folder, name) for name
                              in ("source", "result", "reference"))
    with open(rules, "w", encoding="utf-8") as file:
        file.write(RULES)
    make_source(source, dtype)
    options = ["--rules", rules, "--threads", "1"]
    kept = ["--keep", "*"] if keep else []
    # 64 KiB a chunk, the least: bands of 128 rows are wider.
    run(program, "quantize", source, result, *options, *kept,
        "--memory", "1MB")
    reference.convert(source, theirs, rules_path=rules,
                      overrides=[("*", False)] if keep else [])
    difference = reference.compare(result, theirs)
    assert difference is None, f"{folder}: {difference}"
    run(program, "verify", source, result, *options, "--memory", "1MB")
    comes_back(program, folder, result, dtype, ["--rules", rules], keep)
    if keep:
        apart(program, source, result, rules)
    else:
        swapped = "m.experts.1.gate.weight", "m.experts.1.up.weight"
        exchange(result, *swapped)
        said = run(program, "verify", source, result, *options, status=3)
        assert f"tensor {swapped[0]}: has the weights of {swapped[1]}" in said, \
            said
        exchange(result, *swapped)
    name = "m.experts.1.up.weight"
    spoil(result, name, 600)
    said = run(program, "verify", source, result, *options, "--memory", "1MB",
               status=3)
    place = (f"byte {600 * reference.ELEMENT_BYTES[dtype]} of" if keep
             else "row 0, column 600")
    assert name in said and place in said, said


def main():
    program, folder = sys.argv[1:]
    for dtype in ("BF16", "F16", "F32"):
        for keep in (False, True):
            check(program, os.path.join(folder, f"{dtype}-{keep}"), dtype,
                  keep)


if __name__ == "__main__":
    main()
