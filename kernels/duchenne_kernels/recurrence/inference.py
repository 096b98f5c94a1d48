"""Inference on any device: sampled trajectories, and exact marginals over the tree of label prefixes. No gradients.

Shapes: B batch, M orders, R trajectories, T tasks, C cells, H hidden, W label slots, N rows, V label variants of a
cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from duchenne_kernels.cells import CellWeights
from duchenne_kernels.recurrence.trie import Trie, cached_trie


def sample_orders(hidden: Tensor, orders: Tensor, weights: CellWeights, uniforms: Tensor) -> Tensor:
    """Probabilities (B, R, T) along R trajectories, one matmul per cell and step over all rows (Tallec 2023, alg. 2).

    `uniforms` (B, R, T) decide the labels: label t of trajectory r is 1 where `uniforms[b, r, t] < p`.
    """
    batch = hidden.shape[0]
    count = orders.shape[0]
    width = weights.slots.shape[1]
    states = hidden.repeat(count, 1)  # (R B, H), a trajectory's rows together
    fed = hidden.new_zeros(count * batch, width)
    probabilities = hidden.new_empty(count, batch, uniforms.shape[2])
    draws = uniforms.transpose(0, 1)  # (R, B, T)
    sequence = orders.cpu()  # one copy from a GPU instead of a wait at every step
    for step in range(orders.shape[1]):
        for cell in sorted(set(sequence[:, step].tolist())):
            chosen = (sequence[:, step] == cell).nonzero().flatten().to(hidden.device)
            rows = (chosen.unsqueeze(1) * batch + torch.arange(batch, device=chosen.device)).flatten()
            state, probability = _step(states[rows], fed[rows], weights, cell)
            tasks = weights.slots[cell][weights.slots[cell] >= 0]
            known = probability[:, : tasks.numel()].reshape(chosen.numel(), batch, -1)
            label = (draws[chosen.unsqueeze(1), :, tasks].transpose(1, 2) < known).to(hidden.dtype)
            # A NaN probability draws NaN, so that it reaches every later step instead of passing for a 0.
            label = torch.where(known.isnan(), known, label)
            probabilities[chosen.unsqueeze(1), :, tasks] = known.transpose(1, 2)
            states[rows] = state
            fed[rows, : tasks.numel()] = label.reshape(rows.numel(), -1)
            fed[rows, tasks.numel() :] = 0
    return probabilities.transpose(0, 1).contiguous()


def _step(state: Tensor, fed: Tensor, weights: CellWeights, cell: int) -> tuple[Tensor, Tensor]:
    """One step of one cell: state (N, H), fed (N, W) -> new state (N, H), probabilities (N, W)."""
    from_state = torch.addmm(weights.bias_hh[cell], state, weights.weight_hh[cell].T)
    from_input = torch.addmm(weights.bias_ih[cell], fed, weights.weight_ih[cell].T)
    after = _gated(state, from_state, from_input)
    return after, torch.addmm(weights.bias_out[cell], after, weights.weight_out[cell].T).sigmoid_()


def _gated(state: Tensor, from_state: Tensor, from_input: Tensor) -> Tensor:
    """h' from the hidden and input parts of the gates, r, z, n on the last axis; the parts broadcast."""
    size = state.shape[-1]
    reset_update = torch.sigmoid(from_state[..., : 2 * size] + from_input[..., : 2 * size])
    reset, update = reset_update[..., :size], reset_update[..., size:]
    candidate = torch.addcmul(from_input[..., 2 * size :], reset, from_state[..., 2 * size :]).tanh_()
    return torch.lerp(candidate, state, update)


@dataclass(frozen=True)
class _Walk:
    """What stays the same during one walk of the label tree."""

    weights: CellWeights
    trie: Trie
    children: tuple[tuple[tuple[int, ...], ...], ...]  # per level, per node: nodes of the next level
    node_weights: tuple[Tensor, ...]  # per level (N, B): mixture weight of the orders through a node
    tasks: tuple[tuple[int, ...], ...]  # labels of each cell
    marginals: Tensor  # (B, T), filled by the walk
    minimum_mass: float
    max_rows: int


def order_marginals(
    hidden: Tensor, orders: Tensor, mixture: Tensor, weights: CellWeights, minimum_mass: float, max_rows: int
) -> Tensor:
    """p(y^t = 1 | x) (B, T) by walking the orders' prefix trie and, below each node, the tree of label prefixes.

    `mixture` (B, M) weights the orders. A branch whose share of the mixture's probability is at or below `minimum_mass`
    is left out, which lowers an entry by at most the mass left out; at 0 the result is exact.
    """
    trie = cached_trie(orders)
    slots = weights.slots.tolist()
    tasks = tuple(tuple(task for task in cell if task >= 0) for cell in slots)
    num_tasks = sum(len(cell) for cell in tasks)
    path = trie.path.to(hidden.device)
    shares = [
        mixture.new_zeros(level.cell.numel(), hidden.shape[0]).index_add_(0, path[:, depth], mixture.T)
        for depth, level in enumerate(trie.levels)
    ]
    marginals = hidden.new_zeros(hidden.shape[0], num_tasks)
    walk = _Walk(weights, trie, _children(trie), tuple(shares), tasks, marginals, minimum_mass, max_rows)
    examples = torch.arange(hidden.shape[0], device=hidden.device)
    no_label = hidden.new_zeros(1, weights.slots.shape[1])
    for node in range(trie.levels[0].cell.numel()):
        _enter(walk, 0, node, hidden, no_label, hidden.new_ones(1, hidden.shape[0]), examples)
    return walk.marginals


def _children(trie: Trie) -> tuple[tuple[tuple[int, ...], ...], ...]:
    found = []
    for level, below in zip(trie.levels, trie.levels[1:], strict=False):
        nodes: list[list[int]] = [[] for _ in range(level.cell.numel())]
        for child, parent in enumerate(below.parent.tolist()):
            nodes[parent].append(child)
        found.append(tuple(tuple(node) for node in nodes))
    return tuple(found)


def _enter(walk: _Walk, depth: int, node: int, states: Tensor, labels: Tensor, mass: Tensor, examples: Tensor) -> None:
    """Visits a node with the rows whose branches matter, in chunks: states (N, H), labels (V, W), mass (V, N)."""
    share = mass * walk.node_weights[depth][node][examples]
    kept = (~(share <= walk.minimum_mass)).any(dim=0).nonzero().flatten()  # keeps NaN
    for rows in torch.split(kept, walk.max_rows):
        _visit(walk, depth, node, states[rows], labels, mass[:, rows], examples[rows])


def _visit(walk: _Walk, depth: int, node: int, states: Tensor, labels: Tensor, mass: Tensor, examples: Tensor) -> None:
    """Adds a node's probabilities to the marginals and goes on to its children."""
    weights, cell = walk.weights, int(walk.trie.levels[depth].cell[node])
    # The V variants of the labels fed share the matmul of their state.
    from_state = torch.addmm(weights.bias_hh[cell], states, weights.weight_hh[cell].T)
    from_input = torch.addmm(weights.bias_ih[cell], labels, weights.weight_ih[cell].T).unsqueeze(1)
    after = _gated(states.expand(labels.shape[0], -1, -1), from_state, from_input).flatten(0, 1)
    tasks = walk.tasks[cell]
    logits = torch.addmm(weights.bias_out[cell], after, weights.weight_out[cell].T)[:, : len(tasks)]
    probability = torch.sigmoid(logits)  # (V N, tasks)
    example = examples.repeat(labels.shape[0])
    flat = mass.flatten()
    share = flat * walk.node_weights[depth][node][example]
    # A branch that was kept for the sake of another variant of its row may be pruned or empty: it adds what it has.
    for slot, task in enumerate(tasks):
        walk.marginals[:, task].index_add_(0, example, share * probability[:, slot])
    if depth + 1 == len(walk.trie.levels):
        return
    codes = (
        torch.cartesian_prod(*[torch.arange(2, device=flat.device)] * len(tasks)).view(-1, len(tasks)).to(flat.dtype)
    )
    chance = torch.where(codes.unsqueeze(1) > 0, probability, 1 - probability)  # (V', V N, tasks)
    next_mass = flat * chance.prod(dim=-1)
    next_labels = torch.zeros(codes.shape[0], labels.shape[1], dtype=labels.dtype, device=labels.device)
    next_labels[:, : len(tasks)] = codes
    for child in walk.children[depth][node]:
        _enter(walk, depth + 1, child, after, next_labels, next_mass, example)
