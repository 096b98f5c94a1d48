"""The parameters of the recurrence: one GRU cell with an output unit for each task (Tallec 2023, eq. 2.25).

Shapes: T tasks, C cells (C = T, or the number of groups), H hidden, W labels fed and predicted a step (1, or the
largest size of a group).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class CellWeights(NamedTuple):
    """What a backend receives: every tensor has a leading cell axis and an explicit label-slot axis.

    `slots` (C, W) int64 names the label behind each slot of a cell; -1 pads cells of groups smaller than W.
    """

    weight_ih: Tensor  # (C, 3H, W)
    weight_hh: Tensor  # (C, 3H, H)
    bias_ih: Tensor  # (C, 3H)
    bias_hh: Tensor  # (C, 3H)
    weight_out: Tensor  # (C, W, H)
    bias_out: Tensor  # (C, W)
    slots: Tensor  # (C, W) int64


class GRUCells(nn.Module):
    """One GRU cell per task, gates in `torch.nn.GRUCell`'s r, z, n order, and one output unit per task.

    The step of task t maps the state h and the previous label y to

        r, z, n = gates of nn.GRUCell with input (y,)
        h' = (1 - z) * n + z * h,    logit = weight_out[t] . h' + bias_out[t]

    (Tallec 2023, eq. 2.25 and 2.26). Parameters: `weight_ih (T, 3H)`, `weight_hh (T, 3H, H)`, `bias_ih (T, 3H)`,
    `bias_hh (T, 3H)`, `weight_out (T, H)`, `bias_out (T,)`, drawn uniformly from +-1/sqrt(H) as `nn.GRUCell` does.

    Args:
        num_tasks: T, the number of labels.
        hidden_size: H, the units of a cell.
        shared: one cell for all tasks, as in an MRNN (eq. 2.10): every recurrent parameter and `weight_out` keep a
            leading axis of 1, since the cell g_V itself gives the output o^t. `bias_out` stays (T,), so that each task
            can start from its own frequency (eq. 2.38).
        groups: a partition of the tasks into cells that predict and feed several labels a step (eq. 2.43, 2.44). Orders
            then permute groups, and parameters gain a slot axis of W, the largest group's size: `weight_ih (C, 3H, W)`,
            `weight_out (C, W, H)`, `bias_out (C, W)`. Slots beyond a smaller group's size are never read.

    Raises:
        ValueError: a size below 1, `groups` that isn't a partition of 0..T-1, or `shared` together with `groups`.
    """

    def __init__(
        self,
        num_tasks: int,
        hidden_size: int,
        *,
        shared: bool = False,
        groups: Sequence[Sequence[int]] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("num_tasks", num_tasks), ("hidden_size", hidden_size)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, but got {value}; give a positive integer")
        if shared and groups is not None:
            raise ValueError("`shared` and `groups` exclude each other, but both are given; choose one")
        slots = [[task] for task in range(num_tasks)] if groups is None else _checked_groups(groups, num_tasks)
        self.num_tasks = num_tasks
        self.hidden_size = hidden_size
        self.num_cells = len(slots)
        self.shared = shared
        self.grouped = groups is not None
        width = max(len(group) for group in slots)
        padded = [[*group, *[-1] * (width - len(group))] for group in slots]
        self.slots: Tensor
        self.register_buffer("slots", torch.tensor(padded, dtype=torch.int64, device=device), persistent=False)

        count, gates = (1 if shared else self.num_cells), 3 * hidden_size
        slot_axis = (width,) if self.grouped else ()

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.weight_ih = parameter(count, gates, *slot_axis)
        self.weight_hh = parameter(count, gates, hidden_size)
        self.bias_ih = parameter(count, gates)
        self.bias_hh = parameter(count, gates)
        self.weight_out = parameter(count, *slot_axis, hidden_size)
        self.bias_out = parameter(self.num_cells, *slot_axis)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws every parameter uniformly from +-1/sqrt(H)."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def stacked(self) -> CellWeights:
        """The parameters in the one form that every backend takes; gradients flow back through the views."""
        tensors: list[Tensor] = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        tensors += [self.weight_out, self.bias_out]
        if not self.grouped:
            tensors[0] = self.weight_ih.unsqueeze(-1)
            tensors[4] = self.weight_out.unsqueeze(1)
            tensors[5] = self.bias_out.unsqueeze(-1)
        if self.shared:
            tensors = [tensor.expand(self.num_cells, *tensor.shape[1:]) for tensor in tensors]
        return CellWeights._make([*tensors, self.slots])

    def extra_repr(self) -> str:
        sizes = f"num_tasks={self.num_tasks}, num_cells={self.num_cells}, hidden_size={self.hidden_size}"
        return f"{sizes}, shared={self.shared}"


def _checked_groups(groups: Sequence[Sequence[int]], num_tasks: int) -> list[list[int]]:
    members = [list(group) for group in groups]
    if not all(members) or sorted(task for group in members for task in group) != list(range(num_tasks)):
        raise ValueError(
            f"`groups` must hold each task of 0..{num_tasks - 1} exactly once in non-empty groups, but got {members}; "
            "list every task in one group"
        )
    return members
