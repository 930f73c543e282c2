#!/usr/bin/env python3
"""What is left in the page cache by matrices that do not lie as one piece.

    cache.py FP8CAST FOLDER

Rows of 20,000 weights, of which 128 exceed what a worker usually takes at a
time, and fused experts that lie transposed. Of a source that was on the disk
alone next to nothing may be in the cache after quantize, verify and
`dequantize --fuse`, nor of what they wrote; a source that was there before
must still be. Exit status 77: this file system tells nothing.
"""

import json
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(ROOT, "tests", "reference"),
                os.path.join(ROOT, "bench"), HERE]
import checkpoints  # noqa: E402
import measure  # noqa: E402
from across import run  # noqa: E402

RULES = """family cache
split m.experts.gate_up experts=0 parts=gate,up rows=inter columns=hidden
split m.experts.down experts=0 parts=down rows=hidden columns=inter
quantize *.weight
"""
INTER, HIDDEN, EXPERTS, WIDE = 512, 1280, 16, 20000
# Headers, the ends of pieces, and what the kernel reads ahead.
LITTLE = 0.08


def make_source(folder):
    os.makedirs(folder)
    random = np.random.default_rng(3)
    made = {}
    for name, shape, dtype in [
            ("m.experts.gate_up", [EXPERTS, HIDDEN, 2 * INTER], "BF16"),
            ("m.experts.down", [EXPERTS, INTER, HIDDEN], "BF16"),
            ("wide.weight", [512, WIDE], "BF16"),
            ("broad.weight", [256, WIDE], "F32")]:
        values = random.standard_normal(shape, dtype=np.float32)
        made[name] = (dtype, shape, checkpoints.to_bytes(values, dtype))
    checkpoints.write_weights(folder, random, made, 1)
    with open(os.path.join(folder, "config.json"), "w",
              encoding="utf-8") as file:
        json.dump({"model_type": "x", "inter": INTER, "hidden": HIDDEN}, file)


def evict(folder):
    for path in measure.files(folder):
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    measure.evict(folder)


def tells(folder):
    """Whether files here can be read past the cache and be taken out of it."""
    path = os.path.join(folder, "model.safetensors")
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        return False
    measure.warm(folder)
    if measure.resident(folder) < 0.99:
        return False
    evict(folder)
    return measure.resident(folder) < 0.01


def expect(share, folders, what):
    for folder in folders:
        found = measure.resident(folder)
        assert share(found), f"{what}: {found:.0%} of {folder} is cached"


def little(share):
    return share <= LITTLE


def most(share):
    return share >= 0.9


def main():
    program, folder = sys.argv[1:]
    source, result, back, rules = (
        os.path.join(folder, name) for name in
        ("source", "result", "back", "my.rules"))
    with open(rules, "w", encoding="utf-8") as file:
        file.write(RULES)
    make_source(source)
    if not tells(source):
        return 77
    options = ["--rules", rules, "--threads", "2"]
    run(program, "quantize", source, result, *options)
    expect(little, [source, result], "quantize")
    evict(source)
    evict(result)
    run(program, "verify", source, result, *options)
    expect(little, [source, result], "verify")
    evict(result)
    run(program, "dequantize", result, back, "--fuse", *options)
    expect(little, [result, back], "dequantize")
    # Kept, they are copied.
    measure.remove(result)
    evict(source)
    run(program, "quantize", source, result, "--keep", "*", *options)
    expect(little, [source, result], "quantize --keep")
    # What was there stays.
    measure.remove(result)
    measure.warm(source)
    run(program, "quantize", source, result, *options)
    expect(most, [source], "quantize, cached")
    expect(little, [result], "quantize, cached")
    run(program, "verify", source, result, *options)
    expect(most, [source], "verify, cached")
    return 0


if __name__ == "__main__":
    sys.exit(main())
