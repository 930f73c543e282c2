"""What both engines' checks share: watched loads, and their comparison.

An engine module gives `build(folder)`, a list of (label, model, load) for the
model and its draft; load(pairs) is the engine's own load_weights.
"""

import json
import sys
import traceback

import torch

import tensors
from watch import Watch

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


def load(engine, folder, faults):
    """Builds and loads. Returns {label: {parameter: value}}."""
    values, left = {}, {}
    checkpoint = tensors.read(folder)
    for label, model, load_weights in engine.build(folder):
        parameters = parameters_of(engine, label, model)
        with torch.no_grad():
            for tensor in parameters.values():
                tensor.data.view(-1).view(torch.uint8).fill_(0xff)
        watch = Watch(checkpoint, parameters)
        with watch:
            load_weights(iter(checkpoint.items()))
        watch.finish(parameters_of(engine, label, model))
        for name, rest in watch.consumed().items():
            left[name] = min(rest, left.get(name, rest))
        tell(faults, "filled",
             [f"{label}: {name}: {rest} elements" for name, rest
              in watch.unfilled().items()])
        tell(faults, "cast", [f"{label}: {one}" for one in watch.casts
                               if not engine.may_cast(one)])
        values[label] = {
            name: tensor.detach().clone() for name, tensor
            in parameters_of(engine, label, model).items()}
    tell(faults, "consumed",
         [f"{name}: {rest} elements left" for name, rest in left.items()
          if rest and not engine.may_ignore(name)])
    return values


def dequantised(parameters):
    made = {}
    for name, tensor in parameters.items():
        if is_scale(name):
            continue
        scale = parameters.get(name + tensors.SCALE)
        if tensor.dtype == tensors.FP8 and scale is not None:
            tensor = tensors.dequantise(tensor, scale)
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


def one(engine, job, references, faults):
    """Judges one FP8 checkpoint."""
    if job["reference"] not in references:
        theirs = {}
        values = load(engine, job["reference"], theirs)
        references[job["reference"]] = values, theirs
    wanted, theirs = references[job["reference"]]
    if theirs:
        # The BF16 source itself: then the harness or the engine is at fault.
        faults["reference"] = [f"{check}: {text}" for check, texts
                               in theirs.items() for text in texts]
        return
    compare(load(engine, job["result"], faults), wanted, faults)


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
