"""Models that engines divide among several devices, and what `plan` says of
that: exactly the sizes of tensor parallelism that it names must load.

A model has a published one's ratios: what decides at which size one of its
layers cannot be divided is as there. vLLM and SGLang build and load the share
of every device (alone.py). All shares together must consume the checkpoint, and
every one must be, dequantised, what the engine makes of the rounded source.
"""

import json
import re

from families import (EXPERTS, FAMILIES, MLA, PLAIN, QWEN3_5_TEXT, ROPE,
                      TEXT, TOKENS, VISION, YARN, Family)
from programs import fp8cast

ENGINES = ("vllm", "sglang")
MOST_SPREAD = 8
# Whose linear attention and two key-value heads are Qwen3.6-35B-A3B's, by
# halves; its experts have the true 512 rows. Engines want no fewer experts than
# devices.
HYBRID = {**QWEN3_5_TEXT, "num_attention_heads": 8, "linear_key_head_dim": 128,
          "linear_num_key_heads": 8, "linear_value_head_dim": 128,
          "linear_num_value_heads": 16, **EXPERTS, "num_experts": 16,
          "moe_intermediate_size": 512,
          "shared_expert_intermediate_size": 512}
DENSE = {**TEXT, "num_attention_heads": 16, "num_key_value_heads": 4,
         "intermediate_size": 3072}
WAIST = {**PLAIN, **MLA, "rope_parameters": YARN, "qk_nope_head_dim": 128,
         "intermediate_size": 2048, "n_routed_experts": 16}


def like(name, config, **changes):
    family = FAMILIES[name]
    return Family(config, **{
        "auto": family.auto, "build": name, "draft": family.draft,
        "published": family.published, "defects": family.defects,
        "variants": family.variants[:1], "layouts": family.layouts,
        **changes})


# By model_type and whose ratios they are.
DIVIDED = {
    "qwen3_5_moe@Qwen3.6-35B-A3B": like(
        "qwen3_5_moe", {"text_config": HYBRID, "vision_config": {
            **VISION, "num_heads": 8}, **TOKENS}),
    "qwen3_next@Qwen3-Next-80B-A3B": like(
        "qwen3_next", {**HYBRID, "rope_parameters": {
            **ROPE, "partial_rotary_factor": 0.25}}),
    "qwen3@Qwen3-8B": like("qwen3", DENSE),
    # Shares of k_proj end within a block, before those of v_proj.
    "qwen3@heads-of-64": like("qwen3", {**DENSE, "head_dim": 64}),
    "llama@Llama-3.1-8B": like("llama", {**DENSE, "intermediate_size": 3584}),
    # vLLM makes smaller blocks of the experts' scales.
    "qwen3_moe@Qwen3-30B-A3B": like(
        "qwen3_moe", {**TEXT, **EXPERTS, "num_experts": 16,
                      "num_attention_heads": 16, "num_key_value_heads": 4,
                      "moe_intermediate_size": 768}),
    "deepseek_v3@DeepSeek-V3": like(
        "deepseek_v3", {**WAIST, "num_attention_heads": 16,
                        "num_key_value_heads": 16,
                        "moe_intermediate_size": 512}),
    # One head is 192 rows of q_b_proj.
    "deepseek_v3@one-head-each": like(
        "deepseek_v3", {**WAIST, "num_attention_heads": 8,
                        "num_key_value_heads": 8,
                        "moe_intermediate_size": 1024}),
}
# The one of which broken checkpoints are loaded too.
SPOILED = next(iter(DIVIDED))


def model_type_of(name):
    return name.partition("@")[0]


# ---- jobs -------------------------------------------------------------------

def claims_of(command, *arguments):
    """{engine: {"sizes", "spread", "limit"}} as plan or verify says it; or a
    fault."""
    done = fp8cast(command, *arguments, "--json")
    if done.returncode:
        return {"fault": done.stdout}
    return {one["name"]: {"sizes": one["tensor_parallel"],
                          "spread": one["experts_spread"],
                          "limit": one["limit"]}
            for one in json.loads(done.stdout)["serving"]["engines"]}


def undivided(job):
    """The claims of rules that let every device have all of every layer."""
    text = fp8cast("rules", model_type_of(job["family"])).stdout
    changed = re.sub(r"(?m)^parallel +\w+ +(\S+).*$",
                     r"parallel whole \1", text)
    path = job["result"] + ".rules"
    with open(path, "w", encoding="utf-8") as file:
        file.write(changed)
    return claims_of("plan", job["source"], "--rules", path, "--layout",
                     job["layout"])


def jobs_of(count, job):
    """One a size: those that an engine is said to load, and one more; and those
    that it is said to load only with experts spread."""
    claims = claims_of("plan", job["source"], "--layout", job["layout"])
    found = claims_of("verify", job["source"], job["result"])
    count.check(claims == found and "fault" not in claims,
                f"{job['label']}: plan and verify say the same of engines",
                [str(claims), str(found)])
    defects = DIVIDED[job["family"]].defects
    job = {**job, "claims": claims, "undivided": undivided(job)}
    jobs = []
    for size in (2, 4, 8, 16):
        for spread in (False, True):
            loaders = [engine for engine in ENGINES if engine not in defects
                       and is_tried(claims[engine], size, spread)]
            if loaders:
                jobs.append({**job, "size": size, "spread": spread,
                             "loaders": loaders})
    return jobs


def is_tried(claim, size, spread):
    if spread:
        return (size <= MOST_SPREAD and size in claim["spread"]
                and size not in claim["sizes"])
    return size <= 2 * max(claim["sizes"])


def spoiled_jobs(jobs):
    """The same on two devices, where no other modules need be listed."""
    return [{**job, "size": 2, "loaders": ENGINES} for job in jobs
            if job["kind"] != "probe"]


# ---- judging ----------------------------------------------------------------

def judge_size(count, job, engine, faults):
    claim, size = job["claims"][engine], job["size"]
    spread = ", experts spread" if job["spread"] else ""
    label = f"{job['label']}, {size} devices{spread}: {engine}"
    details = [f"{check}: {text}" for check, texts in faults.items()
               for text in texts]
    if size in claim["sizes"] or job["spread"]:
        count.check(not faults, f"{label} loads every share", details)
        return
    count.check(faults, f"{label} does not load, as said: {claim['limit']}")
    # Where heads are too few the BF16 source does not load either.
    if re.match(rf"{size}: .* (rows|columns) each$", claim["limit"]):
        count.check("reference" not in faults, f"{label} loads BF16", details)


def judge_undivided(count, label, jobs, results):
    """Claims that are not true must be seen not to be."""
    for engine in ENGINES:
        seen = {job["size"]: not faults for job, faults
                in zip(jobs, results[engine])
                if faults is not None and not job["spread"]}
        sizes = jobs[0]["undivided"].get(engine, {}).get("sizes", [])
        if seen:
            count.check(any((size in sizes) != loads for size, loads
                            in seen.items()), f"{label}: {engine} contradicts "
                        "rules that divide nothing", [f"{sizes} {seen}"])


def judge(count, jobs, results):
    for label in dict.fromkeys(job["label"] for job in jobs):
        of = [i for i, job in enumerate(jobs)
              if job["label"] == label and job["kind"] == "good"]
        for i in of:
            for engine in jobs[i]["loaders"]:
                judge_size(count, jobs[i], engine, results[engine][i])
        judge_undivided(count, label, [jobs[i] for i in of],
                        {engine: [results[engine][i] for i in of]
                         for engine in ENGINES})
    for i, job in enumerate(jobs):
        if job["kind"] != "good":
            count.check(any(results[engine][i] for engine in ENGINES),
                        f"{job['label']}, 2 devices: {job['kind']} "
                        f"({job['why']}): an engine or its check trips")
