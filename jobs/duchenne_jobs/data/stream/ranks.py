"""Who this process is among the workers of a training run."""

from __future__ import annotations

import sys


def current_rank() -> tuple[int, int]:
    """(rank, world): Ray Train's inside one of its workers, else torch.distributed's, else (0, 1).

    Neither is imported: where it is not loaded, this process can't be its worker.
    """
    train = sys.modules.get("ray.train")
    if train is not None:
        try:
            context = train.get_context()
        except RuntimeError:  # outside of a training function
            context = None
        if context is not None and context.get_world_rank() is not None:
            return int(context.get_world_rank()), int(context.get_world_size())
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank()), int(distributed.get_world_size())
    return 0, 1
