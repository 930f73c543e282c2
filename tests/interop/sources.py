#!/usr/bin/env python3
"""Tiny random checkpoints, built and saved by transformers' own classes.

    sources.py FOLDER NAME...     writes FOLDER/NAME/VARIANT/source

NAME is a family's, or a divided model's.

What save_pretrained leaves out (the draft layers) is added; the fused variant
has the experts in the layout that the family's publisher uses. The memory
variant is what transformers has in memory and saves where it is told not to
bring back the published form, which lies in FOLDER/FAMILY/memory/published.
"""

import copy
import os
import sys

import torch
import transformers

import tensors
from divided import DIVIDED
from families import FAMILIES

SEED = 20261124


def fill(name, parameter):
    """Random values: no two tensors are alike, and norms are not all ones,
    so that a mix-up changes numbers. Large embeddings and small layers keep
    the model from amplifying a rounding error as chaos would."""
    generator = torch.Generator().manual_seed(
        SEED + sum(ord(c) * (i + 1) for i, c in enumerate(name)))
    values = torch.randn(parameter.shape, generator=generator)
    if parameter.ndim < 2:
        values = 1 + values / 8
    else:
        size = 16 if "embed_tokens" in name else 0.3
        values = values * (size / parameter.shape[-1] ** 0.5)
    return values.to(parameter.dtype)


def build(family, name):
    settings = copy.deepcopy(family.config)  # which transformers changes
    config = transformers.AutoConfig.for_model(family.build or name,
                                                **settings)
    model = getattr(transformers, family.auto).from_config(
        config, dtype=torch.bfloat16)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(fill(key, parameter))
        for key, buffer in model.named_buffers():
            if "correction_bias" in key:
                buffer.copy_(fill(key, buffer) / 8)
    return model


def draft_of_qwen3_5(found, last, target):
    """Qwen's draft layer has the form of the model's last layer, a full
    attention one."""
    made = {}
    for name, tensor in found.items():
        if name.startswith(last):
            made["mtp.layers.0." + name[len(last):]] = tensor
    norm = found[target + "norm.weight"]
    for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"):
        made[f"mtp.{name}.weight"] = norm
    made["mtp.fc.weight"] = norm.new_empty(norm.shape[0], 2 * norm.shape[0])
    return {name: fill(name, tensor) for name, tensor in made.items()}


def draft_of_deepseek(found, last, target):
    """DeepSeek's and GLM's is one layer more, with embeddings and a head."""
    layers = int(last.split(".")[-2]) + 1
    prefix = f"{target}layers.{layers}."
    made = {prefix + name[len(last):]: tensor for name, tensor
            in found.items() if name.startswith(last)}
    norm = found[target + "norm.weight"]
    for name in ("enorm", "hnorm", "shared_head.norm"):
        made[f"{prefix}{name}.weight"] = norm
    made[prefix + "eh_proj.weight"] = norm.new_empty(norm.shape[0],
                                                     2 * norm.shape[0])
    made = {name: fill(name, tensor) for name, tensor in made.items()}
    # Copies of the model's own, as published.
    made[prefix + "embed_tokens.weight"] = found[
        target + "embed_tokens.weight"].clone()
    made[prefix + "shared_head.head.weight"] = found["lm_head.weight"].clone()
    return made


def draft_of_ernie(found, last, target):
    """ERNIE's has the form of the model's first layer, a dense one."""
    first = target + "layers.0."
    made = {f"{target}mtp_block.0.{name[len(first):]}": tensor
            for name, tensor in found.items() if name.startswith(first)}
    norm = found[target + "norm.weight"]
    for name in ("mtp_emb_norm", "mtp_hidden_norm"):
        made[f"{target}{name}.0.weight"] = norm
    made[target + "mtp_linear_proj.0.weight"] = norm.new_empty(
        norm.shape[0], 2 * norm.shape[0])
    return {name: fill(name, tensor) for name, tensor in made.items()}


DRAFTS = {"qwen3_5": draft_of_qwen3_5, "deepseek": draft_of_deepseek,
          "ernie": draft_of_ernie}


def add_draft(family, found, config):
    if family.draft is None:
        return found
    text = config.get("text_config", config)
    target = ("model.language_model." if "text_config" in config
              else "model.")
    last = f"{target}layers.{text['num_hidden_layers'] - 1}."
    return {**found, **DRAFTS[family.draft](found, last, target)}


def make_memory(folder, model, found, config, saved):
    written = os.path.join(folder, "saved")
    model.save_pretrained(written, save_original_format=False)
    tensors.write(os.path.join(folder, "source"), tensors.read(written),
                  config, like=saved)
    tensors.write(os.path.join(folder, "published"), found, config,
                  like=saved)


def make(folder, name):
    family = {**FAMILIES, **DIVIDED}[name]
    saved = os.path.join(folder, name, "saved")
    model = build(family, name)
    model.save_pretrained(saved)
    config = tensors.read_config(saved)
    config.get("text_config", config).update(family.published)
    found = add_draft(family, tensors.read(saved), config)
    for variant in family.variants:
        if variant == "memory":
            make_memory(os.path.join(folder, name, variant), model,
                        tensors.read(saved), config, saved)
            continue
        tensors.write(os.path.join(folder, name, variant, "source"),
                      tensors.LAYOUTS[variant](found, family.across), config,
                      like=saved)


def main():
    for name in sys.argv[2:]:
        make(sys.argv[1], name)


if __name__ == "__main__":
    main()
