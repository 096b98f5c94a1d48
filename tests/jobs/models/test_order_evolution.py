"""Order evolution: what is replaced by what, and that nothing else changes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from duchenne_jobs.config import EvolutionConfig, OrdersConfig
from duchenne_jobs.models.orders import OrderSelector, build_selector, evolved, neighbours_of

KINDS = ("adjacent", "any", "insertion")


def config(**values: Any) -> EvolutionConfig:
    return EvolutionConfig.model_validate({"neighbours": "adjacent", "parents": 1} | values)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(orders: Tensor) -> list[tuple[int, ...]]:
    return [tuple(order) for order in orders.tolist()]


def test_neighbours_by_hand() -> None:
    assert neighbours_of((2, 0, 1), "adjacent") == [(0, 2, 1), (2, 1, 0)]
    assert neighbours_of((2, 0, 1), "any") == [(0, 2, 1), (1, 0, 2), (2, 1, 0)]
    assert set(neighbours_of((2, 0, 1), "insertion")) == {(0, 2, 1), (0, 1, 2), (2, 1, 0), (1, 2, 0)}
    # Taking the first task to the end is one insertion, and four adjacent swaps.
    assert (0, 1, 2, 3, 4) in neighbours_of((4, 0, 1, 2, 3), "insertion")


@settings(max_examples=40, deadline=None)
@given(order=st.integers(1, 7).flatmap(lambda steps: st.permutations(range(steps))), kind=st.sampled_from(KINDS))
def test_neighbours_are_distinct_other_permutations_and_mutual(order: list[int], kind: str) -> None:
    found = neighbours_of(tuple(order), kind)
    steps = len(order)
    assert len(set(found)) == len(found)
    assert len(found) == {"adjacent": steps - 1, "any": steps * (steps - 1) // 2, "insertion": (steps - 1) ** 2}[kind]
    for other in found:
        assert sorted(other) == list(range(steps))
        assert tuple(order) in neighbours_of(other, kind)


def test_the_worst_order_of_little_weight_gives_way_to_a_neighbour_of_the_best_by_hand() -> None:
    orders = torch.tensor([[0, 1, 2], [1, 0, 2], [2, 1, 0], [2, 0, 1]])
    losses = torch.tensor([2.0, 1.0, 3.0, 4.0])
    change = evolved(orders, torch.tensor([0.1, 0.5, 0.1, 0.3]), losses, config(replaced=0.25), draw())
    assert change is not None
    # Order 3 has the highest loss, but the mixture favours it. The best, (1, 0, 2), has the adjacent neighbours
    # (0, 1, 2), which is in the set, and (1, 2, 0).
    assert (change.places.tolist(), change.orders.tolist(), change.parents.tolist()) == ([2], [[1, 2, 0]], [1])


def test_in_the_warm_up_losses_alone_decide() -> None:
    orders = torch.tensor([[0, 1, 2], [1, 0, 2], [2, 1, 0]])
    change = evolved(orders, torch.full((3,), 1 / 3), torch.tensor([9.0, 1.0, 2.0]), config(replaced=0.9), draw())
    assert change is not None
    assert change.places.tolist() == [0]  # (1, 0, 2) has one neighbour outside the set


def test_an_order_that_dropout_never_kept_is_neither_parent_nor_replaced() -> None:
    orders = torch.tensor([[0, 1, 2], [1, 0, 2], [2, 1, 0]])
    uniform, losses = torch.full((3,), 1 / 3), torch.tensor([torch.nan, 1.0, 2.0])
    change = evolved(orders, uniform, losses, config(replaced=0.9), draw())
    assert change is not None
    assert (change.places.tolist(), change.parents.tolist()) == ([2], [1])
    assert evolved(orders, uniform, torch.full((3,), torch.nan), config(), draw()) is None


def test_without_a_neighbour_outside_the_set_nothing_changes() -> None:
    orders = torch.tensor([[0, 1, 2], [1, 0, 2], [0, 2, 1], [2, 1, 0]])
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert evolved(orders, torch.tensor([0.7, 0.1, 0.1, 0.1]), losses, config(replaced=0.5), draw()) is None


@st.composite
def sets(draws: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, EvolutionConfig]:
    steps = draws(st.integers(2, 6))
    count = draws(st.integers(2, min(20, math.factorial(steps))))
    seed = draws(st.integers(0, 99))
    drawn = OrdersConfig(count=count, seed=seed)
    orders = build_selector(drawn, tuple(map(str, range(steps))), 1).orders
    logits = torch.tensor(draws(st.lists(st.floats(-5, 5, width=32), min_size=count, max_size=count)))
    losses = torch.tensor(draws(st.lists(st.floats(0, 9) | st.just(math.nan), min_size=count, max_size=count)))
    settings = config(
        neighbours=draws(st.sampled_from(KINDS)),
        replaced=draws(st.floats(0.01, 0.99)),
        parents=draws(st.integers(1, count)),
    )
    return orders, logits.softmax(dim=0), losses, settings


@settings(max_examples=120, deadline=None)
@given(case=sets(), seed=st.integers(0, 2**31))
def test_what_evolution_keeps_to(case: tuple[Tensor, Tensor, Tensor, EvolutionConfig], seed: int) -> None:
    orders, weights, losses, plan = case
    before = orders.clone()
    change = evolved(orders, weights, losses, plan, draw(seed))
    again = evolved(orders, weights, losses, plan, draw(seed))
    assert torch.equal(orders, before)
    if change is None:
        assert again is None
        return
    assert again is not None
    assert torch.equal(change.places, again.places)
    assert torch.equal(change.orders, again.orders)
    count = len(orders)
    best = sorted((place for place in range(count) if not losses[place].isnan()), key=lambda p: float(losses[p]))
    best = best[: plan.parents]
    assert not set(change.places.tolist()) & set(best)  # the best are never replaced
    assert set(change.parents.tolist()) <= set(best)
    assert 1 <= len(change.places) <= max(1, int(plan.replaced * count))
    assert len(set(change.places.tolist())) == len(change.places)
    assert bool((weights[change.places] <= 1.001 / count).all())
    after = orders.clone()
    after[change.places] = change.orders
    assert len(set(rows(after))) == count  # distinct
    assert all(sorted(order) == list(range(orders.shape[1])) for order in rows(after))
    for child, parent in zip(rows(change.orders), change.parents.tolist(), strict=True):
        assert child in neighbours_of(rows(orders)[parent], plan.neighbours)


LOSSES = torch.tensor([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0], [8.0, 5.0, 4.0, 3.0, 2.0, 1.0]])


def selector(**evolution: Any) -> OrderSelector:
    plan = {"neighbours": "any", "every": 2, "first_epoch": 3, "last_epoch": 6, "parents": 1} | evolution
    made = build_selector(OrdersConfig.model_validate({"count": 6, "evolution": plan}), ("a", "b", "c", "d"), 1)
    with torch.no_grad():
        made.trained()[0].copy_(torch.arange(6.0))
    return made.train()


def epoch_of(made: OrderSelector, epoch: int) -> Tensor | None:
    made.observe(torch.zeros(2, 1), LOSSES, None)
    return made.end_epoch(epoch, draw(epoch))


def test_it_evolves_within_its_window_and_a_child_starts_with_the_mean_weight() -> None:
    made = selector(replaced=0.2)
    for epoch in (1, 2, 4, 6, 7, 9):
        before = made.orders.clone()
        assert epoch_of(made, epoch) is None
        assert torch.equal(made.orders, before)
    before = made.orders.clone()
    places = epoch_of(made, 3)
    assert places is not None
    assert places.tolist() == [0]
    assert rows(made.orders)[0] in neighbours_of(rows(before)[5], "any")
    assert torch.equal(made.orders[1:], before[1:])
    mean = math.log(sum(math.exp(logit) for logit in range(6)) / 6)
    torch.testing.assert_close(made.trained()[0].detach(), torch.tensor([mean, 1.0, 2.0, 3.0, 4.0, 5.0]))
    assert epoch_of(made, 5) is not None


def test_the_losses_of_one_epoch_rank_the_active_orders_of_each_row() -> None:
    made = selector(replaced=0.2)
    made.observe(torch.zeros(1, 1), torch.full((1, 6), 9.0), None)
    made.end_epoch(2, draw())  # forgotten
    made.observe(torch.zeros(2, 1), torch.tensor([[1.0, 9.0], [8.0, 2.0]]), torch.tensor([[0, 1], [1, 0]]))
    before = made.orders.clone()
    places = made.end_epoch(3, draw())
    assert places is not None
    assert places.tolist() == [1]  # mean losses: order 0 has (1 + 2) / 2, order 1 (9 + 8) / 2, the others none
    assert rows(made.orders)[1] in neighbours_of(rows(before)[0], "any")


def test_a_checkpoint_holds_the_evolved_set() -> None:
    made, fresh = selector(), selector()
    epoch_of(made, 3)
    assert not torch.equal(made.orders, fresh.orders)
    fresh.load_state_dict(made.state_dict())
    assert torch.equal(made.orders, fresh.orders)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"evolution": {"neighbours": "any", "first_epoch": 9, "last_epoch": 8}}, "`first_epoch` <= `last_epoch`"),
        ({"selection": "uniform", "evolution": {"neighbours": "any"}}, "got selection=uniform"),
        ({"source": "all", "evolution": {"neighbours": "any"}}, "got source=all"),
    ],
)
def test_plans_that_cannot_work_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="but got") as caught:
        OrdersConfig.model_validate(values)
    assert said in str(caught.value)
