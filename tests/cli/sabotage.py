#!/usr/bin/env python3
"""Changes a result checkpoint in one way.

    sabotage.py FOLDER OPERATION ARGUMENT...

The operations are the functions below; their docstrings name the arguments.
Shards and index are rewritten so that they agree, whatever was done: only
what an operation says is wrong afterwards.
"""

import json
import os
import struct
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "reference"))
import reference  # noqa: E402  (needs the path)

INDEX = "model.safetensors.index.json"
SCALE = "_scale_inv"


class Tensor:
    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self.data = dtype, shape, bytearray(data)


class Checkpoint:
    def __init__(self, folder):
        self.folder = folder
        self.shards = {}  # file to {name: Tensor}
        for file in sorted(os.listdir(folder)):
            if file.endswith(".safetensors"):
                found = reference.read_shard(os.path.join(folder, file))
                self.shards[file] = {t.name: Tensor(t.dtype, t.shape, t.read())
                                     for t in found}
        with open(os.path.join(folder, "config.json"), "rb") as file:
            self.config = json.load(file)
        self.quantization = self.config["quantization_config"]
        self.size_error = 0
        self.metadata = {"format": "pt"}
        self.spared = None  # a shard that keeps "pt"
        self.not_indexed = set()  # files
        self.meant = {}  # of a tensor in two shards, the index's

    def home(self, name):
        return next(file for file, held in self.shards.items() if name in held)

    def __getitem__(self, name):
        return self.shards[self.home(name)][name]

    def drop_weight(self, name):
        for file in (self.home(name), self.home(name + SCALE)):
            self.shards[file].pop(name, None)
            self.shards[file].pop(name + SCALE, None)

    def write(self):
        weight_map, size = dict(self.meant), self.size_error
        for file, held in self.shards.items():
            metadata = {"format": "pt"} if file == self.spared \
                else self.metadata
            header = {} if metadata is None else {"__metadata__": metadata}
            position = 0
            for name, t in held.items():
                end = position + len(t.data)
                header[name] = {"dtype": t.dtype, "shape": t.shape,
                                "data_offsets": [position, end]}
                position = end
                if file not in self.not_indexed:
                    weight_map.setdefault(name, file)
            size += 0 if file in self.not_indexed else position
            text = json.dumps(header).encode()
            with open(os.path.join(self.folder, file), "wb") as out:
                out.write(struct.pack("<Q", len(text)) + text)
                for t in held.values():
                    out.write(t.data)
        if len(self.shards) > 1:
            with open(os.path.join(self.folder, INDEX), "w",
                      encoding="utf-8") as out:
                json.dump({"metadata": {"total_size": size},
                           "weight_map": weight_map}, out)
        with open(os.path.join(self.folder, "config.json"), "w",
                  encoding="utf-8") as out:
            json.dump(self.config, out, indent=2)


class Operations:
    def nothing(c):
        """(rewritten, but the same)"""

    def code_step(c, name, element):
        """NAME ELEMENT: to the next code, away from zero if there is one"""
        code = c[name].data[int(element)]
        c[name].data[int(element)] = code + (1 if code & 127 < 126 else -1)

    def byte(c, name, at, value):
        """NAME BYTE VALUE"""
        assert c[name].data[int(at)] != int(value)
        c[name].data[int(at)] = int(value)

    def flip(c, name, at):
        """NAME BYTE: its lowest bit"""
        c[name].data[int(at)] ^= 1

    def scale(c, name, block, bits):
        """NAME BLOCK BITS: a BF16 scale, as a hexadecimal number"""
        struct.pack_into("<H", c[name + SCALE].data, 2 * int(block),
                         int(bits, 16))

    def scale_all(c, bits):
        """BITS: every scale, in its dtype, as a hexadecimal number"""
        one = bytes.fromhex(bits)[::-1]
        for held in c.shards.values():
            for name, t in held.items():
                if name.endswith(SCALE):
                    t.data[:] = one * (len(t.data) // len(one))

    def scale_step(c, name, block):
        """NAME BLOCK: to the next BF16, so that codes no longer fit"""
        at = 2 * int(block)
        old, = struct.unpack_from("<H", c[name + SCALE].data, at)
        struct.pack_into("<H", c[name + SCALE].data, at, old + 1)

    def fill(c, ending, value):
        """ENDING VALUE: every byte of what is called so at its end and has a
        scale, or is one"""
        found = [t for held in c.shards.values() for name, t in held.items()
                 if name.endswith(ending) and (name.endswith(SCALE) or
                                               t.dtype == "F8_E4M3")]
        assert found
        for t in found:
            t.data[:] = bytes([int(value)]) * len(t.data)

    def drop(c, name):
        """NAME"""
        del c.shards[c.home(name)][name]

    def add(c, name, like):
        """NAME LIKE: one more"""
        c.shards[c.home(like)][name] = c[like]

    def rename(c, old, new):
        """OLD NEW"""
        file = c.home(old)
        c.shards[file] = {new if name == old else name: t
                          for name, t in c.shards[file].items()}

    def rename_all(c, old, new):
        """OLD NEW: endings of names"""
        for file, held in c.shards.items():
            c.shards[file] = {
                name[:-len(old)] + new if name.endswith(old) else name: t
                for name, t in held.items()}

    def twice(c, name, meant="first"):
        """NAME [first|last]: zeros of that name in the other shard that lies
        farthest; the index means the first or the last of the two"""
        home, original = c.home(name), c[name]
        files = list(c.shards)
        other = files[0] if home == files[-1] else files[-1]
        c.shards[other][name] = Tensor(original.dtype, original.shape,
                                       bytes(len(original.data)))
        c.meant[name] = sorted((home, other))[0 if meant == "first" else -1]

    def move(c, name):
        """NAME: into another shard"""
        file = c.home(name)
        other = next(f for f in c.shards if f != file)
        c.shards[other][name] = c.shards[file].pop(name)

    def reshape(c, name, *shape):
        """NAME DIMENSION...: of the same size"""
        shape = [int(dim) for dim in shape]
        assert reference.elements(shape) == reference.elements(c[name].shape)
        c[name].shape = shape

    def reduce_scale(c, name):
        """NAME: one scale for all instead of one a block"""
        c[name + SCALE].data = c[name + SCALE].data[:2]
        c[name + SCALE].shape = [1]

    def retype(c, name, dtype, elem_bytes):
        """NAME DTYPE BYTES: zeros of another type, that many an element"""
        t = c[name]
        assert t.dtype != dtype
        t.dtype = dtype
        t.data = bytearray(reference.elements(t.shape) * int(elem_bytes))

    def call_scales(c, dtype):
        """DTYPE: so all scales are called, whose bytes stay as they are"""
        for held in c.shards.values():
            for name, t in held.items():
                if name.endswith(SCALE):
                    t.dtype = dtype

    def swap(c, a, b):
        """A B: two weights with their scales"""
        for end in ("", SCALE):
            x, y = c[a + end], c[b + end]
            x.data, y.data = y.data, x.data

    def to_fp8(c, name):
        """NAME: quantises a BF16 matrix that was kept"""
        t = c[name]
        w = reference.to_float32(bytes(t.data), "BF16").reshape(t.shape)
        codes, scales = reference.quantize_matrix(w, "bf16")
        held = c.shards[c.home(name)]
        held[name] = Tensor("F8_E4M3", t.shape, codes.tobytes())
        held[name + SCALE] = Tensor("BF16", list(scales.shape),
                                    scales.tobytes())

    def to_bf16(c, name, source):
        """NAME SOURCE: as it was"""
        held = c.shards[c.home(name)]
        original, = [t for t in reference.read_checkpoint(source)[0]
                     if t.name == name]
        held[name] = Tensor("BF16", original.shape, original.read())
        del held[name + SCALE]

    def leave_fused(c, name, source, fp8=None):
        """NAME SOURCE [fp8]: the source's experts, not taken apart"""
        original, = [t for t in reference.read_checkpoint(source)[0]
                     if t.name == name]
        parent, leaf = name.rsplit(".", 1)
        parts = {"gate_up_proj": ("gate_proj", "up_proj"),
                 "down_proj": ("down_proj",)}[leaf]
        apart = [f"{parent}.{e}.{part}.weight"
                 for e in range(original.shape[0]) for part in parts]
        found = [(c[weight], c[weight + SCALE]) for weight in apart]
        held = c.shards[c.home(apart[0])]
        for weight in apart:
            c.drop_weight(weight)
        held[name] = Tensor("BF16", original.shape, original.read())
        if fp8:
            rows, cols = found[0][1].shape
            held[name] = Tensor("F8_E4M3", original.shape, b"".join(
                weight.data for weight, _ in found))
            held[name + SCALE] = Tensor(
                "BF16", [original.shape[0], len(parts) * rows, cols],
                b"".join(scale.data for _, scale in found))

    def to_f32(c, name):
        """NAME: a kept BF16 tensor, exactly, in another type"""
        t = c[name]
        values = reference.to_float32(bytes(t.data), "BF16")
        t.dtype, t.data = "F32", bytearray(values.tobytes())

    def outside_index(c, name):
        """NAME: the index names no tensor of its shard"""
        c.not_indexed.add(c.home(name))

    def total_size(c, error):
        """ERROR: so much too large"""
        c.size_error = int(error)

    def metadata(c, value, spared=None):
        """JSON [FILE]: __metadata__ of all shards, but of FILE; null: none"""
        c.metadata, c.spared = json.loads(value), spared

    def unlist(c, *modules):
        """MODULE...: no longer in modules_to_not_convert"""
        for module in modules:
            c.quantization["modules_to_not_convert"].remove(module)

    def list_too(c, module):
        """MODULE: in modules_to_not_convert"""
        c.quantization["modules_to_not_convert"].append(module)

    def list_as_ignored_layers(c):
        """(vLLM's other name for modules_to_not_convert)"""
        c.quantization["ignored_layers"] = c.quantization.pop(
            "modules_to_not_convert")

    def unset(c, key):
        """KEY: of quantization_config, or quantization_config itself"""
        if key == "quantization_config":
            del c.config[key]
        else:
            del c.quantization[key]

    def set(c, key, value):
        """KEY JSON: of quantization_config"""
        c.quantization[key] = json.loads(value)

    def set_config(c, key, value):
        """KEY JSON: of config.json"""
        c.config[key] = json.loads(value)

    def unset_config(c, key):
        """KEY: of config.json"""
        del c.config[key]

    def set_text_config(c, key, value):
        """KEY JSON: of text_config"""
        c.config["text_config"][key] = json.loads(value)


def main():
    folder, operation, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
    checkpoint = Checkpoint(folder)
    getattr(Operations, operation.replace("-", "_"))(checkpoint, *arguments)
    checkpoint.write()


if __name__ == "__main__":
    main()
