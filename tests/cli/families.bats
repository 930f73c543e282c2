#!/usr/bin/env bats
# The rules of every family, held against tests/golden/families/*.tsv: the
# tensors of a tiny model as transformers names them (and the draft layers that
# it leaves out), and which of them the loaders take in FP8. `make interop`
# writes these files, once transformers, vLLM and SGLang have loaded the result.

# shellcheck disable=SC2154,SC2164  # set by helpers.bash; bats stops at cd
load helpers

setup_file() { begin_file; }
teardown_file() { end_file; }
setup() { begin_test; }
teardown() { end_test; }

@test "each tensor becomes what the loaders take, and each module is listed" {
    "$PYTHON" "$BATS_TEST_DIRNAME/families.py" "$fp8cast" "$golden/families" .
}

@test "each model_type of the built-in rules has such a file" {
    for type in $(grep -L '^refuse' "$root"/rules/*.rules |
        xargs sed -n 's/^model_type *//p'); do
        ls "$golden"/families/"$type"*.tsv >/dev/null
    done
}

@test "experts that lie transposed: any size, quantised and kept" {
    "$PYTHON" "$BATS_TEST_DIRNAME/across.py" "$fp8cast" .
}

@test "what lies transposed or in wide rows leaves nothing in the page cache" {
    status=0
    "$PYTHON" "$BATS_TEST_DIRNAME/cache.py" "$fp8cast" . || status=$?
    [ "$status" -ne 77 ] || skip "this file system keeps it or tells nothing"
    [ "$status" -eq 0 ]
}

@test "a family that no loader takes in FP8 is refused with the reason" {
    mkdir src
    echo '{"model_type": "gpt_oss"}' >src/config.json
    "$fp8cast" synth --sparse --quiet synth
    cp synth/*.safetensors src
    for command in "plan src" "quantize src dst"; do
        # shellcheck disable=SC2086  # two words
        program 1 $command
        [ ! -s out ]
        [ "$(cat err)" = "fp8cast: config.json: model_type gpt_oss: its experts \
have biases and interleaved rows, which loaders read in MXFP4 or BF16 and none \
in FP8 blocks; serve the published MXFP4 checkpoint" ]
    done
    [ ! -e dst ]
    program 0 rules gpt_oss
    grep -q '^refuse  its experts' out
}

# without SOURCE DIR WORD...: SOURCE but the tensors whose names have a WORD.
without() {
    "$PYTHON" - "$BATS_TEST_DIRNAME/../reference" "$@" <<'END'
import os
import shutil
import sys
sys.path.insert(0, sys.argv[1])
import reference
source, folder, words = sys.argv[2], sys.argv[3], sys.argv[4:]
os.makedirs(folder)
shutil.copy(os.path.join(source, "config.json"), folder)
kept = [tensor for tensor in reference.read_checkpoint(source)[0]
        if not any(word in tensor.name for word in words)]
header = reference.shard_header([(tensor.name, tensor.dtype, tensor.shape)
                                 for tensor in kept])
with open(os.path.join(folder, "model.safetensors"), "wb") as file:
    file.write(len(header).to_bytes(8, "little") + header)
    for tensor in kept:
        file.write(tensor.read())
END
}

@test "a model that lost its routed experts is refused, one without is not" {
    "$PYTHON" "$BATS_TEST_DIRNAME/families.py" "$fp8cast" \
        "$golden/families" . llama4.transposed llama4.dense \
        llama4_text.per-expert gemma4.moe.fused qwen3_5_moe.fused
    program 0 plan llama4.dense/source --quiet
    without llama4.transposed/source fused .experts.
    program 1 plan fused
    grep -qE '^fp8cast: llama4.rules:[0-9]+: split .*experts.gate_up_proj: this rule and the others with oneof=gate_up match no tensor, but of group=moe .* does; expected at least one to$' err
    without llama4_text.per-expert/source apart .experts.
    program 1 plan apart
    grep -qE '^fp8cast: llama4_text.rules:[0-9]+: .* oneof=gate_up match no tensor, but of group=moe ' err
    without llama4_text.per-expert/source half .experts.{0,1,2,3}.up_proj.
    program 1 plan half
    grep -qE 'up_proj.weight: matches no tensor, but of oneof=gate_up ' err
    without gemma4.moe.fused/source sparse .experts.down_proj
    program 1 plan sparse
    grep -qE '^fp8cast: gemma4.rules:[0-9]+: .* oneof=down match no tensor, but of group=moe ' err
    # A draft layer, which need not be there, with its experts.
    without qwen3_5_moe.fused/source draft mtp.
    program 0 plan draft --quiet
    without qwen3_5_moe.fused/source drafty mtp.layers.0.mlp.experts.
    for layout in card official; do
        program 1 plan drafty --layout $layout
        grep -qE '^fp8cast: qwen3_5_moe.rules:[0-9]+: .* oneof=mtp_gate_up match no tensor, but of group=mtp ' err
    done
    # Nor the router, without which there would be no experts.
    without llama4.transposed/source lost .router.
    program 1 plan lost
    grep -qE 'router.weight: matches no tensor, but of group=moe ' err
}

@test "what a loader cannot do is a warning of the plan" {
    "$PYTHON" "$BATS_TEST_DIRNAME/families.py" "$fp8cast" \
        "$golden/families" . qwen3_vl_moe.transposed
    program 0 plan qwen3_vl_moe.transposed/source
    grep -q '^warning  *transformers: does not join single experts of' out
    program 1 plan qwen3_vl_moe.transposed/source --for transformers --quiet
}

@test "sound in FP8: SGLang reads of it what lies before and behind the layers" {
    "$PYTHON" "$BATS_TEST_DIRNAME/families.py" "$fp8cast" \
        "$golden/families" . gemma4.sound
    tower=model.audio_tower
    # The sizes are too small to be served: other warnings are no matter.
    for name in layers.0.self_attn.q_proj.linear \
        layers.0.self_attn.relative_k_proj; do
        program 0 plan gemma4.sound/source --quantize "$tower.$name.weight"
        grep -q '^warning  *sglang: leaves the scales and takes the codes' out
        [ "$(grep -c 'leaves the scales\|does not load' out)" -eq 1 ]
    done
    program 0 plan gemma4.sound/source --quantize $tower.output_proj.weight
    grep -q '^warning  *sglang: does not load this in FP8' out
    [ "$(grep -c 'leaves the scales\|does not load' out)" -eq 1 ]
    program 0 plan gemma4.sound/source \
        --quantize $tower.subsample_conv_projection.input_proj_linear.weight \
        --quantize 'model.embed_*.embedding_projection.weight'
    fails grep 'leaves the scales\|does not load' out
    # The entry that covers the layers stands while their projection is kept.
    program 0 quantize gemma4.sound/source dst --verify \
        --quantize "$tower.layers.*.linear.weight"
    grep -q '^warning  *sglang: leaves the scales and takes the codes' out
    holds dst/config.json '"model.audio_tower.conformer" in
        d["quantization_config"]["modules_to_not_convert"]'
}

@test "what is worth knowing of a family is a note of the plan" {
    { echo 'note  of a friend'; "$fp8cast" rules qwen3; } >my.rules
    "$PYTHON" "$BATS_TEST_DIRNAME/families.py" "$fp8cast" \
        "$golden/families" . qwen3
    program 0 plan qwen3/source --rules my.rules
    grep -q '^note  *of a friend$' out
    program 0 plan qwen3/source --rules my.rules --json
    holds out 'd["notes"] == ["of a friend"]'
}

@test "what Llama 2 has in its checkpoints beside weights is kept" {
    "$PYTHON" "$BATS_TEST_DIRNAME/families.py" "$fp8cast" \
        "$golden/families" . llama
    "$PYTHON" - "$BATS_TEST_DIRNAME/../reference" <<'END'
import os
import sys
sys.path.insert(0, sys.argv[1])
import reference
made = [(t.name, t.dtype, t.shape, t.read())
        for t in reference.read_checkpoint("llama/source")[0]]
made += [(f"model.layers.{i}.self_attn.rotary_emb.inv_freq", "F32", [64],
          bytes(range(256))) for i in range(2)]
os.mkdir("two")
with open("two/model.safetensors", "wb") as file:
    header = reference.shard_header([one[:3] for one in made])
    file.write(len(header).to_bytes(8, "little") + header)
    for one in made:
        file.write(one[3])
END
    cp llama/source/config.json two
    program 0 quantize two fp8 --verify --quiet
    grep -aq 'layers.1.self_attn.rotary_emb.inv_freq' fp8/*.safetensors
}
