"""Order sets, order dropout, mixtures and the soft order matrix (Tallec 2023, 2.4 and 2.6)."""

from __future__ import annotations

import itertools
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from duchenne_jobs.config import OrdersConfig
from duchenne_jobs.models.orders import OrderSelector, build_order_set, build_selector
from duchenne_jobs.models.orders.selection import HardSelector

HIDDEN = torch.zeros(3, 2)  # of three rows; only XMONET looks at it


def config(**values: Any) -> OrdersConfig:
    return OrdersConfig.model_validate(values)


def names(tasks: int) -> tuple[str, ...]:
    return tuple(f"t{task}" for task in range(tasks))


def orders_of(tasks: int, **values: Any) -> Tensor:
    return build_order_set(config(**values), names(tasks))


def selector_of(tasks: int, **values: Any) -> OrderSelector:
    return build_selector(config(**values), names(tasks), hidden_size=2)


def set_weights(selector: OrderSelector, *weights: float) -> None:
    with torch.no_grad():
        selector.trained()[0].copy_(torch.tensor(weights).log() + 7.0)  # logits are free up to a constant


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- where the orders come from ---


@settings(max_examples=60, deadline=None)
@given(tasks=st.integers(1, 7), count=st.integers(1, 6000), seed=st.integers(0, 2**63 - 1))
def test_orders_are_distinct_permutations_as_many_as_there_are(tasks: int, count: int, seed: int) -> None:
    orders = orders_of(tasks, count=count, seed=seed)
    rows = [tuple(row) for row in orders.tolist()]
    assert orders.dtype == torch.int64
    assert len(rows) == len(set(rows)) == min(count, math.factorial(tasks))
    assert all(sorted(row) == list(range(tasks)) for row in rows)
    assert torch.equal(orders, orders_of(tasks, count=count, seed=seed))


def test_a_set_of_all_orders_is_lexicographic() -> None:
    expected = [list(order) for order in itertools.permutations(range(4))]
    for asked in ({"count": 24, "seed": 3}, {"count": 1000, "seed": 3}, {"source": "all"}):
        assert orders_of(4, **asked).tolist() == expected


def test_nearly_all_orders_are_drawn_at_once() -> None:
    # Drawn one by one, the last of 8! - 1 distinct orders would take some 400,000 draws to come up.
    started = time.process_time()
    orders = orders_of(8, count=math.factorial(8) - 1)
    assert time.process_time() - started < 1.0
    codes = (orders * 8 ** torch.arange(8)).sum(dim=1)
    assert len(codes.unique()) == math.factorial(8) - 1


def test_many_tasks_and_few_orders() -> None:
    assert len(orders_of(40, count=512).unique(dim=0)) == 512


def test_another_seed_gives_another_set() -> None:
    assert not torch.equal(orders_of(8, seed=0), orders_of(8, seed=1))
    blocks = [["t0", "t1", "t2"], ["t3", "t4", "t5"]]
    drawn = [orders_of(6, source="blocks", blocks=blocks, count=8, seed=seed) for seed in (0, 1)]
    assert not torch.equal(drawn[0], drawn[1])


def test_identity_is_the_order_of_the_tasks_alone() -> None:
    selector = selector_of(5, source="identity", count=32)
    assert selector.orders.tolist() == [[0, 1, 2, 3, 4]]
    assert selector.train().draw_active(2) is None
    assert selector.summary().best_order == (0, 1, 2, 3, 4)


def test_listed_orders_stand_as_they_are() -> None:
    listed = [["t2", "t0", "t1"], ["t0", "t1", "t2"]]
    assert orders_of(3, source="listed", listed=listed).tolist() == [[2, 0, 1], [0, 1, 2]]


def test_orders_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "orders.txt").write_text("# easy first\nt2, t0, t1\n\nt0 t1 t2  # as they come\n")
    expected = [[2, 0, 1], [0, 1, 2]]
    assert orders_of(3, source="file", file=str(tmp_path / "orders.txt")).tolist() == expected
    monkeypatch.chdir(tmp_path)
    assert orders_of(3, source="file", file="orders.txt").tolist() == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"t0 t1 t1", "no t2 in order 0"),
        (b"t0 t1 t2\nt0 t1 t9 t2", "the unknown name t9 in order 1"),
        (b"t0 t1 t2\nt0 t1 t2", "t0 t1 t2 twice"),
        (b"# nothing", "must hold an order"),
        (b"\xff\xfe\x00", "must be text"),
        (None, "which is not there; check the path"),
    ],
)
def test_a_file_that_holds_no_order_set_is_refused(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.orders\.file: ") as caught:
        orders_of(3, source="file", file=str(path))
    assert said in str(caught.value)


def test_blocks_by_hand() -> None:
    """Tallec 2023, 2.6.2: {t0, t1} and {t2} can be arranged in 2! * 2! * 1! = 4 ways."""
    orders = orders_of(3, source="blocks", blocks=[["t0", "t1"], ["t2"]], count=100)
    assert orders.tolist() == [[0, 1, 2], [1, 0, 2], [2, 0, 1], [2, 1, 0]]


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4), count=st.integers(1, 200), seed=st.integers(0, 99))
def test_the_tasks_of_a_block_follow_each_other(sizes: list[int], count: int, seed: int) -> None:
    shuffled = torch.randperm(sum(sizes), generator=draw(seed)).tolist()
    ends = list(itertools.accumulate(sizes))
    blocks = [shuffled[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    listed = [[f"t{task}" for task in block] for block in blocks]
    orders = orders_of(sum(sizes), source="blocks", blocks=listed, count=count, seed=seed).tolist()
    every = math.factorial(len(sizes)) * math.prod(math.factorial(size) for size in sizes)
    assert len({tuple(order) for order in orders}) == len(orders) == min(count, every)
    for order in orders:
        assert sorted(order) == list(range(sum(sizes)))
        for block in blocks:
            places = [order.index(task) for task in block]
            assert max(places) - min(places) == len(block) - 1


def test_orders_of_groups_permute_groups() -> None:
    groups = [["t0", "t2"], ["t1"]]
    assert orders_of(3, source="all", groups=groups).tolist() == [[0, 1], [1, 0]]
    assert orders_of(3, source="listed", listed=[["t1", "t0+t2"]], groups=groups).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"count": 24, "active": 7}, "active: active <= M must hold, and the set has 6 orders, but got 7"),
        ({"groups": [["t0"], ["t1"]]}, "groups: must hold each task of the data once (t0, t1, t2), but got no t2"),
        ({"source": "blocks", "blocks": [["t0", "t1", "AU9"]]}, "blocks: must hold each task"),
        ({"source": "listed", "listed": [["t0", "t1"]]}, "listed: each order must be a permutation of t0, t1, t2"),
        ({"count": 6, "evolution": {"neighbours": "any"}}, "evolution: evolution needs orders outside the set, but"),
        ({"count": 4, "evolution": {"neighbours": "any"}}, "evolution.parents: parents < M must hold"),
    ],
)
def test_what_only_the_tasks_show_is_refused_with_its_field(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"model\.orders\.") as caught:
        orders_of(3, **values)
    assert said in str(caught.value)


def test_all_orders_of_many_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"all orders must be at most 1000000, but got T! = 479001600"):
        orders_of(12, source="all")


# --- the mixture ---


def test_soft_order_of_one_order_is_its_matrix() -> None:
    selector = selector_of(3, count=6)
    assert selector.orders[3].tolist() == [1, 2, 0]
    with torch.no_grad():
        selector.trained()[0][3] = 200.0
    summary = selector.summary()
    # Row i is time step i, which handles task sigma(i) (eq. 2.17): task 1, then task 2, then task 0.
    assert summary.soft_order.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert (summary.best_order, summary.best_weight) == ((1, 2, 0), 1.0)


def test_soft_order_by_hand() -> None:
    selector = selector_of(2, count=2)  # (0, 1) and (1, 0)
    set_weights(selector, 0.25, 0.75)
    record = selector.summary().record()
    assert record == {
        "soft_order": [[0.25, 0.75], [0.75, 0.25]],
        "best_order": [1, 0],
        "best_weight": 0.75,
    }


@settings(max_examples=40, deadline=None)
@given(tasks=st.integers(1, 6), count=st.integers(1, 50), data=st.data())
def test_the_soft_order_is_bistochastic(tasks: int, count: int, data: st.DataObject) -> None:
    selector = selector_of(tasks, count=count)
    logits = data.draw(st.lists(st.floats(-30, 30), min_size=len(selector.orders), max_size=len(selector.orders)))
    with torch.no_grad():
        selector.trained()[0].copy_(torch.tensor(logits))
    matrix = selector.summary().soft_order
    assert bool((matrix >= 0).all())
    ones = torch.ones(tasks)
    torch.testing.assert_close(matrix.sum(dim=0), ones, rtol=0, atol=1e-5)
    torch.testing.assert_close(matrix.sum(dim=1), ones, rtol=0, atol=1e-5)


def test_dropped_orders_leave_their_weight_to_the_active_ones() -> None:
    selector = selector_of(3, count=4)
    set_weights(selector, 0.1, 0.2, 0.3, 0.4)
    torch.testing.assert_close(selector.log_weights(HIDDEN).exp(), torch.tensor([0.1, 0.2, 0.3, 0.4]))
    kept = torch.tensor([1, 3])
    torch.testing.assert_close(selector.log_weights(HIDDEN, kept).exp(), torch.tensor([1 / 3, 2 / 3]))
    per_example = selector.log_weights(HIDDEN, torch.tensor([[0, 2], [3, 0]])).exp()
    torch.testing.assert_close(per_example, torch.tensor([[1 / 4, 3 / 4], [4 / 5, 1 / 5]]))


def test_a_subset_is_drawn_for_the_batch_or_for_each_example() -> None:
    torch.manual_seed(0)
    per_batch = selector_of(5, count=10, active=4).train().draw_active(64)
    assert per_batch is not None
    assert len(set(per_batch.tolist())) == 4
    per_example = selector_of(5, count=10, active=4, dropout_per="example").train().draw_active(64)
    assert per_example is not None
    assert per_example.shape == (64, 4)
    assert all(len(set(row)) == 4 for row in per_example.tolist())
    assert len(per_example.unique(dim=0)) > 1


@pytest.mark.parametrize("per", ["batch", "example"])
def test_every_order_is_present_with_probability_k_of_m(per: str) -> None:
    torch.manual_seed(0)
    selector = selector_of(4, count=5, active=2, dropout_per=per).train()
    draws = [selector.draw_active(100) for _ in range(1000 if per == "batch" else 10)]
    counts = torch.cat([drawn.flatten() for drawn in draws if drawn is not None]).bincount(minlength=5)
    share = counts / counts.sum() * 2
    assert (share - 0.4).abs().max().item() < 0.06  # 4 standard errors of 1000 draws


def test_no_order_is_dropped_in_evaluation_or_when_all_are_active() -> None:
    assert selector_of(4, count=6, active=2).eval().draw_active(3) is None
    assert selector_of(4, count=6, active=6).train().draw_active(3) is None
    assert selector_of(4, count=6).train().draw_active(3) is None


def test_a_uniform_mixture_has_nothing_to_learn() -> None:
    selector = selector_of(3, count=4, selection="uniform")
    assert selector.trained() == []
    torch.testing.assert_close(selector.log_weights(HIDDEN).exp(), torch.full((4,), 0.25))
    torch.testing.assert_close(selector.weights(HIDDEN), torch.full((4,), 0.25))


def hard(warmup: int = 2) -> HardSelector:
    selector = selector_of(2, count=2, selection="hard", warmup_epochs=warmup).train()
    assert isinstance(selector, HardSelector)
    return selector


def test_hard_selection_explores_then_keeps_one_order() -> None:
    selector = hard()
    assert selector.trained() == []
    for epoch in (1, 2):
        assert selector.draw_active(3) is None
        torch.testing.assert_close(selector.log_weights(HIDDEN).exp(), torch.tensor([0.5, 0.5]))
        selector.observe(HIDDEN, torch.tensor([[9.0, 0.1], [9.0, 0.1]]), None)
        selector.end_epoch(epoch, draw())
    active = selector.draw_active(3)
    assert active is not None
    assert active.tolist() == [1]  # exp(-0.1) against exp(-9): the first has 1 chance in 7000
    assert selector.log_weights(HIDDEN, active).tolist() == [0.0]
    assert selector.weights(HIDDEN).tolist() == [0.0, 1.0]
    assert selector.summary().best_order == (1, 0)
    selector.observe(HIDDEN, torch.tensor([[0.0], [0.0]]), active)
    selector.end_epoch(3, draw(1))
    assert selector.draw_active(3) is not None
    again = hard()
    again.load_state_dict(selector.state_dict())
    assert again.weights(HIDDEN).tolist() == [0.0, 1.0]


def test_hard_selection_draws_in_proportion_to_performance() -> None:
    """Mean losses 1 and 1 + log 3: three chances against one; losses before the last warm-up epoch don't count."""
    chosen = []
    for seed in range(400):
        selector = hard()
        selector.observe(HIDDEN, torch.tensor([[50.0, 0.0]]), None)
        selector.end_epoch(1, draw(seed))
        selector.observe(HIDDEN, torch.tensor([[2.0, math.log(3)]]), None)
        selector.observe(HIDDEN, torch.tensor([[0.5, 1.0 + math.log(3)]]).expand(2, -1), None)
        selector.observe(HIDDEN, torch.tensor([[0.0, 2.0 + math.log(3)]]), torch.tensor([[0, 1]]))
        selector.end_epoch(2, draw(seed))
        chosen.append(int(selector.chosen))
    # Order 0: (2 + 0.5 + 0.5 + 0) / 4 = 0.75. Order 1: log 3 + (0 + 1 + 1 + 2) / 4 = log 3 + 1.
    odds = 3 * math.exp(0.25)
    assert sum(order == 0 for order in chosen) / 400 == pytest.approx(odds / (1 + odds), abs=0.08)


def test_an_order_that_dropout_never_kept_is_not_drawn() -> None:
    for seed in range(20):
        selector = hard(warmup=1)
        selector.observe(HIDDEN, torch.tensor([[7.0]]), torch.tensor([0]))
        selector.end_epoch(1, draw(seed))
        assert int(selector.chosen) == 0


def test_xmonet_weights_by_hand() -> None:
    """Tallec 2023, eq. 2.42: pi(x) = softmax(W h + b); row (1, 0) has u = (log 3, 0), row (0, 1) has (0, log 4)."""
    selector = selector_of(2, count=2, selection="xmonet", xmonet_layers=1)
    weight, bias = selector.trained()
    torch.testing.assert_close(selector.weights(torch.randn(4, 2)), torch.full((4, 2), 0.5))  # uniform at first
    with torch.no_grad():
        weight.copy_(torch.tensor([[math.log(3), 0.0], [0.0, math.log(4)]]))
        bias.zero_()
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    expected = torch.tensor([[0.75, 0.25], [0.2, 0.8], [0.2, 0.8], [0.2, 0.8]])
    torch.testing.assert_close(selector.weights(rows), expected)
    torch.testing.assert_close(selector.log_weights(rows, torch.tensor([1])).exp(), torch.ones(4, 1))
    selector.train().observe(rows, torch.zeros(4, 2), None)
    selector.end_epoch(1, draw())
    record = selector.summary().record()
    assert record["best_order"] == [1, 0]
    assert record["best_weight"] == pytest.approx((0.25 + 3 * 0.8) / 4)
    assert record["row_orders"] == [[[1, 0], 0.75], [[0, 1], 0.25]]


def test_xmonet_has_hidden_layers_if_asked() -> None:
    selector = selector_of(3, count=6, selection="xmonet", xmonet_layers=3)
    assert [tuple(parameter.shape) for parameter in selector.trained()] == [(2, 2), (2,), (2, 2), (2,), (6, 2), (6,)]
