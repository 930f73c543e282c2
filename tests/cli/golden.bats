#!/usr/bin/env bats
# What the commands print, word for word, on a miniature that synth writes:
# help, tables, --json. Times, speeds and what depends on the machine are
# replaced by letters first.
#
# UPDATE_GOLDEN=1 writes the files of tests/golden/cli instead of comparing;
# read them before they are committed.

# shellcheck disable=SC2154,SC2164  # set by helpers.bash; bats stops at cd
load helpers

setup_file() {
    begin_file
    program_here() { (cd "$shared" && "$fp8cast" "$@"); }
    program_here synth SRC --layers 4 --experts 3 --vocab 400 --shards 2 --quiet
    mkdir "$shared/SRC/old"
    echo pickled >"$shared/SRC/pytorch_model.bin"
    echo weights >"$shared/SRC/old/model.gguf"
    program_here quantize SRC DST --shard-size 2MB --threads 1 --quiet
}
teardown_file() { end_file; }
setup() {
    begin_test
    ln -s "$shared/SRC" SRC
}
teardown() { end_test; }

normalise() {
    sed -E \
        -e 's/[0-9]+\.[0-9]+ s\b|[0-9]+ min [0-9]+ s\b/T s/g' \
        -e 's/^([a-z]+: model.*\()[0-9]+( of [0-9]+\), ).*/\1N\2PROGRESS/' \
        -e 's/[0-9.]+ GB\/s|-$/R GB\/s/' \
        -e 's/"seconds": [0-9.e-]+/"seconds": T/' \
        -e 's/^(peak memory +).*/\1M/' \
        -e 's/"memory_bytes": [0-9]+/"memory_bytes": M/' \
        -e 's/^( +)[0-9,]+ bytes \([0-9.]+ [kMGTP]?B\) there$/\1F there/' \
        -e 's/"free_bytes": [0-9]+/"free_bytes": F/' \
        -e 's/^fp8cast [0-9]+\.[0-9]+\.[0-9]+$/fp8cast VERSION/' \
        -e 's/\.rules:[0-9]+:/.rules:N:/' "$@"
}

# is_golden NAME FILE: the file is as tests/golden/cli/NAME. Shards may be
# finished, and told of, in another order.
is_golden() {
    if grep -q PROGRESS < <(normalise "$2"); then
        normalise "$2" | LC_ALL=C sort >normal
    else
        normalise "$2" >normal
    fi
    if [ -n "$UPDATE_GOLDEN" ]; then
        cp normal "$golden/cli/$1"
    elif ! diff "$golden/cli/$1" normal; then
        echo "another text than tests/golden/cli/$1"
        return 1
    fi
}

# prints NAME STATUS ARGUMENT...: NAME.txt is its stdout (.json with --json),
# NAME.err.txt its stderr, which must be empty when there is no such file.
prints() {
    local name=$1 end=txt
    case " $* " in
        *" --json "*) end=json ;;
    esac
    shift
    program "$@"
    if [ -s out ]; then
        is_golden "$name.$end" out
    fi
    if [ -s err ]; then
        is_golden "$name.err.txt" err
    fi
    if [ -z "$UPDATE_GOLDEN" ]; then
        [ -s out ] || [ ! -e "$golden/cli/$name.$end" ]
        [ -s err ] || [ ! -e "$golden/cli/$name.err.txt" ]
    fi
    if [ "$end" = json ]; then holds out 'd or d == []'; fi
}

@test "help" {
    prints usage 2
    prints help 0 help
    prints help-all 0 help --all
    for command in quantize dequantize plan verify diff inspect roofline \
        report synth rules help; do
        prints "help-$command" 0 help "$command"
    done
    prints version 0 --version
}

@test "plan" {
    prints plan 0 plan SRC --threads 2
    prints plan 0 plan SRC --threads 2 --json
    prints plan-options 0 plan SRC DST --threads 2 --scale-dtype f32 \
        --scales pow2 --keep '*.experts.*' --shard-size 1MB
    prints plan-tensors 0 plan SRC --threads 2 --tensors
}

@test "plan: no --json for all tensors in a golden file, but its form" {
    program 0 plan SRC --tensors --json
    holds out 'len(d["tensors"]) == d["source"]["tensors"]' \
        'all(list(t) == ["name", "file", "dtype", "shape", "action", "rule",
             "results"] for t in d["tensors"])' \
        'all(list(r)[:3] == ["name", "dtype", "shape"] and "shard" in r
             for t in d["tensors"] for r in t["results"])'
}

@test "roofline" {
    prints roofline 0 roofline SRC --context 1000
    prints roofline 0 roofline SRC --context 1000 --bandwidth 1GB/s --json
}

@test "quantize" {
    prints quantize 0 quantize SRC DST --shard-size 2MB --threads 1
    prints quantize-again 0 quantize SRC DST --shard-size 2MB --threads 1
    prints quantize-again 0 quantize SRC DST --shard-size 2MB --threads 1 --json
    rm DST/model-00002-of-*.safetensors DST/config.json
    prints quantize-resumed 0 quantize SRC DST --shard-size 2MB --threads 1
    prints quantize-verify 0 quantize SRC OTHER --threads 1 --verify \
        --keep '*'
    prints quantize-shards 0 quantize SRC JSON --threads 1 --verify --json \
        --shard-size 2MB
}

@test "dequantize" {
    ln -s "$shared/DST" DST
    prints plan-dequantize 0 plan DST --dequantize --threads 2
    prints dequantize 0 dequantize DST BACK --fuse --threads 1
    prints dequantize-again 0 dequantize DST BACK --fuse --threads 1 --json
}

@test "verify" {
    ln -s "$shared/DST" DST
    prints verify 0 verify SRC DST
    prints verify 0 verify SRC DST --json
}

@test "diff" {
    ln -s "$shared/DST" DST
    prints diff 3 diff SRC DST --top 5
    prints diff-same 0 diff SRC SRC
    "$fp8cast" synth A --layers 4 --experts 2 --vocab 300 --hidden 128 -q
    "$fp8cast" synth B --layers 4 --experts 3 --vocab 400 --hidden 128 -q
    sed -i -e '/"image_token_id"/d' -e 's/"silu"/"gelu"/' B/config.json
    prints diff-shapes 3 diff A B
    prints diff-shapes 3 diff A B --json
}

@test "scales of the least error, and powers of two" {
    prints quantize-mse 0 quantize SRC MSE --threads 1 --verify --scales mse
    prints quantize-pow2 0 quantize SRC POW2 --threads 1 --verify --json \
        --scales pow2
}

@test "verify: faults" {
    cp -r "$shared/DST" DST
    # Without the saboteur, whose numpy is not needed here: config.json is
    # text, and the last byte of a file is a code.
    sed -i -e '/"mtp.fc",/d' -e 's/"lm_head"/"mtp"/' -e '/"activation_scheme"/d' \
        -e 's/"vocab_size": 400/"vocab_size": 4000/' DST/config.json
    sed -i 's/"total_size": /"total_size": 1/' DST/model.safetensors.index.json
    printf '\177' | dd of=DST/model-00001-of-00004.safetensors bs=1 \
        seek=$(($(stat -c %s DST/model-00001-of-00004.safetensors) - 1)) \
        conv=notrunc status=none
    prints verify-faults 3 verify SRC DST
    prints verify-faults-quiet 3 verify SRC DST --quiet
}

@test "verify: warnings and notes" {
    cp -r "$shared/DST" DST
    sed -i '/"quant_method"/s/$/ "made_by": "somebody",/' DST/config.json
    rm DST/generation_config.json
    echo >>DST/tokenizer_config.json
    prints verify-remarks 0 verify SRC DST
    prints verify-remarks 0 verify SRC DST --json
}

@test "inspect" {
    ln -s "$shared/DST" DST
    prints inspect-source 0 inspect SRC
    prints inspect-source 0 inspect SRC --json
    prints inspect-result 0 inspect DST
    prints inspect-result 0 inspect DST --json
    prints inspect-file 0 inspect SRC/model-00002-of-00002.safetensors
    prints inspect-tensors 0 inspect SRC/model-00002-of-00002.safetensors \
        --tensors
    mkdir broken
    cp -r SRC/* broken
    sed -i -e 's/"mtp.norm.weight"/"mtp.gnome.weight"/' \
        broken/model.safetensors.index.json
    prints inspect-disagrees 1 inspect broken
}

@test "synth" {
    prints synth 0 synth one --shards 2
    prints synth 0 synth two --shards 2 --seed 7 --json
    prints synth-sparse 0 synth three --model qwen3.6-35b-a3b --layers 4 --sparse
    mkdir taken
    echo mine >taken/notes.txt
    prints synth-refused 1 synth taken
    prints synth-no-model 1 synth four --model qwen
}

@test "rules" {
    prints rules 0 rules
    prints rules 0 rules --json
    prints rules-none 1 rules qwen3_5_mo
    prints rules-unknown 1 rules bert
}

@test "no line is longer than 80 columns, but for names of tensors" {
    cd "$golden/cli"
    # Characters, not bytes. Faults, refusals and progress (on stderr) are
    # sentences of one line by contract.
    "$PYTHON" - <<'END'
import glob
import re
faults = []
for path in sorted(glob.glob("*.txt")):
    if path.endswith((".err.txt", "-tensors.txt")):
        continue
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        line = line.rstrip("\n")
        if len(line) <= 80:
            continue
        if re.search(r"\b(model\.(language_model|visual)|mtp)\.", line):
            continue
        if path == "verify-faults.txt" and line.startswith("  "):
            continue
        faults.append(f"{path}:{number}: {len(line)} columns: {line}")
assert not faults, "\n".join(faults)
END
}

@test "every golden file is written by a test" {
    # Each is mentioned in this file by its name, without endings.
    for file in "$golden"/cli/*; do
        name=$(basename "$file")
        name=${name%.err.txt}
        name=${name%.txt}
        name=${name%.json}
        case $name in
            help-*) continue ;;
        esac
        grep -q "prints $name [0-3]" "$BATS_TEST_FILENAME" || {
            echo "stale: $file"
            false
        }
    done
}

# ---- stdout and stderr -------------------------------------------------------

@test "--json: one document on stdout, --quiet: nothing at all" {
    for command in "plan SRC" "quantize SRC DST" "verify SRC DST" \
        "diff SRC SRC" "inspect SRC" "inspect DST" "synth new"; do
        # The words are to be split.
        # shellcheck disable=SC2086
        program 0 $command --json --quiet
        [ ! -s err ]
        holds out 'isinstance(d, dict)'
        rm -rf new
        # shellcheck disable=SC2086
        program 0 $command --quiet
        [ ! -s err ]
        [ ! -s out ]
    done
}

@test "elsewhere progress is one line for each shard" {
    program 0 quantize SRC LINES --shard-size 2MB
    form='^quantize: model-0000[1-4]-of-00004\.safetensors \([1-4] of 4\), [0-9.]+ k?M?B of 11\.4 MB, [0-9.]+ %, [0-9.]+ GB/s(, [0-9.]+ s left)?$'
    fails grep -qvE "$form" err
    # Counted in order, each shard once.
    sed -E 's/.*\(([0-9]) of.*/\1/' err | diff - <(printf '%s\n' 1 2 3 4)
    [ "$(sed -E 's/ \(.*//' err | sort -u | wc -l)" -eq 4 ]
    grep -qE '\(4 of 4\), 11\.4 MB of 11\.4 MB, 100\.0 %' err
}

@test "on a terminal progress is one line that is wiped out in the end" {
    "$PYTHON" -c 'import os; os.openpty()' 2>/dev/null ||
        skip "no pseudo-terminals here"
    "$PYTHON" - "$fp8cast" <<'END'
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

master, slave = pty.openpty()
columns = 50
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
child = subprocess.Popen([sys.argv[1], "quantize", "SRC", "TTY"], stderr=slave,
                         stdout=subprocess.DEVNULL,
                         env=dict(os.environ, TERM="xterm"))
os.close(slave)
text = b""
try:
    while chunk := os.read(master, 4096):
        text += chunk
except OSError:  # how Linux tells that the other side is closed
    pass
assert child.wait() == 0
text = text.decode()
assert "\n" not in text, text
assert text.startswith("\rquantize: ") and text.endswith("\r\x1b[K"), repr(text)
for line in text.split("\r"):
    assert len(line.replace("\x1b[K", "")) < columns, repr(line)
assert re.search(r"quantize: [0-9.]+ k?M?B of 11\.4 MB, \d", text), repr(text)
END
    # No such line where it would be no use.
    program 0 quantize SRC DUMB
    LC_ALL=C fails grep -q "$(printf '\033')" err
}

# shown COMMAND: what README.md has of its output, without words on what is left
# out.
shown() {
    awk -v "command=\$ fp8cast $1" '$0 == command { on = 1; next }
        on && /^```/ { exit } on && !/^\(/' "$root/README.md" >readme
    [ -s readme ]
}

@test "README shows what the program prints" {
    program 0 synth full --model qwen3.6-35b-a3b --sparse --quiet
    program 0 plan full
    shown "plan full"
    grep -vE '^(peak memory|threads|free space) | there$' out | diff readme -
    program 0 roofline full --bandwidth 273GB/s
    shown "roofline full --bandwidth 273GB/s"
    diff readme out
    program 0 synth bf16 --quiet
    program 0 quantize bf16 fp8 --verify
    shown "quantize bf16 fp8 --verify"
    # All of its lines, in their order, among others; times are no matter.
    normalise readme >wanted
    normalise out | diff wanted - >differences || true
    fails grep '^<' differences
}
