#!/usr/bin/env python3
"""transformers loads checkpoints on a CPU, where it dequantises by itself.

    load_transformers.py JOBS.json

For a GPU's view its quantizer replaces the modules of a model without
weights.
"""

import os
import re

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
import transformers  # noqa: E402
from transformers.conversion_mapping import (  # noqa: E402
    get_model_conversion_mapping)
from transformers.integrations.finegrained_fp8 import (  # noqa: E402
    FP8Experts, FP8Linear)
from transformers.quantizers.quantizer_finegrained_fp8 import (  # noqa: E402
    FineGrainedFP8HfQuantizer)
from transformers.utils.quantization_config import (  # noqa: E402
    FineGrainedFP8Config)

import engines  # noqa: E402
import tensors  # noqa: E402
from families import FAMILIES  # noqa: E402

TOKENS = torch.arange(3, 67).reshape(2, 32)


def of_draft(name, folder):
    """Layers behind the last one; transformers ignores them by the number
    that the published models have."""
    config = tensors.read_config(folder)
    layers = config.get("text_config", config)["num_hidden_layers"]
    return name.startswith(f"model.layers.{layers}.")


def load(auto, folder, faults):
    model, found = auto.from_pretrained(
        folder, dtype=torch.bfloat16, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys",
                 "error_msgs"):
        engines.tell(faults, "keys", [
            f"{kind}: {one}" for one in found.get(kind) or []
            if not of_draft(str(one), folder)])
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False).logits.float()


def fp8_in_file(folder, model):
    """Modules that are FP8 in the file, as transformers calls them."""
    ignored = model._keys_to_ignore_on_load_unexpected or []
    names = set()
    for name, tensor in tensors.read(folder).items():
        if (tensor.dtype != tensors.FP8 or of_draft(name, folder)
                or any(re.search(one, name) for one in ignored)):
            continue
        name = name.removesuffix(".weight")
        for rename in get_model_conversion_mapping(model):
            changed, _ = rename.rename_source_key(name + ".weight")
            name = changed.removesuffix(".weight")
        names.add(re.sub(r"(\bexperts)\..*", r"\1", name))
    return names


def fp8_on_gpu(auto, folder):
    config = transformers.AutoConfig.from_pretrained(folder)
    settings = FineGrainedFP8Config.from_dict(
        tensors.read_config(folder)["quantization_config"])
    settings.dequantize = False
    with torch.device("meta"):
        model = auto.from_config(config)
    quantizer = FineGrainedFP8HfQuantizer(settings, pre_quantized=True)
    quantizer._process_model_before_weight_loading(model)
    return model, {name for name, module in model.named_modules()
                   if isinstance(module, (FP8Linear, FP8Experts))}


def check(job, references, faults):
    auto = getattr(transformers, FAMILIES[job["family"]].auto)
    for which in ("source", "reference"):
        if job[which] not in references:
            theirs = {}
            model = load(auto, job[which], theirs)
            references[job[which]] = (dict(model.state_dict()),
                                      logits(model), theirs)
    source = references[job["source"]]
    wanted, wanted_logits, theirs = references[job["reference"]]
    if theirs:
        faults["reference"] = [f"{key}: {text}" for key, texts
                               in theirs.items() for text in texts]
        return

    meta, on_gpu = fp8_on_gpu(auto, job["result"])
    in_file = fp8_in_file(job["result"], meta)
    engines.tell(faults, "set",
                 [f"{name}: FP8 on a GPU, not in the file"
                  for name in on_gpu - in_file]
                 + [f"{name}: FP8 in the file, not on a GPU"
                    for name in in_file - on_gpu])

    model = load(auto, job["result"], faults)
    engines.compare({"model": dict(model.state_dict())}, {"model": wanted},
                    faults)
    found_logits = logits(model)
    if not torch.equal(found_logits, wanted_logits):
        most = float((found_logits - source[1]).abs().max())
        allowed = float((wanted_logits - source[1]).abs().max())
        faults["logits"] = [f"off by {most:.4f}, PyTorch's own rounding by "
                            f"{allowed:.4f}"]
    job["logits"] = [float((found_logits - source[1]).abs().max()),
                     float(source[1].abs().max())]


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    engines.main(check)
