"""Order sets, order dropout and the soft order matrix (Tallec 2023, eq. 2.14 to 2.21, 2.34, 2.35)."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne_jobs.config import OrdersConfig
from duchenne_jobs.models.orders import OrderSelector, build_order_set


def config(**values: Any) -> OrdersConfig:
    return OrdersConfig.model_validate(values)


@settings(max_examples=60, deadline=None)
@given(tasks=st.integers(1, 7), count=st.integers(1, 6000), seed=st.integers(0, 2**63 - 1))
def test_orders_are_distinct_permutations_as_many_as_there_are(tasks: int, count: int, seed: int) -> None:
    orders = build_order_set(config(count=count, seed=seed), tasks)
    rows = [tuple(row) for row in orders.tolist()]
    assert orders.dtype == torch.int64
    assert len(rows) == len(set(rows)) == min(count, math.factorial(tasks))
    assert all(sorted(row) == list(range(tasks)) for row in rows)
    assert torch.equal(orders, build_order_set(config(count=count, seed=seed), tasks))


def test_a_set_of_all_orders_is_lexicographic() -> None:
    expected = [list(order) for order in itertools.permutations(range(4))]
    for count in (24, 1000):
        assert build_order_set(config(count=count, seed=3), 4).tolist() == expected


def test_nearly_all_orders_are_drawn_at_once() -> None:
    # Drawn one by one, the last of 8! - 1 distinct orders would take some 400,000 draws to come up.
    started = time.process_time()
    orders = build_order_set(config(count=math.factorial(8) - 1), 8)
    assert time.process_time() - started < 1.0
    codes = (orders * 8 ** torch.arange(8)).sum(dim=1)
    assert len(codes.unique()) == math.factorial(8) - 1


def test_many_tasks_and_few_orders() -> None:
    orders = build_order_set(config(count=512), 40)
    assert len(orders.unique(dim=0)) == 512


def test_another_seed_gives_another_set() -> None:
    assert not torch.equal(build_order_set(config(seed=0), 8), build_order_set(config(seed=1), 8))


def test_identity_is_the_order_of_the_tasks_alone() -> None:
    selector = OrderSelector(config(source="identity", count=32, active=4), 5)
    assert selector.orders.tolist() == [[0, 1, 2, 3, 4]]
    assert selector.train().draw_active(2) is None


def test_soft_order_of_one_order_is_its_matrix() -> None:
    selector = OrderSelector(config(count=6), 3)
    assert selector.orders[3].tolist() == [1, 2, 0]
    with torch.no_grad():
        selector.logits[3] = 200.0
    # Row i is time step i, which handles task sigma(i) (eq. 2.17): task 1, then task 2, then task 0.
    assert selector.soft_order().tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_soft_order_by_hand() -> None:
    selector = OrderSelector(config(count=2), 2)  # (0, 1) and (1, 0)
    with torch.no_grad():
        selector.logits.copy_(torch.tensor([0.75, 0.25]).log() + 7.0)  # logits are free up to a constant
    torch.testing.assert_close(selector.soft_order(), torch.tensor([[0.75, 0.25], [0.25, 0.75]]))


@settings(max_examples=40, deadline=None)
@given(tasks=st.integers(1, 6), count=st.integers(1, 50), data=st.data())
def test_the_soft_order_is_bistochastic(tasks: int, count: int, data: st.DataObject) -> None:
    selector = OrderSelector(config(count=count), tasks)
    logits = data.draw(st.lists(st.floats(-30, 30), min_size=len(selector.orders), max_size=len(selector.orders)))
    with torch.no_grad():
        selector.logits.copy_(torch.tensor(logits))
    matrix = selector.soft_order()
    assert bool((matrix >= 0).all())
    ones = torch.ones(tasks)
    torch.testing.assert_close(matrix.sum(dim=0), ones, rtol=0, atol=1e-5)
    torch.testing.assert_close(matrix.sum(dim=1), ones, rtol=0, atol=1e-5)


def test_dropped_orders_leave_their_weight_to_the_active_ones() -> None:
    selector = OrderSelector(config(count=4), 3)
    with torch.no_grad():
        selector.logits.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]).log())
    torch.testing.assert_close(selector.log_weights().exp(), torch.tensor([0.1, 0.2, 0.3, 0.4]))
    torch.testing.assert_close(selector.log_weights(torch.tensor([1, 3])).exp(), torch.tensor([1 / 3, 2 / 3]))
    per_example = selector.log_weights(torch.tensor([[0, 2], [3, 0]])).exp()
    torch.testing.assert_close(per_example, torch.tensor([[1 / 4, 3 / 4], [4 / 5, 1 / 5]]))


def test_a_subset_is_drawn_for_the_batch_or_for_each_example() -> None:
    torch.manual_seed(0)
    per_batch = OrderSelector(config(count=10, active=4), 5).train().draw_active(64)
    assert per_batch is not None
    assert len(set(per_batch.tolist())) == 4
    per_example = OrderSelector(config(count=10, active=4, dropout_per="example"), 5).train().draw_active(64)
    assert per_example is not None
    assert per_example.shape == (64, 4)
    assert all(len(set(row)) == 4 for row in per_example.tolist())
    assert len(per_example.unique(dim=0)) > 1


@pytest.mark.parametrize("per", ["batch", "example"])
def test_every_order_is_present_with_probability_k_of_m(per: str) -> None:
    torch.manual_seed(0)
    selector = OrderSelector(config(count=5, active=2, dropout_per=per), 4).train()
    draws = [selector.draw_active(100) for _ in range(1000 if per == "batch" else 10)]
    counts = torch.cat([draw.flatten() for draw in draws if draw is not None]).bincount(minlength=5)
    share = counts / counts.sum() * 2
    assert (share - 0.4).abs().max().item() < 0.06  # 4 standard errors of 1000 draws


def test_no_order_is_dropped_in_evaluation_or_when_all_are_active() -> None:
    assert OrderSelector(config(count=6, active=2), 4).eval().draw_active(3) is None
    assert OrderSelector(config(count=6, active=6), 4).train().draw_active(3) is None
    assert OrderSelector(config(count=6), 4).train().draw_active(3) is None


def test_orders_are_sampled_from_the_mixture() -> None:
    selector = OrderSelector(config(count=2), 2)
    with torch.no_grad():
        selector.logits.copy_(torch.tensor([0.8, 0.2]).log())
    drawn = selector.sample(2000, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, selector.sample(2000, torch.Generator().manual_seed(0)))
    first = (drawn == torch.tensor([0, 1])).all(dim=1).float().mean().item()
    assert first == pytest.approx(0.8, abs=0.04)
