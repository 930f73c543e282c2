"""What both engines' checks share: watched loads, and their comparison.

An engine module gives `build(folder, size, rank, spread)`: at a size of tensor
parallelism, with experts spread or not, for one device (label, model, load) of
the model and its draft; load(pairs) is the engine's own load_weights. And
`devices(size, spread)`: how many there are.
"""

import json
import sys
import traceback

import torch

import tensors
from watch import Watch, masks_of

MOST = 4  # examples told of one kind of fault


def tell(faults, check, items):
    items = sorted(items)
    if items:
        more = f" and {len(items) - MOST} more" if len(items) > MOST else ""
        faults.setdefault(check, []).append("; ".join(items[:MOST]) + more)


def is_scale(name):
    return name.endswith("_scale_inv")


def parameters_of(engine, label, model):
    """What must come from the checkpoint."""
    return {name: tensor for name, tensor in model.named_parameters()
            if not engine.has_default(label, name)}


def load(engine, folder, faults, size=1, spread=False):
    """Builds and loads, for each device. Returns {label: {parameter: value}}.
    """
    values, left, masks = {}, {}, {}
    checkpoint = tensors.read(folder)
    count = engine.devices(size, spread)
    for rank in range(count):
        for label, model, load_weights in engine.build(folder, size, rank,
                                                       spread):
            place = label if count == 1 else f"{label} on {rank} of {count}"
            parameters = parameters_of(engine, label, model)
            with torch.no_grad():
                for tensor in parameters.values():
                    tensor.data.view(-1).view(torch.uint8).fill_(0xff)
            watch = Watch(masks.setdefault(label, masks_of(checkpoint)),
                          parameters)
            with watch:
                load_weights(iter(checkpoint.items()))
            watch.finish(parameters_of(engine, label, model))
            left[label] = watch.consumed(alone=count == 1)
            tell(faults, "filled",
                 [f"{place}: {name}: {rest} elements" for name, rest
                  in watch.unfilled().items()])
            tell(faults, "cast", [f"{place}: {one}" for one in watch.casts
                                  if not engine.may_cast(one)])
            values[place] = {
                name: tensor.detach().clone() for name, tensor
                in parameters_of(engine, label, model).items()}
    rests = {name: min(of_label[name] for of_label in left.values())
             for name in checkpoint}
    tell(faults, "consumed",
         [f"{name}: {rest} elements left" for name, rest in rests.items()
          if rest and not engine.may_ignore(name)])
    return values


def block_of(codes, scales):
    """Where a device's share of experts cuts blocks, vLLM spreads their scales
    over smaller ones."""
    for block in (128, 64, 32):
        if all(-(-codes.shape[axis] // block) == scales.shape[axis]
               for axis in (-2, -1)):
            return block
    return None


def dequantised(parameters):
    made = {}
    for name, tensor in parameters.items():
        if is_scale(name):
            continue
        scale = parameters.get(name + tensors.SCALE)
        if tensor.dtype == tensors.FP8 and scale is not None:
            block = block_of(tensor, scale)
            if block:
                tensor = tensors.dequantise(tensor, scale, block)
        made[name] = tensor
    return made


def compare(found, wanted, faults):
    """Parameters of the FP8 load, dequantised, and of the rounded source."""
    items = []
    for label, parameters in wanted.items():
        made = dequantised(found.get(label, {}))
        for name in sorted(set(made) ^ set(parameters)):
            items.append(f"{label}: {name}: only in one of the loads")
        for name in sorted(set(made) & set(parameters)):
            a, b = made[name], parameters[name]
            if a.shape != b.shape or a.dtype != b.dtype:
                items.append(f"{label}: {name}: {list(a.shape)} {a.dtype}, "
                             f"expected {list(b.shape)} {b.dtype}")
            elif not tensors.same_bits(a, b):
                count = int((a != b).sum())
                items.append(f"{label}: {name}: {count} of {a.numel()} differ")
    tell(faults, "values", items)


def load_reference(engine, job, where, references):
    key = job["reference"], *where
    if key not in references:
        faults, values = {}, {}
        try:
            values = load(engine, job["reference"], faults, *where)
        except Exception as error:
            faults["builds"] = [said(error)]
        references[key] = values, faults
    return references[key]


def one(engine, job, references, faults):
    """Judges one FP8 checkpoint."""
    where = job.get("size", 1), job.get("spread", False)
    wanted, theirs = load_reference(engine, job, where, references)
    if theirs:
        # The BF16 source itself: then the harness or the engine is at fault,
        # or the model cannot be cut for so many devices.
        faults["reference"] = [f"{check}: {text}" for check, texts
                               in theirs.items() for text in texts]
        return
    compare(load(engine, job["result"], faults, *where), wanted, faults)


def main(check):
    """PROGRAM JOBS: reads jobs as JSON, writes what was found beside.
    check(job, references, faults) judges one checkpoint and fills faults,
    {check: [sentences]}; references is for what jobs can share."""
    torch.set_num_threads(1)
    with open(sys.argv[1], encoding="utf-8") as file:
        jobs = json.load(file)
    references = {}
    # A line a job, so that what an engine's crash leaves can be read.
    with open(sys.argv[1] + ".out", "w", encoding="utf-8") as out:
        for job in jobs:
            job["faults"] = {}
            try:
                check(job, references, job["faults"])
            except Exception as error:  # what a loader raises is a finding
                job["faults"]["builds"] = [said(error)]
                job["trace"] = traceback.format_exc()
            print(json.dumps(job), file=out, flush=True)


def said(error):
    """An exception in a line: what, and where in whose package."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = frame.filename.split("-packages/")[-1].split("/overlay/")[-1]
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text} ({place}:{frame.lineno})"
