#!/usr/bin/env bats
# End to end: miniature checkpoints converted by fp8cast and by the reference
# in tests/reference, which must agree byte for byte; what becomes of a result
# folder that is there already; runs that are interrupted and continued.

# shellcheck disable=SC2154,SC2164  # set by helpers.bash; bats stops at cd
load helpers

setup_file() {
    begin_file
    make_source fused "$shared/src"
}
teardown_file() { end_file; }
setup() {
    begin_test
    # Half of the time is the reference's; of its cases a sanitizer gets those
    # with other dtypes and shapes.
    if [[ ${SANITIZER:-} && $BATS_TEST_DESCRIPTION == "as the reference"* &&
        ! $BATS_TEST_DESCRIPTION =~ ragged|F16|F32|zeros|names ]]; then
        skip "bytes are compared without a sanitizer"
    fi
}
teardown() { end_test; }

# agrees SRC OPTION...: fp8cast and the reference, given the same options,
# write the same files, and verify finds nothing.
agrees() {
    local src=$1
    shift
    rm -rf ours theirs
    program 0 quantize "$src" ours "$@" --json
    mv out quantized.json
    echo "options: $*"
    by_reference convert "$src" theirs "$@" -- compare ours theirs
    program 0 verify "$src" ours --json
    mv out verified.json
}

# statistics_agree SRC: of the last `agrees`, as both commands give them.
statistics_agree() {
    "$PYTHON" "$BATS_TEST_DIRNAME/stats_agree.py" "$1" ours \
        quantized.json verified.json
}

# variant NAME SCALE_DTYPE...: whole with the first type of scales, in many
# shards with each.
variant() {
    local dtype
    make_source "$1" src
    shift
    agrees src --scale-dtype "$1"
    for dtype; do
        agrees src --scale-dtype "$dtype" --shard-size 300000
        statistics_agree src
    done
}

@test "as the reference: fused experts, several shards in shuffled order" {
    variant fused bf16 f32 ue8m0
    # One result a shard.
    agrees src --shard-size 1
}
@test "as the reference: one shard" { variant one-shard bf16; }
@test "as the reference: MTP experts one by one" { variant per-expert bf16; }
@test "as the reference: the dense family" {
    variant dense bf16
    holds quantized.json 'd["quantized"] == 12 + 3 * 3 + 4 + 3'
}
@test "as the reference: all experts one by one" {
    variant trunk-per-expert bf16
}
@test "as the reference: A_log in F32" { variant f32-alog bf16 f32; }
@test "as the reference: no MTP layer" { variant no-mtp bf16; }
@test "as the reference: ragged dimensions" { variant ragged bf16 f32 ue8m0; }
@test "as the reference: F16 weights" { variant f16 bf16 ue8m0; }
@test "as the reference: F32 weights" { variant f32 bf16 f32; }
@test "as the reference: zeros, subnormals, ties, the largest numbers" {
    variant tiny-values bf16 f32
    # Of the largest weights with powers of two no figures: 255 * 2^120 becomes
    # 256 * 2^120, which an engine's binary32 cannot hold.
    agrees src --scale-dtype ue8m0
}
@test "as the reference: scales of the least error, found by brute force" {
    make_source distributions src
    agrees src --scales mse
    statistics_agree src
    holds verified.json 'd["scales"]["found"] == "other"'
    holds quantized.json 'd["scales"] == "mse"'
    agrees src --scales mse --scale-dtype f32 --keep '*.experts.*'
    agrees "$shared/src" --scales mse --keep '*.experts.*'
    # Edge blocks, subnormal weights, ties, the largest weights.
    make_source tiny-values odd
    agrees odd --scales mse
}
@test "as the reference: scales of the least error for F16 and F32" {
    make_source distributions-f16 f16
    agrees f16 --scales mse
    make_source distributions-f32 f32
    agrees f32 --scales mse --keep '*.mlp.*' --keep '*.layers.0.*' \
        --keep '*.layers.1.*'
    # Linear attention's three matrices and attention's four.
    holds verified.json 'd["quantized"] == 3 + 4'
}
@test "as the reference: scales that are powers of two" {
    make_source distributions src
    agrees src --scales pow2
    statistics_agree src
    holds verified.json 'd["scales"]["found"] == "pow2"' \
        'abs(d["scales"]["relative_rms_e8m0"] - d["relative_rms"]) < 1e-12'
    agrees "$shared/src" --scales pow2 --scale-dtype f32
    agrees "$shared/src" --scales pow2 --scale-dtype ue8m0
    agrees "$shared/src" --scales amax --scale-dtype ue8m0
    make_source tiny-values odd
    agrees odd --scales pow2
}
@test "as the reference: config.json on one line" {
    variant dense-compact-config bf16 ue8m0
}

@test "as the reference: a checkpoint made by synth" {
    program 0 synth src --layers 4 --experts 4 --vocab 300 --shards 3
    agrees src
    statistics_agree src
    agrees src --shard-size 1000000
}

@test "as the reference: shard sizes around one boundary" {
    # The sizes at which the second result just fits or just does not.
    program 0 plan "$shared/src" --shard-size 1 --json --tensors
    "$PYTHON" - <<'END' >sizes
import json
sizes = {"BF16": 2, "F8_E4M3": 1}
results = [r for t in json.load(open("out"))["tensors"] for r in t["results"]]
def count(shape):
    n = 1
    for d in shape:
        n *= d
    return n
total = 0
for r in results[:12]:
    total += count(r["shape"]) * sizes[r["dtype"]]
    if "scale_shape" in r:
        total += count(r["scale_shape"]) * 2
print(total - 1, total, total + 1)
END
    for size in $(cat sizes); do
        agrees "$shared/src" --shard-size "$size"
    done
    [ "$size" -gt 1000 ]
}

@test "as the reference: kept and quantised against the rules" {
    agrees "$shared/src" --quantize 'mtp.layers.*_proj.weight'
    statistics_agree "$shared/src"
    agrees "$shared/src" --keep '*.experts.*' --shard-size 700000
    agrees "$shared/src" --keep '*.linear_attn.*' --scale-dtype f32
    agrees "$shared/src" --keep '*.self_attn.?_proj.weight' \
        --keep 'model.language_model.layers.{n}.mlp.shared_expert.*'
    agrees "$shared/src" --quantize '*.in_proj_a.weight' \
        --quantize '*.in_proj_b.weight'
    # The last one that matches wins.
    agrees "$shared/src" --keep 'mtp.*' --quantize 'mtp.*experts.*proj'
    agrees "$shared/src" --quantize 'mtp.layers.*_proj.weight' --keep 'mtp.*'
    holds verified.json 'd["quantized"] == 61'
}

@test "as the reference: everything kept" {
    agrees "$shared/src" --keep '*'
    holds verified.json 'd["quantized"] == 0' 'd["kept"] == 147'
    holds ours/config.json \
        '"lm_head" in d["quantization_config"]["modules_to_not_convert"]'
}

@test "as the reference: odd spellings of config.json" {
    make_source one-shard src
    "$PYTHON" - <<'END'
import json
config = json.load(open("src/config.json"))
text = json.dumps(config, indent="\t")
# CR LF, tabs, numbers and escapes as nobody prints them, space at the ends.
text = text.replace("1e-06", "1.00E-6").replace("silu", "s\\u0069lu")
text = " \n" + text.replace("\n", "\r\n") + "\r\n\t\n"
assert "1.00E-6" in text and "\\u0069" in text
open("src/config.json", "w", newline="").write(text)
END
    agrees src
    printf '{"model_type":"qwen3_5_moe"}' >src/config.json
    agrees src --scale-dtype ue8m0
    printf '{\n    "model_type": "qwen3_5_moe",\n    "né": "é"\n}\n' \
        >src/config.json
    agrees src
    printf '{ "a":1e-06,\n"model_type":\n"qwen3_5_moe" , "z":[ ] \n }' \
        >src/config.json
    agrees src
}

@test "as the reference: names that JSON must escape, and tensors without elements" {
    make_source one-shard src
    "$PYTHON" - <<'END'
import json
path = "src/model.safetensors"
data = open(path, "rb").read()
size = int.from_bytes(data[:8], "little")
header = json.loads(data[8:8 + size])
end = max(e["data_offsets"][1] for n, e in header.items()
          if n != "__metadata__")
extra = {'odd."quoted"\\\t\b\x1f\x7f/é\U0001f600': [0], "odd.scalar": [],
         "odd.empty": [3, 0, 2]}
for name, shape in extra.items():
    count = 1
    for dim in shape:
        count *= dim
    header[name] = {"dtype": "I64", "shape": shape,
                    "data_offsets": [end, end + 8 * count]}
    end += 8 * count
text = json.dumps(header).encode()
open(path, "wb").write(len(text).to_bytes(8, "little") + text
                       + data[8 + size:] + b"12345678")
END
    "$fp8cast" rules qwen3_5_moe >my.rules
    echo 'keep odd.* always' >>my.rules
    agrees_with_rules() {
        rm -rf ours theirs
        program 0 quantize src ours --rules my.rules "$@"
        by_reference convert src theirs --rules my.rules "$@" \
            -- compare ours theirs
        program 0 verify src ours --rules my.rules
    }
    agrees_with_rules
    agrees_with_rules --shard-size 300000
}

@test "bytes and statistics depend on neither threads nor memory" {
    # Wider than the smallest buffer, so that bands are cut into panels.
    program 0 synth src --layers 4 --experts 3 --hidden 640 --inter 384 \
        --vocab 300 --shards 2
    least=$(least_memory 8)
    program 1 plan src --threads 8 --memory 1
    says "fp8cast: a memory budget of 1 bytes is too small for 8 threads: expected at least $least"
    program 1 plan src --threads 8 --memory $((least - 1))
    options=(--shard-size 2MB --json)
    program 0 quantize src one "${options[@]}" --threads 1
    mv out one.json
    program 0 quantize src eight "${options[@]}" --threads 8
    mv out eight.json
    program 0 quantize src little "${options[@]}" --threads 8 --memory "$least"
    mv out little.json
    program 0 quantize src much "${options[@]}" --threads 3 --memory 1GB
    mv out much.json
    program 0 verify src one --json --threads 1
    mv out verify-one.json
    program 0 verify src one --json --threads 8 --memory "$least"
    mv out verify-eight.json
    same one eight
    same one little
    same one much
    by_reference convert src theirs --shard-size 2000000
    same one theirs
    program 0 quantize src mse --scales mse --threads 1
    program 0 quantize src mse8 --scales mse --threads 8 --memory "$least"
    same mse mse8
    "$PYTHON" - <<'END'
import json
names = ["one", "eight", "little", "much", "verify-one", "verify-eight"]
errors = [json.load(open(name + ".json"))["error"] for name in names]
for name, error in zip(names, errors):
    assert error == errors[0], f"{name}: {error}\none: {errors[0]}"
END
}

# Where both folders are in memory nothing goes past the cache, writers take
# turns, and there are as many workers as threads.
@test "in memory: the same bytes and statistics" {
    [ "$(stat -f -c %T /dev/shm)" = tmpfs ] || skip "/dev/shm is no tmpfs"
    program 0 synth src --layers 4 --shards 2
    program 0 quantize src dst --json
    mv out 0.json
    memory=$(mktemp -d /dev/shm/fp8cast-bats.XXXXXX)
    status=0
    bash -euc '
        cp -r src "$2"
        for threads in 1 3; do
            "$1" quantize "$2/src" "$2/dst" --overwrite --threads $threads \
                --json >$threads.json
            "$1" verify "$2/src" "$2/dst" --threads $threads --quiet
            diff -r -x .fp8cast dst "$2/dst"
        done
    ' in-memory "$fp8cast" "$memory" || status=$?
    rm -rf "$memory"
    [ "$status" -eq 0 ]
    "$PYTHON" - <<'END'
import json
errors = [json.load(open(f"{n}.json"))["error"] for n in (0, 1, 3)]
assert errors[0] == errors[1] == errors[2], errors
END
}

@test "the result table and verify after it" {
    program 0 quantize "$shared/src" dst --verify --json --quiet
    [ ! -s err ]
    holds out 'd["verify"]["faults"] == 0' 'd["already_done"] is False' \
        'd["quantized"] == 70' 'd["kept"] == 77' 'd["shards"] == 1' \
        'd["verify"]["fault_list"] == []' \
        'd["verify"]["codes_not_nearest"] == 0' \
        'd["verify"]["codes_nan"] == 0' 'd["verify"]["quantized"] == 70' 'd["verify"]["kept"] == 77' \
        'd["error"] == d["verify"]["error"]'
}

@test "the keys of verify --json" {
    program 0 quantize "$shared/src" dst --quiet
    [ ! -s out ]
    [ ! -s err ]
    program 0 verify "$shared/src" dst --json
    holds out 'set(d) >= {"faults", "quantized", "kept", "codes_not_nearest",
        "median_relative_error", "relative_rms", "sqnr_db", "cosine"}' \
        'd["faults"] == 0' 'd["quantized"] == 70' 'd["kept"] == 77' \
        '0.02 < d["median_relative_error"] < 0.024' \
        '0.02 < d["relative_rms"] < 0.03' '31 < d["sqnr_db"] < 32' \
        '0.999 < d["cosine"] < 1'
}

@test "a result is no source" {
    program 0 quantize "$shared/src" dst
    refuses 'fp8cast: config.json: already quantised? expected no "quantization_config", found one; --requantize takes FP8 blockwise' \
        quantize dst again
    [ ! -e again ]
    program 1 verify dst dst
    [ "$(wc -l <err)" -eq 1 ]
}

@test "a finished result: says so and changes nothing" {
    program 0 quantize "$shared/src" dst --shard-size 700000
    snapshot dst | grep -v '^.fp8cast' >before
    program 0 quantize "$shared/src" dst --shard-size 700000
    snapshot dst | grep -v '^.fp8cast' >after
    diff before after
    [ "$(head -1 out)" = "dst is finished: nothing to do" ]
    [ ! -s err ]
    program 0 quantize "$shared/src" dst --shard-size 700000 --json
    holds out 'd["already_done"] is True' 'd["error"]["overall"]["tensors"] == 70'
    # Nor does --overwrite, threads or memory make it another conversion.
    program 0 quantize "$shared/src" dst --shard-size 700000 --overwrite \
        --threads 1 --memory 10MB --json
    holds out 'd["already_done"] is True'
    snapshot dst | grep -v '^.fp8cast' >after
    diff before after
}

@test "a finished result: what its user put there stays" {
    cp -a "$shared/src" src
    printf -- '---\nlicense: mit\n---\nthe source\n' >src/README.md
    echo '{"top_k": 20}' >src/generation_config.json
    program 0 quantize src dst --report report.json
    # As README says, and what is done with a result afterwards.
    program 0 report report.json -o dst/README.md --overwrite --base-model a/b
    echo '{"top_k": 40}' >dst/generation_config.json
    mkdir -p dst/.git
    echo 'ref: refs/heads/main' >dst/.git/HEAD
    mkdir -p dst/.cache/huggingface dst/sub
    echo x >dst/.cache/huggingface/x
    echo mine >dst/sub/notes.txt
    ln -s nowhere dst/link
    snapshot dst >before
    program 0 quantize src dst
    grep -Fxq "dst is finished: nothing to do" out
    grep -Fxq "README.md: is not as in the source, left as it is; --overwrite writes it anew" out
    grep -Fxq "generation_config.json: is not as in the source, left as it is; --overwrite writes it anew" out
    [ ! -s err ]
    program 0 quantize src dst --report again.json
    program 0 quantize src dst --json
    holds out 'd["already_done"] is True' \
        'd["unlike_source"] == ["README.md", "generation_config.json"]'
    snapshot dst >after
    diff before after
    # A file that is missing is written, and no other.
    rm dst/LICENSE
    program 0 quantize src dst
    cmp src/LICENSE dst/LICENSE
    but_for() { grep -v '^\.fp8cast\|^LICENSE \|^config.json \|\.index\.json ' "$1"; }
    snapshot dst >after
    diff <(but_for before) <(but_for after)
    # So does one that went from the source. With --overwrite it does as told,
    # but with what was never ours.
    mv src/generation_config.json gone.json
    program 0 quantize src dst
    grep -q 'top_k": 40' dst/generation_config.json
    program 0 quantize src dst --overwrite
    [ ! -e dst/generation_config.json ]
    cmp src/README.md dst/README.md
    [ "$(cat dst/sub/notes.txt)" = mine ]
    [ -s dst/.git/HEAD ]
    [ -e dst/.cache/huggingface/x ]
    # Another conversion does not take its place while others' files are there.
    refuses "fp8cast: dst: holds link, which is no plain file; expected a new or empty folder" \
        quantize src dst --scale-dtype f32 --overwrite
}

@test "a finished result: links of its user are neither followed nor removed" {
    cp -a "$shared/src" src
    mkdir src/tok
    echo '{"a": 1}' >src/tok/t.json
    echo card >src/README.md
    program 0 quantize src dst
    # A folder elsewhere, the source's own, a card elsewhere.
    mkdir apart
    echo precious >apart/t.json
    rm -r dst/tok dst/README.md
    ln -s ../apart dst/tok
    echo mine >card.md
    ln -s ../card.md dst/README.md
    export FP8CAST_CONFINE=no
    for target in ../apart ../src/tok; do
        ln -sfn "$target" dst/tok
        snapshot src >before
        program 0 quantize src dst
        grep -Fxq "README.md: is not as in the source, left as it is; --overwrite writes it anew" out
        grep -Fxq "tok/t.json: is not as in the source, left as it is; --overwrite writes it anew" out
        refuses "fp8cast: dst: holds README.md, which is no plain file; expected a new or empty folder" \
            quantize src dst --overwrite
        rm dst/LICENSE
        program 0 quantize src dst
        snapshot src >after
        diff before after
        [ "$(cat apart/t.json) $(cat card.md) $(readlink dst/README.md)" = \
            'precious mine ../card.md' ]
    done
    # A shard that was moved away and linked is not replaced by a new one.
    mv dst/model.safetensors away
    ln -s ../away dst/model.safetensors
    refuses "fp8cast: dst: holds model.safetensors, which is no plain file; expected a new or empty folder" \
        quantize src dst
}

@test "a result that was finished: what is mended, and what not" {
    cp -a "$shared/src" src
    program 0 quantize src dst --shard-size 700000
    cp -a dst whole
    echo mine >dst/LICENSE
    # An edited config.json is one more of its user's files ...
    sed -i 's/262144/131072/' dst/config.json
    program 0 quantize src dst --shard-size 700000 --json
    holds out 'd["already_done"] is True' 'd["unlike_source"] == ["config.json", "LICENSE"]'
    # ... which work would replace.
    mv dst/.fp8cast/shard-00001.json kept
    refuses "fp8cast: dst: something is missing, and config.json is not as it was written; expected it so, or --overwrite" \
        quantize src dst --shard-size 700000
    mv kept dst/.fp8cast/shard-00001.json
    program 0 quantize src dst --shard-size 700000 --overwrite
    same dst whole
    # What is mended leaves what is the user's.
    echo mine >dst/LICENSE
    echo mine >dst/notes.txt
    echo '{}' >dst/.fp8cast/shard-00001.json
    echo '{}' >dst/model.safetensors.index.json
    program 0 quantize src dst --shard-size 700000
    [ "$(cat dst/LICENSE dst/notes.txt)" = "mine
mine" ]
    rm dst/notes.txt
    cp whole/LICENSE dst/LICENSE
    same dst whole
}

@test "a new repository is an empty folder" {
    mkdir -p dst/.git
    echo 'ref: refs/heads/main' >dst/.git/HEAD
    echo '*.safetensors filter=lfs' >dst/.gitattributes
    program 0 quantize "$shared/src" dst
    program 0 quantize "$shared/src" dst --scale-dtype f32 --overwrite
    [ -s dst/.git/HEAD ]
    [ "$(cat dst/.gitattributes)" = '*.safetensors filter=lfs' ]
    rm -r dst/.git dst/.gitattributes
    program 0 quantize "$shared/src" fresh --scale-dtype f32
    same dst fresh
    # But what the source has too is one of the result's files.
    cp -a "$shared/src" src
    echo '* text' >src/.gitattributes
    rm -r dst
    mkdir -p dst/.git
    echo 'ref: refs/heads/main' >dst/.git/HEAD
    echo '*.safetensors filter=lfs' >dst/.gitattributes
    refuses "fp8cast: dst: holds .gitattributes, but no sign that fp8cast wrote it; expected a new or empty folder, or --overwrite" \
        quantize src dst
    program 0 quantize src dst --overwrite
    cmp src/.gitattributes dst/.gitattributes
}

@test "another source" {
    cp -a "$shared/src" src
    program 0 quantize src dst
    touch -d '2001-02-03 04:05:06' src/model-00002-of-00005.safetensors
    snapshot dst >before
    refuses "fp8cast: dst: holds a conversion of another source; finish it with the same command, or replace it with --overwrite" \
        quantize src dst
    snapshot dst >after
    diff before after
    program 0 quantize src dst --overwrite
    program 0 verify src dst
    # A changed config.json is another source too.
    sed -i 's/262144/131072/' src/config.json
    program 1 quantize src dst
    program 0 quantize src dst --overwrite
    holds dst/config.json 'd["text_config"]["max_position_embeddings"] == 131072'
}

@test "other options are refused until --overwrite, which leaves nothing stale" {
    program 0 quantize "$shared/src" dst --shard-size 300000
    snapshot dst >before
    for options in "" "--shard-size 300001" \
        "--shard-size 300000 --scale-dtype f32" \
        "--shard-size 300000 --scales mse" \
        "--shard-size 300000 --scales pow2" \
        "--shard-size 300000 --keep *.in_proj_z.weight --keep *.in_proj_qkv.weight"; do
        # The options are words to be split, but not to be globbed.
        set -f
        # shellcheck disable=SC2086
        set -- $options
        set +f
        refuses "fp8cast: dst: holds a conversion of other options; finish it with the same command, or replace it with --overwrite" \
            quantize "$shared/src" dst "$@"
    done
    snapshot dst >after
    diff before after
    program 0 quantize "$shared/src" dst --overwrite --scale-dtype f32
    program 0 quantize "$shared/src" fresh --scale-dtype f32
    same dst fresh
    diff <(names dst) <(names fresh)
    diff <(ls -A dst/.fp8cast) <(ls -A fresh/.fp8cast)
    program 0 quantize "$shared/src" dst --overwrite --shard-size 300000 \
        --scale-dtype ue8m0
    program 0 verify "$shared/src" dst
    # Folders of side files that are gone go, too.
    cp -a "$shared/src" src
    rm -r src/assets src/LICENSE src/merges.txt
    program 0 quantize src dst --overwrite
    program 0 quantize src fresh2
    same dst fresh2
    diff <(names dst) <(names fresh2)
}

@test "a result that was copied without .fp8cast is not overwritten by mistake" {
    program 0 quantize "$shared/src" dst
    rm -r dst/.fp8cast
    snapshot dst >before
    program 1 quantize "$shared/src" dst
    [ "$(wc -l <err)" -eq 1 ]
    grep -q 'no sign that fp8cast wrote it; expected a new or empty folder, or --overwrite$' err
    snapshot dst >after
    diff before after
    program 0 quantize "$shared/src" dst --overwrite
    program 0 verify "$shared/src" dst
}

@test "DST that is SRC, in SRC, around SRC" {
    cp -a "$shared/src" src
    ln -s src link
    snapshot src >before
    refuses "fp8cast: src: the result folder is the source folder" \
        quantize src src
    refuses "fp8cast: link: the result folder is the source folder" \
        quantize src link
    refuses "fp8cast: src/.: the result folder is the source folder" \
        quantize src/ src/.
    refuses "fp8cast: src/fp8: the result folder is inside the source folder src" \
        quantize src src/fp8
    refuses "fp8cast: link/a/b: the result folder is inside the source folder src" \
        quantize src link/a/b
    refuses "fp8cast: .: the source folder src is inside the result folder" \
        quantize src .
    refuses "fp8cast: .: the source folder src is inside the result folder" \
        quantize src . --overwrite
    refuses "fp8cast: src: the result folder is the source folder" \
        quantize src src --overwrite
    snapshot src >after
    diff before after
    # A name that only begins alike is another folder.
    program 0 quantize src src-fp8
}

@test "DST with files of others" {
    mkdir dst
    echo mine >dst/notes.txt
    snapshot dst >before
    for option in "" --overwrite; do
        refuses "fp8cast: dst: holds notes.txt, which is not part of this conversion; expected a new or empty folder" \
            quantize "$shared/src" dst $option
    done
    snapshot dst >after
    diff before after
    # In a finished result as well.
    rm -r dst
    program 0 quantize "$shared/src" dst
    mkdir dst/sub
    echo mine >dst/sub/notes.txt
    refuses "fp8cast: dst: holds sub/notes.txt, which is not part of this conversion; expected a new or empty folder" \
        quantize "$shared/src" dst --scale-dtype f32 --overwrite
    [ "$(cat dst/sub/notes.txt)" = mine ]
    [ -e dst/config.json ]
    # A file in the place of a folder.
    echo mine >file
    refuses "fp8cast: file: expected a folder or nothing, found a file" \
        quantize "$shared/src" file
    [ "$(cat file)" = mine ]
    # An empty folder is fine, and so is a new one with slashes at its end.
    mkdir empty
    program 0 quantize "$shared/src" empty
    program 0 quantize "$shared/src" fresh//
    same fresh empty
}

@test "DST with links" {
    # What a name leads to is not ours, whatever the name.
    echo mine >notes.txt
    mkdir dst
    ln -s ../notes.txt dst/config.json
    for option in "" --overwrite; do
        refuses "fp8cast: dst: holds config.json, which is no plain file; expected a new or empty folder" \
            quantize "$shared/src" dst $option
    done
    [ "$(readlink dst/config.json)" = ../notes.txt ]
    [ "$(cat notes.txt)" = mine ]
    rm dst/config.json
    mkdir elsewhere
    ln -s ../elsewhere dst/.fp8cast
    refuses "fp8cast: dst/.fp8cast: expected a folder or nothing, found something else" \
        quantize "$shared/src" dst --overwrite
    [ -z "$(ls elsewhere)" ]
}

@test "side files that cannot be carried" {
    cp -a "$shared/src" src
    mkdir src/a
    ln -s . src/a/again
    program 1 quantize src dst
    [ "$(wc -l <err)" -eq 1 ]
    # The folder is level 0, a is level 1: the 16th link is one too deep.
    says "fp8cast: src/a$(printf '/again%.0s' {1..16}): folders nested more than 16 deep; a loop of links?"
    rm src/a/again
    # ISO 8859-1; JSON, which the journal is written in, has no word for it.
    echo x >"src/$(printf 'caf\351')"
    program 1 quantize src dst
    [ "$(wc -l <err)" -eq 1 ]
    LC_ALL=C grep -qE '^fp8cast: caf.+: expected a file name in UTF-8$' err
    [ ! -e dst ]
}

@test "DST with a folder where a file is to be" {
    mkdir -p dst/model.safetensors dst/LICENSE/deep
    snapshot dst >before
    for option in "" --overwrite; do
        refuses "fp8cast: dst: holds a folder called model.safetensors, which is to be a file; expected a new or empty folder" \
            quantize "$shared/src" dst $option
        snapshot dst >after
        diff before after
    done
    # One that held a side file of the conversion to be replaced goes with it.
    rm -r dst
    cp -a "$shared/src" src
    rm src/LICENSE
    mkdir -p src/LICENSE/all/of/it
    echo long >src/LICENSE/all/of/it/text
    program 0 quantize src dst
    program 0 quantize "$shared/src" dst --overwrite
    program 0 quantize "$shared/src" fresh
    same dst fresh
    [ -f dst/LICENSE ]
    # But not when it has something else in it.
    rm -r dst
    program 0 quantize src dst
    mkdir dst/LICENSE/empty
    refuses "fp8cast: dst: holds a folder called LICENSE, which is to be a file; expected a new or empty folder" \
        quantize "$shared/src" dst --overwrite
    [ -d dst/LICENSE/empty ]
}

@test "side files are carried, tools' folders and other weights are not" {
    cp -a "$shared/src" src
    ln -s /nowhere/at/all src/.git/broken
    mkdir -p src/sub/.git src/linked-from elsewhere
    echo x >src/sub/.git/x
    echo y >elsewhere/y.txt
    ln -s ../elsewhere src/linked
    rmdir src/linked-from
    printf 'a\0b' >'src/with space and é.txt'
    echo secret >src/.hidden
    refuses "fp8cast: src/linked: a link that leads out of the folder, to\
 $PWD/elsewhere; expected a file of src (--follow-links allows it)" \
        quantize src dst
    program 0 quantize src dst --follow-links
    names dst >found
    cat >expected <<'END'
.hidden
LICENSE
README.md
assets/deeper/config.json
assets/merges.txt
chat_template.jinja
config.json
empty.txt
generation_config.json
linked/y.txt
merges.txt
model.safetensors
tokenizer.json
tokenizer_config.json
with space and é.txt
END
    diff expected found
    [ ! -L dst/merges.txt ]
    [ ! -L dst/linked ]
    for name in LICENSE merges.txt linked/y.txt empty.txt .hidden \
        'with space and é.txt' assets/deeper/config.json; do
        cmp "src/$name" "dst/$name"
    done
    program 0 plan src --json --follow-links
    holds out 'd["left_behind"] == ["assets/notes.gguf",
        "assets/old.safetensors", "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "quant_model_description.json"]' 'd["side_files"]["count"] == 13'
}

@test "a checkpoint of links, as in the hub's cache" {
    mkdir -p cache/blobs cache/snapshots/abc
    for file in "$shared"/src/*; do
        [ -f "$file" ] || continue
        name=$(basename "$file")
        cp "$file" "cache/blobs/hash-$name"
        ln -s "../../blobs/hash-$name" "cache/snapshots/abc/$name"
    done
    agrees cache/snapshots/abc
    # A link to any other place is none of the cache's.
    echo secret >key
    ln -s ../../../key cache/snapshots/abc/notes.txt
    refuses "fp8cast: cache/snapshots/abc/notes.txt: a link that leads out of\
 the folder, to $PWD/key; expected a file of cache/snapshots/abc\
 (--follow-links allows it)" quantize cache/snapshots/abc dst2
    [ ! -e dst2 ]
}

# least_memory THREADS: the least budget, as a refusal tells it.
least_memory() {
    "$fp8cast" plan src --threads "$1" --memory 1 2>&1 |
        sed -n 's/.*at least \([0-9]*\)$/\1/p'
}

# ---- interrupted runs --------------------------------------------------------

# interrupted WHAT STATUS ARGUMENT...: quantize src dst with these arguments,
# stopped when the first shard is finished; stderr goes to ./err.
interrupted() {
    local what=$1 wanted=$2 found=0
    shift 2
    "$PYTHON" "$BATS_TEST_DIRNAME/interrupt.py" "$what" dst \
        "$fp8cast" quantize src dst --threads 1 "$@" >err || found=$?
    echo "exit status $found, expected $wanted; stderr: $(cat err)"
    [ "$found" -eq "$wanted" ]
}

# Nothing that could be taken for a finished checkpoint, and no unfinished
# file under a final name.
looks_unfinished() {
    [ ! -e dst/config.json ]
    [ ! -e dst/model.safetensors.index.json ]
    [ -z "$(find dst -path dst/.fp8cast -prune -o -name '*.part' -print)" ]
}

whole_run() {
    program 0 quantize src undisturbed --json "$@"
    mv out undisturbed.json
}

# After the interrupted runs: the same command finishes, and nothing tells
# the result and its statistics from those of a run that was not disturbed.
finishes_as_undisturbed() {
    program 0 quantize src dst --json "$@"
    mv out resumed.json
    same dst undisturbed
    "$PYTHON" - <<'END'
import json
a = json.load(open("undisturbed.json"))
b = json.load(open("resumed.json"))
assert a["error"] == b["error"], (a["error"], b["error"])
assert b["shards_resumed"] > 0 and not b["already_done"], b
END
    [ -z "$(find dst -name '*.part')" ]
    program 0 verify src dst
}

@test "killed, killed again, then finished" {
    cp -a "$shared/src" src
    whole_run --shard-size 300000
    interrupted kill 137 --shard-size 300000
    looks_unfinished
    [ -n "$(find dst/.fp8cast -name '*.part')" ]
    done_before=$(names dst | grep -c safetensors)
    snapshot dst | grep safetensors | grep -v part >before
    interrupted kill 137 --shard-size 300000
    looks_unfinished
    done_after=$(names dst | grep -c safetensors)
    [ "$done_after" -gt "$done_before" ]
    finishes_as_undisturbed --shard-size 300000
    # What was finished has been left alone.
    snapshot dst | grep -Ff before | diff before -
    [ "$(wc -l <before)" -eq "$done_before" ]
    holds resumed.json "d['shards_resumed'] == $done_after"
}

@test "killed in a larger checkpoint, continued with other threads and memory" {
    program 0 synth src --hidden 1024 --inter 512 --layers 4 --experts 4 \
        --vocab 2000 --shards 2
    whole_run --shard-size 4MB
    interrupted kill 137 --shard-size 4MB
    interrupted kill 137 --shard-size 4MB --memory "$(least_memory 1)"
    looks_unfinished
    finishes_as_undisturbed --shard-size 4MB --threads 8 --memory "$(least_memory 8)"
}

@test "SIGINT and SIGTERM: one line, good order, and it continues" {
    cp -a "$shared/src" src
    whole_run --shard-size 300000
    for signal in int term; do
        interrupted "$signal" 1 --shard-size 300000
        # Shards that were finished, then why it ended.
        [ "$(tail -1 err)" = "fp8cast: stopped; the same command continues" ]
        fails grep -qvE '^(quantize: model-.*|fp8cast: stopped; .*)$' err
        [ "$(grep -c '^fp8cast' err)" -eq 1 ]
        looks_unfinished
    done
    finishes_as_undisturbed --shard-size 300000
}

@test "a second SIGINT kills, which harms nothing" {
    cp -a "$shared/src" src
    whole_run --shard-size 300000
    interrupted twice 130 --shard-size 300000
    looks_unfinished
    finishes_as_undisturbed --shard-size 300000
}

@test "two at once: the second is refused, the first is not disturbed" {
    cp -a "$shared/src" src
    "$PYTHON" "$BATS_TEST_DIRNAME/interrupt.py" second dst \
        "$fp8cast" quantize src dst --threads 1 --shard-size 300000 \
        >out 2>err || status=$?
    [ "$status" -eq 1 ]
    [ "$(wc -l <err)" -eq 1 ]
    grep -qE '^fp8cast: dst: another fp8cast is writing here: process [0-9]+ on [^ ]+$' err
    looks_unfinished
    [ -n "$(find dst/.fp8cast -name '*.part')" ]
    # Not even with --overwrite.
    rm -rf dst
    "$PYTHON" "$BATS_TEST_DIRNAME/interrupt.py" second dst \
        "$fp8cast" quantize src dst --threads 1 --shard-size 300000 --overwrite \
        >out 2>err || status=$?
    [ "$status" -eq 1 ]
    [ "$(wc -l <err)" -eq 1 ]
    grep -qE '^fp8cast: dst: another fp8cast is writing here: process [0-9]+ on [^ ]+$' err
    [ -n "$(find dst/.fp8cast -name '*.part')" ]
}

@test "an interrupted run is not continued with other options" {
    cp -a "$shared/src" src
    interrupted kill 137 --shard-size 300000
    snapshot dst >before
    refuses "fp8cast: dst: holds a conversion of other options; finish it with the same command, or replace it with --overwrite" \
        quantize src dst
    snapshot dst >after
    diff before after
    program 0 quantize src dst --overwrite
    program 0 quantize src fresh
    same dst fresh
    diff <(ls -A dst/.fp8cast) <(ls -A fresh/.fp8cast)
}

@test "stopped after any of its last steps" {
    cp -a "$shared/src" src
    whole_run --shard-size 700000
    cp -a undisturbed whole
    # As a crash would leave it: without the files that were to come.
    for gone in "config.json" \
        "config.json model.safetensors.index.json" \
        "config.json model.safetensors.index.json tokenizer.json LICENSE" \
        "config.json model-00003-of-00008.safetensors" \
        "config.json .fp8cast/shard-00002.json" \
        "model-00001-of-00008.safetensors"; do
        rm -rf dst
        cp -a whole dst
        for file in $gone; do
            rm "dst/$file"
        done
        touch dst/.fp8cast/model-00001-of-00008.safetensors.part
        finishes_as_undisturbed --shard-size 700000
    done
}

@test "a finished shard that was cut short is written again" {
    cp -a "$shared/src" src
    whole_run --shard-size 700000
    cp -a undisturbed dst
    truncate -s -1 dst/model-00002-of-00008.safetensors
    finishes_as_undisturbed --shard-size 700000
}

@test "a journal that is no JSON is refused until --overwrite" {
    program 0 quantize "$shared/src" dst
    echo '{"fp8cast' >dst/.fp8cast/journal.json
    program 1 quantize "$shared/src" dst
    says "fp8cast: dst/.fp8cast/journal.json: not valid JSON"
    [ -e dst/config.json ]
    program 0 quantize "$shared/src" dst --overwrite
    program 0 verify "$shared/src" dst
}

@test "bytes and statistics are the same with every CPU's kernels" {
    local name first=
    make_source distributions various
    by_reference convert "$shared/src" theirs -- \
        convert various least --scales mse --keep '*.experts.*'
    for name in c avx2 avx512 vbmi neon; do
        # Those that this CPU cannot run are refused by name.
        if ! FP8CAST_CPU=$name "$fp8cast" quantize "$shared/src" "$name" \
            --json >"$name.json" 2>err; then
            grep -q "^fp8cast: FP8CAST_CPU: .*, found '$name'\$" err
            continue
        fi
        FP8CAST_CPU=$name "$fp8cast" quantize various "$name-least" \
            --scales mse --keep '*.experts.*' --quiet
        by_reference compare "$name" theirs -- compare "$name-least" least
        sed -i '/"seconds"/d' "$name.json"
        if [ -n "$first" ]; then cmp "$name.json" "$first"; fi
        first=$name.json
    done
    [ -n "$first" ]
}

@test "kernels that this CPU does not run are refused, empty names are none" {
    local command
    export FP8CAST_CPU=z80
    for command in plan quantize dequantize verify; do
        refuses_cpu "$command" "$shared/src" z80
    done
    refuses_cpu plan "$shared/src"
    [ ! -e z80 ]
    # What computes nothing takes no notice.
    program 0 inspect "$shared/src" --quiet
    FP8CAST_CPU='' FP8CAST_CONFINE='' program 0 quantize "$shared/src" fp8 -q
    FP8CAST_CPU=c program 0 verify "$shared/src" fp8 -q
}

# refuses_cpu ARGUMENT...: one line, which names what z80 is not.
refuses_cpu() {
    program 1 "$@"
    [ ! -s out ]
    [ "$(wc -l <err)" -eq 1 ]
    grep -qE "^fp8cast: FP8CAST_CPU: expected kernels that this CPU runs \(c(, [a-z0-9]+)*\), found 'z80'$" err
}

@test "a link from SRC into DST is not followed into its own removal" {
    local file
    for file in tokenizer.json config.json; do
        rm -rf src dst
        cp -r "$shared/src" src
        program 0 quantize src dst
        cp "src/$file" "dst/$file"
        cp "src/$file" kept
        rm "src/$file"
        ln -s "../dst/$file" "src/$file"
        refuses "fp8cast: dst/$file: is the source's $file itself" \
            quantize src dst --overwrite --scale-dtype f32 --follow-links
        cmp "dst/$file" kept
    done
}

@test "a folder of SRC that is a link into DST is not emptied" {
    cp -r "$shared/src" src
    mkdir -p dst/tok other
    echo precious >dst/tok/vocab.txt
    ln -s ../dst/tok src/tok
    refuses "fp8cast: dst/tok/vocab.txt: is the source's tok/vocab.txt itself" \
        quantize src dst --overwrite --follow-links
    [ "$(cat dst/tok/vocab.txt)" = precious ]
    # Nor where another name leads to it.
    mv dst/tok/vocab.txt other/a
    rm src/tok
    ln -s ../other src/tok
    mkdir dst/tok2
    ln other/a dst/tok2/a
    ln -s ../dst/tok2 src/tok2
    refuses "fp8cast: dst/tok2/a: is the source's tok2/a itself" \
        quantize src dst --overwrite --follow-links
    # A hard link is a file of its own.
    rm src/tok src/tok2
    rm -r dst
    mkdir dst
    ln src/config.json src/tokenizer.json dst
    program 0 quantize src dst --overwrite
    program 0 verify src dst
    cmp src/config.json "$shared/src/config.json"
}

@test "a finished DST that lost a shard does not look complete while it is mended" {
    program 0 quantize "$shared/src" dst --shard-size 700000
    cp -r dst whole
    shard=$(cd dst && ls model-00002*)
    rm "dst/$shard"
    # Files of 200 KB at most: the shard fails.
    (
        ulimit -f 200
        trap '' XFSZ
        program 1 quantize "$shared/src" dst --shard-size 700000
    )
    [ ! -e dst/config.json ]
    [ ! -e dst/model.safetensors.index.json ]
    program 0 quantize "$shared/src" dst --shard-size 700000
    same dst whole
}

@test "what fp8cast wrote is its own, though the source has it no more" {
    cp -r "$shared/src" src
    echo x >src/added.txt
    program 0 quantize src dst
    rm src/added.txt dst/LICENSE
    program 0 quantize src dst
    [ -e dst/added.txt ]
    [ -e dst/LICENSE ]
    program 0 quantize src dst --overwrite --scales pow2
    [ ! -e dst/added.txt ]
    program 0 verify src dst
}

@test "a side file that may not be read is told before anything is written" {
    [ "$(id -u)" -ne 0 ] || skip "root may read everything"
    cp -r "$shared/src" src
    chmod 0 src/tokenizer.json
    for command in plan quantize; do
        refuses "fp8cast: src/tokenizer.json: cannot open: Permission denied" \
            "$command" src dst
    done
    [ ! -e dst ]
}

@test "a source that changes while it is read is noticed" {
    # stderr is a full pipe, so that the run stands still where it tells of its
    # first finished shard; the others are yet to come.
    cp -r "$shared/src" src
    "$PYTHON" - "$fp8cast" <<'PYTHON_END'
import fcntl, os, subprocess, sys, time
read, write = os.pipe()
size = fcntl.fcntl(write, 1031, 4096)  # F_SETPIPE_SZ
os.write(write, b"\n" * size)
run = subprocess.Popen([sys.argv[1], "quantize", "src", "dst", "--threads",
                        "1", "--shard-size", "300000"], stderr=write,
                       stdout=subprocess.DEVNULL)
os.close(write)
while not (os.path.isdir("dst") and
           any(name.startswith("model-") for name in os.listdir("dst"))):
    assert run.poll() is None, "it ended without a shard"
    time.sleep(0.01)
for name in os.listdir("src"):
    if name.endswith(".safetensors"):
        os.utime(os.path.join("src", name))
lines = b""
while True:
    chunk = os.read(read, 65536)
    if not chunk:
        break
    lines += chunk
status, text = run.wait(), lines.decode().strip()
assert status == 1, (status, text)
assert "changed since its header was read" in text, text
assert not os.path.exists("dst/config.json")
PYTHON_END
}
