"""Marginals without draws: the exact sums against the kernel's, trajectories against their mean, row by row alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from duchenne_jobs.config import ModelConfig
from duchenne_jobs.models import DataDescription, Inputs, MultiTaskNetwork, TrainingStatistics, build_network
from duchenne_jobs.prediction.marginals import Marginals, states_a_row
from duchenne_kernels import order_marginals

TASKS = ("a", "b", "c", "d")
FEATURES = 5


def network(name: str, tasks: tuple[str, ...] = TASKS, orders: dict[str, Any] | None = None) -> MultiTaskNetwork:
    """A network with weights large enough to tell its orders and labels apart."""
    torch.manual_seed(0)
    config = ModelConfig.model_validate(
        {"name": name, "encoder": {"layers": 1, "width": 8}, "hidden_size": 8, "orders": orders or {"count": 6}}
    )
    statistics = TrainingStatistics(torch.zeros(FEATURES), torch.ones(FEATURES), torch.full((len(tasks),), 0.3), 100)
    built = build_network(config, DataDescription(tasks=tasks, features=FEATURES), statistics)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter))
    return built.eval()


def rows(count: int = 7) -> Inputs:
    return Inputs(features=torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(1)))


ORDERS: dict[str, dict[str, Any]] = {
    "soft": {"count": 6},
    "uniform": {"count": 5, "selection": "uniform"},
    "depends on the row": {"count": 5, "selection": "xmonet"},
    "groups": {"source": "all", "groups": [["a", "c"], ["b"], ["d"]]},
}


@pytest.mark.parametrize("orders", ORDERS.values(), ids=ORDERS)
def test_exact_marginals_are_the_kernels(orders: dict[str, Any]) -> None:
    subject = network("monet", orders=orders)
    marginals = Marginals(subject)
    assert marginals.method == "exact"
    with torch.no_grad():
        hidden = subject.encoder(rows())  # type: ignore[operator]
        selector = subject.selector
        expected = order_marginals(hidden, selector.orders, selector.weights(hidden), subject.cells)  # type: ignore
        torch.testing.assert_close(marginals(rows()), expected, atol=3e-6, rtol=0)


def test_a_single_order_of_one_cell() -> None:
    subject = network("mrnn")
    with torch.no_grad():
        hidden = subject.encoder(rows())  # type: ignore[operator]
        expected = order_marginals(hidden, subject.order, torch.ones(1), subject.cells)  # type: ignore[arg-type]
    torch.testing.assert_close(Marginals(subject)(rows()), expected, atol=3e-6, rtol=0)


@pytest.mark.parametrize("name", ["vmnc", "vmns"])
def test_networks_without_a_recurrence_are_taken_as_they_are(name: str) -> None:
    subject = network(name)
    marginals = Marginals(subject)
    assert marginals.method == "direct"
    assert torch.equal(marginals(rows()), subject.predict(rows()))


@pytest.mark.parametrize("selection", ["soft", "xmonet"])
def test_trajectories_come_near_the_exact_marginals(selection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = network("monet", orders={"count": 6, "selection": selection})
    exact = Marginals(subject)(rows(20))
    monkeypatch.setattr("duchenne_jobs.prediction.marginals.EXACT_STATES", 1)
    marginals = Marginals(subject)
    assert marginals.method == "trajectories"
    found = marginals(rows(20))
    # 256 trajectories: a standard error of 0.03 at most.
    assert (found - exact).abs().max() < 0.15
    assert (found - exact).abs().mean() < 0.03


def test_a_row_does_not_depend_on_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duchenne_jobs.prediction.marginals.EXACT_STATES", 1)
    marginals = Marginals(network("monet"))
    together = marginals(rows())
    alone = torch.cat([marginals(rows()[at : at + 1]) for at in range(7)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_many_tasks_take_trajectories() -> None:
    tasks = tuple(f"AU{index}" for index in range(12))
    marginals = Marginals(network("monet", tasks, {"count": 32}))
    assert marginals.method == "trajectories"  # 32 x 2^11 states
    found = marginals(rows())
    assert found.shape == (7, 12)
    assert bool(((found >= 0) & (found <= 1)).all())


def test_orders_that_weigh_nothing_cost_nothing() -> None:
    subject = network("monet", orders={"count": 24})
    with torch.no_grad():
        subject.selector.logits.fill_(-40)  # type: ignore[union-attr, operator]
        subject.selector.logits[5] = 0  # type: ignore[union-attr, index]
    marginals = Marginals(subject)
    assert states_a_row(marginals.mixture) == 8
