#!/usr/bin/env bats
# `roofline`: the published figures of Qwen3.6-35B-A3B (6.02 GB a token before,
# 3.61 after, 1.67 times), and sums made here from its published list of
# tensors.
#
# FP8CAST is the program under test.

load helpers

setup_file() {
    begin_file
    "$fp8cast" synth "$shared/full" --model qwen3.6-35b-a3b --sparse -q
    "$fp8cast" synth "$shared/mini" --model qwen3.6-35b-a3b-mini -q
    "$fp8cast" quantize "$shared/mini" "$shared/mini-fp8" -q
}

teardown_file() { end_file; }
setup() { begin_test; }
teardown() { end_test; }

@test "a token of Qwen3.6-35B-A3B costs 6.02 GB before and 3.61 after" {
    run "$fp8cast" roofline "$shared/full"
    echo "$output"
    [ "$status" -eq 0 ]
    grep -qx 'in all  *6\.02[0-4]  *3\.6[01][0-9]' <<<"$output"
    grep -qx 'before / after  *1\.67' <<<"$output"
    # 273 / 6.02 and 273 / 3.61.
    grep -qx 'NVIDIA DGX Spark.*  273 *45\.3 *75\.6' <<<"$output"
    [ "$(wc -L <<<"$output")" -le 80 ]
}

@test "every group is what the published tensors add up to" {
    "$fp8cast" roofline "$shared/full" --json --batch 32 --context 4096 >found
    "$PYTHON" - "$golden/qwen3.6-35b-a3b.bf16.tsv" found <<'END'
import json, math, sys
from collections import defaultdict

before, after = defaultdict(float), defaultdict(float)
batch, context = 32, 4096
read = 256 * (1 - (1 - 8 / 256) ** batch)  # distinct experts, expected
kept = ("in_proj_a", "in_proj_b", "conv1d", "shared_expert_gate",
        "norm", "A_log", "dt_bias")
for line in open(sys.argv[1]):
    name, dtype, shape = line.rstrip("\n").split("\t")
    assert dtype == "BF16"
    shape = [int(n) for n in shape.split(",")]
    elems, share, fp8 = math.prod(shape), 1, False
    if name.startswith("mtp.") or ".visual." in name:
        continue
    if ".mlp.experts." in name:
        group, share, fp8 = "routed experts", read / 256, True
    elif ".shared_expert" in name:
        group, fp8 = "shared experts", "_proj" in name
    elif ".self_attn." in name:
        group, fp8 = "attention", "_proj" in name
    elif ".linear_attn." in name:
        group = "linear attention"
        fp8 = not any(part in name for part in kept)
    elif name == "lm_head.weight":
        group = "output head"
    elif "embed_tokens" in name:
        group, share = "embedding rows", batch / shape[0]
    else:
        group = "norms and routers"
    before[group] += 2 * elems * share
    # One byte a weight, two a scale of 128 x 128; all dims are multiples.
    after[group] += (elems + 2 * elems / 16384 if fp8 else 2 * elems) * share
# 30 linear layers: 32 heads of 128 x 128 in binary32, three columns of 8192
# channels of the convolution in BF16; read and written.
state = batch * 2 * 30 * (32 * 128 * 128 * 4 + 3 * 8192 * 2)
cache = batch * context * 10 * 2 * 2 * 256 * 2
before["linear attention state"] = after["linear attention state"] = state
before["KV cache"] = after["KV cache"] = cache

found = json.load(open(sys.argv[2]))
groups = {g["name"]: g for g in found["groups"]}
assert set(groups) == set(before), set(groups) ^ set(before)
for name in before:
    for side, expected in (("before", before[name]), ("after", after[name])):
        got = groups[name][side + "_bytes"]
        assert abs(got - expected) <= 1e-9 * expected, (name, got, expected)
assert abs(found["before_bytes"] - sum(before.values())) < 1
assert abs(found["after_bytes"] - sum(after.values())) < 1
assert abs(found["experts_read"] - read) < 1e-9
END
}

@test "a result says the same as its source" {
    "$fp8cast" roofline "$shared/mini" --json >before
    "$fp8cast" roofline "$shared/mini-fp8" --json >after
    grep -q '"is_quantized": true' after
    diff <(grep -v is_quantized before) <(grep -v is_quantized after)
}

@test "a quantization_config of null makes no result of a source" {
    cp -r "$shared/mini" null
    sed -i '1s/{/{"quantization_config": null,/' null/config.json
    "$fp8cast" roofline "$shared/mini" --json >expected
    "$fp8cast" roofline null --json | diff expected -
    grep -q '"is_quantized": false' expected
}

@test "one machine's bandwidth in place of the list" {
    run "$fp8cast" roofline "$shared/full" --bandwidth 602GB/s
    [ "$status" -eq 0 ]
    grep -qx 'this machine  *602  *100\.0  *166\.[78]' <<<"$output"
    fails grep -q NVIDIA <<<"$output"
    run "$fp8cast" roofline "$shared/full" --bandwidth 0.4GB/s
    grep -qx 'this machine  *0\.4  *0\.066  *0\.11' <<<"$output"
    run "$fp8cast" roofline "$shared/full" --bandwidth 76.8GB/s
    grep -qx 'this machine  *76\.8  *12\.8  *21\.3' <<<"$output"
    run "$fp8cast" roofline "$shared/full" --bandwidth 602
    [ "$status" -eq 2 ]
    [ "$output" = "fp8cast: --bandwidth: '602' is not a rate such as 273GB/s\
 (see 'fp8cast roofline --help')" ]
}

@test "what --keep keeps is read whole" {
    "$fp8cast" roofline "$shared/full" --json --keep '*' >found
    "$PYTHON" - found <<'END'
import json, sys
found = json.load(open(sys.argv[1]))
assert found["ratio"] == 1, found["ratio"]
END
}

@test "routed experts without their number in the config are refused" {
    cp -r "$shared/mini" odd
    sed -i '/num_experts_per_tok/d' odd/config.json
    run "$fp8cast" roofline odd
    [ "$status" -eq 1 ]
    [ "$output" = "fp8cast: odd/config.json: expected num_experts and\
 num_experts_per_tok of it, since there are routed experts; found 8 and 0" ]
}

# caches JSON BYTES [STATE]: of a result with 8 layers and this in its config,
# whose cache takes 2 x 2 x 64 x 2 = 512 bytes a token and layer: the bytes of
# the KV cache with 1,000 earlier tokens, and of the state.
caches() {
    rm -rf made
    mkdir made
    "$PYTHON" - "$1" <<'END'
import json, struct, sys
config = {"model_type": "made_up", "num_hidden_layers": 8, "hidden_size": 256,
          "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
          "linear_num_value_heads": 4, "linear_key_head_dim": 8,
          "linear_value_head_dim": 16, "linear_num_key_heads": 2,
          "linear_conv_kernel_dim": 4, "vocab_size": 2,
          "quantization_config": {"quant_method": "fp8"}}
config.update(json.loads(sys.argv[1]))
json.dump(config, open("made/config.json", "w"))
header = json.dumps({"lm_head.weight": {
    "dtype": "BF16", "shape": [2, 256], "data_offsets": [0, 1024]}}).encode()
with open("made/model.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(header)) + header + bytes(1024))
END
    program 0 roofline made --context 1000 --json
    "$PYTHON" - "$2" "${3:-0}" <<'END'
import json, sys
groups = {g["name"]: g["after_bytes"] for g in json.load(open("out"))["groups"]}
found = [groups.get(n, 0) for n in ("KV cache", "linear attention state")]
assert found == [float(n) for n in sys.argv[1:]], found
END
}

@test "the cache: layers of any kind of attention, as layer_types has them" {
    full=$((1000 * 512))
    caches '{}' $((8 * full))
    caches '{"sliding_window": 100}' $((8 * full))
    caches '{"sliding_window": 100, "layer_types": ["full_attention",
        "sliding_attention", "sliding_attention"]}' $((full + 2 * 51200))
    caches '{"attention_chunk_size": 250, "layer_types": ["chunked_attention",
        "chunked_attention", "chunked_attention", "full_attention"]}' \
        $((full + 3 * 128000))
    caches '{"attention_chunk_size": 8192, "layer_types":
        ["chunked_attention", "chunked_attention"]}' $((2 * full))
    # 4 heads of 8 x 16 in binary32, 3 columns of 2 x 2 x 8 + 4 x 16 channels
    # in BF16, read and written.
    state=$((2 * (4 * 8 * 16 * 4 + 3 * 96 * 2)))
    caches '{"layer_types": ["linear_attention", "full_attention"]}' \
        $full $state
}

@test "the cache without layer_types: as transformers fills them in" {
    full=$((1000 * 512))
    window=$((100 * 512))
    for type in mistral ministral3 mixtral phi3 phimoe; do
        caches "{\"model_type\": \"$type\", \"sliding_window\": 100}" \
            $((8 * window))
        caches "{\"model_type\": \"$type\", \"sliding_window\": null}" \
            $((8 * full))
    done
    caches '{"model_type": "mistral", "sliding_window": 4096}' $((8 * full))
    # Of a model with vision the text's own.
    caches '{"model_type": "mistral3", "text_config": {"model_type": "mistral",
        "num_hidden_layers": 4, "num_attention_heads": 4, "head_dim": 64,
        "num_key_value_heads": 2, "sliding_window": 100}}' $((4 * window))
    for type in qwen2 qwen3 qwen3_moe; do
        caches "{\"model_type\": \"$type\", \"sliding_window\": 100,
            \"use_sliding_window\": false, \"max_window_layers\": 2}" \
            $((8 * full))
    done
    for type in qwen2 qwen3; do
        caches "{\"model_type\": \"$type\", \"sliding_window\": 100,
            \"use_sliding_window\": true, \"max_window_layers\": 2}" \
            $((2 * full + 6 * window))
        caches "{\"model_type\": \"$type\", \"sliding_window\": 100,
            \"use_sliding_window\": true}" $((8 * full)) # from the 28th on
    done
    caches '{"model_type": "qwen3_moe", "sliding_window": 100,
        "use_sliding_window": true, "max_window_layers": 2}' $((8 * window))
    # Each sixth is full, or each third: one of eight, or two.
    caches '{"model_type": "gemma3_text", "sliding_window": 100}' \
        $((full + 7 * window))
    caches '{"model_type": "gemma3_text", "sliding_window": 100,
        "sliding_window_pattern": 3}' $((2 * full + 6 * window))
    # Of gemma4 the last too, whatever layer_types says of it.
    caches '{"model_type": "gemma4_text", "sliding_window": 100}' \
        $((2 * full + 6 * window))
    caches '{"model_type": "gemma4_text", "sliding_window": 100,
        "num_hidden_layers": 12}' $((2 * full + 10 * window))
    caches '{"model_type": "gemma4_text", "sliding_window": 100,
        "layer_types": ["sliding_attention", "sliding_attention"]}' \
        $((full + window))
    # Each second, of qwen2_moe only before max_window_layers (28).
    caches '{"model_type": "gpt_oss", "sliding_window": 100}' 2252800
    caches '{"model_type": "gpt_oss", "sliding_window": 100,
        "num_hidden_layers": 7}' $((3 * full + 4 * window))
    moe='"model_type": "qwen2_moe", "sliding_window": 100'
    caches "{$moe}" $((8 * full))
    caches "{$moe, \"use_sliding_window\": true}" $((4 * full + 4 * window))
    for first in -1:0 0:0 1:1 2:1 3:2; do
        caches "{$moe, \"use_sliding_window\": true,
            \"max_window_layers\": ${first%:*}}" \
            $(((8 - ${first#*:}) * full + ${first#*:} * window))
    done
    caches '{"model_type": "llama4_text", "attention_chunk_size": 100}' \
        $((2 * full + 6 * window))
    caches '{"model_type": "llama4_text", "attention_chunk_size": 100,
        "no_rope_layers": []}' $((2 * full + 6 * window))
    caches '{"model_type": "llama4_text", "attention_chunk_size": 100,
        "no_rope_layers": [1, 1, 1, 1, 1, 1, 1, 0]}' $((full + 7 * window))
    state=$((2 * (4 * 8 * 16 * 4 + 3 * 96 * 2)))
    caches '{"model_type": "qwen3_next"}' $((2 * full)) $((6 * state))
    caches '{"model_type": "qwen3_next", "full_attention_interval": 2}' \
        $((4 * full)) $((4 * state))
}

@test "experts under other names than their results: before as after" {
    "$PYTHON" - "$root/tests/cli" "$golden/families" <<'END'
import json, sys
sys.path.insert(0, sys.argv[1])
import families
tensors, _, config = families.read_golden(
    sys.argv[2] + "/granitemoe.granite.tsv")
families.make_source("src", "granitemoe", tensors, config)
found = json.load(open("src/config.json"))
found.update(num_local_experts=4, num_experts_per_tok=1)
json.dump(found, open("src/config.json", "w"))
END
    program 0 quantize src dst --quiet
    program 0 roofline src --json
    mv out before
    program 0 roofline dst --json
    diff <(grep -v is_quantized before) <(grep -v is_quantized out)
    holds before 'next(g for g in d["groups"]
        if g["name"] == "routed experts")["before_bytes"] > 0' \
        'd["experts_read"] == 1'
}
