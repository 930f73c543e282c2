#!/usr/bin/env python3
"""SGLang's own code builds and loads checkpoints on a CPU.

    load_sglang.py JOBS.json

Kernels are not there and nothing is computed; what decides names, shapes and
copies is SGLang's.
"""

import concurrent.futures
import functools
import os
import re
import sys
import types

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["HF_HUB_OFFLINE"] = "1"

# Wants a GPU's library when it is imported.
sys.modules.setdefault("sgl_kernel", types.ModuleType("sgl_kernel"))

import torch  # noqa: E402
from sglang.srt.configs.load_config import LoadConfig  # noqa: E402
from sglang.srt.configs.model_config import ModelConfig  # noqa: E402
import sglang.srt.distributed.bootstrap as bootstrap  # noqa: E402
from sglang.srt.distributed.device_communicators import (  # noqa: E402
    pynccl, shm_broadcast)
from sglang.srt.distributed.parallel_state import (  # noqa: E402
    destroy_distributed_environment, destroy_model_parallel)
from sglang.srt.layers.moe import initialize_moe_config  # noqa: E402
import sglang.srt.layers.moe.fused_moe_triton.layer as fused_moe  # noqa: E402
from sglang.srt.model_loader.loader import (  # noqa: E402
    _get_quantization_config, _initialize_model)
from sglang.srt.model_loader.utils import set_default_torch_dtype  # noqa: E402
import sglang.srt.models.mllama4 as mllama4  # noqa: E402
import sglang.srt.models.transformers as transformers_model  # noqa: E402
from sglang.srt.runtime_context import SpawnRanks, publish  # noqa: E402
from sglang.srt.server_args import ServerArgs  # noqa: E402

import alone  # noqa: E402
import engines  # noqa: E402
import tensors  # noqa: E402

alone.install()
# For a model of transformers' classes it asks where a GPU is.
transformers_model.get_device = lambda *_: "cpu"
# DeepSeek-V3.2's arguments ask which GPU it is: one of the kind it is made for.
torch.cuda.get_device_capability = lambda *_: (9, 0)
# Llama 4 looks for its vision in an index, which a checkpoint of one shard
# does not have.
mllama4.Llama4ForConditionalGeneration._has_vision_weights = (
    lambda model, config: hasattr(config, "vision_config"))
# There are no threads to bind, no NCCL, and no other devices' processes to wait
# for.
bootstrap._bind_threads_if_cpu = lambda **_: None
pynccl.NCCLLibrary = None
shm_broadcast.MessageQueue.create_from_process_group = lambda *_, **__: None
# What takes tokens to spread experts wants a GPU's library, and has no weights.
fused_moe.MaybeTboDeepEPDispatcher = types.SimpleNamespace
started = None


class AtOnce:
    """An executor without threads: DeepSeek's weights are loaded by some, and
    copies in another thread are not seen."""

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        return False

    def submit(self, function, *arguments, **settings):
        done = concurrent.futures.Future()
        try:
            done.set_result(function(*arguments, **settings))
        except Exception as error:
            done.set_exception(error)
        return done


concurrent.futures.ThreadPoolExecutor = AtOnce


def start(settings, *place):
    """What the engine's scheduler does before it loads; `place` is of how many
    devices which, and whether experts are spread."""
    global started
    if started != place:
        destroy_model_parallel()
        destroy_distributed_environment()
    publish(settings, role="scheduler",
            ranks=SpawnRanks(world_rank=place[1], gpu_id=0))
    if started != place:
        bootstrap.init_parallel_runtime(server_args=settings, device="cpu",
                                        dist_port=1)
        initialize_moe_config()
    started = place


def kind(folder):
    return tensors.read_config(folder)["model_type"]


def attention(folder):
    """Nothing is computed, but not every model can be built with each."""
    return ("triton" if kind(folder).startswith("gemma4")
            else "torch_native")


SPREAD = {"moe_a2a_backend": "deepep", "deepep_mode": "normal"}


def devices(size, spread):
    return size


def build(folder, size, rank, spread):
    settings = ServerArgs(
        model_path=folder, device="cpu", skip_tokenizer_init=True,
        dtype="bfloat16", load_format="safetensors",
        attention_backend=attention(folder), disable_radix_cache=True,
        tp_size=size, **SPREAD if spread else {},
        enable_multimodal=kind(folder) == "llama4" or None)
    start(settings, size, rank, spread)
    for label in ["model", "draft"] if tensors.has_draft(folder) else ["model"]:
        config = ModelConfig.from_server_args(
            settings, model_path=folder, is_draft_model=label == "draft")
        load_config = LoadConfig(load_format="safetensors")
        with set_default_torch_dtype(config.dtype):
            model = _initialize_model(
                config, load_config,
                _get_quantization_config(config, load_config))
        yield label, model, model.load_weights


def has_default(label, name):
    """Scales of an FP8 KV cache are made with every FP8 model and left alone
    when the checkpoint has none; a draft's head and embeddings are then
    replaced by the model's (set_embed_and_head of its class)."""
    return (name.endswith((".k_scale", ".v_scale"))
            or label == "draft" and name in ("lm_head.weight",
                                             "model.embed_tokens.weight"))


def may_ignore(name):
    """The copies that a draft layer brings of what it then shares; and what
    Gemma 4 reads as a number and not by a copy."""
    return re.search(
        r"layers\.\d+\.((embed_tokens|shared_head\.head)\.weight"
        r"|layer_scalar)$", name)


def may_cast(text):
    return False


if __name__ == "__main__":
    engines.main(functools.partial(engines.one, sys.modules[__name__]))
