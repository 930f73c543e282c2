#!/usr/bin/env bats
# What plan and verify say about engines. The sizes were worked out by hand
# from the published shapes: a share of the inputs, and of each joined output,
# is a multiple of 128 (docs/serving.md).

# shellcheck disable=SC2154,SC2164  # set by helpers.bash; bats stops at cd
load helpers

setup_file() {
    begin_file
    "$fp8cast" synth "$shared/mini" --quiet
    "$fp8cast" synth --model qwen3.6-35b-a3b --sparse "$shared/full" --quiet
}
teardown_file() { end_file; }
setup() { begin_test; }
teardown() { end_test; }

# source_of DIR CONFIG TENSORS [BIASES]: a checkpoint of holes. TENSORS is
# Python: names to shapes of one layer, below `model.layers.0.`; BIASES: of q, k
# and v to rows. The ends of the model come with it (rows 256), the head unless
# it is tied. $prefix stands for another `model.`; $more has whole names.
source_of() {
    "$PYTHON" - "$reference" "$@" <<'END'
import json
import os
import sys
sys.path.insert(0, sys.argv[1])
import reference
folder, config, tensors = sys.argv[2], eval(sys.argv[3]), eval(sys.argv[4])
hidden = config.get("text_config", config)["hidden_size"]
prefix = os.environ.get("prefix", "model.")
all_ = {f"{prefix}embed_tokens.weight": [256, hidden],
        f"{prefix}norm.weight": [hidden]}
if not config.get("tie_word_embeddings"):
    all_["lm_head.weight"] = [256, hidden]
layer = f"{prefix}layers.0."
for norm in ("input_layernorm", "post_attention_layernorm"):
    all_[f"{layer}{norm}.weight"] = [hidden]
all_ |= {f"{layer}{name}.weight": shape for name, shape in tensors.items()}
for name, rows in eval(sys.argv[5] if len(sys.argv) > 5 else "{}").items():
    all_[f"{layer}self_attn.{name}_proj.bias"] = [rows]
all_ |= eval(os.environ.get("more", "{}"))
os.makedirs(folder)
json.dump(config, open(f"{folder}/config.json", "w"))
header = reference.shard_header([(n, "BF16", s) for n, s in all_.items()])
with open(f"{folder}/model.safetensors", "wb") as file:
    file.write(len(header).to_bytes(8, "little") + header)
    file.truncate(8 + len(header) + sum(
        2 * reference.elements(s) for s in all_.values()))
END
}

# attention Q K V: heads' rows, as Python's members of TENSORS.
attention() { # HIDDEN Q KV
    echo "'self_attn.q_proj': [$2, $1], 'self_attn.k_proj': [$3, $1],
        'self_attn.v_proj': [$3, $1], 'self_attn.o_proj': [$1, $2]"
}

# mlp PREFIX HIDDEN INTER
mlp() {
    echo "'$1gate_proj': [$3, $2], '$1up_proj': [$3, $2],
        '$1down_proj': [$2, $3]"
}

# loads ENGINE-INDEX TP SPREAD: of the last plan --json.
loads() {
    holds out "d['serving']['engines'][$1]['tensor_parallel'] == $2" \
        "d['serving']['engines'][$1]['experts_spread'] == $3"
}
findings() { # warnings in ./out, as a Python list of (engine, where, what)
    "$PYTHON" -c 'import json
for f in json.load(open("out"))["serving"]["findings"]:
    if f["severity"] == "warning":
        print(f["engine"], f["where"], f["tensors"], f["what"], sep="|")'
}

# shapes_of FAMILY: my.rules, its rules without what engines fail at anyway.
shapes_of() {
    grep -q '^fails' "$root/rules/$1.rules"
    grep -v '^fails' "$root/rules/$1.rules" >my.rules
}

llama() { # DIR INTER [MORE-CONFIG]: Llama-3.1-8B, its MLP aside; $type for it
    source_of "$1" "{'model_type': '${type:-llama}', 'hidden_size': 4096,
        'num_attention_heads': 32, 'num_key_value_heads': 8${3:+, $3}}" \
        "{$(attention 4096 4096 1024), $(mlp mlp. 4096 "$2")}"
}

@test "Qwen3.6-35B-A3B: up to 4, beyond with experts spread" {
    # 512 / 8 = 64 rows of an expert; heads: 16 queries, 16 and 32 of linear
    # attention; 2 of keys, copied beyond.
    for layout in card official; do
        program 0 plan "$shared/full" --json --layout $layout
        loads 0 '[1, 2, 4]' '[1, 2, 4, 8, 16]'
        loads 1 '[1, 2, 4]' '[1, 2, 4, 8, 16]'
        holds out 'd["serving"]["engines"][0]["limit"]
                == "8: mlp.shared_expert.down_proj, 64 of 512 columns each"' \
            'd["serving"]["engines"][1]["limit"]
                == "8: experts.gate_proj, 64 of 512 rows each"' \
            '[e["warnings"] for e in d["serving"]["engines"]] == [0, 0, 0]' \
            'd["serving"]["engines"][2]["tensor_parallel"] is None'
    done
    program 0 plan "$shared/full"
    grep -qx 'vllm 0.32.0          tensor parallel 1, 2, 4, with experts spread also 8, 16' out
    grep -qx '                     not 8: experts.gate_proj, 64 of 512 rows each' out
    [ "$(LC_ALL=C.UTF-8 grep -cE '.{81,}' out)" -eq 0 ]
}

@test "Qwen3-30B-A3B: experts of 768 rows are six blocks" {
    # SGLang: 768 / 4 = 192. vLLM makes blocks of gcd(128, 192, 2048) = 64 and
    # gcd(128, 96, 2048) = 32 of them at 4 and 8; of 16 it makes none.
    source_of src "{'model_type': 'qwen3_moe', 'hidden_size': 2048,
        'num_attention_heads': 32, 'num_key_value_heads': 4}" \
        "{$(attention 2048 4096 512), 'mlp.gate': [2, 2048],
        'self_attn.q_norm': [128], 'self_attn.k_norm': [128],
        $(mlp mlp.experts.0. 2048 768), $(mlp mlp.experts.1. 2048 768)}"
    program 0 plan src --json --for vllm:8 --for sglang:2
    loads 0 '[1, 2, 4, 8]' '[1, 2, 4, 8, 16, 32]'
    loads 1 '[1, 2]' '[1, 2, 4, 8, 16, 32]'
    holds out 'd["serving"]["engines"][0]["smaller_blocks"] == [4, 8]' \
        'd["serving"]["engines"][0]["limit"] ==
            "16: experts.down_proj, 48 of 768 columns each"' \
        'd["serving"]["engines"][0]["experts_spread_limit"] ==
            "64: self_attn.q_proj, 32 num_attention_heads"'
    program 0 plan src
    grep -q "spreads experts' scales over smaller blocks at 4, 8" out
    program 1 plan src --for sglang:4 --quiet
    says "fp8cast: --for sglang:4: does not load on so many devices (not on 4: experts.gate_proj, 192 of 768 rows each)"
}

@test "Llama-3.1-8B: 14,336 rows are 112 blocks" {
    # 112 / 16 = 7; 112 / 32 = 3.5.
    llama src 14336
    shapes_of llama
    program 0 plan src --rules my.rules --json
    loads 0 '[1, 2, 4, 8, 16]' '[1, 2, 4, 8, 16]'
    loads 1 '[1, 2, 4, 8, 16]' '[1, 2, 4, 8, 16]'
    holds out 'd["serving"]["engines"][1]["limit"] ==
        "32: mlp.gate_proj, 448 of 14336 rows each"'
}

@test "Qwen2.5-0.5B: 14 heads of 64, and a tied head" {
    # 2 devices: 448 rows of queries are 3.5 blocks; 64 of keys half a one.
    source_of src "{'model_type': 'qwen2', 'hidden_size': 896,
        'num_attention_heads': 14, 'num_key_value_heads': 2,
        'tie_word_embeddings': True}" \
        "{$(attention 896 896 128), $(mlp mlp. 896 4864)}" \
        "{'q': 896, 'k': 128, 'v': 128}"
    program 0 plan src --json --for vllm --for sglang --for transformers
    loads 0 '[1]' '[1]'
    loads 1 '[1]' '[1]'
    holds out '"2: self_attn.o_proj, 448 of 896 columns each"
        == d["serving"]["engines"][0]["limit"]' \
        'sum("tied" in f["what"] for f in d["serving"]["findings"]) == 3' \
        'all(f["severity"] == "note" for f in d["serving"]["findings"])'
    program 0 plan src
    grep -q '^note  *vllm, sglang, transformers: the head is tied to the$' out
}

@test "DeepSeek-V3: what is not divided, and a waist that is no multiple of 128" {
    # Experts and the shared one: 2048 / 16 = 128; the dense layers'
    # 18432 / 32 = 576. kv_a_proj_with_mqa has 512 + 64 rows: whole on each
    # device, and the last of what engines join, but 576 is no multiple of the
    # five rows of its scales.
    source_of src "{'model_type': 'deepseek_v3', 'hidden_size': 7168,
        'num_attention_heads': 128}" \
        "{'self_attn.q_a_proj': [1536, 7168],
        'self_attn.q_b_proj': [24576, 1536],
        'self_attn.kv_a_proj_with_mqa': [576, 7168],
        'self_attn.kv_b_proj': [32768, 512],
        'self_attn.o_proj': [7168, 16384], 'self_attn.q_a_layernorm': [1536],
        'self_attn.kv_a_layernorm': [512],
        $(mlp mlp. 7168 18432), 'mlp.gate': [1, 7168],
        $(mlp mlp.experts.0. 7168 2048), $(mlp mlp.shared_experts. 7168 2048)}"
    sed 's/keep  model.layers.{n}.mlp.gate.e_score.*/& optional/' \
        "$root/rules/deepseek_v3.rules" >my.rules
    program 0 plan src --rules my.rules --json --for vllm:16 --for sglang:16
    loads 0 '[1, 2, 4, 8, 16]' '[1, 2, 4, 8, 16]'
    loads 1 '[1, 2, 4, 8, 16]' '[1, 2, 4, 8, 16]'
    [ "$(findings)" = "transformers|self_attn.kv_a_proj_with_mqa|1|refuses to dequantize [576, 7168]: its scales' grid does not divide it" ]
    program 1 plan src --rules my.rules --for transformers --quiet
    says "fp8cast: --for transformers: 1 warning, the first: refuses to dequantize [576, 7168]: its scales' grid does not divide it"
}

# limit ENGINE-INDEX SIZE TEXT: why the last plan --json says it does not load.
limit() {
    holds out "'$2: $3' in d['serving']['engines'][$1]['limits']"
}

@test "DeepSeek-V3.2: its indexer is on every device" {
    # As DeepSeek-V3; 64 heads of 128 rows of the indexer, and 128 of its keys.
    more="{'model.layers.0.mlp.gate.e_score_correction_bias': [1],
        'model.layers.0.self_attn.indexer.k_norm.bias': [128]}" \
        source_of src "{'model_type': 'deepseek_v32', 'hidden_size': 7168,
        'num_attention_heads': 128}" \
        "{'self_attn.q_a_proj': [1536, 7168],
        'self_attn.q_b_proj': [24576, 1536],
        'self_attn.kv_a_proj_with_mqa': [576, 7168],
        'self_attn.kv_b_proj': [32768, 512],
        'self_attn.o_proj': [7168, 16384], 'self_attn.q_a_layernorm': [1536],
        'self_attn.kv_a_layernorm': [512],
        'self_attn.indexer.wq_b': [8192, 1536],
        'self_attn.indexer.wk': [128, 7168],
        'self_attn.indexer.weights_proj': [64, 7168],
        'self_attn.indexer.k_norm': [128],
        'mlp.gate': [1, 7168],
        $(mlp mlp.experts.0. 7168 2048), $(mlp mlp.shared_experts. 7168 2048)}"
    program 0 plan src --json
    # 2048 / 32 = 64; with experts spread the heads: 128 / 64 = 2, whose 384
    # rows of queries, 512 of keys and values and 256 columns are whole blocks.
    loads 0 '[1, 2, 4, 8, 16]' '[1, 2, 4, 8, 16, 32, 64]'
    loads 1 '[1, 2, 4, 8, 16]' '[1, 2, 4, 8, 16, 32, 64]'
    limit 1 32 'experts.gate_proj, 64 of 2048 rows each'
}

@test "ERNIE-4.5-21B-A3B and 300B-A47B: heads, and experts of 28 blocks" {
    more="{'model.layers.0.mlp.moe_statics.e_score_correction_bias': [1, 1]}" \
        source_of small "{'model_type': 'ernie4_5_moe', 'hidden_size': 2560,
        'num_attention_heads': 20, 'num_key_value_heads': 4,
        'tie_word_embeddings': True}" \
        "{$(attention 2560 2560 512), 'mlp.gate': [1, 2560],
        $(mlp mlp.experts.0. 2560 1536), $(mlp mlp.shared_experts. 2560 3072)}"
    program 0 plan small --json
    loads 0 '[1, 2, 4]' '[1, 2, 4]'
    loads 1 '[1, 2, 4]' '[1, 2, 4]'
    limit 0 8 'self_attn.q_proj, 20 num_attention_heads'
    # 3584 / 4 = 7 blocks; beyond vLLM makes blocks of 64 at 8 (448 rows) and 32
    # at 16 (224), and 112 rows at 32 leave 16. 28672 / 32 = 7 blocks.
    more="{'model.layers.0.mlp.moe_statics.e_score_correction_bias': [1, 1]} | {
        f'model.layers.1.mlp.{name}_proj.weight': shape for name, shape in (
            ('gate', [28672, 8192]), ('up', [28672, 8192]),
            ('down', [8192, 28672]))}" \
        source_of large "{'model_type': 'ernie4_5_moe', 'hidden_size': 8192,
        'num_attention_heads': 64, 'num_key_value_heads': 8,
        'tie_word_embeddings': True}" \
        "{$(attention 8192 8192 1024), 'mlp.gate': [1, 8192],
        $(mlp mlp.experts.0. 8192 3584)}"
    program 0 plan large --json
    loads 0 '[1, 2, 4, 8, 16]' '[1, 2, 4, 8, 16, 32]'
    loads 1 '[1, 2, 4]' '[1, 2, 4, 8, 16, 32]'
    holds out 'd["serving"]["engines"][0]["smaller_blocks"] == [8, 16]'
    limit 0 32 'experts.down_proj, 112 of 3584 columns each'
    # 28672 / 64 = 448 of the dense layers, spread or not.
    holds out 'd["serving"]["engines"][0]["experts_spread_limits"]
        == ["64: mlp.down_proj, 448 of 28672 columns each"]'
}

@test "Hunyuan-A13B: a shared expert that is always divided" {
    # 3072 / 8 = 3 blocks, 3072 / 16 = 1.5, of the shared one as of the others.
    more="{'model.layers.0.mlp.gate.wg.weight': [64, 4096]}" \
        source_of src "{'model_type': 'hunyuan_v1_moe', 'hidden_size': 4096,
        'num_attention_heads': 32, 'num_key_value_heads': 8,
        'tie_word_embeddings': True}" \
        "{$(attention 4096 4096 1024), 'self_attn.query_layernorm': [128],
        'self_attn.key_layernorm': [128], $(mlp mlp.experts.0. 4096 3072),
        $(mlp mlp.shared_mlp. 4096 3072)}"
    program 0 plan src --json
    loads 0 '[1, 2, 4, 8]' '[1, 2, 4, 8]'
    loads 1 '[1, 2, 4, 8]' '[1, 2, 4, 8]'
    holds out 'd["serving"]["engines"][0]["experts_spread_limit"]
        == "16: mlp.shared_mlp.down_proj, 192 of 3072 columns each"'
}

@test "Granite-3.0-3B-A800M: experts of four blocks, heads of half a one" {
    # 24 heads of 64: 1536 / 8 = 192 rows and columns; 512 / 8 = 64 of an expert.
    source_of src "{'model_type': 'granitemoe', 'hidden_size': 1536,
        'num_attention_heads': 24, 'num_key_value_heads': 8,
        'tie_word_embeddings': True}" \
        "{$(attention 1536 1536 512),
        'block_sparse_moe.router.layer': [40, 1536],
        'block_sparse_moe.input_linear': [40, 1024, 1536],
        'block_sparse_moe.output_linear': [40, 1536, 512]}"
    program 0 plan src --json
    loads 0 '[1, 2, 4]' '[1, 2, 4]'
    loads 1 '[1, 2, 4]' '[1, 2, 4]'
    limit 0 8 'self_attn.o_proj, 192 of 1536 columns each'
    limit 0 16 'self_attn.q_proj, 24 num_attention_heads'
    limit 1 8 'self_attn.q_proj, 192 of 1536 rows each'
    program 0 plan src --keep '*.self_attn.*' --json
    limit 1 8 'experts.gate_proj, 64 of 512 rows each'
}

@test "Phi-3.5-MoE: experts of 50 blocks" {
    # 6400 / 2 = 25 blocks; of 1600 and 800 rows vLLM makes blocks of 64 and 32.
    more="{'model.norm.bias': [4096], 'lm_head.bias': [256],
        'model.layers.0.input_layernorm.bias': [4096],
        'model.layers.0.post_attention_layernorm.bias': [4096]}" \
        source_of src "{'model_type': 'phimoe', 'hidden_size': 4096,
        'num_attention_heads': 32, 'num_key_value_heads': 8}" \
        "{$(attention 4096 4096 1024), 'block_sparse_moe.gate': [16, 4096],
        'block_sparse_moe.experts.0.w1': [6400, 4096],
        'block_sparse_moe.experts.0.w2': [4096, 6400],
        'block_sparse_moe.experts.0.w3': [6400, 4096]}"
    program 0 plan src --json
    loads 0 '[1, 2, 4, 8]' '[1, 2, 4, 8, 16, 32]'
    loads 1 '[1, 2]' '[1, 2, 4, 8, 16, 32]'
    holds out 'd["serving"]["engines"][0]["smaller_blocks"] == [4, 8]'
    limit 0 16 'experts.w2, 400 of 6400 columns each'
    limit 1 4 'experts.w1, 1600 of 6400 rows each'
}

@test "Qwen3-VL-235B-A22B: experts of twelve blocks" {
    # 1536 / 8 = 192 and 1536 / 16 = 96: blocks of 64 and 32; 48 rows leave 16.
    prefix=model.language_model. more="{'model.language_model.layers.0.mlp.experts.gate_up_proj': [2, 3072, 4096],
        'model.language_model.layers.0.mlp.experts.down_proj': [2, 4096, 1536]}" \
        source_of src "{'model_type': 'qwen3_vl_moe', 'text_config': {
        'hidden_size': 4096, 'num_attention_heads': 64,
        'num_key_value_heads': 4, 'moe_intermediate_size': 1536}}" \
        "{$(attention 4096 8192 512), 'self_attn.q_norm': [128],
        'self_attn.k_norm': [128], 'mlp.gate': [2, 4096]}"
    grep -v '^keep.*model.visual' "$root/rules/qwen3_vl_moe.rules" >my.rules
    program 0 plan src --rules my.rules --json
    loads 0 '[1, 2, 4, 8, 16]' '[1, 2, 4, 8, 16, 32, 64]'
    loads 1 '[1, 2, 4]' '[1, 2, 4, 8, 16, 32, 64]'
    holds out 'd["serving"]["engines"][0]["smaller_blocks"] == [8, 16]'
    limit 1 8 'experts.gate_proj, 192 of 1536 rows each'
}

@test "Gemma 3, 1B and 4B: numbers of heads that no config has" {
    # 6912 / 4 = 13.5 blocks; one head of keys and values, copied.
    source_of small "{'model_type': 'gemma3_text', 'hidden_size': 1152,
        'tie_word_embeddings': True}" \
        "{$(attention 1152 1024 256), 'self_attn.q_norm': [256],
        'self_attn.k_norm': [256], 'pre_feedforward_layernorm': [1152],
        'post_feedforward_layernorm': [1152], $(mlp mlp. 1152 6912)}"
    program 0 plan small --json
    loads 0 '[1, 2]' '[1, 2]'
    loads 1 '[1, 2]' '[1, 2]'
    limit 0 4 'mlp.down_proj, 1728 of 6912 columns each'
    limit 1 4 'mlp.gate_proj, 1728 of 6912 rows each'
    limit 1 8 'self_attn.q_proj, 4 heads'
    # 8 heads of queries; 10240 / 8 = 10 blocks. A tower of another model's
    # heads is in nobody's way.
    prefix=language_model.model. \
        more="{'multi_modal_projector.mm_input_projection_weight': [1152, 2560],
        'multi_modal_projector.mm_soft_emb_norm.weight': [1152],
        'vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight':
            [1153, 1152]}" \
        source_of large "{'model_type': 'gemma3', 'tie_word_embeddings': True,
        'text_config': {'hidden_size': 2560}}" \
        "{$(attention 2560 2048 1024), 'self_attn.q_norm': [256],
        'self_attn.k_norm': [256], 'pre_feedforward_layernorm': [2560],
        'post_feedforward_layernorm': [2560], $(mlp mlp. 2560 10240)}"
    program 0 plan large --json
    loads 0 '[1, 2, 4, 8]' '[1, 2, 4, 8]'
    loads 1 '[1, 2, 4, 8]' '[1, 2, 4, 8]'
    limit 0 16 'self_attn.q_proj, 8 heads'
}

gemma4() { # DIR HIDDEN NORM Q KV INTER [MORE]: a layer of a text-only Gemma 4
    more="{'model.layers.0.layer_scalar': [1]}" \
        source_of "$1" "{'model_type': 'gemma4_text', 'hidden_size': $2,
        'tie_word_embeddings': True}" \
        "{$(attention "$2" "$4" "$5"), 'self_attn.q_norm': [$3],
        'self_attn.k_norm': [$3], 'pre_feedforward_layernorm': [$2],
        'post_feedforward_layernorm': [$2], $(mlp mlp. "$2" "$6")${7:+, $7}}"
}

@test "Gemma 4: layers of two kinds of heads, told by their norms" {
    # 31B: 32 heads of 256 with 16 of keys, or of 512 with 4; 21504 / 8 = 21
    # blocks, / 16 = 10.5.
    gemma4 near 5376 256 8192 4096 21504
    gemma4 far 5376 512 16384 2048 21504
    shapes_of gemma4_text
    for layer in near far; do
        program 0 plan $layer --rules my.rules --json
        loads 0 '[1, 2, 4, 8]' '[1, 2, 4, 8]'
        loads 1 '[1, 2, 4, 8]' '[1, 2, 4, 8]'
        limit 0 16 'mlp.down_proj, 1344 of 21504 columns each'
    done
    # A layer alone would go on: four heads are copied, 32 divided.
    program 0 plan far --rules my.rules --json --keep '*.mlp.*'
    loads 0 '[1, 2, 4, 8, 16, 32]' '[1, 2, 4, 8, 16, 32]'
    # 26B-A4B: 2112 rows are 16.5 blocks. Kept, experts of 704 rows, 5.5 blocks,
    # remain: vLLM makes blocks of 64 and 32 of 704, 352; 176 leave 16. SGLang
    # takes none, spread or not.
    gemma4 moe 2816 256 4096 2048 2112 "'router.proj': [1, 2816],
        'post_feedforward_layernorm_1': [2816],
        'post_feedforward_layernorm_2': [2816],
        'pre_feedforward_layernorm_2': [2816],
        $(mlp experts.0. 2816 704)"
    sed -i 's/^keep.*router\..*scale /& optional /' my.rules
    program 0 plan moe --rules my.rules --json
    loads 0 '[]' '[]'
    loads 1 '[]' '[]'
    program 0 plan moe --rules my.rules --keep '*.mlp.*' --json
    loads 0 '[1, 2]' '[1, 2, 4, 8, 16]'
    loads 1 '[]' '[]'
    holds out 'd["serving"]["engines"][0]["smaller_blocks"] == [1, 2]'
    # Activations then have groups of 64 or 32, which divide 704.
    program 0 plan moe --rules my.rules --keep '*.mlp.*' --for vllm:2 --quiet
    program 1 plan moe --rules my.rules --keep '*.mlp.*' --for sglang --quiet
    says "fp8cast: --for sglang: 2 warnings, the first: cannot be served, not even on one device: 704 rows"
}

@test "GLM-4.5-Air: the one dense layer has 85.5 blocks" {
    # Routed experts of 1408 rows, 11 blocks.
    more="{'model.layers.1.mlp.gate.e_score_correction_bias': [1]} | {
        'model.layers.1.' + name: shape for name, shape in (
            ('mlp.gate.weight', [1, 4096]),
            *((f'mlp.{part}.{one}_proj.weight', [4096, 1408] if one == 'down'
               else [1408, 4096]) for part in ('experts.0', 'shared_experts')
              for one in ('gate', 'up', 'down')))}" \
        source_of src "{'model_type': 'glm4_moe', 'hidden_size': 4096,
        'num_attention_heads': 96, 'num_key_value_heads': 8,
        'tie_word_embeddings': True}" \
        "{$(attention 4096 12288 1024), $(mlp mlp. 4096 10944)}" \
        "{'q': 12288, 'k': 1024, 'v': 1024}"
    program 0 plan src --json
    loads 0 '[]' '[]'
    loads 1 '[]' '[]'
    program 0 plan src --keep 'model.layers.0.mlp.*' --json --for vllm \
        --for sglang --for transformers
    loads 0 '[1]' '[1, 2, 4, 8, 16, 32]'
    loads 1 '[1]' '[1, 2, 4, 8, 16, 32]'
}

@test "Llama 4 Scout: 40 heads; a shared expert that SGLang always divides" {
    # 8192 / 64 = 128, but 40 / 16.
    prefix=language_model.model. more="{
        'language_model.lm_head.weight': [256, 5120],
        'language_model.model.layers.0.feed_forward.experts.gate_up_proj':
            [2, 5120, 16384],
        'language_model.model.layers.0.feed_forward.experts.down_proj':
            [2, 8192, 5120]}" \
        source_of src "{'model_type': 'llama4', 'tie_word_embeddings': True,
        'text_config': {'hidden_size': 5120, 'num_attention_heads': 40,
        'num_key_value_heads': 8}}" \
        "{$(attention 5120 5120 1024), 'feed_forward.router': [2, 5120],
        $(mlp feed_forward.shared_expert. 5120 8192)}"
    grep -vE '^keep +(vision|multi)' "$root/rules/llama4.rules" >my.rules
    program 0 plan src --rules my.rules --json
    loads 0 '[1, 2, 4, 8]' '[1, 2, 4, 8]'
    loads 1 '[1, 2, 4, 8]' '[1, 2, 4, 8]'
    limit 1 16 'self_attn.q_proj, 40 num_attention_heads'
    # Its head has another name than others'.
    sed -i 's/"tie_word_embeddings": true/"tie_word_embeddings": false/' \
        src/config.json
    program 0 plan src --rules my.rules --for vllm --for sglang --quiet
    # Were its experts of 1024: 8 devices, 16 only where the shared one is whole.
    source_of text "{'model_type': 'llama4_text', 'hidden_size': 4096,
        'num_attention_heads': 32, 'num_key_value_heads': 8}" \
        "{$(attention 4096 4096 1024), 'feed_forward.router': [1, 4096],
        $(mlp feed_forward.shared_expert. 4096 1024),
        $(mlp feed_forward.experts.0. 4096 1024)}"
    shapes_of llama4_text
    program 0 plan text --rules my.rules --json
    loads 0 '[1, 2, 4, 8]' '[1, 2, 4, 8, 16, 32]'
    loads 1 '[1, 2, 4, 8]' '[1, 2, 4, 8]'
}

phi3() { # DIR HIDDEN HEADS KV QKV INTER
    source_of "$1" "{'model_type': 'phi3', 'hidden_size': $2,
        'num_attention_heads': $3, 'num_key_value_heads': $4}" \
        "{'self_attn.qkv_proj': [$5, $2], 'self_attn.o_proj': [$2, $7],
        'mlp.gate_up_proj': [2 * $6, $2], 'mlp.down_proj': [$2, $6]}"
}

@test "Phi-3 and Phi-4: queries, keys and values in one matrix" {
    # Mini: 32 heads of 96; 3072 / 8 = 3 blocks. Medium and Phi-4: 40 heads of
    # 128 and 10 of keys; 17920 / 2 = 70 blocks. Phi-4-mini: 24 and 8 heads.
    shapes_of phi3
    phi3 mini 3072 32 32 9216 8192 3072
    phi3 medium 5120 40 10 7680 17920 5120
    phi3 four-mini 3072 24 8 5120 8192 3072
    program 0 plan mini --rules my.rules --json --for vllm:8
    loads 0 '[1, 2, 4, 8]' '[1, 2, 4, 8]'
    loads 1 '[1, 2, 4, 8]' '[1, 2, 4, 8]'
    limit 0 16 'self_attn.o_proj, 192 of 3072 columns each'
    limit 1 16 'self_attn.qkv_proj, 192 of 3072 rows of q_proj each: raises'
    limit 1 64 'self_attn.qkv_proj, 32 num_attention_heads'
    program 0 plan medium --rules my.rules --json
    loads 0 '[1, 2]' '[1, 2]'
    limit 0 4 'self_attn.qkv_proj, 10 num_key_value_heads'
    program 0 plan four-mini --rules my.rules --json
    loads 0 '[1, 2, 4, 8]' '[1, 2, 4, 8]'
    limit 0 16 'self_attn.qkv_proj, 24 num_attention_heads'
    program 1 plan four-mini --rules my.rules --for vllm:32 -q
    says "fp8cast: --for vllm:32: does not load on so many devices (not on 32: self_attn.qkv_proj, 24 num_attention_heads)"
}

@test "one matrix whose parts cut blocks: which engine, which part, what" {
    # 32 queries' heads of 64 are 16 blocks; one of keys and one of values share
    # the next. Gate and up of 240 rows begin in blocks of their own.
    shapes_of phi3
    phi3 src 2048 32 1 2176 240 2048
    program 0 plan src --rules my.rules --json
    loads 0 '[]' '[]'
    loads 1 '[]' '[]'
    [ "$(findings | head -2)" = "vllm|self_attn.qkv_proj|1|cannot be served, not even on one device: v_proj begins at row 2112, within a block: raises
sglang|self_attn.qkv_proj|1|cannot be served, not even on one device: 64 rows of k_proj: raises" ]
    holds out 'all(f["tensor"] == "model.layers.0.self_attn.qkv_proj.weight"
        for f in d["serving"]["findings"][:2])'
    limit 0 1 'self_attn.qkv_proj, v_proj begins at row 2112, within a block: raises'
    program 1 plan src --rules my.rules --for vllm -q
    says "fp8cast: --for vllm: 2 warnings, the first: cannot be served, not even on one device: v_proj begins at row 2112, within a block: raises"
    program 0 plan src --rules my.rules
    # Without it vLLM takes the other on one device. On two it says nothing.
    program 0 plan src --rules my.rules --json --keep '*_attn.*' --keep '*.down_proj.*'
    loads 0 '[1]' '[1]'
    loads 1 '[]' '[]'
    limit 0 2 'mlp.gate_up_proj, 120 of 240 rows of gate_proj each: scales of other rows, silently'
    limit 0 4 'mlp.gate_up_proj, 60 of 240 rows of gate_proj each: raises'
    program 1 plan src --rules my.rules --keep '*_attn.*' --keep '*.down_proj.*' --for vllm:2 -q
    says "fp8cast: --for vllm:2: does not load on so many devices (not on 2: mlp.gate_up_proj, 120 of 240 rows of gate_proj each: scales of other rows, silently)"
    program 0 plan src --rules my.rules --keep '*_attn.*' --keep '*.down_proj.*'
    tr -s ' \n' ' ' <out | grep -qF "not 2: mlp.gate_up_proj, 120 of 240 rows of gate_proj each: scales of other rows, silently"
    # verify of a result says the same.
    program 0 quantize src dst --rules my.rules --quiet
    program 0 plan src --rules my.rules --json
    mv out planned
    program 0 verify src dst --rules my.rules --json
    "$PYTHON" - <<'END'
import json
planned, verified = (json.load(open(f))["serving"] for f in ("planned", "out"))
limits = [[e["limits"] for e in s["engines"]] for s in (planned, verified)]
assert limits[0] == limits[1] and limits[0][0], limits
told = [[f["what"] for f in s["findings"] if f["severity"] == "warning"]
        for s in (planned, verified)]
assert told[0] == told[1] and len(told[0]) > 1, told
END
}

@test "ragged blocks: who refuses, who computes nonsense" {
    # 192 rows: joined, they do not end with a block; transformers takes
    # 192 / 2 = 96 rows for one.
    type=granite llama src 192
    program 0 plan src --json
    loads 0 '[]' '[]'
    loads 1 '[]' '[]'
    [ "$(findings)" = "vllm|mlp.gate_proj|1|cannot be served, not even on one device: 192 rows
sglang|mlp.gate_proj|1|cannot be served, not even on one device: 192 rows
transformers|mlp.gate_proj|1|dequantizes [192, 4096] with blocks that are not 128 wide, silently
transformers|mlp.up_proj|1|dequantizes [192, 4096] with blocks that are not 128 wide, silently
transformers|mlp.down_proj|1|dequantizes [4096, 192] with blocks that are not 128 wide, silently
vllm|mlp.down_proj|1|no token can be computed: [4096, 192] has columns beyond a multiple of 128
sglang|mlp.down_proj|1|no token can be computed: [4096, 192] has columns beyond a multiple of 128" ]
    program 0 plan src
    [ "$(grep -c '^warning ' out)" -eq 5 ]
    grep -qx 'vllm 0.32.0          loads at no size' out
    [ "$(LC_ALL=C.UTF-8 grep -cE '.{81,}' out)" -eq 0 ]
    # Kept, they are in nobody's way.
    program 0 plan src --keep '*.mlp.*' --for vllm --for sglang:8 \
        --for transformers --json
    loads 1 '[1, 2, 4, 8, 16, 32]' '[1, 2, 4, 8, 16, 32]'
    for engine in vllm sglang transformers; do
        program 1 plan src --for $engine --quiet
        [ "$(wc -l <err)" -eq 1 ]
        grep -q "^fp8cast: --for $engine: [23] warnings, the first: " err
    done
    program 1 plan src --for sglang --for vllm --quiet
    [ "$(wc -l <err)" -eq 2 ]
}

@test "what an engine's code cannot do: a warning, and no size" {
    text='drops all block scales without a word'
    llama src 14336
    program 0 plan src --json --for vllm:16 --for transformers
    loads 0 '[1, 2, 4, 8, 16]' '[1, 2, 4, 8, 16]'
    loads 1 '[]' '[]'
    [ "$(findings)" = "sglang||0|$text" ]
    holds out 'd["notes"] == []' \
        'd["serving"]["engines"][1]["warnings"] == 1' \
        'd["serving"]["engines"][1]["limit"] is None' \
        'd["serving"]["engines"][1]["limits"] == []' \
        'd["serving"]["engines"][1]["not_known"] is None'
    program 0 plan src
    grep -qx 'sglang 0.5.23        loads at no size' out
    grep -qx "warning              sglang: $text" out
    for size in '' :1 :4; do
        program 1 plan src --for sglang$size --quiet
        says "fp8cast: --for sglang: 1 warning, the first: $text"
    done
    # Where nothing is FP8 there are no scales.
    program 0 plan src --for sglang:4 --quiet --keep '*_proj.weight'
    # Its rules are Granite's and ERNIE's too, whose classes do it right.
    for type in granite ernie4_5; do
        sed "s/\"llama\"/\"$type\"/" -i src/config.json
        program 0 plan src --for sglang:16 --for transformers --quiet
        sed "s/\"$type\"/\"llama\"/" -i src/config.json
    done
    for type in mistral ministral3; do
        sed "s/\"llama\"/\"$type\"/" -i src/config.json
        program 1 plan src --for sglang --quiet
        says "fp8cast: --for sglang: 1 warning, the first: $text, unless SGLANG_ENABLE_WEIGHT_LOADER_V2=1 is set"
        sed "s/\"$type\"/\"llama\"/" -i src/config.json
    done
    # Who writes rules may know better.
    shapes_of llama
    program 0 plan src --for sglang:16 --rules my.rules --quiet
    phi3 phi 3072 32 32 9216 8192 3072
    program 1 plan phi --for sglang --quiet
    says "fp8cast: --for sglang: 1 warning, the first: $text"
    # verify says what plan said.
    "$fp8cast" plan src --json >planned
    program 0 quantize src dst --quiet
    program 0 verify src dst --json
    "$PYTHON" - <<'END'
import json
a, b = (json.load(open(f))["serving"]["findings"] for f in ("planned", "out"))
told = [[f for f in s if f["severity"] == "warning"] for s in (a, b)]
assert told[0] == told[1] != [], told
END
}

@test "experts that transformers does not join, quantised or kept" {
    text='does not join single experts of this family: it makes up all of them, and tells of missing keys'
    source_of src "{'model_type': 'granitemoe', 'hidden_size': 1024,
        'num_attention_heads': 8, 'num_key_value_heads': 8,
        'tie_word_embeddings': True}" \
        "{$(attention 1024 1024 1024),
        'block_sparse_moe.router.layer': [2, 1024],
        'block_sparse_moe.input_linear': [2, 1024, 1024],
        'block_sparse_moe.output_linear': [2, 1024, 512]}"
    program 1 plan src --for transformers --quiet
    says "fp8cast: --for transformers: 1 warning, the first: $text"
    program 0 plan src --for vllm --for sglang
    grep -qx 'transformers 5.23.0  see the warnings' out
    tr -s ' \n' ' ' <out | grep -qF "warning transformers: $text"
    program 1 plan src --for transformers --quiet --keep '*_linear.weight'
}

@test "an architecture that SGLang does not know: as transformers writes it" {
    more="{'model.norm.bias': [4096], 'lm_head.bias': [256],
        'model.layers.0.input_layernorm.bias': [4096],
        'model.layers.0.post_attention_layernorm.bias': [4096]}" \
        source_of src "{'model_type': 'phimoe', 'hidden_size': 4096,
        'num_attention_heads': 32, 'num_key_value_heads': 8,
        'architectures': ['PhimoeForCausalLM']}" \
        "{$(attention 4096 4096 1024), 'block_sparse_moe.gate': [16, 4096],
        'block_sparse_moe.experts.0.w1': [6400, 4096],
        'block_sparse_moe.experts.0.w2': [4096, 6400],
        'block_sparse_moe.experts.0.w3': [6400, 4096]}"
    program 1 plan src --for sglang --for vllm --quiet
    says "fp8cast: --for sglang: 1 warning, the first: ends with an error: expects the published PhiMoEForCausalLM in config.json"
    sed -i 's/PhimoeFor/PhiMoEFor/' src/config.json
    program 0 plan src --for sglang --quiet
}

@test "a head that is nowhere" {
    type=granite llama src 14336 "'tie_word_embeddings': True"
    sed -i 's/"tie_word_embeddings": true/"tie_word_embeddings": false/' \
        src/config.json
    for engine in vllm sglang transformers; do
        program 1 plan src --quiet --for $engine
        says "fp8cast: --for $engine: 1 warning, the first: the head is random numbers: lm_head.weight is missing, and tie_word_embeddings is false"
    done
}

@test "rules that do not say how layers are divided" {
    grep -v '^parallel' "$root/rules/qwen3_5_moe.rules" >my.rules
    program 0 plan "$shared/mini" --rules my.rules --json --for vllm
    holds out 'd["serving"]["engines"][0]["tensor_parallel"] is None' \
        'd["serving"]["engines"][1]["not_known"].startswith("no '"'parallel'"' of the rules names ")'
    program 0 plan "$shared/mini" --rules my.rules
    grep -q '^vllm 0.32.0          tensor parallel sizes not known: ' out
    program 0 plan "$shared/mini" --rules my.rules --for vllm:1 -q
    program 1 plan "$shared/mini" --rules my.rules --for vllm:2 -q
    grep -q "^fp8cast: --for vllm:2: not known: no 'parallel' of the rules" err
    # What the config does not say.
    cp -r "$shared/mini" src
    sed -i 's/linear_key_head_dim/was_there/' src/config.json
    program 0 plan src --json
    holds out 'd["serving"]["engines"][0]["not_known"]
        == "config.json does not say linear_key_head_dim"'
    sed -i 's/was_there": 128/linear_key_head_dim": 64/' src/config.json
    program 0 plan src --json
    holds out 'd["serving"]["engines"][0]["not_known"].startswith(
        "config.json has other heads than model.language_model.layers.0.")'
}

@test "verify says of a result what plan said, and reads its scales" {
    for scales in amax pow2; do
        program 0 plan "$shared/mini" --scales $scales --json
        mv out planned
        program 0 quantize "$shared/mini" $scales --scales $scales --quiet
        program 0 verify "$shared/mini" $scales --json
        mv out verified
        "$PYTHON" - <<'END'
import json
a, b = (json.load(open(f))["serving"] for f in ("planned", "verified"))
assert a == b, (a, b)
END
    done
    holds planned 'd["serving"]["findings"] == []'
    program 0 verify "$shared/mini" amax
    grep -qx 'sglang 0.5.23        tensor parallel 1, with experts spread also 2' out
    grep -q '^note  *vllm, sglang: DeepGEMM on Blackwell' out
}

@test "--for refuses what is no engine and no size" {
    program 2 plan "$shared/mini" --for vlm
    says "fp8cast: --for: 'vlm' is not vllm, sglang or transformers (did you mean 'vllm'?)"
    for size in 0 3 128 x ''; do
        program 2 plan "$shared/mini" --for "sglang:$size"
        says "fp8cast: --for: '$size' is not 1, 2, 4, 8, 16, 32 or 64 devices (see 'fp8cast plan --help')"
    done
    program 2 plan "$shared/mini" --for transformers:2
    says "fp8cast: --for: transformers divides nothing by itself (see 'fp8cast plan --help')"
    program 2 quantize "$shared/mini" dst --for vllm
    says "fp8cast: quantize takes no option '--for' (see 'fp8cast quantize --help')"
}
