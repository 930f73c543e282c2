#!/usr/bin/env bats
# What the process may still do while it works. intruder.c, preloaded, tries
# from inside what a program that was taken over by its input might try.
#
# FP8CAST is the program under test; a build with a sanitizer is passed over,
# since nothing can be loaded before the sanitizer.

load helpers

setup_file() {
    begin_file
    export intruder="$shared/intruder.so"
    cc -D_GNU_SOURCE -Wall -Wextra -Wconversion -Werror -shared -fPIC \
        -o "$intruder" "$root/tests/cli/intruder.c"
    "$fp8cast" synth "$shared/src" --model qwen3.6-35b-a3b-mini -q
}

teardown_file() { end_file; }

setup() {
    begin_test
    mkdir outside
    echo private >outside/secret
    export INTRUDER_OUTSIDE="$dir/outside" INTRUDER_SRC="$shared/src"
}

teardown() { end_test; }

# The kernel offers it, and the program can be preloaded into.
needs_confinement() {
    unset FP8CAST_CONFINE # make coverage sets it
    if ldd "$fp8cast" | grep -q 'lib[a-z]*san'; then
        skip "a build with a sanitizer"
    fi
    FP8CAST_CONFINE=yes "$fp8cast" plan "$shared/src" -q 2>err ||
        skip "$(cat err)"
}

# all_refused WHEN: every try was refused, and every try was made.
all_refused() {
    cat err
    printf '%s\n' "$1: read outside: EACCES" "$1: write outside: EACCES" \
        "$1: make outside: EACCES" "$1: write the source: EACCES" \
        "$1: make in the source: EACCES" "$1: socket: EPERM" \
        "$1: run a program: EPERM" | cmp - <(grep "^$1: " err)
    [ "$(cat outside/secret)" = private ]
    [ ! -e outside/new ]
    [ ! -e "$shared/src/new" ]
}

@test "without it the intruder gets everywhere: the test itself is sound" {
    needs_confinement
    # Root may write anywhere, so the source is a copy.
    cp -r "$shared/src" src
    INTRUDER_SRC="$dir/src" FP8CAST_CONFINE=no LD_PRELOAD="$intruder" \
        "$fp8cast" quantize src dst -q 2>err
    cat err
    [ "$(grep -c ': done$' err)" -eq 14 ]
    [ -e outside/new ]
}

@test "quantize reads SRC, writes DST and can do nothing else" {
    needs_confinement
    LD_PRELOAD="$intruder" "$fp8cast" quantize "$shared/src" dst -q 2>err
    all_refused read
    all_refused write
    "$fp8cast" verify "$shared/src" dst -q
    # Going on in a folder that stands.
    rm dst/config.json
    LD_PRELOAD="$intruder" "$fp8cast" quantize "$shared/src" dst -q 2>err
    all_refused read
    all_refused write
}

# To get its name the report needs a folder in which names can be made and
# removed, but no file can be read or written.
@test "a report is written, and nothing is read or written beside it" {
    needs_confinement
    LD_PRELOAD="$intruder" "$fp8cast" quantize "$shared/src" dst -q \
        --report outside/report.json 2>err
    [ ! -s outside/new ]
    rm -f outside/new
    all_refused read
    all_refused write
    [ "$(ls outside)" = "report.json
secret" ]
}

@test "a folder that was made for nothing is gone again" {
    mkdir empty
    run "$fp8cast" quantize empty dst -q
    [ "$status" -eq 1 ]
    [ ! -e dst ]
}

@test "plan, inspect and verify write nowhere" {
    needs_confinement
    "$fp8cast" quantize "$shared/src" dst -q
    for command in "plan $shared/src" "inspect $shared/src" \
        "verify $shared/src dst"; do
        LD_PRELOAD="$intruder" "$fp8cast" $command -q 2>err
        all_refused read
    done
}

@test "report reads its file, gives another its name and can do nothing else" {
    needs_confinement
    mkdir page
    "$PYTHON" "$reference/reports.py" small report.json
    LD_PRELOAD="$intruder" "$fp8cast" report report.json -o page/page.html \
        2>err
    all_refused link
    [ "$(ls page)" = page.html ]
    FP8CAST_CONFINE=yes "$fp8cast" report report.json -o page/page.html \
        --overwrite
    run env FP8CAST_CONFINE=yes "$fp8cast" report report.json \
        -o page/page.html
    [ "$status" -eq 1 ]
    [ "$(ls -A page)" = page.html ]
}

@test "a hub's cache of links works, and what they lead to is only read" {
    needs_confinement
    mkdir -p cache/blobs cache/snapshots/main/sub
    local file n=0
    for file in "$shared"/src/*; do
        n=$((n + 1))
        cp "$file" "cache/blobs/$n"
        ln -s "../../blobs/$n" "cache/snapshots/main/$(basename "$file")"
    done
    echo card >cache/blobs/card
    ln -s ../../../blobs/card cache/snapshots/main/sub/README.md
    INTRUDER_SRC="$dir/cache/blobs" FP8CAST_CONFINE=yes \
        LD_PRELOAD="$intruder" "$fp8cast" quantize cache/snapshots/main dst \
        -q 2>err
    grep -qx 'write: make in the source: EACCES' err
    [ "$(cat dst/sub/README.md)" = card ]
    "$fp8cast" quantize "$shared/src" plain -q
    cmp plain/model.safetensors dst/model.safetensors
}

@test "links in a folder that is a link are followed, round or not" {
    needs_confinement
    cp -r "$shared/src" src
    mkdir between far
    echo words >far/vocab.txt
    ln -s ../far/vocab.txt between/vocab.txt
    ln -s ../between src/tok
    export FP8CAST_CONFINE=yes
    program 0 quantize src dst --follow-links
    cmp far/vocab.txt dst/tok/vocab.txt
    # Many ways round end with the refusal that says so.
    for name in {a..i}; do ln -s . "between/$name"; done
    program 1 quantize src dst2 --follow-links
    [ "$(wc -l <err)" -eq 1 ]
    grep -q 'a loop of links?\|links that lead round?' err
}

@test "rules from a file are read, from wherever they are" {
    needs_confinement
    "$fp8cast" rules qwen3_5_moe >outside/own.rules
    FP8CAST_CONFINE=yes "$fp8cast" quantize "$shared/src" dst -q \
        --rules outside/own.rules
}

@test "a wish that is neither yes nor no is refused" {
    run env FP8CAST_CONFINE=maybe "$fp8cast" plan "$shared/src"
    [ "$status" -eq 1 ]
    [ "$output" = \
        "fp8cast: FP8CAST_CONFINE: expected yes or no, found 'maybe'" ]
    # An empty one is none.
    FP8CAST_CONFINE='' "$fp8cast" plan "$shared/src" -q
}
