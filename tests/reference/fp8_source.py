#!/usr/bin/env python3
"""FP8 blockwise checkpoints as others write them, and what must come of them.

    fp8_source.py make VARIANT FOLDER     random codes and scales of a variant:
                                          bf16, f32, e8m0, u8, apart, tiny
    fp8_source.py check SRC DST DTYPE     DST is SRC in bf16, f16 or f32
    fp8_source.py fused ONE_BY_ONE FUSED  the same checkpoint, experts fused
    fp8_source.py shapes A B              names, dtypes and shapes agree
    fp8_source.py tensors A B             bytes too, in whatever files
    fp8_source.py break HOW FROM TO       a spoiled copy of a variant f32

Values are reckoned with numpy and the formulas of reference.py: nothing here
was taken from fp8cast. An element is float32(code) * float32(scale), as
float32, rounded to the nearest even number of the result's type.
"""

import json
import os
import re
import shutil
import sys

import numpy as np

import reference

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# Ragged in either direction, one element, one band, wider than a chunk of the
# least memory, and several blocks.
SHAPES = {"a": (128, 128), "b": (1, 1), "c": (129, 257), "d": (384, 130),
          "e": (5, 300), "f": (300, 3), "g": (130, 1100)}
SCALES = {"bf16": "BF16", "f32": "F32", "e8m0": "F8_E8M0", "u8": "U8",
          "apart": "F32", "tiny": "BF16"}


# ---- writing ----------------------------------------------------------------

def write_shard(path, tensors):
    """tensors: name -> (dtype, shape, bytes), in this order."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape),
                        "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, _, data in tensors.values():
            file.write(data)


def write(folder, shards, config):
    """shards: file name -> tensors."""
    for name, tensors in shards.items():
        write_shard(os.path.join(folder, name), tensors)
    if list(shards) != [SINGLE]:
        weights = {tensor: name for name, tensors in shards.items()
                   for tensor in tensors}
        size = sum(len(t[2]) for tensors in shards.values()
                   for t in tensors.values())
        with open(os.path.join(folder, INDEX), "w", encoding="utf-8") as file:
            json.dump({"metadata": {"total_size": size},
                       "weight_map": weights}, file)
    with open(os.path.join(folder, "config.json"), "w",
              encoding="utf-8") as file:
        file.write(config)


def read(folder):
    """name -> (dtype, shape, bytes), in reading order."""
    tensors, _ = reference.read_checkpoint(folder)
    return {t.name: (t.dtype, tuple(t.shape), t.read(0, t.end - t.begin))
            for t in tensors}


def random_scales(random, variant, shape):
    """Scales as stored: of ordinary size, but for some at the ends."""
    n = int(np.prod(shape))
    dtype = SCALES[variant]
    if dtype in ("F8_E8M0", "U8"):
        stored = random.integers(100, 130, n).astype(np.uint8)
        stored[:2] = (0, 240)[:n]  # 2^-127, a subnormal, and 2^113
        return stored.tobytes()
    wide = np.exp2(random.uniform(-14, -4, n)).astype(np.float32)
    if variant == "tiny":  # all results fit into F16, many as subnormals
        wide = np.exp2(random.uniform(-26, 6, n)).astype(np.float32)
    else:
        wide[:3] = np.array([2.0 ** -130, 2.0 ** 110, 1.0], np.float32)[:n]
    if dtype == "F32":
        return wide.tobytes()
    return (wide.view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes()


def random_codes(random, n):
    codes = random.integers(0, 256, n).astype(np.uint8)
    codes[codes & 0x7F == 0x7F] = 0x7E
    return codes.tobytes()


def make(variant, folder):
    random = np.random.default_rng(sum(variant.encode()))
    tensors, scales = {}, {}
    for name, shape in SHAPES.items():
        blocks = tuple(-(-n // 128) for n in shape)
        # Scales before and behind their weights: both are seen.
        scale = (SCALES[variant], blocks,
                 random_scales(random, variant, blocks))
        into = scales if variant == "apart" else tensors
        if name in "bd":
            into[f"m.{name}.weight_scale_inv"] = scale
        tensors[f"m.{name}.weight"] = (
            "F8_E4M3", shape, random_codes(random, shape[0] * shape[1]))
        into[f"m.{name}.weight_scale_inv"] = scale
    # As some write experts: fused, with fused scales.
    tensors["m.experts.up"] = ("F8_E4M3", (3, 130, 200),
                               random_codes(random, 3 * 130 * 200))
    tensors["m.experts.up_scale_inv"] = (
        SCALES[variant], (3, 2, 2), random_scales(random, variant, (3, 2, 2)))
    tensors["m.norm.weight"] = ("BF16", (77,), random.bytes(154))
    tensors["m.bias"] = ("F32", (9,), random.bytes(36))
    tensors["m.steps"] = ("I64", (), random.bytes(8))
    quantization = {"quant_method": "fp8", "activation_scheme": "dynamic",
                    "weight_block_size": [128, 128]}
    if variant == "u8":
        quantization["scale_fmt"] = "ue8m0"
    config = json.dumps({"quantization_config": quantization, "rope": 1e-06,
                         "model_type": "anything"}, indent=2) + "\n"
    os.makedirs(folder)
    shards = {SINGLE: tensors}
    if variant == "apart":
        names = list(tensors)
        shards = {"one.safetensors": {k: tensors[k] for k in names[::2]},
                  "two.safetensors": scales,
                  "zero.safetensors": {k: tensors[k] for k in names[1::2]}}
    write(folder, shards, config)
    with open(os.path.join(folder, "tokenizer.json"), "wb") as file:
        file.write(b'{"a": 1}\n')


# ---- checking ---------------------------------------------------------------

def scale_values(dtype, data):
    if dtype == "BF16":
        return reference.to_float32(data, "BF16")
    if dtype == "F32":
        return np.frombuffer(data, "<f4")
    return np.ldexp(1.0, np.frombuffer(data, np.uint8).astype(int) -
                    127).astype(np.float32)


def restored(weight, scale, dtype):
    """The bytes of a weight of two or three dimensions."""
    shape = weight[1]
    codes = np.frombuffer(weight[2], np.uint8).reshape((-1,) + shape[-2:])
    scales = scale_values(scale[0], scale[2]).reshape((-1,) + scale[1][-2:])
    values = np.stack([reference.dequantize_matrix(c, s)
                       for c, s in zip(codes, scales)])
    assert values.dtype == np.float32 and np.isfinite(values).all()
    if dtype == "f32":
        return values.astype("<f4").tobytes()
    if dtype == "f16":
        with np.errstate(over="raise"):
            return values.astype("<f2").tobytes()
    bits = reference.round_to_bf16(np.abs(values).ravel())
    signs = (np.signbit(values).ravel().astype(np.uint16) << np.uint16(15))
    return (bits | signs).astype("<u2").tobytes()


def expected(src, dtype):
    tensors = read(src)
    out = {}
    for name, tensor in tensors.items():
        if name.endswith("_scale_inv"):
            continue
        if tensor[0] == "F8_E4M3":
            tensor = (dtype.upper(), tensor[1],
                      restored(tensor, tensors[name + "_scale_inv"], dtype))
        out[name] = tensor
    return out


def differences(a, b):
    """Lines that say how two sets of tensors differ."""
    for name in sorted(set(a) ^ set(b)):
        yield f"{name}: in one only"
    for name in sorted(set(a) & set(b)):
        if a[name][:2] != b[name][:2]:
            yield f"{name}: {a[name][:2]} and {b[name][:2]}"
        elif a[name][2] != b[name][2]:
            x, y = (np.frombuffer(t[name][2], np.uint8) for t in (a, b))
            yield (f"{name}: {np.count_nonzero(x != y)} bytes differ, the "
                   f"first at {np.flatnonzero(x != y)[0]}")


def check_config(src, dst):
    with open(os.path.join(src, "config.json"), encoding="utf-8") as file:
        before = json.load(file)
    with open(os.path.join(dst, "config.json"), encoding="utf-8") as file:
        after = json.load(file)
    before.pop("quantization_config")
    if list(before.items()) != list(after.items()):
        yield "config.json: more than quantization_config has gone"


def check_sides(src, dst):
    for folder, _, names in os.walk(src):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), src)
            if (path.startswith(".fp8cast") or path in ("config.json", INDEX)
                    or path.endswith(".safetensors")):
                continue
            with open(os.path.join(src, path), "rb") as file:
                data = file.read()
            with open(os.path.join(dst, path), "rb") as file:
                if file.read() != data:
                    yield f"{path}: differs"


def check(src, dst, dtype):
    yield from differences(expected(src, dtype), read(dst))
    yield from check_config(src, dst)
    yield from check_sides(src, dst)


PARTS = {"gate_proj": ("gate_up_proj", 0), "up_proj": ("gate_up_proj", 1),
         "down_proj": ("down_proj", 0)}


def fused(one_by_one, folder):
    """Stacks experts by hand and compares."""
    matrices, out = {}, {}
    for name, tensor in read(one_by_one).items():
        found = re.fullmatch(
            r"(.*\.experts\.)(\d+)\.(gate|up|down)_proj\.weight", name)
        if not found:
            out[name] = tensor
            continue
        tail, part = PARTS[found[3] + "_proj"]
        matrices.setdefault(found[1] + tail, {})[int(found[2]), part] = tensor
    for name, parts in matrices.items():
        dtype, (rows, cols), _ = parts[0, 0]
        experts = 1 + max(e for e, _ in parts)
        per = len(parts) // experts
        out[name] = (dtype, (experts, per * rows, cols),
                     b"".join(parts[key][2] for key in sorted(parts)))
    yield from differences(out, read(folder))


def tensors(a, b):
    yield from differences(read(a), read(b))


def shapes(a, b):
    a, b = ({k: t[:2] + (b"",) for k, t in read(x).items()} for x in (a, b))
    yield from differences(a, b)


# ---- spoiling ---------------------------------------------------------------

def first_number(value):
    def change(t):
        t["m.a.weight_scale_inv"] = (
            "F32", (1, 1), np.array([value], "<f4").tobytes())
    return change


def code(value):
    def change(t):
        dtype, shape, data = t["m.c.weight"]
        data = bytearray(data)
        data[128 * 257 + 200] = value
        t["m.c.weight"] = (dtype, shape, bytes(data))
    return change


def expert_scale(t):
    dtype, shape, data = t["m.experts.up_scale_inv"]
    numbers = np.frombuffer(data, "<f4").copy()
    numbers[4 + 3] = -2  # expert 1, block [1, 1]
    t["m.experts.up_scale_inv"] = (dtype, shape, numbers.tobytes())


def reshaped(t):
    t["m.c.weight_scale_inv"] = ("F32", (3, 2), t["m.c.weight_scale_inv"][2])


def renamed(t):
    t["m.a.weight_scale"] = t.pop("m.a.weight_scale_inv")


BREAKS = {
    "no-scale": lambda t: t.pop("m.a.weight_scale_inv"),
    "no-weight": lambda t: t.pop("m.a.weight"),
    "renamed": renamed,
    "scale-shape": reshaped,
    "scale-dtype": lambda t: t.update({"m.b.weight_scale_inv": (
        "F16", (1, 1), b"\0\x3c")}),
    "scale-nan": first_number(np.nan),
    "scale-inf": first_number(np.inf),
    "scale-negative": first_number(-0.5),
    "scale-minus-zero": first_number(-0.0),
    "scale-zero": first_number(0),
    "scale-large": first_number(3e38),
    "code-nan": code(0x7F),
    "code-minus-nan": code(0xFF),
    "expert-scale": expert_scale,
    "vector": lambda t: t.update({"m.v": ("F8_E4M3", (4,), b"\0" * 4)}),
}
CONFIGS = {
    "per-tensor": {"quant_method": "fp8", "activation_scheme": "static"},
    "gptq": {"quant_method": "gptq", "bits": 4},
    "mxfp4": {"quant_method": "mxfp4"},
    "compressed": {"quant_method": "compressed-tensors",
                   "format": "float-quantized"},
    "blocks": {"quant_method": "fp8", "weight_block_size": [64, 64]},
    "plain": None,
}


def spoil(how, folder):
    config_path = os.path.join(folder, "config.json")
    with open(config_path, encoding="utf-8") as file:
        config = json.load(file)
    tensors = read(folder)
    if how in CONFIGS:
        config["quantization_config"] = CONFIGS[how]
        if not CONFIGS[how]:
            del config["quantization_config"]
    else:
        BREAKS[how](tensors)
    write(folder, {SINGLE: tensors}, json.dumps(config))


def main():
    command, *words = sys.argv[1:]
    if command == "make":
        make(*words)
        return 0
    if command == "break":
        shutil.copytree(words[1], words[2])
        spoil(words[0], words[2])
        return 0
    lines = list({"check": check, "fused": fused,
                  "shapes": shapes, "tensors": tensors}[command](*words))
    for line in lines[:20]:
        print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
