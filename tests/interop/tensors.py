"""Checkpoints as dictionaries, and the format's rounding in PyTorch.

The rounding is written from docs/format.md and PyTorch's own conversion to
float8_e4m3fn, so that it shares nothing with the program under test.
"""

import glob
import json
import os
import re
import shutil

import torch
from safetensors.torch import load_file, save_file

BLOCK = 128
SCALE = "_scale_inv"
FP8 = torch.float8_e4m3fn
# Rows of the halves of a fused expert tensor, in order.
FUSED = {"gate_up_proj": ["gate_proj", "up_proj"], "down_proj": ["down_proj"]}


def read(folder):
    """Name to tensor, of all shards."""
    tensors = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        tensors.update(load_file(path))
    return tensors


def read_config(folder):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        return json.load(file)


def write(folder, tensors, config, like=None):
    """One shard and a config; other files as they are in `like`."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    for name in os.listdir(like) if like else []:
        if not (name.startswith(".") or name == "config.json"
                or ".safetensors" in name):
            shutil.copy(os.path.join(like, name), folder)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()},
              os.path.join(folder, "model.safetensors"),
              metadata={"format": "pt"})
    with open(os.path.join(folder, "config.json"), "w",
              encoding="utf-8") as file:
        json.dump(config, file, indent=2)


def has_draft(folder):
    """Whether there is a draft (multi-token prediction) layer."""
    return any(name.startswith(("mtp.", "model.mtp_"))
               or name.endswith(".eh_proj.weight") for name in read(folder))


def spread(scales, rows, cols, block=BLOCK):
    """One value a block to one value an element, of the last two axes."""
    tall = scales.float().repeat_interleave(block, -2)[..., :rows, :]
    return tall.repeat_interleave(block, -1)[..., :cols]


def quantise(weight):
    """A matrix to (codes, bfloat16 scales): docs/format.md, section 3."""
    rows, cols = weight.shape
    wide = weight.float()
    padded = torch.nn.functional.pad(
        wide.abs(), (0, -cols % BLOCK, 0, -rows % BLOCK))
    blocks = padded.unfold(0, BLOCK, BLOCK).unfold(1, BLOCK, BLOCK)
    amax = blocks.amax((-2, -1))
    scales = (amax / 448).bfloat16()
    scales = scales.clamp(min=torch.finfo(torch.bfloat16).tiny)
    scales = torch.where(amax == 0, torch.ones_like(scales), scales)
    quotient = wide / spread(scales, rows, cols)
    return quotient.clamp(-448, 448).to(FP8), scales


def dequantise(codes, scales, block=BLOCK):
    """What an engine computes, as bfloat16; axes before the last two stay."""
    return (codes.float()
            * spread(scales, *codes.shape[-2:], block)).bfloat16()


# Granite's names of the same.
LINEAR = {"input_linear.weight": "experts.gate_up_proj",
          "output_linear.weight": "experts.down_proj"}


def is_fused(name):
    """Of 'x.experts.gate_up_proj' ('x.experts.', its parts), else None."""
    for theirs, usual in LINEAR.items():
        if name.endswith("." + theirs):
            name = name.removesuffix(theirs) + usual
    parent, _, leaf = name.rpartition(".")
    if parent.endswith("experts") and leaf in FUSED:
        return parent + ".", FUSED[leaf]
    return None


def parts_of(name, tensor, across=False):
    """(result name, matrix) of a source tensor; of a fused one its parts,
    which lie transposed when it is `across`."""
    fused = is_fused(name)
    if not fused:
        yield name, tensor
        return
    prefix, parts = fused
    if across:
        tensor = tensor.mT
    for expert in range(tensor.shape[0]):
        for part, rows in zip(parts, tensor[expert].chunk(len(parts))):
            yield f"{prefix}{expert}.{part}.weight", rows


def rounded(source, result, across=False):
    """What the engines must see: the source's weights, those that are FP8 in
    the result rounded by PyTorch. And what in the result is not what PyTorch
    makes of the source."""
    faults, reference, seen = [], {}, set()
    for name, tensor in source.items():
        made = []
        for part, matrix in parts_of(name, tensor, across):
            found = result.get(part)
            seen |= {part, part + SCALE}
            if found is None:
                faults.append(f"{part}: not in the result")
            elif found.dtype == FP8:
                codes, scales = quantise(matrix)
                scale = result.get(part + SCALE)
                if not (same_bits(codes, found)
                        and scale is not None and same_bits(scales, scale)):
                    faults.append(f"{part}: not PyTorch's codes and scales")
                matrix = dequantise(codes, scales)
            elif not same_bits(matrix, found):
                faults.append(f"{part}: not the source's bytes")
            made.append(matrix)
        if is_fused(name):
            whole = tensor.mT if across else tensor
            whole = torch.cat(made).reshape(whole.shape)
            reference[name] = whole.mT.contiguous() if across else whole
        else:
            reference[name] = made[0]
    faults += [f"{name}: not of the source" for name in set(result) - seen]
    return reference, faults


def same_bits(a, b):
    return (a.dtype == b.dtype and a.shape == b.shape
            and torch.equal(a.contiguous().flatten().view(torch.uint8),
                            b.contiguous().flatten().view(torch.uint8)))


def fuse(tensors):
    """Experts one by one to the fused tensors of the published layout."""
    fused, experts = {}, {}
    for name, tensor in tensors.items():
        head, found, tail = name.rpartition(".experts.")
        words = tail.split(".")
        if not (found and words[0].isdigit() and words[-1] == "weight"):
            fused[name] = tensor
            continue
        experts.setdefault(head + ".experts.", {})[
            int(words[0]), words[1]] = tensor
    for prefix, parts in experts.items():
        count = 1 + max(expert for expert, _ in parts)
        for leaf, names in FUSED.items():
            fused[prefix + leaf] = torch.stack(
                [torch.cat([parts[expert, part] for part in names])
                 for expert in range(count)])
    return fused


def unfuse(tensors, across=False):
    """The reverse."""
    return {part: matrix for name, tensor in tensors.items()
            for part, matrix in parts_of(name, tensor, across)}


def transpose(tensors):
    """Fused experts the other way round."""
    return {name: tensor.mT.contiguous() if is_fused(name) else tensor
            for name, tensor in tensors.items()}


def hub(tensors):
    """What was one level deeper when the model was published."""
    return {re.sub(r"^vision_tower\.", "vision_tower.vision_model.", name):
            tensor for name, tensor in tensors.items()}


# From the tensors as saved, fused or not, to those of a variant of the source;
# and whether, where they are fused, they lie `across`.
LAYOUTS = {"plain": lambda found, across: found,
           "granite": lambda found, across: found,
           "fused": lambda found, across: fuse(found),
           "per-expert": unfuse,
           "transposed": lambda found, across: transpose(fuse(found)),
           "hub": lambda found, across: hub(found)}


def published(tensors, variant, family):
    """From a variant to the usual one, which all loaders read. What was in
    memory came with its published form."""
    usual = family.variants[0]
    if variant in (usual, "memory"):
        return tensors
    if variant == "transposed":
        tensors = transpose(tensors)
    if family.across:
        return transpose(fuse(tensors))
    return LAYOUTS[usual](tensors, False)
