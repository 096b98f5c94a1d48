"""The trie backend as a torch op: compiled kernels on a CPU where they were built, plain PyTorch everywhere else.

Shapes: B batch, M orders, K active orders, T tasks, C cells, H hidden, W label slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from duchenne_kernels.cells import CellWeights
from duchenne_kernels.recurrence import cpu
from duchenne_kernels.recurrence.native import kernels, library
from duchenne_kernels.recurrence.registration import Gradients, Inputs, register
from duchenne_kernels.recurrence.trie import Plan, active_plan, cached_plan


class _Kernels(Protocol):
    """What computes rows: the plain PyTorch module `cpu`, or the compiled `native.kernels`."""

    def forward(self, hidden: Tensor, fed: Tensor, plan: Plan, weights: CellWeights) -> tuple[Tensor, Tensor]: ...

    def backward(
        self, grad_logits: Tensor, hidden: Tensor, fed: Tensor, plan: Plan, weights: CellWeights, states: Tensor
    ) -> Gradients: ...


def _kernels(weights: CellWeights) -> _Kernels:
    cells, _gates, size = weights.weight_hh.shape
    refused = kernels.refusal(weights.weight_hh.device, weights.weight_hh.dtype, cells, size)
    return cpu if _plain_only or refused is not None else kernels


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


def _plan(inputs: Inputs) -> Plan:
    plan = cached_plan(inputs.orders) if inputs.active is None else active_plan(inputs.orders, inputs.active)
    return plan.on(inputs.hidden.device)


def _output_index(plan: Plan, slots: Tensor, tasks: int) -> Tensor:
    """Flat index (row, slot) of each task of each order, (M, T) or (B, K, T): slots (C, W)."""
    width = slots.shape[1]
    position_of_task = slots.flatten().argsort(stable=True)[-tasks:]  # cell * W + slot; padding, -1, comes first
    rows = plan.output_rows[..., position_of_task // width]
    return rows * width + position_of_task % width


def _forward(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The states' first rows are used (see `cpu.forward`)."""
    hidden, fed, _orders, active, weights = inputs
    plan = _plan(inputs)
    by_row, states = _kernels(weights).forward(hidden.contiguous(), fed, plan, weights)
    index = _output_index(plan, weights.slots, fed.shape[1])
    flat = by_row.view(-1, by_row.shape[2])
    if active is not None:
        return flat.view(-1)[index], states
    return flat[index].permute(2, 0, 1).contiguous(), states


def _backward(grad_logits: Tensor, inputs: Inputs, states: Tensor) -> Gradients:
    hidden, fed, _orders, active, weights = inputs
    plan = _plan(inputs)
    index = _output_index(plan, weights.slots, fed.shape[1]).flatten()
    width, rows = weights.slots.shape[1], plan.offsets[-1]
    incoming = (
        grad_logits.reshape(-1, 1) if active is not None else grad_logits.permute(1, 2, 0).reshape(-1, hidden.shape[0])
    )
    by_row = cpu.add_rows(grad_logits.new_zeros(rows * width, incoming.shape[1]), index, incoming)
    by_row = by_row.view(rows, width, -1)
    return _kernels(weights).backward(by_row, hidden.contiguous(), fed, plan, weights, states)


def _fake_states(inputs: Inputs) -> Tensor:
    # How many states are saved depends on how many prefixes the orders share.
    rows, padded = (torch.library.get_ctx().new_dynamic_size(min=0) for _ in range(2))
    return inputs.hidden.new_empty(rows, inputs.hidden.shape[0] if inputs.active is None else 1, padded)


recurrence_cpu = register("recurrence_cpu", _forward, _backward, _fake_states)
