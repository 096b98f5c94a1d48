"""The recurrence in plain PyTorch, on any device: prefix trie, one matmul per cell and level, hand-written backward.

Only the states that feed a later step are saved; gates are recomputed in backward. Weight gradients are summed per
cell, one matmul a level.

Shapes: B batch, C cells, T tasks, H hidden, W label slots, N rows of a level, S examples a row (see `trie.Plan`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from duchenne_kernels.cells import CellWeights
from duchenne_kernels.recurrence.registration import Gradients
from duchenne_kernels.recurrence.trie import Level, Plan


class Gates(NamedTuple):
    """One level's gates, flattened to rows (N S, H)."""

    reset: Tensor
    update: Tensor
    candidate: Tensor
    state_n: Tensor  # the hidden part of the candidate, which the reset gate scales


def labels_by_cell(fed: Tensor, slots: Tensor) -> Tensor:
    """Labels that each cell feeds to the next: fed (B, T), slots (C, W) -> (C, B, W), 0 in padded slots."""
    gathered = fed[:, slots.clamp(min=0)].permute(1, 0, 2)
    return torch.where((slots >= 0).unsqueeze(1), gathered, fed.new_zeros(())).contiguous()


def add_rows(target: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    """Adds `rows` to `target` at `index`, in place and in a fixed order: on a GPU, `index_add_` has none."""
    return target.index_put_((index,), rows, accumulate=True) if target.is_cuda else target.index_add_(0, index, rows)


def forward(hidden: Tensor, fed: Tensor, plan: Plan, weights: CellWeights) -> tuple[Tensor, Tensor]:
    """Logits of every row and the saved states.

    Returns:
        logits (rows, W, S) over all levels; states (rows without the last level, S, H).
    """
    per_row = 1 if plan.examples is not None else hidden.shape[0]
    size, width = hidden.shape[1], weights.slots.shape[1]
    states = hidden.new_empty(plan.offsets[-2], per_row, size)
    logits = hidden.new_empty(plan.offsets[-1], width, per_row)
    by_cell = labels_by_cell(fed, weights.slots)
    above = hidden.view(-1, per_row, size)
    for depth, level in enumerate(plan.levels):
        begin, end = plan.offsets[depth], plan.offsets[depth + 1]
        before = above.index_select(0, level.parent).view(-1, size)
        inputs = _inputs(by_cell, plan, depth)
        gates = _gates(before, inputs, level, per_row, weights)
        after = before.sub_(gates.candidate).mul_(gates.update).add_(gates.candidate)  # h' = n + z (h - n)
        for cell, low, high in level.groups:
            rows = after[low * per_row : high * per_row]
            out = torch.addmm(weights.bias_out[cell], rows, weights.weight_out[cell].T)
            logits[begin + low : begin + high] = out.view(high - low, per_row, width).transpose(1, 2)
        if depth + 1 < len(plan.levels):
            states[begin:end] = after.view(-1, per_row, size)
            above = states[begin:end]
    return logits, states


def backward(
    grad_logits: Tensor, hidden: Tensor, fed: Tensor, plan: Plan, weights: CellWeights, states: Tensor
) -> Gradients:
    """Gradients from `grad_logits` (rows, W, S), walking the levels from the leaves to the root."""
    per_row = 1 if plan.examples is not None else hidden.shape[0]
    size, width = hidden.shape[1], weights.slots.shape[1]
    by_cell = labels_by_cell(fed, weights.slots)
    grad_by_cell = torch.zeros_like(by_cell)
    sums = [tensor.new_zeros(tensor.shape) for tensor in weights[:-1]]
    grads = CellWeights._make([*sums, weights.slots])
    leaves = plan.offsets[-1] - plan.offsets[-2]
    grad_after = hidden.new_zeros(leaves, per_row, size)  # of this level's new states, from the level below
    for depth in range(len(plan.levels) - 1, -1, -1):
        level, begin, end = plan.levels[depth], plan.offsets[depth], plan.offsets[depth + 1]
        above = states[plan.offsets[depth - 1] : begin] if depth else hidden.view(-1, per_row, size)
        before = above.index_select(0, level.parent).view(-1, size)
        inputs = _inputs(by_cell, plan, depth)
        gates = _gates(before, inputs, level, per_row, weights)
        grad_out = grad_logits[begin:end].transpose(1, 2).reshape(-1, width)
        grad_state = _through_output(grad_out, grad_after, gates, before, level, per_row, weights, grads)
        grad_before, grad_inputs = _through_cell(grad_state, gates, before, inputs, level, per_row, weights, grads)
        if depth:
            _add_label_gradient(grad_by_cell, grad_inputs.view(-1, per_row, width), plan, depth)
        grad_after = add_rows(hidden.new_zeros(above.shape), level.parent, grad_before.view(-1, per_row, size))
    return Gradients(grad_after.view(hidden.shape), _to_labels(grad_by_cell, fed, weights.slots), *grads[:-1])


def _inputs(by_cell: Tensor, plan: Plan, depth: int) -> Tensor | None:
    """The labels fed to a level's rows, (N S, W); None at depth 0, where they are all 0."""
    if depth == 0:
        return None
    fed_by = plan.levels[depth].fed
    chosen = by_cell[fed_by] if plan.examples is None else by_cell[fed_by, plan.examples[depth]]
    return chosen.reshape(-1, by_cell.shape[2])


def _gates(before: Tensor, inputs: Tensor | None, level: Level, per_row: int, weights: CellWeights) -> Gates:
    """Gates of a level's rows: before (N S, H), inputs (N S, W)."""
    rows, size = before.shape
    both = 2 * size
    reset_update = before.new_empty(rows, both)
    state_n = before.new_empty(rows, size)
    input_n = before.new_empty(rows, size)
    for cell, low, high in level.groups:
        part = slice(low * per_row, high * per_row)
        weight_ih, weight_hh = weights.weight_ih[cell], weights.weight_hh[cell]
        bias_ih, bias_hh = weights.bias_ih[cell], weights.bias_hh[cell]
        torch.addmm(bias_ih[:both] + bias_hh[:both], before[part], weight_hh[:both].T, out=reset_update[part])
        torch.addmm(bias_hh[both:], before[part], weight_hh[both:].T, out=state_n[part])
        if inputs is None:
            input_n[part] = bias_ih[both:]
        else:
            reset_update[part].addmm_(inputs[part], weight_ih[:both].T)
            torch.addmm(bias_ih[both:], inputs[part], weight_ih[both:].T, out=input_n[part])
    reset_update.sigmoid_()
    reset, update = reset_update[:, :size], reset_update[:, size:]
    candidate = input_n.addcmul_(reset, state_n).tanh_()
    return Gates(reset, update, candidate, state_n)


def _through_output(
    grad_out: Tensor,
    grad_after: Tensor,
    gates: Gates,
    before: Tensor,
    level: Level,
    per_row: int,
    weights: CellWeights,
    grads: CellWeights,
) -> Tensor:
    """Gradient of the new states (N S, H), adding the output units' to `grads`."""
    grad_state = grad_after.view(before.shape)
    after = torch.lerp(gates.candidate, before, gates.update)
    for cell, low, high in level.groups:
        part = slice(low * per_row, high * per_row)
        grads.weight_out[cell].addmm_(grad_out[part].T, after[part])
        grads.bias_out[cell] += grad_out[part].sum(dim=0)
        grad_state[part].addmm_(grad_out[part], weights.weight_out[cell])
    return grad_state


def _through_cell(
    grad_state: Tensor,
    gates: Gates,
    before: Tensor,
    inputs: Tensor | None,
    level: Level,
    per_row: int,
    weights: CellWeights,
    grads: CellWeights,
) -> tuple[Tensor, Tensor]:
    """Gradients of the states before the step (N S, H) and of its inputs (N S, W), adding the cells' to `grads`."""
    size = before.shape[1]
    reset, update, candidate, state_n = gates
    grad_gates = before.new_empty(before.shape[0], 3 * size)  # of the hidden parts: r, z, n
    grad_update = grad_gates[:, size : 2 * size]
    torch.sub(before, candidate, out=grad_update).mul_(grad_state).mul_(update).mul_(1 - update)
    grad_candidate = (grad_state - grad_state * update).mul_(1 - candidate * candidate)
    torch.mul(grad_candidate, state_n, out=grad_gates[:, :size]).mul_(reset).mul_(1 - reset)
    torch.mul(grad_candidate, reset, out=grad_gates[:, 2 * size :])
    grad_before = grad_state.mul_(update)
    grad_inputs = before.new_empty(before.shape[0], weights.slots.shape[1])
    for cell, low, high in level.groups:
        part = slice(low * per_row, high * per_row)
        grads.weight_hh[cell].addmm_(grad_gates[part].T, before[part])
        grads.bias_hh[cell] += grad_gates[part].sum(dim=0)
        grad_before[part].addmm_(grad_gates[part], weights.weight_hh[cell])
        # From here on the candidate's column holds the gradient of the input part, which the reset gate doesn't scale.
        grad_gates[part, 2 * size :] = grad_candidate[part]
        grads.bias_ih[cell] += grad_gates[part].sum(dim=0)
        if inputs is not None:
            grads.weight_ih[cell].addmm_(grad_gates[part].T, inputs[part])
            torch.mm(grad_gates[part], weights.weight_ih[cell], out=grad_inputs[part])
    return grad_before, grad_inputs


def _add_label_gradient(grad_by_cell: Tensor, grad_inputs: Tensor, plan: Plan, depth: int) -> None:
    """Adds the inputs' gradient (N, S, W) of a level to the labels that it fed, (C, B, W)."""
    fed_by = plan.levels[depth].fed
    if plan.examples is None:
        add_rows(grad_by_cell, fed_by, grad_inputs)
        return
    cells, batch, width = grad_by_cell.shape
    flat = grad_by_cell.view(cells * batch, width)
    add_rows(flat, fed_by * batch + plan.examples[depth], grad_inputs.squeeze(1))


def labels_gradient(grad_inputs: Tensor, plan: Plan, fed: Tensor, slots: Tensor) -> Tensor:
    """Gradient of the fed labels (B, T) from that of every row's inputs, (rows, S, W) over all levels."""
    grad_by_cell = grad_inputs.new_zeros(slots.shape[0], fed.shape[0], slots.shape[1])
    for depth in range(1, len(plan.levels)):
        _add_label_gradient(grad_by_cell, grad_inputs[plan.offsets[depth] : plan.offsets[depth + 1]], plan, depth)
    return _to_labels(grad_by_cell, fed, slots)


def _to_labels(grad_by_cell: Tensor, fed: Tensor, slots: Tensor) -> Tensor:
    """Gradient of the fed labels (B, T): grad_by_cell (C, B, W) brought back through `slots`; a task has one slot."""
    position_of_task = slots.flatten().argsort(stable=True)[-fed.shape[1] :]  # padding, -1, comes first
    return grad_by_cell.permute(1, 0, 2).flatten(1)[:, position_of_task]
