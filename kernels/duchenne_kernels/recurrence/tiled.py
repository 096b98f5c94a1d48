"""What the GPU backends share: tiles of rows of one order, cut on the device and without waiting for it.

Shapes: B batch, M orders, K active orders, C cells, H hidden, N = B M or B K rows, R rows of a tile.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from duchenne_kernels.recurrence.registration import Inputs


@dataclass(frozen=True)
class Tiles:
    """Rows sorted by order, and the runs of at most R of them that a program takes; a count of 0 is an idle program."""

    order: Tensor  # (tiles,) int32
    start: Tensor  # (tiles,) int32
    count: Tensor  # (tiles,) int32
    example: Tensor  # (N,) int32: the example of a row
    column: Tensor  # (N,) int32: where the row's results go in a (B, K) layout

    @property
    def number(self) -> int:
        return self.order.numel()


def all_orders(batch: int, count: int, block: int, device: torch.device) -> Tiles:
    """Every example in each of `count` orders: row m B + b."""
    each = -(-batch // block)
    tile = torch.arange(count * each, device=device)
    order, within = tile // each, tile % each
    row = torch.arange(count * batch, device=device)
    example = row % batch
    return Tiles(
        order.int(),
        (order * batch + within * block).int(),
        (batch - within * block).clamp(max=block).int(),
        example.int(),
        (example * count + row // batch).int(),
    )


def active_orders(active: Tensor, count: int, block: int) -> Tiles:
    """Per-example subsets: `active` (B, K) indexes `count` orders. As many tiles as could ever be needed."""
    batch, kept = active.shape
    chosen, column = active.flatten().sort(stable=True)
    ones = torch.ones_like(chosen)
    rows = torch.zeros(count, dtype=torch.int64, device=active.device).scatter_add_(0, chosen, ones)
    needed = (rows + block - 1) // block
    ends = needed.cumsum(0)
    bound = min(batch * kept, batch * kept // block + count)
    tile = torch.arange(bound, device=active.device)
    order = torch.searchsorted(ends, tile, right=True).clamp(max=count - 1)
    within = (tile - (ends - needed)[order]) * block
    left = torch.where(tile < ends[-1], rows[order] - within, torch.zeros_like(within))
    start = torch.where(left > 0, (rows.cumsum(0) - rows)[order] + within, torch.zeros_like(within))
    return Tiles(order.int(), start.int(), left.clamp(0, block).int(), (column // kept).int(), column.int())


def cut(inputs: Inputs, block: int) -> Tiles:
    """The tiles of all orders, or of each example's own."""
    count = inputs.orders.shape[0]
    if inputs.active is None:
        return all_orders(inputs.hidden.shape[0], count, block, inputs.orders.device)
    return active_orders(inputs.active, count, block)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def capability(device: int) -> tuple[int, int]:
    """The compute capability of a GPU."""
    return torch.cuda.get_device_capability(device)


def empty_states(inputs: Inputs) -> Tensor:
    """Room for what the GPU backends save: the states (C + 1, N, H) in float32."""
    batch, size = inputs.hidden.shape
    return inputs.hidden.new_empty(inputs.orders.shape[1] + 1, batch * inputs.kept, size, dtype=torch.float32)
