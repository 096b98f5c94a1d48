"""The reference is the contract: checked against `nn.GRUCell`, numbers worked by hand and the laws of probability."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from duchenne_kernels import GRUCells, order_log_likelihood, order_logits


def likelihood_by_gru_cells(hidden: Tensor, labels: Tensor, order: list[int], cells: GRUCells) -> Tensor:
    """log p^sigma(y | x) (B,) in its most literal form."""
    state, previous = hidden, torch.zeros(hidden.shape[0], 1, dtype=hidden.dtype)
    total = torch.zeros(hidden.shape[0], dtype=hidden.dtype)
    for task in order:
        cell = nn.GRUCell(1, hidden.shape[1], dtype=hidden.dtype)
        cell.load_state_dict(
            {
                "weight_ih": cells.weight_ih[task].unsqueeze(1),
                "weight_hh": cells.weight_hh[task],
                "bias_ih": cells.bias_ih[task],
                "bias_hh": cells.bias_hh[task],
            }
        )
        state = cell(previous, state)
        probability = torch.sigmoid(state @ cells.weight_out[task] + cells.bias_out[task])
        total = total + torch.distributions.Bernoulli(probability).log_prob(labels[:, task])
        previous = labels[:, task : task + 1]
    return total


def test_equals_a_loop_over_gru_cells(make) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=4, count=6, tasks=5, hidden=7, hard=True, dtype=torch.float64)
    found = order_log_likelihood(problem.hidden, problem.labels, problem.orders, problem.cells, backend="reference")
    for index, order in enumerate(problem.orders.tolist()):
        wanted = likelihood_by_gru_cells(problem.hidden, problem.labels, order, problem.cells)
        torch.testing.assert_close(found[:, index], wanted)


def test_a_step_worked_by_hand() -> None:
    """H = 1: r = z = 1/2 (all of their weights 0), n = tanh(y + h / 2), h' = (n + h) / 2, logit = 2 h'."""
    cells = GRUCells(2, 1, dtype=torch.float64)
    for parameter in cells.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        cells.weight_ih[:, 2] = 1.0
        cells.weight_hh[:, 2] = 1.0
        cells.weight_out.fill_(2.0)
    first = (math.tanh(0.0 + 0.4 / 2) + 0.4) / 2
    second = (math.tanh(1.0 + first / 2) + first) / 2
    hidden, labels = torch.tensor([[0.4]], dtype=torch.float64), torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    logits = order_logits(hidden, labels, torch.tensor([[1, 0]]), cells, backend="reference")
    torch.testing.assert_close(logits, torch.tensor([[[2 * second, 2 * first]]], dtype=torch.float64))


@pytest.mark.parametrize("groups", [None, [[2, 0], [1], [3]]])
def test_probabilities_of_all_label_sets_sum_to_one(make, groups: list[list[int]] | None) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=2, count=4, tasks=4, groups=groups, dtype=torch.float64)
    total = sum(
        order_log_likelihood(
            problem.hidden, torch.tensor(labels, dtype=torch.float64).expand(2, 4), problem.orders, problem.cells
        ).exp()
        for labels in itertools.product([0.0, 1.0], repeat=4)
    )
    torch.testing.assert_close(total, torch.ones(2, 4, dtype=torch.float64))


def test_a_masked_label_is_left_out_and_conditions_as_zero(make) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=2, count=3, tasks=4, hard=True, dtype=torch.float64)
    mask = torch.ones(2, 4, dtype=torch.bool)
    mask[:, 2] = False
    unknown = problem.labels.clone()
    unknown[:, 2] = float("nan")
    found = order_log_likelihood(problem.hidden, unknown, problem.orders, problem.cells, mask, backend="reference")
    zeroed = problem.labels.clone()
    zeroed[:, 2] = 0.0
    whole = order_log_likelihood(problem.hidden, zeroed, problem.orders, problem.cells, backend="reference")
    logits = order_logits(problem.hidden, zeroed, problem.orders, problem.cells, backend="reference")
    torch.testing.assert_close(found, whole - nn.functional.logsigmoid(-logits[:, :, 2]))


def test_conditioning_replaces_the_labels_that_are_fed(make) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=2, count=3, tasks=4, dtype=torch.float64)
    hard = problem.labels.round()
    found = order_log_likelihood(problem.hidden, problem.labels, problem.orders, problem.cells, conditioning=hard)
    logits = order_logits(problem.hidden, hard, problem.orders, problem.cells)
    targets = problem.labels.unsqueeze(1).expand_as(logits)
    bce = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    torch.testing.assert_close(found, -bce.sum(dim=-1))
