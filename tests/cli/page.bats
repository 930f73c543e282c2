#!/usr/bin/env bats
# `report`: reports that tests/reference/reports.py makes, as page, model card
# and text; the page in a browser; and files that are no reports.
#
# FP8CAST is the program under test.

load helpers

setup_file() {
    begin_file
    "$PYTHON" "$reference/reports.py" small "$shared/small.json"
    "$PYTHON" "$reference/reports.py" full "$shared/full.json"
    cat >"$shared/card" <<'END'
license: other
license_name: some-licence
license_link: LICENSE
language: [en, no, "zh"]
library_name: transformers
pipeline_tag: image-text-to-text
base_model: someone/else
datasets: [a]
model-index: [{name: x, results: []}]
tags:
  - chat
  - fp8
  - "yes: \" # \u202e"
END
    "$PYTHON" "$reference/reports.py" small "$shared/card.json" \
        --card "$shared/card"
    chmod -R a-w "$shared"
}

teardown_file() {
    chmod -R u+w "$shared"
    end_file
}
setup() { begin_test; }
teardown() { end_test; }

report() { "$fp8cast" report "$@"; }

# refused MESSAGE ARGUMENT...: exit status 1, nothing but this line.
refused() {
    local message="fp8cast: $1"
    shift
    run report "$@"
    echo "$output"
    echo "expected: $message"
    [ "$status" -eq 1 ]
    [ "$output" = "$message" ]
}

# changed EXPRESSION: small.json with `d`, as bad.json.
changed() {
    "$PYTHON" -c "
import json, sys
d = json.load(open(sys.argv[1]))
$1
json.dump(d, open('bad.json', 'w'))" "$shared/small.json"
}

# ---- the three formats --------------------------------------------------------

@test "text: every kind, the whole and the worst, within 80 columns" {
    report "$shared/small.json" >out
    "$PYTHON" - "$shared/small.json" out <<'END'
import json, sys
d = json.load(open(sys.argv[1]))
text = open(sys.argv[2]).read()
rows = {line.split()[0]: line.split() for line in text.splitlines() if line}
for group in d["kinds"] + [d["overall"]]:
    row = rows[group["name"]]
    assert row[1:] == [
        f"{group['tensors']:,}", f"{100 * group['median_relative_error']:.2f}",
        "%", f"{100 * group['relative_rms']:.2f}", "%",
        f"{group['sqnr_db']:.2f}", f"{group['cosine']:.8f}"], row
for i in d["worst"][:8]:
    tensor = d["tensors"][i]
    assert f"{100 * tensor['relative_rms']:.2f} %  {tensor['name']}\n" in text
assert f"{d['source']['bytes']:,}" in text
assert f"{d['result']['bytes']:,}" in text
assert max(map(len, text.splitlines())) <= 80
END
}

@test "the reports of this test are as docs/report.schema.json wants them" {
    for size in small full; do
        /usr/bin/python3 -c 'import json, sys, jsonschema
d = json.load(open(sys.argv[2]))
d["tensors"] = d["tensors"][:1000] # the rest has the same form
jsonschema.Draft202012Validator(json.load(open(sys.argv[1]))).validate(d)' \
            "$root/docs/report.schema.json" "$shared/$size.json"
    done
}

@test "the format follows the name of the file" {
    report "$shared/small.json" -o a.html
    report "$shared/small.json" -o a.md --base-model a/b
    report "$shared/small.json" -o a.txt
    report "$shared/small.json" -o b.md --format html
    head -1 a.html | grep -qx '<!DOCTYPE html>'
    cmp a.html b.md
    head -1 a.md | grep -qx -- ---
    report "$shared/small.json" | cmp - a.txt
    report "$shared/small.json" --format html | cmp - a.html
    # In capitals, too; without an ending it is text, as without a name.
    report "$shared/small.json" -o A.HTML
    report "$shared/small.json" -o a.Htm
    mkdir b.html # of which only the file's own name counts
    report "$shared/small.json" -o b.html/none
    report "$shared/small.json" -o .pdf
    cmp A.HTML a.html
    cmp a.Htm a.html
    cmp b.html/none a.txt
    cmp .pdf a.txt
    # Another one may mean anything.
    for name in x.pdf x.markdown x.html.gz b.html/x. x.htmlx; do
        run report "$shared/small.json" -o $name
        [ "$status" -eq 2 ]
        [ "$output" = "fp8cast: --output: the ending of '$name' names no \
format: expected .html, .htm, .md or .txt, or '--format' (see 'fp8cast report \
--help')" ]
        [ ! -e $name ]
        report "$shared/small.json" -o $name --format html
        cmp $name a.html
    done
    # However long the name is, the line still says what is wrong with it.
    long=$(printf '%0300d' 0)
    run report "$shared/small.json" -o "$long.pdf"
    [ "$status" -eq 2 ]
    [ "$output" = "fp8cast: --output: the ending of '${long:0:200}' names no \
format: expected .html, .htm, .md or .txt, or '--format' (see 'fp8cast report \
--help')" ]
    # A folder has no ending.
    for name in . .. b.html/..; do
        run report "$shared/small.json" -o $name
        [ "$status" -eq 1 ]
        [[ $output = "fp8cast: $name: "* ]]
    done
}

@test "the page, in a browser: light, dark, phone, print" {
    command -v chromium || command -v chromium-browser ||
        command -v google-chrome || skip "no browser"
    report "$shared/small.json" -o small.html
    "$PYTHON" "$root/tests/cli/page_test.py" "$shared/small.json" small.html
    report "$shared/full.json" -o full.html
    "$PYTHON" "$root/tests/cli/page_test.py" "$shared/full.json" full.html
}

@test "from a checkpoint to its page and card, by quantize and by verify" {
    "$fp8cast" synth src --quiet
    printf -- '---\nlicense: mit\ntags: [chat]\n---\n# Source\n' \
        >src/README.md
    "$fp8cast" quantize src dst --report quantize.json --quiet
    "$fp8cast" verify src dst --report verify.json --quiet
    for made in quantize verify; do
        report $made.json -o $made.html
        report $made.json -o $made.md --base-model a/b
        "$PYTHON" -c 'import sys, xml.etree.ElementTree as e; e.parse(sys.argv[1])' \
            $made.html
        sed -n 4,7p $made.md | diff - <(printf '%s\n' 'license: mit' tags: \
            '- fp8' '- chat')
        grep -q '^vllm serve ./dst$' $made.md
    done
    # The text is what quantize showed, but for the time.
    "$fp8cast" quantize src again 2>log | grep -v '^time ' >shown
    report quantize.json | diff shown -
    # Numbers of the two agree, and so do the pages but for how they were made.
    diff <(sed '/<dl class="facts">/,$d' quantize.html) \
        <(sed '/<div class="verdict/,/<\/div>/d; /<dl class="facts">/,$d' \
            verify.html)
    grep -q 'fp8cast quantize src dst --scales=amax --scale-dtype=bf16<' \
        quantize.html
    grep -q 'fp8cast verify src dst<' verify.html
}

@test "a README.md that is a link to elsewhere is not read" {
    "$fp8cast" synth src --quiet
    "$fp8cast" quantize src dst --quiet
    printf -- '---\nlicense: private\n---\n' >secret
    ln -s ../secret src/README.md
    "$fp8cast" verify src dst --report verify.json --quiet
    holds verify.json 'd["source"]["card"] is None'
    fails grep -q private verify.json
}

@test "the page stands alone, and holds no part that was not filled in" {
    report "$shared/small.json" -o a.html
    fails grep -E '\{\{|<script|<link|<img|@import|url\(|javascript:|src=' a.html
    # No address but the name of SVG and XHTML.
    [ -z "$(grep -oE 'https?:[^"]*' a.html | grep -v '^http://www.w3.org/')" ]
}

@test "a source of which nothing was quantised" {
    changed 'zero = {"elements": 0, "blocks": 0, "zeros": 0,
    "median_relative_error": None, "p999_relative_error": None,
    "relative_rms": 0, "sqnr_db": None, "cosine": 1, "max_abs_error": 0,
    "saturated": 0, "became_zero": 0, "codes_unused": 254}
d.update(overall={"name": "overall", "tensors": 0, **zero}, kinds=[],
    layers=[], cells=[], worst=[], tensors=[], rules=d["rules"][:2],
    distribution={"exact": 0, "edges": [0, 1], "counts": [0], "above": 0})
d["result"].update(fp8_weights=0, scales=0)'
    for format in html md text; do
        report bad.json --format $format --base-model a/b >out
        fails grep -iE 'nan|inf\b|\{\{' out
    done
    report bad.json --format html >a.html
    "$PYTHON" -c 'import xml.etree.ElementTree as e; e.parse("a.html")'
    fails grep -q 'Worst tensors' a.html
}

@test "errors that are infinite, or none" {
    changed '
d["cells"][0]["relative_rms"] = None
d["kinds"][0]["relative_rms"] = None
d["overall"]["relative_rms"] = None
worst = d["tensors"][d["worst"][0]]
worst["relative_rms"] = worst["worst_block"]["relative_rms"] = None
worst = d["tensors"][d["worst"][1]]
worst.update(max_abs_error_at=None, worst_block=None, sqnr_db=None)
d["options"].update(scales=None, scale_dtype=None)
d["command"] = "verify"
d["verdict"] = {"faults": 0, "fault_list": [], "warnings": 2,
    "warning_list": ["one", "two"]}'
    for format in html md text; do
        report bad.json --format $format --base-model a/b >out
    done
    report bad.json --format html >a.html
    "$PYTHON" -c 'import xml.etree.ElementTree as e; e.parse("a.html")'
    grep -q 'fp8cast verify Qwen3.6-35B-A3B Qwen3.6-35B-A3B-FP8<' a.html
    grep -q 'verify found no faults.</strong>' a.html
    grep -q 'It gave 2 warnings:' a.html
}

@test "faults stand above all figures, and names in them are text" {
    changed '
d["command"] = "verify"
d["verdict"] = {"faults": 7000, "warnings": 1, "warning_list": ["w"],
    "fault_list": ["tensor <b>|`x`\u202e: wrong"] + ["more"] * 99}
for part in (d["overall"], d["tensors"][d["worst"][0]]):
    part["not_measured"] = {"elements": 1234, "blocks": 5}'
    report bad.json --format html >a.html
    "$PYTHON" - <<'END'
import json, xml.etree.ElementTree as xml
page = xml.parse("a.html").getroot()
header = next(e for e in page.iter() if e.tag.split("}")[-1] == "header")
text = "".join(header.itertext())
assert "verify found 7,000 faults" in text and "6,980 more" in text, text
assert "tensor <b>|`x`" in text and "\u202e" not in text, text
assert text.index("verify found") < text.index("Source / result")
whole = "".join(page.itertext())
blocks = 5 + json.load(open("bad.json"))["overall"]["blocks"]
assert f"5 of {blocks:,} blocks, with 1,234 weights" in whole
assert "Nothing was sampled" not in whole
END
    report bad.json >out
    grep -qx 'Qwen3.6-35B-A3B-FP8: 7,000 faults' out
    grep -qx '  ... and 6,980 more' out
    # The rest is what is not shown, of a shorter list too.
    "$PYTHON" -c 'import json
d = json.load(open("bad.json"))
d["verdict"]["fault_list"] = ["only one"]
json.dump(d, open("short.json", "w"))'
    report short.json --format html >short.html
    grep -q '6,999 more' short.html
    report short.json >short
    grep -qx '  ... and 6,999 more' short
    grep -q '^not measured: 5 of .* blocks, with 1,234 weights$' out
    refused "no model card of a result in which verify found 7,000 faults, \
the first: tensor <b>|\`x\`\\xe2\\x80\\xae: wrong" \
        bad.json --format md --base-model a/b
    [ ! -e a.md ]
    if command -v chromium || command -v chromium-browser ||
        command -v google-chrome; then
        "$PYTHON" "$root/tests/cli/page_test.py" bad.json a.html
    fi
    # A report by verify that does not say what it found is none.
    changed 'd["command"] = "verify"'
    refused "bad.json: verdict: expected an object, found nothing" bad.json
    changed 'd["command"] = "verify"
d["verdict"] = {"faults": 1, "fault_list": ["a", "b"], "warnings": 0,
    "warning_list": []}'
    refused "bad.json: verdict.fault_list: expected 1 entries at most, found 2" \
        bad.json
}

# ---- the model card -----------------------------------------------------------

@test "the card's front matter: the source's, and what it was made from" {
    report "$shared/card.json" --format md --base-model Qwen/Qwen3.6 >card.md
    cat >expected <<'END'
---
base_model: Qwen/Qwen3.6
base_model_relation: quantized
license: other
license_name: some-licence
license_link: LICENSE
language:
- en
- "no"
- zh
library_name: transformers
pipeline_tag: image-text-to-text
tags:
- fp8
- chat
- "yes: \" # \u202E"
---
END
    diff expected <(head -17 card.md)
}

@test "without --base-model the card does not guess, and says so" {
    report "$shared/card.json" --format md >card.md 2>err
    [ "$(cat err)" = "fp8cast: no base_model in the card: say what it was made from with --base-model OWNER/NAME" ]
    fails grep -q base_model card.md
}

@test "a card that is no YAML, and ones that are no mapping" {
    changed 'd["source"]["card"] = "license: [mit\ntags: x: y"'
    refused "the source's card (source.card) is no YAML: line 2: did not find expected ',' or ']'" \
        bad.json --format md --base-model a/b
    report bad.json --format html -o a.html
    for card in '""' '"- a\n- b"' '"text"' '"# nothing"' '"license:"' \
        '"license: {a: b}\ntags: 7\n"' '"a: &a [x]\nlanguage: [*a]"'; do
        changed "d['source']['card'] = $card"
        report bad.json --format md --base-model a/b >card.md
        fails grep -qE '^(license|language)' card.md
    done
    # A tree of aliases that would be 10^9 strings.
    changed 'd["source"]["card"] = "a0: &a0 [x]\n" + "".join(
        f"a{i}: &a{i} [" + ", ".join([f"*a{i-1}"] * 10) + "]\n"
        for i in range(1, 10)) + "tags: *a9\n"'
    report bad.json --format md --base-model a/b >card.md
    diff <(printf '%s\n' tags: '- fp8' ---) <(sed -n 4,6p card.md)
}

@test "how to load it: what docs/loaders.md says, for every model type" {
    # pages/loaders.txt is what card_data.py makes of it.
    "$PYTHON" "$root/tests/interop/card_data.py" |
        diff "$root/pages/loaders.txt" -
    grep '^model ' "$root/pages/loaders.txt" |
        while read -r _ type class transformers vllm sglang; do
            changed "d['source']['model_type'] = '$type'"
            report bad.json --format md --base-model a/b >card.md
            [ "$transformers" = right ] ||
                grep -A2 '^### transformers' card.md | grep -q '^Not with'
            [ "$transformers" != right ] ||
                grep -qF "model = $class.from_pretrained(\"./" card.md
            if [ "$vllm" = right ]; then
                grep -q '^vllm serve \./' card.md
            else
                fails grep -q '^vllm serve' card.md
                grep -A2 '^### vLLM' card.md | grep -q '^Not with '
            fi
            if [ "$sglang" = right ]; then
                grep -q '^python -m sglang.launch_server' card.md
            else
                fails grep -q 'sglang.launch_server' card.md
                grep -A2 '^### SGLang' card.md | grep -q '^Not with '
            fi
        done
    changed 'd["source"]["model_type"] = "unheard_of"'
    report bad.json --format md --base-model a/b >card.md
    grep -q 'was not tried' card.md
    fails grep -qE 'vllm serve|sglang.launch|from_pretrained' card.md
}

@test "the card and plan speak of the same versions of the loaders" {
    "$fp8cast" synth src --quiet
    "$fp8cast" plan src --json | "$PYTHON" -c '
import json, sys
for one in json.load(sys.stdin)["serving"]["engines"]:
    print("version", one["name"], one["version"])' | sort >plan
    grep '^version ' "$root/pages/loaders.txt" | sort | diff plan -
}

@test "--base-model wants a hub's name" {
    for bad in x /x x/ a/b/c 'a b/c' 'a/b"' 'a/b)'; do
        run report "$shared/card.json" --base-model "$bad"
        [ "$status" -eq 2 ]
    done
}

# ---- the file it is written to ------------------------------------------------

@test "-o: whole or not at all, and nothing is replaced unasked" {
    echo mine >a.html
    refused "a.html: is there already (--overwrite replaces it)" \
        "$shared/small.json" -o a.html
    [ "$(cat a.html)" = mine ]
    changed 'd["fp8cast_report"] = 2'
    run report bad.json -o a.html --overwrite
    [ "$status" -eq 1 ]
    [ "$(cat a.html)" = mine ]
    run report bad.json -o b.html
    [ ! -e b.html ]
    report "$shared/small.json" -o a.html --overwrite
    grep -q 'DOCTYPE' a.html
    [ "$(ls -A)" = "$(printf '%s\n' a.html bad.json)" ]
}

@test "-o: the report itself is never replaced by what is drawn from it" {
    cp "$shared/small.json" r.json
    ln r.json other.json
    for there in r.json ./r.json "$PWD/r.json" other.json; do
        refused "$there: expected another file than the report itself" \
            r.json -o "$there" --overwrite --format html
    done
    refused "r.json: expected another file than the report itself" \
        r.json -o r.json --format text
    cmp r.json "$shared/small.json"
    report r.json -o a.html
}

@test "-o: what is no file is never replaced" {
    mkdir d
    ln -s elsewhere link
    mkfifo pipe
    for there in d link pipe; do
        refused "$there: is there already, and is no file" \
            "$shared/small.json" -o "$there" --overwrite
    done
    refused "no/a.html: cannot open its folder: No such file or directory" \
        "$shared/small.json" -o no/a.html
    refused "d/: is there already, and is no file" \
        "$shared/small.json" -o d/
}

@test "-o: a full disk is told, and leaves nothing" {
    (
        trap '' XFSZ
        ulimit -f 1
        run report "$shared/small.json" -o a.html
        [ "$status" -eq 1 ]
        [ "$output" = "fp8cast: a.html: cannot write: File too large" ]
    )
    [ -z "$(ls -A)" ]
}

# ---- files that are no reports ------------------------------------------------

@test "no file, no JSON, no report" {
    refused "none: the file: cannot read: No such file or directory" none
    refused ".: the file: cannot read: Is a directory" .
    : >empty
    refused "empty: the file: no JSON: line 1, column 0: '[' or '{' expected near end of file" empty
    head -c 5000 "$shared/small.json" >half
    run report half
    [ "$status" -eq 1 ]
    [ "${#lines[@]}" -eq 1 ]
    [[ "$output" == "fp8cast: half: the file: no JSON: line 1, column "* ]]
    echo '[]' >list
    refused "list: the file: expected an object, found an array" list
    echo '{}' >other
    refused "other: the file: no report of fp8cast: it has no 'fp8cast_report'" other
    changed 'd["fp8cast_report"] = 2'
    refused "bad.json: fp8cast_report: expected version 1, found 2" bad.json
    changed 'd["fp8cast_report"] = "1"'
    refused "bad.json: fp8cast_report: expected version 1, found a string" \
        bad.json
    printf '{"fp8cast_report": 1, "fp8cast": "\xff"}' >bytes
    run report bytes
    [ "$status" -eq 1 ]
    [ "${#lines[@]}" -eq 1 ]
    printf '{"fp8cast_report": 1, "fp8cast_report": 1}' >twice
    run report twice
    [ "$status" -eq 1 ]
    [[ "$output" == *"duplicate object key"* ]]
    "$PYTHON" -c 'print("[" * 100000)' >deep
    run report deep
    [ "$status" -eq 1 ]
    [[ "$output" == *"maximum parsing depth reached"* ]]
}

@test "every member, missing and of every wrong type: one line that names it" {
    "$PYTHON" - "$fp8cast" "$shared/small.json" <<'END'
import copy, json, subprocess, sys
program, path = sys.argv[1:]
good = json.load(open(path))
# Two of everything are enough.
for key in ("kinds", "layers", "tensors", "rules"):
    del good[key][2:]
for entry in good["tensors"]:
    entry["kind"] = entry["layer"] = 1
good["cells"] = [{"layer": 1, "kind": 0, "tensors": 3, "relative_rms": 0.02}]
good["worst"] = [1, 0]
good["distribution"].update(edges=[0, 0.01, 0.02], counts=[4, 5])
tried = 0

def places(value, at=()):
    """Each member of an object; of arrays the last entry's."""
    if isinstance(value, dict):
        for key in value:
            yield at + (key,)
            yield from places(value[key], at + (key,))
    elif isinstance(value, list) and value:
        yield at + (len(value) - 1,)
        yield from places(value[-1], at + (len(value) - 1,))

def run(document):
    with open("bad.json", "w") as file:
        json.dump(document, file)
    return subprocess.run([program, "report", "bad.json"], text=True,
                          capture_output=True)

good["command"] = "verify"
good["verdict"] = {"faults": 2, "fault_list": ["a", "b"], "warnings": 1,
    "warning_list": ["c"]}
good["kinds"][1]["not_measured"] = {"elements": 3, "blocks": 1}
assert run(good).returncode == 0
wrong = [{}, [], "x", -1, 1.5, None, 1e308, 2**63 - 1]
for place in list(places(good)):
    key = next(k for k in reversed(place) if isinstance(k, str))
    for value in wrong + ["missing"]:
        document = copy.deepcopy(good)
        target = document
        for step in place[:-1]:
            target = target[step]
        before = target[place[-1]]
        if value == "missing":
            if not isinstance(place[-1], str):
                continue
            del target[place[-1]]
        else:
            target[place[-1]] = value
        found = run(document)
        tried += 1
        if found.returncode == 0 and value == "missing":
            assert key == "not_measured", place
        if found.returncode == 0:
            continue  # some are right: a string for a string, a larger count
        assert found.returncode == 1, (place, value, found)
        assert found.stdout == "", (place, value)
        assert found.stderr.count("\n") == 1, (place, value, found.stderr)
        # An array that is too short is told where something points into it.
        assert key in found.stderr or value == [], (place, value, found.stderr)
    # No member takes an object for what is none.
    if not isinstance(before, dict):
        document = copy.deepcopy(good)
        target = document
        for step in place[:-1]:
            target = target[step]
        target[place[-1]] = {}
        assert run(document).returncode == 1, place
assert tried > 500, tried
END
}

@test "lengths have limits, and numbers ends" {
    changed 'd["result"]["name"] = "x" * 5000'
    refused "bad.json: result.name: expected 4096 bytes at most, found 5000" \
        bad.json
    changed 'd["source"]["card"] = "x" * 65537'
    refused "bad.json: source.card: expected 65536 bytes at most, found 65537" \
        bad.json
    changed 'd["options"]["follow_links"] = False'
    refused "bad.json: options.follow_links: expected true, or no such member, found a truth value" \
        bad.json
    changed 'd["options"]["requantize"] = "yes"'
    refused "bad.json: options.requantize: expected true, or no such member, found a string" \
        bad.json
    changed 'd["kinds"] *= 1000'
    refused "bad.json: kinds: expected 4096 entries at most, found 13000" \
        bad.json
    changed 'd["worst"] = [70]'
    refused "bad.json: worst[0]: 70 is none of 70 entries" bad.json
    changed 'd["cells"][1]["kind"] = 13'
    refused "bad.json: cells[1].kind: 13 is none of 13 entries" bad.json
    changed 'd["distribution"]["edges"][3] = 0'
    refused "bad.json: distribution.edges: expected ascending numbers of 0 or more, found 0" \
        bad.json
    changed 'd["distribution"]["counts"].pop()'
    refused "bad.json: distribution.counts: expected one less than the 257 edges, found 255" \
        bad.json
    changed 'd["tensors"][2]["worst_block"]["at"][1] = 3'
    refused "bad.json: tensors[2].worst_block.at: 3 is outside of the tensor" \
        bad.json
    sed 's/"relative_rms": 0\.[0-9]*/"relative_rms": 1e400/' \
        "$shared/small.json" >bad.json
    run report bad.json
    [ "$status" -eq 1 ]
    [[ "$output" == "fp8cast: bad.json: the file: no JSON: line 1, column "*"real number overflow"* ]]
    "$PYTHON" -c 'print("{\"a\": \"" + "x" * 140000000 + "\"}")' >bad.json
    refused "bad.json: the file: has more than 128 MB" bad.json
}

# ---- hostile strings ----------------------------------------------------------

@test "no string of a report becomes more than text" {
    "$PYTHON" - "$shared/small.json" <<'END'
import json, sys
d = json.load(open(sys.argv[1]))
evil = ("<script>alert(1)</script>\"'`|</title></style>&amp;]]>--><b>\n\r\t"
        "\u0001\u001b[31m\u202e\u2066\u061c\u2028\ufffe\uffff\U0010ffff"
        "{{version}} ```\n\n# x\n| a | b |\n")
def spoil(value, key=None):
    if isinstance(value, dict):
        return {k: spoil(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [spoil(v, key) for v in value]
    fixed = ("command", "action", "scales")
    return value + evil if isinstance(value, str) and key not in fixed \
        else value
d = spoil(d)
d["source"]["card"] = "license: " + json.dumps(
    evil.replace("\ufffe", "").replace("\uffff", ""), ensure_ascii=False)
d["options"].update(rules="-r" + evil, shard_size=7, requantize=True,
    follow_links=True, overrides=[
    {"action": action, "glob": glob} for action, glob in [
        ("keep", "'; rm -rf / #"), ("quantize", ""), ("keep", "--x"),
        ("keep", evil)]])
d["result"]["name"] = "-rf" + evil
json.dump(d, open("evil.json", "w"))
END
    for format in html md text; do
        report evil.json --format $format --base-model a/b >out.$format
        # Nothing that a terminal or a reader obeys.
        fails env LC_ALL=C grep -P '[\x00-\x08\x0b-\x1f\x7f]' out.$format
        fails grep -P '\x{202e}|\x{2066}|\x{061c}|\x{2028}' out.$format
    done
    "$PYTHON" - <<'END'
import re, xml.etree.ElementTree as xml
page = xml.parse("out.html").getroot()
tags = {element.tag.split("}")[-1] for element in page.iter()}
assert not tags & {"script", "iframe", "object", "img"}, tags
bold = [e for e in page.iter() if e.tag.split("}")[-1] == "b"]
assert len(bold) == 2, "the page's own are two"
for element in page.iter():
    assert not any(name.lower().startswith("on") for name in element.attrib)
front, card = open("out.md").read().split("\n---\n", 1)
# Outside of code spans and fences there is none of it.
bare = re.sub(r"^```.*?^```$", "", card, flags=re.M | re.S)
bare = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", bare)
assert "<script" not in bare and "alert" not in bare, bare
assert card.count("\n# ") == 1, "a heading was smuggled in"
END
    # The command is one line for the shell, and its words are what they were.
    command=$(sed -n '/^## How it was made/,$p' out.md | sed -n 4p)
    eval "set -- ${command#fp8cast }"
    [ "$1" = quantize ]
    [[ "$3" == ./-rf* ]]
    [[ "$4" == --rules=-r* ]]
    [ "$5" = "--keep='; rm -rf / #" ]
    [ "$6" = --quantize= ]
    [ "$7" = --keep=--x ]
    [[ "$8" == --keep=* ]]
    [[ " $* " == *" --shard-size=7 --requantize --follow-links"* ]]
}

@test "many layers and kinds are drawn up to a limit, and that is said" {
    changed '
layer, kind = d["layers"][0], d["kinds"][0]
d["layers"] = [dict(layer, name=f"x.layers.{i}") for i in range(1000)]
d["kinds"] = [dict(kind, name=f"kind{i}") for i in range(300)]
d["cells"] = [dict(d["cells"][0], layer=i, kind=i % 300) for i in range(1000)]'
    report bad.json -o a.html
    grep -q 'Drawn are 256 of 1000 layers and 64 of 300 kinds' a.html
    grep -q 'and 100 more kinds' a.html
    [ "$(stat -c %s a.html)" -lt 2000000 ]
    "$PYTHON" -c 'import xml.etree.ElementTree as e; e.parse("a.html")'
}
