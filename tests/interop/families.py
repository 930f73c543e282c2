"""The families that are tried: a tiny config of each and what is special.

Every dimension that a loader cuts in blocks is a multiple of 128; no two
that could be taken for each other are equal.
"""

VISION = {"depth": 1, "hidden_size": 128, "intermediate_size": 256,
          "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2,
          "temporal_patch_size": 2, "out_hidden_size": 256,
          "num_position_embeddings": 64,
          "deepstack_visual_indexes": []}

ROPE = {"rope_type": "default", "rope_theta": 10000.0}

QWEN3_5_TEXT = {
    "vocab_size": 512, "hidden_size": 256, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 128,
    "linear_key_head_dim": 64, "linear_num_key_heads": 2,
    "linear_value_head_dim": 64, "linear_num_value_heads": 4,
    "max_position_embeddings": 512,
    "rope_parameters": {**ROPE, "partial_rotary_factor": 0.25,
                        "mrope_interleaved": True,
                        "mrope_section": [6, 5, 5]},
    "mtp_num_hidden_layers": 1,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2,
           "moe_intermediate_size": 128}
SHARED = {"shared_expert_intermediate_size": 128}


class Family:
    """One model_type. `auto` is the transformers class that builds it,
    `variants` the layouts of the source, `draft` the kind of draft layer that
    transformers leaves out, `published` what config.json has on the hub and
    save_pretrained drops. `not_here` says of a loader that cannot build the
    family on a CPU what it then says, and why."""

    def __init__(self, config, auto="AutoModelForCausalLM",
                 variants=("plain",), draft=None, published=None,
                 not_here=None):
        self.config, self.auto, self.variants = config, auto, variants
        self.draft, self.published = draft, published or {}
        self.not_here = not_here or {}


MULTIMODAL = "AutoModelForImageTextToText"
TOKENS = {"image_token_id": 500, "video_token_id": 501,
          "vision_start_token_id": 502, "vision_end_token_id": 503}

FAMILIES = {
    "qwen3_5_moe": Family(
        {"text_config": {**QWEN3_5_TEXT, **EXPERTS, **SHARED},
         "vision_config": VISION, **TOKENS},
        auto=MULTIMODAL, variants=("fused", "per-expert"), draft="qwen3_5",
        published={"full_attention_interval": 4}),
    "qwen3_5": Family(
        {"text_config": {**QWEN3_5_TEXT, "intermediate_size": 384},
         "vision_config": VISION, **TOKENS},
        auto=MULTIMODAL, draft="qwen3_5",
        published={"full_attention_interval": 4}),
}

# Families with rules whose loaders were not tried, and why.
NOT_TRIED = {}
