#!/usr/bin/env python3
"""Matrices with another's weights, in sizes and numbers no tiny model has.

    mixup.py FP8CAST FOLDER

verify may say that a matrix has the weights of another only where that is so
of all of it, and must not search for ever.
"""

import json
import os
import subprocess
import sys

import numpy as np

from across import exchange, run

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))), "reference"))
import checkpoints  # noqa: E402
import reference  # noqa: E402

RULES = "family mixup\nquantize *.weight\n"


class Case:
    """A source of such values in BF16, in the order of the names, and what
    quantize makes of it, which is right until it is spoiled."""

    def __init__(self, program, folder, values):
        os.makedirs(os.path.join(folder, "source"))
        self.program = program
        self.source, self.result = (os.path.join(folder, name)
                                    for name in ("source", "result"))
        self.rules = os.path.join(folder, "my.rules")
        with open(self.rules, "w", encoding="utf-8") as file:
            file.write(RULES)
        made = {name: ("BF16", list(w.shape),
                       checkpoints.to_bytes(w, "BF16"))
                for name, w in sorted(values.items())}
        checkpoints.write_shard(
            os.path.join(self.source, "model.safetensors"), made, list(made),
            list(made), True)
        with open(os.path.join(self.source, "config.json"), "w",
                  encoding="utf-8") as file:
            json.dump({"model_type": "x"}, file)
        run(program, "quantize", self.source, self.result, "--rules",
            self.rules)
        self.tensors = {folder: {t.name: t for t in
                                 reference.read_checkpoint(folder)[0]}
                        for folder in (self.source, self.result)}

    def weights(self, name):
        t = self.tensors[self.source][name]
        return reference.to_float32(t.read(), "BF16").reshape(t.shape)

    def stored(self, name):
        """Codes and BF16 scales of the result, as matrices of integers."""
        codes, scales = (self.tensors[self.result][name + end]
                         for end in ("", "_scale_inv"))
        return (np.frombuffer(codes.read(), np.uint8)
                .reshape(codes.shape).copy(),
                np.frombuffer(scales.read(), "<u2")
                .reshape(scales.shape).copy())

    def store(self, name, codes, scales):
        for end, data in (("", codes), ("_scale_inv", scales)):
            t = self.tensors[self.result][name + end]
            with open(t.path, "r+b") as file:
                file.seek(t.data_start + t.begin)
                file.write(data.tobytes())

    def step(self, name):
        """Its first code becomes a neighbour, which is not the nearest."""
        codes, scales = self.stored(name)
        codes[0, 0] += 1 if codes[0, 0] & 127 < 126 else -1
        self.store(name, codes, scales)

    def enlarge(self, name, weights, block):
        """A block's scale eight times as large, with the nearest codes."""
        codes, scales = self.stored(name)
        scales[block] += 3 << 7
        wide = (scales.astype(np.uint32) << np.uint32(16)).view(np.float32)
        codes[:] = reference.e4m3_encode(
            weights / reference.spread(wide, *weights.shape))
        self.store(name, codes, scales)

    def faults(self):
        """Of each tensor, what is told of it."""
        ran = subprocess.run([self.program, "verify", self.source, self.result,
                              "--rules", self.rules, "--json"],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert ran.returncode == 3, ran
        said = json.loads(ran.stdout)
        assert said["faults"] == len(said["fault_list"]), said
        told = {}
        for line in said["fault_list"]:
            name, what = line.removeprefix("tensor ").split(": ", 1)
            told.setdefault(name, []).append(what)
        return told


def values(random, *shape):
    return random.standard_normal(shape, dtype=np.float32)


FAR = ("scales more than 4 times off their block's largest weight / 448: 1, "
       "the first in block [1, 0]")
OTHERS = "codes that are not the nearest to weight / scale: "


def twins(program, folder):
    """Two of the same weights: one of them is never said to have the other's,
    and what is wrong with it is said."""
    w = values(np.random.default_rng(1), 256, 256)
    a, b = "m.0.down.weight", "m.1.down.weight"
    case = Case(program, folder, {a: w, b: w})
    case.enlarge(a, case.weights(a), (1, 0))
    told = case.faults()
    assert told == {a + "_scale_inv": [FAR]}, told
    # One code besides, before that.
    case.step(a)
    told = case.faults()
    place = "1 of 65536, the first at row 0, column 0, block [0, 0]"
    assert told[a] == [OTHERS + place], told
    assert len(told) == 2 and a + "_scale_inv" in told, told


def damaged(program, folder):
    """Swapped halves, with damage in a few of many blocks: of the damaged one
    it is not said that it has the other's weights."""
    random = np.random.default_rng(2)
    gate, up = "m.gate.weight", "m.up.weight"
    case = Case(program, folder, {name: values(random, 256, 4096)
                                  for name in (gate, up)})
    exchange(case.result, gate, up)
    whole = case.stored(gate)
    told = case.faults()
    assert told[gate][0].startswith(f"has the weights of {up};"), told
    assert told[up][0].startswith(f"has the weights of {gate};"), told
    assert len(told) == 2, told

    def is_told():
        told = case.faults()
        assert any(OTHERS in what for what in told[gate]), told
        assert not any("has the weights" in what for what in told[gate]), told
        assert told[up][0].startswith(f"has the weights of {gate};"), told
        return told

    # Blocks 1 to 3 are zeros; then only the last code is another.
    codes, scales = whole[0].copy(), whole[1]
    codes[:128, 128:512] = 0
    case.store(gate, codes, scales)
    is_told()
    codes = whole[0].copy()
    codes[-1, -1] ^= 0x80
    case.store(gate, codes, scales)
    is_told()
    # A scale too large, with codes that are the nearest to up's weights.
    case.store(gate, *whole)
    case.enlarge(gate, case.weights(up), (1, 0))
    far, = is_told()[gate + "_scale_inv"]
    assert far.startswith(FAR.partition(": ")[0] + ": 1,"), far


def fruitless(program, folder):
    """After eight searches in a row that find nothing there is no ninth."""
    random = np.random.default_rng(3)
    names = [f"m.{i:02}.weight" for i in range(20)]
    case = Case(program, folder, {name: values(random, 1, 128)
                                  for name in names})
    a, b = names[18:]
    exchange(case.result, a, b)
    for spoiled in range(7):
        case.step(names[spoiled])
    told = case.faults()
    assert len(told) == 9, told
    assert told[a][0].startswith(f"has the weights of {b};"), told
    assert told[b][0].startswith(f"has the weights of {a};"), told
    case.step(names[7])
    told = case.faults()
    assert len(told) == 10, told
    assert all(what[0].startswith(OTHERS) for what in told.values()), told


def budget(program, folder):
    """50,000 rows of others are read, and no more. Four searches that find
    nothing take 4 x 9,999; the fifth finds its own in the last of as many; for
    the sixth, which would, five are left."""
    random = np.random.default_rng(4)
    names = [f"m.{i:04}.weight" for i in range(10000)]
    case = Case(program, folder, {name: values(random, 1, 16)
                                  for name in names})
    a, b = names[-2:]
    exchange(case.result, a, b)
    for name in names[:4]:
        case.step(name)
    told = case.faults()
    assert len(told) == 6, told
    assert told[a][0].startswith(f"has the weights of {b};"), told
    assert told[b][0].startswith(OTHERS), told


def main():
    program, folder = sys.argv[1:]
    for case in (twins, damaged, fruitless, budget):
        case(program, os.path.join(folder, case.__name__))


if __name__ == "__main__":
    main()
