#!/usr/bin/env python3
"""vLLM's own code builds and loads checkpoints on a CPU.

    load_vllm.py JOBS.json

Functions that choose a GPU kernel and find none are replaced; nothing of
what decides names, shapes or copies is.
"""

import functools
import os
import sys

os.environ["VLLM_TARGET_DEVICE"] = "cpu"
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
from vllm.distributed.device_communicators import (  # noqa: E402
    shm_broadcast)
import vllm.distributed.parallel_state as parallel_state  # noqa: E402
import vllm.model_executor.layers.quantization.fp8 as fp8  # noqa: E402
import vllm.model_executor.models.registry as registry  # noqa: E402
import vllm.platforms.cpu as cpu  # noqa: E402
from vllm.config import set_current_vllm_config  # noqa: E402
from vllm.distributed import (  # noqa: E402
    destroy_distributed_environment, destroy_model_parallel,
    init_distributed_environment, initialize_model_parallel)
from vllm.engine.arg_utils import EngineArgs  # noqa: E402
from vllm.model_executor.model_loader.utils import (  # noqa: E402
    initialize_model)
from vllm.utils.torch_utils import set_default_torch_dtype  # noqa: E402

import alone  # noqa: E402
import engines  # noqa: E402
import tensors  # noqa: E402


class NoKernel:
    """Stands where a kernel would; nothing is computed here."""

    def process_weights_after_loading(self, layer):
        raise AssertionError("not reached by a load")


alone.install()
# It asks each model class in a process of its own, which takes longest here.
registry._run_in_subprocess = lambda function: function()
fp8.init_fp8_linear_kernel = lambda **settings: NoKernel()
fp8.select_fp8_moe_backend = lambda **settings: (None, None)
# What would wait for the other devices' processes.
parallel_state._node_count = lambda group: 1
shm_broadcast.MessageQueue.create_from_process_group = lambda *_, **__: None


def dense_attention(choose):
    """A CPU has no sparse attention, which DeepSeek-V3.2 asks for."""
    def chosen(_, backend, attn_selector_config, **rest):
        return choose(backend, attn_selector_config._replace(
            use_sparse=False), **rest)
    return chosen


cpu.CpuPlatform.get_attn_backend_cls = dense_attention(
    cpu.CpuPlatform.get_attn_backend_cls)


def start(config, size, rank):
    """Groups of devices, seen from one; which of them there are depends on the
    model."""
    with set_current_vllm_config(config):
        destroy_model_parallel()
        destroy_distributed_environment()
        init_distributed_environment(size, rank, "fake://", 0, backend="gloo")
        initialize_model_parallel(size)


def devices(size, spread):
    """vLLM spreads experts where there is data parallelism too."""
    return size * (2 if spread else 1)


def build(folder, size, rank, spread):
    settings = {}
    if spread:
        settings.update(data_parallel_size=2, enable_expert_parallel=True)
    if tensors.has_draft(folder):
        settings["speculative_config"] = {"method": "mtp",
                                          "num_speculative_tokens": 1}
    config = EngineArgs(
        model=folder, skip_tokenizer_init=True, enforce_eager=True,
        dtype="bfloat16", max_model_len=128, load_format="safetensors",
        tensor_parallel_size=size, **settings).create_engine_config()
    config.parallel_config.data_parallel_rank = rank // size
    start(config, size, rank % size)
    models = [("model", config.model_config)]
    if settings:
        models.append(("draft",
                       config.speculative_config.draft_model_config))
    for label, model_config in models:
        with set_default_torch_dtype(torch.bfloat16):
            model = initialize_model(config, model_config=model_config,
                                     prefix="")
        yield label, model, model.load_weights


def has_default(label, name):
    """Scales of an FP8 KV cache: made with every FP8 model, and left alone
    when the checkpoint has none."""
    return name.endswith((".attn.k_scale", ".attn.v_scale", ".attn.q_scale",
                          ".attn.prob_scale"))


def may_ignore(name):
    """What Gemma 4 reads as a number and not by a copy."""
    return name.endswith(".layer_scalar")


def may_cast(text):
    """DeepSeek-V3.2's indexer has wk in BF16 and takes it in FP8 with its
    scale (models/deepseek_v2.py, _try_load_fp8_indexer_wk)."""
    return ".indexer.wk." in text


if __name__ == "__main__":
    engines.main(functools.partial(engines.one, sys.modules[__name__]))
