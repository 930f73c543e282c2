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
           "moe_intermediate_size": 384}
SHARED = {"shared_expert_intermediate_size": 128}


class Family:
    """One model_type. `auto` is the transformers class that builds it,
    `variants` the layouts of the source, `draft` the kind of draft layer that
    transformers leaves out, `published` what config.json has on the hub and
    save_pretrained drops. `across`: its fused experts lie transposed;
    `sizes`: numbers of the config that tell which way they lie; `build`:
    the model_type by whose classes it is built, if not its own; `layouts`:
    those of its rules. `defects`: of a loader that does not load the family
    right, words of what is then found, and whose fault it is."""

    def __init__(self, config, auto="AutoModelForCausalLM",
                 variants=("plain",), draft=None, published=None,
                 defects=None, across=False, sizes=(), build=None,
                 layouts=("card",)):
        self.config, self.auto, self.variants = config, auto, variants
        self.draft, self.published = draft, published or {}
        self.defects = defects or {}
        self.across, self.sizes = across, sizes
        self.build, self.layouts = build, layouts


# As published, and as transformers has them in memory: experts fused, and some
# modules under other names.
MEMORY = ("plain", "memory")
MULTIMODAL = "AutoModelForImageTextToText"
TOKENS = {"image_token_id": 500, "video_token_id": 501,
          "vision_start_token_id": 502, "vision_end_token_id": 503}

TEXT = {"vocab_size": 512, "hidden_size": 256, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 128,
        "intermediate_size": 384, "max_position_embeddings": 512,
        "rope_parameters": ROPE}
# Where the config knows no head_dim it is hidden_size / heads.
PLAIN = {key: value for key, value in TEXT.items() if key != "head_dim"}
MLA = {"q_lora_rank": 128, "kv_lora_rank": 128, "qk_nope_head_dim": 64,
       "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 4,
       "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 2,
       "topk_group": 1, "moe_intermediate_size": 128,
       "first_k_dense_replace": 1, "num_key_value_heads": 4,
       "num_nextn_predict_layers": 1}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
        "original_max_position_embeddings": 128, "beta_fast": 32.0,
        "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}
MROPE = {**ROPE, "mrope_section": [24, 20, 20]}

# Faults of loaders: words of what is found, and a sentence.
RAGGED = ("kv_a_proj_with_mqa",
          "transformers 5.23 takes the block's height for rows // scale rows "
          "(integrations/finegrained_fp8.py, Fp8Dequantize), so that a matrix "
          "whose rows are no multiple of 128, as kv_a_proj_with_mqa, is "
          "dequantised wrongly on a CPU without a word, or refused")
NO_BLOCKS = ("weight_scale_inv",
             "SGLang 0.5.23 renames weight_scale_inv to weight_scale in its "
             "Llama class (models/llama.py, load_weights), finds no such "
             "parameter, and drops every block scale without an error")
# That variable's code renames Llama's only.
OLD_CODE = (NO_BLOCKS[0], NO_BLOCKS[1] + ", unless "
            "SGLANG_ENABLE_WEIGHT_LOADER_V2=1 is set")
NO_SCALES = ("weight_scale",
             "vLLM 0.32.0 renames weight_scale_inv to weight_scale in its "
             "class of this family (models/mistral3.py, hf_to_vllm_mapper), "
             "finds no such parameter, and ends with an error")

NO_JOIN = ("experts",
           "transformers 5.23 joins no single experts of this family "
           "(conversion_mapping.py has no rule for it), "
           "tells of missing and unexpected keys and makes up the experts")

UNKNOWN = ("does not recognize this architecture",
           "transformers 5.23 has no kimi_k2: its config and classes are "
           "DeepSeek-V3's, by code that comes with the published model")

NO_EXPERTS = ("experts.gate_up_proj",
              "SGLang 0.5.23 has no code for the routed experts of a text-only "
              "Llama 4 (models/llama4.py), fused or one by one, and drops "
              "them without an error, of the BF16 source too: there is "
              "nothing to compare with")
PER_LAYER = ("AmbiguousGlobalPerLayerAttributeError",
             "SGLang 0.5.23 asks for the one head_dim of a text-only Gemma 4 "
             "(configs/model_config.py), which has two, and ends with an "
             "error, with FP8 or without")

NO_RENAMING = ("No module or parameter named",
               "SGLang 0.5.23 builds transformers' classes for the "
               "architecture that transformers writes, PhimoeForCausalLM, and "
               "does not rename its tensors; with the published "
               "PhiMoEForCausalLM in config.json it takes its own")

PHIMOE = {**PLAIN, "num_local_experts": 4, "num_experts_per_tok": 2,
          "intermediate_size": 128, "attention_bias": True,
          "lm_head_bias": True}
GEMMA4 = {**{key: value for key, value in TEXT.items()
             if key != "rope_parameters"},
          "global_head_dim": 256, "num_global_key_value_heads": 1,
          "hidden_size_per_layer_input": 0,
          "layer_types": ["sliding_attention", "full_attention"]}
GEMMA4_MOE = {**GEMMA4, "enable_moe_block": True, "num_experts": 4,
              "top_k_experts": 2, "moe_intermediate_size": 384}
GEMMA4_VISION = {"hidden_size": 128, "intermediate_size": 256,
                 "num_hidden_layers": 1, "num_attention_heads": 2,
                 "num_key_value_heads": 2, "head_dim": 64}
GEMMA4_SOUND = {"hidden_size": 128, "num_hidden_layers": 1,
                "num_attention_heads": 2, "subsampling_conv_channels": [16, 8],
                "output_proj_dims": 128, "use_clipped_linears": False}
LLAMA4 = {**TEXT, "num_local_experts": 4, "num_experts_per_tok": 1,
          "intermediate_size": 128, "intermediate_size_mlp": 384,
          "interleave_moe_layer_step": 2}
LLAMA4_VISION = {"hidden_size": 128, "intermediate_size": 512,
                 "num_hidden_layers": 1, "num_attention_heads": 2,
                 "image_size": 28, "patch_size": 14, "vision_output_dim": 256,
                 "projector_input_dim": 256, "projector_output_dim": 256}

FAMILIES = {
    "qwen3_5_moe": Family(
        {"text_config": {**QWEN3_5_TEXT, **EXPERTS, **SHARED},
         "vision_config": VISION, **TOKENS},
        auto=MULTIMODAL, variants=("fused", "per-expert"), draft="qwen3_5",
        published={"full_attention_interval": 4},
        layouts=("card", "official")),
    "qwen3_5": Family(
        {"text_config": {**QWEN3_5_TEXT, "intermediate_size": 384},
         "vision_config": VISION, **TOKENS},
        auto=MULTIMODAL, draft="qwen3_5",
        published={"full_attention_interval": 4}),
    "qwen3_5_moe_text": Family(
        {**QWEN3_5_TEXT, **EXPERTS, **SHARED},
        variants=("fused", "per-expert"), draft="qwen3_5",
        published={"full_attention_interval": 4}),
    "qwen3_5_text": Family(
        {**QWEN3_5_TEXT, "intermediate_size": 384}, draft="qwen3_5",
        published={"full_attention_interval": 4}),
    "qwen3_moe": Family({**TEXT, **EXPERTS}, variants=MEMORY),
    "qwen3": Family(TEXT),
    "qwen2": Family(PLAIN),
    "qwen2_moe": Family({**PLAIN, **EXPERTS, **SHARED},
                        variants=MEMORY),
    "llama": Family(TEXT, defects={"sglang": NO_BLOCKS}),
    "mistral": Family(TEXT, defects={"sglang": OLD_CODE}),
    "mixtral": Family({**PLAIN, "num_local_experts": 4,
                       "intermediate_size": 128}, variants=MEMORY),
    "qwen3_next": Family(
        {**QWEN3_5_TEXT,
         "rope_parameters": {**ROPE, "partial_rotary_factor": 0.25},
         **EXPERTS, **SHARED}, draft="qwen3_5", variants=MEMORY,
        published={"full_attention_interval": 4}),
    "deepseek_v3": Family({**PLAIN, **MLA, "rope_parameters": YARN},
                          draft="deepseek", variants=MEMORY,
                          defects={"transformers": RAGGED},
                          published={"topk_method": "noaux_tc",
                                     "scoring_func": "sigmoid",
                                     "moe_layer_freq": 1}),
    "glm4_moe": Family(
        {**TEXT, "n_routed_experts": 4, "n_shared_experts": 1,
         "num_experts_per_tok": 2, "moe_intermediate_size": 128,
         "first_k_dense_replace": 1, "num_nextn_predict_layers": 1,
         "use_qk_norm": True}, draft="deepseek", variants=MEMORY),
    "qwen3_vl": Family(
        {"text_config": {**TEXT, "rope_parameters": MROPE},
         "vision_config": {**VISION, "deepstack_visual_indexes": [0]},
         **TOKENS}, auto=MULTIMODAL),
    "qwen3_vl_moe": Family(
        {"text_config": {**TEXT, **EXPERTS, "rope_parameters": MROPE},
         "vision_config": {**VISION, "deepstack_visual_indexes": [0]},
         **TOKENS}, auto=MULTIMODAL,
        variants=("transposed", "fused", "per-expert"),
        defects={"transformers": NO_JOIN}, published={"norm_topk_prob": True},
        sizes=("hidden_size", "moe_intermediate_size")),
    "kimi_k2": Family(
        {**PLAIN, **MLA, "rope_parameters": YARN, "num_nextn_predict_layers": 0},
        build="deepseek_v3", variants=MEMORY, defects={"transformers": UNKNOWN},
        published={"model_type": "kimi_k2", "topk_method": "noaux_tc",
                   "scoring_func": "sigmoid", "moe_layer_freq": 1}),
    "deepseek_v32": Family(
        {**PLAIN, **MLA, "rope_parameters": YARN, "index_n_heads": 4,
         "index_head_dim": 128, "index_topk": 16},
        draft="deepseek", variants=MEMORY, defects={"transformers": RAGGED},
        published={"topk_method": "noaux_tc", "scoring_func": "sigmoid",
                   "moe_layer_freq": 1}),
    "ernie4_5_moe": Family(
        {**TEXT, "moe_num_experts": 4, "moe_k": 2,
         "moe_intermediate_size": 128, "moe_num_shared_experts": 1,
         "moe_layer_start_index": 1, "moe_layer_end_index": 1},
        variants=MEMORY, draft="ernie",
        published={"num_nextn_predict_layers": 1}),
    "hunyuan_v1_moe": Family(
        {**TEXT, "num_experts": 4, "moe_topk": 2,
         "moe_intermediate_size": 384, "num_shared_expert": 1},
        variants=MEMORY,
        published={"use_mixed_mlp_moe": True, "use_cla": False,
                   "use_qk_norm": True}),
    "gemma3_text": Family(TEXT),
    "gemma3": Family(
        {"text_config": TEXT, "mm_tokens_per_image": 4,
         "vision_config": {
             "hidden_size": 128, "intermediate_size": 256,
             "num_hidden_layers": 1, "num_attention_heads": 2,
             "image_size": 64, "patch_size": 8,
             "vision_use_head": False}}, auto=MULTIMODAL, variants=("hub",)),
    "phi3": Family({**PLAIN, "pad_token_id": 0},
                   defects={"sglang": NO_BLOCKS}),
    "phimoe": Family(PHIMOE, variants=MEMORY, published={
        "architectures": ["PhiMoEForCausalLM"]}),
    "phimoe.saved": Family(PHIMOE, build="phimoe",
                           defects={"sglang": NO_RENAMING}),
    "granitemoe": Family(
        {**PLAIN, "num_local_experts": 4, "num_experts_per_tok": 2},
        variants=("granite", "per-expert", "memory"),
        defects={"transformers": NO_JOIN}),
    "gemma4_text": Family(GEMMA4, defects={"sglang": PER_LAYER}),
    "gemma4_text.moe": Family(
        GEMMA4_MOE, build="gemma4_text", variants=("fused", "per-expert"),
        defects={"transformers": NO_JOIN, "sglang": PER_LAYER}),
    "gemma4": Family({"text_config": GEMMA4, "vision_config": GEMMA4_VISION,
                      "audio_config": None}, auto=MULTIMODAL),
    "gemma4.sound": Family(
        {"text_config": GEMMA4, "vision_config": GEMMA4_VISION,
         "audio_config": GEMMA4_SOUND}, auto=MULTIMODAL, build="gemma4"),
    "gemma4.moe": Family(
        {"text_config": GEMMA4_MOE, "vision_config": GEMMA4_VISION,
         "audio_config": None}, auto=MULTIMODAL, build="gemma4",
        variants=("fused", "per-expert"), defects={"transformers": NO_JOIN}),
    "llama4_text": Family(LLAMA4, across=True, variants=("plain", "per-expert"),
                          defects={
        "transformers": NO_JOIN, "sglang": NO_EXPERTS}),
    "llama4": Family(
        {"text_config": LLAMA4, "vision_config": LLAMA4_VISION},
        auto=MULTIMODAL, across=True, variants=("plain", "per-expert"),
        defects={"transformers": NO_JOIN}),
    "llama4.dense": Family(
        {"text_config": {**LLAMA4, "moe_layers": []},
         "vision_config": LLAMA4_VISION}, auto=MULTIMODAL, build="llama4",
        published={"interleave_moe_layer_step": 0, "num_local_experts": 0}),
    "olmoe": Family({**PLAIN, "num_key_value_heads": 4, "num_experts": 4,
                     "num_experts_per_tok": 2, "intermediate_size": 128},
                    variants=MEMORY),
    "minimax_m2": Family({**TEXT, "num_local_experts": 4,
                          "num_experts_per_tok": 2,
                          "intermediate_size": 128}, variants=MEMORY,
                         published={"rotary_dim": 64, "scoring_func": "sigmoid",
                                    "use_routing_bias": True,
                                    "use_qk_norm": True,
                                    "qk_norm_type": "per_layer"}),
    "granite": Family({**PLAIN}),
    "seed_oss": Family({**TEXT}),
    "glm4_moe_lite": Family({**PLAIN, **MLA}, draft="deepseek",
                            variants=MEMORY,
                            defects={"transformers": RAGGED},
                            published={"topk_method": "noaux_tc"}),
    "ministral3": Family(
        {**TEXT, "rope_parameters": {**YARN, "llama_4_scaling_beta": 0.1}},
        defects={"sglang": OLD_CODE}),
    "ernie4_5": Family(TEXT),
    "mistral3": Family(
        {"text_config": {**TEXT, "model_type": "ministral3",
                         "rope_parameters": {**YARN,
                                             "llama_4_scaling_beta": 0.1}},
         "tie_word_embeddings": False,
         "vision_config": {"model_type": "pixtral", "hidden_size": 128,
                           "intermediate_size": 256, "num_hidden_layers": 1,
                           "num_attention_heads": 2, "head_dim": 64,
                           "image_size": 64, "patch_size": 8}},
        auto=MULTIMODAL, defects={"vllm": NO_SCALES, "sglang": OLD_CODE}),
}
