"""The contract in its plainest form: one cell after the other, differentiated by autograd. Slow on purpose.

Every other backend is tested against this one in float64. Shapes: B batch, K orders an example, T tasks, C cells,
H hidden, W label slots a cell.
"""

from __future__ import annotations

import torch
from torch import Tensor

from duchenne_kernels.cells import CellWeights


def unbound(weights: CellWeights) -> list[CellWeights]:
    """The parameters of each cell alone, without the cell axis (nor a full-size gradient for each use of one)."""
    return [CellWeights(*parts) for parts in zip(*(tensor.unbind(0) for tensor in weights), strict=True)]


def gru_step(state: Tensor, fed: Tensor, cell: CellWeights) -> tuple[Tensor, Tensor]:
    """One step, as `torch.nn.GRUCell` (Tallec 2023, eq. 2.25): state (N, H), fed (N, W) -> h', logits (N, W)."""
    from_input = fed @ cell.weight_ih.T + cell.bias_ih
    from_state = state @ cell.weight_hh.T + cell.bias_hh
    input_r, input_z, input_n = from_input.chunk(3, dim=-1)
    state_r, state_z, state_n = from_state.chunk(3, dim=-1)
    reset = torch.sigmoid(input_r + state_r)
    update = torch.sigmoid(input_z + state_z)
    candidate = torch.tanh(input_n + reset * state_n)
    new_state = (1 - update) * candidate + update * state
    return new_state, new_state @ cell.weight_out.T + cell.bias_out


def slot_labels(labels: Tensor, slots: Tensor) -> Tensor:
    """Labels behind the slots of one cell: labels (N, T), slots (W,) -> (N, W), 0 where a slot is padding."""
    return torch.where(
        slots >= 0, labels[:, slots.clamp(min=0)], torch.zeros((), dtype=labels.dtype, device=labels.device)
    )


def order_logits(hidden: Tensor, fed: Tensor, orders: Tensor, active: Tensor | None, weights: CellWeights) -> Tensor:
    """Teacher-forced logits, (B, K, T) in task order; `fed` (B, T) are the labels fed, masked ones already 0."""
    cells = unbound(weights)
    if active is None:
        return torch.stack([_one_order(hidden, fed, order, cells) for order in orders.tolist()], dim=1)
    rows = []
    for example, kept in enumerate(active.tolist()):
        alone = slice(example, example + 1)
        per_order = [_one_order(hidden[alone], fed[alone], orders[index].tolist(), cells) for index in kept]
        rows.append(torch.cat(per_order))
    return torch.stack(rows)


def _one_order(state: Tensor, fed: Tensor, order: list[int], cells: list[CellWeights]) -> Tensor:
    """Logits of N examples in one order: state (N, H), fed (N, T) -> (N, T) in task order."""
    previous = fed.new_zeros(fed.shape[0], cells[0].slots.shape[0])
    by_task: dict[int, Tensor] = {}
    for cell in order:
        state, logits = gru_step(state, previous, cells[cell])
        previous = slot_labels(fed, cells[cell].slots)
        by_task.update({task: logits[:, slot] for slot, task in enumerate(cells[cell].slots.tolist()) if task >= 0})
    return torch.stack([by_task[task] for task in sorted(by_task)], dim=-1)


def sample_orders(hidden: Tensor, orders: Tensor, weights: CellWeights, uniforms: Tensor) -> Tensor:
    """Probabilities (B, R, T) along R sampled trajectories; a label is `uniforms[b, r, t] < p` (alg. 2)."""
    cells = unbound(weights)
    probabilities = torch.empty_like(uniforms)
    for trajectory, order in enumerate(orders.tolist()):
        state = hidden
        previous = hidden.new_zeros(hidden.shape[0], weights.slots.shape[1])
        for cell in order:
            state, logits = gru_step(state, previous, cells[cell])
            probability = torch.sigmoid(logits)
            slots = weights.slots[cell]
            drawn = slot_labels(uniforms[:, trajectory], slots) < probability
            # A NaN probability draws NaN, so that it reaches every later step instead of passing for a 0.
            label = torch.where(probability.isnan(), probability, drawn.to(hidden.dtype))
            previous = label * (slots >= 0)
            for slot, task in enumerate(slots.tolist()):
                if task >= 0:
                    probabilities[:, trajectory, task] = probability[:, slot]
    return probabilities


def order_marginals(hidden: Tensor, orders: Tensor, mixture: Tensor, weights: CellWeights) -> Tensor:
    """p(y^t = 1 | x), (B, T), by summing over all label prefixes of every order; `mixture` (B, M) sums to 1 a row."""
    cells = unbound(weights)
    marginals = hidden.new_zeros(hidden.shape[0], int(weights.slots.max()) + 1)
    for index, order in enumerate(orders.tolist()):
        mass = mixture[:, index]
        no_label = hidden.new_zeros(hidden.shape[0], weights.slots.shape[1])
        branches = [(hidden, no_label, mass)]
        for cell in order:
            tasks = [task for task in weights.slots[cell].tolist() if task >= 0]
            grown = []
            for state, previous, weight in branches:
                new_state, logits = gru_step(state, previous, cells[cell])
                probability = torch.sigmoid(logits)
                for slot, task in enumerate(tasks):
                    marginals[:, task] += weight * probability[:, slot]
                for code in range(2 ** len(tasks)):
                    label, branch = torch.zeros_like(previous), weight
                    for slot in range(len(tasks)):
                        bit = (code >> slot) & 1
                        label[:, slot] = bit
                        branch = branch * (probability[:, slot] if bit else 1 - probability[:, slot])
                    grown.append((new_state, label, branch))
            branches = grown
    return marginals
