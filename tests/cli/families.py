#!/usr/bin/env python3
"""Converts a small checkpoint of each family and holds it against its file.

    families.py FP8CAST GOLDEN FOLDER [NAME...]

A line of GOLDEN/MODEL_TYPE.tsv (or MODEL_TYPE.VARIANT.tsv) is a tensor of the
source: name, dtype, shape, and `fp8` or `keep`; or `listed` and an entry of
modules_to_not_convert; or `config` and a number of config.json. The result must also be, byte for byte, what
tests/reference makes of the checkpoint.
"""

import json
import os
import subprocess
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))), "reference"))
import checkpoints  # noqa: E402
import reference  # noqa: E402

PARTS = {"gate_up_proj": 2, "down_proj": 1}
# Granite's names of the same.
LINEAR = {"input_linear.weight": "experts.gate_up_proj",
          "output_linear.weight": "experts.down_proj"}


def read_golden(path):
    tensors, listed, config = {}, [], {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            words = line.rstrip("\n").split("\t")
            if words[0] == "listed":
                listed.append(words[1])
            elif words[0] == "config":
                config[words[1]], = smaller([int(words[2])])
            else:
                name, dtype, shape, action = words
                tensors[name] = (dtype, json.loads(shape), action == "fp8")
    return tensors, listed, config


def smaller(shape):
    """The names matter here, not the sizes."""
    return [size // 8 if size >= 64 else size for size in shape]


def make_source(folder, model_type, tensors, config):
    os.makedirs(folder)
    random = np.random.default_rng(1)
    made = {}
    for name, (dtype, shape, _) in tensors.items():
        values = checkpoints.plain_values(random, smaller(shape))
        made[name] = (dtype, smaller(shape),
                      checkpoints.to_bytes(values, dtype))
    checkpoints.write_weights(folder, random, made, 2)
    with open(os.path.join(folder, "config.json"), "w",
              encoding="utf-8") as file:
        json.dump({"model_type": model_type, **config}, file)


def results_of(name, shape):
    """Names of a source tensor's results: one, or one an expert and part."""
    for theirs, usual in LINEAR.items():
        if name.endswith("." + theirs):
            name = name.removesuffix(theirs) + usual
    parent, _, leaf = name.rpartition(".")
    if not (parent.endswith("experts") and leaf in PARTS):
        return [name]
    parts = ["gate_proj", "up_proj"] if leaf == "gate_up_proj" else [leaf]
    return [f"{parent}.{expert}.{part}.weight"
            for expert in range(shape[0]) for part in parts]


def check(program, path, folder):
    model_type = os.path.basename(path).split(".")[0]
    tensors, listed, config = read_golden(path)
    source = os.path.join(folder, "source")
    result = os.path.join(folder, "result")
    make_source(source, model_type, tensors, config)
    subprocess.run([program, "quantize", source, result, "--verify",
                    "--quiet"], check=True)

    found = {tensor.name: tensor.dtype for tensor
             in reference.read_checkpoint(result)[0]}
    wanted = {}
    for name, (dtype, shape, fp8) in tensors.items():
        for one in results_of(name, shape):
            wanted[one] = "F8_E4M3" if fp8 else dtype
            if fp8:
                wanted[one + "_scale_inv"] = "BF16"
    differ = sorted(set(found.items()) ^ set(wanted.items()))
    assert not differ, f"{path}: {differ[:6]}"
    with open(os.path.join(result, "config.json"), encoding="utf-8") as file:
        entries = json.load(file)["quantization_config"][
            "modules_to_not_convert"]
    differ = sorted(set(entries) ^ set(listed))
    assert not differ, f"{path}: modules_to_not_convert: {differ[:6]}"

    comes_back(program, source, result, tensors, path)
    if "lm_head" in listed and "lm_head.weight" not in tensors:
        tied_head_is_missed(program, source, result)
    theirs = os.path.join(folder, "reference")
    reference.convert(source, theirs)
    difference = reference.compare(result, theirs)
    assert difference is None, f"{path}: {difference}"


def comes_back(program, source, result, tensors, path):
    """--fuse gives a fused source's tensors again, or says that it cannot."""
    transposed = any(name in os.path.basename(path)
                     for name in ("transposed", "qwen3_vl_moe", "llama4"))
    back = result + "-back"
    done = subprocess.run([program, "dequantize", result, back, "--fuse",
                           "--quiet"], stderr=subprocess.PIPE, check=False)
    if transposed:
        assert done.returncode == 1 and b"lies transposed" in done.stderr, done
        assert not os.path.exists(back)
        return
    assert done.returncode == 0, done
    if any(".experts.0." in name for name in tensors):
        return  # one by one before, so that fused ones are others
    both = [sorted((tensor.name, tensor.dtype, tuple(tensor.shape))
                   for tensor in reference.read_checkpoint(folder)[0])
            for folder in (source, back)]
    assert both[0] == both[1], f"{path}: {set(both[0]) ^ set(both[1])}"


def tied_head_is_missed(program, source, result):
    """A head that is not in the file must be listed too."""
    path = os.path.join(result, "config.json")
    with open(path, encoding="utf-8") as file:
        kept = file.read()
    config = json.loads(kept)
    config["quantization_config"]["modules_to_not_convert"].remove("lm_head")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file)
    found = subprocess.run([program, "verify", source, result, "--quiet"],
                           stderr=subprocess.PIPE, check=False)
    assert found.returncode == 3 and b"lm_head" in found.stderr, found
    with open(path, "w", encoding="utf-8") as file:
        file.write(kept)


def main():
    program, golden, folder = sys.argv[1:4]
    names = [name + ".tsv" for name in sys.argv[4:]]
    names = names or sorted(os.listdir(golden))
    assert names
    for name in names:
        assert name.endswith(".tsv"), name
        check(program, os.path.join(golden, name),
              os.path.join(folder, name.removesuffix(".tsv")))


if __name__ == "__main__":
    main()
