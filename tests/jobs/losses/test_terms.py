"""Weighted cross-entropy and Dice against hand-worked examples (Tallec 2023, eq. 2.39 and 2.40)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne_jobs.losses import TaskLoss, inverse_frequency_weights

LOG2 = math.log(2)
PLAIN = TaskLoss(weights=None, dice=0.0)


def doubles(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_plain_loss_is_the_negative_log_likelihood_summed_over_tasks() -> None:
    logits = doubles([0.0, math.log(3)])  # p = 1/2, 3/4
    known = torch.ones(1, 2, dtype=torch.bool)
    assert PLAIN(logits, doubles([1.0, 0.0]), known).item() == pytest.approx(LOG2 + math.log(4))
    assert PLAIN.is_plain
    assert not TaskLoss(torch.ones(2), 0.0).is_plain
    assert not TaskLoss(None, 0.5).is_plain


def test_dice_by_hand() -> None:
    # p = 1/2, epsilon = 1. y = 1: 1 - (2 * 1/2 + 1) / (1 + 1/4 + 1) = 1/9. y = 0: 1 - 1 / (1/4 + 1) = 1/5.
    known = torch.ones(1, 2, dtype=torch.bool)
    loss = TaskLoss(None, dice=0.5)(doubles([0.0, 0.0]), doubles([1.0, 0.0]), known)
    assert loss.item() == pytest.approx(2 * LOG2 + 0.5 * (1 / 9 + 1 / 5))


def test_weights_scale_cross_entropy_and_dice_of_their_task() -> None:
    known = torch.ones(1, 2, dtype=torch.bool)
    loss = TaskLoss(torch.tensor([1.5, 0.5]), dice=0.5)(doubles([0.0, 0.0]), doubles([1.0, 0.0]), known)
    assert loss.item() == pytest.approx(1.5 * (LOG2 + 0.5 / 9) + 0.5 * (LOG2 + 0.5 / 5))


def test_inverse_frequency_weights_by_hand() -> None:
    # 1/f = 10 and 10/3, which sum to 40/3: w = 2 * (10, 10/3) / (40/3).
    weights = inverse_frequency_weights(torch.tensor([0.1, 0.3], dtype=torch.float64), rows=100)
    assert weights.tolist() == pytest.approx([1.5, 0.5])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12), st.integers(1, 1000))
def test_weights_average_one_and_grow_with_rarity(frequencies: list[float], rows: int) -> None:
    f = torch.tensor(frequencies, dtype=torch.float64)
    weights = inverse_frequency_weights(f, rows)
    assert weights.mean().item() == pytest.approx(1.0)
    assert bool((weights[f.argsort()].diff() <= 1e-12).all())


def test_a_task_without_positives_counts_as_half_a_positive() -> None:
    weights = inverse_frequency_weights(torch.tensor([0.0, 0.5], dtype=torch.float64), rows=10)
    assert (weights[0] / weights[1]).item() == pytest.approx(10.0)  # 1 / 0.05 against 1 / 0.5


def test_orders_are_an_axis_of_their_own() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 2, generator=generator)
    targets = torch.rand(3, 2, generator=generator)
    mask = torch.rand(3, 2, generator=generator) > 0.4
    loss = TaskLoss(torch.tensor([1.5, 0.5]), dice=0.5)
    each = torch.stack([loss(logits[:, m], targets, mask) for m in range(4)], dim=1)
    torch.testing.assert_close(loss(logits, targets, mask), each)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), unknown=st.integers(0, 5), target=st.floats(0, 1), dice=st.sampled_from([0.0, 0.5]))
def test_an_unknown_label_changes_neither_loss_nor_gradient(
    seed: int, unknown: int, target: float, dice: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, generator=generator)
    targets = torch.rand(2, 3, generator=generator)
    mask = torch.ones(2, 3, dtype=torch.bool)
    mask.view(-1)[unknown] = False
    changed = targets.clone()
    changed.view(-1)[unknown] = target
    loss = TaskLoss(torch.tensor([1.5, 0.5, 1.0]), dice)
    outcomes = []
    for labels in (targets, changed):
        free = logits.clone().requires_grad_()
        value = loss(free, labels, mask)
        (gradient,) = torch.autograd.grad(value.sum(), free)
        assert gradient.view(-1)[unknown] == 0.0
        outcomes.append((value.detach(), gradient))
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    assert torch.equal(outcomes[0][1], outcomes[1][1])


def test_an_infinite_term_of_an_unknown_label_stays_out() -> None:
    mask = torch.tensor([[True, False]])
    loss = PLAIN(torch.tensor([[0.0, math.inf]]), torch.tensor([[1.0, 0.0]]), mask)
    assert loss.item() == pytest.approx(LOG2)


def test_a_row_without_known_labels_costs_nothing() -> None:
    assert PLAIN(torch.randn(1, 3), torch.ones(1, 3), torch.zeros(1, 3, dtype=torch.bool)).item() == 0.0


def test_a_term_that_is_not_kept_costs_nothing_in_any_order() -> None:
    known = torch.ones(1, 2, dtype=torch.bool)
    loss = PLAIN.keeping(torch.tensor([[True, False]]))
    assert not loss.is_plain
    assert loss(doubles([0.0, 5.0]), doubles([1.0, 0.0]), known).item() == pytest.approx(LOG2)
    assert loss(doubles([0.0, 5.0])[None], doubles([1.0, 0.0]), known).flatten().tolist() == pytest.approx([LOG2])
