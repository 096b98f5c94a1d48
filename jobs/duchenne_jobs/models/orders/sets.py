"""Order sets: drawn, listed, or all of them (Tallec 2023, 2.4.1 and 2.6.2).

Shapes: M orders, T tasks, C steps (tasks, or groups of tasks), G blocks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from duchenne_jobs.config import OrdersConfig
from duchenne_jobs.config.orders import Names, parse_orders
from duchenne_jobs.data.storage import locate


def build_order_set(config: OrdersConfig, tasks: Names) -> Tensor:
    """(M, C) distinct orders of the tasks or of the groups, 0-based.

    All of them come in lexicographic order, given ones in the order given, drawn ones by `config.seed`.

    Raises:
        ValueError: the set does not fit these tasks, or its file can't be read; the message names the field.
    """
    given = read_orders(config.file) if config.file is not None else None
    for fault in config.faults(tasks, given):
        raise ValueError(str(fault))
    names = config.step_names(tasks)
    steps = len(names)
    generator = torch.Generator().manual_seed(config.seed)
    match config.source:
        case "identity":
            return torch.arange(steps)[None, :]
        case "listed" | "file":
            return torch.tensor([[names.index(name) for name in order] for order in given or config.listed])
        case "blocks":
            blocks = [[tasks.index(name) for name in block] for block in config.blocks]
            every, draw = _orders_in_blocks(blocks), partial(_draw_in_blocks, blocks, generator)
            total = math.factorial(len(blocks)) * math.prod(math.factorial(len(block)) for block in blocks)
        case "random" | "all":
            every, draw = itertools.permutations(range(steps)), partial(_draw, steps, generator)
            total = math.factorial(steps)
    count = total if config.source == "all" else min(config.count, total)
    if count > total // 2:  # drawing the last ones one by one would hit known orders most of the time
        kept = torch.randperm(total, generator=generator)[:count].sort().values
        return torch.tensor(sorted(every))[kept]
    seen: dict[tuple[int, ...], None] = {}
    while len(seen) < count:
        seen.setdefault(draw())
    return torch.tensor(list(seen))


def read_orders(file: str) -> tuple[Names, ...]:
    """The orders of an order file: a path or an `s3://` URL.

    Raises:
        ValueError: it is not there, can't be read or is no text.
    """
    folder, slash, name = file.rpartition("/")
    content = locate(folder + slash or ".").read(name)
    if content is None:
        raise ValueError(
            f"model.orders.file: must be an order file, but got {file}, which is not there; check the path"
        )
    try:
        orders = parse_orders(content.decode())
    except UnicodeDecodeError:
        raise ValueError(
            f"model.orders.file: must be text, but got other bytes in {file}; write one order a line"
        ) from None
    if not orders:
        raise ValueError(f"model.orders.file: must hold an order, but got none in {file}; write one order a line")
    return orders


def _orders_in_blocks(blocks: list[list[int]]) -> Iterator[tuple[int, ...]]:
    """Every order that permutes the blocks, and the tasks inside each (Tallec 2023, 2.6.2)."""
    for arranged in itertools.permutations(blocks):
        for inside in itertools.product(*(itertools.permutations(block) for block in arranged)):
            yield tuple(itertools.chain(*inside))


def _draw(steps: int, generator: torch.Generator) -> tuple[int, ...]:
    return tuple(torch.randperm(steps, generator=generator).tolist())


def _draw_in_blocks(blocks: list[list[int]], generator: torch.Generator) -> tuple[int, ...]:
    """One of them, all equally likely."""
    arranged = [blocks[place] for place in torch.randperm(len(blocks), generator=generator).tolist()]
    inside = (
        [block[place] for place in torch.randperm(len(block), generator=generator).tolist()] for block in arranged
    )
    return tuple(itertools.chain(*inside))
