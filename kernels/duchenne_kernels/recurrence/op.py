"""The recurrence as torch custom ops, so that autograd, `torch.compile`, autocast and DDP treat it as one operator.

Shapes: B batch, M orders, K active orders, T tasks, C cells, H hidden, W label slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from duchenne_kernels.cells import CellWeights
from duchenne_kernels.recurrence import cpu
from duchenne_kernels.recurrence.native import kernels, library
from duchenne_kernels.recurrence.trie import Plan, active_plan, cached_plan


class _Kernels(Protocol):
    """What computes rows: the plain PyTorch module `cpu`, or the compiled `native.kernels`."""

    def forward(self, hidden: Tensor, fed: Tensor, plan: Plan, weights: CellWeights) -> tuple[Tensor, Tensor]: ...

    def backward(
        self, grad_logits: Tensor, hidden: Tensor, fed: Tensor, plan: Plan, weights: CellWeights, states: Tensor
    ) -> cpu.Gradients: ...


def _kernels(weights: CellWeights) -> _Kernels:
    cells, _gates, size = weights.weight_hh.shape
    if _plain_only or kernels.refusal(weights.weight_hh.dtype, cells, size) is not None:
        return cpu
    return kernels


_plain_only = False


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Keeps the compiled kernels out of the CPU backend inside the block (process-wide): for tests and benchmarks."""
    global _plain_only
    before, _plain_only = _plain_only, True
    try:
        yield
    finally:
        _plain_only = before


def cpu_kernels() -> str:
    """Which kernels the CPU backend uses for float32, in words: "compiled (avx512)", or "plain PyTorch: " and why."""
    if _plain_only:
        return "plain PyTorch: asked for by `plain_kernels`"
    loaded = library.load()
    return f"plain PyTorch: {loaded}" if isinstance(loaded, str) else f"compiled ({loaded.variant})"


def _plan(orders: Tensor, active: Tensor | None) -> Plan:
    return cached_plan(orders) if active is None else active_plan(orders, active)


def _output_index(plan: Plan, slots: Tensor) -> Tensor:
    """Flat index (row, slot) of each task of each order, (M, T) or (B, K, T): slots (C, W)."""
    width = slots.shape[1]
    used = (slots >= 0).flatten()
    position_of_task = torch.empty(int(used.sum()), dtype=torch.int64)
    position_of_task[slots.flatten()[used]] = used.nonzero().flatten()  # cell * W + slot
    rows = plan.output_rows()[..., position_of_task // width]
    return rows * width + position_of_task % width


@torch.library.custom_op("duchenne_kernels::recurrence_cpu", mutates_args=(), device_types="cpu")
def recurrence_cpu(
    hidden: Tensor,
    fed: Tensor,
    orders: Tensor,
    active: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    weight_out: Tensor,
    bias_out: Tensor,
    slots: Tensor,
) -> tuple[Tensor, Tensor]:
    """Logits (B, K, T) in task order, and the saved states, whose first rows are used (see `cpu.forward`)."""
    weights = CellWeights(weight_ih, weight_hh, bias_ih, bias_hh, weight_out, bias_out, slots)
    plan = _plan(orders, active)
    by_row, states = _kernels(weights).forward(hidden.contiguous(), fed, plan, weights)
    index = _output_index(plan, slots)
    flat = by_row.view(-1, by_row.shape[2])
    if active is not None:
        return flat.view(-1)[index], states
    return flat[index].permute(2, 0, 1).contiguous(), states


@recurrence_cpu.register_fake
def _(
    hidden: Tensor,
    fed: Tensor,
    orders: Tensor,
    active: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    weight_out: Tensor,
    bias_out: Tensor,
    slots: Tensor,
) -> tuple[Tensor, Tensor]:
    batch = hidden.shape[0]
    kept = orders.shape[0] if active is None else active.shape[1]
    # How many states are saved depends on how many prefixes the orders share.
    rows, padded = (torch.library.get_ctx().new_dynamic_size(min=0) for _ in range(2))
    per_row = batch if active is None else 1
    return hidden.new_empty(batch, kept, fed.shape[1]), hidden.new_empty(rows, per_row, padded)


@torch.library.custom_op("duchenne_kernels::recurrence_cpu_backward", mutates_args=(), device_types="cpu")
def recurrence_cpu_backward(
    grad_logits: Tensor,
    hidden: Tensor,
    fed: Tensor,
    orders: Tensor,
    active: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    weight_out: Tensor,
    bias_out: Tensor,
    slots: Tensor,
    states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of hidden, fed and the six cell tensors from `grad_logits` (B, K, T)."""
    weights = CellWeights(weight_ih, weight_hh, bias_ih, bias_hh, weight_out, bias_out, slots)
    plan = _plan(orders, active)
    index = _output_index(plan, slots)
    width, rows = slots.shape[1], plan.offsets[-1]
    if active is not None:
        by_row = grad_logits.new_zeros(rows * width, 1).index_add_(0, index.flatten(), grad_logits.reshape(-1, 1))
    else:
        batch = hidden.shape[0]
        incoming = grad_logits.permute(1, 2, 0).reshape(-1, batch)
        by_row = grad_logits.new_zeros(rows * width, batch).index_add_(0, index.flatten(), incoming)
    by_row = by_row.view(rows, width, -1)
    return _kernels(weights).backward(by_row, hidden.contiguous(), fed, plan, weights, states)


@recurrence_cpu_backward.register_fake
def _(
    grad_logits: Tensor,
    hidden: Tensor,
    fed: Tensor,
    orders: Tensor,
    active: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    weight_out: Tensor,
    bias_out: Tensor,
    slots: Tensor,
    states: Tensor,
) -> tuple[Tensor, ...]:
    inputs = (hidden, fed, weight_ih, weight_hh, bias_ih, bias_hh, weight_out, bias_out)
    return tuple(torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device) for tensor in inputs)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])
    ctx.set_materialize_grads(True)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad_logits: Tensor, _grad_states: Tensor) -> tuple[Tensor | None, ...]:
    *inputs, states = ctx.saved_tensors
    grads = recurrence_cpu_backward(grad_logits, *inputs, states)
    return (*grads[:2], None, None, *grads[2:], None)


recurrence_cpu.register_autograd(_backward, setup_context=_setup_context)

# Under autocast the op runs in float32: gates saturate, and a state passes through every step.
recurrence_cpu.register_autocast("cpu", torch.float32)
recurrence_cpu_backward.register_autocast("cpu", torch.float32)
