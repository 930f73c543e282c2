"""One process that stands for one device of several.

Engines ask torch for the process group that they cut a model for; torch's own
fake group answers, and its collectives return at once. So every device's
share is built and loaded, one after the other, by what the engine would run
there, and nothing has to wait for the others.
"""

import torch
from torch.testing._internal.distributed.fake_pg import FakeStore


def install():
    """Every process group that is asked for from now on is a fake one."""
    init_process_group = torch.distributed.init_process_group
    new_group = torch.distributed.new_group

    def init_fake(world_size, rank, **real):
        del real  # where its processes meet, and how
        init_process_group("fake", store=FakeStore(), world_size=world_size,
                           rank=rank)

    def new_fake(ranks, **real):
        del real
        return new_group(ranks, backend="fake")

    torch.distributed.init_process_group = init_fake
    torch.distributed.new_group = new_fake
