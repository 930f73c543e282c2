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

@test "one machine's bandwidth in place of the list" {
    run "$fp8cast" roofline "$shared/full" --bandwidth 602GB/s
    [ "$status" -eq 0 ]
    grep -qx 'this machine  *602  *100\.0  *166\.[78]' <<<"$output"
    fails grep -q NVIDIA <<<"$output"
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
