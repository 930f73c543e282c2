#!/usr/bin/env bats
# plan and rules: the full-sized model from its headers alone, the rules of
# the families, rules files of the user's, and the overrides.

# shellcheck disable=SC2154,SC2164  # set by helpers.bash; bats stops at cd
load helpers

setup_file() {
    begin_file
    make_source fused "$shared/src"
    make_source per-expert "$shared/experts"
    "$fp8cast" synth --model qwen3.6-35b-a3b --sparse "$shared/full" --quiet
    "$fp8cast" rules qwen3_5_moe >"$shared/my.rules"
}
teardown_file() { end_file; }
setup() { begin_test; }
teardown() { end_test; }

# ---- the full-sized model ----------------------------------------------------

@test "the full-sized model: the mission's figures, exactly" {
    program 0 plan "$shared/full" --json
    holds out 'd["model_type"] == "qwen3_5_moe"' \
        'd["source"] == {"tensors": 1045, "bytes": 71903645408, "shards": 16}' \
        'd["result"]["tensors"] == 64189' \
        'd["result"]["fp8_weights"] == 31738' \
        'd["result"]["scales"] == 31738' 'd["result"]["kept"] == 713' \
        'd["result"]["bytes"] == 37485194464' 'd["result"]["shards"] == 8' \
        'd["result"]["parameters"] == 71903645408 // 2' \
        'd["disk_bytes"] > 37485194464' \
        '0 < d["memory_bytes"] < (64 << 20) + 64189 * 1024' \
        'd["layout"] == "card"'
    [ ! -s err ]
    program 0 plan "$shared/full"
    for figure in 1,045 71,903,645,408 64,189 31,738 713 37,485,194,464; do
        grep -qw "$figure" out
    done
}

@test "the full-sized model: scales of four bytes and of one" {
    program 0 plan "$shared/full" --json --scale-dtype f32
    # With n blocks these are 2n bytes more and n bytes less than BF16's.
    four=$("$PYTHON" -c 'import json; print(json.load(open("out"))["result"]["bytes"])')
    program 0 plan "$shared/full" --json --scale-dtype ue8m0
    one=$("$PYTHON" -c 'import json; print(json.load(open("out"))["result"]["bytes"])')
    [ $((four - 37485194464)) -eq $((2 * (37485194464 - one))) ]
    [ "$one" -lt 37485194464 ]
}

@test "synth --sparse has the published names, types and shapes" {
    program 0 inspect "$shared/full" --tensors --json
    "$PYTHON" - "$golden/qwen3.6-35b-a3b.bf16.tsv" <<'END'
import json
import sys
found = {(t["name"], t["dtype"], ",".join(map(str, t["shape"])))
         for t in json.load(open("out"))["tensor_list"]}
wanted = {tuple(line.rstrip("\n").split("\t")) for line in open(sys.argv[1])}
assert len(wanted) == 1045, len(wanted)
assert found == wanted, sorted(found ^ wanted)[:10]
END
    # The text says the same.
    program 0 inspect "$shared/full" --tensors
    head -1045 out | awk '{ gsub(/[][]/, "", $3); print $1 "\t" $2 "\t" $3 }' |
        sort >found
    sort "$golden/qwen3.6-35b-a3b.bf16.tsv" | diff - found
}

@test "synth --sparse takes no space" {
    [ "$(du -s -B 1024 "$shared/full" | cut -f 1)" -lt 4096 ]
    [ "$(stat -c %s "$shared"/full/*.safetensors |
        awk '{ s += $1 } END { printf "%.0f", s }')" -gt 71903645408 ]
}

@test "plan --tensors lists all, each with the line of the rule that decided" {
    program 0 plan "$shared/full" --tensors
    cp out text
    program 0 plan "$shared/full" --tensors --json
    "$PYTHON" - "$root/rules/qwen3_5_moe.rules" \
        "$golden/qwen3.6-35b-a3b.bf16.tsv" <<'END'
import json
import re
import sys

rules = [" ".join(line.split("#")[0].split()[:2]) for line in open(sys.argv[1])]
wanted = {}
for line in open(sys.argv[2]):
    name, dtype, shape = line.rstrip("\n").split("\t")
    wanted[name] = (dtype, shape)
plan = {t["name"]: t for t in json.load(open("out"))["tensors"]}
assert set(plan) == set(wanted), set(plan) ^ set(wanted)

lines = open("text").read().split("\n\n")[0].split("\n")
assert len(lines) == 1045, len(lines)
form = re.compile(r"(keep|quantize) +(\S+) (\S+) \[([0-9,]*)\] -> (\S+) (\S+) "
                  r"\[([0-9,]*)\](?: \+ (BF16) \[([0-9,]*)\])?"
                  r"(?:, \.\.\. (\d+) results)? \(qwen3_5_moe\.rules:(\d+): (.*)\)")
seen = set()
for line in lines:
    match = form.fullmatch(line)
    assert match, line
    (action, name, dtype, shape, result, result_dtype, result_shape, scale,
     scale_shape, count, number, rule) = match.groups()
    assert wanted[name] == (dtype, shape), line
    assert rules[int(number) - 1] == rule, (line, rules[int(number) - 1])
    t = plan[name]
    assert t["action"] == action and t["rule"].endswith(rule), line
    assert len(t["results"]) == int(count or 1), line
    first = t["results"][0]
    assert first["name"] == result and first["dtype"] == result_dtype, line
    assert (scale is None) == (action == "keep"), line
    if action == "keep":
        assert (result, result_dtype, result_shape) == (name, dtype, shape)
    seen.add(name)
assert seen == set(wanted)

# Every result, counted and measured here.
quantised = kept = size = 0
names = set()
for t in plan.values():
    for r in t["results"]:
        assert r["name"] not in names, r
        names.add(r["name"])
        count = 1
        for dim in r["shape"]:
            count *= dim
        if t["action"] == "keep":
            kept += 1
            size += 2 * count
            assert "scale_shape" not in r
            continue
        quantised += 1
        rows, cols = r["shape"]
        assert r["scale_shape"] == [-(-rows // 128), -(-cols // 128)], r
        size += count + 2 * r["scale_shape"][0] * r["scale_shape"][1]
assert (quantised, kept, size) == (31738, 713, 37485194464), (
    quantised, kept, size)
fused = plan["model.language_model.layers.7.mlp.experts.gate_up_proj"]
assert [r["name"].split(".experts.")[1] for r in fused["results"][:3]] == [
    "0.gate_proj.weight", "0.up_proj.weight", "1.gate_proj.weight"]
assert len(fused["results"]) == 512
assert all(r["shape"] == [512, 2048] for r in fused["results"])
END
}

@test "plan reads no weight" {
    [ -r /proc/self/io ] || skip "no /proc/PID/io here"
    # All that the process reads, system libraries included, against the
    # headers alone.
    "$PYTHON" - "$fp8cast" "$shared/full" <<'END'
import os
import subprocess
import sys

program, folder = sys.argv[1:]
headers = 0
for name in os.listdir(folder):
    path = os.path.join(folder, name)
    if name.endswith(".safetensors"):
        with open(path, "rb") as file:
            headers += 8 + int.from_bytes(file.read(8), "little")
    elif name in ("config.json", "model.safetensors.index.json"):
        headers += os.path.getsize(path)
# The listing is far larger than a pipe: once it has begun, all has been read
# that will be, and the program waits with its account open.
child = subprocess.Popen([program, "plan", folder, "--json", "--tensors"],
                         stdout=subprocess.PIPE)
begun = child.stdout.read(1)
with open(f"/proc/{child.pid}/io") as file:
    read = int(file.readline().split()[1])
listing = begun + child.stdout.read()
assert child.wait() == 0 and len(listing) > 1_000_000
print(f"headers and JSON files {headers} bytes, read {read} bytes")
assert headers < read < headers + 500_000
END
}

@test "plan: memory follows the budget, not the model" {
    for memory in 8MB 64MiB; do
        program 0 plan "$shared/full" --json --memory "$memory" --threads 2
        mv out "$memory.json"
    done
    "$PYTHON" -c '
import json
small, large = (json.load(open(n + ".json"))["memory_bytes"] for n in ("8MB", "64MiB"))
assert small < large, (small, large)
assert large - small < (64 << 20), (small, large)'
    program 0 plan "$shared/full" --json --threads 7
    holds out 'd["threads"] == 7'
}

@test "plan: free space there and where the result would be" {
    program 0 plan "$shared/src" --json
    holds out 'd["free_bytes"] > 0'
    program 0 plan "$shared/src" not/there/yet --json
    holds out 'd["free_bytes"] > 0'
    [ ! -e not ]
    program 0 plan "$shared/src" --json /
    holds out 'd["free_bytes"] is not None'
}

# ---- rules -------------------------------------------------------------------

@test "rules are listed and printed as they are in rules/" {
    program 0 rules
    (cd "$root/rules" && ls -- *.rules | sed 's/\.rules$//') >expected
    diff expected out
    program 0 rules --json
    mv out list.json
    while read -r name; do
        "$fp8cast" rules "$name" | cmp - "$root/rules/$name.rules"
        program 0 rules "$name" --json
        holds out "d['name'] == '$name'" \
            "d['text'] == open('$root/rules/$name.rules').read()"
        holds list.json "'$name' in d"
    done <expected
    holds list.json "len(d) == $(wc -l <expected)"
}

@test "a printed rules file gives the same plan" {
    program 0 plan "$shared/src" --json --tensors
    sed 's/qwen3_5_moe\.rules:/my.rules:/; s/"free_bytes": [0-9]*/X/' out >built-in
    program 0 plan "$shared/src" --json --tensors --rules "$shared/my.rules"
    sed 's/"free_bytes": [0-9]*/X/' out >mine
    diff built-in mine
    program 0 plan "$shared/src" --json --tensors --rules qwen3_5_moe
    sed 's/qwen3_5_moe\.rules:/my.rules:/; s/"free_bytes": [0-9]*/X/' out |
        diff built-in -
}

@test "a changed rules file changes the plan, for a model_type of any name" {
    cp -r "$shared/src" src
    sed -i 's/"model_type": "qwen3_5_moe",/"model_type": "my_moe",/' src/config.json
    sed 's/^quantize\(.*layers.{n}.mlp.shared_expert\)/keep linear-here\1/' \
        "$shared/my.rules" >my.rules
    # Flags stand behind the pattern.
    program 1 plan src --rules my.rules
    sed -i 's/^keep linear-here\(.*\)/keep\1 linear/' my.rules
    program 0 plan src --rules my.rules --json --tensors
    # Three in each of four layers; the MTP layer's own are kept anyway.
    holds out 'd["result"]["kept"] == 77 + 12' \
        'd["model_type"] == "my_moe"' 'd["family"] == "qwen3_5_moe"'
    program 0 quantize src dst --rules my.rules
    by_reference convert src theirs --rules my.rules
    same dst theirs
    program 0 verify src dst --rules my.rules
    holds dst/config.json '"model.language_model.layers.2.mlp.shared_expert.up_proj"
        in d["quantization_config"]["modules_to_not_convert"]'
}

# wrong_rules MESSAGE LINE...: a file of these lines is refused with the
# message; @ stands for the file's name.
wrong_rules() {
    local message="fp8cast: ${1//@/bad.rules}"
    shift
    printf '%s\n' "$@" >bad.rules
    refuses "$message" plan "$shared/src" --rules bad.rules
}

@test "rules: the column of what is wrong" {
    f='family mine'
    verbs='expected family, model_type, keep, quantize, split, rename, fused, parallel, fails, note, refuse, layout, file, list or end'
    wrong_rules "@:2:1: $verbs, found 'kep'" "$f" 'kep a.weight'
    wrong_rules "@:3:3: $verbs, found 'KEEP'" "$f" '# fine' '  KEEP a.weight'
    wrong_rules "@:2:5: expected a name pattern at the end of the line" \
        "$f" 'keep'
    wrong_rules "@:2:9: expected a name pattern at the end of the line" \
        "$f" 'quantize   # nothing'
    wrong_rules "@:2:10: expected optional, linear, always, also=NAME, misread=ENGINE, refused=ENGINE, group=NAME or oneof=NAME, found 'optinal'" \
        "$f" 'keep   a optinal'
    wrong_rules "@:2:12: expected optional, group=NAME or oneof=NAME, found 'linear'" \
        "$f" 'quantize a linear'
    wrong_rules "@:2:8: expected optional, linear, always, also=NAME, misread=ENGINE, refused=ENGINE, group=NAME or oneof=NAME, found 'group='" \
        "$f" 'keep a group='
    wrong_rules "@:2:8: expected optional, linear, always, also=NAME, misread=ENGINE, refused=ENGINE, group=NAME or oneof=NAME, found 'experts=0'" \
        "$f" 'keep a experts=0'
    wrong_rules "@:2:13: expected '{n}', the only placeholder, found '{m}.weight'" \
        "$f" 'keep layers.{m}.weight'
    wrong_rules "@:2:15: expected '{n}', the only placeholder, found '{n'" \
        "$f" 'keep a.{n}.bcd{n'
    wrong_rules "@:2:7: expected '{n}', the only placeholder, found '}'" \
        "$f" 'keep a}'
    # 7 columns, and 9 for each of 30 words.
    wrong_rules "@:2:278: expected at most 32 words on a line" \
        "$f" "keep a $(printf 'optional %.0s' {1..40})"
}

@test "rules: split and fused" {
    f='family mine'
    wrong_rules "@:2:28: expected 'experts=0', the axis of the experts at the end of the line" \
        "$f" 'split a.experts.b parts=1:c'
    wrong_rules "@:2:18: expected 'parts=1:NAME,...' at the end of the line" \
        "$f" 'split a experts=0'
    wrong_rules "@:2:9: expected experts=0, parts=1:NAME,..., rows=KEY, columns=KEY, into=NAME, published=1, optional, group=NAME or oneof=NAME, found 'experts=1'" \
        "$f" 'split a experts=1 parts=1:c'
    wrong_rules "@:2:25: expected the axis of the parts, '1:' or '2:', found '3:c'" \
        "$f" 'split a experts=0 parts=3:c'
    wrong_rules "@:2:26: expected rows=KEY and columns=KEY, or an axis of the parts at the end of the line" \
        "$f" 'split a experts=0 parts=c'
    wrong_rules "@:2:29: expected up to 8 part names with ',' between, found ',d'" \
        "$f" 'split a experts=0 parts=1:c,,d'
    wrong_rules "@:2:6: expected the name of the fused module at the end of the line" \
        "$f" 'fused'
    wrong_rules "@:2:13: expected '=', found 'q_proj'" \
        "$f" 'fused qkv   q_proj k_proj'
    wrong_rules "@:2:19: expected two parts or more at the end of the line" \
        "$f" 'fused qkv = q_proj'
}

@test "rules: what a file must have" {
    wrong_rules "@: expected a line 'family NAME'" 'keep *'
    wrong_rules "@: expected at least one rule" 'family mine' '# nothing'
    wrong_rules "@:1:7: expected one family name at the end of the line" \
        'family' 'keep *'
    wrong_rules "@:1:10: expected one family name, found 'two'" \
        'family a two' 'keep *'
    wrong_rules "@:2:11: expected a model_type of config.json at the end of the line" \
        'family a' 'model_type' 'keep *'
    printf 'family a\0b\nkeep *\n' >bad.rules
    refuses "fp8cast: bad.rules: expected text, found a NUL" \
        plan "$shared/src" --rules bad.rules
    refuses "fp8cast: --rules no-such: neither a built-in family (see 'fp8cast rules') nor a file" \
        plan "$shared/src" --rules no-such
    mkdir folder
    program 1 plan "$shared/src" --rules folder
    [ "$(wc -l <err)" -eq 1 ]
    mkfifo fifo
    refuses "fp8cast: fifo: expected a regular file, found a fifo" \
        plan "$shared/src" --rules fifo
}

@test "rules: carriage returns, tabs, comments, no newline at the end" {
    printf 'family\tmine # a\r\n\r\n  # b\r\nmodel_type x y\r\n\tkeep\t*#no comment inside\r\nkeep *' >ok.rules
    # `*#no` is a pattern, `comment` a flag that is none.
    program 1 plan "$shared/src" --rules ok.rules
    printf 'family\tmine # a\r\n\r\n  # b\r\nmodel_type x y\r\nkeep *' >ok.rules
    program 0 plan "$shared/src" --rules ok.rules --json
    holds out 'd["result"]["kept"] == 112' 'd["result"]["fp8_weights"] == 0' \
        'd["family"] == "mine"'
}

@test "rules: the last one that matches decides" {
    {
        cat "$shared/my.rules"
        echo 'keep lm_head.*'
        echo 'quantize lm_head.weight'
    } >my.rules
    last=$(wc -l <my.rules)
    # The first of the two then decides nothing, and that is told.
    refuses "fp8cast: my.rules:$((last - 1)): keep lm_head.*: matches no tensor of this checkpoint (mark the rule optional if it need not)" \
        plan "$shared/src" --rules my.rules
    sed -i 's/^keep lm_head\.\*$/& optional/' my.rules
    program 0 plan "$shared/src" --rules my.rules --json --tensors
    holds out 'next(t for t in d["tensors"] if t["name"] == "lm_head.weight")["rule"]
        == "my.rules:'"$last"': quantize lm_head.weight"' \
        'd["result"]["fp8_weights"] == 71'
}

@test "a tensor that no rule names stops the plan with its name" {
    grep -v 'self_attn.q_norm' "$shared/my.rules" >my.rules
    program 1 plan "$shared/src" --rules my.rules
    [ "$(wc -l <err)" -eq 1 ]
    grep -qE '^fp8cast: model-0000[1-5]-of-00005.safetensors: no rule of my.rules names tensor (model.language_model.layers.3|mtp.layers.0).self_attn.q_norm.weight; expected one to keep, quantize or split it$' err
}

@test "a rule that matches nothing stops the plan" {
    {
        cat "$shared/my.rules"
        echo 'keep model.audio.*'
    } >my.rules
    last=$(wc -l <my.rules)
    refuses "fp8cast: my.rules:$last: keep model.audio.*: matches no tensor of this checkpoint (mark the rule optional if it need not)" \
        plan "$shared/src" --rules my.rules
    echo 'quantize model.audio.*.weight optional' >my.rules.2
    grep -v audio my.rules >my.rules.1
    cat my.rules.1 my.rules.2 >my.rules
    program 0 plan "$shared/src" --rules my.rules
}

@test "a group of which only a part matches stops the plan" {
    {
        cat "$shared/my.rules"
        echo 'keep model.audio.norm.weight group=mtp'
    } >my.rules
    last=$(wc -l <my.rules)
    program 1 plan "$shared/src" --rules my.rules
    [ "$(wc -l <err)" -eq 1 ]
    grep -qE "^fp8cast: my.rules:$last: keep model.audio.norm.weight: matches no tensor, but of group=mtp 'my.rules:[0-9]+: keep mtp.fc.weight' does; expected all or none$" err
    # A group of which nothing matches is fine.
    sed -i 's/audio.norm.weight group=mtp/audio.norm.weight group=audio/' my.rules
    program 0 plan "$shared/src" --rules my.rules
    # A choice of which nothing matches is not.
    sed -i 's/audio.norm.weight group=audio/audio.norm.weight oneof=audio/' my.rules
    program 1 plan "$shared/src" --rules my.rules
    says "fp8cast: my.rules:$last: keep model.audio.norm.weight: this rule and the others with oneof=audio match no tensor, expected at least one to"
}

@test "an unknown model_type lists those that are known" {
    cp -r "$shared/src" src
    sed -i 's/"model_type": "qwen3_5_moe",/"model_type": "bert",/' src/config.json
    program 1 plan src
    [ "$(wc -l <err)" -eq 1 ]
    grep -qF 'config.json: no rules for model_type "bert", known: ' err
    grep -qF "to write your own start from 'fp8cast rules NAME' and pass --rules FILE" err
    for type in $(grep -L '^refuse' "$root"/rules/*.rules |
        xargs sed -n 's/^model_type *//p'); do
        grep -qw "$type" err
    done
    fails grep -qw gpt_oss err
    # And with rules it goes.
    program 0 plan src --rules qwen3_5_moe
}

# ---- overrides ---------------------------------------------------------------

@test "--keep and --quantize that match nothing" {
    refuses "fp8cast: --keep lm_heat.weight: matches no tensor of this checkpoint" \
        plan "$shared/src" --keep lm_heat.weight
    refuses "fp8cast: --quantize *.experts.{n}.*: matches no tensor of this checkpoint" \
        plan "$shared/src" --keep 'lm_head.*' --quantize '*.experts.{n}.*'
    # Globs are for whole names, and case counts.
    program 1 plan "$shared/src" --keep lm_head
    program 1 plan "$shared/src" --keep 'LM_HEAD.*'
}

@test "--quantize of what one engine does not take: plan and quantize warn" {
    warning='warning              sglang: leaves the scales and takes the codes for weights,'
    program 0 plan "$shared/src" --quantize mtp.fc.weight
    grep -qxF "$warning" out
    program 0 plan "$shared/src" --quantize mtp.fc.weight --for vllm \
        --for transformers --quiet
    program 1 plan "$shared/src" --quantize mtp.fc.weight --for sglang --quiet
    says "fp8cast: --for sglang: 1 warning, the first: leaves the scales and takes the codes for weights, silently"
    program 0 quantize "$shared/src" dst --quantize mtp.fc.weight
    [ "$(grep -cxF "$warning" out)" -eq 1 ]
    # With --verify, whose part it is, not twice.
    program 0 quantize "$shared/src" dst2 --quantize mtp.fc.weight --verify
    [ "$(grep -cxF "$warning" out)" -eq 1 ]
    program 0 quantize "$shared/src" dst3 --quantize mtp.fc.weight --json
    holds out '[e["warnings"] for e in d["serving"]["engines"]] == [0, 1, 0]'
    program 0 quantize "$shared/src" dst4
    fails grep -q '^warning' out
}

@test "--quantize of eh_proj, which no engine takes in FP8" {
    program 0 synth deepseek --model deepseek-v3 --sparse --layers 1 \
        --hidden 256 --vocab 512 --experts 8 --quiet
    program 1 plan deepseek --quantize '*.eh_proj.weight'
    grep -qE 'tensor model.layers.1.eh_proj.weight is always kept \(deepseek_v3.rules:[0-9]+: keep model.layers.\{n\}.eh_proj.weight\): no loader takes it in FP8$' err
}

@test "--quantize of mtp_linear_proj, which no engine takes in FP8" {
    "$PYTHON" "$BATS_TEST_DIRNAME/families.py" "$fp8cast" \
        "$golden/families" . ernie4_5_moe
    program 1 plan ernie4_5_moe/source --quantize 'model.mtp_linear_proj.*' \
        --for vllm
    grep -qE 'tensor model.mtp_linear_proj.0.weight is always kept \(ernie4_5_moe.rules:[0-9]+: keep model.mtp_linear_proj.\{n\}.weight\): no loader takes it in FP8$' err
}

@test "--quantize of what no loader takes in FP8" {
    program 1 plan "$shared/src" --quantize lm_head.weight
    grep -qE "^fp8cast: --quantize lm_head.weight: tensor lm_head.weight is always kept \(qwen3_5_moe.rules:[0-9]+: keep lm_head.weight\): no loader takes it in FP8$" err
    [ "$(wc -l <err)" -eq 1 ]
    for glob in '*.mlp.gate.weight' '*.conv1d.*' '*norm*' '*A_log' \
        'model.visual.*' '*embed*' '*' '*.mlp.shared_expert_gate.weight'; do
        program 1 plan "$shared/src" --quantize "$glob"
        [ "$(wc -l <err)" -eq 1 ]
        grep -q 'is always kept' err
    done
    # A later --keep takes it back.
    program 0 plan "$shared/src" --quantize '*' --keep '*'
}

@test "an override that wins is the one that --tensors names" {
    program 0 plan "$shared/src" --tensors --keep 'mtp.*' \
        --quantize 'mtp.layers.*.experts.*' --keep '*.in_proj_?*.weight'
    grep -qE '^keep +mtp.fc.weight .* \(--keep mtp\.\*\)$' out
    grep -qE '^quantize mtp.layers.0.mlp.experts.down_proj .* \(--quantize mtp.layers.\*.experts.\*\)$' out
    grep -qE '^keep +model.language_model.layers.0.linear_attn.in_proj_z.weight .* \(--keep \*.in_proj_\?\*.weight\)$' out
}

@test "some experts of a layer cannot be kept" {
    program 1 plan "$shared/experts" --keep 'mtp.layers.0.mlp.experts.1.*'
    says "fp8cast: mtp.layers.0.mlp.experts: expected all experts of a layer to be kept or all quantised; loaders cannot mix them"
    program 1 plan "$shared/src" --keep \
        'model.language_model.layers.1.mlp.experts.down_proj'
    says "fp8cast: model.language_model.layers.1.mlp.experts: expected all experts of a layer to be kept or all quantised; loaders cannot mix them"
    # All of one layer can.
    program 0 plan "$shared/src" --keep \
        'model.language_model.layers.1.mlp.experts.*' --json
    holds out 'd["result"]["kept"] == 77 + 9'
}

@test "siblings that engines fuse cannot be parted" {
    q=model.language_model.layers.3.self_attn
    refuses "fp8cast: engines load the parts of $q.qkv_proj as one: expected all of them to be kept or all quantised" \
        plan "$shared/src" --keep "$q.q_proj.weight"
    program 0 plan "$shared/src" --keep "$q.q_proj.weight" \
        --keep "$q.k_proj.weight" --keep "$q.v_proj.weight"
    program 0 plan "$shared/src" --keep "$q.o_proj.weight"
    refuses "fp8cast: engines load the parts of model.language_model.layers.0.linear_attn.in_proj_ba as one: expected all of them to be kept or all quantised" \
        plan "$shared/src" --quantize '*.layers.0.*.in_proj_b.weight'
    refuses "fp8cast: engines load the parts of model.language_model.layers.2.linear_attn.in_proj_qkvz as one: expected all of them to be kept or all quantised" \
        plan "$shared/src" --keep '*.layers.2.linear_attn.in_proj_z.weight'
    refuses "fp8cast: engines load the parts of model.language_model.layers.1.mlp.shared_expert.gate_up_proj as one: expected all of them to be kept or all quantised" \
        plan "$shared/src" --keep '*.layers.1.mlp.shared_expert.up_proj.weight'
}

@test "plan and quantize refuse the same" {
    for arguments in "--keep nothing" "--quantize lm_head.weight" \
        "--keep *.q_proj.weight" "--rules none" "--memory 1"; do
        set -f
        # The arguments are words to be split, but not to be globbed.
        # shellcheck disable=SC2086
        set -- $arguments
        set +f
        program 1 plan "$shared/src" "$@"
        mv err planned
        program 1 quantize "$shared/src" dst "$@"
        diff planned err
        [ ! -e dst ]
    done
}

# ---- what quantize would meet in DST -----------------------------------------

# meets STATE SHARDS [OPTION]...: what plan says of ./dst, which it leaves alone.
meets() {
    local state=$1 shards=$2 before
    shift 2
    before=$(ls -laR --time-style=full-iso dst 2>/dev/null || true)
    program 0 plan "$shared/src" dst --shard-size 700000 --json "$@"
    holds out "d['result_folder']['state'] == '$state'" \
        "d['result_folder']['shards_done'] == $shards" \
        '(d["result_folder"]["refused"] is None) == (d["result_folder"]["state"] != "refused")'
    [ "$before" = "$(ls -laR --time-style=full-iso dst 2>/dev/null || true)" ]
}

@test "plan: the result folder: new, finished, undone, another" {
    program 0 plan "$shared/src" --json
    holds out 'd["result_folder"] is None'
    meets new 0
    [ ! -e dst ]
    mkdir dst
    meets new 0
    program 0 quantize "$shared/src" dst --shard-size 700000 --json
    shards=$(ls dst/*.safetensors | wc -l)
    meets finished "$shards"
    meets finished "$shards" --overwrite
    program 0 plan "$shared/src" dst --shard-size 700000
    grep -qxF "result folder        finished: nothing to do" out
    rm dst/config.json dst/model-00002-of-*.safetensors
    meets undone $((shards - 1))
    program 0 plan "$shared/src" dst --shard-size 700000
    grep -qxF "result folder        $((shards - 1)) of $shards shards are finished" out
    meets refused 0 --scale-dtype f32
    meets another 0 --scale-dtype f32 --overwrite
    # And that is what quantize does.
    program 0 quantize "$shared/src" dst --shard-size 700000 --json
    holds out "d['shards_resumed'] == $((shards - 1))"
}

@test "plan: a result folder that quantize refuses, for the same reason" {
    mkdir dst
    echo mine >dst/notes.txt
    for options in "" --overwrite; do
        # shellcheck disable=SC2086  # none, or one
        program 1 quantize "$shared/src" dst $options
        sed 's/^fp8cast: //' err >reason
        # shellcheck disable=SC2086
        meets refused 0 $options
        holds out 'd["result_folder"]["refused"] == open("reason").read().strip()'
    done
    program 0 plan "$shared/src" dst
    grep -qxF "result folder        refused:" out
    program 0 plan "$shared/src" "$shared/src" --json
    holds out '"the result folder is the source folder" in d["result_folder"]["refused"]'
}

# limited COMMAND...: without root's right to pass over what modes forbid, if
# that can be given up here.
limited() {
    local without=(setpriv "--bounding-set=-dac_override,-dac_read_search")
    if [ "$(id -u)" -eq 0 ] && "${without[@]}" true 2>/dev/null; then
        "${without[@]}" "$@"
    else
        "$@"
    fi
}

# agree DST: quantize fails, and plan says beforehand why.
agree() {
    local before found=0
    before=$(snapshot .)
    limited "$fp8cast" plan "$shared/src" "$1" --json >"$shared/plan" || return
    limited "$fp8cast" quantize "$shared/src" "$1" >"$shared/out" \
        2>"$shared/err" || found=$?
    [ "$found" -eq 1 ]
    sed -i 's/^fp8cast: //' "$shared/err"
    WHY=$shared/err holds "$shared/plan" \
        'd["result_folder"]["state"] == "refused"' \
        'd["result_folder"]["refused"] == open(__import__("os").environ["WHY"]).read().strip()'
    [ "$before" = "$(snapshot .)" ]
}

@test "plan: a result folder that cannot be made, for the same reason" {
    agree none/dst
    ln -s nowhere link
    agree link
}

@test "plan: a result folder that modes keep from being written" {
    mkdir shut
    chmod 555 shut
    limited test ! -w shut || skip "root's rights cannot be given up"
    agree shut/dst
    agree shut
    program 0 quantize "$shared/src" dst --quiet
    chmod 555 dst dst/.fp8cast
    # There nothing is left to be written.
    limited "$fp8cast" plan "$shared/src" dst >out
    grep -qxF "result folder        finished: nothing to do" out
    limited "$fp8cast" quantize "$shared/src" dst --quiet
    # And here something is.
    chmod 755 dst
    rm dst/config.json
    limited "$fp8cast" plan "$shared/src" dst --json >out
    holds out 'd["result_folder"]["refused"] == "dst/.fp8cast: cannot make files in it: Permission denied"'
    chmod 755 dst/.fp8cast
    chmod 555 dst
    limited "$fp8cast" plan "$shared/src" dst --json >out
    holds out 'd["result_folder"]["refused"] == "dst: cannot make files in it: Permission denied"'
    chmod 755 dst
    program 0 plan "$shared/src" dst --json
    holds out 'd["result_folder"]["state"] == "undone"'
}

@test "plan: the result folder of the way back" {
    program 0 quantize "$shared/src" fp8 --quiet
    program 0 plan fp8 dst --dequantize
    grep -qxF "result folder        new" out
    program 0 dequantize fp8 dst --quiet
    program 0 plan fp8 dst --dequantize
    grep -qxF "result folder        finished: nothing to do" out
    program 0 plan fp8 dst --dequantize --dtype f32 --overwrite
    grep -qxF "result folder        other files, which are to be replaced" out
}

@test "plan --overwrite is about DST" {
    program 2 plan "$shared/src" --overwrite
    says "fp8cast: plan: option '--overwrite' goes with DST only (see 'fp8cast plan --help')"
}
