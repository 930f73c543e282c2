"""Sees every copy that an engine makes while it loads a checkpoint.

Engines say nothing of tensors that they drop, fill in part or cast. A
dispatch mode sees each copy with its source and its target, both as views of
a storage; a mask of the same geometry says which elements took part.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
# Operations that look at values and move none.
LOOKS = ("aten.equal", "aten._local_scalar_dense", "aten.is_nonzero",
         "aten.allclose", "aten.isnan", "aten.any", "aten.all")


def key_of(tensor):
    return tensor.untyped_storage()._cdata


class Mask:
    """Which elements of a storage have been touched."""

    def __init__(self, name, tensor):
        self.name, self.dtype = name, tensor.dtype
        # Kept alive, or its address might be used again.
        self.tensor = tensor
        self.elements = tensor.numel()
        size = tensor.untyped_storage().nbytes() // tensor.element_size()
        self.touched = torch.zeros(size, dtype=torch.bool)

    def touch(self, view):
        if view.element_size() != self.tensor.element_size():
            self.touched[:] = True
            return
        self.touched.as_strided(view.shape, view.stride(),
                                view.storage_offset()).fill_(True)

    def rest(self):
        """Elements that were not touched."""
        return self.elements - int(self.touched.as_strided(
            self.tensor.shape, self.tensor.stride(),
            self.tensor.storage_offset()).sum())


def masks_of(tensors):
    return {key_of(t): Mask(n, t) for n, t in tensors.items()}


class Watch(TorchDispatchMode):
    """`masks` are of checkpoint tensors, and outlive this; `targets` are
    parameters by name."""

    def __init__(self, masks, targets):
        super().__init__()
        self.masks, self.sources = masks, dict(masks)
        self.targets = {}
        for name, tensor in targets.items():
            self.targets.setdefault(key_of(tensor), Mask(name, tensor.data))
        self.casts = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = str(function)
        if name.startswith("aten.copy_"):
            self.copied(args[0], args[1])
        elif not name.startswith(LOOKS):
            self.derived([t for t in tree_leaves([args, kwargs])
                          if isinstance(t, torch.Tensor)],
                         [t for t in tree_leaves(result)
                          if isinstance(t, torch.Tensor)])
        return result

    def cast(self, source, before, after, where):
        if before != after and (before in FP8 or after in FP8):
            short = [str(t).replace("torch.", "") for t in (before, after)]
            self.casts.add(f"{source.name}: {short[0]} cast to {short[1]}"
                           f" in {where}")

    def copied(self, target, origin):
        source = self.sources.get(key_of(origin))
        if source is None:
            return
        found = self.targets.get(key_of(target))
        self.cast(source, origin.dtype, target.dtype,
                  found.name if found else "a temporary")
        if found:
            source.touch(origin)
            found.touch(target)
        else:
            self.derived([origin], [target])

    def derived(self, origins, results):
        """A new tensor made of sources' elements stands for them."""
        masks = [(origin, self.sources[key_of(origin)]) for origin in origins
                 if key_of(origin) in self.sources]
        for result in results if masks else ():
            if key_of(result) in self.sources or result.numel() == 0:
                continue
            for origin, source in masks:
                source.touch(origin)
                self.cast(source, origin.dtype, result.dtype, "a temporary")
            if key_of(result) in self.targets:
                self.targets[key_of(result)].touch(result)
            else:
                self.sources[key_of(result)] = Mask(masks[0][1].name, result)

    def finish(self, targets):
        """After loading: parameters that now share a source's storage were
        assigned rather than copied."""
        for name, tensor in targets.items():
            source = self.sources.get(key_of(tensor))
            if source is not None:
                source.touch(tensor)
                self.targets.setdefault(
                    key_of(tensor), Mask(name, tensor.data)).touch(tensor)

    def consumed(self, alone):
        """Names of checkpoint tensors to the number of elements unused, by
        this load and those before it. What a load that was `alone` derives
        from them it must use, too; of what one of several devices derives it
        may use a share."""
        rest = {}
        for mask in (self.sources if alone else self.masks).values():
            rest[mask.name] = max(rest.get(mask.name, 0), mask.rest())
        return rest

    def unfilled(self):
        return {mask.name: mask.rest() for mask in self.targets.values()
                if mask.rest()}
