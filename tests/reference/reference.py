#!/usr/bin/env python3
"""A second implementation of docs/format.md, to hold the C one against.

It is written from the contract, not from the C code, and takes other roads
where it can: e4m3 codes are searched in a sorted table of values instead of
computed from bits, patterns become regular expressions, whole shards lie in
memory. It is slow and simple on purpose. Needs Python 3.9 and numpy.

    reference.py convert SRC DST [options]   writes the result checkpoint
    reference.py compare A B                 byte by byte; exit 1 if they differ
    reference.py stats SRC DST               round-trip error, as JSON
"""

import argparse
import json
import math
import os
import re
import shutil
import sys

import numpy as np

from scales import best_scale, bf16_value, finite, power_of_two

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
RULES_FOLDER = os.path.join(ROOT, "rules")

BLOCK = 128
SHARD_BYTES = 5_000_000_000
HEADER_LIMIT = 25_000_000
HEADER_BYTES_PER_TENSOR = 128  # beside its name, as section 4 reckons
SOURCE_HEADER_LIMIT = 100_000_000
SCALE_SUFFIX = "_scale_inv"

ELEMENT_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4,
    "I64": 8, "U64": 8, "F64": 8,
}

SCALE_DTYPES = {"bf16": "BF16", "f32": "F32", "ue8m0": "F8_E8M0"}

LEFT_FOLDERS = {".git", ".cache", ".fp8cast"}
LEFT_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl",
                ".pickle", ".h5", ".msgpack", ".gguf", ".onnx", ".index.json")
LEFT_FILES = {"quant_model_description.json"}


class Refused(Exception):
    """The contract does not allow this conversion; the text says why."""


def require(condition, message):
    if not condition:
        raise Refused(message)


# ---- arithmetic: section 3 --------------------------------------------------

def e4m3_value(code):
    """Value of one non-negative e4m3fn code, exactly, as a Python float."""
    exponent, mantissa = divmod(code, 8)
    if exponent == 0:
        return math.ldexp(mantissa, -9)
    return math.ldexp(8 + mantissa, exponent - 10)


# Codes 0 to 126 in ascending order of value; 127 is NaN. A midpoint of two
# neighbours has five significant bits, so binary64 holds it exactly.
E4M3_VALUES = np.array([e4m3_value(code) for code in range(127)])
E4M3_MIDPOINTS = (E4M3_VALUES[:-1] + E4M3_VALUES[1:]) / 2
E4M3_DECODE = np.concatenate(
    [E4M3_VALUES, [np.nan], -E4M3_VALUES, [np.nan]]).astype(np.float32)


def e4m3_encode(q):
    """Nearest code of each finite float32, ties to the even code."""
    magnitude = np.minimum(np.abs(q.astype(np.float64)), 448.0)
    code = np.searchsorted(E4M3_MIDPOINTS, magnitude, side="left")
    # At index k the magnitude is at most midpoint k; where it is equal to it,
    # code k and code k + 1 are equally near and the even one wins.
    nearest_midpoint = E4M3_MIDPOINTS[np.minimum(code, 125)]
    tie = (code < 126) & (magnitude == nearest_midpoint)
    code = code + (tie & (code % 2 == 1))
    return (code + 128 * np.signbit(q)).astype(np.uint8)


def to_float32(raw, dtype):
    """Weights as float32, exactly. `raw` is a bytes-like object."""
    if dtype == "BF16":
        bits = np.frombuffer(raw, "<u2").astype(np.uint32) << np.uint32(16)
        return bits.view(np.float32)
    if dtype == "F16":
        return np.frombuffer(raw, "<f2").astype(np.float32)
    if dtype == "F32":
        return np.frombuffer(raw, "<f4").astype(np.float32)
    raise Refused(f"dtype {dtype} cannot be quantised")


def round_to_bf16(values):
    """Non-negative finite float32 to bfloat16 bits, ties to even."""
    bits = values.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype("<u2")


def store_scales(amax, scale_dtype):
    """Block maxima to (scales as stored, the same as float32)."""
    smallest = np.float32(2.0 ** -126)
    zero = amax == 0
    scale = amax / np.float32(448)
    if scale_dtype == "bf16":
        bits = round_to_bf16(scale)
        bits = np.maximum(bits, np.uint16(0x0080))  # 2^-126
        bits = np.where(zero, np.uint16(0x3F80), bits).astype("<u2")
        wide = bits.astype(np.uint32) << np.uint32(16)
        return bits, wide.view(np.float32)
    if scale_dtype == "f32":
        scale = np.maximum(scale, smallest)
        scale = np.where(zero, np.float32(1), scale).astype("<f4")
        return scale, scale
    # frexp gives a fraction in [0.5, 1): only a power of two has 0.5 exactly.
    fraction, exponent = np.frexp(scale.astype(np.float64))
    exponent = np.where(fraction == 0.5, exponent - 1, exponent)
    exponent = np.where(scale == 0, -127, np.maximum(exponent, -127))
    exponent = np.where(zero, 0, exponent)
    value = np.ldexp(1.0, exponent).astype(np.float32)
    # No weight becomes infinite: the scale is the next smaller one there.
    exponent = np.where(zero | finite(amax, value), exponent, exponent - 1)
    value = np.ldexp(1.0, exponent).astype(np.float32)
    return (exponent + 127).astype(np.uint8), value


def block_maxima(magnitude):
    rows, cols = magnitude.shape
    by_rows = np.maximum.reduceat(magnitude, range(0, rows, BLOCK), axis=0)
    return np.maximum.reduceat(by_rows, range(0, cols, BLOCK), axis=1)


def spread(scales, rows, cols):
    """One value a block to one value an element."""
    tall = np.repeat(scales, BLOCK, axis=0)[:rows]
    return np.repeat(tall, BLOCK, axis=1)[:, :cols]


def chosen_scales(weights, amax, scale_dtype, choice):
    """As store_scales, for --scales mse and pow2: bfloat16 numbers both."""
    scales = np.ones(amax.shape, np.float32)
    for i, j in np.argwhere(amax > 0):
        block = weights[i * BLOCK:(i + 1) * BLOCK, j * BLOCK:(j + 1) * BLOCK]
        scales[i, j] = (power_of_two(amax[i, j]) if choice == "pow2"
                        else bf16_value(best_scale(block)))
    if scale_dtype == "f32":
        return scales.astype("<f4"), scales
    return (scales.view(np.uint32) >> np.uint32(16)).astype("<u2"), scales


def quantize_matrix(weights, scale_dtype, name="matrix", choice="amax"):
    """float32 [rows, cols] to (uint8 codes, scales as stored)."""
    bad = np.argwhere(~np.isfinite(weights))
    require(len(bad) == 0,
            f"{name}: NaN or infinity at row and column {bad[:1].tolist()}")
    rows, cols = weights.shape
    amax = block_maxima(np.abs(weights))
    if choice == "amax" or scale_dtype == "ue8m0":
        stored, scales = store_scales(amax, scale_dtype)
    else:
        stored, scales = chosen_scales(weights, amax, scale_dtype, choice)
    q = weights / spread(scales, rows, cols)
    assert q.dtype == np.float32
    return e4m3_encode(q), stored


def dequantize_matrix(codes, scales):
    """What an engine computes: f32(code) * f32(scale), in float32."""
    with np.errstate(over="ignore"):
        return E4M3_DECODE[codes] * spread(scales, *codes.shape)


# ---- safetensors: sections 1 and 4 ------------------------------------------

def no_duplicates(pairs):
    result = dict(pairs)
    require(len(result) == len(pairs), "duplicate key in JSON")
    return result


def elements(shape):
    return math.prod(shape)


class Tensor:
    """Where one tensor of a file lies and what it is."""

    def __init__(self, path, name, dtype, shape, begin, end, data_start):
        self.path, self.name = path, name
        self.dtype, self.shape = dtype, shape
        self.known = name  # by the rules; plan_results sets it
        self.begin, self.end = begin, end
        self.data_start = data_start

    def read(self, first=0, count=None):
        """Bytes of the tensor, or `count` of them from byte `first`."""
        if count is None:
            count = self.end - self.begin - first
        with open(self.path, "rb") as file:
            file.seek(self.data_start + self.begin + first)
            data = file.read(count)
        require(len(data) == count, f"{self.path}: cut short")
        return data


def read_shard(path):
    """The tensors of one safetensors file in order of their data."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(8)
        require(len(start) == 8, f"{path}: no header")
        length = int.from_bytes(start, "little")
        require(length <= SOURCE_HEADER_LIMIT and 8 + length <= size,
                f"{path}: header of {length} bytes")
        header = json.loads(file.read(length).decode("utf-8"),
                            object_pairs_hook=no_duplicates)
    header.pop("__metadata__", None)
    tensors = []
    for name, entry in header.items():
        require(set(entry) == {"dtype", "shape", "data_offsets"},
                f"{path}: tensor {name}: fields {sorted(entry)}")
        begin, end = entry["data_offsets"]
        tensors.append(Tensor(path, name, entry["dtype"], entry["shape"],
                              begin, end, 8 + length))
    # Tensors without elements share an offset with their successor; the end
    # puts them before it.
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    position = 0
    for tensor in tensors:
        require(tensor.begin == position,
                f"{path}: tensor {tensor.name}: hole or overlap")
        position = tensor.end
        require(len(tensor.shape) <= 8, f"{path}: {tensor.name}: rank")
        wanted = elements(tensor.shape) * ELEMENT_BYTES[tensor.dtype]
        require(tensor.end - tensor.begin == wanted,
                f"{path}: tensor {tensor.name}: size")
    require(8 + length + position == size, f"{path}: bytes behind the data")
    return tensors


def read_checkpoint(folder):
    """All tensors of a folder in source order, and the shards' names."""
    index_path = os.path.join(folder, "model.safetensors.index.json")
    beside = {name for name in os.listdir(folder)
              if name.endswith(".safetensors")}
    weight_map = None
    if os.path.exists(index_path):
        with open(index_path, encoding="utf-8") as file:
            index = json.load(file, object_pairs_hook=no_duplicates)
        weight_map = index["weight_map"]
        shards = set(weight_map.values())
        require(all(os.path.basename(name) == name for name in shards),
                "the index names a file that is not a plain name")
    else:
        shards = {"model.safetensors"}
    require(beside == shards,
            f"shards named but missing, or there but not named: "
            f"{sorted(beside ^ shards)}")
    tensors, found = [], {}
    for shard in sorted(shards, key=os.fsencode):
        for tensor in read_shard(os.path.join(folder, shard)):
            require(tensor.name not in found, f"{tensor.name}: twice")
            found[tensor.name] = shard
            tensors.append(tensor)
    require(weight_map is None or weight_map == found,
            "index and shards disagree")
    return tensors, shards


def text(value):
    return json.dumps(value, ensure_ascii=False)


def shard_header(entries):
    """The padded header; entries are (name, dtype, shape) in data order."""
    parts = ['"__metadata__":{"format":"pt"}']
    position = 0
    for name, dtype, shape in entries:
        end = position + elements(shape) * ELEMENT_BYTES[dtype]
        dims = ",".join(str(dim) for dim in shape)
        parts.append(f'{text(name)}:{{"dtype":"{dtype}","shape":[{dims}],'
                     f'"data_offsets":[{position},{end}]}}')
        position = end
    header = ("{" + ",".join(parts) + "}").encode("utf-8")
    return header + b" " * (-len(header) % 8)


# ---- rules: section 2 and docs/rules.md -------------------------------------

def pattern_to_regex(pattern):
    special = {"{n}": "[0-9]+", "*": ".*", "?": "."}
    pieces = re.split(r"(\{n\}|\*|\?)", pattern)
    return re.compile(
        "".join(special.get(piece, re.escape(piece)) for piece in pieces),
        re.DOTALL)


class Rule:
    def __init__(self, where, words):
        self.where = where
        self.action, self.pattern = words[0], words[1]
        self.regex = pattern_to_regex(self.pattern)
        self.flags = set()
        self.group = self.oneof = self.parts = None
        self.axis = self.rows = self.columns = self.into = self.also = None
        for word in words[2:]:
            key, equals, value = word.partition("=")
            if not equals:
                require(key in ("optional", "linear", "always"),
                        f"{where}: flag {word}")
                self.flags.add(key)
            elif key == "group":
                self.group = value
            elif key == "oneof":
                self.oneof = value
            elif key == "experts":
                require(value == "0", f"{where}: {word}")
            elif key == "parts":
                axis, colon, names = value.rpartition(":")
                require(axis in ("1", "2") if colon else names,
                        f"{where}: {word}")
                self.axis = int(axis) if colon else None
                self.parts = names.split(",")
            elif key == "rows":
                self.rows = value
            elif key == "columns":
                self.columns = value
            elif key == "into":
                self.into = value
            elif key == "also":
                self.also = value
            elif key in ("published", "misread", "refused"):
                pass  # says nothing about the result
            else:
                raise Refused(f"{where}: flag {word}")
        require((self.action == "split") == (self.parts is not None),
                f"{where}: parts")
        require(self.parts is None or (self.axis is None) ==
                bool(self.rows and self.columns), f"{where}: axis")

    def matches(self, name):
        return self.regex.fullmatch(name) is not None


class Rules:
    def __init__(self, path, layout="card"):
        self.rules, self.fused, self.model_types = [], [], []
        self.files, self.sorted_list = [], False
        self.renames = []
        self.section, met = "card", layout == "card"
        self.notes, self.refused = [], None
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                words = line.split("#", 1)[0].split()
                if words:
                    self.directive(f"{path}:{number}", words, layout)
                    met = met or self.section == layout
        require(met, f"{path}: no layout {layout}")

    def rule(self, rule):
        """In a layout's section it replaces the one with its pattern."""
        for i, other in enumerate(self.rules):
            if self.section != "card" and other.pattern == rule.pattern:
                self.rules[i] = rule
                return
        self.rules.append(rule)

    def directive(self, where, words, layout):
        wanted = self.section in ("card", layout)
        if words[0] in ("layout", "end"):
            self.section = words[1] if words[0] == "layout" else "card"
        elif words[0] in ("keep", "quantize", "split"):
            if wanted:
                self.rule(Rule(where, words))
        elif words[0] == "file":
            if wanted:
                self.files.append((words[1], words[2]))
        elif words[0] == "list":
            self.sorted_list = self.sorted_list or wanted
        elif words[0] == "fused":
            require(words[2] == "=", f"{where}: expected =")
            parts = words[3:]
            listed = parts[-1] == "listed"
            self.fused.append((words[1], parts[:len(parts) - listed], listed))
        elif words[0] == "rename":
            taken = "([0-9]+)".join(re.escape(piece) for piece
                                    in words[1].split("{n}"))
            self.renames.append((re.compile(taken), words[2].split("{n}")))
        elif words[0] in ("parallel", "fails"):
            pass  # says nothing about the result
        elif words[0] == "model_type":
            self.model_types += words[1:]
        elif words[0] == "refuse":
            self.refused = " ".join(words[1:])
        elif words[0] == "note":
            self.notes.append(" ".join(words[1:]))
        else:
            require(words[0] == "family", f"{where}: directive {words[0]}")

    def known_as(self, name):
        """What the rules call a source tensor."""
        for regex, pieces in self.renames:
            found = regex.fullmatch(name)
            if found:
                numbers = list(found.groups()) + [""]
                return "".join(piece + number for piece, number
                               in zip(pieces, numbers))
        return name

    def file_of(self, tensor):
        """The file that the layout names for a source tensor, or None."""
        for file, pattern in reversed(self.files):
            if pattern_to_regex(pattern).fullmatch(tensor):
                number = re.match(re.escape(pattern.partition("{n}")[0])
                                  + "([0-9]*)", tensor)
                return file.replace("{n}", number[1] if number else "")
        require(not self.files, f"{tensor}: in no file")
        return None

    def decide(self, name):
        """The last rule that matches, or None."""
        matching = [rule for rule in self.rules if rule.matches(name)]
        return matching[-1] if matching else None

    def check_all_used(self, names):
        """A rule that matches nothing is a sign of the wrong family."""
        used = {rule: any(rule.matches(name) for name in names)
                for rule in self.rules}
        groups = {rule.group for rule in self.rules if used[rule]}
        oneofs = {rule.oneof for rule in self.rules if used[rule]}
        for rule in self.rules:
            if used[rule] or "optional" in rule.flags:
                continue
            if rule.group is not None and rule.group not in groups:
                continue
            if rule.oneof is not None and rule.oneof in oneofs:
                continue
            raise Refused(f"{rule.where}: {rule.pattern} matches nothing")


def rules_for(config, path=None, layout="card"):
    if path is not None:
        return Rules(path, layout)
    model_type = config.get("model_type")
    for name in sorted(os.listdir(RULES_FOLDER)):
        if name.endswith(".rules"):
            rules = Rules(os.path.join(RULES_FOLDER, name))
            if model_type in rules.model_types:
                return Rules(os.path.join(RULES_FOLDER, name), layout)
    raise Refused(f"no rules for model_type {model_type}")


# ---- plan -------------------------------------------------------------------

class Result:
    """A kept tensor, or a quantised weight with its scale."""

    def __init__(self, source, name, shape, first_byte, quantized, linear,
                 columns=None):
        self.source, self.name, self.shape = source, name, shape
        self.columns = columns  # of an expert that lies transposed
        self.first_byte = first_byte  # in the source tensor
        self.quantized = quantized
        self.linear = linear  # some loader takes its module for a Linear

    def source_bytes(self):
        if self.columns is not None:
            expert, part = self.columns
            size = ELEMENT_BYTES[self.source.dtype]
            whole = np.frombuffer(self.source.read(), f"V{size}")
            mine = whole.reshape(self.source.shape)[expert]
            rows = self.shape[0]
            return mine[:, part * rows:(part + 1) * rows].T.tobytes()
        count = elements(self.shape) * ELEMENT_BYTES[self.source.dtype]
        return self.source.read(self.first_byte, count)

    def entries(self, scale_dtype):
        """(name, dtype, shape) of each tensor this becomes."""
        if not self.quantized:
            return [(self.name, self.source.dtype, self.shape)]
        rows, cols = self.shape
        scale_shape = [-(-rows // BLOCK), -(-cols // BLOCK)]
        return [(self.name, "F8_E4M3", self.shape),
                (self.name + SCALE_SUFFIX, SCALE_DTYPES[scale_dtype],
                 scale_shape)]

    def contents(self, scale_dtype, choice):
        """The bytes of those tensors."""
        raw = self.source_bytes()
        if not self.quantized:
            return [raw]
        weights = to_float32(raw, self.source.dtype).reshape(self.shape)
        codes, scales = quantize_matrix(weights, scale_dtype, self.name,
                                        choice)
        return [codes.tobytes(), scales.tobytes()]


def last_override(overrides, name):
    """True to quantise, False to keep, None when no override matches."""
    decision = None
    for regex, quantize in overrides:
        if regex.fullmatch(name):
            decision = quantize
    return decision


def config_number(config, key):
    value = config.get(key, config.get("text_config", {}).get(key))
    require(isinstance(value, int) and value > 0, f"config.json: no {key}")
    return value


def split_axes(tensors, rules, config):
    """Of each tensor that is split, the axis of its parts: 2 when it lies
    transposed. Where a rule names no axis the config tells it, and all such
    tensors together."""
    axes, fitting, possible = {}, {}, {1, 2}
    for tensor in tensors:
        rule = rules.decide(tensor.known)
        if rule is None or rule.parts is None:
            continue
        require(len(tensor.shape) == 3, f"{tensor.name}: not of rank 3")
        if rule.axis is not None:
            axes[tensor.name] = rule.axis
            continue
        rows = config_number(config, rule.rows) * len(rule.parts)
        columns = config_number(config, rule.columns)
        fitting[tensor.name] = {
            axis for axis, shape in ((1, [rows, columns]), (2, [columns, rows]))
            if tensor.shape[1:] == shape}
        possible &= fitting[tensor.name]
    require(not fitting or len(possible) == 1,
            f"experts lie in no one way: {fitting}")
    for name in fitting:
        axes[name] = min(possible)
    return axes


def plan_results(tensors, rules, overrides, config):
    """Every source tensor's results, in writing order."""
    require(rules.refused is None, f"refused: {rules.refused}")
    for tensor in tensors:
        tensor.known = rules.known_as(tensor.name)
    rules.check_all_used([tensor.known for tensor in tensors])
    axes = split_axes(tensors, rules, config)
    results = []
    # File by file where the layout names files: dicts keep their order.
    by_file = {}
    for tensor in tensors:
        by_file.setdefault(rules.file_of(tensor.known), []).append(tensor)
    for tensor in [tensor for group in by_file.values() for tensor in group]:
        rule = rules.decide(tensor.known)
        require(rule is not None, f"{tensor.name}: no rule matches")
        override = last_override(overrides, tensor.name)
        quantized = rule.action != "keep" if override is None else override
        require(not (quantized and "always" in rule.flags),
                f"{tensor.name}: --quantize is refused, {rule.where}")
        # What the rules would quantise is a Linear for every loader, so it
        # counts as one when --keep keeps it.
        linear = "linear" in rule.flags or rule.action != "keep"
        if rule.parts is None:
            results.append(Result(tensor, tensor.known, tensor.shape, 0,
                                  quantized, linear))
            continue
        axis = axes[tensor.name]
        require(tensor.shape[axis] % len(rule.parts) == 0,
                f"{tensor.name}: shape {tensor.shape} cannot be split")
        parent = tensor.known.rpartition(".")[0]
        if rule.into is not None:
            above = own_module(tensor.known).rpartition(".")[0]
            parent = f"{above}.{rule.into}" if above else rule.into
        rows = tensor.shape[axis] // len(rule.parts)
        cols = tensor.shape[3 - axis]
        part_bytes = rows * cols * ELEMENT_BYTES[tensor.dtype]
        position = 0
        for expert in range(tensor.shape[0]):
            for number, part in enumerate(rule.parts):
                results.append(Result(
                    tensor, f"{parent}.{expert}.{part}.weight", [rows, cols],
                    position, quantized, linear,
                    (expert, number) if axis == 2 else None))
                position += part_bytes
    for result in results:
        require(not result.quantized
                or (len(result.shape) == 2
                    and result.source.dtype in ("BF16", "F16", "F32")),
                f"{result.name}: not a matrix that can be quantised")
    names = [result.name for result in results]
    require(len(set(names)) == len(names), "two results of one name")
    return results


def own_module(name):
    for ending in (".weight", ".bias"):
        if name.endswith(ending):
            return name[:-len(ending)]
    return name


def listed_module(name):
    """The module by which a result is listed: experts stand for a layer's."""
    module = own_module(name)
    found = re.match(r"(?:.*?\.)??experts(?=\.[0-9]+(?:\.|$))", module)
    return found.group() if found else module


def fused_modules(results, rules):
    """Names that engines fuse modules under, by first appearance: those of
    kept parts that are to be listed, and those of quantised parts."""
    members = {}
    for result in results:
        parent, _, last = own_module(result.name).rpartition(".")
        for fused, parts, listed in rules.fused:
            # A bias stays as it is; its weight decides.
            if last in parts and not result.name.endswith(".bias"):
                name = f"{parent}.{fused}" if parent else fused
                members.setdefault(name, (listed, set()))
                members[name][1].add(result.quantized)
    for name, (_, decisions) in members.items():
        require(len(decisions) == 1,
                f"{name}: some of its parts are quantised, some kept")
    return ([name for name, (listed, decisions) in members.items()
             if listed and decisions == {False}],
            [name for name, (_, decisions) in members.items()
             if decisions == {True}])


def entry_hits(entry, module):
    """Would a loader read list entry `entry` as naming `module`?"""
    prefix = re.escape(entry).replace(r"\.", ".")
    bare = entry[len("model."):] if entry.startswith("model.") else entry
    return (re.match(prefix, module, re.DOTALL) is not None
            or module.endswith(entry)
            or f".{entry}." in f".{module}."
            or f".{bare}." in f".{module}.")


def modules_to_not_convert(results, rules):
    quantized = {listed_module(result.name)
                 for result in results if result.quantized}
    entries = {}  # module -> is one of its weights a Linear's?
    for result in results:
        if not result.quantized:
            module = listed_module(result.name)
            entries[module] = entries.get(module, False) or result.linear
        rule = rules.decide(result.source.known)
        if rule.also is not None and not result.quantized:
            words = re.match(r"(?:.*\.[0-9]+\.)?", result.name).group()
            entries[words + rule.also] = True
    for rule in rules.rules:
        # A Linear that the source lacks, as a tied lm_head.
        if (rule.action == "keep" and {"linear", "optional"} <= rule.flags
                and not set("*?{") & set(rule.pattern)
                and listed_module(rule.pattern) not in quantized):
            entries[listed_module(rule.pattern)] = True
    kept_names, quantized_names = fused_modules(results, rules)
    for name in kept_names:
        entries.setdefault(name, False)
    quantized |= {listed_module(name) for name in quantized_names}
    kept = []
    for entry, linear in entries.items():
        if not any(entry_hits(entry, module) for module in quantized):
            kept.append(entry)
        else:
            require(not linear, f"{entry}: cannot be listed, a loader would "
                    "read it as naming a quantised module too")
    return sorted(kept, key=natural) if rules.sorted_list else kept


def natural(name):
    """For sorting: digits in a name count as numbers."""
    return [(int(piece), "") if piece.isdigit() else (-1, piece)
            for piece in re.split(r"([0-9]+)", name)]


def pack_files(results, rules):
    """The same of a layout that names files: (names, shards)."""
    files = {}
    for result in results:
        files.setdefault(rules.file_of(result.source.known), []).append(result)
    return ([f"{name}.safetensors" for name in files], list(files.values()))


def pack_shards(results, scale_dtype, shard_bytes):
    """Lists of results, one list a shard."""
    shards, tensor_bytes, header_bytes = [], 0, 0  # bytes of the last one
    for result in results:
        entries = result.entries(scale_dtype)
        more = sum(elements(shape) * ELEMENT_BYTES[dtype]
                   for _, dtype, shape in entries)
        header_more = sum(len(name.encode("utf-8")) + HEADER_BYTES_PER_TENSOR
                          for name, _, _ in entries)
        if (not shards or tensor_bytes + more > shard_bytes
                or header_bytes + header_more > HEADER_LIMIT):
            shards.append([])
            tensor_bytes = header_bytes = 0
        shards[-1].append(result)
        tensor_bytes += more
        header_bytes += header_more
    return shards


def data_order(results, scale_dtype):
    """(entry, result, which of its tensors) in the order of the data."""
    placed = [(entry, result, which) for result in results
              for which, entry in enumerate(result.entries(scale_dtype))]
    return sorted(placed, key=lambda item: -ELEMENT_BYTES[item[0][1]])


# ---- config.json: section 5 -------------------------------------------------

JSON_SPACE = b" \t\n\r"


def quantization_config(scale_dtype, modules):
    value = {"quant_method": "fp8", "fmt": "e4m3",
             "activation_scheme": "dynamic"}
    if scale_dtype == "ue8m0":
        value["scale_fmt"] = "ue8m0"
    value["weight_block_size"] = [BLOCK, BLOCK]
    value["modules_to_not_convert"] = modules
    return value


def extend_config(source, value):
    """The bytes of config.json with the member added."""
    closing = len(source.rstrip(JSON_SPACE)) - 1
    opening = len(source) - len(source.lstrip(JSON_SPACE))
    assert source[closing:closing + 1] == b"}"
    assert source[opening:opening + 1] == b"{"
    insert_at = len(source[:closing].rstrip(JSON_SPACE))
    inside = source[opening + 1:closing]
    space = inside[:len(inside) - len(inside.lstrip(JSON_SPACE))]
    has_members = space != inside
    if has_members and b"\n" in space:
        unit = space[space.rindex(b"\n") + 1:].decode()
        printed = json.dumps(value, indent=unit, ensure_ascii=False)
        printed = printed.replace("\n", "\n" + unit)
        member = "\n" + unit + '"quantization_config": ' + printed
    else:
        member = ' "quantization_config": ' + text(value)
    if has_members:
        member = "," + member
    return source[:insert_at] + member.encode("utf-8") + source[insert_at:]


# ---- convert ----------------------------------------------------------------

def side_files(folder, shards):
    """Relative paths of the files that are carried over: section 6."""
    read = shards | {"config.json", "model.safetensors.index.json"}
    found = []
    for path, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(set(folders) - LEFT_FOLDERS)
        for name in sorted(set(names) - LEFT_FOLDERS):
            relative = os.path.relpath(os.path.join(path, name), folder)
            if relative not in read | LEFT_FILES and \
                    not name.endswith(LEFT_ENDINGS):
                found.append(relative)
    return found


def read_config(folder):
    with open(os.path.join(folder, "config.json"), "rb") as file:
        source = file.read()
    config = json.loads(source.decode("utf-8"),
                        object_pairs_hook=no_duplicates)
    return source, config


def write_shard(path, results, scale_dtype, choice):
    contents = {}
    ordered = data_order(results, scale_dtype)
    with open(path, "wb") as file:
        header = shard_header([entry for entry, _, _ in ordered])
        file.write(len(header).to_bytes(8, "little") + header)
        for _, result, which in ordered:
            if result.name not in contents:
                contents[result.name] = result.contents(scale_dtype,
                                                        choice)
            file.write(contents[result.name][which])


def write_index(path, packed, names, scale_dtype):
    weight_map, size, parameters = {}, 0, 0
    for shard, shard_name in zip(packed, names):
        for result in shard:
            parameters += elements(result.shape)
            for name, dtype, shape in result.entries(scale_dtype):
                weight_map[name] = shard_name
                size += elements(shape) * ELEMENT_BYTES[dtype]
    ordered = dict(sorted(weight_map.items(),
                          key=lambda item: item[0].encode("utf-8")))
    index = {"metadata": {"total_parameters": parameters,
                          "total_size": size}, "weight_map": ordered}
    printed = json.dumps(index, indent=2, ensure_ascii=False) + "\n"
    with open(path, "wb") as file:
        file.write(printed.encode("utf-8"))


def convert(src, dst, scale_dtype="bf16", shard_bytes=SHARD_BYTES,
            overrides=(), rules_path=None, choice="amax", layout="card"):
    """Writes the result checkpoint. `overrides` are (glob, quantize) pairs."""
    source_config, config = read_config(src)
    require("quantization_config" not in config, "already quantised")
    rules = rules_for(config, rules_path, layout)
    tensors, source_shards = read_checkpoint(src)
    compiled = [(pattern_to_regex(glob), quantize)
                for glob, quantize in overrides]
    results = plan_results(tensors, rules, compiled, config)
    modules = modules_to_not_convert(results, rules)
    packed = pack_shards(results, scale_dtype, shard_bytes)

    os.makedirs(dst, exist_ok=True)
    names = ["model.safetensors"]
    if len(packed) > 1:
        names = [f"model-{number:05d}-of-{len(packed):05d}.safetensors"
                 for number in range(1, len(packed) + 1)]
    if rules.files:
        names, packed = pack_files(results, rules)
    if names != ["model.safetensors"]:
        write_index(os.path.join(dst, "model.safetensors.index.json"),
                    packed, names, scale_dtype)
    for name, shard in zip(names, packed):
        write_shard(os.path.join(dst, name), shard, scale_dtype, choice)
    for relative in side_files(src, source_shards):
        target = os.path.join(dst, relative)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(os.path.join(src, relative), target)
    value = quantization_config(scale_dtype, modules)
    with open(os.path.join(dst, "config.json"), "wb") as file:
        file.write(extend_config(source_config, value))


# ---- compare ----------------------------------------------------------------

def all_files(folder):
    found = set()
    for path, folders, names in os.walk(folder, followlinks=True):
        if os.path.abspath(path) == os.path.abspath(folder):
            folders[:] = [name for name in folders if name != ".fp8cast"]
        found |= {os.path.relpath(os.path.join(path, name), folder)
                  for name in names}
    return found


def first_different_byte(a, b):
    length = min(len(a), len(b))
    differ = np.flatnonzero(np.frombuffer(a[:length], np.uint8)
                            != np.frombuffer(b[:length], np.uint8))
    return int(differ[0]) if len(differ) else length


def describe_bytes(a, b):
    position = first_different_byte(a, b)
    return (f"{len(a)} and {len(b)} bytes, first different at byte {position}:"
            f" {a[position:position + 40]!r} and {b[position:position + 40]!r}")


def describe_shards(a_path, b_path):
    """The first difference of two safetensors files, in words."""
    try:
        a_tensors, b_tensors = read_shard(a_path), read_shard(b_path)
    except (Refused, ValueError, KeyError) as error:
        return f"not valid safetensors: {error}"
    for number, (a, b) in enumerate(zip(a_tensors, b_tensors)):
        for what in ("name", "dtype", "shape", "begin", "end"):
            if getattr(a, what) != getattr(b, what):
                return (f"header: tensor {number} ({a.name}): {what} is "
                        f"{getattr(a, what)} and {getattr(b, what)}")
    if len(a_tensors) != len(b_tensors):
        return f"header: {len(a_tensors)} and {len(b_tensors)} tensors"
    if a_tensors and a_tensors[0].data_start == b_tensors[0].data_start:
        for a, b in zip(a_tensors, b_tensors):
            a_data, b_data = a.read(), b.read()
            if a_data == b_data:
                continue
            size = ELEMENT_BYTES[a.dtype]
            element = first_different_byte(a_data, b_data) // size
            at = [int(i) for i in np.unravel_index(element, a.shape or (1,))]
            a_hex = a_data[element * size:(element + 1) * size][::-1].hex()
            b_hex = b_data[element * size:(element + 1) * size][::-1].hex()
            return f"tensor {a.name} at {at}: 0x{a_hex} and 0x{b_hex}"
    with open(a_path, "rb") as a_file, open(b_path, "rb") as b_file:
        return "header: " + describe_bytes(a_file.read(), b_file.read())


def same_bytes(a_path, b_path):
    chunk = 1 << 24
    with open(a_path, "rb") as a_file, open(b_path, "rb") as b_file:
        while True:
            a, b = a_file.read(chunk), b_file.read(chunk)
            if a != b:
                return False
            if not a:
                return True


def compare(a_folder, b_folder):
    """None when both folders are equal, else the first difference."""
    a_files, b_files = all_files(a_folder), all_files(b_folder)
    for name in sorted(a_files | b_files):
        if name not in b_files:
            return f"{name}: only in {a_folder}"
        if name not in a_files:
            return f"{name}: only in {b_folder}"
        a_path = os.path.join(a_folder, name)
        b_path = os.path.join(b_folder, name)
        if same_bytes(a_path, b_path):
            continue
        if name.endswith(".safetensors"):
            return f"{name}: {describe_shards(a_path, b_path)}"
        with open(a_path, "rb") as a_file, open(b_path, "rb") as b_file:
            return f"{name}: {describe_bytes(a_file.read(), b_file.read())}"
    return None


# ---- statistics -------------------------------------------------------------

def kind_of(name):
    components = own_module(name).split(".")
    numbers = [i for i, part in enumerate(components)
               if re.fullmatch("[0-9]+", part)]
    if not numbers:
        return ".".join(components)
    last = numbers[-1]
    kind = ".".join(components[last + 1:])
    if last > 0 and components[last - 1] == "experts":
        return "experts." + kind
    return kind


class Sums:
    """Error sums over quantised weights, in binary64."""

    def __init__(self):
        self.tensors = self.elems = self.blocks = self.zeros = 0
        self.ww = self.vv = self.wv = self.ee = self.worst = 0.0
        self.relative = []

    def add(self, w, v):
        rows, cols = w.shape
        w, v = w.astype(np.float64), v.astype(np.float64)
        error = np.abs(v - w)
        some = w != 0
        self.tensors += 1
        self.elems += w.size
        self.blocks += -(-rows // BLOCK) * -(-cols // BLOCK)
        self.zeros += int(w.size - np.count_nonzero(some))
        self.ww += float(np.sum(w * w))
        self.vv += float(np.sum(v * v))
        self.wv += float(np.sum(w * v))
        self.ee += float(np.sum(error * error))
        self.worst = max(self.worst, float(error.max()))
        self.relative.append(error[some] / np.abs(w[some]))

    def summary(self):
        relative = (np.concatenate(self.relative) if self.relative
                    else np.empty(0))
        with np.errstate(divide="ignore", invalid="ignore"):
            ww, ee = np.float64(self.ww), np.float64(self.ee)
            # vv and ww are rooted one by one: their product may overflow.
            norms = np.sqrt(ww) * np.sqrt(np.float64(self.vv))
            return {
                "tensors": self.tensors, "elems": self.elems,
                "blocks": self.blocks, "zeros": self.zeros,
                "median_relative_error":
                    float(np.median(relative)) if len(relative) else 0.0,
                "median_between":
                    [float(x) for x in np.quantile(relative, (0.496, 0.504))]
                    if len(relative) else [0.0, 0.0],
                "relative_rms": float(np.sqrt(ee / ww)),
                "sqnr_db": float(10 * np.log10(ww / ee)),
                "cosine": float(self.wv / norms),
                "max_abs_error": self.worst,
            }


def decode_scales(tensor):
    raw = tensor.read()
    if tensor.dtype == "F8_E8M0":
        exponent = np.frombuffer(raw, np.uint8).astype(np.int64) - 127
        values = np.ldexp(1.0, exponent).astype(np.float32)
    else:
        values = to_float32(raw, tensor.dtype)
    return values.reshape(tensor.shape)


def stats(src, dst, rules_path=None):
    """Round-trip error of every quantised weight of `dst`."""
    _, config = read_config(src)
    # The rules only say how tensors are split; what is quantised is read
    # from the result.
    plan = plan_results(read_checkpoint(src)[0], rules_for(config, rules_path),
                        [], config)
    made = {tensor.name: tensor for tensor in read_checkpoint(dst)[0]}
    overall, kinds = Sums(), {}
    for result in plan:
        scale = made.get(result.name + SCALE_SUFFIX)
        if scale is None:
            continue
        codes = np.frombuffer(made[result.name].read(), np.uint8)
        v = dequantize_matrix(codes.reshape(result.shape),
                              decode_scales(scale))
        w = to_float32(result.source_bytes(), result.source.dtype)
        w = w.reshape(result.shape)
        overall.add(w, v)
        kinds.setdefault(kind_of(result.name), Sums()).add(w, v)
    return {"overall": overall.summary(),
            "kinds": {kind: sums.summary() for kind, sums in kinds.items()}}


# ---- command line -----------------------------------------------------------

class AppendOverride(argparse.Action):
    """--keep and --quantize go to one list: their order matters."""

    def __call__(self, parser, namespace, value, option=None):
        namespace.overrides = (namespace.overrides or []) + [
            (value, option == "--quantize")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("convert")
    command.add_argument("src")
    command.add_argument("dst")
    command.add_argument("--scale-dtype", choices=list(SCALE_DTYPES),
                         default="bf16")
    command.add_argument("--scales", choices=["amax", "mse", "pow2"],
                         default="amax")
    command.add_argument("--shard-size", type=int, default=SHARD_BYTES)
    for option in ("--keep", "--quantize"):
        command.add_argument(option, metavar="GLOB", dest="overrides",
                             action=AppendOverride)
    command.add_argument("--rules", metavar="FILE")
    command.add_argument("--layout", default="card")
    command = commands.add_parser("compare")
    command.add_argument("a")
    command.add_argument("b")
    command = commands.add_parser("stats")
    command.add_argument("src")
    command.add_argument("dst")
    command.add_argument("--rules", metavar="FILE")
    options = parser.parse_args()
    try:
        if options.command == "convert":
            convert(options.src, options.dst, options.scale_dtype,
                    options.shard_size, options.overrides or [],
                    options.rules, options.scales, options.layout)
        elif options.command == "stats":
            print(json.dumps(stats(options.src, options.dst, options.rules),
                             indent=2))
        else:
            difference = compare(options.a, options.b)
            if difference:
                print(difference)
                return 1
    except Refused as error:
        print(f"reference.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
