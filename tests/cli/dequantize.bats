#!/usr/bin/env bats
# The way back: FP8 blockwise checkpoints of several makers to BF16, F16 and
# F32, held against tests/reference/fp8_source.py, which reckons with numpy;
# fused experts; results that go back and forth; --requantize; what is refused.

# shellcheck disable=SC2154,SC2164  # set by helpers.bash; bats stops at cd
load helpers

setup_file() {
    begin_file
    make_source fused "$shared/src"
    "$fp8cast" quantize "$shared/src" "$shared/fp8" --shard-size 300000 --quiet
    local variant
    for variant in bf16 f32 e8m0 u8 apart tiny; do
        by_numpy make "$variant" "$shared/$variant"
    done
}
teardown_file() { end_file; }
setup() { begin_test; }
teardown() { end_test; }

# by_numpy ARGUMENT...: fp8_source.py.
by_numpy() {
    "$PYTHON" "$reference/fp8_source.py" "$@"
}

# restores VARIANT TYPE OPTION...: the result is what numpy makes of it.
restores() {
    local variant=$1 type=$2
    shift 2
    rm -rf "$variant-$type"
    program 0 dequantize "$shared/$variant" "$variant-$type" --dtype "$type" "$@"
    by_numpy check "$shared/$variant" "$variant-$type" "$type"
}

# same_tensors A B: and config.json. In which order tensors lie depends on how
# they lay in the source.
same_tensors() {
    by_numpy tensors "$1" "$2"
    cmp "$1/config.json" "$2/config.json"
}

# budget THREADS: the least memory, as a refusal tells it.
budget() {
    "$fp8cast" plan "$shared/bf16" --dequantize --threads "$1" --memory 1 2>&1 |
        sed -n 's/.*at least \([0-9]*\)$/\1/p'
}

# ---- values ------------------------------------------------------------------

@test "as numpy: every type of scales, to BF16 and F32" {
    for variant in bf16 f32 e8m0 u8 apart tiny; do
        restores "$variant" bf16
        restores "$variant" f32 --shard-size 100000
    done
}

@test "as numpy: to F16, subnormal ones too" {
    restores tiny f16
}

@test "the default is BF16" {
    program 0 dequantize "$shared/f32" dst
    by_numpy check "$shared/f32" dst bf16
}

@test "every kernel, any number of threads, the least memory: the same bytes" {
    for variant in bf16 apart; do
        restores "$variant" bf16 --threads 1
        for threads in 2 7; do
            program 0 dequantize "$shared/$variant" "other-$threads" \
                --threads "$threads" --memory "$(budget "$threads")"
            same "$variant-bf16" "other-$threads"
            rm -rf "other-$threads"
        done
        # Those that this CPU cannot run are refused by name.
        for kernel in c avx2 avx512 vbmi neon; do
            for type in bf16 f32; do
                if FP8CAST_CPU=$kernel "$fp8cast" dequantize --quiet \
                    "$shared/$variant" kernel --dtype "$type" 2>err; then
                    by_numpy check "$shared/$variant" kernel "$type"
                else
                    grep -q "this CPU runs (.*), found '$kernel'" err
                fi
                rm -rf kernel
            done
        done
    done
}

@test "config.json loses its quantization_config and no other byte" {
    cp -r "$shared/bf16" src
    printf '{\n\t"model_type" : "x",\r\n\t"quantization_config": {"quant_method": "fp8", "a": "}",\n"weight_block_size":[128,128]} ,\n\t"eps": 1.00e-6\n}' >src/config.json
    program 0 dequantize src dst
    printf '{\n\t"model_type" : "x" ,\n\t"eps": 1.00e-6\n}' | cmp - dst/config.json
    printf '{"text_config":{"quantization_config":{"quant_method":"fp8","weight_block_size":[128,128]},"n":1},"model_type":"x"}' >src/config.json
    program 0 dequantize src inner
    printf '{"text_config":{"n":1},"model_type":"x"}' | cmp - inner/config.json
}

# ---- there and back ----------------------------------------------------------

@test "of our own: with --fuse the original's names, shapes, dtypes, config, sides" {
    program 0 dequantize "$shared/fp8" back --fuse --shard-size 300000
    by_numpy shapes "$shared/src" back
    cmp "$shared/src/config.json" back/config.json
    # Side files: those that quantize had carried.
    diff <(names "$shared/fp8" | grep -v safetensors) \
        <(names back | grep -v safetensors)
    names back | grep -v safetensors | while read -r file; do
        cmp "$shared/src/$file" "back/$file"
    done
    # The index tells the truth, and the values are those that stand there.
    program 0 inspect back
    program 0 dequantize "$shared/fp8" apart
    by_numpy check "$shared/fp8" apart bf16
    by_numpy fused apart back
}

# there_and_back SOURCE: --fuse gives SOURCE's names, dtypes and shapes.
there_and_back() {
    rm -rf there back
    program 0 quantize "$1" there
    program 0 dequantize there back --fuse
    by_numpy shapes "$1" back
}

@test "--fuse: experts that the source had one by one stay so, here or there" {
    # All fused but those of the draft layer; none fused; in one layer only.
    make_source per-expert draft
    there_and_back draft
    program 0 inspect back --tensors
    grep -q 'mtp.layers.0.mlp.experts.0.up_proj.weight' out
    grep -q 'model.language_model.layers.0.mlp.experts.gate_up_proj' out
    # Whoever looks at the result alone has them all fused, as published.
    rm -r there/.fp8cast
    program 0 dequantize there published --fuse
    program 0 inspect published --tensors
    [ "$(grep -c 'experts.gate_up_proj .* bytes,' out)" -eq 5 ]
    fails grep -q 'experts\.[0-9]' out
    make_source trunk-per-expert trunk
    there_and_back trunk
    "$PYTHON" - "$reference" "$shared/src" mixed <<'END'
import os, sys
sys.path.insert(0, sys.argv[1])
import fp8_source
tensors = fp8_source.read(sys.argv[2])
module = "model.language_model.layers.1.mlp.experts"
dtype, (experts, rows, cols), data = tensors.pop(module + ".down_proj")
size = len(data) // experts
for e in range(experts):
    tensors[f"{module}.{e}.down_proj.weight"] = (
        dtype, (rows, cols), data[e * size:(e + 1) * size])
os.mkdir(sys.argv[3])
fp8_source.write(sys.argv[3], {"model.safetensors": tensors},
                 open(sys.argv[2] + "/config.json").read())
END
    there_and_back mixed
}

@test "--fuse: what another result's journal says is not believed" {
    make_source per-expert draft
    program 0 quantize draft there
    cp -r "$shared/fp8" other
    rm other/.fp8cast/journal.json
    cp there/.fp8cast/journal.json other/.fp8cast/
    # All of its tensors but one: the journal is of others.
    "$PYTHON" - "$reference" other <<'END'
import glob, os, sys
sys.path.insert(0, sys.argv[1])
import fp8_source
tensors = fp8_source.read(sys.argv[2])
del tensors["model.language_model.norm.weight"]
for old in glob.glob(sys.argv[2] + "/*.safetensors*"):
    os.remove(old)
fp8_source.write(sys.argv[2], {"model.safetensors": tensors},
                 open(sys.argv[2] + "/config.json").read())
END
    program 0 dequantize other back --fuse
    program 0 inspect back --tensors
    [ "$(grep -c 'experts.gate_up_proj .* bytes,' out)" -eq 5 ]
    echo '{"original' >there/.fp8cast/journal.json
    refuses 'fp8cast: there/.fp8cast/journal.json:1:11: expected no control character in a string' \
        dequantize there again --fuse
    program 0 dequantize there again
}

@test "what is exactly FP8 comes back byte for byte" {
    # Values that are codes times powers of two are what they were.
    program 0 dequantize "$shared/fp8" exact --fuse
    program 0 quantize exact again
    program 0 dequantize again back --fuse
    same_tensors exact back
    # And so are their codes and scales, where amax gives the scale again.
    program 0 quantize back third
    same_tensors again third
}

@test "experts that were kept are fused too, in their own dtype" {
    program 0 quantize "$shared/src" kept --keep '*.experts.*'
    program 0 dequantize kept back --fuse --dtype f32
    program 0 quantize "$shared/src" quantised
    program 0 dequantize quantised other --fuse
    by_numpy shapes "$shared/src" other
    "$PYTHON" - "$reference" "$shared/src" back <<'END'
import sys
sys.path.insert(0, sys.argv[1])
import fp8_source
src, back = map(fp8_source.read, sys.argv[2:])
experts = [name for name in src if ".experts." in name]
assert experts and all(src[name] == back[name] for name in experts)
END
}

@test "plan --dequantize: what dequantize does, from headers alone" {
    program 0 plan "$shared/fp8" --dequantize --fuse --json --tensors
    mv out plan.json
    program 0 dequantize "$shared/fp8" dst --fuse --json
    "$PYTHON" - "$reference" "$shared/fp8" dst <<'END'
import json, sys
sys.path.insert(0, sys.argv[1])
import fp8_source
src, dst = map(fp8_source.read, sys.argv[2:])
plan, done = json.load(open("plan.json")), json.load(open("out"))
assert plan["result"]["tensors"] == len(dst) == done["dequantized"] + done["kept"]
assert plan["result"]["bytes"] == done["result_bytes"] == sum(
    len(t[2]) for t in dst.values())
assert done["dtype"] == plan["dtype"] == "BF16" and done["quantized"] == 0
assert plan["result"]["fused"] == done["fused"] > 0
found = {}
for tensor in plan["tensors"]:
    assert src[tensor["name"]][0] == tensor["dtype"]
    scale = tensor["name"].endswith("_scale_inv")
    assert (tensor["results"] == []) == scale
    for result in tensor["results"]:
        found[result["name"]] = (result["dtype"], tuple(result["shape"]))
assert found == {name: t[:2] for name, t in dst.items()}
END
    program 0 plan "$shared/fp8" --dequantize --tensors
    grep -q '^dequantize .*F8_E4M3 with .*_scale_inv)$' out
    grep -q '^dequantize .*(scale of .*)$' out
    grep -q '^keep .*(not FP8)$' out
}

# ---- interrupted -------------------------------------------------------------

# stopped WHAT STATUS: dequantize, stopped when its first shard is finished.
stopped() {
    local found=0
    "$PYTHON" "$BATS_TEST_DIRNAME/interrupt.py" "$1" dst "$fp8cast" \
        dequantize "$shared/fp8" dst --fuse --threads 1 --shard-size 300000 \
        >err || found=$?
    echo "exit status $found, expected $2; stderr: $(cat err)"
    [ "$found" -eq "$2" ]
    [ ! -e dst/config.json ]
    [ ! -e dst/model.safetensors.index.json ]
}

@test "killed, stopped, then finished as if nothing had been" {
    stopped kill 137
    stopped term 1
    [ "$(tail -1 err)" = "fp8cast: stopped; the same command continues" ]
    refuses 'fp8cast: dst: holds a conversion of other options; finish it with the same command, or replace it with --overwrite' \
        dequantize "$shared/fp8" dst --shard-size 300000
    refuses 'fp8cast: dst: holds a conversion of other options; finish it with the same command, or replace it with --overwrite' \
        dequantize "$shared/fp8" dst --fuse --shard-size 300000 --dtype f32
    program 0 dequantize "$shared/fp8" dst --fuse --shard-size 300000 --json
    holds out 'd["shards_resumed"] > 1' 'not d["already_done"]'
    program 0 dequantize "$shared/fp8" whole --fuse --shard-size 300000
    same dst whole
    [ -z "$(find dst -name '*.part')" ]
    program 0 dequantize "$shared/fp8" dst --fuse --shard-size 300000 --json
    holds out 'd["already_done"]'
}

# ---- anew --------------------------------------------------------------------

@test "--requantize: in one pass what dequantize and quantize give in two" {
    for scale in bf16 f32 ue8m0; do
        rm -rf fp8 wide two one
        program 0 quantize "$shared/src" fp8 --scale-dtype "$scale"
        program 0 dequantize fp8 wide --dtype f32
        for options in "" "--scale-dtype f32" "--scales pow2"; do
            rm -rf two one
            # $options are words.
            # shellcheck disable=SC2086
            program 0 quantize wide two $options --shard-size 300000
            # shellcheck disable=SC2086
            program 0 quantize fp8 one $options --shard-size 300000 \
                --requantize --threads 7
            same_tensors two one
        done
    done
    # Statistics are against the values that stood there.
    program 0 quantize wide again --json
    mv out two.json
    program 0 quantize fp8 onemore --requantize --json
    "$PYTHON" -c 'import json; a, b = json.load(open("two.json")), json.load(open("out")); assert a["error"] == b["error"]'
}

@test "--requantize: the least memory, and a source that is not FP8" {
    program 0 quantize "$shared/fp8" one --requantize --threads 1
    program 0 quantize "$shared/fp8" two --requantize --threads 2 \
        --memory "$(budget 2)"
    same one two
    program 0 quantize "$shared/src" plain
    program 0 quantize "$shared/src" flagged --requantize
    same plain flagged
}

@test "--requantize: what the rules keep is BF16 again" {
    program 0 quantize "$shared/src" more --quantize 'mtp.layers.*_proj.weight'
    program 0 dequantize more values
    program 0 quantize more less --requantize --json --report r.json
    holds out 'd["dequantized"] == 7'
    # What is reported adds up to what lies there.
    holds r.json 'd["options"]["requantize"] is True' \
        'd["result"]["tensors"] == 2 * d["result"]["fp8_weights"]
            + d["result"]["kept"]' \
        'sum(r["result_bytes"] for r in d["rules"]) == d["result"]["bytes"]' \
        'sum(r["result_bytes"] for r in d["rules"]
            if r["action"] == "keep") == d["result"]["kept_bytes"]'
    program 0 report r.json -o r.html
    grep -q 'fp8cast quantize more less .*--requantize' r.html
    "$PYTHON" - "$reference" values less "$shared/fp8" <<'END'
import sys
sys.path.insert(0, sys.argv[1])
import fp8_source
values, less, ours = map(fp8_source.read, sys.argv[2:])
assert list(sorted(less)) == list(sorted(ours))
mtp = [n for n in less if n.startswith("mtp.layers") and "_proj" in n
       and "experts" not in n]
assert len(mtp) == 7
for name in mtp:
    assert less[name] == values[name] and less[name][0] == "BF16"
END
    "$PYTHON" -c 'import json; a, b = (sorted(json.load(open(f + "/config.json"))["quantization_config"]["modules_to_not_convert"]) for f in ("less", "'"$shared"'/fp8")); assert a == b'
}

@test "--requantize: a value too large is refused" {
    by_numpy break scale-large "$shared/tiny" src
    printf 'family mine\nkeep *\nquantize *.c.weight\n' >my.rules
    program 1 quantize src dst --requantize --rules my.rules --threads 1
    grep -qxE 'fp8cast: model.safetensors: tensor m.a.weight, row 0, column [0-9]+: expected a value that BF16 holds, found .*' err
    printf 'family mine\nkeep *\nquantize *.a.weight\n' >my.rules
    program 1 quantize src other --requantize --rules my.rules --threads 1
    grep -qxE 'fp8cast: model.safetensors: tensor m.a.weight, row 0, column [0-9]+: expected a value that F32 holds, found .*' err
}

# ---- refused -----------------------------------------------------------------

@test "spoiled sources: one line each, and nothing final" {
    local how line
    while IFS='|' read -r how line; do
        by_numpy break "$how" "$shared/f32" "$how"
        echo "case: $how"
        refuses "fp8cast: $line" dequantize "$how" dst --threads 1
        [ ! -e dst ] || [ -z "$(names dst)" ]
        rm -rf dst
    done <<'END'
no-scale|tensor m.a.weight: FP8 without m.a.weight_scale_inv
renamed|tensor m.a.weight: FP8 without m.a.weight_scale_inv, only _scale, which no loader of this format reads
no-weight|tensor m.a.weight_scale_inv: expected an F8_E4M3 weight of which it is the scale, found none
scale-shape|tensor m.c.weight_scale_inv: expected shape [2, 3], found [3, 2]
scale-dtype|tensor m.b.weight_scale_inv: expected BF16, F32 or F8_E8M0, found F16
vector|tensor m.v: FP8, but it is not a matrix of weights
scale-nan|model.safetensors: tensor m.a.weight_scale_inv, row 0, column 0: expected a finite scale that is not negative, found nan
scale-inf|model.safetensors: tensor m.a.weight_scale_inv, row 0, column 0: expected a finite scale that is not negative, found inf
scale-negative|model.safetensors: tensor m.a.weight_scale_inv, row 0, column 0: expected a finite scale that is not negative, found -0.5
scale-minus-zero|model.safetensors: tensor m.a.weight_scale_inv, row 0, column 0: expected a finite scale that is not negative, found -0
code-nan|model.safetensors: tensor m.c.weight, row 128, column 200: expected a finite code, found NaN
code-minus-nan|model.safetensors: tensor m.c.weight, row 128, column 200: expected a finite code, found NaN
expert-scale|model.safetensors: tensor m.experts.up_scale_inv, expert 1, row 1, column 1: expected a finite scale that is not negative, found -2
per-tensor|config.json: quantization_config: expected FP8 blockwise ("quant_method": "fp8", "weight_block_size": [128, 128]), found no "weight_block_size": one scale a tensor or a channel
gptq|config.json: quantization_config: expected FP8 blockwise ("quant_method": "fp8", "weight_block_size": [128, 128]), found quant_method gptq
mxfp4|config.json: quantization_config: expected FP8 blockwise ("quant_method": "fp8", "weight_block_size": [128, 128]), found quant_method mxfp4
compressed|config.json: quantization_config: expected FP8 blockwise ("quant_method": "fp8", "weight_block_size": [128, 128]), found quant_method compressed-tensors
blocks|config.json: quantization_config: expected FP8 blockwise ("quant_method": "fp8", "weight_block_size": [128, 128]), found "weight_block_size": [64,64]
plain|config.json: quantization_config: expected FP8 blockwise ("quant_method": "fp8", "weight_block_size": [128, 128]), found none
END
}

@test "a scale of zero, and one whose values are too large: the first code that shows it" {
    by_numpy break scale-zero "$shared/f32" zero
    program 1 dequantize zero dst --threads 1
    grep -qxE 'fp8cast: model.safetensors: tensor m.a.weight, row 0, column [0-9]+: expected a code of zero where the scale is 0, found -?[0-9.]+' err
    by_numpy break scale-large "$shared/tiny" large
    for type in bf16 f16 f32; do
        rm -rf dst
        program 1 dequantize large dst --threads 1 --dtype "$type"
        grep -qxE "fp8cast: model.safetensors: tensor m.a.weight, row 0, column [0-9]+: expected a value that ${type^^} holds, found -?[0-9.]+e\\+[0-9]+" err
    done
}

@test "--fuse: no family, an expert that is missing, one of another shape" {
    program 1 dequantize "$shared/bf16" dst --fuse
    [ "$(wc -l <err)" -eq 1 ]
    grep -q '^fp8cast: config.json: no rules for model_type "anything", known: ' err
    spoil='
import os, sys
sys.path.insert(0, sys.argv[1])
import fp8_source
tensors = fp8_source.read(sys.argv[2])
config = open(sys.argv[2] + "/config.json").read()
name = "model.language_model.layers.0.mlp.experts.1.up_proj.weight"
if sys.argv[4] == "gone":
    del tensors[name], tensors[name + "_scale_inv"]
else:
    dtype, (rows, cols), data = tensors[name]
    tensors[name] = (dtype, (rows * cols, 1), data)
    tensors[name + "_scale_inv"] = ("BF16", (-(-rows * cols // 128), 1),
                                    b"\x80\x3f" * -(-rows * cols // 128))
os.mkdir(sys.argv[3])
fp8_source.write(sys.argv[3], {"model.safetensors": tensors}, config)
'
    "$PYTHON" -c "$spoil" "$reference" "$shared/fp8" gone gone
    program 1 dequantize gone dst --fuse
    [ "$(wc -l <err)" -eq 1 ]
    grep -qE '^fp8cast: tensor model.language_model.layers.0.mlp.experts.1.up_proj.weight: missing; expected [0-9]+ experts to fuse into model.language_model.layers.0.mlp.experts.gate_up_proj, as there is ' err
    program 0 dequantize gone apart
    "$PYTHON" -c "$spoil" "$reference" "$shared/fp8" odd odd
    program 1 dequantize odd dst --fuse
    [ "$(wc -l <err)" -eq 1 ]
    grep -qE '^fp8cast: tensor model.language_model.layers.0.mlp.experts.1.up_proj.weight: expected shape \[[0-9]+, [0-9]+\] to fuse it with model.language_model.layers.0.mlp.experts.0.gate_proj.weight into ' err
}

@test "without --requantize an FP8 source is refused as before, and the flag named" {
    refuses 'fp8cast: config.json: already quantised? expected no "quantization_config", found one; --requantize takes FP8 blockwise' \
        quantize "$shared/fp8" dst
    refuses 'fp8cast: config.json: quantization_config: expected FP8 blockwise ("quant_method": "fp8", "weight_block_size": [128, 128]), found quant_method gptq' \
        quantize "$(by_numpy break gptq "$shared/f32" gptq && echo gptq)" dst --requantize
}

@test "options that do not go together" {
    program 2 dequantize
    program 2 dequantize a
    program 2 dequantize a b --dtype f64
    says "fp8cast: --dtype: 'f64' is not bf16, f16 or f32 (see 'fp8cast dequantize --help')"
    program 2 dequantize a b --keep x
    says "fp8cast: dequantize takes no option '--keep' (see 'fp8cast dequantize --help')"
    program 2 plan a --dequantize --scales mse
    says "fp8cast: plan: option '--scales' does not go with '--dequantize' (see 'fp8cast plan --help')"
    program 2 plan a --fuse
    says "fp8cast: plan: option '--fuse' goes with '--dequantize' only (see 'fp8cast plan --help')"
    program 2 dequantize a b --rules llama
    says "fp8cast: dequantize: option '--rules' goes with '--fuse' only: without it no rules are needed (see 'fp8cast dequantize --help')"
    program 2 quantize a b --verify --requantize
    says "fp8cast: --verify: reads a source that is not quantized, so it does not go with '--requantize' (see 'fp8cast quantize --help')"
}
