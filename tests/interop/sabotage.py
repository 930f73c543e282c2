"""Checkpoints broken on purpose, one thing each.

spoil(source, result, config) yields (name, why, tensors, config). A `probe`
takes one kind of module out of modules_to_not_convert, which some loaders
mind and some do not; every other one is a fault that must be seen.
"""

import re

import tensors

# What engines fuse goes in or out of the list together.
TOGETHER = [("in_proj_a", "in_proj_b", "in_proj_ba"),
            ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")]
EXPERT = re.compile(r"(.*\bexperts\.)(\d+)\.(\w+)\.weight$")
DOWN = ("down_proj", "w2")
HALVES = (("gate_proj", "up_proj"), ("w1", "w3"))


def listed(config):
    return config["quantization_config"]["modules_to_not_convert"]


def with_list(config, entries):
    return {**config, "quantization_config": {
        **config["quantization_config"], "modules_to_not_convert": entries}}


def kind_of(entry):
    kind = re.sub(r"\.\d+\.", ".N.", re.sub(r"\.\d+\.", ".N.", entry))
    for group in TOGETHER:
        for leaf in group:
            if kind.endswith("." + leaf):
                return kind[:-len(leaf)] + "+".join(group)
    return kind


def probes(result, config):
    """Each kind of listed module that holds a matrix."""
    kinds = {}
    for entry in listed(config):
        kinds.setdefault(kind_of(entry), []).append(entry)
    for kind, entries in kinds.items():
        weights = [result.get(entry + ".weight") for entry in entries]
        if any(weight is not None and weight.ndim == 2 for weight in weights):
            rest = [one for one in listed(config) if one not in entries]
            yield kind, with_list(config, rest)


def renamed(tensors_by_name, change):
    return {change(name): tensor for name, tensor in tensors_by_name.items()}


def weights_called(result, leaves):
    """FP8 weights of the first layer that has experts or an MLP."""
    names = [name for name, tensor in result.items()
             if tensor.dtype == tensors.FP8
             and name.removesuffix(".weight").endswith(leaves)]
    trunk = [name for name in names if not name.startswith("mtp.")]
    experts = [name for name in trunk if EXPERT.match(name)]
    return sorted(experts or trunk)


def swap_halves(result):
    for first, second in HALVES:
        names = weights_called(result, (first,))
        if not names:
            continue
        name = names[0]
        other = name.replace(f".{first}.", f".{second}.")
        swap = {name: other, other: name, name + tensors.SCALE:
                other + tensors.SCALE, other + tensors.SCALE:
                name + tensors.SCALE}
        return renamed(result, lambda one: swap.get(one, one))
    name = weights_called(result, ("gate_up_proj",))[0]
    return {**result, **{one: tensors.torch.cat(result[one].chunk(2)[::-1])
                         for one in (name, name + tensors.SCALE)}}


def transpose(result):
    """The down projections of one layer the other way round."""
    names = weights_called(result, DOWN)
    parent = names[0].rpartition("experts.")[0]
    spoiled = dict(result)
    for name in names:
        if name.startswith(parent) and (parent or name == names[0]):
            for one in (name, name + tensors.SCALE):
                spoiled[one] = result[one].T.contiguous()
    return spoiled


def without(result, name):
    return {one: tensor for one, tensor in result.items()
            if one not in (name, name + tensors.SCALE)}


def routers(result):
    return sorted(name for name in result
                  if re.search(r"\.(mlp|block_sparse_moe)\.gate(\.wg)?"
                               r"\.weight$", name) and not name.startswith("mtp."))


def quantised_gate(result, config):
    name = routers(result)[0]
    codes, scales = tensors.quantise(result[name])
    entry = name.removesuffix(".weight")
    return ({**result, name: codes, name + tensors.SCALE: scales},
            with_list(config, [one for one in listed(config)
                               if one != entry]))


def unsplit(source, result, config):
    """The experts of one layer in BF16, fused, as two public converters for
    this format leave them."""
    name = next(one for one in source if one.endswith("experts.gate_up_proj")
                and not one.startswith("mtp."))
    prefix = name.removesuffix("gate_up_proj")
    left = {one: tensor for one, tensor in result.items()
            if not one.startswith(prefix)}
    for leaf in tensors.FUSED:
        left[prefix + leaf] = source[prefix + leaf]
    return left


def spoil_draft(source, result, config):
    """What a layout can get wrong that quantises the draft layer's attention
    and shared expert, which transformers never reads."""
    layer = "mtp.layers.0."
    query, output = (f"{layer}self_attn.{leaf}_proj.weight" for leaf in "qo")
    yield ("unlisted", f"{query} in BF16, as without the layout",
           {**without(result, query), query: source[query]}, config)
    one = output.removesuffix(".weight")
    yield ("listed", f"{one} is FP8 and listed", result,
           with_list(config, listed(config) + [one]))
    yield ("no-scale", f"{output}{tensors.SCALE} missing",
           {n: t for n, t in result.items() if n != output + tensors.SCALE},
           config)
    shared = layer + "mlp.shared_expert."
    swap = {"gate_proj": "up_proj", "up_proj": "gate_proj"}
    yield ("halves", "gate and up swapped in the draft's shared expert",
           renamed(result, lambda name: re.sub(
               rf"(?<=^{re.escape(shared)})\w+", lambda leaf: swap.get(
                   leaf.group(), leaf.group()), name)), config)


def spoil(source, result, config):
    for kind, spoiled in probes(result, config):
        yield "probe", kind, result, spoiled
    down = weights_called(result, DOWN)
    quantised = [name for name in sorted(result) if name.endswith(
        ("self_attn.o_proj.weight", "kv_b_proj.weight"))
        and result[name].dtype == tensors.FP8]
    one = quantised[0].removesuffix(".weight")
    yield ("listed", f"{one} is FP8 and listed", result,
           with_list(config, listed(config) + [one]))
    yield ("scale-name", "weight_scale instead of weight_scale_inv",
           renamed(result, lambda n: n.replace(tensors.SCALE, "_scale")),
           config)
    yield ("no-scale", f"{down[0]}{tensors.SCALE} missing",
           {n: t for n, t in result.items() if n != down[0] + tensors.SCALE},
           config)
    yield ("halves", "gate and up swapped in one MLP or expert",
           swap_halves(result), config)
    yield "transposed", "down_proj transposed", transpose(result), config
    layer = re.match(r"(.*layers\.\d+\.)self_attn", quantised[0]).group(1)
    yield ("stray", "a tensor that the model does not have",
           {**result, layer + "self_attn.rotary_emb.inv_freq":
            tensors.torch.ones(8)}, config)
    if EXPERT.match(down[0]):
        yield ("no-expert", f"{down[-1]} missing",
               without(result, down[-1]), config)
    if routers(result):
        yield ("gate", f"{routers(result)[0]} in FP8",
               *quantised_gate(result, config))
    if any(name.endswith("experts.gate_up_proj") for name in source):
        yield ("unsplit", "experts of one layer left fused, in BF16",
               unsplit(source, result, config), config)
