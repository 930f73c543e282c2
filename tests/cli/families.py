#!/usr/bin/env python3
"""Converts a small checkpoint of each family and holds it against its file.

    families.py FP8CAST GOLDEN FOLDER [NAME...]

A line of GOLDEN/MODEL_TYPE.tsv (or MODEL_TYPE.VARIANT.tsv) is a tensor of the
source: name, dtype, shape, and `fp8` or `keep`; or `listed` and an entry of
modules_to_not_convert; or `config` and a number of config.json. The result
must also be, byte for byte, what tests/reference makes of the checkpoint, and
what the program makes of the same experts one by one. `dequantize --fuse` must
give the source's names and shapes again.
"""

import json
import os
import shutil
import subprocess
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))), "reference"))
import checkpoints  # noqa: E402
import reference  # noqa: E402

PARTS = {"gate_up_proj": ["gate_proj", "up_proj"], "down_proj": ["down_proj"]}
# Of the families whose published experts are called w1, w2 and w3: w1 and w3
# make up gate_up_proj, in this order (transformers, conversion_mapping.py).
NUMBERED = {"gate_up_proj": ["w1", "w3"], "down_proj": ["w2"]}
# Granite's names of the same.
LINEAR = {"input_linear.weight": "experts.gate_up_proj",
          "output_linear.weight": "experts.down_proj"}
# What transformers has in memory under other names than published ones: the
# pairs of conversion_mapping.py, from memory to what is published.
MEMORY = {
    "mixtral": [(".mlp.", ".block_sparse_moe.")],
    "minimax_m2": [(".mlp.", ".block_sparse_moe.")],
    "phimoe": [(".mlp.router.", ".mlp.gate."),
               (".mlp.", ".block_sparse_moe.")],
    "ernie4_5_moe": [(".gate.moe_statics.", ".moe_statics.")],
    "granitemoe": [(".router.weight", ".router.layer.weight")],
}
# What publishers have, by the golden file's variant, where it is not the plain
# one: --fuse restores it when nobody says what the source had.
PUBLISHED = {"qwen3_5_moe": "fused", "qwen3_5_moe_text": "fused",
             "gemma4": "moe.fused", "gemma4_text": "moe.fused",
             "granitemoe": "granite", "gemma3": "hub",
             "qwen3_vl_moe": "transposed"}


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


def kind_of(path):
    """'mixtral' and 'memory' of .../mixtral.memory.tsv."""
    model_type, _, variant = os.path.basename(path).removesuffix(
        ".tsv").partition(".")
    return model_type, variant


def is_across(model_type, variant):
    return variant == "transposed" or model_type.startswith("llama4")


def results_of(name, shape, model_type="", variant=""):
    """Names of a source tensor's results: one, or one an expert and part."""
    for theirs, usual in LINEAR.items():
        if name.endswith("." + theirs):
            name = name.removesuffix(theirs) + usual
    for memory, published in (MEMORY.get(model_type, [])
                              if variant == "memory" else []):
        name = name.replace(memory, published)
    parent, _, leaf = name.rpartition(".")
    if not (parent.endswith("experts") and leaf in PARTS):
        return [name]
    parts = NUMBERED if "block_sparse_moe" in name and (
        model_type != "granitemoe") else PARTS
    return [f"{parent}.{expert}.{part}.weight"
            for expert in range(shape[0]) for part in parts[leaf]]


def check(program, path, folder):
    model_type, variant = kind_of(path)
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
        for one in results_of(name, shape, model_type, variant):
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

    if variant == "memory":
        compares(program, source, result, path)
    comes_back(program, source, result, path)
    comes_back_as_published(program, result, path)
    one_by_one(program, source, tensors, config, path)
    if "lm_head" in listed and "lm_head.weight" not in tensors:
        tied_head_is_missed(program, source, result)
    theirs = os.path.join(folder, "reference")
    reference.convert(source, theirs)
    difference = reference.compare(result, theirs)
    assert difference is None, f"{path}: {difference}"


def read_values(folder):
    """Name to an array of the tensors' elements, as bits."""
    return {tensor.name: np.frombuffer(
        tensor.read(), f"V{reference.ELEMENT_BYTES[tensor.dtype]}").reshape(
            tensor.shape) for tensor in reference.read_checkpoint(folder)[0]}


def named(folder):
    return sorted((tensor.name, tensor.dtype, tuple(tensor.shape))
                  for tensor in reference.read_checkpoint(folder)[0])


def matrices_of(values, count, across):
    """One a part of each expert, in the order of the results' names."""
    for expert in values:
        yield from np.split(expert.T if across else expert, count)


def compares(program, source, result, path):
    """diff finds each tensor's counterpart, whatever it is called."""
    ran = subprocess.run([program, "diff", source, result, "--json"],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         check=False)
    found = json.loads(ran.stdout)
    assert ran.returncode == 3, ran  # config.json, and what is FP8
    assert found["a"]["only"] == found["b"]["only"] == [], f"{path}: {found}"
    assert found["values"], f"{path}: nothing compared"
    # Also where nothing but names differs.
    for kept in "", "-kept":
        same_but_names(program, source, result + kept, path)


def same_but_names(program, source, result, path):
    """The kept tensors that memory calls otherwise: so many pairs."""
    model_type, variant = kind_of(path)
    if result.endswith("-kept"):
        subprocess.run([program, "quantize", source, result, "--keep", "*",
                        "--quiet"], check=True)
    ran = subprocess.run([program, "diff", source, result, "--json"],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         check=False)
    found = json.loads(ran.stdout)
    renamed = [tensor.name for tensor in reference.read_checkpoint(source)[0]
               if len(tensor.shape) < 3
               and results_of(tensor.name, tensor.shape, model_type,
                              variant) != [tensor.name]]
    assert not found["same"] and found["other_name"] == len(renamed), path
    if result.endswith("-kept"):
        assert found["different"] == 0, path


def comes_back(program, source, result, path):
    """--fuse gives the source's tensors again: names and shapes, and in them
    what dequantize gives one by one."""
    model_type, variant = kind_of(path)
    back, apart = result + "-back", result + "-apart"
    for folder, flags in ((back, ["--fuse"]), (apart, [])):
        subprocess.run([program, "dequantize", result, folder, "--quiet",
                        *flags], check=True)
    both = named(source), named(back)
    assert both[0] == both[1], f"{path}: {set(both[0]) ^ set(both[1])}"
    alone, across = read_values(apart), is_across(model_type, variant)
    for name, values in read_values(back).items():
        names = results_of(name, values.shape, model_type, variant)
        if len(names) == 1:
            assert (values == alone[names[0]]).all(), f"{path}: {name}"
            continue
        parts = matrices_of(values, len(names) // len(values), across)
        for one, part in zip(names, parts, strict=True):
            assert (part == alone[one]).all(), f"{path}: {name}, {one}"


def comes_back_as_published(program, result, path):
    """Without what quantize left about the source, names are published ones."""
    model_type, variant = kind_of(path)
    published = PUBLISHED.get(model_type, "")
    other = os.path.join(os.path.dirname(path), ".".join(
        word for word in (model_type, published, "tsv") if word))
    # Of Gemma 4 there is one with experts and one without, and of Llama 4 one
    # whose axes stand otherwise than the published ones.
    if ("moe" in variant) != ("moe" in published) or (
            model_type.startswith("llama4") and variant):
        return
    shutil.rmtree(os.path.join(result, ".fp8cast"))
    back = result + "-published"
    subprocess.run([program, "dequantize", result, back, "--fuse",
                    "--quiet"], check=True)
    wanted = {(name, dtype, tuple(smaller(shape))) for name, (dtype, shape, _)
              in read_golden(other)[0].items()}
    found = set(named(back))
    # A draft layer and the like may be in one of the two only.
    assert found <= wanted, f"{path}: {sorted(found - wanted)[:6]}"
    assert all(name in {one[0] for one in found} for name, _, _ in wanted
               if "experts" in name and "layers.0." in name
               and not name.startswith("mtp."))


def write_in_order(folder, tensors, model_type, config):
    os.makedirs(folder)
    header = reference.shard_header([(name, dtype, shape) for name,
                                     (dtype, shape, _) in tensors.items()])
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _, _, values in tensors.values():
            file.write(values.tobytes())
    with open(os.path.join(folder, "config.json"), "w",
              encoding="utf-8") as file:
        json.dump({"model_type": model_type, **config}, file)


def one_by_one(program, source, tensors, config, path):
    """A fused source and one with the same experts one by one, in the order of
    the results, give the same bytes in every file."""
    model_type, variant = kind_of(path)
    values, across = read_values(source), is_across(model_type, variant)
    fused, alone = {}, {}
    for name, (dtype, shape, _) in tensors.items():
        names = results_of(name, shape, model_type, variant)
        fused[name] = (dtype, list(values[name].shape), values[name])
        if len(names) == 1:
            alone[names[0]] = fused[name]
            continue
        parts = matrices_of(values[name], len(names) // shape[0], across)
        for one, part in zip(names, parts, strict=True):
            alone[one] = (dtype, list(part.shape), part)
    if list(fused) == list(alone):
        return
    results = []
    for kind, made in (("fused", fused), ("alone", alone)):
        folder = f"{source}-{kind}"
        write_in_order(folder, made, model_type, config)
        results.append(folder + "-result")
        subprocess.run([program, "quantize", folder, results[-1], "--quiet"],
                       check=True)
    difference = reference.compare(*results)
    assert difference is None, f"{path}: one by one: {difference}"


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
