"""Splits the pool's world of ranks into the groups that run a fold job together."""

from __future__ import annotations

from datetime import timedelta

from duchenne.pool.messages import PoolOptions
from duchenne_jobs.training.ranks import ALONE, Ranks

RANK_PATIENCE = timedelta(minutes=10)
"""How long a rank waits for the others of its group: they read the same data, and their steps take about as long."""


def join_ranks(options: PoolOptions, rank: int) -> Ranks:
    """The group of this rank, as a world of its own. Called by every rank of Ray Train's world, which it takes the
    place of: an engine may use the default process group, and a group never waits for another.

    Ray Train sorts ranks by node, so that the consecutive ranks of a group are neighbours where nodes are large enough.
    """
    size = options.workers_per_fold
    if size == 1:
        return ALONE
    import ray
    import torch
    import torch.distributed as dist
    from torch._C._distributed_c10d import TCPStore

    own, store, meeting = rank % size, None, None
    if own == 0:
        host = ray.util.get_node_ip_address()
        store = TCPStore(host, 0, size, is_master=True, timeout=RANK_PATIENCE, wait_for_workers=False)
        meeting = (host, store.port)
    meetings: list[tuple[str, int] | None] = [None] * options.workers
    dist.all_gather_object(meetings, meeting)
    dist.destroy_process_group()
    if store is None:
        host, port = meetings[options.leader(rank)] or ("", 0)
        store = TCPStore(host, port, size, is_master=False, timeout=RANK_PATIENCE)
    # NCCL wants a GPU for each rank; gloo carries CUDA tensors too, for ranks that share one.
    backend = "nccl" if options.gpus >= 1 and torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=own, world_size=size, timeout=RANK_PATIENCE)
    return Ranks(own, size, dist.group.WORLD, dist.new_group(timeout=RANK_PATIENCE, backend="gloo"))
