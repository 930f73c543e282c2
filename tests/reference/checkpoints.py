#!/usr/bin/env python3
"""Small source checkpoints with every kind of tensor of Qwen3.6-35B-A3B.

    checkpoints.py VARIANT DIR     (without arguments: lists the variants)

or from Python: make(variant, folder). The same variant gives the same tensors
and layout every time, so a failure can be repeated. The weights come from
numpy's generator; its stream may differ between numpy versions, so results
are compared with reference.py's and never stored.
"""

import json
import os
import sys

import numpy as np

SHAPE = {"hidden": 256, "inter": 128, "head": 64, "heads": 4, "kv_heads": 2,
         "key": 128, "value": 256, "linear_heads": 4, "vision": 64,
         "vision_inter": 100, "vocab": 320, "experts": 3}

# Nothing is a multiple of 128. Rows: k_proj and v_proj 129, so that their
# last block has one row; columns: o_proj 129 and out_proj 257, so that theirs
# has one column. in_proj_qkv has 389 rows, q_proj 258.
RAGGED = {**SHAPE, "hidden": 200, "inter": 72, "head": 43, "heads": 3,
          "kv_heads": 3, "key": 66, "value": 257, "linear_heads": 3,
          "vision": 33, "vision_inter": 77, "vocab": 131}

LAYERS = 4

VARIANTS = {
    "fused": {"shards": 5},
    "one-shard": {"shards": 1},
    "per-expert": {"shards": 3, "mtp": "single"},
    "trunk-per-expert": {"shards": 2, "trunk": "single", "mtp": None},
    "f32-alog": {"shards": 2, "f32_alog": True},
    "no-mtp": {"shards": 2, "mtp": None},
    "ragged": {"shards": 3, "shape": RAGGED},
    "f16": {"shards": 2, "dtype": "F16"},
    "f32": {"shards": 2, "dtype": "F32"},
    "tiny-values": {"shards": 2, "odd_values": True},
    "dense-compact-config": {"shards": 2, "compact": True},
    "dense": {"shards": 2, "trunk": "dense", "mtp": "dense"},
    "distributions": {"shards": 2, "odd_values": "distributions"},
    "distributions-f16": {"shards": 1, "odd_values": "distributions",
                          "dtype": "F16", "trunk": "dense", "mtp": "dense"},
    "distributions-f32": {"shards": 1, "odd_values": "distributions",
                          "dtype": "F32", "trunk": "dense", "mtp": "dense"},
}


# ---- values -----------------------------------------------------------------

def to_bytes(values, dtype):
    """float32 to the bytes of a dtype, to nearest, ties to even."""
    values = np.ascontiguousarray(values, np.float32)
    if dtype == "F32":
        return values.astype("<f4").tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    bits = values.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    bits = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    return bits.astype("<u2").tobytes()


def plain_values(random, shape):
    """Gaussian weights; of larger matrices now and then a block of zeros."""
    values = random.standard_normal(shape, dtype=np.float32)
    values *= np.float32(0.02)
    if len(shape) >= 2 and shape[-2] > 100 and shape[-1] > 100:
        if random.random() < 0.3:
            values[..., :128, :128] = 0
    return values


def odd_values(random, rows, cols):
    """A matrix whose blocks hold, in turn, what arithmetic stumbles over."""
    values = random.standard_normal((rows, cols), dtype=np.float32)
    values *= np.float32(0.02)
    e4m3 = [m * 2.0 ** -9 for m in range(8)]
    e4m3 += [(8 + m) * 2.0 ** (e - 10) for e in range(1, 16)
             for m in range(8)][:-1]
    ties = [(a + b) / 2 for a, b in zip(e4m3, e4m3[1:])]

    def zeros(block):
        block[:] = 0

    def minus_zeros(block):
        block[:] = -0.0

    def mixed_zeros(block):
        block[::2] = -0.0
        block[1::2] = 0

    def subnormals(block):
        # Multiples of 2^-133, bfloat16's least number; scales at the floor.
        block[:] = np.ldexp(random.integers(-127, 128, block.shape), -133)

    def least(block):
        block[:] = 0
        block[-1, -1] = -(2.0 ** -133)

    def small_normals(block):
        block *= np.float32(2.0 ** -112)

    def huge(block):
        block[:] = np.sign(block) * np.float32(3.3e38)
        block[0, 0] = np.float32(255 / 128 * 2.0 ** 127)  # the largest

    def outlier(block):
        block[-1, 0] = -30

    def exact_ties(block):
        # The largest is 448 * 2^-3, so the scale is 2^-3 for every dtype
        # and each quotient lies exactly between two codes.
        some = random.choice(np.array(ties + e4m3), block.shape)
        block[:] = some * random.choice([-0.125, 0.125], block.shape)
        block[0, -1] = 448 * 0.125

    def near_ties(block):
        # As before, but by one bit of bfloat16 to either side.
        exact_ties(block)
        bits = block.view(np.uint32)
        step = random.integers(-1, 2, block.shape).astype(np.int64) * 65536
        step = np.where(np.abs(block) > 2.0 ** -100, step, 0)
        block[:] = (bits.astype(np.int64) + step).astype(
            np.uint32).view(np.float32)
        block[0, -1] = 448 * 0.125

    def power_of_two(block):
        # amax / 448 is a power of two: rounding up must not double it.
        block[:] = np.clip(block, -0.4, 0.4)
        block[1, 1] = 0.4375

    makers = [zeros, minus_zeros, subnormals, outlier, exact_ties, least,
              mixed_zeros, huge, near_ties, small_normals, power_of_two]
    turn = int(random.integers(len(makers)))
    for row in range(0, rows, 128):
        for col in range(0, cols, 128):
            block = np.ascontiguousarray(
                values[row:row + 128, col:col + 128])
            makers[turn % len(makers)](block)
            values[row:row + 128, col:col + 128] = block
            turn += 1
    return values


def distributed_values(random, rows, cols):
    """A matrix whose blocks follow, in turn, distributions that scales are
    searched for."""
    def t3(shape):
        return random.standard_t(3, shape)

    def t5(shape):
        return random.standard_t(5, shape)

    def uniform(shape):
        return random.uniform(-1, 1, shape)

    def outliers(shape):
        values = random.standard_normal(shape)
        values[random.random(shape) < 0.002] *= 30
        return values

    def one_outlier(shape):
        values = random.standard_normal(shape)
        values[0, -1] = 3000
        return values

    def sparse(shape):
        return random.standard_normal(shape) * (random.random(shape) < 0.01)

    def tiny(shape):
        return random.standard_normal(shape) * 2.0 ** -100

    def subnormal(shape):
        return random.standard_normal(shape) * 2.0 ** -122

    def discrete(shape):
        return random.integers(-3, 4, shape) / 4

    def powers(shape):
        return np.exp2(random.integers(-20, 3, shape))

    def wide(shape):
        return np.exp2(random.uniform(-24, 1, shape))

    def one_value(shape):
        return np.full(shape, random.uniform(0.5, 2))

    makers = [random.standard_normal, t3, t5, uniform, outliers, one_outlier,
              sparse, tiny, subnormal, discrete, powers, wide, one_value]
    values = np.zeros((rows, cols), np.float32)
    turn = int(random.integers(len(makers)))
    for row in range(0, rows, 128):
        for col in range(0, cols, 128):
            block = values[row:row + 128, col:col + 128]
            block[:] = makers[turn % len(makers)](block.shape) * 0.02
            turn += 1
    return values


# ---- tensors ----------------------------------------------------------------

def attention(prefix, s):
    width = s["heads"] * s["head"]
    kv_width = s["kv_heads"] * s["head"]
    return {
        prefix + "self_attn.q_proj.weight": [2 * width, s["hidden"]],
        prefix + "self_attn.k_proj.weight": [kv_width, s["hidden"]],
        prefix + "self_attn.v_proj.weight": [kv_width, s["hidden"]],
        prefix + "self_attn.o_proj.weight": [s["hidden"], width],
        prefix + "self_attn.q_norm.weight": [s["head"]],
        prefix + "self_attn.k_norm.weight": [s["head"]],
    }


def linear_attention(prefix, s):
    mixed = 2 * s["key"] + s["value"]
    heads = s["linear_heads"]
    prefix += "linear_attn."
    return {
        prefix + "in_proj_qkv.weight": [mixed, s["hidden"]],
        prefix + "in_proj_z.weight": [s["value"], s["hidden"]],
        prefix + "out_proj.weight": [s["hidden"], s["value"]],
        prefix + "in_proj_a.weight": [heads, s["hidden"]],
        prefix + "in_proj_b.weight": [heads, s["hidden"]],
        prefix + "conv1d.weight": [mixed, 1, 4],
        prefix + "A_log": [heads],
        prefix + "dt_bias": [heads],
        prefix + "norm.weight": [s["value"] // heads],
    }


def experts(prefix, s, how):
    hidden, inter = s["hidden"], s["inter"]
    if how == "dense":
        return {prefix + "mlp.gate_proj.weight": [inter, hidden],
                prefix + "mlp.up_proj.weight": [inter, hidden],
                prefix + "mlp.down_proj.weight": [hidden, inter]}
    shapes = {
        prefix + "mlp.gate.weight": [s["experts"], hidden],
        prefix + "mlp.shared_expert_gate.weight": [1, hidden],
        prefix + "mlp.shared_expert.gate_proj.weight": [inter, hidden],
        prefix + "mlp.shared_expert.up_proj.weight": [inter, hidden],
        prefix + "mlp.shared_expert.down_proj.weight": [hidden, inter],
    }
    prefix += "mlp.experts."
    if how == "fused":
        shapes[prefix + "gate_up_proj"] = [s["experts"], 2 * inter, hidden]
        shapes[prefix + "down_proj"] = [s["experts"], hidden, inter]
        return shapes
    for expert in range(s["experts"]):
        shapes[f"{prefix}{expert}.gate_proj.weight"] = [inter, hidden]
        shapes[f"{prefix}{expert}.up_proj.weight"] = [inter, hidden]
        shapes[f"{prefix}{expert}.down_proj.weight"] = [hidden, inter]
    return shapes


def norms(prefix, s):
    return {prefix + "input_layernorm.weight": [s["hidden"]],
            prefix + "post_attention_layernorm.weight": [s["hidden"]]}


def vision(s):
    width, inter = s["vision"], s["vision_inter"]
    prefix = "model.visual."
    block = prefix + "blocks.0."
    weights = {
        prefix + "patch_embed.proj": [width, 3, 2, 4, 4],
        block + "norm1": [width],
        block + "norm2": [width],
        block + "attn.qkv": [3 * width, width],
        block + "attn.proj": [width, width],
        block + "mlp.linear_fc1": [inter, width],
        block + "mlp.linear_fc2": [width, inter],
        prefix + "merger.norm": [width],
        prefix + "merger.linear_fc1": [4 * width, 4 * width],
        prefix + "merger.linear_fc2": [s["hidden"], 4 * width],
    }
    shapes = {prefix + "pos_embed.weight": [16, width]}
    for name, shape in weights.items():
        shapes[name + ".weight"] = shape
        shapes[name + ".bias"] = shape[:1]
    return shapes


def tensor_shapes(s, trunk="fused", mtp="fused"):
    """Name to shape of every tensor, grouped by module."""
    shapes = {
        "model.language_model.embed_tokens.weight": [s["vocab"], s["hidden"]],
        "model.language_model.norm.weight": [s["hidden"]],
        "lm_head.weight": [s["vocab"], s["hidden"]],
    }
    for layer in range(LAYERS):
        prefix = f"model.language_model.layers.{layer}."
        shapes.update(norms(prefix, s))
        shapes.update(attention(prefix, s) if layer % 4 == 3
                      else linear_attention(prefix, s))
        shapes.update(experts(prefix, s, trunk))
    shapes.update(vision(s))
    if mtp:
        shapes.update({
            "mtp.fc.weight": [s["hidden"], 2 * s["hidden"]],
            "mtp.norm.weight": [s["hidden"]],
            "mtp.pre_fc_norm_embedding.weight": [s["hidden"]],
            "mtp.pre_fc_norm_hidden.weight": [s["hidden"]],
        })
        shapes.update(norms("mtp.layers.0.", s))
        shapes.update(attention("mtp.layers.0.", s))
        shapes.update(experts("mtp.layers.0.", s, mtp))
    return shapes


def has_odd_values(name):
    kinds = ("self_attn.q_proj.weight", "linear_attn.in_proj_qkv.weight",
             "linear_attn.out_proj.weight", "experts.gate_up_proj",
             "experts.down_proj", "shared_expert.up_proj.weight")
    return name.endswith(kinds)


def make_tensors(random, shapes, dtype="BF16", f32_alog=False, odd=False):
    """Name to (dtype, shape, bytes)."""
    tensors = {}
    for name, shape in shapes.items():
        own = dtype
        if f32_alog and name.endswith(("A_log", "linear_attn.norm.weight")):
            own = "F32"
        if odd and has_odd_values(name):
            rows = int(np.prod(shape[:-1]))
            maker = (distributed_values if odd == "distributions"
                     else odd_values)
            values = maker(random, rows, shape[-1]).reshape(shape)
        else:
            values = plain_values(random, shape)
        tensors[name] = (own, shape, to_bytes(values, own))
    return tensors


# ---- files ------------------------------------------------------------------

def write_shard(path, tensors, order, listed, padded):
    """Data in the order `order`, header entries in the order `listed`."""
    header, position = {}, 0
    for name in order:
        end = position + len(tensors[name][2])
        header[name] = [position, end]
        position = end
    entries = {"__metadata__": {"format": "pt"}}
    for name in listed:
        dtype, shape, _ = tensors[name]
        entries[name] = {"dtype": dtype, "shape": shape,
                         "data_offsets": header[name]}
    printed = json.dumps(entries, separators=(",", ":")).encode()
    if padded:
        printed += b" " * (-len(printed) % 8)
    else:
        # Python's other spelling, and an odd length: data at odd offsets.
        printed = json.dumps(entries).encode()
        printed += b" " * (1 - len(printed) % 2)
    with open(path, "wb") as file:
        file.write(len(printed).to_bytes(8, "little") + printed)
        for name in order:
            file.write(tensors[name][2])


def write_weights(folder, random, tensors, shards):
    names = list(tensors)
    if shards == 1:
        random.shuffle(names)
        write_shard(os.path.join(folder, "model.safetensors"), tensors,
                    names, sorted(names), True)
        return
    # Every shard gets something, and each a random choice of tensors.
    homes = [i % shards for i in range(len(names))]
    random.shuffle(homes)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        order = [name for name, home in zip(names, homes) if home == shard]
        random.shuffle(order)
        listed = list(order)
        random.shuffle(listed)
        write_shard(os.path.join(folder, file), tensors, order, listed,
                    padded=shard != 1)
        weight_map.update((name, file) for name in order)
    random.shuffle(names)
    index = {"metadata": {"total_size": sum(len(data) for _, _, data
                                            in tensors.values())},
             "weight_map": {name: weight_map[name] for name in names}}
    with open(os.path.join(folder, "model.safetensors.index.json"), "w",
              encoding="utf-8") as file:
        json.dump(index, file, indent=2)
        file.write("\n")


def config(s, dtype, mtp):
    """Like the real one: nested, with numbers in several spellings."""
    name = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[dtype]
    kinds = ["full_attention" if layer % 4 == 3 else "linear_attention"
             for layer in range(LAYERS)]
    return {
        "architectures": ["Qwen3_5MoeForConditionalGeneration"],
        "image_token_id": 301,
        "model_type": "qwen3_5_moe",
        "text_config": {
            "attention_bias": False,
            "attention_dropout": 0.0,
            "attn_output_gate": True,
            "dtype": name,
            "eos_token_id": 302,
            "full_attention_interval": 4,
            "head_dim": s["head"],
            "hidden_act": "silu",
            "hidden_size": s["hidden"],
            "initializer_range": 0.02,
            "layer_types": kinds,
            "linear_conv_kernel_dim": 4,
            "linear_num_value_heads": s["linear_heads"],
            "max_position_embeddings": 262144,
            "model_type": "qwen3_5_moe_text",
            "moe_intermediate_size": s["inter"],
            "mtp_num_hidden_layers": 1 if mtp else 0,
            "num_attention_heads": s["heads"],
            "num_experts": s["experts"],
            "num_experts_per_tok": 2,
            "num_hidden_layers": LAYERS,
            "num_key_value_heads": s["kv_heads"],
            "pad_token_id": None,
            "rms_norm_eps": 1e-06,
            "router_aux_loss_coef": 0.001,
            "rope_parameters": {
                "mrope_interleaved": True,
                "mrope_section": [11, 11, 10],
                "partial_rotary_factor": 0.25,
                "rope_theta": 10000000,
                "rope_type": "default",
            },
            "shared_expert_intermediate_size": s["inter"],
            "vocab_size": s["vocab"],
        },
        "tie_word_embeddings": False,
        "transformers_version": "4.57.0.dev0",
        "video_token_id": 303,
        "vision_config": {
            "deepstack_visual_indexes": [],
            "depth": 1,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": s["vision"],
            "model_type": "qwen3_5_moe",
            "out_hidden_size": s["hidden"],
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        "vision_end_token_id": 304,
    }


SIDE_FILES = {
    "tokenizer.json": '{"version": "1.0", "added_tokens": [], "model": null}',
    "tokenizer_config.json": '{"model_max_length": 262144}\n',
    "chat_template.jinja": "{%- for m in messages %}\r\n{{ m }}{% endfor %}",
    "generation_config.json": '{\n  "temperature": 1.0\n}\n',
    "LICENSE": "Apache Licence, as it were. \u00a9 2026 \u5343\u95ee\n",
    "README.md": "# A small model\n",
    "empty.txt": "",
    "assets/merges.txt": "a b\nc d\n",
    "assets/deeper/config.json": '{"not": "the model\'s"}\n',
    # What must be left behind.
    "quant_model_description.json": '{"model_quant_type": "W8A8"}',
    "pytorch_model.bin": "pickled",
    "pytorch_model.bin.index.json": "{}",
    "assets/old.safetensors": "weights of something else",
    "assets/notes.gguf": "another format",
    ".git/HEAD": "ref: refs/heads/main\n",
    ".cache/x": "cached",
}


def write_side_files(folder):
    for name, content in SIDE_FILES.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content.encode("utf-8"))
    # The hub's cache is made of links; the copy must be a file.
    os.symlink(os.path.join("assets", "merges.txt"),
               os.path.join(folder, "merges.txt"))


def make(variant, folder, seed=0):
    """Writes one of VARIANTS into `folder`, which must be absent or empty."""
    options = VARIANTS[variant]
    s = options.get("shape", SHAPE)
    dtype = options.get("dtype", "BF16")
    mtp = options.get("mtp", "fused")
    os.makedirs(folder, exist_ok=True)
    if os.listdir(folder):
        raise FileExistsError(f"{folder} is not empty")
    random = np.random.default_rng([seed, list(VARIANTS).index(variant)])
    tensors = make_tensors(
        random, tensor_shapes(s, options.get("trunk", "fused"), mtp), dtype,
        options.get("f32_alog", False), options.get("odd_values", False))
    write_weights(folder, random, tensors, options["shards"])
    write_side_files(folder)
    values = config(s, dtype, mtp)
    if mtp == "dense":
        values["model_type"] = "qwen3_5"
    printed = json.dumps(values, indent=None if options.get("compact") else 2)
    with open(os.path.join(folder, "config.json"), "w",
              encoding="utf-8") as file:
        file.write(printed + "\n")


def main():
    if len(sys.argv) == 1:
        print("\n".join(VARIANTS))
        return 0
    if len(sys.argv) != 3 or sys.argv[1] not in VARIANTS:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    make(sys.argv[1], sys.argv[2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
