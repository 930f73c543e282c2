#!/usr/bin/env python3
"""Changes a checkpoint, quantised or not, in one way.

    alter.py FOLDER OPERATION ARGUMENT...

The operations are the functions below; their docstrings name the arguments.
Shards and index are rewritten so that they agree.
"""

import json
import os
import struct
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "reference"))
import numpy as np  # noqa: E402  (needs the path)
import reference  # noqa: E402

INDEX = "model.safetensors.index.json"


class Tensor:
    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self.data = dtype, shape, bytearray(data)


def load(folder):
    """Name to tensor, and file to names."""
    tensors, homes = {}, {}
    for file in sorted(os.listdir(folder)):
        if file.endswith(".safetensors"):
            for t in reference.read_shard(os.path.join(folder, file)):
                tensors[t.name] = Tensor(t.dtype, t.shape, t.read())
                homes.setdefault(file, []).append(t.name)
            os.remove(os.path.join(folder, file))
    return tensors, homes


def write(folder, tensors, homes, metadata):
    weight_map, size = {}, 0
    for file, names in homes.items():
        header, position = {"__metadata__": metadata}, 0
        for name in names:
            t = tensors[name]
            header[name] = {"dtype": t.dtype, "shape": t.shape,
                            "data_offsets": [position,
                                             position + len(t.data)]}
            position += len(t.data)
            weight_map[name] = file
        size += position
        text = json.dumps(header).encode()
        with open(os.path.join(folder, file), "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for name in names:
                out.write(tensors[name].data)
    with open(os.path.join(folder, INDEX), "w", encoding="utf-8") as out:
        json.dump({"metadata": {"total_size": size},
                   "weight_map": weight_map}, out)


class Operations:
    def reshard(tensors, homes, count):
        """COUNT: other files, other order, other metadata"""
        names = sorted(tensors, reverse=True)
        homes.clear()
        for i in range(int(count)):
            homes[f"part-{i}.safetensors"] = names[i::int(count)]

    def byte(tensors, homes, name, at, value):
        """NAME BYTE VALUE"""
        tensors[name].data[int(at)] = int(value)

    def flip(tensors, homes, name, at):
        """NAME BYTE: its lowest bit"""
        tensors[name].data[int(at)] ^= 1

    def rename(tensors, homes, name, new):
        """NAME NEW"""
        tensors[new] = tensors.pop(name)
        for names in homes.values():
            if name in names:
                names[names.index(name)] = new

    def remove(tensors, homes, name):
        """NAME"""
        del tensors[name]
        for names in homes.values():
            if name in names:
                names.remove(name)

    def cast(tensors, homes, name, dtype):
        """NAME DTYPE: F32 or F64"""
        t = tensors[name]
        wide = reference.to_float32(t.data, t.dtype)
        t.data = bytearray(wide.astype({"F32": "<f4",
                                        "F64": "<f8"}[dtype]).tobytes())
        t.dtype = dtype

    def relabel(tensors, homes, name, dtype):
        """NAME DTYPE: the same bytes called otherwise"""
        tensors[name].dtype = dtype

    def reshape(tensors, homes, name, *shape):
        """NAME LENGTH...: the same elements"""
        tensors[name].shape = [int(n) for n in shape]

    def fuse(tensors, homes, name, experts, *parts):
        """NAME EXPERTS PART...: matrices into one tensor, scales too. Of
        parts that end within a block the last scales are left out."""
        parent = name[:name.rindex(".") + 1]
        for end in ("", reference.SCALE_SUFFIX):
            single = [f"{parent}{e}.{part}.weight{end}"
                      for e in range(int(experts)) for part in parts]
            if single[0] not in tensors:
                continue
            first = tensors[single[0]]
            rows, cols = first.shape
            if not end:
                height = len(parts) * rows
            else:
                height = -(-height // reference.BLOCK)
            data = np.frombuffer(
                b"".join(bytes(tensors[one].data) for one in single), np.uint8)
            data = data.reshape(int(experts), len(parts) * rows, -1)
            data = data[:, :height].tobytes()
            shape = [int(experts), height, cols]
            for one in single:
                Operations.remove(tensors, homes, one)
            tensors[name + end] = Tensor(first.dtype, shape, data)
            next(iter(homes.values())).append(name + end)


def main():
    folder, operation, *rest = sys.argv[1:]
    tensors, homes = load(folder)
    getattr(Operations, operation.replace("-", "_"))(tensors, homes, *rest)
    metadata = {"format": "pt"}
    if operation == "reshard":
        metadata["made_by"] = "alter.py"
    write(folder, tensors, homes, metadata)
    return 0


if __name__ == "__main__":
    sys.exit(main())
