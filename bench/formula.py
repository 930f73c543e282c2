#!/usr/bin/env python3
"""The straightforward formula, as one would write it in numpy or PyTorch, on
tensors of a checkpoint: for comparison with fp8cast's kernels.

    formula.py LIBRARY FOLDER MIB ROUNDS

LIBRARY is numpy or torch. Prints one JSON object: what was used, how many
bytes of BF16, gigabytes of them a second in every round, arithmetic only (the
weights lie in memory), with one thread and, for torch, with all. Exit status
3: this Python does not have the library.
"""

import json
import os
import struct
import sys
import time

BLOCK = 128


def matrices(folder, most_bytes):
    """BF16 matrices of whole blocks, as bytes with their rows and columns;
    stacked experts are taken one by one."""
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".safetensors"):
            continue
        with open(os.path.join(folder, name), "rb") as file:
            length, = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
            for tensor, entry in header.items():
                if (tensor == "__metadata__" or entry["dtype"] != "BF16"
                        or "embed" in tensor or "lm_head" in tensor):
                    continue
                *stack, rows, cols = [1, 1, *entry["shape"]]
                if rows % BLOCK or cols % BLOCK:
                    continue
                count = 1
                for n in stack:
                    count *= n
                file.seek(8 + length + entry["data_offsets"][0])
                for _ in range(count):
                    size = rows * cols * 2
                    if most_bytes < size:
                        return
                    most_bytes -= size
                    yield bytearray(file.read(size)), rows, cols


def numpy_formula(np):
    def quantise(data, rows, cols):
        bits = np.frombuffer(data, "<u2").astype(np.uint32) << 16
        w = bits.view(np.float32)
        blocks = w.reshape(rows // BLOCK, BLOCK, cols // BLOCK, BLOCK)
        amax = np.abs(blocks).max(axis=(1, 3), keepdims=True)
        scale = np.where(amax > 0, amax / np.float32(448), np.float32(1))
        scale = scale.astype(np.float32).view(np.uint32)
        scale = (scale + 0x7fff + (scale >> 16 & 1)) & 0xffff0000
        x = blocks / scale.astype(np.uint32).view(np.float32)
        x = np.clip(x, -448, 448).astype(np.float32)
        # numpy has no e4m3: a mantissa of three bits, to nearest even, below
        # 2^-6 in steps of 2^-9.
        u = x.view(np.uint32)
        a = u & 0x7fffffff
        normal = ((a + 0x7ffff + (a >> 20 & 1)) >> 20) - (120 << 3)
        small = np.rint(np.abs(x) * 512).astype(np.uint32)
        code = np.where(a < 0x3c800000, small, normal) | u >> 24 & 0x80
        return code.astype(np.uint8), scale
    return quantise


def torch_formula(torch):
    def quantise(data, rows, cols):
        w = torch.frombuffer(data, dtype=torch.bfloat16).float()
        blocks = w.view(rows // BLOCK, BLOCK, cols // BLOCK, BLOCK)
        amax = blocks.abs().amax(dim=(1, 3), keepdim=True)
        scale = torch.where(amax > 0, amax / 448, torch.ones_like(amax))
        scale = scale.bfloat16()
        x = (blocks / scale.float()).clamp(-448, 448)
        return x.to(torch.float8_e4m3fn), scale
    return quantise


def measure(quantise, work, size, rounds):
    quantise(*work[0])
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        for item in work:
            quantise(*item)
        rates.append(round(size / (time.perf_counter() - start) / 1e9, 4))
    return rates


def main():
    library, folder, mib, rounds = sys.argv[1:5]
    try:
        module = __import__(library)
        quantise = {"numpy": numpy_formula, "torch": torch_formula}[library](
            module)
        if library == "torch":
            module.float8_e4m3fn
    except (ImportError, AttributeError):
        sys.exit(3)
    work = list(matrices(folder, int(mib) << 20))
    size = sum(len(data) for data, _, _ in work)
    found = {"library": library, "version": module.__version__,
             "bytes": size, "gbs": {}}
    counts = [1]
    if library == "torch":
        counts = sorted({1, len(os.sched_getaffinity(0))})
    for threads in counts:
        if library == "torch":
            module.set_num_threads(threads)
        found["gbs"][str(threads)] = measure(quantise, work, size, int(rounds))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
