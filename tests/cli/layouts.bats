#!/usr/bin/env bats
# The layouts of published models, from headers alone: what plan adds up is
# what was published of them. qwen3.6-35b-a3b is plan.bats's.

# shellcheck disable=SC2154,SC2164  # set by helpers.bash; bats stops at cd
load helpers

setup_file() { begin_file; }
teardown_file() { end_file; }
setup() { begin_test; }
teardown() { end_test; }

# planned LAYOUT [OPTION...]: the plan of its source, as ./out
planned() {
    program 0 synth --model "$1" --sparse --quiet src
    program 0 plan src --json "${@:2}"
    holds out 'd["memory_bytes"] < 2**26 + 2**10 * d["result"]["tensors"]'
}

# Totals of tensors and bytes are those of the published index.

@test "llama-3.1-70b: the published index" {
    planned llama-3.1-70b
    holds out 'd["family"] == "llama"' \
        'd["source"] == {"tensors": 723, "bytes": 141107412992, "shards": 30}'
}

@test "qwen3-235b-a22b: the published index" {
    planned qwen3-235b-a22b
    holds out 'd["family"] == "qwen3_moe"' \
        'd["source"]["tensors"] == 36945' \
        'd["source"]["bytes"] == 470187269120'
}

@test "mixtral-8x22b: the published index" {
    planned mixtral-8x22b
    holds out 'd["family"] == "mixtral"' \
        'd["source"] == {"tensors": 1739, "bytes": 281241268224, "shards": 59}'
}

# These are published in FP8, with scales of four bytes: the result must be
# what was published.

@test "deepseek-v3: the published weight files" {
    planned deepseek-v3 --scale-dtype f32
    # 688,586,727,753 bytes in all, headers included, which take 129 bytes a
    # tensor; 671 and 14 billion parameters.
    holds out 'd["family"] == "deepseek_v3"' \
        '100 < (688586727753 - d["result"]["bytes"]) / d["result"]["tensors"] < 160' \
        'round(d["result"]["parameters"] / 1e9) in (684, 685)'
}

@test "kimi-k2: the published weights" {
    planned kimi-k2 --scale-dtype f32
    # Of the published 139,644 tensors 61, one a layer and 6,832 bytes in all,
    # are no weights.
    holds out 'd["family"] == "deepseek_v3"' 'd["model_type"] == "kimi_k2"' \
        'd["result"]["tensors"] + 61 == 139644' \
        'd["result"]["parameters"] == 1026408232448' \
        'd["result"]["bytes"] + 6832 == 1029173256720'
}

@test "glm-4.5: the published number of parameters" {
    planned glm-4.5
    holds out 'd["family"] == "glm4_moe"' \
        'd["result"]["parameters"] == 358337791296'
}

@test "qwen3.8-2.4t-a95b: 92 layers of 512 experts" {
    planned qwen3.8-2.4t-a95b
    # A weight for each expert's three matrices, one layer of MTP included.
    holds out 'd["family"] == "qwen3_5_moe_text"' \
        'd["result"]["fp8_weights"] > 93 * 512 * 3' \
        '4.7e12 < d["source"]["bytes"] < 4.9e12' \
        '2.4e12 <= d["result"]["parameters"] < 2.5e12'
}
