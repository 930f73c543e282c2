#!/usr/bin/env bats
# What verify tells of all that stands beside the weights: other files,
# __metadata__, and the members of quantization_config.

# shellcheck disable=SC2154,SC2164  # set by helpers.bash; bats stops at cd
load helpers

setup_file() {
    begin_file
    make_source fused "$shared/src"
    "$fp8cast" quantize "$shared/src" "$shared/good" --shard-size 2000000 \
        --quiet
    "$fp8cast" quantize "$shared/src" "$shared/e8m0" --scale-dtype ue8m0 \
        --quiet
}
teardown_file() { end_file; }
setup() {
    begin_test
    src=$shared/src
    fresh
}
teardown() { end_test; }

# fresh [RESULT]: ./dst is a good result again.
fresh() {
    rm -rf dst
    cp -r "${1:-$shared/good}" dst
}

sabotage() {
    "$PYTHON" "$BATS_TEST_DIRNAME/sabotage.py" dst "$@"
}

# tells LINE...: all that verify has to say, in any order: faults, warnings
# and notes, each behind that word. The exit status follows from the faults.
tells() {
    local status=0
    case $'\n'"$(printf '%s\n' "$@")" in
        *$'\n'"fault "*) status=3 ;;
    esac
    program $status verify "$src" dst --json
    "$PYTHON" -c '
import json
d = json.load(open("out"))
for kind in "fault", "warning", "note":
    assert d[kind + "s"] == len(d[kind + "_list"])
    for line in d[kind + "_list"]:
        print(kind, line)' >lines
    LC_ALL=C sort lines >told
    if [ $# -gt 0 ]; then printf '%s\n' "$@"; fi | LC_ALL=C sort >wanted
    diff wanted told
}

@test "a good result: nothing" {
    tells
    program 0 verify "$src" dst
    fails grep -q '^warning\|^note .*json' out
}

# ---- files -------------------------------------------------------------------

@test "files that no loader opens: one note for all" {
    echo "# Another card" >dst/README.md
    first=README.md
    tells "note $first: missing or not as in the source; no loader opens it"
    rm dst/LICENSE dst/assets/merges.txt
    tells "note LICENSE: missing or not as in the source, like 2 more that no loader opens"
    # What only the result has is its own business.
    echo more >dst/HOWTO.md
    echo '{}' >dst/recipe.yaml
    tells "note LICENSE: missing or not as in the source, like 2 more that no loader opens"
}

@test "no tokenizer at all is a fault, another one a warning" {
    rm dst/tokenizer.json
    tells "fault tokenizer.json: missing, and no other tokenizer is there; transformers has none to load, vLLM and SGLang stop at the start"
    program 3 verify "$src" dst --quiet
    says "fp8cast: dst: 1 fault, the first: tokenizer.json: missing, and no other tokenizer is there; transformers has none to load, vLLM and SGLang stop at the start"
    # What is no file is as good as none.
    mkfifo dst/tokenizer.json
    program 3 verify "$src" dst --json
    holds out 'd["faults"] == 1' '"tokenizer.json: no plain file, and no" in d["fault_list"][0]'
    rm dst/tokenizer.json
    # Neither does one in a folder help.
    cp "$src/tokenizer.json" dst/assets/
    program 3 verify "$src" dst --quiet
    echo pieces >dst/tokenizer.model
    tells "warning tokenizer.json: missing; text becomes tokens by it" \
        "warning tokenizer.model: not in the source; text becomes tokens by it"
}

@test "a source without a tokenizer demands none" {
    cp -r "$src" bare
    rm bare/tokenizer.json dst/tokenizer.json
    src=bare
    tells
}

@test "files that loaders read: missing, other, more" {
    # Of the same length, and of another.
    printf '%s' "$(sed 's/endfor/endfur/' dst/chat_template.jinja)" >changed
    cmp -s changed "$src/chat_template.jinja" || mv changed dst/chat_template.jinja
    [ "$(stat -c %s dst/chat_template.jinja)" = \
        "$(stat -c %s "$src/chat_template.jinja")" ]
    echo >>dst/tokenizer_config.json
    rm dst/generation_config.json dst/empty.txt
    echo '{}' >dst/adapter_config.json
    mkdir dst/additional_chat_templates
    echo x >dst/additional_chat_templates/tool.jinja
    tells "warning chat_template.jinja: not as in the source; prompts are made by it" \
        "warning tokenizer_config.json: not as in the source; text becomes tokens by it" \
        "warning generation_config.json: missing; vLLM and SGLang take how to sample and where to end from it" \
        "warning empty.txt: missing; loaders, or the model's own code, may read it" \
        "warning adapter_config.json: not in the source; transformers then loads the adapter that it names" \
        "warning additional_chat_templates/tool.jinja: not in the source; prompts are made by it"
    program 0 verify "$src" dst
    grep -qxF "dst: no faults" out
    [ "$(grep -c '^warning ' out)" -eq 6 ]
    program 0 verify "$src" dst --quiet
    [ ! -s out ]
    [ ! -s err ]
}

@test "a long file that differs in its last byte" {
    cp -r "$src" long
    head -c 300000 /dev/zero | tr '\0' 'x' >long/vocab.bpe
    { head -c 299999 long/vocab.bpe; echo; } >dst/vocab.bpe
    src=long
    tells "warning vocab.bpe: not as in the source; text becomes tokens by it"
    cp long/vocab.bpe dst/
    tells
}

@test "files whose place another takes" {
    cp -r "$src" older
    for file in vocab.json special_tokens_map.json preprocessor_config.json \
        chat_template.json; do
        echo '{}' >older/$file
    done
    rm dst/merges.txt
    # As transformers 5 saves it.
    echo '{"image_processor": {"size": 224}}' >dst/processor_config.json
    src=older
    tells "note vocab.json: missing; tokenizer.json takes its place" \
        "note merges.txt: missing; tokenizer.json takes its place" \
        "note special_tokens_map.json: missing; tokenizer_config.json takes its place" \
        "note preprocessor_config.json: missing; processor_config.json takes its place" \
        "note chat_template.json: missing; chat_template.jinja takes its place" \
        "warning processor_config.json: not in the source; inputs are prepared by it"
    rm dst/processor_config.json
    program 3 verify "$src" dst --json
    holds out 'd["fault_list"] == ["preprocessor_config.json: missing, and no "
        "other preprocessor is there; transformers, vLLM and SGLang raise "
        "where they take in images or sound"]'
}

@test "a processor_config.json that prepares nothing" {
    # Of transformers 4, beside the file that does.
    cp -r "$src" older
    echo '{"processor_class": "P"}' | tee older/processor_config.json \
        >dst/processor_config.json
    echo '{"size": 224}' >older/preprocessor_config.json
    src=older
    none="missing, and no other preprocessor is there; transformers, vLLM and SGLang raise where they take in images or sound"
    tells "fault preprocessor_config.json: $none"
    # Images are no videos.
    echo '{"image_processor": {}}' >dst/processor_config.json
    echo '{}' >older/video_preprocessor_config.json
    tells "note preprocessor_config.json: missing; processor_config.json takes its place" \
        "warning processor_config.json: not as in the source; inputs are prepared by it" \
        "warning video_preprocessor_config.json: missing; inputs are prepared by it"
    echo '{"image_processor": {}, "video_processor": {}}' \
        >dst/processor_config.json
    tells "note preprocessor_config.json: missing; processor_config.json takes its place" \
        "warning processor_config.json: not as in the source; inputs are prepared by it" \
        "note video_preprocessor_config.json: missing; processor_config.json takes its place"
    echo '{"image_processor"' >dst/processor_config.json
    tells "fault preprocessor_config.json: $none" \
        "warning processor_config.json: not as in the source; inputs are prepared by it" \
        "warning video_preprocessor_config.json: missing; inputs are prepared by it"
    # Where the source has no other, it is what there is.
    rm older/*preprocessor_config.json
    cp older/processor_config.json dst/
    tells
}

@test "tokenizer files that only the result has" {
    for file in special_tokens_map.json added_tokens.json tekken.json \
        qwen.tiktoken; do
        echo '{}' >dst/$file
    done
    tells "warning special_tokens_map.json: not in the source; text becomes tokens by it" \
        "warning added_tokens.json: not in the source; text becomes tokens by it" \
        "warning tekken.json: not in the source; text becomes tokens by it" \
        "warning qwen.tiktoken: not in the source; text becomes tokens by it"
}

# ---- odd files ---------------------------------------------------------------

partly="so of files in folders only those that the source has are looked at"

@test "a link to nowhere ends nothing" {
    ln -sf nowhere dst/README.md
    tells "warning dst/README.md: cannot stat: No such file or directory; $partly" \
        "note README.md: missing or not as in the source; no loader opens it"
    # What is there, in a folder too, is still compared, and what is not, found.
    echo x >dst/assets/merges.txt
    echo '{}' >dst/adapter_config.json
    rm dst/tokenizer.json
    tells "warning dst/README.md: cannot stat: No such file or directory; $partly" \
        "note README.md: missing or not as in the source, like 1 more that no loader opens" \
        "warning adapter_config.json: not in the source; transformers then loads the adapter that it names" \
        "fault tokenizer.json: missing, and no other tokenizer is there; transformers has none to load, vLLM and SGLang stop at the start"
}

@test "links that lead round end nothing" {
    ln -s . dst/round
    program 0 verify "$src" dst --json
    holds out 'd["faults"] == 0' 'len(d["warning_list"]) == 1' \
        '"a loop of links?; so of files in folders" in d["warning_list"][0]' \
        'd["note_list"] == []'
}

@test "more files than are listed end nothing" {
    mkdir dst/many
    (cd dst/many && seq 20001 | xargs touch)
    tells "warning dst: expected at most 20000 files and folders, found more; links that lead round?; $partly"
}

@test "what may not be read ends nothing" {
    [ "$(id -u)" -ne 0 ] || skip "root may read everything"
    mkdir -m 0 dst/lost+found
    tells "warning dst/lost+found: cannot list: Permission denied; $partly"
    rmdir dst/lost+found
    chmod 0 dst/tokenizer.json
    tells "warning dst/tokenizer.json: cannot open: Permission denied"
}

# own_source: the source is a copy, which may be changed.
own_source() {
    cp -r "$shared/src" src
    src=src
}

of_result="so of files in folders only those that the result has are looked at"

@test "a link to nowhere in the source ends nothing" {
    own_source
    ln -s nowhere src/gone.json
    tells "warning src/gone.json: cannot stat: No such file or directory; $of_result"
    # What is there, in a folder too, is still compared, and what is not, found.
    echo x >dst/assets/merges.txt
    echo x >src/LICENSE
    rm dst/tokenizer.json
    tells "warning src/gone.json: cannot stat: No such file or directory; $of_result" \
        "note LICENSE: missing or not as in the source, like 1 more that no loader opens" \
        "fault tokenizer.json: missing, and no other tokenizer is there; transformers has none to load, vLLM and SGLang stop at the start"
    # quantize has nothing to carry over then, and refuses.
    refuses "fp8cast: src/gone.json: cannot stat: No such file or directory" \
        quantize src new
}

@test "links to nowhere on both sides end nothing" {
    own_source
    ln -s nowhere src/gone
    ln -s round dst/round
    rm -r dst/assets
    echo x >src/generation_config.json
    tells "warning src/gone: cannot stat: No such file or directory; so no files in folders are looked at" \
        "warning dst/round: cannot stat: Too many levels of symbolic links; so no files in folders are looked at" \
        "warning generation_config.json: not as in the source; vLLM and SGLang take how to sample and where to end from it"
}

# unreadable FILE...: each in its place in the source becomes a link to nowhere.
unreadable() {
    for file; do
        ln -sf nowhere "src/$file"
    done
}

# cannot FILE...: what is told of each, in any order, and once of one of them
# what follows from it.
cannot() {
    program "$1" verify src dst --json
    "$PYTHON" -c '
import json, sys
end = "; " + sys.argv[1]
lines = json.load(open("out"))["warning_list"]
assert sum(line.endswith(end) for line in lines) == 1, lines
for line in lines:
    print(line.removesuffix(end))' "$of_result" | LC_ALL=C sort >told
    shift
    printf '%s\n' "$@" | LC_ALL=C sort >wanted
    diff wanted told
}

@test "several links to nowhere in the source: each is told, and demanded" {
    own_source
    none="cannot stat: No such file or directory"
    rm dst/tokenizer_config.json dst/chat_template.jinja \
        dst/generation_config.json
    unreadable tokenizer_config.json chat_template.jinja generation_config.json
    cannot 0 "src/tokenizer_config.json: $none" \
        "src/chat_template.jinja: $none" "src/generation_config.json: $none"
    # What the result has is not said to be without a source.
    unreadable tokenizer.json
    cannot 0 "src/tokenizer_config.json: $none" "src/tokenizer.json: $none" \
        "src/chat_template.jinja: $none" "src/generation_config.json: $none"
    # A source is meant to have a tokenizer and code that are such links.
    rm dst/tokenizer.json
    unreadable configuration_x.py preprocessor_config.json
    echo '{"processor_class": "X"}' >dst/processor_config.json
    for folder in src dst; do
        sed -i '1s/{/{"auto_map": {"AutoConfig": "configuration_x.XConfig"},/' \
            $folder/config.json
    done
    program 3 verify src dst --json
    "$PYTHON" -c '
import json
d = json.load(open("out"))
assert sorted(line[:line.index(":")] for line in d["fault_list"]) == [
    "configuration_x.py", "preprocessor_config.json", "tokenizer.json"], d
assert len(d["warning_list"]) == 7, d'
}

@test "a folder of the source that is a link to nowhere" {
    own_source
    mkdir dst/additional_chat_templates
    echo x >dst/additional_chat_templates/tool.jinja
    unreadable additional_chat_templates
    none="cannot stat: No such file or directory"
    cannot 0 "src/additional_chat_templates: $none" \
        "src/additional_chat_templates/tool.jinja: $none"
}

@test "a source with more files than are listed, and one that may not be read" {
    own_source
    mkdir src/many
    (cd src/many && seq 20001 | xargs touch)
    tells "warning src: expected at most 20000 files and folders, found more; links that lead round?; $of_result"
    rm -r src/many
    ln -s . src/round
    program 0 verify src dst --json
    holds out 'len(d["warning_list"]) == 1' \
        '"a loop of links?; so of files in folders" in d["warning_list"][0]'
    rm src/round
    [ "$(id -u)" -ne 0 ] || return 0
    mkdir -m 0 src/lost+found
    tells "warning src/lost+found: cannot list: Permission denied; $of_result"
    rmdir src/lost+found
    chmod 0 src/tokenizer.json
    tells "warning src/tokenizer.json: cannot open: Permission denied"
}

sampling="vLLM and SGLang take how to sample and where to end from it"
any="loaders, or the model's own code, may read it"

# odd KIND PATH: something of that name that is no file.
odd() {
    case $1 in
        fifo) mkfifo "$2" ;;
        device) ln -s /dev/null "$2" ;;
        socket) "$PYTHON" -c 'import socket, sys
socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$2" ;;
    esac
}

@test "fifo, socket and device in place of a file" {
    own_source
    for kind in fifo socket device; do
        rm dst/generation_config.json
        odd $kind dst/generation_config.json
        tells "warning generation_config.json: no plain file; $sampling"
        # Whatever the result has in its place: there is nothing to compare.
        rm src/generation_config.json
        odd $kind src/generation_config.json
        tells "warning generation_config.json: no plain file in the source; $sampling"
        rm dst/generation_config.json
        cp "$shared/src/generation_config.json" dst
        tells "warning generation_config.json: no plain file in the source; $sampling"
        rm src/generation_config.json
        cp "$shared/src/generation_config.json" src
        # And under names that the other side has not.
        odd $kind src/pipe.json
        odd $kind dst/chat_template.json
        tells "warning pipe.json: no plain file in the source; $any" \
            "warning chat_template.json: not in the source; prompts are made by it"
        rm src/pipe.json dst/chat_template.json
        # Nothing reads these.
        odd $kind src/assets/pipe
        odd $kind dst/pipe.json
        tells "note assets/pipe: missing or not as in the source; no loader opens it"
        rm src/assets/pipe dst/pipe.json
    done
}

@test "side files that vanish or shrink while verify runs" {
    own_source
    echo one >src/last.json
    echo one >src/late.json
    cp src/last.json src/late.json dst
    truncate -s 2G src/.first dst/.first # of holes, and compared before
    "$PYTHON" - "$fp8cast" >lines <<'PYTHON_END'
import json, os, pty, subprocess, sys
master, slave = pty.openpty()
run = subprocess.Popen([sys.argv[1], "verify", "src", "dst", "--json"],
                       stderr=slave, stdout=subprocess.PIPE,
                       env={**os.environ, "TERM": "xterm"})
os.close(slave)
# Progress is shown before the first byte is compared.
os.read(master, 1)
os.remove("src/last.json")
os.truncate("src/late.json", 0)
os.truncate("dst/.first", 0)
document, _ = run.communicate()
assert run.returncode == 0, run.returncode
for line in json.loads(document)["warning_list"]:
    print(line)
PYTHON_END
    sed 's/byte [0-9]*, [0-9]* more/byte N, M more/' lines >told
    cat >wanted <<'END'
dst/.first: ends at byte N, M more were expected; did it change while it was read?
src/last.json: cannot open: No such file or directory
late.json: not as in the source; loaders, or the model's own code, may read it
END
    diff wanted told
}

@test "a long file is compared with progress, and can be stopped" {
    own_source
    truncate -s 64G src/long.json dst/long.json # of holes
    "$PYTHON" - "$fp8cast" <<'PYTHON_END'
import os, pty, re, signal, subprocess, sys, time
master, slave = pty.openpty()
run = subprocess.Popen(
    [sys.argv[1], "verify", "src", "dst"], stderr=slave,
    stdout=subprocess.DEVNULL, env={**os.environ, "TERM": "xterm"},
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
os.close(slave)
text, done = b"", set()
while len(done) < 4:
    text += os.read(master, 4096)
    done = set(re.findall(rb"verify: (\S+ .?B) of 68\.7 GB", text))
began = time.monotonic()
run.send_signal(signal.SIGINT)
status = run.wait(30)
assert time.monotonic() - began < 1, time.monotonic() - began
assert status == 1, status
rest = os.read(master, 4096)
assert rest.endswith(b"fp8cast: stopped; the same command begins anew\r\n"), rest
PYTHON_END
}

# in_time: verify finds faults, within far less than the 40 seconds and more that
# it took to hold each file against every other.
in_time() {
    local status=0
    timeout 20 "$fp8cast" verify "$src" dst --json >out || status=$?
    [ "$status" -eq 3 ]
}

@test "many missing files take no time" {
    cp -r "$src" many
    src=many
    rm many/tokenizer.json dst/tokenizer.json
    (cd dst && seq -f %g.txt 19000 | xargs touch)
    (cd many && seq -f %g.model 19000 | xargs touch)
    in_time
    holds out 'd["warnings"] == 0' \
        'd["fault_list"] == ["1.model: missing, and no other tokenizer is "
        "there; transformers has none to load, vLLM and SGLang stop at the "
        "start"]'
}

@test "much code that is missing takes no time" {
    cp -r "$src" many
    src=many
    (cd many && seq -f %g.py 19000 | xargs touch)
    "$PYTHON" - <<'PYTHON_END'
import json
for folder in "dst", "many":
    c = json.load(open(folder + "/config.json"))
    c["auto_map"] = {"a": [f"m{i}.C" for i in range(200000)] + ["9000.C"]}
    json.dump(c, open(folder + "/config.json", "w"))
PYTHON_END
    in_time
    holds out 'd["warnings"] == 18999' \
        'd["fault_list"] == ["9000.py: missing, but auto_map of config.json "
        "names it; loaders that run the model'"'"'s own code raise"]'
}

@test "the model's own code" {
    cp -r "$src" own
    echo 'class C: pass' | tee own/configuration_x.py own/modeling_x.py \
        >own/unnamed.py
    sed -i '0,/{/s//{\n  "auto_map": {"AutoConfig": "configuration_x.C", "AutoModel": ["modeling_x.C", null], "AutoTokenizer": "a\/b--other.C"},/' \
        own/config.json
    rm -r dst
    program 0 quantize own dst --quiet
    src=own
    tells
    rm dst/*_x.py dst/unnamed.py
    tells "fault configuration_x.py: missing, but auto_map of config.json names it; loaders that run the model's own code raise" \
        "fault modeling_x.py: missing, but auto_map of config.json names it; loaders that run the model's own code raise" \
        "warning unnamed.py: missing; code that loaders run where they are told to trust it"
    cp own/*.py dst
    echo 'import os' >>dst/modeling_x.py
    echo 'import os' >dst/more.py
    tells "warning modeling_x.py: not as in the source; code that loaders run where they are told to trust it" \
        "warning more.py: not in the source; code that loaders run where they are told to trust it"
}

@test "a file that SGLang reads instead of config.json" {
    # Of a source's quantize makes no copy.
    [ -e "$shared/src/quant_model_description.json" ]
    [ ! -e dst/quant_model_description.json ]
    echo '{}' >dst/quant_model_description.json
    tells "fault quant_model_description.json: SGLang reads it in place of quantization_config, and takes the weights for ModelSlim's"
}

# ---- __metadata__ ------------------------------------------------------------

@test "__metadata__: none, of another framework, without a format" {
    n=$(find dst -name 'model-*.safetensors' | wc -l)
    [ "$n" -gt 2 ]
    first=$(cd dst && ls model-00001-*.safetensors)
    second=$(cd dst && ls model-00002-*.safetensors)
    sabotage metadata null
    tells "note $first: no __metadata__, in $n of $n shards; early releases of transformers 4 raise, without FP8 blockwise themselves"
    fresh
    sabotage metadata '{"format": "np"}' "$first"
    tells "warning $second: __metadata__: expected \"format\": \"pt\", found np, in $((n - 1)) of $n shards; transformers 4 raises"
    fresh
    sabotage metadata '{}'
    tells "warning $first: __metadata__: expected \"format\": \"pt\", found none, in $n of $n shards; transformers 4 raises"
    fresh
    sabotage metadata '{"made_by": "somebody", "format": "pt"}'
    tells
    for format in mlx tf flax; do
        sabotage metadata "{\"format\": \"$format\"}"
        tells "note $first: __metadata__: expected \"format\": \"pt\", found $format, in $n of $n shards; transformers 4 takes it for pt"
    done
    # One file without an index is another matter.
    fresh "$shared/e8m0"
    for format in tf flax; do
        sabotage metadata "{\"format\": \"$format\"}"
        tells "warning model.safetensors: __metadata__: expected \"format\": \"pt\", found $format, in 1 of 1 shards; transformers 4 takes it for another framework's"
    done
    sabotage metadata '{"format": "mlx"}'
    tells "note model.safetensors: __metadata__: expected \"format\": \"pt\", found mlx, in 1 of 1 shards; transformers 4 takes it for pt"
}

@test "__metadata__: a long format is cut between characters, and marked" {
    first=$(cd dst && ls model-00001-*.safetensors)
    n=$(find dst -name 'model-*.safetensors' | wc -l)
    for pair in 12345678901234:12345678901234 \
        123456789012345:12345678901234... \
        123456789012é:123456789012é 1234567890123é:1234567890123... \
        123456789012345678:12345678901234... ééééééééé:ééééééé...; do
        sabotage metadata "{\"format\": \"${pair%%:*}\"}"
        tells "warning $first: __metadata__: expected \"format\": \"pt\", found ${pair#*:}, in $n of $n shards; transformers 4 raises"
    done
}

# ---- quantization_config -----------------------------------------------------

c="config.json: quantization_config:"

@test "scale_fmt over scales that are no powers of two" {
    sabotage set scale_fmt '"ue8m0"'
    program 3 verify "$src" dst --json
    # All but the blocks whose scale happens to be one.
    "$PYTHON" - "$src" "$BATS_TEST_DIRNAME" >wanted <<'PYTHON_END'
import sys
sys.path.insert(0, sys.argv[2])
import numpy as np
import sabotage
c = sabotage.Checkpoint("dst")
scales = np.concatenate([
    np.frombuffer(bytes(t.data), "<u2") for held in c.shards.values()
    for name, t in held.items() if name.endswith(sabotage.SCALE)])
others = int(np.count_nonzero(scales & 0x7f))
print(f"config.json: quantization_config: \"scale_fmt\": \"ue8m0\", but "
      f"{others} of {len(scales)} scales are no powers of two: on a GPU "
      f"transformers makes some of them, and leaves the codes as they are, "
      f"without a word")
PYTHON_END
    holds out "d['fault_list'] == [open('wanted').read().strip()]"
    # Powers of two in BF16 are what it says.
    rm -r dst
    program 0 quantize "$src" dst --scales pow2 --quiet
    sabotage set scale_fmt '"ue8m0"'
    tells
}

@test "scale_fmt that is none, and that lacks" {
    sabotage set scale_fmt '"float"'
    tells
    sabotage set scale_fmt '"fp32"'
    tells "fault $c expected \"scale_fmt\": \"ue8m0\", \"float\" or none, found fp32; transformers raises"
    sabotage set scale_fmt null
    tells "fault $c expected \"scale_fmt\": \"ue8m0\", \"float\" or none, found no string; transformers raises"
    fresh "$shared/e8m0"
    tells
    sabotage unset scale_fmt
    tells "note $c no \"scale_fmt\": \"ue8m0\", though scales are F8_E8M0: SGLang does not round the scales of activations likewise"
}

@test "members that change how the weights are read" {
    sabotage set store_dtype '"mxfp4"'
    sabotage set routed_experts_quant_method '"mxfp4"'
    sabotage set load_in_8bit true
    sabotage set load_in_4bit 1
    sabotage set modules_to_convert '["embed_tokens"]'
    sabotage set dequantize true
    sabotage set is_amax_kept true
    b="transformers takes the weights for those of bitsandbytes"
    tells "fault $c \"store_dtype\": vLLM takes the experts for MXFP4" \
        "fault $c \"routed_experts_quant_method\": SGLang takes the experts for MXFP4" \
        "fault $c \"load_in_8bit\": $b" "fault $c \"load_in_4bit\": $b" \
        "fault $c \"modules_to_convert\": transformers makes embeddings of these names FP8, which none is here" \
        "note $c \"dequantize\": transformers restores the weights to BF16 when it loads them" \
        "note $c \"is_amax_kept\" is not known to be read by transformers, vLLM or SGLang"
}

@test "members by which vLLM finds ModelOpt's weights" {
    taken="fault $c \"quantization\": by its quant_algo vLLM takes the weights for ModelOpt's, or raises"
    # Nothing comes of these.
    sabotage set producer '{"name": "modelopt", "version": "0.29"}'
    tells
    sabotage set quantization '{"quant_algo": null}'
    tells
    sabotage set quantization '{"quant_algo": "FP8"}'
    tells "$taken"
    sabotage set producer '{"name": "other"}'
    tells
    sabotage set quantization '{"quant_algo": "W4A16", "modelopt_quant_config": {}}'
    tells "$taken"
    sabotage set producer '"modelopt"'
    tells "fault $c \"producer\" is no object; vLLM raises"
    sabotage set producer '{"name": "modelopt"}'
    sabotage set quantization '"FP8"'
    tells "fault $c \"quantization\" is no object, beside a producer modelopt; vLLM raises"
}

@test "experts that transformers takes for FP4" {
    sabotage set expert_dtype '"fp4"'
    tells "fault $c \"expert_dtype\": transformers takes the experts for FP4, or raises"
    sabotage set expert_dtype null
    tells "fault $c \"expert_dtype\": transformers takes the experts for FP4, or raises"
    sabotage set expert_dtype '"fp8"'
    tells
}

@test "the same members, without effect" {
    sabotage set store_dtype null
    sabotage set routed_experts_quant_method '"fp8"'
    sabotage set load_in_8bit false
    sabotage set load_in_4bit 0
    sabotage set modules_to_convert '[]'
    sabotage set dequantize false
    sabotage set fmt '"float8_e4m3fn"'
    tells
    sabotage unset fmt
    tells
}

# ---- the list under its other name -------------------------------------------

list_of() {
    "$PYTHON" -c '
import json
print(json.dumps(json.load(open("dst/config.json"))["quantization_config"][
    "modules_to_not_convert"]))'
}

@test "ignored_layers: the same, alone, empty, none" {
    sabotage set ignored_layers "$(list_of)"
    tells
    sabotage set modules_to_not_convert null
    tells
    fresh
    sabotage set ignored_layers '[]'
    tells "fault $c \"ignored_layers\" is empty, and SGLang reads it in place of modules_to_not_convert"
    sabotage set ignored_layers null
    tells "fault $c \"ignored_layers\" is no array, and SGLang reads it in place of modules_to_not_convert"
    sabotage set ignored_layers '"lm_head"'
    tells "fault $c \"ignored_layers\" is no array, and SGLang reads it in place of modules_to_not_convert"
    sabotage set ignored_layers "$(list_of)"
    sabotage set modules_to_not_convert '"lm_head"'
    tells "fault $c expected an array \"modules_to_not_convert\""
}

@test "ignored_layers that contradicts: each list by its name" {
    sabotage set ignored_layers "$(list_of)"
    sabotage list-too mtp.fc # a second time: another list, no other meaning
    tells
    fresh
    sabotage set ignored_layers "$(list_of | sed 's/"lm_head", //')"
    tells "fault config.json: ignored_layers: lm_head is not FP8 and not listed; a loader would convert it: transformers does on a GPU, vLLM and SGLang do not"
    fresh
    sabotage set ignored_layers "$(list_of | sed 's/\[/["mtp", /')"
    tells 'fault config.json: ignored_layers: "mtp" also means mtp.layers.0.mlp.experts, which is FP8: vLLM raises, SGLang takes its codes for weights without a word'
}
