"""What the GPU backends share: tiles of rows of one order, and the registration of their ops.

Tiles are cut on the device and without waiting for it.

Shapes: B batch, M orders, K active orders, N = B M or B K rows, R rows of a tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


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


def cut(orders: Tensor, active: Tensor | None, batch: int, block: int) -> Tiles:
    """The tiles of `orders` (M, C), whole or by `active` (B, K)."""
    if active is None:
        return all_orders(batch, orders.shape[0], block, orders.device)
    return active_orders(active, orders.shape[0], block)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def capability(device: int) -> tuple[int, int]:
    """The compute capability of a GPU."""
    return torch.cuda.get_device_capability(device)


def register(forward: Any, backward: Any) -> None:
    """Fake tensors, autograd and autocast of a forward op `(hidden, fed, orders, active, *weights) -> logits, states`.

    Both are `torch.library.custom_op`s; `backward` takes the logits' gradient first and the states last.
    """

    def fake_forward(
        hidden: Tensor, fed: Tensor, orders: Tensor, active: Tensor | None, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        batch, size = hidden.shape
        kept = orders.shape[0] if active is None else active.shape[1]
        steps = orders.shape[1]
        logits = hidden.new_empty(batch, kept, steps)
        return logits, hidden.new_empty(steps + 1, batch * kept, size, dtype=torch.float32)

    def fake_backward(
        grad: Tensor, hidden: Tensor, fed: Tensor, orders: Tensor, active: Tensor | None, *others: Tensor
    ) -> tuple[Tensor, ...]:
        inputs = (hidden, fed, *others[:-2])  # without slots and states
        return tuple(torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device) for tensor in inputs)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, output[1])
        ctx.mark_non_differentiable(output[1])

    def run_backward(ctx: Any, grad_logits: Tensor, _grad_states: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, states = ctx.saved_tensors
        grads = backward(grad_logits, *inputs, states)
        return (*grads[:2], None, None, *grads[2:], None)

    forward.register_fake(fake_forward)
    backward.register_fake(fake_backward)
    forward.register_autograd(run_backward, setup_context=setup_context)
    for op in (forward, backward):
        op.register_autocast("cuda", torch.float32)
