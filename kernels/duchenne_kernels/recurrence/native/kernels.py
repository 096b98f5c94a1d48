"""Calls the compiled kernels with torch tensors; the same two functions as `cpu.forward` and `cpu.backward`.

Shapes: B batch, C cells, H hidden, P H padded to whole vectors, W label slots, S examples a row (see `trie.Plan`).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from itertools import accumulate
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional

from duchenne_kernels.cells import CellWeights
from duchenne_kernels.recurrence.cpu import labels_by_cell, labels_gradient
from duchenne_kernels.recurrence.native.library import Library, Problem, load
from duchenne_kernels.recurrence.registration import Gradients
from duchenne_kernels.recurrence.trie import Plan

# Every thread sums weight gradients of its own; above this the plain backend is the better one.
MAX_SUM_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class FlatPlan:
    """A plan as the integer arrays of the C struct."""

    offsets: Tensor  # (C + 1,)
    parent: Tensor  # (rows,)
    fed: Tensor  # (rows,)
    example: Tensor | None  # (rows,)
    group_offsets: Tensor  # (C + 1,)
    groups: Tensor  # (groups, 3)
    start_offsets: Tensor  # (C,)
    child_start: Tensor
    child_row: Tensor  # (rows,)


_flat_plans: WeakKeyDictionary[Plan, FlatPlan] = WeakKeyDictionary()


def flatten(plan: Plan, batch: int) -> FlatPlan:
    """The flat form of `plan`, made once."""
    found = _flat_plans.get(plan)
    if found is None:
        found = _flat_plans[plan] = _flatten(plan, batch)
    return found


def _flatten(plan: Plan, batch: int) -> FlatPlan:
    above = [1 if plan.examples is None else batch, *[level.cell.numel() for level in plan.levels[:-1]]]
    starts, children = [], []
    for level, count in zip(plan.levels, above, strict=True):
        children.append(level.parent.argsort(stable=True))
        starts.append(functional.pad(level.parent.bincount(minlength=count).cumsum(0), (1, 0)))
    groups = [group for level in plan.levels for group in level.groups]
    return FlatPlan(
        offsets=torch.tensor(plan.offsets),
        parent=torch.cat([level.parent for level in plan.levels]),
        fed=torch.cat([level.fed for level in plan.levels]),
        example=None if plan.examples is None else torch.cat(plan.examples),
        group_offsets=_running([len(level.groups) for level in plan.levels]),
        groups=torch.tensor(groups),
        start_offsets=_running([start.numel() for start in starts])[:-1].contiguous(),
        child_start=torch.cat(starts),
        child_row=torch.cat(children),
    )


def _running(sizes: list[int]) -> Tensor:
    return torch.tensor(list(accumulate(sizes, initial=0)))


def refusal(device: torch.device, dtype: torch.dtype, num_cells: int, hidden_size: int) -> str | None:
    """Why the compiled kernels can't be used, or None."""
    if device.type != "cpu":
        return f"the weights are on {device}, not on the CPU"
    library = load()
    if isinstance(library, str):
        return library
    if dtype != torch.float32:
        return f"computes in float32, not {dtype}"
    sums = torch.get_num_threads() * num_cells * 3 * hidden_size * hidden_size * 4
    if sums > MAX_SUM_BYTES:
        return f"the threads' weight gradients would take {sums >> 20} MiB"
    return None


class _Call:
    """One call's struct, and the tensors that it points to."""

    def __init__(self, hidden: Tensor, fed: Tensor, plan: Plan, weights: CellWeights) -> None:
        library = load()
        if isinstance(library, str):
            raise RuntimeError(f"the compiled CPU kernels can't be used: {library}")
        self.library: Library = library
        batch, size = hidden.shape
        flat = flatten(plan, batch)
        self.padded = -(-size // library.lanes) * library.lanes
        self.per_row = batch if plan.examples is None else 1
        self.by_cell = labels_by_cell(fed, weights.slots)
        self._kept: list[Tensor] = []
        cells, width = weights.slots.shape
        self.problem = Problem(
            batch,
            size,
            self.padded,
            width,
            cells,
            len(plan.levels),
            self.per_row,
            self._threads(library),
            **library.pool,
        )
        initial = hidden if self.padded == size else functional.pad(hidden, (0, self.padded - size))
        self.point(initial=initial.contiguous(), labels=self.by_cell)
        self.point(
            **{name: tensor.contiguous() for name, tensor in zip(CellWeights._fields[:-1], weights[:-1], strict=True)}
        )
        self.point(**{name: value for name, value in vars(flat).items() if value is not None})
        self.point(packed=torch.empty(library.functions.duchenne_packed_floats(self.address)))

    @staticmethod
    def _threads(library: Library) -> int:
        return torch.get_num_threads() if library.pool else 1

    @property
    def address(self) -> object:
        return ctypes.byref(self.problem)

    def point(self, **tensors: Tensor) -> None:
        """Sets pointers of the struct and keeps their tensors alive as long as the call."""
        for name, tensor in tensors.items():
            setattr(self.problem, name, tensor.data_ptr())
            self._kept.append(tensor)


def forward(hidden: Tensor, fed: Tensor, plan: Plan, weights: CellWeights) -> tuple[Tensor, Tensor]:
    """Logits (rows, W, S) and saved states (rows without the last level, S, P)."""
    call = _Call(hidden, fed, plan, weights)
    logits = torch.empty(plan.offsets[-1], weights.slots.shape[1], call.per_row)
    states = torch.empty(plan.offsets[-2], call.per_row, call.padded)
    functions = call.library.functions
    call.point(logits=logits, states=states, sums=torch.empty(functions.duchenne_forward_floats(call.address)))
    functions.duchenne_forward(call.address)
    return logits, states


def backward(
    grad_logits: Tensor, hidden: Tensor, fed: Tensor, plan: Plan, weights: CellWeights, states: Tensor
) -> Gradients:
    """Gradients from `grad_logits` (rows, W, S) and the states that `forward` saved."""
    call = _Call(hidden, fed, plan, weights)
    batch, size = hidden.shape
    width, rows = weights.slots.shape[1], plan.offsets[-1]
    functions = call.library.functions
    largest = max(level.cell.numel() for level in plan.levels)
    call.problem.level_stride = largest * call.per_row * call.padded
    grad_initial = torch.empty(batch, call.padded)
    grad_inputs = torch.empty(rows, call.per_row, width)
    grads = {
        f"grad_{name}": torch.empty(tensor.shape)
        for name, tensor in zip(CellWeights._fields, weights[:-1], strict=False)
    }
    call.point(
        states=states,
        grad_logits=grad_logits.contiguous(),
        grad_initial=grad_initial,
        grad_inputs=grad_inputs,
        sums=torch.empty(functions.duchenne_backward_floats(call.address)),
        level_grads=torch.empty(2 * call.problem.level_stride),
        **grads,
    )
    functions.duchenne_backward(call.address)
    return Gradients(
        grad_initial[:, :size].contiguous(), labels_gradient(grad_inputs, plan, fed, weights.slots), *grads.values()
    )
