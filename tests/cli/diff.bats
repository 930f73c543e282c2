#!/usr/bin/env bats
# `diff`: what it calls the same, what it names when not, and its figures
# against numpy's (tests/reference/distances.py).
#
# FP8CAST is the program under test.

# shellcheck disable=SC2154,SC2164  # set by helpers.bash; bats stops at cd
load helpers

setup_file() {
    begin_file
    make_source fused "$shared/src"
    make_source ragged "$shared/ragged"
    make_source tiny-values "$shared/tiny"
    "$fp8cast" quantize "$shared/src" "$shared/amax" -q
    "$fp8cast" quantize "$shared/src" "$shared/mse" --scales mse -q
    "$fp8cast" quantize "$shared/src" "$shared/ue8m0" --scale-dtype ue8m0 -q
    "$fp8cast" quantize "$shared/src" "$shared/f32" --scale-dtype f32 -q
    "$fp8cast" quantize "$shared/ragged" "$shared/ragged8" -q
    "$fp8cast" quantize "$shared/tiny" "$shared/tiny8" -q
}
teardown_file() { end_file; }
setup() { begin_test; }
teardown() { end_test; }

L=model.language_model.layers

# alter FOLDER OPERATION ARGUMENT...
alter() {
    "$PYTHON" "$BATS_TEST_DIRNAME/alter.py" "$@"
}

# copy NAME: ./b is one of the shared checkpoints.
copy() {
    rm -rf b
    cp -r "$shared/$1" b
}

# by_numpy A B: every figure of diff is numpy's, and no weight is left out.
by_numpy() {
    program 3 diff "$1" "$2" --json
    "$PYTHON" "$reference/distances.py" "$1" "$2" >expected
    "$PYTHON" - <<'END'
import json
import math
expected, found = json.load(open("expected")), json.load(open("out"))
ours = {v["name"]: v for v in found["values"] if v["differing"]}
theirs = expected["values"]
assert set(ours) == set(theirs), sorted(set(ours) ^ set(theirs))
for side in "ab":
    only = [t["name"] for t in found[side]["only"]]
    assert only == expected["only_" + side], (side, only)
for name, wanted in theirs.items():
    for key, value in wanted.items():
        got = ours[name][key]
        good = (got == value if value is None or isinstance(value, int)
                else got is not None and
                math.isclose(got, value, rel_tol=1e-10))
        assert good, (name, key, got, value)
# The worst first; those without a figure, or an incomplete one, before them.
order = [math.inf if v["relative_rms"] is None or v["not_finite"]
         else v["relative_rms"] for v in found["values"]]
assert order == sorted(order, reverse=True), order
assert found["different"] == len(theirs), found["different"]
END
}

# ---- the same ----------------------------------------------------------------

@test "a copy is the same" {
    copy src
    program 0 diff "$shared/src" b
    grep -qxE ".*/src and b are the same: [0-9]+ tensors, [0-9,]+ bytes \(.*\)" \
        out
    [ "$(wc -l <out)" -eq 1 ]
    [ ! -s err ]
    program 0 diff "$shared/src" b --json
    holds out 'd["same"]' 'd["a"]["tensors"] == d["identical"]' \
        'd["values"] == d["changes"] == d["config"] == d["kinds"] == []' \
        'd["different"] == d["equal"] == d["in_other_files"] == 0'
    program 0 diff "$shared/src" b --quiet
    [ ! -s out ]
    copy amax
    program 0 diff "$shared/amax" b
}

@test "cut into other shards, in another order: the same, and said so" {
    for name in src amax; do
        copy $name
        alter b reshard 3
        program 0 diff "$shared/$name" b
        grep -qE 'are the same' out
        grep -qE '^[0-9]+ of them in files of other names$' out
        program 0 diff b "$shared/$name" -q
    done
}

@test "two files of the same weights, without config" {
    "$fp8cast" synth one --layers 4 --experts 2 --shards 1 -q
    program 0 diff one/model.safetensors one/model.safetensors
    grep -q 'are the same' out
    # A folder has a config, a file none: no difference between the two.
    program 0 diff one one/model.safetensors
}

@test "config.json: neither order nor spelling count" {
    copy src
    "$PYTHON" - <<'END'
import json
with open("b/config.json") as file:
    config = json.load(file)
config["text_config"]["rope_parameters"]["rope_theta"] = 10000000.0
config = dict(reversed(config.items()))
with open("b/config.json", "w") as file:
    json.dump(config, file, indent=7)
END
    program 0 diff "$shared/src" b
}

# ---- values ------------------------------------------------------------------

@test "one flipped bit" {
    name=$L.0.mlp.shared_expert.up_proj.weight
    copy src
    alter b flip $name 2468
    by_numpy "$shared/src" b
    holds out 'len(d["values"]) == d["different"] == 1' \
        'd["values"][0]["differing"] == 1' \
        "d['values'][0]['name'] == '$name'" \
        'd["identical"] == d["a"]["tensors"] - 1' 'd["changes"] == []'
    # A code, and a scale, of which a whole block hangs.
    copy amax
    alter b flip $name 77
    by_numpy "$shared/amax" b
    holds out 'd["values"][0]["differing"] == 1'
    copy amax
    alter b flip ${name}_scale_inv 0
    by_numpy "$shared/amax" b
    holds out 'len(d["values"]) == 1' "d['values'][0]['name'] == '$name'" \
        'd["values"][0]["differing"] > 10000'
}

@test "-0 for 0 is equal, and yet not the same" {
    name=model.language_model.norm.weight
    for sign in 0 128; do
        cp -r "$shared/src" b$sign
        alter b$sign byte $name 0 0
        alter b$sign byte $name 1 $sign
    done
    program 3 diff b0 b128 --json
    holds out 'd["equal"] == 1' 'd["different"] == 0' 'not d["same"]' \
        '[v["name"] for v in d["values"]] == ["'$name'"]' \
        'd["values"][0]["differing"] == 0' \
        'd["values"][0]["relative_rms"] == 0'
    program 3 diff b0 b128
    grep -q "$name (other bytes, same values)$" out
}

@test "NaN is equal to NaN; where only one is, that is told apart" {
    name=$L.1.mlp.gate.weight
    copy src
    alter b byte $name 10 192
    alter b byte $name 11 127
    cp -r b c
    program 0 diff b c
    # Another NaN, and an infinity on both sides.
    alter c byte $name 10 193
    program 3 diff b c --json
    holds out 'd["equal"] == 1' 'd["different"] == 0'
    by_numpy "$shared/src" b
    holds out 'd["values"][0]["not_finite"] == 1' \
        'd["values"][0]["differing"] == 1' 'd["values"][0]["relative_rms"] == 0'
    program 3 diff "$shared/src" b
    grep -q "$name (1 NaN or infinite in one)$" out
    # NaN codes of FP8.
    copy amax
    alter b byte $L.0.linear_attn.out_proj.weight 5 127
    by_numpy "$shared/amax" b
    holds out 'd["values"][0]["not_finite"] == 1'
}

@test "integers are compared byte by byte" {
    copy src
    name=$L.0.linear_attn.conv1d.weight
    alter b relabel $name I16
    cp -r b c
    alter c flip $name 9
    alter c flip $name 100
    program 3 diff b c --json
    holds out 'd["values"][0]["differing"] == 2' \
        'd["values"][0]["relative_rms"] is None' \
        'd["different"] == 1'
    program 3 diff b c
    grep -qE "^ +- +- +-  $name \(2 of [0-9,]+ elements\)$" out
    # Of numbers and integers nothing is said but that they are not the same.
    program 3 diff "$shared/src" b --json
    holds out 'd["values"] == []' 'd["other_dtype"] == 1' \
        'd["different"] == d["equal"] == 0'
}

@test "BF16 and its FP8: every figure is numpy's" {
    by_numpy "$shared/src" "$shared/amax"
    holds out 'd["a"]["fused"] > 0' 'd["b"]["fused"] == 0' \
        'd["other_dtype"] == d["different"] > 0' \
        'd["a"]["only"] == d["b"]["only"] == []' \
        '[c["path"] for c in d["config"]] == ["quantization_config"]' \
        '"a" not in d["config"][0] and "b" in d["config"][0]' \
        'all(c["b"]["scale_dtype"] == "BF16" for c in d["changes"])' \
        '0.02 < d["overall"]["relative_rms"] < 0.03'
    by_numpy "$shared/amax" "$shared/src"
    by_numpy "$shared/ragged" "$shared/ragged8"
    by_numpy "$shared/tiny" "$shared/tiny8"
}

@test "the figures of BF16 and FP8 are those of verify" {
    program 0 verify "$shared/src" "$shared/amax" --json
    mv out verified
    program 3 diff "$shared/src" "$shared/amax" --json
    "$PYTHON" - <<'END'
import json
import math
verified, found = json.load(open("verified")), json.load(open("out"))
theirs = {k["name"]: k for k in verified["error"]["kinds"]}
ours = {k["name"]: k for k in found["kinds"]}
assert set(ours) == set(theirs)
for name, kind in theirs.items():
    assert ours[name]["tensors"] == kind["tensors"], name
    for key in ("relative_rms", "sqnr_db", "cosine", "max_abs_error"):
        assert math.isclose(ours[name][key], kind[key], rel_tol=1e-6), (
            name, key, ours[name][key], kind[key])
END
}

@test "FP8 against FP8: other scales, other scale dtypes" {
    by_numpy "$shared/amax" "$shared/mse"
    holds out 'd["changes"] == []' 'd["config"] == []'
    by_numpy "$shared/amax" "$shared/ue8m0"
    holds out 'd["other_dtype"] > 0' \
        'all(c["a"]["dtype"] == c["b"]["dtype"] for c in d["changes"])'
    by_numpy "$shared/f32" "$shared/ue8m0"
    program 3 diff "$shared/amax" "$shared/f32"
    grep -qxF "  F8_E4M3 with BF16 scales -> F8_E4M3 with F32 scales" out
}

@test "fused and one by one: equal in value, and told" {
    "$fp8cast" synth fused --layers 4 --experts 3 -q
    # Nothing is quantised, but all is taken apart.
    "$fp8cast" quantize fused single --keep '*' -q
    program 3 diff fused single --json
    holds out 'd["a"]["fused"] == 10' 'd["b"]["fused"] == 0' \
        'd["different"] == d["equal"] == 0' 'd["changes"] == []' \
        'd["a"]["only"] == d["b"]["only"] == []' \
        'd["identical"] == d["b"]["tensors"]'
    program 3 diff single fused --json
    holds out 'd["b"]["fused"] == 10' 'd["identical"] == d["a"]["tensors"]'
    # One element in one expert, on either side.
    name=$L.2.mlp.experts.1.up_proj.weight
    alter single flip $name 1000
    by_numpy fused single
    holds out "[v['name'] for v in d['values']] == ['$name']" \
        'd["values"][0]["a"]["tensor"].endswith("experts.gate_up_proj")' \
        'd["values"][0]["a"]["shape"] == d["values"][0]["b"]["shape"]'
    by_numpy single fused
    # One that is missing, and one too many.
    alter single remove $L.0.mlp.experts.2.down_proj.weight
    alter single rename $L.0.mlp.experts.2.gate_proj.weight \
        $L.0.mlp.experts.3.gate_proj.weight
    by_numpy fused single
    holds out '[t["name"] for t in d["a"]["only"]] == [
        "'$L.0.mlp.experts.2.down_proj.weight'",
        "'$L.0.mlp.experts.2.gate_proj.weight'"]' \
        '[t["name"] for t in d["b"]["only"]] == [
        "'$L.0.mlp.experts.3.gate_proj.weight'"]'
    # Without rules that say so, they are not the same tensors.
    sed -i 's/"model_type": "qwen3_5_moe"/"model_type": "unknown"/' \
        fused/config.json single/config.json
    program 3 diff fused single --json
    holds out 'd["a"]["fused"] == 0' 'len(d["a"]["only"]) == 10'
    program 3 diff fused single --json --rules qwen3_5_moe
    holds out 'd["a"]["fused"] == 10'
}

# experts FOLDER: their number in a layer.
experts() {
    "$PYTHON" - "$1" <<'END'
import json
import sys
with open(sys.argv[1] + "/config.json") as file:
    print(json.load(file)["text_config"]["num_experts"])
END
}

@test "FP8 experts fused into one tensor with scales for each" {
    copy amax
    name=$L.1.mlp.experts.down_proj
    alter b fuse $name "$(experts b)" down_proj
    program 3 diff "$shared/amax" b --json
    holds out 'd["b"]["fused"] == 1' 'd["different"] == d["equal"] == 0' \
        'd["identical"] > 0' 'd["b"]["without_scales"] == 0'
    # Against the source, fused there too, and against its like.
    by_numpy "$shared/src" b
    holds out "'$name' in [v['name'] for v in d['values']]"
    cp -r b c
    alter c flip ${name}_scale_inv 1
    by_numpy b c
}

@test "halves of a fused FP8 expert that meet within a block" {
    copy ragged8
    name=$L.1.mlp.experts.gate_up_proj
    alter b fuse $name "$(experts b)" gate_proj up_proj
    program 3 diff "$shared/ragged8" b --json
    holds out 'd["b"]["without_scales"] == 0' 'd["b"]["fused"] == 1' \
        'any(v["b"]["shape"][0] % 128 for v in d["values"])'
    by_numpy "$shared/ragged8" b
    by_numpy b "$shared/ragged8"
    by_numpy "$shared/ragged" b
}

@test "F16, F32 and F64 of the same values are equal, in another dtype" {
    copy src
    alter b cast $L.0.input_layernorm.weight F32
    alter b cast $L.0.mlp.gate.weight F64
    program 3 diff "$shared/src" b --json
    holds out 'd["equal"] == d["other_dtype"] == 2' 'd["values"] == []' \
        'd["different"] == 0'
    alter b byte $L.0.mlp.gate.weight 14 7
    by_numpy "$shared/src" b
    make_source f16 f16
    make_source f32 f32
    by_numpy f16 f32
    by_numpy f32 f16
    alter f16 relabel $L.0.mlp.gate.weight BF16
    by_numpy f16 f32
}

@test "FP8 whose scales do not fit is compared by its codes, and named" {
    copy amax
    name=$L.0.linear_attn.in_proj_z.weight
    alter b rename ${name}_scale_inv ${name}_scale
    program 3 diff "$shared/amax" b --json
    holds out 'd["b"]["without_scales"] == 1' 'd["a"]["without_scales"] == 0' \
        '"only _scale, which no loader of this format reads" in
            d["b"]["without_scales_list"][0]' \
        '[t["name"] for t in d["b"]["only"]] == ["'${name}_scale'"]' \
        'd["other_dtype"] == 1' 'd["a"]["only"] == []'
    program 3 diff "$shared/amax" b
    grep -qx 'FP8 of B whose codes were compared as they are' out
}

# ---- names, dtypes, shapes ---------------------------------------------------

@test "one renamed tensor" {
    copy src
    alter b rename model.language_model.norm.weight model.gnome.weight
    program 3 diff "$shared/src" b
    tail -n +2 out | grep -A1 -x 'only in A' |
        grep -qx '  model.language_model.norm.weight'
    grep -A1 -x 'only in B' out | grep -qx '  model.gnome.weight'
    program 3 diff "$shared/src" b --json
    holds out 'len(d["a"]["only"]) == len(d["b"]["only"]) == 1' \
        'd["b"]["only"][0]["name"] == "model.gnome.weight"' \
        'd["values"] == []'
}

@test "another dtype, another shape" {
    copy src
    alter b cast lm_head.weight F32
    alter b reshape $L.0.input_layernorm.weight 2 128
    program 3 diff "$shared/src" b
    grep -A2 -x 'other dtypes' out | tail -2 |
        diff - <(printf '  BF16 -> F32\n    lm_head.weight\n')
    grep -A2 -x 'other shapes, not compared' out | tail -2 | diff - <(
        printf '  [256] -> [2,128]\n    %s\n' $L.0.input_layernorm.weight)
    program 3 diff "$shared/src" b --json
    holds out 'd["other_dtype"] == d["other_shape"] == 1' \
        '[(c["dtype"], c["shape"]) for c in d["changes"]] ==
            [(True, False), (False, True)]'
}

@test "names that differ in numbers stand on one line" {
    copy src
    for layer in 0 1 3; do
        alter b remove $L.$layer.input_layernorm.weight
    done
    program 3 diff "$shared/src" b
    grep -qxF "  $L.{0,1,3}.input_layernorm.weight (3)" out
    # Not all of two layers' experts: how many of how many.
    copy amax
    for at in 0.mlp.experts.0 0.mlp.experts.1 2.mlp.experts.1; do
        alter b rename $L.$at.up_proj.weight x.$at.up_proj.weight
    done
    program 3 diff "$shared/amax" b
    grep -qxF "  $L.{0,2}.mlp.experts.{0,1}.up_proj.weight (3 of 4)" out
}

# ---- config.json -------------------------------------------------------------

# configure PYTHON: changes the config, called c, of ./b.
configure() {
    copy src
    "$PYTHON" - "$1" <<'END'
import json
import sys
with open("b/config.json") as file:
    c = json.load(file)
exec(sys.argv[1])
with open("b/config.json", "w") as file:
    json.dump(c, file)
END
}

# shows LINE...: the lines under `config.json` are these.
shows() {
    program 3 diff "$shared/src" b
    sed -n '/^config.json$/,$p' out | tail -n +2 |
        diff - <(printf '  %s\n' "$@")
    program 3 diff "$shared/src" b --json
    holds out "d['config_differences'] == len(d['config']) == $#"
}

@test "config.json: changed, added, removed, nested, in arrays" {
    configure 'c["image_token_id"] = 7'
    shows 'image_token_id: 301 -> 7'
    configure 'c["new"] = "x"'
    shows 'new: only in B, "x"'
    configure 'c["new"] = None'
    shows 'new: only in B, null'
    holds out 'd["config"][0] == {"path": "new", "b": None}'
    configure 'del c["vision_config"]'
    shows 'vision_config: only in A, {9 members}'
    configure 'c["text_config"]["rope_parameters"]["rope_theta"] = 1000000'
    shows 'text_config.rope_parameters.rope_theta: 10000000 -> 1000000'
    configure 'c["text_config"]["layer_types"][2] = "none"'
    shows 'text_config.layer_types[2]: "linear_attention" -> "none"'
    configure 'c["text_config"]["layer_types"].pop()'
    shows 'text_config.layer_types: [4 entries] -> [3 entries]'
    configure 'c["architectures"] = "Qwen"'
    shows 'architectures: [1 entries] -> "Qwen"'
    configure 'c["a.b"] = {}; c["tie_word_embeddings"] = 0'
    shows 'tie_word_embeddings: false -> 0' '"a.b": only in B, {0 members}'
    configure 'c["x"] = "é" * 100'
    shows "x: only in B, \"$(printf 'é%.0s' {1..26})..."
    configure 'del c["text_config"]["rms_norm_eps"]'
    shows 'text_config.rms_norm_eps: only in A, 1e-6'
}

@test "one row of a million columns has as many scales for its size as can be" {
    "$PYTHON" - <<'END'
import json, os, struct
columns = 1 << 20
for name, code in (("a", b"\x38"), ("b", b"\x40")):
    os.mkdir(name)
    header = json.dumps({
        "m.weight": {"dtype": "F8_E4M3", "shape": [1, columns],
                     "data_offsets": [0, columns]},
        "m.weight_scale_inv": {"dtype": "F32", "shape": [1, columns // 128],
                               "data_offsets": [columns, columns + columns // 32]},
    }).encode()
    with open(f"{name}/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + code * columns +
                   struct.pack("<f", 0.5) * (columns // 128))
END
    # 1 and 2, halved: everywhere half of what the first has off.
    program 3 diff a b --json
    holds out 'd["values"][0]["name"] == "m.weight"' \
        'd["values"][0]["relative_rms"] == 1' 'd["values"][0]["cosine"] == 1'
}

@test "config.json that one lacks" {
    copy src
    rm b/config.json
    program 3 diff "$shared/src" b
    grep -qE '^  config.json: only in A, \{[0-9]+ members\}$' out
    program 3 diff b "$shared/src" --json
    holds out '[c["path"] for c in d["config"]] == ["config.json"]' \
        'd["config"][0]["b"]["model_type"] == "qwen3_5_moe"'
}

# ---- how it runs -------------------------------------------------------------

@test "threads and memory change no digit" {
    one() { "$fp8cast" diff "$@" --json | sed '/"seconds"/d'; }
    for pair in "src amax" "amax mse" "ragged8 ragged" "tiny tiny8"; do
        read -r a b <<<"$pair"
        one "$shared/$a" "$shared/$b" --threads 1 >first || [ $? -eq 3 ]
        for how in "--threads 2" "--threads 5" "--threads 64" \
            "--threads 1 --memory 1200kB" "--threads 3 --memory 3MB"; do
            # The words are to be split.
            # shellcheck disable=SC2086
            one "$shared/$a" "$shared/$b" $how >second
            cmp first second
        done
    done
}

@test "--top bounds each list, --json has everything" {
    program 3 diff "$shared/src" "$shared/amax" --top 2
    grep -qE '^  ... and [0-9]+ more tensors$' out
    [ "$(grep -A2 -E '^ rel. RMS' out | grep -c '%')" -eq 2 ]
    program 3 diff "$shared/src" "$shared/amax" --top 2 --json
    holds out 'len(d["values"]) == d["different"] > 2'
    program 2 diff a b --top 0
    says "fp8cast: --top: '0' is not a whole number from 1 to 1000000 (see 'fp8cast diff --help')"
}

@test "what cannot be read is one line, and names the side" {
    copy src
    refuses 'fp8cast: none: cannot open: No such file or directory' \
        diff none b
    refuses 'fp8cast: none: cannot open: No such file or directory' \
        diff b none
    mkdir empty
    refuses 'fp8cast: empty: expected model.safetensors.index.json or model.safetensors, found neither' \
        diff b empty
    file=$(basename "$(ls b/model-*.safetensors | head -1)")
    cp -r b cut
    truncate -s 100 "cut/$file"
    program 1 diff b cut
    grep -q "^fp8cast: cut/$file: " err
    [ "$(wc -l <err)" -eq 1 ]
    program 1 diff cut/ b
    grep -q "^fp8cast: cut/$file: " err
    program 1 diff "cut/$file" "b/$file"
    grep -q "^fp8cast: cut/$file: " err
    (cd cut && program 1 diff "$file" "../b/$file" &&
        grep -q "^fp8cast: $file: " err)
    echo '{' >b/config.json
    program 1 diff b "$shared/src"
    grep -q '^fp8cast: b/config.json:2:1: expected ' err
    refuses "fp8cast: --rules nix: neither a built-in family (see 'fp8cast rules') nor a file" \
        diff "$shared/src" "$shared/amax" --rules nix
    program 1 diff "$shared/src" "$shared/amax" --memory 1
    grep -q 'is too small for' err
}

@test "links that lead out are refused on either side, but for --follow-links" {
    copy src
    mkdir elsewhere
    mv b/config.json elsewhere/
    ln -s ../elsewhere/config.json b/config.json
    where="b/config.json: a link that leads out of the folder, to $PWD/elsewhere/config.json; expected a file of b (--follow-links allows it)"
    refuses "fp8cast: $where" diff "$shared/src" b
    refuses "fp8cast: $where" diff b "$shared/src"
    program 0 diff b "$shared/src" --follow-links
    program 0 diff "$shared/src" b --follow-links
    # A shard too; and inside of the folder a link may lead where it will.
    mv elsewhere/config.json b/real.json
    ln -sf real.json b/config.json
    program 0 diff b "$shared/src"
    file=$(basename "$(ls b/model-*.safetensors | head -1)")
    mv "b/$file" elsewhere/
    ln -s "../elsewhere/$file" "b/$file"
    program 1 diff b "$shared/src"
    grep -q "^fp8cast: b/$file: a link that leads out of the folder" err
    program 0 diff b "$shared/src" --follow-links
    # A file that is named is read, link or not.
    program 0 diff "b/$file" "elsewhere/$file"
}
