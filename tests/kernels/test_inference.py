"""Sampling and exact marginals."""

from __future__ import annotations

import time

import pytest
import torch

from duchenne_kernels import GRUCells, order_marginals, sample_orders
from duchenne_kernels.recurrence import inference, reference

GROUPS = [[0, 3], [1], [4, 2]]


@pytest.mark.parametrize("groups", [None, GROUPS], ids=str)
def test_sampling_agrees_with_the_reference_draw_for_draw(groups, make) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=3, count=9, tasks=5, groups=groups, dtype=torch.float64)
    uniforms = torch.rand(3, 9, 5, dtype=torch.float64)
    weights = problem.cells.stacked()
    with torch.no_grad():
        found = inference.sample_orders(problem.hidden, problem.orders, weights, uniforms)
        torch.testing.assert_close(found, reference.sample_orders(problem.hidden, problem.orders, weights, uniforms))


def test_sampling_repeats_with_its_seed(make) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=3, count=9, tasks=5)
    arguments = (problem.hidden, problem.orders, problem.cells)
    first, second = (sample_orders(*arguments, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, sample_orders(*arguments, generator=torch.Generator().manual_seed(4)))
    assert first.shape == (3, 9, 5)
    assert not first.requires_grad


@pytest.mark.parametrize("max_rows", [3, 65536])
@pytest.mark.parametrize("groups", [None, GROUPS], ids=str)
def test_marginals_agree_with_the_reference(groups, max_rows: int, make) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=3, count=7, tasks=5, groups=groups, dtype=torch.float64)
    mixture = torch.softmax(torch.randn(3, 7, dtype=torch.float64), dim=1)
    with torch.no_grad():
        wanted = reference.order_marginals(problem.hidden, problem.orders, mixture, problem.cells.stacked())
    found = order_marginals(problem.hidden, problem.orders, mixture, problem.cells, max_rows=max_rows)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("max_rows", [1000, 65536])
def test_marginals_of_fourteen_tasks_summed_by_hand(max_rows: int) -> None:
    """Cells that keep nothing of their state make a Markov chain of each order, whose marginals are a recursion."""
    tasks, generator = 14, torch.Generator().manual_seed(0)
    cells = GRUCells(tasks, 3, dtype=torch.float64)
    with torch.no_grad():
        for parameter in cells.parameters():
            parameter.copy_(2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        cells.weight_hh.zero_()
        cells.bias_hh.zero_()
        cells.weight_ih[:, 3:6] = 0.0
        cells.bias_ih[:, 3:6] = -1000.0  # the update gate: nothing of the state before is left
        after = torch.tanh(cells.bias_ih[:, 6:] + torch.tensor([0.0, 1.0]).view(2, 1, 1) * cells.weight_ih[:, 6:])
        given = torch.sigmoid((after * cells.weight_out).sum(dim=-1) + cells.bias_out)  # (2, T) by the label fed
    assert (given[1] - given[0]).abs().max() > 0.5  # the labels fed do matter here
    orders = torch.stack([torch.arange(tasks), torch.randperm(tasks, generator=generator)])
    mixture = torch.tensor([[0.3, 0.7], [1.0, 0.0]], dtype=torch.float64)
    wanted = torch.zeros(2, tasks, dtype=torch.float64)
    for order, weight in zip(orders.tolist(), mixture.T, strict=True):
        before = torch.zeros((), dtype=torch.float64)  # the first cell is fed a 0
        for task in order:
            before = before * given[1, task] + (1 - before) * given[0, task]
            wanted[:, task] += weight * before
    hidden = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    found = order_marginals(hidden, orders, mixture, cells, max_rows=max_rows)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_marginals_agree_with_samples(make) -> None:  # type: ignore[no-untyped-def]
    """10^5 trajectories, orders drawn from the mixture: within 3 standard errors (of T B = 8 comparisons)."""
    problem = make(batch=2, count=4, tasks=4, hidden=16)
    with torch.no_grad():  # strong dependence on the labels fed
        problem.cells.weight_ih.mul_(8)
        problem.cells.weight_out.mul_(8)
    mixture = torch.tensor([0.5, 0.3, 0.2, 0.0])
    generator = torch.Generator().manual_seed(1)
    drawn = problem.orders[torch.multinomial(mixture, 100_000, replacement=True, generator=generator)]
    samples = sample_orders(problem.hidden, drawn, problem.cells, generator=generator)
    marginals = order_marginals(problem.hidden, problem.orders, mixture, problem.cells)
    error = samples.std(dim=1) / samples.shape[1] ** 0.5
    assert samples.std(dim=1).max() > 0.1  # the labels fed do matter here
    assert ((samples.mean(dim=1) - marginals).abs() < 3 * error + 1e-6).all()


def test_pruning_lowers_an_entry_by_at_most_the_mass_left_out(make) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=3, count=6, tasks=6, dtype=torch.float64)
    mixture = torch.softmax(torch.randn(6, dtype=torch.float64), dim=0)
    exact = order_marginals(problem.hidden, problem.orders, mixture, problem.cells)
    # At most 6 orders x 2^6 branches are left out, each of at most the bound.
    for bound in (1e-6, 1e-4):
        pruned = order_marginals(problem.hidden, problem.orders, mixture, problem.cells, minimum_mass=bound)
        assert (pruned <= exact + 1e-12).all()
        assert (exact - pruned <= 6 * 2**6 * bound).all()


def test_a_nan_state_gives_nan_marginals_and_samples_of_that_example(make) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=3, count=4, tasks=4)
    problem.hidden[1, 0] = float("nan")
    marginals = order_marginals(problem.hidden, problem.orders, torch.full((4,), 0.25), problem.cells)
    samples = sample_orders(problem.hidden, problem.orders, problem.cells)
    for found in (marginals, samples):
        assert found[1].isnan().all()
        assert found[[0, 2]].isfinite().all()


def test_marginals_of_twelve_tasks_in_under_a_second() -> None:
    cells, hidden = GRUCells(12, 64), torch.randn(16, 64)
    order, mixture = torch.arange(12).unsqueeze(0), torch.ones(1)
    times = []
    for _ in range(3):  # the best of three: the machine may be busy
        begin = time.perf_counter()
        order_marginals(hidden, order, mixture, cells)
        times.append(time.perf_counter() - begin)
    assert min(times) < 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": torch.ones(3)}, r"`weights` must be \(M,\) or \(B, M\)"),
        ({"weights": torch.ones(4)}, "`weights` must be non-negative and sum to 1"),
        ({"weights": torch.tensor([1.5, -0.5, 0.0, 0.0])}, "minimum of -0.5"),
        ({"minimum_mass": 1.0}, "`minimum_mass` must lie within"),
        ({"minimum_mass": float("nan")}, "`minimum_mass` must lie within"),
        ({"max_rows": 0}, "`max_rows` must be at least 1, but got 0"),
    ],
)
def test_marginals_refuse(changes: dict[str, object], message: str, make) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=2, count=4, tasks=4)
    arguments = {"weights": torch.full((4,), 0.25), **changes}
    with pytest.raises(ValueError, match=message):
        order_marginals(problem.hidden, problem.orders, cells=problem.cells, **arguments)
