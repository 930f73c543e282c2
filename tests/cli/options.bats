#!/usr/bin/env bats
# The command line: what is accepted, how the rest is refused, and that help
# and man page tell of the same options. Nothing here needs a checkpoint; that
# a command line was accepted shows in the exit status 1 of a folder that is
# not there, where a refused one gives 2.
#
# FP8CAST is the program under test.

load helpers

teardown() { end_test; }

setup() {
    begin_test
    man="$root/man/fp8cast.1"
    absent="$dir/absent"
}

# refused MESSAGE ARGUMENT...: exactly this line on stderr, nothing on stdout,
# exit status 2.
refused() {
    local message="fp8cast: $1" status=0
    shift
    "$fp8cast" "$@" >"$dir/out" 2>"$dir/err" ||
        status=$?
    echo "arguments: $*"
    echo "exit status: $status"
    echo "expected: $message"
    echo "found:    $(cat "$dir/err")"
    [ "$status" -eq 2 ]
    [ ! -s "$dir/out" ]
    printf '%s\n' "$message" | cmp - "$dir/err"
}

# accepted ARGUMENT...: not a usage error.
accepted() {
    run "$fp8cast" "$@"
    echo "arguments: $*"
    echo "$output"
    [ "$status" -eq 1 ]
}

# The options in the help of everything, and those in the man page's lists.
help_options() {
    "$fp8cast" help --all | grep -oE '^  (-[a-zA-Z], )?--[a-z-]+' |
        grep -oE -- '-[a-zA-Z-]+' | sort -u
}

man_options() {
    grep -E '^\.It Fl' "$man" | grep -oE 'Fl [a-zA-Z-]+' |
        sed 's/^Fl /-/' | sort -u
}

@test "without arguments: usage on stderr, status 2" {
    status=0
    "$fp8cast" >"$dir/out" 2>"$dir/err" || status=$?
    [ "$status" -eq 2 ]
    [ ! -s "$dir/out" ]
    grep -q '^usage: fp8cast COMMAND' "$dir/err"
}

@test "help in all its forms goes to stdout, status 0" {
    for command in quantize dequantize plan verify diff inspect roofline \
        report synth rules help; do
        "$fp8cast" help "$command" >"$dir/a" 2>&1
        "$fp8cast" "$command" --help >"$dir/b" 2>&1
        "$fp8cast" -h "$command" >"$dir/c" 2>&1
        grep -q "^usage: fp8cast $command" "$dir/a"
        cmp "$dir/a" "$dir/b"
        cmp "$dir/a" "$dir/c"
        "$fp8cast" --help | grep -q "^  $command "
    done
    "$fp8cast" help >"$dir/a"
    "$fp8cast" --help >"$dir/b"
    cmp "$dir/a" "$dir/b"
}

@test "help fits 80 columns" {
    run bash -c "'$fp8cast' help --all; '$fp8cast' --help; '$fp8cast' 2>&1"
    [ -z "$(printf '%s\n' "$output" | awk 'length > 80')" ]
}

@test "the version" {
    run "$fp8cast" --version
    [ "$status" -eq 0 ]
    [[ "$output" =~ ^fp8cast\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
    [ "$("$fp8cast" -V)" = "$output" ]
    [ "$("$fp8cast" plan -V)" = "$output" ]
}

@test "help and man page tell of the same options" {
    help_options >"$dir/help"
    man_options >"$dir/man"
    [ -s "$dir/help" ]
    diff "$dir/help" "$dir/man"
}

@test "the help of each command is part of the help of all" {
    for command in quantize dequantize plan verify diff inspect roofline \
        report synth rules help; do
        "$fp8cast" help "$command" | grep -oE -- ' --[a-z-]+' | sort -u \
            >"$dir/one"
        "$fp8cast" help --all | grep -oE -- ' --[a-z-]+' | sort -u \
            >"$dir/all"
        [ -z "$(comm -23 "$dir/one" "$dir/all")" ]
    done
}

@test "the man page is clean" {
    command -v mandoc >/dev/null || skip "mandoc is not installed"
    run mandoc -T lint -W warning "$man"
    echo "$output"
    [ "$status" -eq 0 ]
    [ -z "$output" ]
}

@test "misspelt commands" {
    refused "unknown command 'quantise' (did you mean 'quantize'?)" quantise a b
    refused "unknown command 'paln' (did you mean 'plan'?)" paln a
    refused "unknown command 'VERIFY' (did you mean 'verify'?)" VERIFY a b
    refused "unknown command 'insp' (did you mean 'inspect'?)" insp a
    refused "unknown command 'xyzzy' (see 'fp8cast --help')" xyzzy
    refused "unknown command 'quantiz' (did you mean 'quantize'?)" help quantiz
    refused "unknown command '' (see 'fp8cast --help')" ""
    refused "no command is given (see 'fp8cast --help')" --json
}

@test "misspelt options" {
    refused "unknown option '--thread' (did you mean '--threads'?)" \
        plan a --thread 2
    refused "unknown option '--thraeds' (did you mean '--threads'?)" \
        plan a --thraeds=2
    refused "unknown option '--jsno' (did you mean '--json'?)" plan a --jsno
    refused "unknown option '-threads' (did you mean '--threads'?)" \
        plan a -threads 2
    refused "unknown option '--frobnicate' (see 'fp8cast plan --help')" \
        plan --frobnicate a
    refused "unknown option '-x' (see 'fp8cast plan --help')" plan a -x
    refused "unknown option '--frobnicate' (see 'fp8cast --help')" --frobnicate
}

@test "a suggestion is an option that the command takes" {
    refused "unknown option '--shard' (did you mean '--shard-size'?)" \
        plan a --shard 1
    refused "unknown option '--shard' (did you mean '--shards'?)" \
        synth a --shard 1
}

@test "options of other commands" {
    refused "plan takes no option '--verify' (see 'fp8cast plan --help')" \
        plan a --verify
    refused "plan takes no option '--verify' (see 'fp8cast plan --help')" \
        --verify plan a
    refused "inspect takes no option '--threads' (see 'fp8cast inspect --help')" \
        inspect a --threads 2
    refused "quantize takes no option '--seed' (see 'fp8cast quantize --help')" \
        quantize a b --seed 1
    refused "rules takes no option '--quiet' (see 'fp8cast rules --help')" \
        rules -q
}

@test "too few and too many arguments" {
    refused "quantize: SRC is missing (see 'fp8cast quantize --help')" quantize
    refused "quantize: DST is missing (see 'fp8cast quantize --help')" \
        quantize a
    refused "verify: DST is missing (see 'fp8cast verify --help')" verify a
    refused "inspect: PATH is missing (see 'fp8cast inspect --help')" inspect
    refused "synth: DIR is missing (see 'fp8cast synth --help')" synth
    refused "plan: 'c' is one argument too many (see 'fp8cast plan --help')" \
        plan a b c
    refused "help: 'plan' is one argument too many (see 'fp8cast --help')" \
        help verify plan
    refused "quantize: DST is empty (see 'fp8cast quantize --help')" \
        quantize a ""
}

@test "values that are missing or not wanted" {
    see="(see 'fp8cast plan --help')"
    refused "option '--threads' needs a value: --threads N $see" \
        plan a --threads
    refused "option '--rules' needs a value: --rules NAME|FILE $see" \
        plan a --rules --json
    refused "--rules: NAME|FILE is empty $see" plan a --rules=
    refused "option '--json' takes no value $see" plan a --json=yes
}

@test "an option given twice" {
    see="(see 'fp8cast plan --help')"
    refused "option '--threads' is given twice $see" \
        plan a --threads 2 --threads=3
    refused "option '--json' is given twice $see" plan --json a --json
    refused "option '--quiet' is given twice $see" plan -q a --quiet
    accepted plan "$absent" --keep a --keep a --quantize a --quantize=b
    # One answer for each engine: of two sizes the last would win unsaid.
    refused "--for: vllm is given twice $see" \
        plan a --for vllm:16 --for sglang --for vllm:1
    accepted plan "$absent" --for vllm:16 --for sglang:16 --for transformers
}

@test "whole numbers" {
    for bad in 0 1025 -1 +1 1.0 0x10 2x ' 2' 99999999999999999999; do
        refused "--threads: '$bad' is not a whole number from 1 to 1024 (see 'fp8cast plan --help')" \
            plan a --threads "$bad"
    done
    accepted plan "$absent" --threads 1024
    refused "--seed: '9223372036854775808' is not a whole number from 0 to 9223372036854775807 (see 'fp8cast synth --help')" \
        synth a --seed 9223372036854775808
}

@test "sizes" {
    forms="write bytes, or a number and kB, MB, GB, TB, KiB, MiB, GiB or TiB"
    for bad in 0 5G 5B GB -1 1.5 1.GB .5GB 1e9 '5 GB' 5GBx 0.0001kB \
        1.2345678GB 99999999999999999999 16777216TiB 18446744073709551616; do
        refused "--memory: '$bad' is not a size from 1 byte to 16 EiB: $forms (see 'fp8cast plan --help')" \
            plan a --memory "$bad"
    done
    for good in 18446744073709551615 5GB 1.5GB 512MiB 512mib 300Mb 70000KIB \
        0.25gib 1TB 1TiB 70000kB; do
        accepted plan "$absent" --memory "$good"
        accepted plan "$absent" --shard-size="$good"
    done
}

@test "the type of the scales" {
    refused "--scale-dtype: 'bf17' is not bf16, f32 or ue8m0 (did you mean 'bf16'?)" \
        plan a --scale-dtype bf17
    refused "--scale-dtype: 'int4' is not bf16, f32 or ue8m0 (see 'fp8cast plan --help')" \
        plan a --scale-dtype int4
    for type in bf16 f32 ue8m0; do
        accepted plan "$absent" --scale-dtype "$type"
    done
}

@test "the choice of scales" {
    refused "--scales: 'mze' is not amax, mse or pow2 (did you mean 'mse'?)" \
        quantize a b --scales mze
    refused "--scales: '448' is not amax, mse or pow2 (see 'fp8cast plan --help')" \
        plan a --scales 448
    refused "--scales mse: ue8m0 holds powers of two only (see 'fp8cast plan --help')" \
        plan a --scales mse --scale-dtype ue8m0
    refused "--scales mse: ue8m0 holds powers of two only (see 'fp8cast quantize --help')" \
        quantize a b --scale-dtype ue8m0 --scales mse
    refused "verify takes no option '--scales' (see 'fp8cast verify --help')" \
        verify a b --scales mse
    for how in amax mse pow2; do
        accepted plan "$absent" --scales "$how"
        accepted quantize "$absent" dst --scales "$how" --scale-dtype f32
    done
    accepted plan "$absent" --scales pow2 --scale-dtype ue8m0
}

@test "options stand anywhere, -- ends them" {
    accepted --threads 2 plan --json "$absent" --memory=1GB
    accepted plan -- "$absent"
    refused "plan: '--threads' is one argument too many (see 'fp8cast plan --help')" \
        plan a -- --json --threads
}

@test "a refusal is one line, whatever was typed" {
    refused "unknown command 'pl\\x0aan' (did you mean 'plan'?)" $'pl\nan'
    refused "unknown option '--a\\x1b[31mb' (see 'fp8cast plan --help')" \
        plan $'--a\e[31mb'
    refused "unknown option '--\\xff' (see 'fp8cast --help')" $'--\xff'
}

@test "rules: the list, one of them, a misspelt one" {
    run "$fp8cast" rules
    [ "$status" -eq 0 ]
    [[ "$output" == *qwen3_5_moe* ]]
    "$fp8cast" rules qwen3_5_moe | cmp - "$root/rules/qwen3_5_moe.rules"
    run "$fp8cast" rules qwen35_moe
    [ "$status" -eq 1 ]
    [ "$output" = "fp8cast: no built-in rules 'qwen35_moe' (did you mean 'qwen3_5_moe'?)" ]
}

@test "a result that cannot be written is a failure" {
    [ -e /dev/full ] || skip "no /dev/full here"
    for arguments in "rules" "rules --json" "help --all" "--version"; do
        # The arguments are words to be split.
        # shellcheck disable=SC2086
        run bash -c "'$fp8cast' $arguments >/dev/full"
        [ "$status" -eq 1 ]
        [ "$output" = "fp8cast: cannot write the result: No space left on device" ]
    done
    run bash -c "'$fp8cast' rules >&-"
    [ "$status" -eq 1 ]
    [ "$output" = "fp8cast: cannot write the result: Bad file descriptor" ]
    # A pipe whose reader is certainly gone.
    run bash -c 'exec 3> >(true); wait $!; exec "$0" help --all >&3' "$fp8cast"
    [ "$status" -eq 1 ]
    [ "$output" = "fp8cast: cannot write the result: Broken pipe" ]
}
