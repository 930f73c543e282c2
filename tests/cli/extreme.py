#!/usr/bin/env python3
"""Checkpoints that are right, but at the limits of docs/format.md.

    extreme.py wide OUT    300,000 tensors in 64 shards, index of 30 MB
    extreme.py odd OUT     one shard whose header has everything that is rare

With each comes OUT/my.rules, by which it can be converted. And some of a few
tensors that stand for too many matrices:

    extreme.py fused OUT   OUT/a has eight fused tensors of 65,536 experts, OUT/b
                           one expert of each
    extreme.py stacked OUT OUT/a.safetensors, b.safetensors: 16 FP8 weights of
                           65,536 experts and their scales
"""

import json
import os
import struct
import sys

INDEX = "model.safetensors.index.json"
WIDE = 300_000
SHARDS = 64


def write(path, *pieces):
    with open(path, "wb") as file:
        for piece in pieces:
            file.write(piece)


def write_shard(path, header, data):
    write(path, struct.pack("<Q", len(header)), header, data)


def entry(dtype, shape, begin, end):
    return ('{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}'
            % (dtype, json.dumps(shape), begin, end))


def wide(out):
    """As the FP8 form of a model of 2.4 T parameters has them: 92 layers,
    512 experts, three weights with a scale each. Of one element each."""
    kinds = ["gate_proj", "up_proj", "down_proj"]
    names = [f"model.language_model.layers.{i // 3072}.mlp.experts."
             f"{i % 3072 // 6}.{kinds[i % 6 // 2]}.weight"
             + ("_scale_inv" if i % 2 else "") for i in range(WIDE)]
    per = -(-WIDE // SHARDS)
    weight_map = {}
    for s in range(SHARDS):
        part = names[s * per:(s + 1) * per]
        file = f"model-{s + 1:05}-of-{SHARDS:05}.safetensors"
        header = '{"__metadata__":{"format":"pt"},' + ",".join(
            f'"{name}":' + entry("BF16", [1], 2 * i, 2 * i + 2)
            for i, name in enumerate(part)) + "}"
        write_shard(os.path.join(out, file), header.encode(),
                    b"\x80\x3f" * len(part))
        weight_map.update(dict.fromkeys(part, file))
    write(os.path.join(out, INDEX), json.dumps(
        {"metadata": {"total_size": 2 * WIDE}, "weight_map": weight_map},
        indent=2).encode())
    write(os.path.join(out, "config.json"), b'{"model_type": "wide"}')
    write(os.path.join(out, "my.rules"),
          b"family wide\nkeep model.language_model.layers.{n}.mlp.experts.*\n")


def odd(out):
    long_name = "n" * 511 + "x"
    tensors = [  # name as JSON text, dtype, shape, bytes
        ('"scalar"', "F64", [], 8),
        ('"rank.8"', "I16", [1, 2, 1, 3, 1, 2, 1, 1], 24),
        ('"empty.first"', "F32", [0], 0),
        ('"empty.wide"', "F32", [0, (1 << 63) - 1], 0),
        ('"' + long_name + '"', "U8", [3], 3),
        ('"\\ud83d\\ude00\\u00e9\\/\\"\\\\"', "U8", [1], 1),
        ('"../../etc/passwd"', "BOOL", [1], 1),
        ('""', "F8_E5M2", [1], 1),
        ('"\\u001b[31m\\r\\n"', "U8", [1], 1),
        ('"q.weight"', "BF16", [129, 1], 258),
        ('"empty.last"', "U64", [3, 0, 2], 0),
    ]
    members, begin = [], 0
    for name, dtype, shape, size in tensors:
        members.append(name + " :\t" + entry(dtype, shape, begin, begin + size))
        begin += size
    # In the header in the other order, with metadata of 4 MB.
    note = json.dumps({"format": "pt", "note": "x" * 4_000_000})
    header = (" \r\n\t{" + ",\n".join(members[::-1]) +
              ',"__metadata__":' + note + "}" + " " * 100_000)
    write_shard(os.path.join(out, "model.safetensors"), header.encode(),
                b"\x3c" * begin)
    # Nested as deeply as may be.
    write(os.path.join(out, "config.json"),
          b'{"model_type": "odd", "x": ' + b"[" * 62 + b"]" * 62 + b"}\n")
    write(os.path.join(out, "my.rules"),
          b"family odd\nkeep *\nquantize q.weight\n")


def write_holes(path, tensors):
    """Tensors of zeros, (name, dtype, shape, bytes), that take no space."""
    members, begin = [], 0
    for name, dtype, shape, size in tensors:
        members.append(f'"{name}":' + entry(dtype, shape, begin, begin + size))
        begin += size
    header = ("{" + ",".join(members) + "}").encode()
    write_shard(path, header, b"")
    os.truncate(path, 8 + len(header) + begin)


def fused(out):
    experts = 1 << 16
    for side in "ab":
        os.makedirs(os.path.join(out, side))
        write(os.path.join(out, side, "config.json"),
              b'{"model_type": "qwen3_5_moe"}')
    layer = "model.language_model.layers.{}.mlp.experts."
    write_holes(os.path.join(out, "a", "model.safetensors"),
                [(layer.format(i) + "gate_up_proj", "BF16", [experts, 2, 1],
                  4 * experts) for i in range(8)])
    write_holes(os.path.join(out, "b", "model.safetensors"),
                [(layer.format(i) + "0.gate_proj.weight", "BF16", [1, 1], 2)
                 for i in range(8)])


def stacked(out):
    experts = 1 << 16
    tensors = []
    for i in range(16):
        tensors += [(f"{i}", "F8_E4M3", [experts, 1, 1], experts),
                    (f"{i}_scale_inv", "F32", [experts, 1, 1], 4 * experts)]
    for side in "ab":
        write_holes(os.path.join(out, side + ".safetensors"), tensors)


def main():
    kinds = {"wide": wide, "odd": odd, "fused": fused, "stacked": stacked}
    if len(sys.argv) != 3 or sys.argv[1] not in kinds:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    os.makedirs(sys.argv[2], exist_ok=True)
    kinds[sys.argv[1]](sys.argv[2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
