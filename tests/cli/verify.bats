#!/usr/bin/env bats
# verify must find whatever is wrong with a result, name it, and find nothing
# else; and it must accept what others may rightly do in another way.

# shellcheck disable=SC2154,SC2164  # set by helpers.bash; bats stops at cd
load helpers

setup_file() {
    begin_file
    make_source fused "$shared/src"
    make_source per-expert "$shared/experts"
    "$fp8cast" quantize "$shared/src" "$shared/good" --shard-size 700000 \
        --quiet
    "$fp8cast" quantize "$shared/experts" "$shared/experts-good" --quiet
}
teardown_file() { end_file; }
setup() { begin_test; }
teardown() { end_test; }

L=model.language_model.layers

# sabotage OPERATION ARGUMENT...: ./dst is a good result but for this.
sabotage() {
    rm -rf dst
    cp -r "${good:-$shared/good}" dst
    "$PYTHON" "$BATS_TEST_DIRNAME/sabotage.py" dst "$@"
}

# finds FAULT...: verify exits with 3 and its faults are these, in any order
# and no others. A fault is a shell pattern that a whole line matches.
codes='vLLM raises, SGLang takes its codes for weights without a word, so does transformers on a GPU'
silent='vLLM and SGLang start without it and say nothing, transformers raises or names the key'
unread='vLLM, SGLang and transformers do not read it and say nothing'
whose='vLLM, SGLang and transformers compute with them and say nothing'
apart='where it is taken apart'
# What transformers makes of the draft layer.
not_read='transformers does not read it'
silent_draft="vLLM and SGLang start without it and say nothing, $not_read"
whose_draft='vLLM and SGLang compute with them and say nothing, transformers does not read them'

finds() {
    local fault line unexpected=0
    program 3 verify "${src:-$shared/src}" dst --json
    [ ! -s err ]
    "$PYTHON" -c '
import json
d = json.load(open("out"))
assert d["faults"] == len(d["fault_list"]) > 0, d
print("\n".join(d["fault_list"]))' >faults
    for fault; do
        line=$(grep -nxF -- "$fault" faults | head -1 | cut -d: -f1)
        if [ -z "$line" ]; then
            echo "not found: $fault"
            unexpected=1
        else
            sed -i "${line}d" faults
        fi
    done
    if [ -s faults ]; then
        sed 's/^/not expected: /' faults
        unexpected=1
    fi
    [ "$unexpected" -eq 0 ]
}

# accepts: no faults.
accepts() {
    program 0 verify "${src:-$shared/src}" dst --json
    holds out 'd["faults"] == 0' 'd["fault_list"] == []'
}

@test "the saboteur itself breaks nothing" {
    sabotage nothing
    accepts
    good=$shared/experts-good src=$shared/experts
    sabotage nothing
    accepts
}

# ---- bytes -------------------------------------------------------------------

@test "one code, one step away" {
    # [512, 256]: element 300 * 256 + 200 is in block [2, 1].
    sabotage code-step $L.0.linear_attn.in_proj_qkv.weight 77000
    finds "tensor $L.0.linear_attn.in_proj_qkv.weight: codes that are not the nearest to weight / scale: 1 of 131072, the first at row 300, column 200, block [2, 1]"
    holds out 'd["codes_not_nearest"] == 1' 'd["codes_nan"] == 0' \
        'd["quantized"] == 70'
    # The text and --quiet say it too, with the same exit status.
    program 3 verify "$shared/src" dst
    grep -qxF "dst: 1 fault" out
    program 3 verify "$shared/src" dst --quiet
    [ ! -s out ]
    grep -q '^fp8cast: dst: 1 fault, the first: tensor model.*block \[2, 1\]$' err
}

@test "two codes: the first is told, both are counted" {
    sabotage code-step $L.0.linear_attn.in_proj_qkv.weight 77000
    cp -r dst once
    good=once sabotage code-step $L.0.linear_attn.in_proj_qkv.weight 513
    finds "tensor $L.0.linear_attn.in_proj_qkv.weight: codes that are not the nearest to weight / scale: 2 of 131072, the first at row 2, column 1, block [0, 0]"
    holds out 'd["codes_not_nearest"] == 2'
}

@test "codes that are NaN" {
    name=$L.2.mlp.experts.1.up_proj.weight
    for code in 127 255; do
        sabotage byte $name 32767 $code
        finds "tensor $name: codes that are NaN: 1 of 32768, the first at row 127, column 255, block [0, 1]"
        holds out 'd["codes_nan"] == 1' 'd["codes_not_nearest"] == 0'
    done
}

@test "scales that are negative, NaN, infinite, zero" {
    name=$L.1.mlp.shared_expert.down_proj.weight # [256, 128]: 2 blocks
    for bits in 0000 8000 bf80 7fc0 ffc0 7f80; do
        sabotage scale $name 1 $bits
        finds "tensor ${name}_scale_inv: scales that are not finite and positive: 1, the first in block [1, 0]"
    done
}

@test "several kinds of faults in one tensor: each has its own place" {
    # [256, 256], four blocks. Columns 256: element 3 is in block [0, 0].
    name=$L.0.linear_attn.out_proj.weight
    sabotage code-step $name 3
    cp -r dst once
    good=once sabotage scale $name 3 7fc0
    cp -r dst twice
    good=twice sabotage byte $name $((200 * 256 + 7)) 127
    finds "tensor ${name}_scale_inv: scales that are not finite and positive: 1, the first in block [1, 1]" \
        "tensor $name: codes that are NaN: 1 of 65536, the first at row 200, column 7, block [1, 0]" \
        "tensor $name: codes that are not the nearest to weight / scale: 1 of 65536, the first at row 0, column 3, block [0, 0]"
}

@test "a scale that is another" {
    # Not its first block, which may be all zeros.
    name=$L.1.mlp.shared_expert.down_proj.weight
    sabotage scale-step $name 1
    program 3 verify "$shared/src" dst --json
    holds out 'd["faults"] == 1' '100 < d["codes_not_nearest"] < 16384' \
        "d['fault_list'][0].startswith('tensor $name: ')" \
        '": codes that are not the nearest to weight / scale: " in d["fault_list"][0]'
}

@test "a scale so small that every code is the nearest" {
    # bf16 0x0080 is 2^-126: every weight saturates, and 448 is the nearest.
    name=$L.1.mlp.shared_expert.down_proj.weight
    sabotage scale $name 1 0080
    program 3 verify "$shared/src" dst --json
    holds out "any(f.startswith('tensor ${name}_scale_inv: scales more than 4 times off their block') and f.endswith(': 1, the first in block [1, 0]') for f in d['fault_list'])"
}

@test "scales so large that code x scale is infinite" {
    # The largest of BF16, of which 8 times is infinite, and of F32.
    "$fp8cast" quantize "$shared/src" f32 --scale-dtype f32 --quiet
    sabotage scale-all 7f7f
    cp -r dst bf16
    good=f32 sabotage scale-all 7f7fffff
    for dst in bf16 dst; do
        program 3 verify "$shared/src" $dst --json --report $dst.json
        holds out 'd["faults"] >= 70' 'd["quantized"] == 70'
        # Each of them once, although what they come to is no number to speak of.
        holds $dst.json 'len(d["tensors"]) == 70' \
            'len({t["name"] for t in d["tensors"]}) == 70'
    done
}

@test "modules_to_not_convert: what vLLM takes for a layer's experts" {
    sabotage list-too $L.0.mlp.experts.gate_up_proj
    finds "config.json: modules_to_not_convert: \"$L.0.mlp.experts.gate_up_proj\" also means $L.0.mlp.experts, which is FP8: $codes"
    sabotage list-too $L.0.mlp.experts.1.gate_proj
    finds "config.json: modules_to_not_convert: \"$L.0.mlp.experts.1.gate_proj\" also means $L.0.mlp.experts, which is FP8: $codes"
    sabotage list-too $L.3.self_attn.qkv_proj
    finds "config.json: modules_to_not_convert: \"$L.3.self_attn.qkv_proj\" also means $L.3.self_attn.qkv_proj, which is FP8: $codes"
}

@test "ignored_layers beside the list: vLLM reads it instead" {
    sabotage set ignored_layers '["lm_head"]'
    program 3 verify "$shared/src" dst --json
    holds out 'any("in_proj_a is not FP8 and not listed" in f for f in d["fault_list"])'
}

@test "a kept tensor, one byte of it" {
    sabotage flip lm_head.weight 163839
    finds "tensor lm_head.weight: expected the source's bytes, found others, the first at byte 163839 of 163840"
    sabotage flip $L.3.self_attn.q_norm.weight 0
    finds "tensor $L.3.self_attn.q_norm.weight: expected the source's bytes, found others, the first at byte 0 of 128"
}

@test "a kept tensor of another type" {
    sabotage to-f32 $L.0.input_layernorm.weight
    finds "tensor $L.0.input_layernorm.weight: expected BF16 or F8_E4M3, found F32"
}

@test "gate and up swapped: whose weights they are" {
    for at in mlp.experts.2 mlp.shared_expert; do
        a=$L.1.$at.gate_proj.weight b=$L.1.$at.up_proj.weight
        sabotage swap $a $b
        finds "tensor $a: has the weights of $b; $whose" \
            "tensor $b: has the weights of $a; $whose"
        holds out '50000 < d["codes_not_nearest"] < 65536' \
            'd["codes_nan"] == 0'
    done
    # Stored one by one, and in the draft layer.
    good=$shared/experts-good src=$shared/experts
    a=mtp.layers.0.mlp.experts.1.gate_proj.weight
    b=mtp.layers.0.mlp.experts.1.up_proj.weight
    sabotage swap $a $b
    finds "tensor $a: has the weights of $b; $whose_draft" \
        "tensor $b: has the weights of $a; $whose_draft"
}

@test "experts and layers swapped: whose weights they are" {
    a=$L.1.mlp.experts.0.down_proj.weight b=$L.1.mlp.experts.1.down_proj.weight
    sabotage swap $a $b
    finds "tensor $a: has the weights of $b; $whose" \
        "tensor $b: has the weights of $a; $whose"
    a=$L.0.linear_attn.out_proj.weight b=$L.2.linear_attn.out_proj.weight
    sabotage swap $a $b
    finds "tensor $a: has the weights of $b; $whose" \
        "tensor $b: has the weights of $a; $whose"
}

@test "weights that are another's in part, or of a name that is not alike" {
    # One code of the swapped ones is another: they are nobody's.
    a=$L.1.mlp.experts.2.gate_proj.weight b=$L.1.mlp.experts.2.up_proj.weight
    sabotage swap $a $b
    cp -r dst once
    good=once sabotage code-step $a 32767
    program 3 verify "$shared/src" dst --json
    holds out 'd["faults"] == 2' \
        "any('tensor $b: has the weights of $a; ' in f for f in d['fault_list'])" \
        "any('tensor $a: codes that are not the nearest' in f for f in d['fault_list'])"
    # Another layer's other half: two words differ.
    sabotage swap $a $L.2.mlp.experts.2.up_proj.weight
    program 3 verify "$shared/src" dst --json
    holds out 'd["faults"] == 2' \
        'all("codes that are not the nearest" in f for f in d["fault_list"])'
}

@test "another's weights: twins, large matrices with damage, an end to searching" {
    "$PYTHON" "$BATS_TEST_DIRNAME/mixup.py" "$fp8cast" .
}

# ---- names, shapes, places ---------------------------------------------------

@test "a tensor too few" {
    sabotage drop $L.2.post_attention_layernorm.weight
    finds "tensor $L.2.post_attention_layernorm.weight: missing; $silent"
    name=$L.2.mlp.experts.1.up_proj.weight
    sabotage drop $name
    home=$(grep -lF "${name}_scale_inv" dst/*.safetensors)
    finds "tensor $name: missing; $silent" \
        "$(basename "$home"): tensor ${name}_scale_inv has no counterpart in the source"
    # transformers does not read the draft layer.
    sabotage drop mtp.norm.weight
    finds "tensor mtp.norm.weight: missing; $silent_draft"
}

@test "a tensor too many" {
    sabotage add $L.4.input_layernorm.weight $L.3.input_layernorm.weight
    home=$(grep -lF "$L.4.input_layernorm" dst/*.safetensors)
    finds "$(basename "$home"): tensor $L.4.input_layernorm.weight has no counterpart in the source"
}

@test "a tensor in two shards: the index says which is meant" {
    # A kept weight and a scale; their copies, in the last shard, are zeros.
    sabotage nothing
    last=model-00008-of-00008.safetensors
    name=$L.0.input_layernorm.weight
    home=$(basename "$(grep -lF "\"$name\"" dst/*.safetensors)")
    [ "$home" != $last ]
    sabotage twice $name first
    finds "$last: tensor $name is here too, model.safetensors.index.json puts it in $home; loaders take either"
    sabotage twice $name last
    finds "$home: tensor $name is here too, model.safetensors.index.json puts it in $last; loaders take either" \
        "tensor $name: expected the source's bytes, found others, the first at byte 0 of 512"
    name=$L.0.linear_attn.in_proj_qkv.weight_scale_inv
    home=$(basename "$(grep -lF "\"$name\"" dst/*.safetensors)")
    [ "$home" != $last ]
    sabotage twice $name first
    finds "$last: tensor $name is here too, model.safetensors.index.json puts it in $home; loaders take either"
}

@test "the fused tensor left beside its parts" {
    name=$L.0.mlp.experts.down_proj
    sabotage add $name $L.0.mlp.experts.0.down_proj.weight
    home=$(grep -lF "$name" dst/*.safetensors)
    finds "$(basename "$home"): tensor $name has no counterpart in the source, $apart: vLLM takes it, SGLang does not read it and says nothing, transformers tells of keys; as others are apart, SGLang drops the later of those"
}

# still_fused NAME PART...: a line for each of what it should have become.
still_fused() {
    local e part
    for e in 0 1 2; do
        for part in "${@:2}"; do
            echo "tensor ${1%.*}.$e.$part.weight: missing; it is still in $1"
        done
    done
}

@test "experts not taken apart: in BF16, in FP8, and all of them" {
    for leaf in 'gate_up_proj gate_proj up_proj' 'down_proj down_proj'; do
        # shellcheck disable=SC2086  # words
        set -- $leaf
        name=$L.0.mlp.experts.$1
        mapfile -t gone < <(still_fused "$name" "${@:2}")
        sabotage leave-fused "$name" "$shared/src"
        home=$(basename "$(grep -lF "$name" dst/*.safetensors)")
        finds "${gone[@]}" \
            "$home: tensor $name has no counterpart in the source, $apart: vLLM and SGLang cast it into FP8 without a word, transformers too computes with other weights"
        sabotage leave-fused "$name" "$shared/src" fp8
        fp8="vLLM takes it, SGLang does not read it and says nothing, transformers tells of keys"
        finds "${gone[@]}" \
            "$home: tensor $name has no counterpart in the source, $apart: $fp8; as others are apart, SGLang drops the later of those" \
            "$home: tensor ${name}_scale_inv has no counterpart in the source, $apart: $fp8; as others are apart, SGLang drops the later of those"
    done
    name=mtp.layers.0.mlp.experts.down_proj
    mapfile -t gone < <(still_fused $name down_proj)
    sabotage leave-fused $name "$shared/src"
    home=$(basename "$(grep -lF $name dst/*.safetensors)")
    finds "${gone[@]}" \
        "$home: tensor $name has no counterpart in the source, $apart: vLLM and SGLang cast it into FP8 without a word, $not_read"
    # None is apart: nothing is dropped for that.
    sabotage nothing
    for layer in $L.0 $L.1 $L.2 $L.3 mtp.layers.0; do
        for part in gate_up_proj down_proj; do
            "$PYTHON" "$BATS_TEST_DIRNAME/sabotage.py" dst leave-fused \
                $layer.mlp.experts.$part "$shared/src" fp8
        done
    done
    program 3 verify "$shared/src" dst --json
    holds out 'd["faults"] == 5 * (3 + 2 * 3 + 2 * 2)' \
        'not any("SGLang drops" in f for f in d["fault_list"])' \
        'sum("SGLang does not read it" in f for f in d["fault_list"]) == 20' \
        'sum("transformers does not read it" in f for f in d["fault_list"]) == 4'
}

@test "a scale in another shard" {
    name=$L.0.mlp.experts.1.gate_proj.weight
    sabotage move ${name}_scale_inv
    weight=$(basename "$(grep -lF "\"$name\"" dst/*.safetensors)")
    scale=$(basename "$(grep -lF "\"${name}_scale_inv\"" dst/*.safetensors)")
    [ "$weight" != "$scale" ]
    finds "tensor ${name}_scale_inv: in $scale, but its weight is in $weight"
}

@test "weight_scale instead of weight_scale_inv" {
    name=$L.3.self_attn.o_proj.weight
    sabotage rename ${name}_scale_inv ${name}_scale
    finds "tensor $name: FP8 without ${name}_scale_inv, only _scale, which no loader of this format reads: vLLM and transformers raise, SGLang drops it without a word or raises"
    sabotage rename-all _scale_inv _scale
    program 3 verify "$shared/src" dst --json
    holds out 'd["faults"] == 70'
}

@test "no scale" {
    name=$L.3.self_attn.o_proj.weight
    sabotage drop ${name}_scale_inv
    finds "tensor $name: FP8 without ${name}_scale_inv; vLLM and SGLang start without it and say nothing, transformers raises"
    good=$shared/experts-good src=$shared/experts
    name=mtp.layers.0.mlp.experts.1.up_proj.weight
    sabotage drop ${name}_scale_inv
    finds "tensor $name: FP8 without ${name}_scale_inv; $silent_draft"
    sabotage rename ${name}_scale_inv ${name}_scale
    finds "tensor $name: FP8 without ${name}_scale_inv, only _scale, which no loader of this format reads: vLLM raises, SGLang drops it without a word or raises, $not_read"
}

@test "a scale of another shape" {
    name=$L.0.linear_attn.in_proj_qkv.weight # [512, 256]
    sabotage reshape ${name}_scale_inv 2 4
    finds "tensor ${name}_scale_inv: expected shape [4, 2], found [2, 4]"
    sabotage reshape ${name}_scale_inv 8
    finds "tensor ${name}_scale_inv: expected shape [4, 2], found [8]"
    sabotage reduce-scale $name
    finds "tensor ${name}_scale_inv: expected shape [4, 2], found [1]"
}

@test "a weight of another shape" {
    name=$L.0.linear_attn.in_proj_qkv.weight
    sabotage reshape $name 256 512
    program 3 verify "$shared/src" dst --json
    holds out "'tensor $name: expected shape [512, 256], found [256, 512]' in d['fault_list']"
    sabotage reshape mtp.fc.weight 512 256
    program 3 verify "$shared/src" dst --json
    holds out "'tensor mtp.fc.weight: expected shape [256, 512], found [512, 256]' in d['fault_list']"
}

@test "FP8 where no loader takes it: the router" {
    sabotage to-fp8 $L.1.mlp.gate.weight
    program 3 verify "$shared/src" dst --json
    holds out "any(f.startswith('tensor $L.1.mlp.gate.weight: FP8, but no loader takes it in FP8 (')
        for f in d['fault_list'])"
}

@test "FP8 of what is no matrix" {
    # 128 elements, one a row of the convolution.
    name=$L.0.linear_attn.norm.weight
    sabotage retype $name F8_E4M3 1
    finds "tensor $name: FP8, but it is not a matrix of weights" \
        "config.json: modules_to_not_convert: \"${name%.weight}\" also means ${name%.weight}, which is FP8: $codes"
}

@test "a scale of another type" {
    name=$L.3.self_attn.o_proj.weight
    # As many elements, none of a type that a loader reads as a scale.
    sabotage retype ${name}_scale_inv F16 2
    finds "tensor ${name}_scale_inv: expected BF16, F32 or F8_E8M0, found F16"
}

@test "powers of two as bare bytes, which engines take for multipliers" {
    by_others "$shared/src" --scale-dtype ue8m0
    accepts
    "$PYTHON" "$BATS_TEST_DIRNAME/sabotage.py" dst call-scales U8
    found='expected BF16, F32 or F8_E8M0, found U8; vLLM takes its bytes for multipliers without a word, SGLang does or raises, transformers'
    program 3 verify "$shared/src" dst --json
    holds out 'd["faults"] == d["quantized"] == 70' \
        "'tensor $L.3.self_attn.o_proj.weight_scale_inv: $found takes them for powers of two' in d['fault_list']" \
        "'tensor mtp.layers.0.mlp.experts.1.up_proj.weight_scale_inv: $found does not read it' in d['fault_list']" \
        'all(" found U8; " in f for f in d["fault_list"])' \
        'd["codes_not_nearest"] == 0'
    # Where nothing says that they are powers of two they are nothing.
    "$PYTHON" "$BATS_TEST_DIRNAME/sabotage.py" dst unset scale_fmt
    program 3 verify "$shared/src" dst --json
    holds out 'd["faults"] == 70' \
        'all(f.endswith("expected BF16, F32 or F8_E8M0, found U8") for f in d["fault_list"])'
}

@test "a weight of the source that is NaN, and one that is infinite" {
    # Row 2, column 5 and row 130, column 3 of a matrix of 256 columns: two
    # blocks. No code could be right, so it is the source that is named.
    name=$L.3.self_attn.o_proj.weight
    cp -r "$shared/src" broken
    "$PYTHON" - "$BATS_TEST_DIRNAME" $name <<'END'
import sys
sys.path.insert(0, sys.argv[1])
import make_bad
import reference
found, = [t for t in reference.read_checkpoint("broken")[0]
          if t.name == sys.argv[2]]
assert found.dtype == "BF16" and len(found.shape) == 2
assert found.shape[0] > 130 and found.shape[1] >= 128, found.shape
make_bad.set_weight("broken", sys.argv[2], 2 * found.shape[1] + 5,
                    make_bad.NAN)
make_bad.set_weight("broken", sys.argv[2], 130 * found.shape[1] + 3, make_bad.INF)
END
    cp -r "$shared/good" dst
    src=broken
    finds "tensor $name: blocks whose source holds NaN or Inf: 2, the first at row 2, column 5"
}

@test "a code that is infinite under its scale" {
    # 0x7f7c is 1.96875 x 2^127: under 2^120, the power of two for it, 252, and
    # the nearest code is 256: 2^128 in engines, which is infinite there.
    name=$L.3.self_attn.o_proj.weight
    cp -r "$shared/src" broken
    "$PYTHON" - "$BATS_TEST_DIRNAME" $name <<'END'
import sys
sys.path.insert(0, sys.argv[1])
import make_bad
make_bad.set_weight("broken", sys.argv[2], 5, 0x7f7c)
END
    # As another converter has it: ours takes 2^119, under which it saturates.
    program 0 quantize broken ours --quiet --scales pow2 --verify
    good=ours sabotage scale $name 0 7b80
    mv dst theirs
    good=theirs sabotage byte $name 5 $((0x78))
    src=broken
    finds "tensor $name: blocks with codes that are infinite under their scale: 1, the first in block [0, 0]"
    program 1 dequantize dst back --quiet
    program 0 dequantize ours other --quiet
}

@test "FP8 of only some parts of what engines fuse" {
    name=$L.3.self_attn
    sabotage to-bf16 $name.k_proj.weight "$shared/src"
    finds "$name.qkv_proj: some of its parts are FP8 and some not; engines load them as one" \
        "config.json: modules_to_not_convert: $name.k_proj is not FP8 and not listed; a loader would convert it: by the model, vLLM and SGLang cast it into FP8 without a word, raise or leave it, transformers converts it on a GPU or leaves it"
}

@test "FP8 of only some experts" {
    good=$shared/experts-good src=$shared/experts
    name=mtp.layers.0.mlp.experts
    sabotage to-bf16 $name.1.up_proj.weight "$src"
    finds "$name: some experts are FP8 and some not; engines load them as one, and cast without a word"
}

# ---- index and config --------------------------------------------------------

@test "total_size" {
    sabotage total-size 1
    size=$(LC_ALL=C sed -n 's/.*"total_size": \([0-9]*\).*/\1/p' dst/model.safetensors.index.json)
    finds "model.safetensors.index.json: expected total_size $((size - 1)), found $size"
    sed -i 's/"total_size": [0-9]*//' dst/model.safetensors.index.json
    finds "model.safetensors.index.json: expected total_size $((size - 1)), found none"
}

@test "an index that does not fit the shards" {
    sabotage nothing
    sed -i "s/\"mtp.fc.weight\"/\"mtp.fd.weight\"/" dst/model.safetensors.index.json
    home=$(basename "$(grep -lF '"mtp.fc.weight"' dst/*.safetensors)")
    finds "$home: tensor mtp.fc.weight is not in model.safetensors.index.json" \
        "model.safetensors.index.json: tensor mtp.fd.weight is missing from $home"
}

@test "a shard too few, a shard cut short" {
    sabotage nothing
    rm dst/model-00004-of-00008.safetensors
    program 3 verify "$shared/src" dst --json
    # What was in it is missing, but no engine starts without it.
    holds out '"model-00004-of-00008.safetensors: the index names this file, but it is missing; all loaders raise" in d["fault_list"]' \
        'sum(f.endswith(": missing") for f in d["fault_list"]) > 5' \
        'not any("start without it" in f for f in d["fault_list"])'
    sabotage nothing
    truncate -s -1 dst/model-00004-of-00008.safetensors
    program 3 verify "$shared/src" dst --json
    holds out 'any(f.startswith("model-00004-of-00008.safetensors: ") for f in d["fault_list"])' \
        'not any("start without it" in f for f in d["fault_list"])'
    # No index: engines read all shards of the folder, or raise.
    sabotage nothing
    rm dst/model.safetensors.index.json
    program 3 verify "$shared/src" dst --json
    holds out 'sum(f.endswith(".safetensors: there is no model.safetensors.index.json that names it; vLLM and SGLang read it without one, transformers raises") for f in d["fault_list"]) == 8' \
        'sum(f.endswith(": missing") for f in d["fault_list"]) > 50' \
        'not any("start without it" in f for f in d["fault_list"])'
    # Of a scale that was in the missing shard nothing is said either.
    sabotage move $L.3.self_attn.o_proj.weight_scale_inv
    home=$(basename "$(grep -lF "\"$L.3.self_attn.o_proj.weight_scale_inv\"" dst/*.safetensors)")
    rm "dst/$home"
    program 3 verify "$shared/src" dst --json
    holds out '"tensor '$L'.3.self_attn.o_proj.weight: FP8 without '$L'.3.self_attn.o_proj.weight_scale_inv" in d["fault_list"]'
    # Two names that a loader looks for before it asks the index.
    sabotage nothing
    cp dst/model-00001-of-00008.safetensors dst/model.safetensors
    cp dst/model-00001-of-00008.safetensors dst/consolidated.safetensors
    beside='lies beside the shards, but model.safetensors.index.json does not name it'
    finds "model.safetensors: $beside; transformers reads it in place of the shards" \
        "consolidated.safetensors: $beside; vLLM reads it in place of all others"
    sabotage nothing
    cp dst/model-00001-of-00008.safetensors dst/old.safetensors
    finds "old.safetensors: lies beside the shards, but model.safetensors.index.json does not name it; $unread"
    # With all its tensors in it: each of them is missing.
    sabotage outside-index $L.3.self_attn.o_proj.weight
    home=$(grep -lF "$L.3.self_attn.o_proj.weight" dst/*.safetensors)
    mapfile -t gone < <("$PYTHON" - "$reference" "$home" "$silent" \
        "$silent_draft" <<'END'
import sys
sys.path.insert(0, sys.argv[1])
import reference
for t in reference.read_shard(sys.argv[2]):
    draft = t.name.startswith("mtp.")
    if not t.name.endswith("_scale_inv"):
        print(f"tensor {t.name}: missing; {sys.argv[4 if draft else 3]}")
END
    )
    [ "${#gone[@]}" -gt 5 ]
    finds "$(basename "$home"): lies beside the shards, but model.safetensors.index.json does not name it; $unread" \
        "${gone[@]}"
}

# not_listed MODULE EFFECT: the fault of that, and no other.
not_listed() {
    sabotage unlist "$1"
    finds "config.json: modules_to_not_convert: $1 is not FP8 and not listed; a loader would convert it: $2"
}

@test "modules_to_not_convert: too few" {
    # As docs/loaders.md has it of qwen3_5_moe, module by module.
    linear='vLLM casts it into FP8 without a word, SGLang raises, transformers does on a GPU'
    not_listed $L.0.linear_attn.in_proj_a "$linear"
    not_listed $L.0.linear_attn.in_proj_b "$linear"
    vision='vLLM casts it into FP8 without a word, SGLang does not, transformers does on a GPU'
    for module in blocks.0.attn.qkv blocks.0.attn.proj blocks.0.mlp.linear_fc1 \
        blocks.0.mlp.linear_fc2 merger.linear_fc1 merger.linear_fc2; do
        not_listed model.visual.$module "$vision"
    done
    not_listed mtp.fc 'vLLM casts it into FP8 without a word, SGLang does not, transformers does not read it'
    for module in self_attn.q_proj self_attn.o_proj \
        mlp.shared_expert.down_proj; do
        not_listed mtp.layers.0.$module 'vLLM and SGLang cast it into FP8 without a word, transformers does not read it'
    done
    not_listed lm_head 'transformers does on a GPU, vLLM and SGLang do not'
    not_listed $L.3.mlp.shared_expert_gate 'transformers does on a GPU, vLLM and SGLang do not'
    not_listed mtp.layers.0.mlp.shared_expert_gate 'so far vLLM and SGLang do not, transformers does not read it'
    # Nobody takes a norm or a router for a Linear.
    sabotage unlist $L.0.input_layernorm
    accepts
    sabotage unlist $L.0.mlp.gate
    accepts
    # An empty list: each of them.
    sabotage set modules_to_not_convert '[]'
    program 3 verify "$shared/src" dst --json
    holds out 'd["faults"] == 26' \
        'all("is not FP8 and not listed" in f for f in d["fault_list"])'
}

@test "modules_to_not_convert: too many" {
    # "mtp" reaches the MTP layer's experts, which are FP8.
    # transformers leaves that layer out.
    sabotage list-too mtp
    finds 'config.json: modules_to_not_convert: "mtp" also means mtp.layers.0.mlp.experts, which is FP8: '"${codes%, so does*}"
    sabotage list-too $L.3.self_attn.o_proj
    finds "config.json: modules_to_not_convert: \"$L.3.self_attn.o_proj\" also means $L.3.self_attn.o_proj, which is FP8: $codes"
    # A plain ending, as transformers reads it.
    sabotage list-too down_proj
    program 3 verify "$shared/src" dst --json
    holds out 'd["faults"] == 1' '"\"down_proj\" also means " in d["fault_list"][0]'
    sabotage list-too $L.1
    program 3 verify "$shared/src" dst --json
    holds out 'd["faults"] == 1'
    # What reaches nothing that is FP8 does no harm.
    sabotage list-too model.audio
    accepts
}

@test "modules_to_not_convert: none at all, which is no empty list" {
    # A family in which only the head must stand there.
    program 0 synth llama --model llama-3.1-70b --sparse --layers 2 \
        --hidden 256 --vocab 512 --quiet
    program 0 quantize llama llama-good --quiet
    c="config.json: modules_to_not_convert:"
    head='lm_head is not FP8 and not listed; a loader would convert it: transformers does on a GPU, vLLM and SGLang do not'
    src=llama good=llama-good
    sabotage unset modules_to_not_convert
    accepts
    sabotage set modules_to_not_convert null
    accepts
    cp -r dst once
    good=once sabotage set ignored_layers null
    accepts
    good=once sabotage set ignored_layers '[]'
    finds "config.json: ignored_layers: $head"
    good=once sabotage set ignored_layers '["lm_head"]'
    accepts
    good=once sabotage set ignored_layers '"lm_head"'
    finds 'config.json: quantization_config: expected an array "modules_to_not_convert"'
    good=llama-good sabotage set modules_to_not_convert '[]'
    finds "$c $head"
    # Where more is kept it is still missed.
    good=$shared/good src=$shared/src
    sabotage unset modules_to_not_convert
    program 3 verify "$src" dst --json
    holds out 'd["faults"] == 25' \
        'all("is not FP8 and not listed" in f for f in d["fault_list"])' \
        'not any("lm_head" in f for f in d["fault_list"])'
}

@test "ignored_layers that is no array" {
    for list in '[]' '["lm_head"]'; do
        sabotage set modules_to_not_convert "$list"
        cp -r dst "once$list"
        good=once$list sabotage set ignored_layers '"lm_head"'
        program 3 verify "$shared/src" dst --json
        holds out "'config.json: quantization_config: \"ignored_layers\" is no array, and SGLang reads it in place of modules_to_not_convert' in d['fault_list']"
    done
}

@test "modules_to_not_convert: what is no name" {
    sabotage list-too 're:.*mtp.*'
    finds 'config.json: modules_to_not_convert: expected names, found "re:.*mtp.*", which loaders take for a pattern or for nothing'
    "$PYTHON" - dst/config.json <<'END'
import json
import sys
config = json.load(open(sys.argv[1]))
listed = config["quantization_config"]["modules_to_not_convert"]
listed[-1] = 7
json.dump(config, open(sys.argv[1], "w"))
END
    at=$("$PYTHON" -c '
import json
config = json.load(open("dst/config.json"))
print(config["quantization_config"]["modules_to_not_convert"].index(7))')
    finds "config.json: modules_to_not_convert: expected only strings, found something else at entry $at"
}

@test "quantization_config: what a loader needs" {
    c="config.json: quantization_config: expected"
    sabotage unset activation_scheme
    finds "$c \"activation_scheme\": \"dynamic\", found none; vLLM and SGLang raise"
    sabotage set activation_scheme '"static"'
    finds "$c \"activation_scheme\": \"dynamic\", found static; vLLM and SGLang raise"
    sabotage set weight_block_size '[64, 128]'
    finds "$c \"weight_block_size\": [128, 128]"
    sabotage unset weight_block_size
    finds "$c \"weight_block_size\": [128, 128]"
    sabotage set quant_method '"awq"'
    finds "$c \"quant_method\": \"fp8\", found awq"
    sabotage unset quant_method
    finds "$c \"quant_method\": \"fp8\", found none"
    sabotage set fmt '"e5m2"'
    finds "$c \"fmt\": \"e4m3\", found e5m2"
    sabotage set modules_to_not_convert '"lm_head"'
    finds "$c an array \"modules_to_not_convert\""
    sabotage unset quantization_config
    finds "config.json: expected a quantization_config, found none"
}

@test "config.json: the model's own members" {
    not='is not as in the source: expected'
    sabotage set-config tie_word_embeddings true
    finds "config.json: \"tie_word_embeddings\" $not false, found true"
    token=$("$PYTHON" -c '
import json
print(json.load(open("dst/config.json"))["image_token_id"])')
    sabotage unset-config image_token_id
    finds "config.json: \"image_token_id\" $not $token, found none"
    sabotage set-config new_thing 1
    finds 'config.json: "new_thing" is not in the source'
    sabotage set-text-config rms_norm_eps 1e-05
    finds "config.json: \"text_config.rms_norm_eps\" $not 1e-6, found 1e-5"
    sabotage set-text-config num_experts 2
    finds "config.json: \"text_config.num_experts\" $not 3, found 2"
    # What stands for the result's own at the top is one too many below.
    sabotage set-text-config quantization_config null
    finds 'config.json: "text_config.quantization_config" is not in the source'
}

@test "a source whose quantization_config is null" {
    cp -r "$shared/src" null
    sed -i '1s/{/{"quantization_config": null,/' null/config.json
    program 1 verify null "$shared/good"
    says 'fp8cast: null/config.json: "quantization_config" is null: expected no such member, since the result has its own; remove it'
    program 0 inspect null
    grep -qx 'quantization  *none, quantization_config is null' out
    program 1 verify "$shared/good" "$shared/good"
    says "fp8cast: $shared/good/config.json: expected an unquantised source, found \"quantization_config\""
}

# warns WARNING...: no faults, and these warnings of config.json.
warns() {
    accepts
    "$PYTHON" -c '
import json, sys
found = [w for w in json.load(open("out"))["warning_list"]
         if w.startswith("config.json: ")]
assert found == sys.argv[1:], found' "$@"
}

@test "config.json: what other programs write in another way, on every level" {
    sabotage nothing
    "$PYTHON" - "$shared/src/config.json" <<'END'
import json
import sys
source = json.load(open(sys.argv[1]))
config = json.load(open("dst/config.json"))
# The fixture's source names the type once, of the language model.
assert "dtype" not in source and "torch_dtype" not in source
text = config["text_config"]
assert text["dtype"] == "bfloat16"
text["torch_dtype"] = text.pop("dtype")
config["dtype"] = "bfloat16"
for one in (config, text, config["vision_config"]):
    one["transformers_version"] = "5.0"
    one["_name_or_path"] = "/home/somebody/model"
json.dump({key: config[key] for key in reversed(config)},
          open("dst/config.json", "w"))
END
    warns
    # Both names: the newer one counts.
    sabotage set-text-config torch_dtype '"float16"'
    warns
}

@test "config.json: another type to compute in" {
    then='in the source "bfloat16"; loaders compute in it unless they are told otherwise, or raise'
    sabotage set-config torch_dtype '"float16"'
    warns "config.json: \"torch_dtype\" is \"float16\", $then"
    sabotage set-config dtype '"float8_e4m3fn"'
    warns "config.json: \"dtype\" is \"float8_e4m3fn\", $then"
    sabotage set-text-config dtype '"float16"'
    warns "config.json: \"text_config.dtype\" is \"float16\", $then"
    # The one that counted is left out, and another counts in its place.
    cp -r "$shared/src" two
    sed -i '1s/{/{"dtype": "bfloat16", "torch_dtype": "float16",/' \
        two/config.json
    sabotage set-config torch_dtype '"float16"'
    src=two warns "config.json: \"torch_dtype\" is \"float16\", $then"
    "$PYTHON" - two/config.json <<'END'
import json
import sys
config = json.load(open(sys.argv[1]))
del config["torch_dtype"]
config["text_config"]["dtype"] = "float16"
json.dump(config, open(sys.argv[1], "w"))
END
    sabotage set-text-config dtype '"float16"'
    src=two warns "config.json: \"text_config.dtype\" is \"float16\", $then"
    # None on any level; on one of two it is inherited.
    sabotage set-text-config dtype null
    warns 'config.json: no "dtype", in the source "bfloat16"; SGLang takes it for float32, and computes in float16, with Gemma in bfloat16'
    cp -r dst once
    good=once sabotage set-config dtype '"bfloat16"'
    warns
    # What is no name of a type is another member's value.
    sabotage set-text-config dtype 7
    finds 'config.json: "text_config.dtype" is not as in the source: expected "bfloat16", found 7'
}

@test "config.json: numbers are compared by value" {
    sabotage nothing
    "$PYTHON" - <<'END'
import json
config = json.load(open("dst/config.json"))
rope = config["text_config"]["rope_parameters"]
assert rope["rope_theta"] == 10000000 and type(rope["rope_theta"]) is int
rope["rope_theta"] = 1e7
json.dump(config, open("dst/config.json", "w"))
END
    # transformers raises where it wants a count, but not here: no fault.
    warns 'config.json: "text_config.rope_parameters.rope_theta" is 10000000.0, in the source 10000000; loaders that want an integer raise'
    sabotage set-text-config attention_dropout 0
    warns 'config.json: "text_config.attention_dropout" is 0, in the source 0.0; loaders that want a float raise'
}

@test "config.json: what is quoted of it is cut" {
    rm -rf dst
    cp -r "$shared/good" dst
    "$PYTHON" - <<'PYTHON_END'
import json
c = json.load(open("dst/config.json"))
q = c["quantization_config"]
q["quant_method"] = q["fmt"] = q["scale_fmt"] = "v" * 79 + "é" + "v"
c["k" * 81] = q["m" * 80] = 1
q["modules_to_not_convert"] += ["e" * 500, "^" * 300]
json.dump(c, open("dst/config.json", "w"))
PYTHON_END
    program 3 verify "$shared/src" dst --json
    "$PYTHON" -c '
import json, re
d = json.load(open("out"))
told = " ".join(d["fault_list"] + d["note_list"])
assert told.count("found " + "v" * 79 + "...") == 3, told
assert chr(34) + "k" * 80 + "..." in told, told
assert chr(34) + "m" * 80 + chr(34) in told, told
assert chr(34) + "^" * 80 + "..." in told, told
assert not re.search(r"(.)\1{80}", told), told'
}

@test "config.json that is none" {
    sabotage nothing
    echo '{' >dst/config.json
    program 3 verify "$shared/src" dst --json
    holds out 'd["faults"] == 1' 'd["fault_list"][0].startswith("config.json:2:")'
    sabotage nothing
    rm dst/config.json
    finds "dst: expected config.json, found none; a conversion into this folder is not finished, the same command continues it"
    rm -r dst/.fp8cast
    finds "dst: expected config.json, found none"
}

@test "many faults: all are counted, the first are named" {
    sabotage rename-all _scale_inv _scale
    program 3 verify "$shared/src" dst
    grep -qxF "dst: 70 faults" out
    [ "$(grep -c '^  tensor ' out)" -eq 20 ]
    grep -qxF "  ... and 50 more" out
}

@test "another checkpoint's result" {
    program 0 synth other --layers 4 --quiet
    program 0 quantize other dst --quiet
    program 3 verify "$shared/src" dst --json
    holds out 'd["faults"] > 50'
}

# ---- what others may do ------------------------------------------------------

# by_others SRC OPTION...: ./dst as the reference makes it.
by_others() {
    rm -rf dst
    by_reference convert "$1" dst "${@:2}"
}

@test "accepted: scales in F32 and in powers of two" {
    by_others "$shared/src" --scale-dtype f32 --shard-size 500000
    accepts
    by_others "$shared/src" --scale-dtype ue8m0
    accepts
    # The type of the scales is read from the file, not from scale_fmt.
    sabotage_here() { "$PYTHON" "$BATS_TEST_DIRNAME/sabotage.py" dst "$@"; }
    sabotage_here unset scale_fmt
    accepts
    by_others "$shared/src" --scales pow2
    accepts
    holds out 'd["scales"]["found"] == "pow2"'
}

@test "accepted: the MTP layer quantised as in the official checkpoint" {
    by_others "$shared/src" --quantize 'mtp.layers.*_proj.weight'
    accepts
    holds out 'd["quantized"] == 77' 'd["kept"] == 70'
    # No engine has anything against these.
    holds out '[e["warnings"] for e in d["serving"]["engines"]] == [0, 0, 0]'
}

@test "FP8 that SGLang has no code for: no fault, but a warning of that engine" {
    # docs/loaders.md: vLLM and transformers read it as it is meant.
    by_others "$shared/src" --quantize 'mtp.fc.weight' \
        --quantize 'model.visual.*.attn.*.weight' \
        --quantize 'model.visual.*.linear_fc?.weight'
    accepts
    holds out 'sorted((f["engine"], f["where"])
            for f in d["serving"]["findings"] if f["severity"] == "warning"
            and f["what"] == "leaves the scales and takes the codes for "
                "weights, silently") == [("sglang", where) for where in (
            "attn.proj", "attn.qkv", "mlp.linear_fc1", "mlp.linear_fc2",
            "model.visual.merger.linear_fc1", "model.visual.merger.linear_fc2",
            "mtp.fc")]' \
        'not any("does not load" in f["what"]
            for f in d["serving"]["findings"])'
    program 0 verify "$shared/src" dst
    grep -qxF 'warning              sglang: leaves the scales and takes the codes for weights,' out
}

@test "accepted: more kept than the rules demand" {
    by_others "$shared/src" --keep '*.self_attn.*' --keep '*.layers.2.mlp.experts.*'
    accepts
}

@test "accepted: other shards, another order, other spellings" {
    sabotage nothing
    # One file without index; the tensors in reverse order; ignored_layers.
    "$PYTHON" - "$BATS_TEST_DIRNAME" <<'END'
import os
import sys
sys.path.insert(0, sys.argv[1])
import sabotage
c = sabotage.Checkpoint("dst")
everything = {}
for held in c.shards.values():
    everything.update(held)
for file in c.shards:
    os.unlink(os.path.join("dst", file))
os.unlink(os.path.join("dst", sabotage.INDEX))
c.shards = {"model.safetensors": dict(reversed(list(everything.items())))}
sabotage.Operations.list_as_ignored_layers(c)
c.config["transformers_version"] = "5.0"
c.config["torch_dtype"] = "bfloat16"
c.write()
END
    accepts
    rm -r dst/.fp8cast dst/LICENSE
    accepts
}

@test "accepted: better scales than amax / 448" {
    # Any positive scale will do as long as the codes are the nearest: here
    # twice ours, which costs accuracy and breaks nothing.
    sabotage nothing
    "$PYTHON" - "$BATS_TEST_DIRNAME" "$shared/src" <<'END'
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import sabotage
from sabotage import reference
c = sabotage.Checkpoint("dst")
name = "model.language_model.layers.3.self_attn.q_proj.weight"
source, = [t for t in reference.read_checkpoint(sys.argv[2])[0]
           if t.name == name]
w = reference.to_float32(source.read(), "BF16").reshape(source.shape)
_, stored = reference.quantize_matrix(w, "bf16")
stored = stored + np.uint16(0x80)  # the exponent: twice as large
wide = (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
q = w / reference.spread(wide, *w.shape)
c[name].data[:] = reference.e4m3_encode(q).tobytes()
c[name + sabotage.SCALE].data[:] = stored.astype("<u2").tobytes()
c.write()
END
    accepts
}

@test "scales in E8M0: quantize and verify name the same choice" {
    program 0 quantize "$shared/src" e8m0 --scale-dtype ue8m0 --json \
        --report one.json
    holds out 'd["scales"] == "pow2"'
    program 0 verify "$shared/src" e8m0 --json --report two.json
    holds out 'd["scales"]["found"] == "pow2"' \
        'd["scales"]["blocks_amax"] == d["scales"]["blocks"]'
    holds one.json 'd["options"]["scales"] == "pow2"'
    holds two.json 'd["options"]["scales"] == "pow2"'
}

# ---- how the folders lie -----------------------------------------------------

@test "links that lead out are followed, as engines do" {
    mkdir src dst cards
    for file in "$shared"/src/* "$shared"/good/*; do
        case $file in
            */README.md) ;;
            "$shared"/src/*) ln -s "$file" src/ ;;
            *) ln -s "$file" dst/ ;;
        esac
    done
    printf -- '---\nlicense: mit\n---\n' >cards/README.md
    cp cards/README.md dst
    ln -s ../cards/README.md src
    # As far as all else refuses them.
    program 1 plan src
    grep -q 'a link that leads out of the folder' err
    program 1 diff src dst
    for confine in yes no; do
        FP8CAST_CONFINE=$confine program 0 verify src dst --json \
            --report report.json
        holds out 'd["faults"] == d["warnings"] == d["notes"] == 0'
        # What a report quotes is not read through them.
        holds report.json 'd["source"]["card"] is None'
        for folder in src dst; do
            FP8CAST_CONFINE=$confine program 0 inspect $folder --quiet
            FP8CAST_CONFINE=$confine program 0 roofline $folder --quiet
        done
    done
    program 2 verify src dst --follow-links
}

@test "a result without journal, without .fp8cast, in a folder that is read only" {
    rm -rf dst
    cp -r "$shared/good" dst
    program 0 verify "$shared/src" dst --json
    "$PYTHON" -c 'import json
d = json.load(open("out")); del d["seconds"]; json.dump(d, open("usual", "w"))'
    rm dst/.fp8cast/journal.json
    for way in journal all locked; do
        [ $way != all ] || rm -r dst/.fp8cast
        [ $way != locked ] || chmod -R a-w dst
        snapshot dst >before
        program 0 verify "$shared/src" dst --json
        [ ! -s err ]
        "$PYTHON" -c 'import json
d = json.load(open("out")); del d["seconds"]
assert d == json.load(open("usual"))'
        snapshot dst | diff before -
    done
    # What may not be read is named. Root may read everything.
    [ "$(id -u)" -ne 0 ] || return 0
    chmod 0 dst/config.json
    refuses "fp8cast: dst/config.json: cannot open: Permission denied" \
        verify "$shared/src" dst
    chmod 0 dst
    refuses "fp8cast: dst/config.json: cannot stat: Permission denied" \
        verify "$shared/src" dst
}

@test "no config.json, and something else in place of .fp8cast" {
    for way in file loop folder; do
        rm -rf dst
        cp -r "$shared/good" dst
        rm -r dst/config.json dst/.fp8cast
        case $way in
            file) echo x >dst/.fp8cast ;;
            loop) ln -s .fp8cast dst/.fp8cast ;;
            folder)
                # Root may look everywhere.
                [ "$(id -u)" -ne 0 ] || continue
                mkdir -m 0 dst/.fp8cast
                ;;
        esac
        program 3 verify "$shared/src" dst --json
        holds out '"dst: expected config.json, found none" in d["fault_list"]'
    done
}

@test "a conversion that is not finished says how to go on" {
    "$PYTHON" "$BATS_TEST_DIRNAME/interrupt.py" kill dst "$fp8cast" \
        quantize "$shared/src" dst --threads 1 --shard-size 300000 || true
    [ ! -e dst/config.json ]
    program 3 verify "$shared/src" dst --quiet
    grep -qx 'fp8cast: dst: [0-9]* faults, the first: dst: expected config.json, found none; a conversion into this folder is not finished, the same command continues it' err
    program 3 verify "$shared/src" dst --json
    # Of shards that lie there it is said once each what they lack, and of
    # their tensors that they are missing.
    shards=$(cd dst && ls ./*.safetensors | wc -l)
    holds out "sum('.safetensors: there is no model.safetensors.index.json '
            'that names it' in fault for fault in d['fault_list']) == $shards" \
        '"dst: expected model.safetensors.index.json or model.safetensors, "
        "found neither" in d["fault_list"]'
    refuses "fp8cast: dst: expected config.json, found none; a conversion into this folder is not finished, the same command continues it" \
        dequantize dst back
    program 0 quantize "$shared/src" dst --shard-size 300000 --quiet
    program 0 verify "$shared/src" dst --quiet
}
