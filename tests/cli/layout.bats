#!/usr/bin/env bats
# --layout official: the figures of the published FP8 checkpoint, the files,
# byte for byte what the reference makes, and all commands that meet it.

# shellcheck disable=SC2154,SC2164  # set by helpers.bash; bats stops at cd
load helpers

setup_file() {
    begin_file
    make_source fused "$shared/src"
    "$fp8cast" synth --model qwen3.6-35b-a3b --sparse "$shared/full" --quiet
    "$fp8cast" synth "$shared/mini" --quiet
}
teardown_file() { end_file; }
setup() { begin_test; }
teardown() { end_test; }

@test "the full-sized model: the published checkpoint's figures, exactly" {
    program 0 plan "$shared/full" --layout official --json --tensors
    [ ! -s err ]
    holds out 'd["layout"] == "official"' \
        'd["result"]["tensors"] == 64196' \
        'd["result"]["fp8_weights"] == 31745' \
        'd["result"]["scales"] == 31745' 'd["result"]["kept"] == 706' \
        'd["result"]["bytes"] == 37454789472' 'd["result"]["shards"] == 42' \
        '{r["shard"] for t in d["tensors"] for r in t["results"]} ==
            {f"{n}.safetensors" for n in ["mtp", "outside"]
                + [f"layers-{i}" for i in range(40)]}'
    # Beside card it quantises seven tensors more, all of the draft layer.
    mv out official
    program 0 plan "$shared/full" --json --tensors
    "$PYTHON" - official out <<'END'
import json
import sys
official, card = ({t["name"]: t["action"] for t in json.load(open(f))["tensors"]}
                  for f in sys.argv[1:])
more = sorted(n for n in official if official[n] != card[n])
assert all(official[n] == "quantize" for n in more)
layer = "mtp.layers.0."
assert more == sorted(
    [f"{layer}self_attn.{p}_proj.weight" for p in "qkvo"]
    + [f"{layer}mlp.shared_expert.{p}_proj.weight"
       for p in ("gate", "up", "down")]), more
END
    program 0 plan "$shared/full" --layout official
    grep -qE '^layout +official$' out
}

@test "as the reference, and verify finds nothing" {
    for src in "$shared/src" "$shared/mini"; do
        program 0 quantize "$src" dst --layout official
        by_reference convert "$src" theirs --layout official -- \
            compare dst theirs
        program 0 verify "$src" dst --json
        holds out 'd["faults"] == 0' 'd["layout"] == "official"'
        rm -rf dst theirs
    done
    program 0 quantize "$shared/mini" dst --layout official --scales pow2 \
        --keep '*.layers.0.linear_attn.out_proj.weight' --threads 5
    program 0 verify "$shared/mini" dst --json
    holds out 'd["faults"] == 0' 'd["layout"] is None'
    by_reference convert "$shared/mini" theirs --layout official \
        --scales pow2 --keep '*.layers.0.linear_attn.out_proj.weight' -- \
        compare dst theirs
}

@test "verify tells the layouts apart, files aside" {
    program 0 quantize "$shared/mini" dst --quiet
    program 0 verify "$shared/mini" dst
    grep -qx 'layout               card' out
    # The official tensors in files of ours.
    program 0 quantize "$shared/mini" more --quiet \
        --quantize 'mtp.layers.*_proj.weight'
    program 0 verify "$shared/mini" more
    grep -qx 'layout               official' out
}

@test "files and the module list have the published shape" {
    program 0 quantize "$shared/mini" dst --layout official
    names dst | grep -E 'safetensors' >found
    printf '%s\n' layers-0.safetensors layers-1.safetensors \
        layers-2.safetensors layers-3.safetensors model.safetensors.index.json \
        mtp.safetensors outside.safetensors | diff - found
    "$PYTHON" - <<'END'
import json
listed = json.load(open("dst/config.json"))["quantization_config"][
    "modules_to_not_convert"]
layer = "model.language_model.layers.0."
start = listed.index(layer + "input_layernorm")
assert listed[:2] == ["lm_head", "model.language_model.embed_tokens"]
assert listed[start:start + 11] == [layer + m for m in (
    "input_layernorm", "linear_attn.A_log", "linear_attn.conv1d",
    "linear_attn.dt_bias", "linear_attn.in_proj_a", "linear_attn.in_proj_b",
    "linear_attn.in_proj_ba", "linear_attn.norm", "mlp.gate",
    "mlp.shared_expert_gate", "post_attention_layernorm")], listed
assert [m for m in listed if m.startswith("mtp.")] == [
    "mtp.fc", "mtp.layers.0.input_layernorm", "mtp.layers.0.mlp.gate",
    "mtp.layers.0.mlp.shared_expert_gate",
    "mtp.layers.0.post_attention_layernorm", "mtp.layers.0.self_attn.k_norm",
    "mtp.layers.0.self_attn.q_norm", "mtp.norm", "mtp.pre_fc_norm_embedding",
    "mtp.pre_fc_norm_hidden"]
END
    program 0 inspect dst
    grep -qE '^index +agrees with the shards$' out
}

@test "a finished layout is not another's, and a stopped one goes on" {
    program 0 quantize "$shared/mini" dst --layout official
    program 0 quantize "$shared/mini" dst --layout official
    grep -q 'nothing to do' out
    program 1 quantize "$shared/mini" dst
    grep -q 'other options' err
    program 0 quantize "$shared/mini" dst --overwrite
    [ "$(names dst | grep -c 'layers-')" -eq 0 ]
    program 0 quantize "$shared/mini" dst --layout official --overwrite
    # As if it had been stopped before these two.
    rm dst/config.json dst/layers-2.safetensors
    program 0 quantize "$shared/mini" dst --layout official --json
    holds out 'd["shards_resumed"] == 5'
    by_reference convert "$shared/mini" theirs --layout official -- \
        compare dst theirs
}

@test "roofline reckons the layout's bytes" {
    program 0 quantize "$shared/mini" dst --layout official --report r.json
    program 0 report r.json -o r.html
    grep -q 'fp8cast quantize mini dst .*--layout=official' r.html
    for batch in 1 16; do
        program 0 roofline "$shared/mini" --layout official --json \
            --batch "$batch"
        mv out planned
        program 0 roofline dst --json --batch "$batch"
        "$PYTHON" - planned out <<'END'
import json
import sys
a, b = (json.load(open(f)) for f in sys.argv[1:])
assert a["after_bytes"] == b["after_bytes"]
assert a["not_read_after_bytes"] == b["not_read_after_bytes"]
END
    done
}

@test "a file of the layout that cannot name all its tensors" {
    printf '%s\n' 'family many' 'quantize *' 'layout one' 'file all *' end >my.rules
    mkdir src
    "$PYTHON" - src <<'END'
import json
import struct
import sys
# Each comes to two of the result's: 30 MB of names and places.
names = [f"{'x' * 400}.{i}.weight" for i in range(30000)]
header = json.dumps({name: {"dtype": "BF16", "shape": [1, 1],
                            "data_offsets": [2 * i, 2 * i + 2]}
                     for i, name in enumerate(names)}).encode()
with open(f"{sys.argv[1]}/model.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(header)) + header + bytes(2 * len(names)))
with open(f"{sys.argv[1]}/config.json", "w") as file:
    file.write('{"model_type": "many"}')
END
    program 0 plan src --rules my.rules --json
    holds out 'd["result"]["shards"] == 2'
    refuses "fp8cast: layout one: file all: more tensors than a header of 25000000 bytes names" \
        plan src --rules my.rules --layout one
}

@test "families without the layout, and options that do not go with it" {
    make_source dense src
    refuses "fp8cast: --layout official: qwen3_5.rules has no such layout; families that have one of this name: qwen3_5_moe" \
        plan src --layout official
    refuses "fp8cast: --layout nice: qwen3_5.rules has no such layout; families that have one of this name: none" \
        plan src --layout nice
    program 0 plan src --layout card
    refuses "fp8cast: --shard-size: layout official says itself which file takes a tensor" \
        plan "$shared/mini" --layout official --shard-size 1GB
    program 2 verify "$shared/mini" src --layout official
    says "fp8cast: verify takes no option '--layout' (see 'fp8cast verify --help')"
}
