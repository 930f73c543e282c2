#!/usr/bin/env bats
# The rules of every family, held against tests/golden/families/*.tsv: the
# tensors of a tiny model as transformers names them (and the draft layers that
# it leaves out), and which of them the loaders take in FP8. `make interop`
# writes these files, once transformers, vLLM and SGLang have loaded the result.

# shellcheck disable=SC2154,SC2164  # set by helpers.bash; bats stops at cd
load helpers

setup_file() { begin_file; }
teardown_file() { end_file; }
setup() { begin_test; }
teardown() { end_test; }

@test "each tensor becomes what the loaders take, and each module is listed" {
    "$PYTHON" "$BATS_TEST_DIRNAME/families.py" "$fp8cast" "$golden/families" .
}

@test "each model_type of the built-in rules has such a file" {
    for type in $(sed -n 's/^model_type *//p' "$root"/rules/*.rules); do
        ls "$golden"/families/"$type"*.tsv >/dev/null
    done
}
