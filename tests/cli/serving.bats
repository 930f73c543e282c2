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

# source_of DIR CONFIG TENSORS [BIASES]: a checkpoint of holes. TENSORS is Python: names to
# shapes of one layer, below `model.layers.0.`; BIASES: of q, k and v to rows.
# The ends of the model come with it (rows 256), the head unless it is tied.
source_of() {
    "$PYTHON" - "$reference" "$@" <<'END'
import json
import os
import sys
sys.path.insert(0, sys.argv[1])
import reference
folder, config, tensors = sys.argv[2], eval(sys.argv[3]), eval(sys.argv[4])
hidden = config["hidden_size"]
all_ = {"model.embed_tokens.weight": [256, hidden],
        "model.norm.weight": [hidden]}
if not config.get("tie_word_embeddings"):
    all_["lm_head.weight"] = [256, hidden]
layer = "model.layers.0."
for norm in ("input_layernorm", "post_attention_layernorm"):
    all_[f"{layer}{norm}.weight"] = [hidden]
all_ |= {f"{layer}{name}.weight": shape for name, shape in tensors.items()}
for name, rows in eval(sys.argv[5] if len(sys.argv) > 5 else "{}").items():
    all_[f"{layer}self_attn.{name}_proj.bias"] = [rows]
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

llama() { # DIR INTER [MORE-CONFIG]: Llama-3.1-8B, its MLP aside
    source_of "$1" "{'model_type': 'llama', 'hidden_size': 4096,
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
    program 0 plan src --json
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

@test "ragged blocks: who refuses, who computes nonsense" {
    # 192 rows: joined, they do not end with a block; transformers takes
    # 192 / 2 = 96 rows for one.
    llama src 192
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

@test "a head that is nowhere" {
    llama src 14336 "'tie_word_embeddings': True"
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
    program 1 plan "$shared/mini" --rules my.rules --for vllm:1 --for vllm:2 -q
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
