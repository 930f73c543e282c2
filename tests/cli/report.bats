#!/usr/bin/env bats
# --report: the file against its schema, every number in it against numpy's,
# the same bytes however a conversion ran, and FILEs that cannot be.

# shellcheck disable=SC2154,SC2164  # set by helpers.bash; bats stops at cd
load helpers

setup_file() {
    begin_file
    make_source fused "$shared/src"
    "$fp8cast" quantize "$shared/src" "$shared/dst" --quiet --threads 1 \
        --report "$shared/report.json"
}
teardown_file() { end_file; }
setup() { begin_test; }
teardown() { end_test; }

# is_true VARIANT OPTION...: what quantize and verify report of it.
is_true() {
    make_source "$1" src
    shift
    program 0 quantize src dst --quiet --report quantize.json "$@"
    program 0 verify src dst --quiet --report verify.json
    "$PYTHON" "$BATS_TEST_DIRNAME/report_agree.py" src dst \
        quantize.json verify.json
}

# sabotage OPERATION ARGUMENT...: of dst.
sabotage() {
    "$PYTHON" "$BATS_TEST_DIRNAME/sabotage.py" dst "$@"
}

# refused FILE MESSAGE: nothing is done, and nothing is left behind.
refused() {
    program 1 quantize "$shared/src" dst --quiet --report "$1"
    echo "fp8cast: $2" | diff err -
    [ ! -e dst ]
    [ -z "$(find . -name '*.part')" ] # of a temporary file
}

@test "numbers: fused experts" { is_true fused; }
@test "numbers: ragged dimensions" { is_true ragged --scale-dtype f32; }
@test "numbers: F16 weights" { is_true f16; }
@test "numbers: F32 weights, F32 scales" { is_true f32 --scale-dtype f32; }
@test "numbers: zeros, subnormals, ties, the largest" { is_true tiny-values; }
@test "numbers: distributions" { is_true distributions; }
@test "numbers: scales of the least error" {
    is_true distributions --scales mse
    holds quantize.json 'd["options"]["scales"] == "mse"'
    holds verify.json 'd["options"]["scales"] is None'
}
@test "numbers: powers of two" {
    is_true distributions-f16 --scales pow2
    holds verify.json 'd["options"]["scales"] == "pow2"'
}
@test "numbers: powers of two, stored as such" {
    is_true distributions-f32 --scale-dtype ue8m0
    holds verify.json 'd["options"]["scale_dtype"] == "ue8m0"'
}

@test "a wrong number is found" {
    # Whether report_agree.py sees at all.
    for edit in 's/"saturated":[0-9]*/"saturated":999/' \
        's/"codes_unused":[0-9]*/"codes_unused":1/' \
        's/"became_zero":[0-9]*/"became_zero":7/' \
        's/"max_abs_error_at":\[[0-9]*/"max_abs_error_at":[3/' \
        's/"worst_block":{"at":\[0,0/"worst_block":{"at":[0,1/' \
        's/"p999_relative_error":0.05/"p999_relative_error":0.04/' \
        's/"exact":[0-9]*/"exact":1/' 's/"layer":1/"layer":0/' \
        's/"zeros":0,/"zeros":0,"more":0,/'; do
        sed "$edit" "$shared/report.json" >edited.json
        fails cmp -s edited.json "$shared/report.json"
        fails "$PYTHON" "$BATS_TEST_DIRNAME/report_agree.py" "$shared/src" \
            "$shared/dst" edited.json
    done
}

@test "the same bytes for any number of threads, memory and CPU" {
    program 0 verify "$shared/src" "$shared/dst" --quiet --threads 1 \
        --report v1.json
    for threads in 2 7; do
        program 0 quantize "$shared/src" dst --quiet --threads $threads \
            --report again.json
        cmp again.json "$shared/report.json"
        program 0 verify "$shared/src" dst --quiet --threads $threads \
            --report v.json
        cmp v.json v1.json
        rm -rf dst
    done
    # So little memory that matrices are cut into many panels.
    program 0 quantize "$shared/src" dst --quiet --threads 1 --memory 700KiB \
        --report again.json
    cmp again.json "$shared/report.json"
    rm -rf dst
    FP8CAST_CPU=c program 0 quantize "$shared/src" dst --quiet \
        --report again.json
    cmp again.json "$shared/report.json"
}

@test "the same bytes from a conversion that was stopped and continued" {
    mkdir whole
    program 0 quantize "$shared/src" whole/dst --quiet --shard-size 300000 \
        --report whole.json
    "$PYTHON" "$BATS_TEST_DIRNAME/interrupt.py" kill dst "$fp8cast" quantize \
        "$shared/src" dst --threads 1 --shard-size 300000 \
        --report report.json || true
    [ ! -e report.json ]
    program 0 quantize "$shared/src" dst --shard-size 300000 --json \
        --report report.json
    holds out 'd["shards_resumed"] > 0'
    cmp report.json whole.json
    # And of one that was finished before.
    program 0 quantize "$shared/src" dst --shard-size 300000 --json \
        --report later.json
    holds out 'd["already_done"]'
    cmp later.json whole.json
}

@test "an earlier report is replaced, and no other file" {
    echo '{"fp8cast_report":1,' >report.json
    : >empty.json
    for file in report.json empty.json; do
        program 0 verify "$shared/src" "$shared/dst" --quiet --report $file
        holds $file 'd["command"] == "verify"'
    done
    echo '{"other": 1}' >other.json
    refused other.json "other.json: expected a new file, or a report to be \
replaced, found another file"
    [ "$(cat other.json)" = '{"other": 1}' ]
}

@test "a FILE that cannot be" {
    mkdir folder
    refused folder "folder: expected a new file, found a folder"
    refused /dev/null "/dev/null: expected a new file, found no plain file"
    refused no/where.json "no: cannot open: No such file or directory"
    refused "$shared/src/r.json" "$shared/src/r.json: lies in $shared/src; \
expected a file outside of both checkpoints"
    refused dst/r.json "dst/r.json: lies in dst; expected a file outside of \
both checkpoints"
    program 2 quantize "$shared/src" dst --report=
    program 2 plan "$shared/src" --report r.json
    if [ "$(id -u)" -ne 0 ]; then
        chmod a-w folder
        refused folder/r.json "folder/r.json: cannot create: Permission denied"
    fi
}

@test "a report that finds no room" {
    # A file of a few kilobytes at most.
    (
        ulimit -f 8
        "$fp8cast" verify "$shared/src" "$shared/dst" --quiet \
            --report r.json 2>err && exit 9
        exit 0
    )
    grep -x 'fp8cast: r.json: cannot write: File too large' err
    [ -z "$(find . -name '*r.json*')" ]
}

@test "a verdict with faults is reported too" {
    cp -r "$shared/dst" dst
    shard=$(find dst -name "*.safetensors" | sort | head -n 1)
    # Codes at the end of a shard that ends with a matrix.
    "$PYTHON" - "$shard" <<'PYTHON_END'
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(-2000, 2)
    file.write(bytes([0x7e] * 2000))
PYTHON_END
    program 3 verify "$shared/src" dst --quiet --report faulty.json
    holds faulty.json 'd["overall"]["relative_rms"] > 0.03'
    /usr/bin/python3 -c 'import json, sys, jsonschema
jsonschema.Draft202012Validator(json.load(open(sys.argv[1]))).validate(
    json.load(open(sys.argv[2])))' "$root/docs/report.schema.json" faulty.json
}

@test "numbers: blocks that have no error are in none, and are counted" {
    make_source ragged src
    program 0 quantize src dst --quiet --report whole.json
    # Some with many blocks, and some with two, of which one loses both.
    "$PYTHON" -c 'import json
tensors = json.load(open("whole.json"))["tensors"]
several = [t["name"] for t in tensors if t["blocks"] > 2]
single = [t["name"] for t in tensors if t["blocks"] == 2]
print(*several[:3], *single[:2])' >names
    read -r a b c d e <names
    while read -r operation; do
        # shellcheck disable=SC2086  # words of an operation
        sabotage $operation
    done <<END
scale $a 1 bf80
scale $b 0 0000
scale $b 2 7f7f
byte $c 0 127
byte $d 7 255
scale $e 0 7fc0
scale $e 1 ff80
END
    program 3 verify src dst --quiet --report verify.json
    "$PYTHON" "$BATS_TEST_DIRNAME/report_agree.py" src dst verify.json
    holds verify.json 'd["overall"]["not_measured"]["blocks"] == 7' \
        'd["verdict"]["faults"] >= 5' \
        'sum("not_measured" in t for t in d["tensors"]) == 5' \
        'sum(t["cosine"] is None for t in d["tensors"]) == 1'
    for limits in '--threads 3' '--threads 1 --memory 700KiB'; do
        # shellcheck disable=SC2086  # two options
        program 3 verify src dst --quiet $limits --report again.json
        cmp again.json verify.json
    done
}

# nothing_of ENDING VALUE: with all those bytes set there is no error at all,
# and nothing is said of what rounding the scales would cost.
nothing_of() {
    program 0 verify "$shared/src" "$shared/dst" --json
    mv out good.json
    rm -rf dst
    cp -r "$shared/dst" dst
    sabotage fill "$1" "$2"
    program 3 verify "$shared/src" dst --report r.json --json
    holds out 'd["error"]["overall"]["relative_rms"] is None' \
        'd["relative_rms"] is None' 'd["error"]["worst"] == []' \
        'd["scales"]["blocks"] == 0' \
        'd["serving"] == json.load(open("good.json"))["serving"]' \
        'any("DeepGEMM" in f["what"] for f in d["serving"]["findings"])' \
        'd["scales"]["relative_rms_e8m0"] is None' \
        'd["error"]["overall"]["not_measured"]["blocks"] > 0'
    "$PYTHON" "$BATS_TEST_DIRNAME/report_agree.py" "$shared/src" dst r.json
    holds r.json 'd["overall"]["blocks"] == 0' 'd["cells"] == []' \
        'd["overall"]["cosine"] is None' 'd["worst"] == []' \
        'd["overall"]["max_abs_error"] is None' \
        'd["overall"]["not_measured"]["elements"] ==
            sum(t["shape"][0] * t["shape"][1] for t in d["tensors"])' \
        'all(t["worst_block"] is None for t in d["tensors"])'
}

@test "numbers: none of scales that are zero, negative or beyond all weights" {
    nothing_of _scale_inv 0
    nothing_of _scale_inv 188 # 0xbcbc: -0.023
    # 0x7f7f is finite, but under it all codes from 2 on are infinite: what is
    # left are zeros.
    rm -rf dst
    cp -r "$shared/dst" dst
    sabotage fill _scale_inv 127
    program 3 verify "$shared/src" dst --quiet --report r.json
    "$PYTHON" "$BATS_TEST_DIRNAME/report_agree.py" "$shared/src" dst r.json
    holds r.json 'd["overall"]["not_measured"]["blocks"] > 100' \
        'd["overall"]["zeros"] == d["overall"]["elements"]'
}

@test "numbers: none of codes that are NaN" { nothing_of weight 127; }

@test "a report says first what verify found, and a card is not made of it" {
    cp -r "$shared/dst" dst
    sabotage fill _scale_inv 0
    program 3 verify "$shared/src" dst --report r.json --json
    mv out verdict.json
    holds r.json 'list(d)[3] == "verdict"' \
        'd["verdict"]["faults"] == json.load(open("verdict.json"))["faults"]' \
        'd["verdict"]["fault_list"] ==
            json.load(open("verdict.json"))["fault_list"]' \
        'd["verdict"]["warnings"] == 0 and not d["verdict"]["warning_list"]' \
        '0 < len(d["verdict"]["fault_list"]) <= 100'
    first=$("$PYTHON" -c 'import json
print(json.load(open("r.json"))["verdict"]["fault_list"][0])')
    faults=$("$PYTHON" -c 'import json
print(json.load(open("r.json"))["verdict"]["faults"])')
    program 0 report r.json
    [ "$(sed -n 1p out)" = "dst: $faults faults" ]
    [ "$(sed -n 2p out)" = "  $first" ]
    [ "$(sed -n 22p out)" = "  ... and $((faults - 20)) more" ]
    fails grep -q 'worst tensors' out
    program 0 report r.json -o r.html
    /usr/bin/python3 -c 'import sys, xml.etree.ElementTree as xml
page = xml.parse("r.html").getroot()
text = "".join(page.find(".//{*}header").itertext())
assert text.index(f"verify found {sys.argv[1]} faults") < \
    text.index("Source / result"), text
whole = "".join(page.itertext())
assert "nan" not in whole.lower().replace("is nan or infinite", ""), whole' \
        "$faults"
    program 1 report r.json -o r.md --base-model a/b
    echo "fp8cast: no model card of a result in which verify found $faults \
faults, the first: $first" | diff err -
    [ ! -e r.md ]
    # Of one without faults it is, and quantize found none, nor asked.
    program 0 verify "$shared/src" "$shared/dst" --quiet --report fine.json
    holds fine.json 'd["verdict"] ==
        {"faults": 0, "fault_list": [], "warnings": 0, "warning_list": []}'
    program 0 report fine.json
    [ "$(sed -n 1p out)" = "dst: no faults" ]
    program 0 report fine.json --format md --base-model a/b
    holds "$shared/report.json" '"verdict" not in d'
}

@test "what verify found stands in its report without paths" {
    mkdir deep
    cp -r "$shared/src" deep/src
    cp -r "$shared/dst" deep/dst
    rm deep/dst/config.json
    ln -s nowhere deep/src/extra.json
    for dst in deep/dst deep/dst/ "$PWD/deep/dst"; do
        program 3 verify deep/src "$dst" --quiet --report r.json
        holds r.json 'd["verdict"]["faults"] == 1' \
            'd["verdict"]["fault_list"][0].startswith(
                "dst: expected config.json, found none")' \
            'd["verdict"]["warning_list"][0].startswith("src/extra.json: ")'
        fails grep -q deep r.json
    done
    program 0 report r.json
    grep -q '^warning  *src/extra.json: ' out
    program 0 report r.json --format html
    grep -q 'It gave 1 warning:' out
}

@test "errors of any size are read back, and drawn" {
    # 0x7a7a is 3.2e35: codes are finite under it, and errors 1e39 times the
    # weights.
    cp -r "$shared/dst" dst
    sabotage fill _scale_inv 122
    program 3 verify "$shared/src" dst --quiet --report r.json
    holds r.json '1e37 < d["overall"]["relative_rms"] < 1e42' \
        '1e37 < d["overall"]["max_abs_error"] < 3.5e38' \
        'sum(k["elements"] for k in d["kinds"]) == d["overall"]["elements"] ==
            sum(t["shape"][0] * t["shape"][1] for t in d["tensors"])'
    "$PYTHON" "$BATS_TEST_DIRNAME/report_agree.py" "$shared/src" dst r.json
    program 0 report r.json
    # Columns stay apart.
    grep -E '^overall +[0-9]+ +[0-9.]+ % +[0-9.]+e\+[0-9]+ % +-[0-9.]+ ' out
    program 0 report r.json --format html
    /usr/bin/python3 -c 'import re, xml.etree.ElementTree as xml
text = "".join(xml.parse("out").getroot().itertext())
assert not re.search("[0-9]{12}", text), "digits that nobody reads"
assert not re.search(r"\b(nan|inf)\b", text), "no numbers"'
}

@test "what is said of sides, rules and options" {
    program 0 plan "$shared/src" --json
    mv out plan.json
    program 0 quantize "$shared/src" dst --quiet --report r.json \
        --keep '*.linear_attn.out_proj.weight' --quantize 'mtp.fc.weight' \
        --keep '*.o_proj.weight' --shard-size 700000 --rules qwen3_5_moe
    program 0 verify "$shared/src" dst --quiet --report v.json
    cat >check.py <<'PYTHON_END'
import json
plan, r, v = (json.load(open(f"{n}.json")) for n in ("plan", "r", "v"))
assert r["options"]["overrides"] == [
    {"action": "keep", "glob": "*.linear_attn.out_proj.weight"},
    {"action": "quantize", "glob": "mtp.fc.weight"},
    {"action": "keep", "glob": "*.o_proj.weight"}], r["options"]
assert r["options"]["rules"] == "qwen3_5_moe"
assert r["options"]["shard_size"] == 700000
assert v["options"]["overrides"] == []
assert v["options"]["rules"] is None and v["options"]["shard_size"] is None
for d in (r, v):
    for key in ("tensors", "bytes", "shards"):
        assert d["source"][key] == plan["source"][key], key
    result, rules = d["result"], d["rules"]
    assert result["parameters"] == plan["result"]["parameters"]
    assert result["tensors"] == 2 * result["fp8_weights"] + result["kept"]
    assert sum(e["result_bytes"] for e in rules) == result["bytes"]
    assert sum(e["source_bytes"] for e in rules) == d["source"]["bytes"]
    assert sum(e["source_tensors"] for e in rules) == d["source"]["tensors"]
    assert sum(e["results"] for e in rules if e["action"] == "quantize") == \
        result["fp8_weights"] == len(d["tensors"])
    assert sum(e["result_bytes"] for e in rules if e["action"] == "keep") == \
        result["kept_bytes"]
assert r["result"] == v["result"]
# quantize knows of --keep; verify sees what the rule would have quantized.
assert any(e["rule"].startswith("--keep") for e in r["rules"])
assert any(" quantize " in e["rule"] and e["action"] == "keep"
           for e in v["rules"])
PYTHON_END
    "$PYTHON" check.py
}

@test "the command that page and card show makes the same result again" {
    mkdir elsewhere
    "$fp8cast" rules qwen3_5_moe >elsewhere/own.rules
    ln -s "$shared/src" src
    # In another order, or without one of these, it would be another result.
    program 0 quantize src dst --quiet --report r.json \
        --keep '*.self_attn.*' --quantize '*.self_attn.?_proj.weight' \
        --keep '*.self_attn.o_proj.weight' --quantize 'mtp.fc.weight' \
        --rules elsewhere/own.rules --shard-size 700000 --scales pow2
    program 0 report r.json --format md
    command=$(sed -n '/^## How it was made/,$p' out | sed -n 4p)
    program 0 report r.json --format html
    sed -n 's/^<pre><code>\(fp8cast .*\)<\/code><\/pre>$/\1/p' out >page
    [ "$(sed "s/&#39;/'/g" page)" = "$command" ]
    mv dst first
    mv elsewhere/own.rules .
    eval "set -- ${command#fp8cast }"
    # The source is a link here; the report knows it by its true name.
    [ "$2" = "$(basename "$(realpath src)")" ]
    [ "$2" = src ]
    program 0 "$@"
    same first dst
    for file in first/*.safetensors; do cmp "$file" "dst/${file#first/}"; done
}

@test "--follow-links is reported, and asked for again by the command" {
    cp -r "$shared/src" src
    echo elsewhere >notes
    ln -s ../notes src/notes.txt
    program 1 quantize src dst --quiet --report r.json
    program 0 quantize src dst --quiet --report r.json --follow-links
    holds r.json 'd["options"]["follow_links"] is True'
    # Where it was not given there is no such member, and no such word.
    holds "$shared/report.json" '"follow_links" not in d["options"]'
    program 0 report "$shared/report.json" --format md
    fails grep -q follow-links out
    program 0 report r.json --format md
    command=$(sed -n '/^## How it was made/,$p' out | sed -n 4p)
    mv dst first
    eval "set -- ${command#fp8cast }"
    program 0 "$@"
    same first dst
    [ "$(cat dst/notes.txt)" = elsewhere ]
    "$PYTHON" "$BATS_TEST_DIRNAME/report_agree.py" src dst r.json
}
