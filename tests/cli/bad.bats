#!/usr/bin/env bats
# Bad input: each case of make_bad.py gets its one line on stderr, which is
# tests/golden/bad/NAME.txt, and nothing is left under a final name. Further
# down: results that cannot be written.
#
# UPDATE_GOLDEN=1 writes the golden files instead of comparing; read them
# before they are committed.

# shellcheck disable=SC2154,SC2164  # set by helpers.bash; bats stops at cd
load helpers

setup_file() {
    begin_file
    "$PYTHON" "$BATS_TEST_DIRNAME/make_bad.py" "$shared"
    "$PYTHON" "$BATS_TEST_DIRNAME/make_bad.py" --list >"$shared/list"
    # What no input may exceed; a sanitizer takes more, and much of it.
    limits="2 256"
    if grep -qE '__(asan|tsan)_init' "$fp8cast"; then limits="20 0"; fi
    export limits
}
teardown_file() { end_file; }
setup() { begin_test; }
teardown() {
    if mountpoint -q "$dir/disk" 2>/dev/null; then umount "$dir/disk"; fi
    end_test
}

# nothing_final FOLDER: it is absent or holds nothing but fp8cast's own.
nothing_final() {
    local found
    [ -e "$1" ] || return 0
    found=$(find "$1" -mindepth 1 -path "$1/.fp8cast" -prune -o -print)
    if [ -n "$found" ]; then
        echo "left in $1: $found"
        return 1
    fi
}

# Line numbers of rules files move with every edit; plan.bats checks them.
without_rule_lines() {
    sed 's/\.rules:[0-9]*:/.rules:N:/'
}

# one_case NAME COMMAND: runs it in the case's folder.
one_case() {
    local status=0 expected="$golden/bad/$1.txt"
    cd "$shared/$1"
    # The limits are two words.
    # shellcheck disable=SC2086
    "$PYTHON" "$BATS_TEST_DIRNAME/limited.py" $limits \
        "$fp8cast" "$2" DIR DST --threads 1 >"$dir/out" 2>"$dir/err" ||
        status=$?
    cd "$dir"
    without_rule_lines <err >found
    if [ "$status" -ne 1 ]; then
        echo "$1: $2: exit status $status"
        cat "$dir/err"
        return 1
    fi
    if [ -s out ] || [ "$(wc -l <err)" -ne 1 ]; then
        echo "$1: $2: expected one line on stderr and none on stdout:"
        cat err out
        return 1
    fi
    if [ -n "$UPDATE_GOLDEN" ]; then
        cp found "$expected"
    elif ! diff "$expected" found; then
        echo "$1: $2: another line than $expected"
        return 1
    fi
    nothing_final "$shared/$1/DST"
}

# cases PREFIX...: all whose names begin so, with all their commands.
cases() {
    local prefix name commands command count=0 failed=0
    for prefix; do
        while read -r name commands; do
            for command in $commands; do
                count=$((count + 1))
                one_case "$name" "$command" || failed=$((failed + 1))
            done
        done < <(grep "^$prefix" "$shared/list")
    done
    echo "$count runs, $failed failed"
    [ "$count" -ge 5 ]
    [ "$failed" -eq 0 ]
}

@test "the miniature itself is good" {
    program 0 plan "$shared/good/DIR"
    program 0 quantize "$shared/good/DIR" dst --verify
}

@test "every case has a golden file and every golden file a case" {
    diff <(cut -d' ' -f1 "$shared/list" | sort) \
        <(cd "$golden/bad" && ls | sed 's/\.txt$//' | sort)
    [ "$(wc -l <"$shared/list")" -ge 120 ]
    # One line each, and it begins with the program's name.
    for file in "$golden"/bad/*.txt; do
        [ "$(wc -l <"$file")" -eq 1 ]
        grep -q '^fp8cast: ' "$file"
        fails grep -qP '[\x00-\x08\x0b-\x1f\x7f]' "$file"
    done
}

@test "shards that are cut, broken, missing, in surplus" { cases shard; }
@test "headers" { cases header; }
@test "entries of a header" { cases entry; }
@test "an index that does not fit its shards" { cases index; }
@test "folders without weights" { cases weights folder; }
@test "config.json" { cases config; }
@test "tensors that the rules do not fit" { cases tensor experts name; }
@test "NaN and infinity" { cases nan inf minus; }

@test "every case belongs to one of the tests above" {
    fails grep -vE '^(shard|header|entry|index|weights|folder|config|tensor|experts|name|nan|inf|minus)' \
        "$shared/list"
}

# no_controls FILE: no control character but the end of a line, not even in
# the UTF-8 form of U+0080 to U+009F.
no_controls() {
    LC_ALL=C fails grep -qP '[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]' "$1"
}

# limited STATUS ARGUMENT...: as program, within the limits.
limited() {
    local wanted=$1 found=0
    shift
    # shellcheck disable=SC2086
    "$PYTHON" "$BATS_TEST_DIRNAME/limited.py" $limits "$fp8cast" "$@" \
        >out 2>err || found=$?
    if [ "$found" -ne "$wanted" ]; then
        echo "fp8cast $*: exit status $found, expected $wanted"
        cat err
        return 1
    fi
}

@test "inspect and verify of every case stay within the limits" {
    local name commands failed=0 status
    program 0 quantize "$shared/good/DIR" dst --quiet
    while read -r name commands; do
        for command in "inspect --tensors" "verify $shared/good/DIR"; do
            status=0
            # shellcheck disable=SC2086
            "$PYTHON" "$BATS_TEST_DIRNAME/limited.py" $limits \
                "$fp8cast" $command "$shared/$name/DIR" >out 2>err || status=$?
            # A folder with weights of NaN, or rules that do not fit, may be
            # listed; none of them is a result.
            case $command:$status in
                inspect*:[01] | verify*:[13]) ;;
                *) echo "$name: $command: $status" && cat err &&
                    failed=$((failed + 1)) ;;
            esac
            no_controls out && no_controls err || failed=$((failed + 1))
            [ "$(wc -l <err)" -le 2 ] || failed=$((failed + 1))
        done
    done <"$shared/list"
    [ "$failed" -eq 0 ]
}

@test "300,000 tensors in an index of 30 MB are nothing special" {
    "$PYTHON" "$BATS_TEST_DIRNAME/extreme.py" wide src
    limited 0 inspect src --json
    holds out 'd["tensors"] == 300000' 'd["agrees"] is True' 'd["files"] == 64'
    limited 0 plan src --rules src/my.rules --json
    holds out 'd["result"]["tensors"] == 300000'
    # One name of the index is not there.
    sed 's/layers\.90\.mlp\.experts\.7\.up_proj\.weight"/&x/; s/weight"x/weightx"/' \
        src/model.safetensors.index.json >index
    mv index src/model.safetensors.index.json
    limited 1 plan src --rules src/my.rules
    [ "$(wc -l <err)" -eq 1 ]
    grep -q ': tensor model.language_model.layers.90.mlp.experts.7.up_proj.weight is not in model.safetensors.index.json$' err
}

@test "a few tensors that stand for millions are refused before they are made" {
    program 0 synth src --sparse --experts 65536 --layers 16 --quiet
    for command in "plan src" "quantize src dst" "verify src src" \
        "roofline src"; do
        # shellcheck disable=SC2086
        limited 1 $command
        without_rule_lines <err >found
        mv found err
        says "fp8cast: tensor model.language_model.layers.2.mlp.experts.gate_up_proj: expected a result of at most 1000000 tensors, scales among them, found more (qwen3_5_moe.rules:N: split model.language_model.layers.{n}.mlp.experts.gate_up_proj)"
    done
    [ ! -e dst ]
    "$PYTHON" "$BATS_TEST_DIRNAME/extreme.py" fused few
    limited 1 diff few/a few/b
    says "fp8cast: tensor model.language_model.layers.7.mlp.experts.gate_up_proj: expected fused tensors of at most 1000000 parts in all, found more"
    "$PYTHON" "$BATS_TEST_DIRNAME/extreme.py" stacked .
    limited 1 diff a.safetensors b.safetensors
    says "fp8cast: tensor 15: expected at most 1000000 matrices and other tensors to compare, found more"
}

@test "files of holes whose sizes add up to more than 64 bits" {
    # Only some file systems have such.
    holes=$(mktemp -d /dev/shm/fp8cast-bats.XXXXXX 2>/dev/null) ||
        skip "no /dev/shm here"
    if ! truncate -s 4E "$holes/large.txt" 2>/dev/null; then
        rm -r "$holes"
        skip "no files of 4 EiB here"
    fi
    "$PYTHON" - "$holes" "$BATS_TEST_DIRNAME" <<'END'
import json
import os
import sys
sys.path.insert(0, sys.argv[2])
import extreme
os.makedirs("src")
names = [f"{i}.safetensors" for i in range(4)]
for i, name in enumerate(names):
    path = os.path.join(sys.argv[1], name)
    extreme.write_holes(path, [(str(i), "U8", [1 << 62], 1 << 62)])
    os.symlink(path, os.path.join("src", name))
extreme.write("src/config.json", b'{"model_type": "odd"}')
extreme.write("src/model.safetensors.index.json", json.dumps(
    {"weight_map": {str(i): name for i, name in enumerate(names)}}).encode())
extreme.write("my.rules", b"family odd\nkeep *\n")
END
    status=0
    "$fp8cast" plan src --rules my.rules --follow-links >all 2>&1 || status=$?
    "$fp8cast" inspect src >>all 2>&1 || status=$status$?
    # And of what lies beside the weights.
    cp -r "$shared/good/DIR" good
    ln -s "$holes/large.txt" good/large.txt
    "$fp8cast" plan good --follow-links >>all 2>&1 || status=$status$?
    rm -r "$holes"
    cat all
    [ "$status" = 111 ]
    line="expected tensors of at most 72057594037927936 bytes in all, found more"
    diff all - <<END
fp8cast: src: $line
fp8cast: src: $line
fp8cast: large.txt: expected files of at most 72057594037927936 bytes in all beside the weights, found more
END
}

@test "all that is rare but right in a header is read, converted, verified" {
    "$PYTHON" "$BATS_TEST_DIRNAME/extreme.py" odd src
    limited 0 inspect src --json
    holds out 'd["tensors"] == 11' 'd["agrees"] is True'
    limited 0 quantize src dst --rules src/my.rules --verify
    limited 0 inspect dst --tensors --json
    holds out 'd["tensors"] == 12' \
        '{t["name"]: t["shape"] for t in d["tensor_list"]}["scalar"] == []' \
        '{t["name"]: t["shape"] for t in d["tensor_list"]}["empty.wide"] ==
         [0, 2**63 - 1]' \
        '"../../etc/passwd" in [t["name"] for t in d["tensor_list"]]'
    no_controls out
}

@test "a NaN in a kept tensor is copied" {
    cp -r "$shared/good/DIR" src
    "$PYTHON" - "$BATS_TEST_DIRNAME" <<'END'
import sys
sys.path.insert(0, sys.argv[1])
import make_bad
make_bad.set_weight("src", make_bad.NORM, 5, make_bad.NAN)
END
    program 0 quantize src dst --verify
    by_reference convert src theirs
    same dst theirs
}

@test "a NaN: finished shards stay, and it continues when it is mended" {
    cp -r "$shared/nan-in-weight/DIR" src
    cp "$shared/nan-in-weight/DIR/model-00002-of-00002.safetensors" broken
    program 1 quantize src dst --threads 1 --shard-size 40000
    [ "$(tail -1 err)" = "$(cat "$golden/bad/nan-in-weight.txt")" ]
    [ ! -e dst/config.json ]
    [ ! -e dst/model.safetensors.index.json ]
    [ -z "$(find dst -name '*.part')" ]
    # --quiet leaves the error, and nothing else.
    program 1 quantize src dst --threads 1 --shard-size 40000 --quiet
    says "$(cat "$golden/bad/nan-in-weight.txt")"
}

@test "verify of a broken source is a failure, not a mismatch" {
    program 0 quantize "$shared/good/DIR" dst --quiet
    for name in shard-truncated-in-data config-not-json index-parent \
        folder-missing tensor-without-rule shard-fifo; do
        program 1 verify "$shared/$name/DIR" dst
        [ "$(wc -l <err)" -eq 1 ]
        sed "s|$shared/$name/||" err | without_rule_lines |
            diff "$golden/bad/$name.txt" -
    done
}

@test "inspect lists what is wrong and fails" {
    for name in shard-truncated-in-data index-tensor-not-in-shard \
        index-tensor-not-named entry-overlap shard-stray shard-missing; do
        program 1 inspect "$shared/$name/DIR"
        says "fp8cast: $shared/$name/DIR: index and shards disagree"
        # The same sentence as that of plan, in the table; and what engines do.
        grep -qF "  $(sed 's/^fp8cast: //' "$golden/bad/$name.txt")" out
        program 1 inspect "$shared/$name/DIR" --json
        holds out 'd["agrees"] is False' 'len(d["problems"]) >= 1'
    done
    program 1 inspect "$shared/header-array/DIR/model-00001-of-00002.safetensors"
    says "$(cat "$golden/bad/header-array.txt")"
    [ ! -s out ]
    program 1 inspect "$shared/name-with-escape/DIR/model-00001-of-00003.safetensors"
    [ "$(wc -l <err)" -eq 1 ]
}

@test "inspect shows no more than 80 bytes of a value of config.json" {
    cp -r "$shared/good/DIR" src
    "$PYTHON" - <<'END'
import json
with open("src/config.json") as file:
    config = json.load(file)
config["model_type"] = "t" * 81
config["quantization_config"] = {"quant_method": "m" * 81, "fmt": "f" * 81}
with open("src/config.json", "w") as file:
    json.dump(config, file)
END
    program 0 inspect src --json
    holds out 'd["model_type"] == "t" * 80 + "..."' \
        'd["quantization"] == "m" * 80 + "..., " + "f" * 80 + "..."'
    program 0 inspect src
    fails grep -qE 't{81}|m{81}|f{81}' out
}

@test "no listing passes a terminal's escape sequences on" {
    program 0 inspect --tensors "$shared/name-with-escape/DIR"
    grep -qF 'evil\x1b[31m\x0d\x0afp8cast: all is well\x7f\xc2\x85 BF16 [2,2] 8 bytes' out
    no_controls out
    "$fp8cast" rules qwen3_5_moe >my.rules
    echo 'keep evil*' >>my.rules
    program 0 plan "$shared/name-with-escape/DIR" --rules my.rules --tensors
    grep -qF 'keep     evil\x1b[31m\x0d\x0afp8cast: all is well\x7f' out
    no_controls out
    # In JSON the name is what it is.
    program 0 inspect --tensors --json "$shared/name-with-escape/DIR"
    holds out 'any(t["name"] == "evil\x1b[31m\r\nfp8cast: all is well\x7f\x85"
                   for t in d["tensor_list"])'
    no_controls out
    # Nor does a value of config.json.
    cp -r "$shared/good/DIR" a
    cp -r "$shared/good/DIR" b
    sed -i 's/"model_type"/"del": "\x7f\x7fend", "model_type"/' b/config.json
    program 3 diff a b --json
    no_controls out
    holds out 'any("\x7f\x7fend" in (s["b"] or "") for s in d["config"])'
}

# ---- results that cannot be written ------------------------------------------

@test "a full standard output" {
    [ -e /dev/full ] || skip "no /dev/full here"
    src=$shared/good/DIR
    program 0 quantize "$src" dst --quiet
    for arguments in "plan $src" "plan $src --json" "plan $src --tensors" \
        "inspect $src" "inspect $src --tensors --json" "verify $src dst" \
        "verify $src dst --json" "quantize $src dst" "quantize $src dst --json"; do
        status=0
        # The arguments are words to be split.
        # shellcheck disable=SC2086
        "$fp8cast" $arguments >/dev/full 2>err || status=$?
        echo "$arguments: $status, $(cat err)"
        [ "$status" -eq 1 ]
        [ "$(tail -1 err)" = "fp8cast: cannot write the result: No space left on device" ]
    done
    # The conversion itself is none the worse.
    status=0
    "$fp8cast" quantize "$src" other >/dev/full 2>err || status=$?
    [ "$status" -eq 1 ]
    program 0 verify "$src" other
}

@test "no permission to read" {
    [ "$(id -u)" -ne 0 ] || skip "root may read everything"
    cp -r "$shared/good/DIR" DIR
    chmod 0 DIR/model-00002-of-00002.safetensors
    refuses "fp8cast: DIR/model-00002-of-00002.safetensors: cannot open: Permission denied" \
        plan DIR
    chmod 600 DIR/model-00002-of-00002.safetensors
    chmod 0 DIR/config.json
    refuses "fp8cast: DIR/config.json: cannot open: Permission denied" plan DIR
    chmod 0 DIR
    refuses "fp8cast: DIR: cannot open the folder: Permission denied" plan DIR
}

@test "no permission to write" {
    [ "$(id -u)" -ne 0 ] || skip "root may write everywhere"
    mkdir -m 500 locked
    refuses "fp8cast: locked/dst: cannot make the folder: Permission denied" \
        quantize "$shared/good/DIR" locked/dst
    refuses "fp8cast: locked/.fp8cast: cannot make the folder: Permission denied" \
        quantize "$shared/good/DIR" locked
    nothing_final locked
}

@test "DST whose parent is not there" {
    refuses "fp8cast: no/such/dst: cannot make the folder: expected an existing folder to make it in" \
        quantize "$shared/good/DIR" no/such/dst
    [ ! -e no ]
    refuses "fp8cast: /no-such-folder/dst: cannot make the folder: expected an existing folder to make it in" \
        quantize "$shared/good/DIR" /no-such-folder/dst
    echo >file
    program 1 quantize "$shared/good/DIR" file/dst
    [ "$(wc -l <err)" -eq 1 ]
    grep -q 'Not a directory$' err
}

# small_disk SIZE: an empty file system of that size at ./disk.
small_disk() {
    [ "$(id -u)" -eq 0 ] || skip "only root can mount"
    mkdir disk
    mount -t tmpfs -o "size=$1" none disk 2>/dev/null ||
        skip "a tmpfs cannot be mounted here"
}

@test "too little free space is told before the first write" {
    small_disk 64k
    status=0
    "$fp8cast" quantize "$shared/good/DIR" disk/dst >out 2>err || status=$?
    cat err
    nothing_final disk/dst
    [ "$status" -eq 1 ]
    [ "$(wc -l <err)" -eq 1 ]
    grep -qE '^fp8cast: disk/dst: not enough free space: expected [0-9]+ bytes, found [0-9]+$' err
}

@test "a disk that fills up during the run" {
    # Space is there when it is asked for, and gone when it is needed: the
    # program is stopped by a limit on the size of files, in whose place a
    # full disk would be.
    program 0 synth src --layers 4 --quiet
    status=0
    (
        trap '' XFSZ
        ulimit -f 2000
        exec "$fp8cast" quantize src dst --quiet
    ) >out 2>err || status=$?
    cat err
    [ "$status" -eq 1 ]
    [ "$(wc -l <err)" -eq 1 ]
    grep -q '^fp8cast: dst/.fp8cast/model.safetensors.part: .*File too large$' err
    nothing_final dst
    [ -z "$(find dst -name '*.part')" ]
    # With space it goes on.
    program 0 quantize src dst
    program 0 verify src dst
}

@test "synth where there is too little room" {
    # 2000 KiB a file, where the only shard has 17 MB.
    for kind in --quiet --sparse; do
        status=0
        (
            trap '' XFSZ
            ulimit -f 2000
            exec "$fp8cast" synth src --layers 4 --shards 1 $kind
        ) >out 2>err || status=$?
        cat err
        [ "$status" -eq 1 ]
        mv err "err$kind"
        # What it had begun is taken away again.
        [ ! -e src ]
    done
    [ "$(wc -l <err--quiet)" -eq 1 ]
    [ "$(wc -l <err--sparse)" -eq 1 ]
    # Which of its threads comes to the limit first is chance.
    grep -qE '^fp8cast: src/model.safetensors: cannot write at byte [0-9]+: File too large$' err--quiet
    grep -qE '^fp8cast: src/model.safetensors: making it [0-9]+ bytes long: File too large$' err--sparse
}

@test "synth asks for room before the first write" {
    small_disk 64k
    program 1 synth disk/src --layers 4 --quiet
    [ "$(wc -l <err)" -eq 1 ]
    grep -qE '^fp8cast: disk/src: [0-9]+ bytes to write, 65536 bytes free$' err
    [ -z "$(ls disk)" ]
}
